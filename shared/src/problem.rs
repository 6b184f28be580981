//! Errors as callers meet them: RFC 9457 problem documents.
//!
//! What a caller reads is ours and fixed here; what Circle or AWS said travels beside it as `source`, for
//! the log only.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use lambda_http::{Body, Response};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::challenge_store::StoreError;
use crate::circle::CircleError;
use crate::telemetry::Chain;

/// The stable word for what went wrong; each stands for one HTTP status and one title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The body is not the JSON that the route takes.
    InvalidBody,
    /// The body is larger than the route takes.
    BodyTooLarge,
    /// The body's content type is not JSON.
    UnsupportedMediaType,
    /// `type` is no challenge that this service makes.
    InvalidChallengeType,
    /// The challenge id is no UUID.
    InvalidChallengeId,
    /// `Idempotency-Key` is no UUID.
    InvalidIdempotencyKey,
    /// `X-User-Token` has not the shape of a user token, or Circle does not accept it.
    InvalidUserToken,
    /// The route does not know the method.
    MethodNotAllowed,
    /// No verified claims came with the request.
    Unauthenticated,
    /// The user id claim is missing or cannot be a Circle user id.
    InvalidUserId,
    /// `X-User-Token` is another user's.
    UserTokenMismatch,
    /// Circle has disabled the user.
    UserDisabled,
    /// Circle does not know the user.
    UserNotFound,
    /// There is no such challenge, or it is another user's.
    ChallengeNotFound,
    /// The user has no PIN yet.
    PinNotSet,
    /// The user has no security questions to recover with.
    SecurityQuestionsNotSet,
    /// PIN entry is locked.
    PinLocked,
    /// Answering the security questions is locked.
    SecurityAnswersLocked,
    /// A webhook from an address that is not Circle's.
    SourceNotAllowed,
    /// A webhook whose signature is not Circle's.
    InvalidSignature,
    /// A webhook of Circle's that cannot be read as a challenge.
    UnreadableNotification,
    /// Circle's public key for a webhook could not be had.
    PublicKeyUnavailable,
    /// Circle's rate limit is reached.
    CircleRateLimited,
    /// Circle could not be reached or failed.
    CircleUnavailable,
    /// Circle did not answer in time.
    CircleTimeout,
    /// Circle answered in a way that this service does not know.
    CircleError,
    /// The table of challenge records could not be reached.
    StorageUnavailable,
    /// The service's own set-up is at fault.
    Misconfigured,
    /// The service itself is at fault.
    Internal,
}

impl Code {
    /// Every code, in the order of the enum.
    pub const ALL: [Self; 29] = [
        Self::InvalidBody,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidChallengeType,
        Self::InvalidChallengeId,
        Self::InvalidIdempotencyKey,
        Self::InvalidUserToken,
        Self::MethodNotAllowed,
        Self::Unauthenticated,
        Self::InvalidUserId,
        Self::UserTokenMismatch,
        Self::UserDisabled,
        Self::UserNotFound,
        Self::ChallengeNotFound,
        Self::PinNotSet,
        Self::SecurityQuestionsNotSet,
        Self::PinLocked,
        Self::SecurityAnswersLocked,
        Self::SourceNotAllowed,
        Self::InvalidSignature,
        Self::UnreadableNotification,
        Self::PublicKeyUnavailable,
        Self::CircleRateLimited,
        Self::CircleUnavailable,
        Self::CircleTimeout,
        Self::CircleError,
        Self::StorageUnavailable,
        Self::Misconfigured,
        Self::Internal,
    ];

    /// The word, as it stands in `code`.
    pub fn word(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status that it comes with.
    pub fn status(self) -> StatusCode {
        self.facts().1
    }

    fn title(self) -> &'static str {
        self.facts().2
    }

    fn facts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::InvalidBody => ("invalid_body", StatusCode::BAD_REQUEST, "Invalid body"),
            Self::BodyTooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, "Body too large"),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
            }
            Self::InvalidChallengeType => {
                ("invalid_challenge_type", StatusCode::BAD_REQUEST, "Invalid challenge type")
            }
            Self::InvalidChallengeId => {
                ("invalid_challenge_id", StatusCode::BAD_REQUEST, "Invalid challenge id")
            }
            Self::InvalidIdempotencyKey => {
                ("invalid_idempotency_key", StatusCode::BAD_REQUEST, "Invalid idempotency key")
            }
            Self::InvalidUserToken => ("invalid_user_token", StatusCode::BAD_REQUEST, "Invalid user token"),
            Self::MethodNotAllowed => {
                ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, "Not signed in"),
            Self::InvalidUserId => ("invalid_user_id", StatusCode::FORBIDDEN, "Invalid user id"),
            Self::UserTokenMismatch => {
                ("user_token_mismatch", StatusCode::FORBIDDEN, "User token of another user")
            }
            Self::UserDisabled => ("user_disabled", StatusCode::FORBIDDEN, "User disabled"),
            Self::UserNotFound => ("user_not_found", StatusCode::NOT_FOUND, "User not found"),
            Self::ChallengeNotFound => ("challenge_not_found", StatusCode::NOT_FOUND, "Challenge not found"),
            Self::PinNotSet => ("pin_not_set", StatusCode::CONFLICT, "PIN not set"),
            Self::SecurityQuestionsNotSet => {
                ("security_questions_not_set", StatusCode::CONFLICT, "Security questions not set")
            }
            Self::PinLocked => ("pin_locked", StatusCode::LOCKED, "PIN locked"),
            Self::SecurityAnswersLocked => {
                ("security_answers_locked", StatusCode::LOCKED, "Security answers locked")
            }
            Self::SourceNotAllowed => {
                ("source_not_allowed", StatusCode::FORBIDDEN, "Source address not allowed")
            }
            Self::InvalidSignature => ("invalid_signature", StatusCode::UNAUTHORIZED, "Not signed by Circle"),
            Self::UnreadableNotification => {
                ("unreadable_notification", StatusCode::UNPROCESSABLE_ENTITY, "Unreadable notification")
            }
            Self::PublicKeyUnavailable => {
                ("public_key_unavailable", StatusCode::SERVICE_UNAVAILABLE, "Public key unavailable")
            }
            Self::CircleRateLimited => {
                ("circle_rate_limited", StatusCode::SERVICE_UNAVAILABLE, "Circle's rate limit is reached")
            }
            Self::CircleUnavailable => {
                ("circle_unavailable", StatusCode::SERVICE_UNAVAILABLE, "Circle is unavailable")
            }
            Self::CircleTimeout => {
                ("circle_timeout", StatusCode::GATEWAY_TIMEOUT, "Circle did not answer in time")
            }
            Self::CircleError => ("circle_error", StatusCode::BAD_GATEWAY, "Unexpected answer from Circle"),
            Self::StorageUnavailable => {
                ("storage_unavailable", StatusCode::SERVICE_UNAVAILABLE, "Storage is unavailable")
            }
            Self::Misconfigured => {
                ("misconfigured", StatusCode::INTERNAL_SERVER_ERROR, "The service is not set up")
            }
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        }
    }
}

/// What a caller is told, and beside it what only the log is told.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    circle_code: Option<i64>,
    retry_after: Option<Duration>,
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
            locked_until: None,
            source: None,
        }
    }

    /// When trying again makes sense: `Retry-After` and `retryAfterSeconds`.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// When a lock opens, with `Retry-After` counted from `now`.
    pub fn locked_until(mut self, until: OffsetDateTime, now: OffsetDateTime) -> Self {
        self.locked_until = Some(until);
        self.retry_after(Duration::try_from(until - now).unwrap_or(Duration::ZERO))
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

    /// The answer.
    pub(crate) fn into_response(self, request_id: &str) -> Response<Body> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
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
}

/// How long to wait where nobody said how long.
const RETRY_SOON: Duration = Duration::from_secs(2);

/// What each of Circle's errors means to a caller, in one place.
impl From<CircleError> for Problem {
    fn from(error: CircleError) -> Self {
        let circle_code = error.code();
        let retry_after = error.retry_after();
        let problem = match &error {
            CircleError::Refused { status, .. } => of_refusal(*status, circle_code),
            CircleError::Unreachable { .. } => Self::new(
                Code::CircleUnavailable,
                "Circle could not be reached. Try again with the same Idempotency-Key.",
            )
            .retry_after(RETRY_SOON),
            CircleError::TimedOut { .. } => Self::new(
                Code::CircleTimeout,
                "Circle did not answer in time. Try again with the same Idempotency-Key.",
            )
            .retry_after(RETRY_SOON),
            CircleError::Unreadable { .. } => Self::new(
                Code::CircleError,
                "Circle's answer could not be read. Try again, and report it if it stays.",
            ),
            CircleError::ApiKey(_) => Self::new(
                Code::Misconfigured,
                "The service has no usable Circle API key. Its operator finds the cause in the log.",
            ),
        };
        Self { circle_code, retry_after: retry_after.or(problem.retry_after), ..problem }.because(error)
    }
}

/// Chosen by Circle's code; by the HTTP status only where no code is known (the contract of Circle's API
/// leaves the status of many codes open).
fn of_refusal(status: u16, circle_code: Option<i64>) -> Problem {
    match (circle_code, status) {
        (Some(155_102), _) => Problem::new(
            Code::UserNotFound,
            "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
        ),
        (Some(155_103..=155_105), _) => Problem::new(
            Code::InvalidUserToken,
            "Circle does not accept the user token. Ask POST /session-tokens for a new one.",
        ),
        (Some(155_109), _) => Problem::new(
            Code::UserDisabled,
            "Circle has disabled the user. Only the app's operator can help.",
        ),
        (Some(155_110), _) => pin_not_set(),
        (Some(155_111), _) => security_questions_not_set(),
        (Some(155_119), _) => pin_locked(),
        (Some(155_120), _) => security_answers_locked(),
        (Some(3 | 4 | 401), _) => Problem::new(
            Code::Misconfigured,
            "Circle refuses the service's API key. Its operator finds the cause in the log.",
        ),
        (_, 429) | (Some(429), _) => Problem::new(
            Code::CircleRateLimited,
            "Circle takes no more calls from this account just now. Try again later.",
        )
        .retry_after(RETRY_SOON),
        (_, 500..) => Problem::new(
            Code::CircleUnavailable,
            "Circle failed to answer. Try again with the same Idempotency-Key.",
        )
        .retry_after(RETRY_SOON),
        _ => Problem::new(
            Code::CircleError,
            "Circle refused the request in a way that this service does not know; circleCode has its number.",
        ),
    }
}

/// Circle has disabled the user.
pub fn user_disabled() -> Problem {
    Problem::new(Code::UserDisabled, "Circle has disabled the user. Only the app's operator can help.")
}

/// There is no PIN to change or to restore.
pub fn pin_not_set() -> Problem {
    Problem::new(Code::PinNotSet, "The user has no PIN yet. Have the user set one with Circle's SDK first.")
}

/// There are no security questions to restore the PIN with.
pub fn security_questions_not_set() -> Problem {
    Problem::new(
        Code::SecurityQuestionsNotSet,
        "The user has set no security questions, so the PIN can be changed but not restored.",
    )
}

/// PIN entry is locked; recovery is open.
pub fn pin_locked() -> Problem {
    Problem::new(
        Code::PinLocked,
        "PIN entry is locked after too many wrong PINs. Wait until it opens, or restore the PIN with a RESTORE_PIN challenge.",
    )
}

/// Recovery is locked.
pub fn security_answers_locked() -> Problem {
    Problem::new(
        Code::SecurityAnswersLocked,
        "Answering the security questions is locked after too many wrong answers. Wait until it opens.",
    )
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable { .. } => Self::new(
                Code::StorageUnavailable,
                "The challenge's record could not be reached. Try again with the same Idempotency-Key.",
            )
            .retry_after(RETRY_SOON),
            StoreError::Unreadable { .. } => Self::new(
                Code::Internal,
                "The challenge's record could not be read. The operator finds the cause in the log.",
            ),
        }
        .because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use time::macros::datetime;

    #[test]
    fn every_code_is_listed_once() {
        assert_eq!(Code::ALL.len(), Code::Internal as usize + 1);
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index, "{code:?}");
        }
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
    }

    #[test]
    fn a_document_has_every_member_that_applies() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let until = datetime!(2026-01-01 12:29:59.5 UTC);
        let response = pin_locked().locked_until(until, now).into_response("request-1");
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
        let response = problem.into_response("request-1");
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(body.contains("Ours.") && !body.contains("theirs"), "{body}");
        assert!(!response.headers().contains_key("retry-after"));
    }
}
