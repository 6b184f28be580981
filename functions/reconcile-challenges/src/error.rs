//! Why a check can fail, and what that says about other checks.

use shared::api_key::ApiKeyError;
use shared::circle::CircleError;
use shared::dynamodb::StoreError;

use crate::summary::StopReason;

/// Why a check failed, or a step on the way to one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Circle(#[from] CircleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Circle's response has no status, or a challenge type that this service does not create")]
    NoStatus,
}

/// What an error says about other checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No check can succeed for now.
    Fatal(StopReason),
    /// Circle may be down. A single broken challenge can look the same.
    Outage,
    /// The table cannot be reached.
    TableUnavailable,
    /// An item of the table cannot be read.
    UnreadableItem,
    /// Circle does not know the challenge or its user.
    NotFound,
    /// Circle rejects the user token. The run has created it a moment ago, so the user has started a newer session.
    TokenRejected,
    /// Anything else. It concerns one challenge, or one user.
    Other,
}

impl CheckError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Circle(error) if error.is_not_found() => ErrorKind::NotFound,
            Self::Circle(error) if error.is_user_token_rejected() => ErrorKind::TokenRejected,
            Self::Circle(CircleError::ApiKey(ApiKeyError::Unavailable { .. })) => {
                ErrorKind::Fatal(StopReason::ApiKeyUnavailable)
            }
            Self::Circle(error) if error.is_api_key_unusable() => ErrorKind::Fatal(StopReason::ApiKey),
            Self::Circle(error) if error.is_rate_limited() => ErrorKind::Fatal(StopReason::RateLimited),
            Self::Circle(error) if error.is_transient() || error.is_unrecognized() => ErrorKind::Outage,
            Self::Store(StoreError::Unavailable { .. }) => ErrorKind::TableUnavailable,
            Self::Store(StoreError::Unreadable { .. }) => ErrorKind::UnreadableItem,
            Self::Circle(_) | Self::NoStatus => ErrorKind::Other,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use shared::circle_code::CircleCode;

    use super::*;

    /// An error response of Circle.
    pub(crate) fn response(
        status: u16,
        code: impl Into<Option<CircleCode>>,
        retry_after: Option<Duration>,
    ) -> CircleError {
        CircleError::Response {
            call: "GET /v1/w3s/user/challenges/{id}",
            status,
            code: code.into(),
            had_user_token: true,
            message: None,
            request_id: "request".to_owned(),
            retry_after,
        }
    }

    pub(crate) fn table_unavailable() -> CheckError {
        let source = "no connection".into();
        StoreError::Unavailable { operation: "UpdateItem", request_id: "none".to_owned(), source }.into()
    }

    #[test]
    fn error_kind_says_whom_the_error_concerns() {
        let timed_out =
            CircleError::TimedOut { call: "POST /v1/w3s/users/token", request_id: "request".to_owned() };
        let no_key = CircleError::ApiKey(ApiKeyError::Malformed { secret_id: "secret".to_owned() });
        for (error, kind) in [
            (response(404, CircleCode::CHALLENGE_NOT_FOUND, None), ErrorKind::NotFound),
            (response(404, CircleCode::USER_NOT_FOUND, None), ErrorKind::NotFound),
            (response(401, CircleCode::USER_TOKEN_NOT_FOUND, None), ErrorKind::TokenRejected),
            (response(429, None, None), ErrorKind::Fatal(StopReason::RateLimited)),
            (response(401, CircleCode::API_KEY_INVALID, None), ErrorKind::Fatal(StopReason::ApiKey)),
            (response(403, CircleCode::API_KEY_NOT_ALLOWED, None), ErrorKind::Fatal(StopReason::ApiKey)),
            (no_key, ErrorKind::Fatal(StopReason::ApiKey)),
            (response(500, CircleCode::UNKNOWN_ERROR, None), ErrorKind::Outage),
            // A page of a gateway has no Circle code.
            (response(403, None, None), ErrorKind::Outage),
            (timed_out, ErrorKind::Outage),
            (response(400, CircleCode::PARAMETER_INVALID, None), ErrorKind::Other),
        ] {
            assert_eq!(CheckError::Circle(error).kind(), kind);
        }
        assert_eq!(table_unavailable().kind(), ErrorKind::TableUnavailable);
        let unreadable = CheckError::Store(StoreError::Unreadable { attribute: "userId" });
        assert_eq!(unreadable.kind(), ErrorKind::UnreadableItem);
        assert_eq!(CheckError::NoStatus.kind(), ErrorKind::Other);
    }
}
