//! `receive-webhook`: from the raw event, and with any body behind a valid signature.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::Corpus;
use receive_webhook::{ReceiveWebhook, handle};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::circle::PublicKey;
use shared::lambda::respond;
use uuid::Uuid;

use super::signature;
use crate::api;
use crate::script::{Replies, Script, Service};
use crate::server::Call;
use crate::world::{CHALLENGES_TABLE, Outcome, World};

/// The longest status that is stored, in characters.
const STATUS_LIMIT: usize = 64;

/// Any event. The signature of an input cannot become valid by chance.
pub(crate) fn event(world: &World, input: &[u8]) -> Corpus {
    let script = Script::parse(input);
    let Some(event) = script.event() else { return Corpus::Reject };
    let outcome = receive(world, script.replies, &event);
    match event["requestContext"]["http"]["method"].as_str() {
        Some("HEAD") => {
            let body = api::response("head", "/webhooks/circle", &event, &outcome);
            assert!(body.is_null() && outcome.calls.is_empty());
        }
        _ => {
            api::response("post", "/webhooks/circle", &event, &outcome);
            if outcome.output.status_code == 200 {
                let body = match (&event["body"], event["isBase64Encoded"] == true) {
                    (Value::String(text), true) => STANDARD.decode(text).unwrap_or(text.clone().into_bytes()),
                    (Value::String(text), false) => text.clone().into_bytes(),
                    _ => Vec::new(),
                };
                let header = |name| api::header(&event, name).unwrap_or_default().as_bytes();
                let (id, signature) = (header("x-circle-key-id"), header("x-circle-signature"));
                let key = published_key(id, &outcome.calls);
                let is_genuine = signature::is_genuine(id, signature, &key.public_key, &key.algorithm, &body);
                assert!(is_genuine, "accepted without a signature");
            }
        }
    }
    Corpus::Keep
}

/// Circle's response to a request for a key.
#[derive(Deserialize)]
struct Published {
    data: PublicKey,
}

/// The key with this id, as Circle has published it in its last response.
fn published_key(id: &[u8], calls: &[Call]) -> PublicKey {
    let id = Uuid::try_parse_ascii(id).expect("the id of a key is a UUID");
    let path = format!("/v2/notifications/publicKey/{id}");
    let mut calls = calls.iter().rev().filter(|call| call.path == path);
    let (_, response) = calls.find_map(|call| call.response.as_ref()).expect("the key is fetched");
    serde_json::from_slice::<Published>(response).expect("the response has a key").data
}

/// Any body, signed by Circle.
pub(crate) fn signed(world: &World, input: &[u8]) -> Corpus {
    let script = Script::parse(input);
    let body = script.head;
    let event = json!({
        "routeKey": "POST /webhooks/circle",
        "headers": { "x-circle-key-id": Uuid::from_u128(1), "x-circle-signature": signature::sign(body) },
        "requestContext": { "requestId": "request-1", "http": { "method": "POST", "sourceIp": "192.0.2.1" } },
        "body": STANDARD.encode(body),
        "isBase64Encoded": true,
    });
    let keys_fail =
        script.replies.contains_key(&Service::Circle) || script.replies.contains_key(&Service::Secrets);
    let outcome = receive(world, script.replies, &event);
    let response = api::response("post", "/webhooks/circle", &event, &outcome);
    let status = outcome.output.status_code;
    assert!(matches!(status, 200 | 422 | 500 | 503 | 504) || keys_fail, "{status}: {response}");

    let message: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    let about = message.as_ref().and_then(|message| message.get("notification")).unwrap_or(&Value::Null);
    let id = about["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()).map(|id| id.to_string());
    let writes = outcome.calls.iter().filter(|call| call.body["TableName"] == CHALLENGES_TABLE);
    let writes: Vec<_> = writes.collect();
    for write in &writes {
        assert_eq!(
            write.body["Key"]["challengeId"]["S"].as_str(),
            id.as_deref(),
            "another challenge's record"
        );
        let stored = write.body["ExpressionAttributeValues"][":status"]["S"].as_str().unwrap_or_default();
        let is_said = ["status", "state"].iter().filter_map(|member| about[member].as_str()).any(|said| {
            let said: String = said.chars().take(STATUS_LIMIT).collect();
            said.eq_ignore_ascii_case(stored)
                || (stored == "COMPLETE" && said.eq_ignore_ascii_case("COMPLETED"))
        });
        assert!(is_said, "{stored} was not said");
    }
    match (status, response["outcome"].as_str()) {
        (200, Some("ignored")) | (422, _) => assert!(writes.is_empty(), "an effect of an ignored webhook"),
        (200, _) => {
            let last = writes.last().and_then(|write| write.response.as_ref());
            let (status, body) = last.expect("a response 200 without a write");
            let is_unmet = String::from_utf8_lossy(body).contains("ConditionalCheckFailedException");
            assert!(*status < 300 || is_unmet, "a response 200 although the write failed");
        }
        _ => {}
    }
    if message.is_none() && !keys_fail {
        assert_eq!(status, 422, "{response}");
    }
    Corpus::Keep
}

fn receive(world: &World, replies: Replies, event: &Value) -> Outcome<ApiGatewayV2httpResponse> {
    world.server.set_public_key(&signature::PUBLIC_KEY);
    let invocation = LambdaEvent::new(event.clone(), Context::default());
    let outcome = world.run(replies, async |platform| {
        let function = ReceiveWebhook::new(&platform).expect("complete settings");
        respond(&|request| handle(&function, request), invocation).await
    });
    outcome.map(|response| response.unwrap_or_else(|never| match never {}))
}
