//! `announce-challenges`: batches of the stream, and operators' commands.

use std::collections::HashMap;

use announce_challenges::{AnnounceChallenges, DETAIL_TYPES, handle};
use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::Corpus;
use serde_json::Value;

use crate::script::{Script, Service};
use crate::world::World;

pub(crate) fn event(world: &World, input: &[u8]) -> Corpus {
    let script = Script::parse(input);
    let Some(event) = script.event() else { return Corpus::Reject };
    let invocation = LambdaEvent::new(event.clone(), Context::default());
    let outcome = world.run(script.replies, async |platform| {
        let function = AnnounceChallenges::new(&platform).expect("complete settings");
        handle(&function, invocation).await.map_err(|error| error.to_string())
    });
    let text = event.to_string();
    let mut accepted = 0;
    for call in outcome.calls_to(Service::Events) {
        let entries = call.body["Entries"].as_array().expect("entries");
        assert!((1..=10).contains(&entries.len()), "{} entries", entries.len());
        let results: Value = call
            .response
            .as_ref()
            .map_or(Value::Null, |(_, body)| serde_json::from_slice(body).unwrap_or_default());
        for (index, entry) in entries.iter().enumerate() {
            let detail = check_entry(entry);
            if event["Records"].is_array() {
                let user = detail["userId"].to_string();
                assert!(text.contains(&user), "{user} is not in the event");
            }
            accepted += usize::from(results["Entries"][index]["EventId"].is_string());
        }
    }
    match (event["Records"].as_array(), outcome.output) {
        (Some(records), Ok(response)) => {
            let response = serde_json::to_value(&response).expect("a response is JSON");
            let failures = response["batchItemFailures"].as_array().expect("a list of failures");
            let failures: Vec<&str> =
                failures.iter().map(|failure| failure["itemIdentifier"].as_str().expect("a text")).collect();
            check_batch(records, &failures);
            assert!(!outcome.is_good_day || failures.is_empty(), "a failure on a good day: {failures:?}");
            let queued = outcome.calls.iter().filter(|call| {
                call.service == Service::Queue
                    && call.response.as_ref().is_some_and(|(status, _)| *status < 300)
            });
            let unreadable = records.iter().filter(|record| is_unreadable(record)).count();
            assert!(unreadable <= queued.count() + failures.len(), "an unreadable record is lost");
        }
        (Some(_), Err(error)) => panic!("a batch cannot fail as a whole: {error}"),
        (None, Ok(response)) => {
            let response = serde_json::to_value(&response).expect("a response is JSON");
            let (asked, done) = (event["challengeIds"].as_array(), response["challenges"].as_array());
            assert_eq!(asked.map(Vec::len), done.map(Vec::len), "not one result for each challenge");
            let published =
                done.into_iter().flatten().map(|one| one["published"].as_array().map_or(0, Vec::len));
            assert!(published.sum::<usize>() <= accepted, "published without EventBridge");
        }
        (None, Err(_)) => assert!(outcome.calls.is_empty(), "a call for an unknown event"),
    }
    Corpus::Keep
}

/// The failures are records of the batch, in their order, each at most once.
fn check_batch(records: &[Value], failures: &[&str]) {
    let mut numbers =
        records.iter().map(|record| record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default());
    for failure in failures {
        assert!(numbers.any(|number| number == *failure), "{failure} is not the next record: {failures:?}");
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    failures.iter().for_each(|failure| *counts.entry(failure).or_default() += 1);
    for (number, count) in counts {
        let records = records
            .iter()
            .filter(|record| record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default() == number);
        assert!(count <= records.count(), "{number} failed more than once");
    }
}

/// Whether no program could read the record as a change of an item.
fn is_unreadable(record: &Value) -> bool {
    let is_change = matches!(record["eventName"].as_str(), Some("INSERT" | "MODIFY"));
    record["eventName"] != "REMOVE" && !(is_change && record["dynamodb"]["NewImage"].is_object())
}

/// Checks an event, and returns its detail.
fn check_entry(entry: &Value) -> Value {
    let text = entry["Detail"].as_str().expect("a detail");
    assert!(text.len() < 1024, "{} bytes", text.len());
    let detail: Value = serde_json::from_str(text).expect("a detail is JSON");
    let kind = entry["DetailType"].as_str().expect("a detail-type");
    assert!(DETAIL_TYPES.contains(&kind));
    let own: &[&str] = match kind {
        "PIN Challenge Settled" => &["status", "reason", "circleCode", "updatedAt"],
        _ => &["requestedAt"],
    };
    let members = detail.as_object().expect("an object");
    let expected = ["version", "challengeId", "userId", "type"].iter().chain(own);
    for name in expected.clone() {
        assert!(members.contains_key(*name), "{name} is missing in {detail}");
    }
    assert_eq!(members.len(), expected.count(), "{detail}");
    detail
}
