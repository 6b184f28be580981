use std::collections::BTreeMap;

use serde_json::{Value, json};
use strum::IntoEnumIterator;
use tracing::level_filters::LevelFilter;

use super::*;
use crate::telemetry::tests::lines;

const ID: Uuid = Uuid::from_u128(7);

/// The metrics of the one line that `work` logs, as CloudWatch reads them: `NAME UNIT {dimension: value}` and the value.
fn metrics(work: impl FnOnce()) -> BTreeMap<String, f64> {
    let [line] = &lines(LevelFilter::INFO, work)[..] else { panic!("not one line") };
    let timestamp = line["_aws"]["Timestamp"].as_i64().unwrap();
    assert!(timestamp > 1_700_000_000_000, "milliseconds since the epoch: {timestamp}");
    let mut found = BTreeMap::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        assert_eq!(directive["Namespace"], "tests");
        for dimensions in directive["Dimensions"].as_array().unwrap() {
            let dimensions = dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let values = dimensions.map(|name| {
                let value = line[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}"));
                format!(" {name}={value}")
            });
            let values: String = values.collect();
            for metric in directive["Metrics"].as_array().unwrap() {
                let (name, unit) = (metric["Name"].as_str().unwrap(), metric["Unit"].as_str().unwrap());
                let value = line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"));
                found.insert(format!("{name} {unit}{values}"), value);
            }
        }
    }
    found
}

fn expected<const N: usize>(metrics: [(&str, f64); N]) -> BTreeMap<String, f64> {
    metrics.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn each_problem_counts_as_logged_under_its_name() {
    for metric in Metric::iter() {
        let name = metric.as_str();
        let found = metrics(|| tracing::warn!(metric = name, "problem"));
        assert_eq!(found, expected([(&format!("Logged Count metric={name}"), 1.0)]));
        assert!(LINES.iter().all(|(line, _)| *line != name), "{name} is the name of two metrics");
    }
}

#[test]
fn line_without_a_metric_is_none() {
    let none: Option<&str> = None;
    let [first, second] = &lines(LevelFilter::INFO, || {
        tracing::info!("no metric");
        tracing::info!(metric = none, "none");
    })[..] else {
        panic!("not two lines")
    };
    assert!(first.get("_aws").is_none() && second.get("_aws").is_none());
}

#[test]
fn circle_call_measures_latency_and_retries_by_operation_and_outcome() {
    let found =
        metrics(|| circle_call("get_user", "rate_limited", Duration::from_micros(1_234_567), 2, Some("id")));
    let dimensions = "operation=get_user outcome=rate_limited";
    assert_eq!(
        found,
        expected([
            (&format!("CircleLatency Milliseconds {dimensions}"), 1234.0),
            (&format!("CircleRetries Count {dimensions}"), 2.0),
        ])
    );
}

#[test]
fn created_challenges_count_by_type() {
    let found = metrics(|| challenge_created(ID, "CHANGE_PIN"));
    assert_eq!(found, expected([("ChallengesCreated Count type=CHANGE_PIN", 1.0)]));
}

#[test]
fn settled_challenge_counts_and_measures_its_time() {
    let settled = |age| metrics(|| challenge_settled(ID, "RESTORE_PIN", "FAILED", "poll", Some(age)));
    assert_eq!(
        settled(LATE),
        expected([
            ("ChallengesSettled Count type=RESTORE_PIN status=FAILED settled_by=poll", 1.0),
            ("ChallengesSettled Count settled_by=poll", 1.0),
            ("TimeToSettle Seconds settled_by=poll", 900.0),
            ("TimeToSettle Seconds", 900.0),
            ("SettledLate Count", 0.0),
        ])
    );
    assert_eq!(settled(LATE + Duration::from_millis(1))["SettledLate Count"], 1.0);
}

#[test]
fn time_to_settle_leaves_out_challenges_that_expired() {
    let found = metrics(|| challenge_settled(ID, "CHANGE_PIN", "EXPIRED", "webhook", None));
    assert_eq!(
        found,
        expected([
            ("ChallengesSettled Count type=CHANGE_PIN status=EXPIRED settled_by=webhook", 1.0),
            ("ChallengesSettled Count settled_by=webhook", 1.0),
        ])
    );
}

#[test]
fn abandoned_challenges_count_by_reason() {
    let found = metrics(|| challenge_abandoned(ID, "still_open"));
    assert_eq!(found, expected([("ChallengesAbandoned Count reason=still_open", 1.0)]));
}

#[test]
fn accepted_webhooks_count_by_outcome() {
    let found = metrics(|| webhook_accepted("duplicate", Some("COMPLETE"), Some("n-1"), Some(ID)));
    assert_eq!(found, expected([("WebhooksAccepted Count outcome=duplicate", 1.0)]));
}

#[test]
fn reconciliation_run_measures_what_it_did() {
    let run = ReconciliationRun {
        due: 6,
        checked: 4,
        settled: 3,
        deferred: 2,
        failed: 1,
        oldest_due: Duration::from_millis(61_999),
    };
    assert_eq!(
        metrics(|| run.log("{}")),
        expected([
            ("ReconcileDue Count", 6.0),
            ("ReconcileChecked Count", 4.0),
            ("ReconcileSettled Count", 3.0),
            ("ReconcileDeferred Count", 2.0),
            ("ReconcileFailed Count", 1.0),
            ("OldestDueChallenge Seconds", 61.0),
        ])
    );
}

#[test]
fn published_event_counts_by_detail_type_and_measures_its_delay() {
    let published = |delay| metrics(|| event_published(ID, "PIN Challenge Settled", "event-1", delay));
    let counted = ("EventsPublished Count detail_type=PIN Challenge Settled", 1.0);
    assert_eq!(
        published(Some(Duration::from_millis(250))),
        expected([counted, ("EventDelay Milliseconds", 250.0)])
    );
    assert_eq!(published(None), expected([counted]), "it was delayed on purpose");
}

#[test]
fn cold_starts_count_by_function() {
    let found = metrics(|| cold_start("create-token"));
    assert_eq!(found, expected([("ColdStarts Count function=create-token", 1.0)]));
}

#[test]
fn directives_have_the_shape_that_cloudwatch_documents() {
    let [line] = &lines(LevelFilter::INFO, || cold_start("get-pin"))[..] else { panic!("not one line") };
    let mut metadata: Value = line["_aws"].clone();
    metadata["Timestamp"].take();
    assert_eq!(
        metadata,
        json!({
            "Timestamp": null,
            "CloudWatchMetrics": [{
                "Namespace": "tests",
                "Dimensions": [["function"]],
                "Metrics": [{ "Name": "ColdStarts", "Unit": "Count" }],
            }],
        })
    );
}
