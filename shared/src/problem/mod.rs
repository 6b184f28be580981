//! Errors as callers meet them: RFC 9457 problem documents.
//!
//! What a caller reads is ours and fixed here; what Circle or AWS said travels beside it as `source`, for
//! the log only.

mod causes;
mod code;
mod user_message;

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use lambda_http::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use lambda_http::{Body, Response};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use self::causes::{
    pin_locked, pin_not_set, security_answers_locked, security_questions_not_set, timeout,
    too_many_challenges, user_disabled,
};
pub use self::code::Code;
use self::user_message::{format_utc, user_message};
use crate::telemetry::Chain;

/// What a caller is told, and beside it what only the log is told.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    circle_code: Option<i64>,
    retry_after: Option<Duration>,
    retry_at: Option<OffsetDateTime>,
    locked_until: Option<OffsetDateTime>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with a sentence that says what to do. The sentence holds nothing secret and nothing that
    /// a third party wrote.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            circle_code: None,
            retry_after: None,
            retry_at: None,
            locked_until: None,
            source: None,
        }
    }

    /// When trying again makes sense: `Retry-After` and `retryAfterSeconds`.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same, where the instant itself is known.
    pub fn retry_at(mut self, instant: OffsetDateTime, now: OffsetDateTime) -> Self {
        self.retry_at = Some(instant);
        self.retry_after(Duration::try_from(instant - now).unwrap_or(Duration::ZERO))
    }

    /// When a lock opens, with `Retry-After` counted from `now`.
    pub fn locked_until(mut self, until: OffsetDateTime, now: OffsetDateTime) -> Self {
        self.locked_until = Some(until);
        self.retry_at(until, now)
    }

    /// What happened underneath, for the log.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The one log line of a failure: an error where we or a third party failed, information otherwise.
    pub fn log(&self) {
        let (code, status) = (self.code.word(), self.code.status().as_u16());
        let circle_code = self.circle_code;
        let source = self.source.as_deref().map(|source| Chain(source).to_string());
        if self.code.status().is_server_error() || self.code == Code::UnreadableNotification {
            tracing::error!(metric = code, status, circle_code, source, "{}", self.detail);
        } else {
            tracing::info!(metric = code, status, circle_code, source, "{}", self.detail);
        }
    }

    /// The answer, given at `now`.
    pub(crate) fn into_response(self, request_id: &str, now: OffsetDateTime) -> Response<Body> {
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
            circle_code: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after_seconds: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            locked_until: Option<String>,
        }

        let retry_after_seconds = self.retry_after.map(|wait| wait.as_millis().div_ceil(1000).max(1) as u64);
        let document = Document {
            r#type: format!("urn:circle-pin-reset:problem:{}", self.code.word()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            user_message: user_message(self.code, self.when(now).as_deref()),
            code: self.code.word(),
            request_id,
            circle_code: self.circle_code,
            retry_after_seconds,
            locked_until: self.locked_until.and_then(|until| until.format(&Rfc3339).ok()),
        };
        let mut response = crate::response::json(self.code.status(), &document);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// When to try again, in words for the user; `None` where that is unknown or just a moment away.
    fn when(&self, now: OffsetDateTime) -> Option<String> {
        let after = |wait: Duration| now.saturating_add(wait.try_into().unwrap_or(time::Duration::MAX));
        let worth_a_look_at_the_clock = self.retry_after.filter(|wait| *wait >= Duration::from_secs(60));
        let instant = self.retry_at.or(worth_a_look_at_the_clock.map(after));
        instant.map(|instant| format_utc(instant, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_document_has_every_member_that_applies() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let until = datetime!(2026-01-01 12:29:59.5 UTC);
        let response = pin_locked().locked_until(until, now).into_response("request-1", now);
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
                "detail": "PIN entry is locked after too many wrong PINs. Wait until it opens, or restore the PIN with a RESTORE_PIN challenge.",
                "userMessage": "PIN entry is locked after too many wrong PINs. It opens at 12:30 UTC. Wait until then, or recover your PIN now if you have set security questions.",
                "code": "pin_locked",
                "requestId": "request-1",
                "retryAfterSeconds": 1800,
                "lockedUntil": "2026-01-01T12:29:59.5Z",
            })
        );
    }

    #[test]
    fn what_happened_underneath_stays_out_of_the_answer() {
        let problem = Problem::new(Code::Internal, "Ours.").because("theirs");
        let response = problem.into_response("request-1", OffsetDateTime::UNIX_EPOCH);
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(body.contains("Ours.") && !body.contains("theirs"), "{body}");
        assert!(!response.headers().contains_key("retry-after"));
    }
}
