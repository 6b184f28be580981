//! What can go wrong with a call to Circle.

use std::time::Duration;

use crate::api_key::ApiKeyError;
use crate::circle_code::CircleCode;

/// A call to Circle that gave no result. The messages are for the log: they carry Circle's message with every secret of
/// the call redacted, and the request id that Circle support asks for.
#[derive(Debug, thiserror::Error)]
pub enum CircleError {
    /// Circle responded with an error.
    #[error(
        "{call}: Circle responded {status} with code {}: {} (request id {request_id})",
        code.map_or("none".into(), |code| code.to_string()),
        message.as_deref().unwrap_or("no message")
    )]
    Response {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// Circle's code, if the response had one.
        code: Option<CircleCode>,
        /// Whether the call carried a user token, which Circle may have rejected instead of the API key.
        had_user_token: bool,
        /// Circle's message, if the response had one.
        message: Option<String>,
        /// The `X-Request-Id` of the response.
        request_id: String,
        /// How long Circle asks to wait (`Retry-After`), at most an hour.
        retry_after: Option<Duration>,
    },
    /// No connection could be made, or it broke before a response came.
    #[error("{call}: Circle cannot be reached (request id {request_id})")]
    Unreachable {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The `X-Request-Id` that was sent.
        request_id: String,
        /// What the HTTP client said, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// No response came in time.
    #[error("{call}: Circle did not respond in time (request id {request_id})")]
    TimedOut {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The `X-Request-Id` that was sent.
        request_id: String,
    },
    /// The response is not as Circle documents it. There is no source: the JSON parser quotes what it read, which can be
    /// a token.
    #[error("{call}: Circle's response {status} {problem} (request id {request_id})")]
    Unreadable {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        problem: String,
        /// The `X-Request-Id` of the response.
        request_id: String,
    },
    /// There is no API key to call with.
    #[error("no API key")]
    ApiKey(#[from] ApiKeyError),
}

impl CircleError {
    /// Circle's code, if Circle sent one.
    pub fn code(&self) -> Option<CircleCode> {
        match self {
            Self::Response { code, .. } => *code,
            _ => None,
        }
    }

    /// How the call ended, as a dimension of metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            _ if self.is_rate_limited() => "rate_limited",
            _ if self.is_api_key_unusable() => "api_key",
            Self::Response { status: ..500, .. } => "rejected",
            Self::Unreadable { .. } => "unreadable",
            _ => "unavailable",
        }
    }

    /// The request id that Circle support asks for, if the call was sent.
    pub(super) fn request_id(&self) -> Option<&str> {
        match self {
            Self::Response { request_id, .. }
            | Self::Unreachable { request_id, .. }
            | Self::TimedOut { request_id, .. }
            | Self::Unreadable { request_id, .. } => Some(request_id),
            Self::ApiKey(_) => None,
        }
    }

    /// How long Circle asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Response { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether Circle rejects the user token that the call carried: it is unknown, expired or invalid. A 401 without a code
    /// counts too, because a caller can send any token.
    pub fn is_user_token_rejected(&self) -> bool {
        match self {
            Self::Response { had_user_token: true, code: None, status, .. } => *status == 401,
            Self::Response { had_user_token: true, code: Some(code), .. } => {
                self.is_user_token_ended() || *code == CircleCode::USER_TOKEN_INVALID
            }
            _ => false,
        }
    }

    /// Whether Circle says that the user token that the call carried is of no use any more: it has expired, or a newer one
    /// has ended it. Then a new one helps.
    pub fn is_user_token_ended(&self) -> bool {
        const ENDED: [CircleCode; 2] = [CircleCode::USER_TOKEN_NOT_FOUND, CircleCode::USER_TOKEN_EXPIRED];
        matches!(self, Self::Response { had_user_token: true, code: Some(code), .. } if ENDED.contains(code))
    }

    /// Whether Circle does not know the user, the challenge or another resource.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Response {
                code: Some(
                    CircleCode::USER_NOT_FOUND
                        | CircleCode::CHALLENGE_NOT_FOUND
                        | CircleCode::CHALLENGE_ID_INVALID
                ),
                ..
            } | Self::Response { status: 404, code: Some(CircleCode::PARAMETER_INVALID), .. }
        )
    }

    /// Whether the response does not come from Circle's API itself, but perhaps from a gateway in between.
    pub fn is_unrecognized(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::Response { code: None, .. })
    }

    /// Whether the account has used up its rate limit.
    pub fn is_rate_limited(&self) -> bool {
        matches!(
            self,
            Self::Response { status: 429, .. } | Self::Response { code: Some(CircleCode::RATE_LIMITED), .. }
        )
    }

    /// Whether there is no API key, or Circle rejects it altogether or for this call.
    pub fn is_api_key_unusable(&self) -> bool {
        let is_not_allowed = self.code() == Some(CircleCode::API_KEY_NOT_ALLOWED);
        matches!(self, Self::ApiKey(_)) || self.is_api_key_rejected() || is_not_allowed
    }

    /// Whether Circle rejects the API key: 401 with a code that says so, or without any code if the call carried no user
    /// token. Other codes come with 401 too ([`CircleCode::USER_TOKEN_NOT_FOUND`]).
    pub(super) fn is_api_key_rejected(&self) -> bool {
        match self {
            Self::Response { status: 401, code: None, had_user_token, .. } => !had_user_token,
            Self::Response { status: 401, code: Some(code), .. } => {
                matches!(*code, CircleCode::API_KEY_INVALID | CircleCode::UNAUTHORIZED)
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            // Without a `Retry-After` there is no telling how long the rate limit lasts.
            Self::Response { status: 429, retry_after, .. } => retry_after.is_some(),
            Self::Response { status, .. } => *status >= 500,
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Unreadable { .. } | Self::ApiKey(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, code: Option<CircleCode>, had_user_token: bool) -> CircleError {
        CircleError::Response {
            call: "GET /v1/w3s/user",
            status,
            code,
            had_user_token,
            message: None,
            request_id: "request".to_owned(),
            retry_after: None,
        }
    }

    #[test]
    fn error_says_whether_circle_responded_and_knows_what_the_call_is_about() {
        for (error, is_not_found, is_unrecognized) in [
            (response(404, Some(CircleCode::USER_NOT_FOUND), false), true, false),
            (response(404, Some(CircleCode::CHALLENGE_NOT_FOUND), true), true, false),
            (response(400, Some(CircleCode::CHALLENGE_ID_INVALID), true), true, false),
            (response(404, Some(CircleCode::PARAMETER_INVALID), true), true, false),
            (response(400, Some(CircleCode::PARAMETER_INVALID), true), false, false),
            (response(404, None, true), false, true),
        ] {
            assert_eq!(error.is_not_found(), is_not_found, "{error}");
            assert_eq!(error.is_unrecognized(), is_unrecognized, "{error}");
            assert_eq!(error.request_id(), Some("request"));
        }
    }

    #[test]
    fn outcome_says_how_the_call_ended() {
        let request_id = || "request".to_owned();
        let unreadable = CircleError::Unreadable {
            call: "GET /v1/w3s/user",
            status: 200,
            problem: String::new(),
            request_id: request_id(),
        };
        let no_key = CircleError::ApiKey(ApiKeyError::Malformed { secret_id: "secret".to_owned() });
        let documented = include_str!("../../../docs/logs-and-metrics.md");
        for (error, outcome) in [
            (response(429, None, false), "rate_limited"),
            (response(400, Some(CircleCode::RATE_LIMITED), false), "rate_limited"),
            (response(503, None, false), "unavailable"),
            (CircleError::TimedOut { call: "GET /v1/w3s/user", request_id: request_id() }, "unavailable"),
            (response(401, Some(CircleCode::API_KEY_INVALID), true), "api_key"),
            (response(403, Some(CircleCode::API_KEY_NOT_ALLOWED), true), "api_key"),
            (no_key, "api_key"),
            (response(401, Some(CircleCode::USER_TOKEN_NOT_FOUND), true), "rejected"),
            (response(400, Some(CircleCode::INCORRECT_PIN), true), "rejected"),
            (unreadable, "unreadable"),
        ] {
            assert_eq!(error.outcome(), outcome, "{error}");
            assert!(documented.contains(&format!("\n| `{outcome}` | ")), "{outcome}");
        }
    }
}
