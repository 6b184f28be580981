use proptest::prelude::*;
use serde_json::{Value, json};
use shared::challenge::Status;
use shared::webhook::Notification;

use super::check;

const ID: &str = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";

/// Any JSON, often one of Circle's names.
fn value() -> impl Strategy<Value = Value> {
    let names = "(?i)PENDING|IN_PROGRESS|COMPLETED?|FAILED|EXPIRED|CHANGE_PIN|RESTORE_PIN|SET_PIN";
    let leaf = prop_oneof![
        4 => names.prop_map(Value::from),
        1 => "\\PC{0,80}".prop_map(Value::from),
        1 => Just(json!(ID)),
        1 => Just(json!("")),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => prop_oneof![Just(0), Just(155_112), any::<i64>()].prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<i64>().prop_map(|number| Value::from(number.to_string())),
    ];
    leaf.prop_recursive(2, 40, 30, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    const MEMBERS: &[&str] =
        &["id", "userId", "type", "status", "state", "errorCode", "errorMessage", "correlationIds"];
    let notification = prop::collection::btree_map(prop::sample::select(MEMBERS), value(), 0..9);
    let known = prop::bool::weighted(0.9);
    let ids = prop::option::of(prop::collection::vec("[a-z]{63,65}", 18..50));
    (notification, known, ids, value(), value()).prop_map(
        |(members, is_known, ids, notification_id, subscription_id)| {
            let mut notification = json!(members);
            if let Some(ids) = ids {
                notification["correlationIds"] = json!(ids);
            }
            if is_known {
                notification["id"] = json!(ID);
                notification["type"] = json!("CHANGE_PIN");
            }
            json!({
                "notificationType": "challenges.changePin",
                "notificationId": notification_id,
                "subscriptionId": subscription_id,
                "notification": notification,
            })
        },
    )
}

/// The status that a text means: its name, whether it is final, and its rank.
fn meaning(text: &str) -> (String, bool, u8) {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "PENDING" => (upper, false, 0),
        "IN_PROGRESS" => (upper, false, 1),
        "FAILED" | "EXPIRED" => (upper, true, 2),
        "COMPLETE" | "COMPLETED" => ("COMPLETE".into(), true, 3),
        _ => (text.into(), false, 1),
    }
}

fn parts(status: &Status) -> (String, bool, u8) {
    (status.as_str().into(), status.is_final(), status.rank())
}

#[test]
fn status_is_a_known_name_in_any_case_or_kept_as_it_is() {
    let text = "(?i)PENDING|IN_PROGRESS|COMPLETED?|FAILED|EXPIRED|\\PC{0,80}|[A-Z_]{4,10}";
    check(2_000, &text, |text| {
        let status = Status::from(text.clone());
        prop_assert_eq!(parts(&status), meaning(&text));
        prop_assert_eq!(Status::from(status.as_str().to_owned()), status, "what is stored is read as it was");
        Ok(())
    });
}

#[test]
fn report_is_as_the_message_says_and_within_its_limits() {
    check(300, &message(), |message| {
        let notification = &message["notification"];
        let text = |member: &str| notification[member].as_str().filter(|text| !text.is_empty());
        let parsed = Notification::parse(message.to_string().as_bytes());
        let subscription = message["subscriptionId"].as_str().and_then(|id| id.parse().ok());
        let named = text("status").or(text("state"));
        let is_ours = text("type")
            .is_none_or(|name| ["CHANGE_PIN", "RESTORE_PIN"].contains(&name.to_ascii_uppercase().as_str()));
        let has_id = text("id").is_some_and(|id| id == ID);
        let report = match parsed {
            Err(_) => {
                prop_assert!(is_ours && (!has_id || named.is_none()));
                return Ok(());
            }
            Ok(Notification { subscription_id, report }) => {
                prop_assert_eq!(subscription_id, subscription);
                match report {
                    None => {
                        prop_assert!(!is_ours);
                        return Ok(());
                    }
                    Some(report) => report,
                }
            }
        };
        prop_assert!(is_ours && has_id);
        let named: String = named.unwrap().chars().take(64).collect();
        prop_assert_eq!(parts(&report.status), meaning(&named));
        let code = &notification["errorCode"];
        let number = code.as_i64().or(code.as_str().and_then(|text| text.trim().parse().ok()));
        prop_assert_eq!(report.error_code.map(|code| code.0), number.filter(|number| *number != 0));
        let is_kept = |id: &&Value| id.as_str().is_some_and(|id| id.chars().count() <= 64);
        let ids = notification["correlationIds"].as_array().into_iter().flatten().filter(is_kept).take(20);
        prop_assert!(ids.eq(report.correlation_ids.iter()));
        let short = message["notificationId"].as_str().filter(|id| id.chars().count() <= 64);
        prop_assert_eq!(report.source.id(), short);
        let user = text("userId").and_then(|user| user.parse().ok());
        prop_assert_eq!(report.user_id, user);
        Ok(())
    });
}
