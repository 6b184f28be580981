//! Functions behind API Gateway: what holds for each of their responses.

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use shared::user_id::UserId;
use uuid::Uuid;

use crate::openapi;
use crate::script::Service;
use crate::server::{API_KEY, Call, SECRET, THIRD_PARTY_TEXT, USER};
use crate::world::Outcome;

/// The members whose texts are Circle's.
const CIRCLES: [&str; 5] = ["userToken", "encryptionKey", "status", "pinStatus", "securityQuestionStatus"];

/// Checks what every function of the API promises.
///
/// # Panics
/// If it is broken.
pub(crate) fn check(method: &str, path: &str, event: &Value, outcome: &Outcome<ApiGatewayV2httpResponse>) {
    let body = response(method, path, event, outcome);
    let user = claim(event);
    for call in &outcome.calls {
        assert!(!tells_secret(call), "AWS was told a secret: {call:?}");
        for named in users(call) {
            assert_eq!(Some(&named), user.as_ref(), "another user than the claim's: {call:?}");
        }
    }
    if user.as_ref().is_none_or(|user| user.parse::<UserId>().is_err()) {
        assert!(outcome.output.status_code >= 400, "a response to nobody");
        assert!(outcome.calls.is_empty(), "a call for nobody");
    }
    // The user's id is in the log as a hash, unless the event has it elsewhere too.
    let is_sent_once = event.to_string().matches(USER).count() == 1;
    if user.as_ref().is_some_and(|user| user == USER) && is_sent_once {
        assert!(!outcome.log.contains(USER), "the user's id is in the log: {}", outcome.log);
    }
    if outcome.output.status_code < 400 && body["challengeId"].is_string() {
        let is_read = |call: &Call| {
            is_about(call, event)
                && item(call).is_some_and(|item| item["userId"]["S"].as_str() == user.as_deref())
        };
        let update = |call: &Call| call.body["UpdateExpression"].as_str().unwrap_or_default().to_owned();
        let is_written = |call: &Call| method == "post" && update(call).contains("userId = :userId");
        let is_own = outcome.calls.iter().any(|call| is_read(call) || is_written(call));
        assert!(is_own, "a challenge of another user: {body}");
    }
    if outcome.output.status_code == 201 && path == "/challenges" {
        let made = outcome.calls.iter().rfind(|call| call.path.starts_with("/v1/w3s/user/pin"));
        let (_, made) = made.and_then(|call| call.response.as_ref()).expect("Circle made it");
        let made: Value = serde_json::from_slice(made).expect("Circle said so in JSON");
        let id = |text: &Value| text.as_str().and_then(|id| Uuid::try_parse(id).ok());
        let made = id(&made["data"]["challengeId"]).expect("Circle returned an id");
        assert_eq!(id(&body["challengeId"]), Some(made), "a challenge that Circle did not make");
        let mut updates = outcome.calls.iter().filter(|call| call.operation.ends_with(".UpdateItem"));
        let is_recorded = updates.any(|call| id(&call.body["Key"]["challengeId"]["S"]) == Some(made));
        assert!(is_recorded, "a challenge without a record");
    }
}

/// Checks the response itself. Returns its body.
pub(crate) fn response(
    method: &str,
    path: &str,
    event: &Value,
    outcome: &Outcome<ApiGatewayV2httpResponse>,
) -> Value {
    let response = &outcome.output;
    let status = u16::try_from(response.status_code).expect("a status");
    assert!(!outcome.is_good_day || status < 500, "{status} on a good day: {:?}", response.body);
    let text = match response.body.as_ref() {
        Some(lambda_http::Body::Text(text)) if !text.is_empty() => text,
        Some(lambda_http::Body::Text(_)) => {
            openapi::check(method, path, status, None, None);
            return Value::Null;
        }
        other => panic!("not a text: {other:?}"),
    };
    let body: Value = serde_json::from_str(text).expect("the body is JSON");
    let header = |name: &str| response.headers.get(name).map(|value| value.to_str().expect("a text"));
    openapi::check(method, path, status, header("content-type"), Some(&body));
    assert_eq!(header("cache-control"), Some("no-store"));
    let retry_after = header("retry-after").map(|seconds| seconds.parse::<u64>().expect("a number"));
    if status >= 400 {
        assert_eq!(body["status"], status);
        assert_eq!(body["retryAfterSeconds"].as_u64(), retry_after);
        let is_code = body["code"]
            .as_str()
            .is_some_and(|code| body["type"] == format!("urn:circle-pin-reset:problem:{code}"));
        assert!(is_code, "{body}");
    }
    assert!(!text.contains(API_KEY), "the API key is in the response: {text}");
    let mut ours = body.clone();
    if status < 400 {
        blank(&mut ours);
    }
    let (ours, event) = (ours.to_string(), event.to_string());
    for word in [THIRD_PARTY_TEXT, SECRET] {
        assert!(!ours.contains(word) || event.contains(word), "a third party's text: {text}");
    }
    body
}

/// Removes the texts that are Circle's.
fn blank(value: &mut Value) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value {
            Value::String(_) if CIRCLES.contains(&name.as_str()) => *value = Value::Null,
            _ => blank(value),
        }),
        Value::Array(values) => values.iter_mut().for_each(blank),
        _ => {}
    }
}

/// The user by the verified claim, as text.
pub(crate) fn claim(event: &Value) -> Option<String> {
    match &event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] {
        Value::String(text) => Some(text.clone()),
        number @ Value::Number(_) => Some(number.to_string()),
        value @ Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether the key of a call is the challenge that the event asks for, if it asks for one.
fn is_about(call: &Call, event: &Value) -> bool {
    let id = |text: &Value| text.as_str().and_then(|text| Uuid::try_parse(text).ok());
    let asked = id(&event["pathParameters"]["challengeId"]);
    asked.is_none() || id(&call.body["Key"]["challengeId"]["S"]) == asked
}

/// Whether a call to AWS contains a secret. A status and the correlation ids of Circle's are stored as they are.
fn tells_secret(call: &Call) -> bool {
    let mut told = call.body.clone();
    if let Some(values) = told.get_mut("ExpressionAttributeValues").and_then(Value::as_object_mut) {
        values.retain(|name, _| ![":status", ":trail", ":correlationIds"].contains(&name.as_str()));
    }
    let told = told.to_string();
    call.service != Service::Circle && [SECRET, API_KEY].iter().any(|secret| told.contains(secret))
}

/// The users that a call names.
fn users(call: &Call) -> Vec<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().expect("the URL is UTF-8").into_owned();
    let of_path = call.path.strip_prefix("/v1/w3s/users/").filter(|rest| *rest != "token").map(decoded);
    let of_body = call.body["userId"].as_str().filter(|_| call.service == Service::Circle).map(str::to_owned);
    // A report of Circle's may name another user. It never becomes the record's, if that has one.
    let is_report = call.body["UpdateExpression"].as_str().is_some_and(|text| text.contains("namedUserId"));
    let of_table = call.body["ExpressionAttributeValues"][":userId"]["S"].as_str();
    let of_table = of_table.filter(|_| !is_report).map(str::to_owned);
    [of_path, of_body, of_table].into_iter().flatten().collect()
}

/// The header of an event.
pub(crate) fn header<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    let mut headers = event["headers"].as_object()?.iter();
    headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str()
}

/// The item in DynamoDB's response to a call.
fn item(call: &Call) -> Option<Value> {
    let (_, body) = call.response.as_ref()?;
    let body: Value = serde_json::from_slice(body).ok()?;
    ["Item", "Attributes"].iter().find_map(|member| body.get(member)).cloned()
}
