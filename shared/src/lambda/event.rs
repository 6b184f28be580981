//! API Gateway's event, reduced to the parts that the functions use and that can be read.
//!
//! An event can hold anything that a client sent: a query string that is not a URI's, a host that is not a host, claims
//! that are not texts, a body that is not the base64 it claims to be. `lambda_http` panics at some of these and cannot read
//! others, so the functions never show it the event as it came.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};

/// The characters that a query string may not contain as they are.
const NOT_IN_QUERY: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`').add(b'{').add(b'|').add(b'}');

/// Stands for the value of a header that HTTP does not allow, so that the header is rejected and not ignored.
const INVALID_HEADER: &str = "(invalid)";

/// The event with only its readable parts. Other parts are missing in it.
pub(super) fn readable(event: &Value) -> Value {
    let context = &event["requestContext"];
    let (body, is_base64) = body(event);
    json!({
        "version": "2.0",
        "rawPath": path(event),
        "rawQueryString": utf8_percent_encode(text(&event["rawQueryString"]), NOT_IN_QUERY).to_string(),
        "headers": headers(&event["headers"]),
        "pathParameters": texts(&event["pathParameters"]),
        "requestContext": {
            "requestId": context["requestId"].as_str(),
            "http": {
                "method": method(&context["http"]["method"]),
                "sourceIp": context["http"]["sourceIp"].as_str(),
            },
            "authorizer": authorizer(&context["authorizer"]),
        },
        "body": body,
        "isBase64Encoded": is_base64,
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn method(method: &Value) -> &str {
    let is_method = |method: &&str| method.parse::<http::Method>().is_ok();
    method.as_str().filter(is_method).unwrap_or("GET")
}

fn path(event: &Value) -> String {
    let path = text(&event["rawPath"]);
    let path = utf8_percent_encode(path, NOT_IN_QUERY).to_string().replace('?', "%3F");
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// The headers that HTTP allows. The functions do not use the host, nor the scheme that a proxy names.
fn headers(headers: &Value) -> Map<String, Value> {
    let is_used = |name: &str| !["host", "x-forwarded-proto"].contains(&name.to_ascii_lowercase().as_str());
    let headers = headers.as_object().into_iter().flatten();
    headers
        .filter(|(name, _)| name.parse::<HeaderName>().is_ok() && is_used(name))
        .map(|(name, value)| {
            let value = value.as_str().filter(|value| HeaderValue::from_str(value).is_ok());
            (name.clone(), value.unwrap_or(INVALID_HEADER).into())
        })
        .collect()
}

/// The members that are texts, numbers or booleans, as texts.
fn texts(members: &Value) -> Map<String, Value> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let members = members.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), text(value)?.into()))).collect()
}

/// The claims that the JWT authorizer verified.
fn authorizer(authorizer: &Value) -> Value {
    let claims = &authorizer["jwt"]["claims"];
    if claims.is_object() { json!({ "jwt": { "claims": texts(claims) } }) } else { Value::Null }
}

/// The body, and whether it is base64. A body that is not the base64 it claims to be is taken as text.
fn body(event: &Value) -> (Option<String>, bool) {
    let body = match &event["body"] {
        Value::Null => return (None, false),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is_base64 = event["isBase64Encoded"] == true && STANDARD.decode(&body).is_ok();
    (Some(body), is_base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable_with(path: &[&str], value: Value) -> Value {
        let mut event = json!({
            "rawPath": "/challenges",
            "headers": {},
            "requestContext": { "http": { "method": "POST" }, "authorizer": { "jwt": { "claims": {} } } },
        });
        let mut place = &mut event;
        for member in path {
            place = &mut place[*member];
        }
        *place = value;
        readable(&event)
    }

    #[test]
    fn an_ordinary_event_keeps_what_the_functions_use() {
        let event = json!({
            "version": "2.0",
            "routeKey": "GET /challenges/{challengeId}",
            "rawPath": "/challenges/1",
            "rawQueryString": "limit=5&cursor=abc",
            "headers": { "host": "api.example.com", "x-user-token": "a.b.c" },
            "pathParameters": { "challengeId": "1" },
            "requestContext": {
                "accountId": "123456789012",
                "requestId": "request-1",
                "http": { "method": "GET", "sourceIp": "192.0.2.1", "userAgent": "test" },
                "authorizer": { "jwt": { "claims": { "sub": "user-1" }, "scopes": null } },
            },
            "isBase64Encoded": false,
        });
        assert_eq!(
            readable(&event),
            json!({
                "version": "2.0",
                "rawPath": "/challenges/1",
                "rawQueryString": "limit=5&cursor=abc",
                "headers": { "x-user-token": "a.b.c" },
                "pathParameters": { "challengeId": "1" },
                "requestContext": {
                    "requestId": "request-1",
                    "http": { "method": "GET", "sourceIp": "192.0.2.1" },
                    "authorizer": { "jwt": { "claims": { "sub": "user-1" } } },
                },
                "body": null,
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn claims_that_are_numbers_or_booleans_are_texts_and_lists_are_not_claims() {
        let claims =
            json!({ "sub": "user-1", "exp": 1_787_996_002, "verified": true, "groups": ["a"], "x": null });
        let readable = readable_with(&["requestContext", "authorizer", "jwt", "claims"], claims);
        assert_eq!(
            readable["requestContext"]["authorizer"]["jwt"]["claims"],
            json!({ "sub": "user-1", "exp": "1787996002", "verified": "true" })
        );
    }

    #[test]
    fn a_header_that_http_does_not_allow_is_not_taken_as_absent() {
        let headers =
            json!({ "idempotency-key": "a\nb", "x-user-token": 7, "bad name": "x", "Host": "x:99999" });
        let readable = readable_with(&["headers"], headers);
        assert_eq!(
            readable["headers"],
            json!({ "idempotency-key": INVALID_HEADER, "x-user-token": INVALID_HEADER })
        );
    }

    #[test]
    fn a_body_that_is_not_base64_is_text() {
        let mut event = json!({ "body": "!!!", "isBase64Encoded": true });
        assert_eq!(body(&event), (Some("!!!".into()), false));
        event["body"] = "e30=".into();
        assert_eq!(body(&event), (Some("e30=".into()), true));
        event["body"] = json!({ "type": "CHANGE_PIN" });
        assert_eq!(body(&event), (Some(r#"{"type":"CHANGE_PIN"}"#.into()), false));
    }
}
