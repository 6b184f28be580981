//! Responses: JSON, and problem documents (RFC 9457).

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use lambda_http::{Body, Response};
use serde::Serialize;
use time::OffsetDateTime;

use crate::circle_code::CircleCode;
use crate::problem::Problem;

/// A JSON response. No cache may store it: it belongs to one user, and may carry tokens.
///
/// # Panics
/// If `body` cannot be serialized, which our own types always can.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_string(body).expect("our own types can be serialized");
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Tells the client to wait before it sends the next request, in full seconds.
pub fn set_retry_after(response: &mut Response<Body>, wait: Duration) {
    let seconds = wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// The problem document of a request that failed at `now`.
pub fn problem(problem: &Problem, request_id: &str, now: OffsetDateTime) -> Response<Body> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        r#type: String,
        title: &'a str,
        status: u16,
        detail: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_message: Option<String>,
        code: &'a str,
        request_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        circle_code: Option<CircleCode>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
        locked_until: Option<OffsetDateTime>,
    }

    let code = problem.code();
    let retry_after_seconds = problem.retry_after_seconds();
    let document = Document {
        r#type: format!("urn:circle-pin-reset:problem:{}", code.as_str()),
        title: code.title(),
        status: code.status().as_u16(),
        detail: problem.cause().detail(),
        user_message: problem.user_message(now),
        code: code.as_str(),
        request_id,
        circle_code: problem.circle_code(),
        retry_after_seconds,
        locked_until: problem.lock_opens_at(),
    };
    let mut response = json(code.status(), &document);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = problem.www_authenticate() {
        let challenge = HeaderValue::try_from(challenge).expect("the challenge is printable ASCII");
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Cause;
    use time::macros::datetime;

    #[test]
    fn document_has_every_member_that_applies() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let until = datetime!(2026-01-01 12:29:59.5 UTC);
        let response = problem(&Problem::new(Cause::PinLocked).locked_until(until, now), "request-1", now);
        assert_eq!(response.status(), 423);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "1800");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:circle-pin-reset:problem:pin_locked",
                "title": "PIN locked",
                "status": 423,
                "detail": Cause::PinLocked.detail(),
                "userMessage": crate::problem::user_message(crate::problem::Code::PinLocked, Some(until), now),
                "code": "pin_locked",
                "requestId": "request-1",
                "retryAfterSeconds": 1800,
                "lockedUntil": "2026-01-01T12:29:59.5Z",
            })
        );
    }

    #[test]
    fn source_of_a_problem_stays_out_of_the_response() {
        let secret = Problem::new(Cause::RecordUnreadable).because("what a third party said");
        let response = problem(&secret, "request-1", OffsetDateTime::UNIX_EPOCH);
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(!body.contains("third party"), "{body}");
        assert!(!response.headers().contains_key("retry-after"));
    }
}
