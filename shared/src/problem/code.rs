//! The stable error codes.

use http::StatusCode;

/// What went wrong, as a stable code. Each has one HTTP status and one title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Code {
    /// The body is not the JSON that the route accepts.
    InvalidBody,
    /// The body is larger than the route accepts.
    BodyTooLarge,
    /// The body's content type is not JSON.
    UnsupportedMediaType,
    /// `type` is not a challenge type that this service creates.
    InvalidChallengeType,
    /// The challenge id is not a UUID.
    InvalidChallengeId,
    /// A query parameter is invalid.
    InvalidParameter,
    /// `Idempotency-Key` is not a UUID.
    InvalidIdempotencyKey,
    /// `X-User-Token` is not a user token, or Circle rejects it.
    InvalidUserToken,
    /// The route does not support the method.
    MethodNotAllowed,
    /// The request has no verified claims.
    Unauthenticated,
    /// The user signed in too long ago for this request.
    SignInRequired,
    /// The user id claim is missing or cannot be a Circle user id.
    InvalidUserId,
    /// `X-User-Token` belongs to another user.
    UserTokenMismatch,
    /// Circle has disabled the user.
    UserDisabled,
    /// Circle does not know the user.
    UserNotFound,
    /// There is no such challenge, or it belongs to another user.
    ChallengeNotFound,
    /// The user has no PIN yet.
    PinNotSet,
    /// The user signs in to Circle in a way that has no PIN.
    PinNotUsed,
    /// The user has no security questions to restore the PIN with.
    SecurityQuestionsNotSet,
    /// PIN entry is locked.
    PinLocked,
    /// Answering the security questions is locked.
    SecurityAnswersLocked,
    /// The user has created as many challenges as one user may in an hour.
    TooManyChallenges,
    /// The user's requests come too fast.
    TooManyRequests,
    /// The operator has blocked the user.
    UserBlocked,
    /// The operator has stopped new challenges for all users.
    ChallengesStopped,
    /// A webhook came from an address that is not Circle's.
    SourceNotAllowed,
    /// A webhook's signature is not Circle's.
    InvalidSignature,
    /// A webhook from Circle cannot be read as a challenge.
    UnreadableNotification,
    /// Circle's public key for a webhook is temporarily unavailable.
    PublicKeyUnavailable,
    /// Circle's rate limit is used up.
    CircleRateLimited,
    /// Circle cannot be reached, or fails.
    CircleUnavailable,
    /// Circle responded in a way that this service does not expect.
    CircleError,
    /// A table cannot be reached.
    StorageUnavailable,
    /// The API key cannot be read from Secrets Manager at the moment.
    ApiKeyUnavailable,
    /// The service's own configuration is at fault.
    Misconfigured,
    /// Circle or a table did not respond in time.
    Timeout,
    /// The service itself is at fault.
    Internal,
}

impl Code {
    /// The value of the member `code`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.status_and_title().0
    }

    /// A title of a few words.
    pub fn title(self) -> &'static str {
        self.status_and_title().1
    }

    fn status_and_title(self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidBody => (StatusCode::BAD_REQUEST, "Invalid body"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Body too large"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
            Self::InvalidChallengeType => (StatusCode::BAD_REQUEST, "Invalid challenge type"),
            Self::InvalidChallengeId => (StatusCode::BAD_REQUEST, "Invalid challenge id"),
            Self::InvalidParameter => (StatusCode::BAD_REQUEST, "Invalid query parameter"),
            Self::InvalidIdempotencyKey => (StatusCode::BAD_REQUEST, "Invalid idempotency key"),
            Self::InvalidUserToken => (StatusCode::BAD_REQUEST, "Invalid user token"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Not authenticated"),
            Self::SignInRequired => (StatusCode::UNAUTHORIZED, "Recent sign-in required"),
            Self::InvalidUserId => (StatusCode::FORBIDDEN, "Invalid user id"),
            Self::UserTokenMismatch => (StatusCode::FORBIDDEN, "User token of another user"),
            Self::UserDisabled => (StatusCode::FORBIDDEN, "User disabled"),
            Self::UserNotFound => (StatusCode::NOT_FOUND, "User not found"),
            Self::ChallengeNotFound => (StatusCode::NOT_FOUND, "Challenge not found"),
            Self::PinNotSet => (StatusCode::CONFLICT, "PIN not set"),
            Self::PinNotUsed => (StatusCode::CONFLICT, "PIN not used"),
            Self::SecurityQuestionsNotSet => (StatusCode::CONFLICT, "Security questions not set"),
            Self::PinLocked => (StatusCode::LOCKED, "PIN locked"),
            Self::SecurityAnswersLocked => (StatusCode::LOCKED, "Security answers locked"),
            Self::TooManyChallenges => (StatusCode::TOO_MANY_REQUESTS, "Too many challenges"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            Self::UserBlocked => (StatusCode::FORBIDDEN, "User blocked"),
            Self::ChallengesStopped => (StatusCode::SERVICE_UNAVAILABLE, "New challenges stopped"),
            Self::SourceNotAllowed => (StatusCode::FORBIDDEN, "Source address not allowed"),
            Self::InvalidSignature => (StatusCode::UNAUTHORIZED, "Invalid signature"),
            Self::UnreadableNotification => (StatusCode::UNPROCESSABLE_ENTITY, "Unreadable notification"),
            Self::PublicKeyUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Public key unavailable"),
            Self::CircleRateLimited => (StatusCode::SERVICE_UNAVAILABLE, "Circle's rate limit exceeded"),
            Self::CircleUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Circle unavailable"),
            Self::CircleError => (StatusCode::BAD_GATEWAY, "Unexpected response from Circle"),
            Self::StorageUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Storage unavailable"),
            Self::ApiKeyUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "API key unavailable"),
            Self::Misconfigured => (StatusCode::INTERNAL_SERVER_ERROR, "Service misconfigured"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        }
    }
}
