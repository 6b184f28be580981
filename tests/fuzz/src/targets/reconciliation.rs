//! `reconcile-challenges`: runs, dry runs and operators' commands.

use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::Corpus;
use reconcile_challenges::{ReconcileChallenges, handle};
use serde_json::Value;

use super::circle::MOST_ATTEMPTS;
use crate::script::{Script, Service};
use crate::world::World;

pub(crate) fn event(world: &World, input: &[u8]) -> Corpus {
    let script = Script::parse(input);
    let Some(event) = script.event() else { return Corpus::Reject };
    let invocation = LambdaEvent::new(event.clone(), Context::default());
    let outcome = world.run(script.replies, async |platform| {
        let function = ReconcileChallenges::new(&platform).expect("complete settings");
        handle(&function, invocation).await.map_err(|error| error.to_string())
    });
    let mut texts = Vec::new();
    for (_, body) in outcome.calls_to(Service::DynamoDb).filter_map(|call| call.response.as_ref()) {
        collect(serde_json::from_slice(body).unwrap_or_default(), &mut texts);
    }
    for call in outcome.calls_to(Service::Circle) {
        if let Some(user) = call.body["userId"].as_str() {
            assert!(texts.iter().any(|text| text == user), "a session of {user}, who has no due challenge");
        }
        assert!(!call.path.starts_with("/v1/w3s/user/pin"), "reconciliation created a challenge");
    }
    let is_command = event["dryRun"] != true && event.get("challengeIds").is_some();
    let response = match &outcome.output {
        Ok(response) => response,
        Err(error) if outcome.is_good_day && !is_command => panic!("a run failed on a good day: {error}"),
        Err(_) => return Corpus::Keep,
    };
    let response = serde_json::to_value(response).expect("a response is JSON");
    if event["dryRun"] == true {
        assert!(
            outcome.calls.iter().all(|call| call.operation.ends_with(".Query")),
            "a dry run did something"
        );
        return Corpus::Keep;
    }
    if let Some(ids) = event.get("challengeIds") {
        let (asked, done) = (ids.as_array().map(Vec::len), response["challenges"].as_array());
        assert_eq!(asked, done.map(Vec::len), "not one result for each challenge");
        for challenge in done.into_iter().flatten() {
            let outcome = challenge["outcome"].as_str();
            assert_eq!(outcome.is_none(), challenge["error"].is_string(), "{challenge}");
            assert!(outcome.is_none_or(|outcome| {
                ["resumed", "not_abandoned", "settled", "not_found"].contains(&outcome)
            }));
        }
        return Corpus::Keep;
    }
    let count = |name: &str| response[name].as_u64().expect("a count");
    assert!(count("checks") + count("deferred") <= count("due"), "{response}");
    assert!(count("settled") + count("open") + count("notFound") <= count("checks"), "{response}");
    let created = outcome.calls_to(Service::Circle).filter(|call| call.path == "/v1/w3s/users/token").count();
    // As often as the target of Circle's responses allows a call to be sent.
    assert!(created as u64 <= MOST_ATTEMPTS * count("circleCalls"), "calls that are not counted: {response}");
    for call in outcome.calls_to(Service::DynamoDb).filter(|call| call.operation.ends_with(".UpdateItem")) {
        assert!(call.body["ConditionExpression"].is_string(), "a write without a condition: {call:?}");
    }
    Corpus::Keep
}

/// Adds every text of a JSON document.
fn collect(value: Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| collect(value, found)),
        Value::Object(members) => members.into_iter().for_each(|(_, value)| collect(value, found)),
        _ => {}
    }
}
