//! `cargo local facts`: the lists that documents, the template and the test suites have to agree with, as
//! JSON.

use std::collections::BTreeMap;

use announce_challenges::DETAIL_TYPES;
use serde_json::{Value, json};
use shared::challenge::{ChallengeType, Status};
use shared::config::SETTINGS;
use shared::failure::FailureReason;
use shared::metric::{LINES, LOGGED, Measurement, Measurements, Metric};
use shared::problem::Code;
use strum::IntoEnumIterator;

use crate::dynamodb::table_definitions;
use crate::http_api::{ROUTES, Route, cors_configuration};

/// All facts in one JSON object. The members of `cors` and `tables` have the names that AWS uses.
pub fn facts() -> Value {
    let routes = ROUTES.iter().map(|route| {
        json!({
            "method": route.method.as_str(),
            "path": route.path,
            "function": route.function,
            "authorized": route.authorized,
        })
    });
    let throttles = ROUTES.iter().map(|Route { method, path, throttle, .. }| {
        json!({
            "routeKey": format!("{method} {path}"),
            "rate": throttle.rate,
            "burst": throttle.burst,
        })
    });
    let error_codes = Code::iter().map(
        |code| json!({ "code": code.as_str(), "status": code.status().as_u16(), "title": code.title() }),
    );
    let statuses = Status::iter().filter(|status| !matches!(status, Status::Unknown(_)));
    json!({
        "routes": routes.collect::<Vec<_>>(),
        "throttles": throttles.collect::<Vec<_>>(),
        "cors": cors_configuration(),
        "errorCodes": error_codes.collect::<Vec<_>>(),
        "failureReasons": FailureReason::iter().map(FailureReason::as_str).collect::<Vec<_>>(),
        "challengeTypes": ChallengeType::iter().map(ChallengeType::as_str).collect::<Vec<_>>(),
        "challengeStatuses": statuses.map(|status| status.as_str().to_owned()).collect::<Vec<_>>(),
        "settings": SETTINGS,
        "eventTypes": DETAIL_TYPES,
        "measurements": measurements().collect::<Vec<_>>(),
        "metrics": Metric::iter().map(Metric::as_str).collect::<Vec<_>>(),
        "tables": table_definitions(),
    })
}

/// The measurements of the functions, each with its unit and its sets of dimensions.
fn measurements() -> impl Iterator<Item = Value> {
    let lines = LINES.iter().flat_map(|(_, measured)| *measured).chain(LOGGED);
    let measured = lines.flat_map(|Measurements { dimensions, metrics }| {
        metrics.iter().map(move |Measurement { name, unit }| {
            (*name, json!({ "name": name, "unit": unit, "dimensions": dimensions }))
        })
    });
    measured.collect::<BTreeMap<_, _>>().into_values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_has_entries_of_one_form() {
        let facts = facts();
        let members = |list: &str| -> Vec<Vec<String>> {
            let entries = facts[list].as_array().unwrap();
            assert!(!entries.is_empty(), "{list}");
            entries.iter().map(|entry| entry.as_object().unwrap().keys().cloned().collect()).collect()
        };
        for (list, names) in [
            ("routes", vec!["authorized", "function", "method", "path"]),
            ("throttles", vec!["burst", "rate", "routeKey"]),
            ("errorCodes", vec!["code", "status", "title"]),
            ("measurements", vec!["dimensions", "name", "unit"]),
        ] {
            assert!(members(list).iter().all(|found| *found == names), "{list}");
        }
        for names in members("settings") {
            assert!(names.contains(&"name".to_owned()), "{names:?}");
            assert!(
                names.iter().all(|name| ["name", "default", "range"].contains(&name.as_str())),
                "{names:?}"
            );
        }
        for list in ["failureReasons", "challengeTypes", "challengeStatuses", "eventTypes", "metrics"] {
            let entries = facts[list].as_array().unwrap();
            let is_identifier = |entry: &Value| entry.as_str().is_some_and(|text| !text.is_empty());
            assert!(!entries.is_empty() && entries.iter().all(is_identifier), "{list}");
        }
    }

    #[test]
    fn cors_and_tables_have_the_names_that_aws_uses() {
        let facts = facts();
        let cors = facts["cors"].as_object().unwrap();
        assert!(cors.keys().eq(["AllowHeaders", "AllowMethods", "ExposeHeaders", "MaxAge"]), "{cors:?}");
        assert!(cors["AllowMethods"].as_array().unwrap().contains(&json!("POST")));
        assert!(cors["MaxAge"].is_u64());
        for table in facts["tables"].as_array().unwrap() {
            assert!(table["TableName"].is_string() && table["KeySchema"].is_array(), "{table}");
            assert_eq!(
                table["TimeToLiveSpecification"],
                json!({ "AttributeName": "expiresAt", "Enabled": true })
            );
        }
    }
}
