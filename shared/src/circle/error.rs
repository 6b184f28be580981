//! What can go wrong with a call to Circle.

use std::time::Duration;

use crate::api_key::ApiKeyError;

/// Circle's code for a user token that has expired.
const USER_TOKEN_EXPIRED: i64 = 155_104;

/// Circle's code for an API key that may not make the call.
const API_KEY_NOT_ALLOWED: i64 = 3;

/// A call to Circle that gave no result. The messages are for the log: they carry Circle's words with every
/// secret of the call taken out, and the request id that Circle's support asks for.
#[derive(Debug, thiserror::Error)]
pub enum CircleError {
    /// Circle answered, with an error.
    #[error(
        "{call}: Circle answered {status} with code {}: {} (request id {request_id})",
        code.map_or("none".into(), |code| code.to_string()),
        message.as_deref().unwrap_or("no message")
    )]
    Response {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// Circle's code, if the answer had one.
        code: Option<i64>,
        /// Circle's message, if the answer had one.
        message: Option<String>,
        /// The `X-Request-Id` of Circle's answer.
        request_id: String,
        /// How long Circle asks to wait (`Retry-After`), an hour at most.
        retry_after: Option<Duration>,
    },
    /// There was no answer: no connection, or it broke.
    #[error("{call}: Circle could not be reached (request id {request_id})")]
    Unreachable {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The `X-Request-Id` that was sent.
        request_id: String,
        /// What the HTTP client said, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// There was no answer in time.
    #[error("{call}: Circle did not answer in time (request id {request_id})")]
    TimedOut {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The `X-Request-Id` that was sent.
        request_id: String,
    },
    /// There was an answer, and it made no sense. There is no source: the JSON reader quotes what it read,
    /// which can be a token.
    #[error("{call}: Circle's answer {status} {problem} (request id {request_id})")]
    Unreadable {
        /// The call, as Circle's reference names it.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        problem: String,
        /// The `X-Request-Id` of Circle's answer.
        request_id: String,
    },
    /// There is no API key to call with.
    #[error("no API key")]
    ApiKey(#[from] ApiKeyError),
}

impl CircleError {
    /// Circle's code, where Circle gave one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Response { code, .. } => *code,
            _ => None,
        }
    }

    /// How long Circle asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Response { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the user token has expired, so that a new one helps.
    pub fn is_user_token_expired(&self) -> bool {
        self.code() == Some(USER_TOKEN_EXPIRED)
    }

    /// Whether Circle does not take the user token: it has ended, is not known or not valid.
    pub fn is_user_token_rejected(&self) -> bool {
        matches!(self.code(), Some(155_103..=155_105))
    }

    /// Whether Circle knows no such user, challenge or other resource.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Response { code: Some(155_102 | 155_116), .. }
                | Self::Response { status: 404, code: Some(2), .. }
        )
    }

    /// Whether the answer is none of Circle's own: a page of some gateway's, say.
    pub fn is_unrecognized(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::Response { code: None, .. })
    }

    /// Whether Circle takes no more calls from the account just now.
    pub fn is_rate_limited(&self) -> bool {
        matches!(self, Self::Response { status: 429, .. } | Self::Response { code: Some(429), .. })
    }

    /// Whether there is no API key, or Circle refuses it altogether or for this call.
    pub fn is_api_key_unusable(&self) -> bool {
        let is_refused_here = self.code() == Some(API_KEY_NOT_ALLOWED);
        matches!(self, Self::ApiKey(_)) || self.is_api_key_rejected() || is_refused_here
    }

    /// Whether Circle refuses the API key: 401 with code 4 or 401, or with no code at all. Other codes come
    /// with 401 too (155103, user token not found).
    pub(super) fn is_api_key_rejected(&self) -> bool {
        matches!(self, Self::Response { status: 401, code: None | Some(4 | 401), .. })
    }

    /// Whether the same call may fare better in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            // A rate limit is waited out only where Circle says how long.
            Self::Response { status: 429, retry_after, .. } => retry_after.is_some(),
            Self::Response { status, .. } => *status >= 500,
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Unreadable { .. } | Self::ApiKey(_) => false,
        }
    }
}
