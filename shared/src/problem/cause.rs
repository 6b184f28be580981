//! The causes of errors: every sentence that an app's developer reads.

use std::time::Duration;

use super::Code;

/// What caused an error. Each cause has one code, and one sentence for the developer that says what to do. The sentence
/// holds nothing secret and nothing that a third party wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
#[expect(missing_docs, reason = "the sentences below say what each cause is")]
pub enum Cause {
    InvalidBody,
    ChallengeBodyTooLarge,
    WebhookBodyTooLarge,
    UnsupportedMediaType,
    InvalidChallengeType,
    InvalidChallengeId,
    InvalidLimit,
    InvalidCursor,
    InvalidIdempotencyKey,
    InvalidUserToken,
    UserTokenExpired,
    UserTokenRejected,
    UserTokenMismatch,
    MethodNotAllowed,
    Unauthenticated,
    SignInRequired,
    InvalidUserId,
    UserDisabled,
    UserNotFound,
    ChallengeNotFound,
    PinNotSet,
    PinNotUsed,
    SecurityQuestionsNotSet,
    PinLocked,
    SecurityAnswersLocked,
    TooManyChallenges,
    TooManyRequests,
    UserBlocked,
    ChallengesStopped,
    SourceNotAllowed,
    InvalidSignature,
    UnreadableNotification,
    PublicKeyUnavailable,
    CircleRateLimited,
    CircleUnreachable,
    CircleFailed,
    CircleUnreadable,
    CircleRejectedWithoutReason,
    CircleRejectedRequest,
    CircleHasResource,
    CircleRejectedUserInput,
    CircleUnknownChallenge,
    CircleUnexpectedCode,
    StorageUnavailable,
    RecordUnreadable,
    ApiKeyUnavailable,
    ApiKeyUnusable,
    ApiKeyRejected,
    ApiKeyNotAllowed,
    AddressNotAllowed,
    Timeout,
}

impl Cause {
    /// The stable code.
    pub fn code(self) -> Code {
        self.code_and_detail().0
    }

    /// The sentence for the developer: what happened, and what to do.
    pub fn detail(self) -> &'static str {
        self.code_and_detail().1
    }

    /// When to retry if nobody said when. Every 502, 503 and 504 has one, except for requests that Circle rejects with a
    /// code and would reject again.
    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::CircleRejectedRequest
            | Self::CircleHasResource
            | Self::CircleRejectedUserInput
            | Self::CircleUnknownChallenge
            | Self::CircleUnexpectedCode => None,
            Self::ChallengesStopped => Some(Duration::from_secs(60)),
            // Circle sends the webhook again. By then the limit of key fetches has room.
            Self::PublicKeyUnavailable => Some(Duration::from_secs(10)),
            _ if matches!(self.code().status().as_u16(), 502..=504) => Some(Duration::from_secs(2)),
            _ => None,
        }
    }

    fn code_and_detail(self) -> (Code, &'static str) {
        match self {
            Self::InvalidBody => (
                Code::InvalidBody,
                "The body must be a JSON object whose only property is type, like {\"type\": \"CHANGE_PIN\"}.",
            ),
            Self::ChallengeBodyTooLarge => (Code::BodyTooLarge, "The body is limited to 16 KiB."),
            Self::WebhookBodyTooLarge => (Code::BodyTooLarge, "A webhook is limited to 256 KiB."),
            Self::UnsupportedMediaType => (
                Code::UnsupportedMediaType,
                "Send the body as JSON, with the header Content-Type: application/json.",
            ),
            Self::InvalidChallengeType => {
                (Code::InvalidChallengeType, "The property type must be CHANGE_PIN or RESTORE_PIN.")
            }
            Self::InvalidChallengeId => (
                Code::InvalidChallengeId,
                "The challenge id in the path must be a UUID, as POST /challenges returned it.",
            ),
            Self::InvalidLimit => {
                (Code::InvalidParameter, "The query parameter limit must be a number from 1 to 100.")
            }
            Self::InvalidCursor => (
                Code::InvalidParameter,
                "The query parameter cursor must be a nextCursor as GET /challenges returned it.",
            ),
            Self::InvalidIdempotencyKey => (
                Code::InvalidIdempotencyKey,
                "The header Idempotency-Key must be a UUID. Use a new one for each intended challenge, and the same one for its retries.",
            ),
            Self::InvalidUserToken => (
                Code::InvalidUserToken,
                "The header X-User-Token must be a userToken as POST /session-tokens returned it.",
            ),
            Self::UserTokenExpired => (
                Code::InvalidUserToken,
                "The user token has expired. Get a new one from POST /session-tokens.",
            ),
            Self::UserTokenRejected => (
                Code::InvalidUserToken,
                "Circle rejects the user token. Get a new one from POST /session-tokens.",
            ),
            Self::UserTokenMismatch => (
                Code::UserTokenMismatch,
                "The user token belongs to another user. Get one for the signed-in user from POST /session-tokens.",
            ),
            Self::MethodNotAllowed => {
                (Code::MethodNotAllowed, "Circle sends webhooks by POST and checks the endpoint by HEAD.")
            }
            Self::Unauthenticated => (
                Code::Unauthenticated,
                "The request has no verified claims. Call this route through the HTTP API and its JWT authorizer.",
            ),
            Self::SignInRequired => (
                Code::SignInRequired,
                "Restoring a PIN needs a recent sign-in, and the token's claim auth_time is missing or too old. Let the user sign in again, then repeat the request with the new token.",
            ),
            Self::InvalidUserId => (
                Code::InvalidUserId,
                "The claim that USER_ID_CLAIM names must hold the Circle user id, 5 to 50 characters.",
            ),
            Self::UserDisabled => {
                (Code::UserDisabled, "Circle has disabled the user. Only the app's operator can help.")
            }
            Self::UserNotFound => (
                Code::UserNotFound,
                "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
            ),
            Self::ChallengeNotFound => (Code::ChallengeNotFound, "The signed-in user has no such challenge."),
            Self::PinNotSet => {
                (Code::PinNotSet, "The user has no PIN yet. Let the user set one with Circle's SDK first.")
            }
            Self::PinNotUsed => (
                Code::PinNotUsed,
                "The user signs in to Circle without a PIN, for example by e-mail, so there is no PIN to change.",
            ),
            Self::SecurityQuestionsNotSet => (
                Code::SecurityQuestionsNotSet,
                "The user has no security questions, so the PIN can be changed but not restored.",
            ),
            Self::PinLocked => (
                Code::PinLocked,
                "PIN entry is locked after too many incorrect PINs. Wait until the lock opens, or create a RESTORE_PIN challenge.",
            ),
            Self::SecurityAnswersLocked => (
                Code::SecurityAnswersLocked,
                "Answering the security questions is locked after too many incorrect answers. Wait until the lock opens.",
            ),
            Self::TooManyChallenges => (
                Code::TooManyChallenges,
                "The user has created as many challenges as one user may in an hour. Wait until the next hour. Requests of this hour can still be retried with their Idempotency-Key.",
            ),
            Self::TooManyRequests => (
                Code::TooManyRequests,
                "The user's requests come too fast. Retry after the time in Retry-After.",
            ),
            Self::UserBlocked => (
                Code::UserBlocked,
                "The service's operator has blocked the user. Ask the operator to remove the block.",
            ),
            Self::ChallengesStopped => (
                Code::ChallengesStopped,
                "The service's operator has stopped new challenges for all users. Ask the operator when they start again.",
            ),
            Self::SourceNotAllowed => (
                Code::SourceNotAllowed,
                "Webhooks are accepted from Circle's addresses only (setting CIRCLE_SOURCE_IPS).",
            ),
            Self::InvalidSignature => (
                Code::InvalidSignature,
                "The request must carry Circle's signature over its exact bytes, in X-Circle-Key-Id and X-Circle-Signature.",
            ),
            Self::UnreadableNotification => (
                Code::UnreadableNotification,
                "The notification is Circle's, but cannot be read as a challenge. It has to be sent again once this service can read it.",
            ),
            Self::PublicKeyUnavailable => (
                Code::PublicKeyUnavailable,
                "Circle's public key for the signature is temporarily unavailable. Send the webhook again.",
            ),
            Self::CircleRateLimited => {
                (Code::CircleRateLimited, "This account's rate limit at Circle is used up. Retry later.")
            }
            Self::CircleUnreachable => (
                Code::CircleUnavailable,
                "Circle cannot be reached. Retry, with the same Idempotency-Key if there was one.",
            ),
            Self::CircleFailed => (
                Code::CircleUnavailable,
                "Circle failed. Retry, with the same Idempotency-Key if there was one.",
            ),
            Self::CircleUnreadable => (
                Code::CircleError,
                "Circle's response cannot be read. Retry, and report it if it keeps happening.",
            ),
            Self::CircleRejectedWithoutReason => (
                Code::CircleError,
                "Circle rejected the request without a reason. Retry, and report it if it keeps happening.",
            ),
            Self::CircleRejectedRequest => (
                Code::CircleError,
                "Circle considers the request malformed, which is this service's fault. Report it with the requestId.",
            ),
            Self::CircleHasResource => (
                Code::CircleError,
                "The resource already exists at Circle. Call GET /pin for the user's current state.",
            ),
            Self::CircleRejectedUserInput => (
                Code::CircleError,
                "Circle rejected what came from the user's device. Start again with a new challenge and its session.",
            ),
            Self::CircleUnknownChallenge => {
                (Code::CircleError, "Circle does not know the challenge. Start again with a new one.")
            }
            Self::CircleUnexpectedCode => (
                Code::CircleError,
                "Circle rejected the request with a code that this service does not expect. It is in circleCode.",
            ),
            Self::StorageUnavailable => (
                Code::StorageUnavailable,
                "A table of the service cannot be reached. Retry, with the same Idempotency-Key if there was one.",
            ),
            Self::RecordUnreadable => (
                Code::Internal,
                "An item of a table cannot be read. The service's operator finds the cause in the log.",
            ),
            Self::ApiKeyUnavailable => (
                Code::ApiKeyUnavailable,
                "The service's Circle API key cannot be read at the moment. Retry, with the same Idempotency-Key if there was one.",
            ),
            Self::ApiKeyUnusable => (
                Code::Misconfigured,
                "The service has no usable Circle API key. Its operator finds the cause in the log.",
            ),
            Self::ApiKeyRejected => (
                Code::Misconfigured,
                "Circle rejects the service's API key. Its operator finds the cause in the log.",
            ),
            Self::ApiKeyNotAllowed => (
                Code::Misconfigured,
                "The service's Circle API key lacks a permission for this call. Its operator has to add it at Circle.",
            ),
            Self::AddressNotAllowed => (
                Code::Misconfigured,
                "Circle rejects the call without a reason. The service's operator has to check the IP allowlist of the Circle API key.",
            ),
            Self::Timeout => (
                Code::Timeout,
                "The request took too long. Retry, with the same Idempotency-Key if there was one.",
            ),
        }
    }
}
