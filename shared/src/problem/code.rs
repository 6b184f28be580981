//! The stable words for what can go wrong.

use lambda_http::http::StatusCode;

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
    /// The user has asked for as many challenges as one may in an hour.
    TooManyChallenges,
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
    /// Circle answered in a way that this service does not know.
    CircleError,
    /// A table could not be reached.
    StorageUnavailable,
    /// The API key could not be read from Secrets Manager.
    ApiKeyUnavailable,
    /// The service's own set-up is at fault.
    Misconfigured,
    /// Circle or the table did not answer in time.
    Timeout,
    /// The service itself is at fault.
    Internal,
}

impl Code {
    /// Every code, in the order of the enum.
    pub const ALL: [Self; 31] = [
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
        Self::TooManyChallenges,
        Self::SourceNotAllowed,
        Self::InvalidSignature,
        Self::UnreadableNotification,
        Self::PublicKeyUnavailable,
        Self::CircleRateLimited,
        Self::CircleUnavailable,
        Self::CircleError,
        Self::StorageUnavailable,
        Self::ApiKeyUnavailable,
        Self::Misconfigured,
        Self::Timeout,
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

    /// What it is, in a few words.
    pub(super) fn title(self) -> &'static str {
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
            Self::TooManyChallenges => {
                ("too_many_challenges", StatusCode::TOO_MANY_REQUESTS, "Too many challenges")
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
            Self::CircleError => ("circle_error", StatusCode::BAD_GATEWAY, "Unexpected answer from Circle"),
            Self::StorageUnavailable => {
                ("storage_unavailable", StatusCode::SERVICE_UNAVAILABLE, "Storage is unavailable")
            }
            Self::ApiKeyUnavailable => {
                ("api_key_unavailable", StatusCode::SERVICE_UNAVAILABLE, "API key is unavailable")
            }
            Self::Misconfigured => {
                ("misconfigured", StatusCode::INTERNAL_SERVER_ERROR, "The service is not set up")
            }
            Self::Timeout => ("timeout", StatusCode::GATEWAY_TIMEOUT, "Not done in time"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_listed_once() {
        assert_eq!(Code::ALL.len(), Code::Internal as usize + 1);
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index, "{code:?}");
        }
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
