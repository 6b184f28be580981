//! Which cause stands for which error of Circle, of a table, or of a signature check.

use super::{Cause, Problem};
use crate::api_key::ApiKeyError;
use crate::circle::CircleError;
use crate::circle_code::CircleCode;
use crate::clock::Elapsed;
use crate::dynamodb::StoreError;
use crate::webhook::{KeyError, VerifyError};

impl From<CircleError> for Problem {
    fn from(error: CircleError) -> Self {
        let mut problem = Self::new(of_circle(&error));
        problem.circle_code = error.code();
        problem.retry_after = error.retry_after().or(problem.retry_after);
        problem.because(error)
    }
}

fn of_circle(error: &CircleError) -> Cause {
    match error {
        _ if error.is_user_token_rejected() => Cause::UserTokenRejected,
        CircleError::Response { status, code, had_user_token, .. } => {
            of_response(*status, *code, *had_user_token)
        }
        CircleError::Unreachable { .. } => Cause::CircleUnreachable,
        CircleError::TimedOut { .. } => Cause::Timeout,
        CircleError::Unreadable { .. } => Cause::CircleUnreadable,
        CircleError::ApiKey(ApiKeyError::Unavailable { .. }) => Cause::ApiKeyUnavailable,
        CircleError::ApiKey(_) => Cause::ApiKeyUnusable,
    }
}

/// Circle's code decides. The HTTP status counts only if there is no known code, because Circle does not document which
/// status many codes have. Codes about the PIN count only if the call carried a user token: no other call depends on the PIN.
fn of_response(status: u16, code: Option<CircleCode>, had_user_token: bool) -> Cause {
    match (code, status) {
        (Some(CircleCode::USER_NOT_FOUND), _) => Cause::UserNotFound,
        (Some(CircleCode::USER_DISABLED), _) => Cause::UserDisabled,
        (Some(CircleCode::PIN_NOT_SET), _) if had_user_token => Cause::PinNotSet,
        (Some(CircleCode::SECURITY_QUESTIONS_NOT_SET), _) if had_user_token => Cause::SecurityQuestionsNotSet,
        (Some(CircleCode::PIN_LOCKED), _) if had_user_token => Cause::PinLocked,
        (Some(CircleCode::SECURITY_ANSWERS_LOCKED), _) if had_user_token => Cause::SecurityAnswersLocked,
        (Some(CircleCode::API_KEY_INVALID | CircleCode::UNAUTHORIZED), _) | (None, 401) => {
            Cause::ApiKeyRejected
        }
        (Some(CircleCode::API_KEY_NOT_ALLOWED), _) => Cause::ApiKeyNotAllowed,
        // What Circle responds to an address that is not on the allowlist of the key is not documented.
        (None, 403) => Cause::AddressNotAllowed,
        (Some(CircleCode::PARAMETER_MISSING | CircleCode::PARAMETER_INVALID), _) => {
            Cause::CircleRejectedRequest
        }
        (Some(CircleCode::USER_EXISTS | CircleCode::USER_INITIALISED | CircleCode::PIN_ALREADY_SET), _) => {
            Cause::CircleHasResource
        }
        (
            Some(
                CircleCode::INCORRECT_PIN
                | CircleCode::INCORRECT_ANSWERS
                | CircleCode::SECURITY_QUESTIONS_NOT_RESETTABLE
                | CircleCode::DEVICE_ID_NOT_FOUND
                | CircleCode::DEVICE_ID_INVALID
                | CircleCode::APP_ID_INVALID
                | CircleCode::CONTENT_MISMATCH
                | CircleCode::ENCRYPTION_KEY_INVALID
                | CircleCode::PIN_INFORMATION_MISSING
                | CircleCode::PIN_INFORMATION_INVALID
                | CircleCode::CHALLENGE_EXPIRED,
            ),
            _,
        ) => Cause::CircleRejectedUserInput,
        (Some(CircleCode::CHALLENGE_NOT_FOUND | CircleCode::CHALLENGE_ID_INVALID), _) => {
            Cause::CircleUnknownChallenge
        }
        (_, 429) | (Some(CircleCode::RATE_LIMITED), _) => Cause::CircleRateLimited,
        (_, 500..) => Cause::CircleFailed,
        (None | Some(CircleCode::UNKNOWN_ERROR), _) => Cause::CircleRejectedWithoutReason,
        _ => Cause::CircleUnexpectedCode,
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let cause = match &error {
            StoreError::Unavailable { .. } => Cause::StorageUnavailable,
            StoreError::Unreadable { .. } => Cause::RecordUnreadable,
        };
        Self::new(cause).because(error)
    }
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        let cause = match &error {
            VerifyError::Header(_) | VerifyError::UnknownKey(_) | VerifyError::WrongSignature => {
                Cause::InvalidSignature
            }
            VerifyError::Key(KeyError::Circle(error)) if error.is_api_key_unusable() => of_circle(error),
            VerifyError::Key(_) => Cause::PublicKeyUnavailable,
        };
        Self::new(cause).because(error)
    }
}

impl From<Elapsed> for Problem {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(Cause::Timeout).because(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;

    #[test]
    fn token_and_pin_codes_count_only_in_calls_with_a_token() {
        let code = |code, had_user_token| {
            let error = CircleError::Response {
                call: "GET /v1/w3s/user",
                status: 403,
                code: Some(code),
                had_user_token,
                message: None,
                request_id: "request".to_owned(),
                retry_after: None,
            };
            Problem::from(error).code()
        };
        for (circle_code, expected) in [
            (CircleCode::USER_TOKEN_EXPIRED, Code::InvalidUserToken),
            (CircleCode::PIN_NOT_SET, Code::PinNotSet),
            (CircleCode::SECURITY_QUESTIONS_NOT_SET, Code::SecurityQuestionsNotSet),
            (CircleCode::PIN_LOCKED, Code::PinLocked),
            (CircleCode::SECURITY_ANSWERS_LOCKED, Code::SecurityAnswersLocked),
        ] {
            assert_eq!(code(circle_code, true), expected);
            assert_eq!(code(circle_code, false), Code::CircleError);
        }
        assert_eq!(code(CircleCode::USER_DISABLED, false), Code::UserDisabled);
    }
}
