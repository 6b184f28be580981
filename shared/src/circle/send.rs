//! The one way to send a call to Circle: API key, deadline, retries.

use std::sync::PoisonError;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use reqwest::Url;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::Span;

use super::{Circle, CircleError};
use crate::api_key::ApiKeyError;
use crate::circle_code::CircleCode;
use crate::clock::{Deadline, timeout};
use crate::metric;
use crate::retry::Retries;
use crate::secrets::{ApiKey, UserToken, redact_foreign_text};
use crate::telemetry::trace;
use crate::user_id::UserId;

/// The longest that one attempt may take unless the call says otherwise, so that a lost response leaves time for another
/// attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of attempts of a call that is not sent [`once`](Call::once).
const MAX_ATTEMPTS: u32 = 3;

/// The backoff before the first retry.
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait that Circle can ask for; a longer one is cut to this.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// The largest response body that is read, in bytes.
const BODY_LIMIT: usize = 256 * 1024;

const REQUEST_ID: &str = "x-request-id";

/// The longest request id that is taken from a response, in bytes. Circle's are UUIDs.
const REQUEST_ID_LIMIT: usize = 64;

/// A call to Circle. It is retried unless it is sent [`once`](Self::once), so it has to be safe to repeat: a read, a new
/// session, or a creation with an idempotency key.
pub(super) struct Call<'a> {
    /// What the call is for, as a dimension of metrics.
    operation: &'static str,
    /// Method and path template as in Circle's reference, like `GET /v1/w3s/users/{userId}`.
    name: &'static str,
    /// The value for the parameter of the path.
    id: &'a str,
    user_id: Option<&'a UserId>,
    user_token: Option<&'a UserToken>,
    body: Option<Value>,
    attempt_timeout: Duration,
    max_attempts: u32,
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: &'static str, name: &'static str) -> Self {
        Self {
            operation,
            name,
            id: "",
            user_id: None,
            user_token: None,
            body: None,
            attempt_timeout: ATTEMPT_TIMEOUT,
            max_attempts: MAX_ATTEMPTS,
        }
    }

    pub(super) fn id(self, id: &'a str) -> Self {
        Self { id, ..self }
    }

    /// The user that the call is about: the parameter of the path, if it has one.
    pub(super) fn user_id(self, user_id: &'a UserId) -> Self {
        Self { id: user_id.as_str(), user_id: Some(user_id), ..self }
    }

    pub(super) fn user_token(self, token: &'a UserToken) -> Self {
        Self { user_token: Some(token), ..self }
    }

    pub(super) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// How long one attempt may take, for calls that keep Circle busy for longer.
    pub(super) fn attempt_timeout(self, attempt_timeout: Duration) -> Self {
        Self { attempt_timeout, ..self }
    }

    /// Does not retry the call, because it may have taken effect even if its response was lost.
    pub(super) fn once(self) -> Self {
        Self { max_attempts: 1, ..self }
    }
}

/// A response of Circle's.
pub(super) struct Response<T> {
    pub(super) status: u16,
    pub(super) data: T,
    request_id: String,
}

/// The retries that this process has left, so that an outage does not multiply the load. A call that succeeds earns a tenth
/// of a retry.
#[derive(Debug)]
pub(super) struct RetryBudget(u32);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Self::FULL)
    }
}

impl RetryBudget {
    const FULL: u32 = 100;
    const RETRY: u32 = 10;

    fn take(&mut self) -> bool {
        let rest = self.0.checked_sub(Self::RETRY);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn earn(&mut self) {
        self.0 = Self::FULL.min(self.0 + 1);
    }
}

impl Circle {
    /// Sends a call, and retries it before the deadline if that can help. If Circle rejects the API key and the secret
    /// holds a new one, the call is sent again with the new key. Measures the call.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        deadline: Deadline,
    ) -> Result<Response<T>, CircleError> {
        let (started, mut retries) = (self.clock.monotonic(), 0);
        let span = trace::circle_call(call.operation, call.name);
        let sent = self.send_with_usable_key(&call, deadline, &mut retries);
        let result = trace::within(&span, sent).await;
        let latency = self.clock.monotonic() - started;
        let (outcome, request_id) = match &result {
            Ok(response) => ("ok", Some(&*response.request_id)),
            Err(error) => (error.outcome(), error.request_id()),
        };
        if let Some(request_id) = request_id {
            Span::current().record("circle_request_id", request_id);
        }
        trace::circle_responded(&span, outcome, retries, request_id);
        metric::circle_call(call.operation, outcome, latency, retries, request_id);
        result
    }

    async fn send_with_usable_key<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        deadline: Deadline,
        retries: &mut u32,
    ) -> Result<Response<T>, CircleError> {
        let key = self.key_in_time(call, deadline, self.api_key.get()).await?;
        match self.send_with(&key, call, deadline, retries).await {
            Err(error) if error.is_api_key_rejected() => {
                match self.key_in_time(call, deadline, self.api_key.after_rejection(&key)).await? {
                    Some(key) => {
                        *retries += 1;
                        self.send_with(&key, call, deadline, retries).await
                    }
                    None => Err(error),
                }
            }
            result => result,
        }
    }

    async fn key_in_time<K>(
        &self,
        call: &Call<'_>,
        deadline: Deadline,
        key: impl Future<Output = Result<K, ApiKeyError>>,
    ) -> Result<K, CircleError> {
        match timeout(&*self.clock, deadline.remaining(&*self.clock), key).await {
            Ok(key) => Ok(key?),
            Err(_) => Err(CircleError::TimedOut { call: call.name, request_id: "none".to_owned() }),
        }
    }

    async fn send_with<T: DeserializeOwned>(
        &self,
        key: &ApiKey,
        call: &Call<'_>,
        deadline: Deadline,
        retried: &mut u32,
    ) -> Result<Response<T>, CircleError> {
        let request_id = self.random.uuid().to_string();
        let mut retries = Retries::new(&*self.clock, &self.random, deadline, BACKOFF, call.max_attempts);
        loop {
            self.wait_for_turn(call, &request_id, deadline).await?;
            let limit = deadline.remaining(&*self.clock).min(call.attempt_timeout);
            let sent = timeout(&*self.clock, limit, self.attempt(key, call, &request_id)).await;
            let error = match sent {
                Ok(Ok(response)) => {
                    self.retry_budget().earn();
                    return Ok(response);
                }
                Ok(Err(error)) => error,
                Err(_) => CircleError::TimedOut { call: call.name, request_id: request_id.clone() },
            };
            if !error.is_transient() {
                return Err(error);
            }
            let Some(wait) = retries.next_wait(error.retry_after()) else { return Err(error) };
            if !self.retry_budget().take() {
                return Err(error);
            }
            *retried += 1;
            tracing::debug!(call = call.name, circle_request_id = request_id, "retrying Circle call");
            self.clock.sleep(wait).await;
        }
    }

    /// Waits until the pace of the client, if it has one, allows another request.
    async fn wait_for_turn(
        &self,
        call: &Call<'_>,
        request_id: &str,
        deadline: Deadline,
    ) -> Result<(), CircleError> {
        let Some(pace) = &self.pace else { return Ok(()) };
        let turn = timeout(&*self.clock, deadline.remaining(&*self.clock), pace.turn(&*self.clock)).await;
        turn.map_err(|_| CircleError::TimedOut { call: call.name, request_id: request_id.to_owned() })
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        key: &ApiKey,
        call: &Call<'_>,
        request_id: &str,
    ) -> Result<Response<T>, CircleError> {
        let unreachable = |source: reqwest::Error| CircleError::Unreachable {
            call: call.name,
            request_id: request_id.to_owned(),
            source: source.without_url(),
        };
        let (method, path) = call.name.split_once(' ').expect("a call has a method and a path");
        let method = method.parse::<Method>().expect("a call has a method and a path");
        let mut request = self
            .http
            .request(method, self.url(path, call.id))
            .bearer_auth(key.expose_secret())
            .header(REQUEST_ID, request_id);
        if let Some(token) = call.user_token {
            request = request.header("x-user-token", sensitive(token.expose_secret()));
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let request = request.build().map_err(unreachable)?;
        let is_repeatable = call.max_attempts > 1;
        let sent =
            if is_repeatable { self.http.send(request).await } else { self.http.send_once(request).await };
        let mut response = sent.map_err(unreachable)?;

        let status = response.status();
        let returned_id = text(response.headers(), REQUEST_ID).filter(|id| is_request_id(id));
        let request_id = returned_id.unwrap_or(request_id).to_owned();
        let retry_after = self.retry_after(response.headers());
        let unreadable = |problem: String| CircleError::Unreadable {
            call: call.name,
            status: status.as_u16(),
            problem,
            request_id: request_id.clone(),
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(unreadable(format!("is larger than {BODY_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }

        if status == StatusCode::NO_CONTENT {
            body = br#"{"data":null}"#.to_vec();
        }
        if status.is_success() {
            #[derive(Deserialize)]
            struct Envelope<T> {
                data: T,
            }
            let envelope: Envelope<T> = serde_json::from_slice(&body).map_err(|error| {
                let (kind, line, column) = (error.classify(), error.line(), error.column());
                unreadable(format!("is not as documented ({kind:?} error at {line}:{column})"))
            })?;
            return Ok(Response { status: status.as_u16(), data: envelope.data, request_id });
        }

        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (code, message) = (CircleCode::read(&error["code"]), error["message"].as_str());
        Err(CircleError::Response {
            call: call.name,
            status: status.as_u16(),
            code,
            had_user_token: call.user_token.is_some(),
            message: message.map(|message| redact(message, key, call)),
            request_id,
            retry_after,
        })
    }

    /// How long Circle asks to wait, in seconds or until a date. Capped at one hour; zero is treated as absent.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = text(headers, RETRY_AFTER.as_str())?;
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        let until = || {
            let date = OffsetDateTime::from(httpdate::parse_http_date(text).ok()?);
            Some(Duration::try_from(date - self.clock.now()).unwrap_or(Duration::ZERO))
        };
        let wait = seconds.or_else(until).filter(|wait| !wait.is_zero())?;
        Some(wait.min(RETRY_AFTER_LIMIT))
    }

    /// The URL of a call. The id becomes one segment of the path, whatever characters it has.
    pub(super) fn url(&self, path: &'static str, id: &str) -> Url {
        let segments = path.split('/').skip(1).map(|part| if part.starts_with('{') { id } else { part });
        let mut url = self.base_url.clone();
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(segments);
        url
    }

    fn retry_budget(&self) -> std::sync::MutexGuard<'_, RetryBudget> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a text can be the id of a request. It goes to the log, so it must not be anything else.
fn is_request_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=".contains(&byte);
    (1..=REQUEST_ID_LIMIT).contains(&text.len()) && text.bytes().all(is_plain)
}

/// A header value that the HTTP client neither prints nor keeps in its compression tables.
fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).expect("a user token is printable ASCII");
    value.set_sensitive(true);
    value
}

/// Circle's message for the log. If Circle quotes a secret of the call back, whole or in part, or the user id, it is
/// redacted, and so is any token that is as long as a secret.
fn redact(message: &str, key: &ApiKey, call: &Call<'_>) -> String {
    let mut message = message.to_owned();
    if let Some(token) = call.user_token {
        message = message.replace(token.expose_secret(), "[user token]");
        if let Some(claims) = token.claims().filter(|claims| !claims.sub.is_empty()) {
            message = message.replace(&claims.sub, "[user id]");
        }
    }
    if let Some(user_id) = call.user_id {
        message = message.replace(user_id.as_str(), "[user id]");
    }
    message = message.replace(key.expose_secret(), "[API key]");
    if let Some(secret) = key.expose_secret().rsplit(':').next() {
        message = message.replace(secret, "[API key]");
    }
    redact_foreign_text(&message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_budget_runs_out_and_is_earned_back() {
        let mut budget = RetryBudget::default();
        assert_eq!((0..20).filter(|_| budget.take()).count(), 10);
        (0..9).for_each(|_| budget.earn());
        assert!(!budget.take());
        budget.earn();
        assert!(budget.take());
    }

    #[test]
    fn request_id_of_a_response_is_an_id() {
        assert!(is_request_id("1f1a4c1e-62c6-4a0e-9d0e-3d9f1f0f6a11"));
        let long = "a".repeat(REQUEST_ID_LIMIT + 1);
        for text in ["", "a b", "a@example.com", &long] {
            assert!(!is_request_id(text), "{text}");
        }
    }

    #[test]
    fn message_that_quotes_a_secret_or_the_user_is_redacted() {
        let key = ApiKey::from_secret("TEST_API_KEY:id:value").unwrap();
        let (token, user_id) = (UserToken::parse("token-value").unwrap(), "alice".parse().unwrap());
        let call = Call::new("get_user", "GET /v1/w3s/users/{userId}").user_token(&token).user_id(&user_id);
        let message = redact("TEST_API_KEY:id:value, token-value, alice", &key, &call);
        assert_eq!(message, "[API key], [user token], [user id]");
    }

    #[test]
    fn message_that_quotes_the_user_of_the_token_is_redacted() {
        let key = ApiKey::from_secret("TEST_API_KEY:id:value").unwrap();
        for (claims, redacted) in [("eyJzdWIiOiJhbGljZSJ9", "no [user id]"), ("eyJzdWIiOiIifQ", "no alice")] {
            let token = UserToken::parse(&format!("e30.{claims}.c2ln")).unwrap();
            let call = Call::new("get_user", "GET /v1/w3s/user").user_token(&token);
            assert_eq!(redact("no alice", &key, &call), redacted);
        }
    }
}
