//! Circle's error codes by name: the only place that has the numbers.
//!
//! They come from Circle's error code reference (`https://developers.circle.com/w3s/circle-web3-services-api-error-codes`)
//! and from the error list of its client SDKs. Circle leaves the HTTP status of many codes open, so the code decides.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// A Circle error code: in an error response of its API, or in a failed challenge. Circle may send codes that have no
/// name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct CircleCode(pub i64);

impl CircleCode {
    /// Something went wrong, and Circle does not say what.
    pub const UNKNOWN_ERROR: Self = Self(-1);
    /// A parameter is missing.
    pub const PARAMETER_MISSING: Self = Self(1);
    /// A parameter is invalid; with HTTP 404, there is no such resource.
    pub const PARAMETER_INVALID: Self = Self(2);
    /// The API key may not use this endpoint.
    pub const API_KEY_NOT_ALLOWED: Self = Self(3);
    /// The API key is malformed or unknown.
    pub const API_KEY_INVALID: Self = Self(4);
    /// The same as [`API_KEY_INVALID`](Self::API_KEY_INVALID), in the form that Circle's gateway sends.
    pub const UNAUTHORIZED: Self = Self(401);
    /// The account has used up its rate limit.
    pub const RATE_LIMITED: Self = Self(429);
    /// The user exists already.
    pub const USER_EXISTS: Self = Self(155_101);
    /// There is no such user.
    pub const USER_NOT_FOUND: Self = Self(155_102);
    /// Circle does not know the user token.
    pub const USER_TOKEN_NOT_FOUND: Self = Self(155_103);
    /// The user token has expired; a new one helps.
    pub const USER_TOKEN_EXPIRED: Self = Self(155_104);
    /// The user token is invalid.
    pub const USER_TOKEN_INVALID: Self = Self(155_105);
    /// The user has been initialised already.
    pub const USER_INITIALISED: Self = Self(155_106);
    /// The user has a PIN already.
    pub const PIN_ALREADY_SET: Self = Self(155_107);
    /// The security questions cannot be reset.
    pub const SECURITY_QUESTIONS_NOT_RESETTABLE: Self = Self(155_108);
    /// The user is disabled.
    pub const USER_DISABLED: Self = Self(155_109);
    /// The user has no PIN yet.
    pub const PIN_NOT_SET: Self = Self(155_110);
    /// The user has no security questions yet.
    pub const SECURITY_QUESTIONS_NOT_SET: Self = Self(155_111);
    /// The PIN is wrong.
    pub const INCORRECT_PIN: Self = Self(155_112);
    /// The client SDK's device id is unknown.
    pub const DEVICE_ID_NOT_FOUND: Self = Self(155_113);
    /// The client SDK's device id is invalid.
    pub const DEVICE_ID_INVALID: Self = Self(155_114);
    /// The client SDK's app id is invalid.
    pub const APP_ID_INVALID: Self = Self(155_137);
    /// The answers to the security questions are wrong.
    pub const INCORRECT_ANSWERS: Self = Self(155_115);
    /// There is no such challenge.
    pub const CHALLENGE_NOT_FOUND: Self = Self(155_116);
    /// The content to approve does not match the challenge.
    pub const CONTENT_MISMATCH: Self = Self(155_117);
    /// The encryption key is invalid.
    pub const ENCRYPTION_KEY_INVALID: Self = Self(155_118);
    /// PIN entry is locked.
    pub const PIN_LOCKED: Self = Self(155_119);
    /// Answering the security questions is locked.
    pub const SECURITY_ANSWERS_LOCKED: Self = Self(155_120);
    /// The challenge has expired.
    pub const CHALLENGE_EXPIRED: Self = Self(155_121);
    /// The challenge id is invalid. This service sends only ids that Circle assigned, so there is no such challenge.
    pub const CHALLENGE_ID_INVALID: Self = Self(155_122);
    /// Extra information for a PIN request is missing.
    pub const PIN_INFORMATION_MISSING: Self = Self(155_123);
    /// Extra information for a PIN request is invalid.
    pub const PIN_INFORMATION_INVALID: Self = Self(155_124);
    /// The user cancelled in the client SDK.
    pub const CANCELLED: Self = Self(155_701);
}

impl CircleCode {
    /// Reads a code that Circle wrote as a number or as text.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let text = value.as_str().and_then(|text| text.trim().parse().ok());
        value.as_i64().or(text).map(Self)
    }
}

impl fmt::Display for CircleCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_code_is_read_from_a_number_or_a_text() {
        for value in [json!(155_112), json!("155112"), json!(" 155112 ")] {
            assert_eq!(CircleCode::read(&value), Some(CircleCode::INCORRECT_PIN));
        }
        for value in [json!(null), json!("PIN"), json!(1.5), json!([155_112])] {
            assert_eq!(CircleCode::read(&value), None, "{value}");
        }
    }
}
