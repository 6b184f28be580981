//! Requests to the API, and what a test checks about each response.

use std::fmt::Display;

use lambda_http::Body;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{App, in_time, text};

/// Errors that only senders of webhooks receive. No user is there to read a message.
const WITHOUT_USER_MESSAGE: [&str; 5] = [
    "method_not_allowed",
    "source_not_allowed",
    "invalid_signature",
    "unreadable_notification",
    "public_key_unavailable",
];

/// The statuses of settled challenges.
const FINAL: [&str; 3] = ["COMPLETE", "FAILED", "EXPIRED"];

/// A request to the API. Alice is signed in unless the test says something else.
#[must_use]
pub(crate) struct Request {
    builder: reqwest::RequestBuilder,
    access_token: Option<String>,
}

impl App {
    /// A request to a route such as `GET /pin`.
    pub(crate) fn request(&self, route: &str) -> Request {
        let (method, path) = route.split_once(' ').unwrap();
        let url = format!("{}{path}", self.stack.api.url());
        let builder = self.http.request(method.parse().unwrap(), url);
        Request { builder, access_token: Some(self.access_token.clone()) }
    }

    pub(crate) fn post_session_token(&self) -> Request {
        self.request("POST /session-tokens")
    }

    /// A request for a CHANGE_PIN challenge, which is the default.
    pub(crate) fn post_challenge(&self) -> Request {
        self.request("POST /challenges")
    }

    pub(crate) fn get_challenge(&self, id: impl Display) -> Request {
        self.request(&format!("GET /challenges/{id}"))
    }

    /// A request for a page of alice's challenges, with a query such as `?limit=5` or without one.
    pub(crate) fn get_challenges(&self, query: &str) -> Request {
        self.request(&format!("GET /challenges{query}"))
    }

    pub(crate) fn get_pin(&self) -> Request {
        self.request("GET /pin")
    }

    /// A webhook with these headers.
    pub(crate) fn webhook(&self, key_id: impl Display, signature: &str, body: &[u8]) -> Request {
        self.request("POST /webhooks/circle")
            .anonymous()
            .header("content-type", "application/json")
            .header("x-circle-key-id", key_id.to_string())
            .header("x-circle-signature", signature)
            .body(body.to_vec())
    }
}

impl Request {
    /// Nobody is signed in.
    pub(crate) fn anonymous(self) -> Self {
        Self { access_token: None, ..self }
    }

    /// Another user is signed in.
    pub(crate) fn bearer(self, access_token: &str) -> Self {
        Self { access_token: Some(access_token.to_owned()), ..self }
    }

    /// The user token that Circle issued.
    pub(crate) fn token(self, user_token: &str) -> Self {
        self.header("x-user-token", user_token)
    }

    /// The idempotency key.
    pub(crate) fn key(self, key: impl Display) -> Self {
        self.header("idempotency-key", key.to_string())
    }

    pub(crate) fn restore(self) -> Self {
        self.challenge_type("RESTORE_PIN")
    }

    pub(crate) fn challenge_type(self, challenge_type: &str) -> Self {
        self.json(json!({ "type": challenge_type }))
    }

    /// A body that is declared as JSON.
    pub(crate) fn json(self, body: impl ToString) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self { builder: self.builder.body(body), ..self }
    }

    /// Another header. A header can be given twice.
    pub(crate) fn header<V>(self, name: &str, value: V) -> Self
    where
        HeaderValue: TryFrom<V, Error: Into<lambda_http::http::Error>>,
    {
        Self { builder: self.builder.header(name, value), ..self }
    }

    pub(crate) async fn send(self) -> Response {
        let builder = match self.access_token {
            Some(access_token) => self.builder.bearer_auth(access_token),
            None => self.builder,
        };
        Response::to(builder).await
    }
}

/// The API's response to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The JSON body; null if the body is not JSON.
    pub(crate) body: Value,
}

impl Response {
    /// The response to any HTTP request.
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Self {
        in_time(async {
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
            Self { status, headers, body }
        })
        .await
    }

    /// What a function returned, with the request id that API Gateway would add.
    pub(crate) fn of_function(response: &lambda_http::Response<Body>, request_id: &'static str) -> Self {
        let mut headers = response.headers().clone();
        headers.insert("apigw-requestid", HeaderValue::from_static(request_id));
        let body = serde_json::from_slice(response.body()).unwrap();
        Self { status: response.status().as_u16(), headers, body }
    }

    /// Checks that a function responded with this status and with JSON that no cache may keep. An open challenge says when
    /// to ask again, and a new one has a `Location`. Returns the body.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert!(self.headers.contains_key("apigw-requestid"), "{self:?}");
        let challenge_id = self.body["challengeId"].as_str();
        let is_open = challenge_id.is_some() && !FINAL.contains(&text(&self.body, "status"));
        assert_eq!(self.headers.contains_key("retry-after"), is_open, "{self:?}");
        assert!(!is_open || self.retry_after() >= 3, "{self:?}");
        let location = self.headers.get("location").map(|location| location.to_str().unwrap().to_owned());
        let created = challenge_id.filter(|_| status == 201);
        assert_eq!(location, created.map(|id| format!("/challenges/{id}")), "{self:?}");
        &self.body
    }

    /// The seconds in `Retry-After`.
    #[track_caller]
    pub(crate) fn retry_after(&self) -> u64 {
        let seconds = self.headers.get("retry-after").and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        seconds.unwrap_or_else(|| panic!("{self:?} does not say when to retry"))
    }

    /// Checks that this is the response to a webhook that was accepted. Returns the outcome.
    #[track_caller]
    pub(crate) fn outcome(&self) -> &str {
        let body = self.is(200);
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        text(body, "outcome")
    }

    /// Checks that this is a complete problem document without any of the members that hold numbers and times.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        self.is_problem_with(status, code, json!({}));
    }

    /// Checks that this is a complete problem document with exactly these of the members `circleCode`,
    /// `retryAfterSeconds` and `lockedUntil`. Sentences only have to be present, because a snapshot in `shared` holds them.
    #[track_caller]
    pub(crate) fn is_problem_with(&self, status: u16, code: &str, numbers: Value) {
        let mut expected = numbers;
        expected["type"] = json!(format!("urn:circle-pin-reset:problem:{code}"));
        expected["status"] = json!(status);
        expected["code"] = json!(code);
        expected["requestId"] = json!(self.headers["apigw-requestid"].to_str().unwrap());
        let has_user_message = !WITHOUT_USER_MESSAGE.contains(&code);
        for name in ["title", "detail"].into_iter().chain(has_user_message.then_some("userMessage")) {
            assert!(!text(&self.body, name).is_empty(), "{self:?}");
            expected[name] = self.body[name].clone();
        }
        assert_eq!(self.body, expected);
        assert_eq!(self.status, status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        let retry_after = self.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after, expected.get("retryAfterSeconds").map(Value::to_string));
        let circle_gave_a_reason =
            code == "circle_error" && expected["circleCode"].as_i64().is_some_and(|code| code != -1);
        if matches!(status, 502..=504) && !circle_gave_a_reason {
            assert!(retry_after.is_some(), "{self:?} does not say when to retry");
        }
    }

    /// Checks that this member of the problem contains `part`, such as a time.
    #[track_caller]
    pub(crate) fn mentions(&self, member: &str, part: &str) {
        assert!(text(&self.body, member).contains(part), "{self:?} does not mention {part}");
    }

    /// Checks that the response says that a table is unavailable.
    #[track_caller]
    pub(crate) fn is_storage_unavailable(&self) {
        self.is_problem_with(503, "storage_unavailable", json!({ "retryAfterSeconds": 2 }));
    }
}
