//! `manage-subscription`: CloudFormation's events, and the check on a schedule.

use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::Corpus;
use manage_subscription::{Event, ManageSubscription, handle};
use serde_json::Value;

use crate::script::{Script, Service};
use crate::server::{SECRET, THIRD_PARTY_TEXT};
use crate::world::{WEBHOOK_URL, World};

/// The one `ResponseURL` that leads somewhere. It stands for the server, whose port is another one in each process.
const RESPONSE_URL: &str = "http://cloudformation/";

pub(crate) fn event(world: &World, input: &[u8]) -> Corpus {
    let script = Script::parse(input);
    let Some(mut event) = script.event() else { return Corpus::Reject };
    // Nothing is sent to any other address of this machine or of the network.
    let path = match event["ResponseURL"].as_str() {
        Some(url) => match url.strip_prefix(RESPONSE_URL) {
            Some(path) if path.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Some(path.to_owned()),
            _ if url.contains(':') => return Corpus::Reject,
            _ => None,
        },
        None => None,
    };
    if let Some(path) = &path {
        event["ResponseURL"] = format!("http://127.0.0.1:{}/cloudformation/{path}", world.port).into();
    }
    // The Lambda runtime reads the event.
    let Ok(payload) = serde_json::from_value::<Event>(event.clone()) else { return Corpus::Reject };
    let is_change = matches!(payload, Event::Change(_));
    let outcome = world.run(script.replies, async |platform| {
        let function = ManageSubscription::new(&platform);
        handle(&function, LambdaEvent::new(payload, Context::default()))
            .await
            .map_err(|error| error.to_string())
    });
    let own = event["PhysicalResourceId"].as_str().and_then(|id| uuid::Uuid::try_parse(id).ok());
    for call in outcome.calls_to(Service::Circle) {
        match call.method.as_str() {
            "POST" => assert_eq!(call.body["endpoint"], WEBHOOK_URL, "another endpoint was subscribed"),
            "DELETE" => {
                let id = call.path.rsplit('/').next().and_then(|id| uuid::Uuid::try_parse(id).ok());
                assert!(id.is_some() && id == own, "another subscription was deleted: {call:?}");
                assert_eq!(event["RequestType"], "Delete");
            }
            _ => {}
        }
    }
    let response = match outcome.output {
        Ok(ref output) => serde_json::to_value(output).expect("an output is JSON"),
        Err(_) => {
            assert!(event["ResponseURL"].is_string(), "an error without a delivery");
            Value::Null
        }
    };
    let deliveries: Vec<_> = outcome.calls_to(Service::CloudFormation).collect();
    assert_eq!(path.is_some() && is_change, !deliveries.is_empty(), "a response to nobody, or none");
    for delivered in deliveries.iter().map(|call| &call.body).chain(is_change.then_some(&response)) {
        if delivered.is_null() {
            continue;
        }
        let text = delivered.to_string();
        assert!(matches!(delivered["Status"].as_str(), Some("SUCCESS" | "FAILED")), "{text}");
        assert!(delivered["PhysicalResourceId"].as_str().is_some_and(|id| !id.is_empty()), "{text}");
        assert!(event["RequestType"] != "Delete" || delivered["Status"] == "SUCCESS", "{text}");
        assert!(!text.contains(SECRET) || event.to_string().contains(SECRET), "{text}");
        assert!(
            !text.contains(THIRD_PARTY_TEXT) || event.to_string().contains(THIRD_PARTY_TEXT),
            "a third party's text: {text}"
        );
    }
    Corpus::Keep
}
