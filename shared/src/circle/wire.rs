//! Circle's answers, as they come. Any field may be missing, and any enumeration may grow.

use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::secrets::{EncryptionKey, UserToken};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionCreated {
    pub(super) user_token: UserToken,
    pub(super) encryption_key: EncryptionKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChallengeCreated {
    pub(super) challenge_id: Uuid,
}

#[derive(Deserialize)]
pub(super) struct ChallengeFound {
    pub(super) challenge: FoundChallenge,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundChallenge {
    pub(super) r#type: String,
    pub(super) status: String,
    pub(super) error_code: Option<i64>,
    pub(super) error_message: Option<String>,
    pub(super) correlation_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct UserFound {
    pub(super) user: EndUser,
}

/// A user, as Circle sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndUser {
    /// ENABLED or DISABLED.
    pub status: Option<String>,
    /// Whether there is a PIN, and whether it is locked.
    pub pin_status: Option<PinStatus>,
    /// The same of the security questions.
    pub security_question_status: Option<PinStatus>,
    /// Failed attempts and locks of the PIN.
    #[serde(default)]
    pub pin_details: Option<LockDetails>,
    /// Failed attempts and locks of the security questions.
    #[serde(default)]
    pub security_question_details: Option<LockDetails>,
}

impl EndUser {
    /// Whether Circle lets the user do nothing at all.
    pub fn is_disabled(&self) -> bool {
        self.status.as_deref() == Some("DISABLED")
    }
}

/// The state of a PIN or of the security questions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum PinStatus {
    /// Set, and open for entry.
    Enabled,
    /// Never set.
    Unset,
    /// Set, and closed for entry for a while.
    Locked,
    /// A state that Circle has added since.
    Unknown(String),
}

impl From<String> for PinStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "ENABLED" => Self::Enabled,
            "UNSET" => Self::Unset,
            "LOCKED" => Self::Locked,
            _ => Self::Unknown(word),
        }
    }
}

impl PinStatus {
    /// Circle's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Unset => "UNSET",
            Self::Locked => "LOCKED",
            Self::Unknown(word) => word,
        }
    }
}

/// Failed attempts and locks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockDetails {
    /// Wrong entries since the last right one.
    pub failed_attempts: Option<u32>,
    /// When the lock opens. A date that cannot be read counts as none.
    #[serde(default, deserialize_with = "lenient_date")]
    pub locked_expiry_date: Option<OffsetDateTime>,
}

fn lenient_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let date = Option::<String>::deserialize(deserializer)?;
    Ok(date.and_then(|date| OffsetDateTime::parse(&date, &Rfc3339).ok()))
}

/// A key that Circle signs webhooks with. A key id's key never changes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicKey {
    /// `ECDSA_SHA_256`.
    pub algorithm: String,
    /// Base64 of the DER form (`SubjectPublicKeyInfo`).
    pub public_key: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_user_is_read_whatever_is_missing_or_new() {
        let user: EndUser = serde_json::from_str("{}").unwrap();
        assert_eq!(user, EndUser::default());
        let user: EndUser = serde_json::from_str(
            r#"{"id":"user-1","status":"ENABLED","pinStatus":"LOCKED","securityQuestionStatus":"FROZEN",
                "pinDetails":{"failedAttempts":3,"lockedExpiryDate":"2026-01-01T12:30:00Z"},
                "securityQuestionDetails":{"lockedExpiryDate":"soon"},"authMode":"PIN"}"#,
        )
        .unwrap();
        assert_eq!(user.pin_status, Some(PinStatus::Locked));
        assert_eq!(user.security_question_status, Some(PinStatus::Unknown("FROZEN".into())));
        assert_eq!(user.pin_details.unwrap().locked_expiry_date, Some(datetime!(2026-01-01 12:30 UTC)));
        assert_eq!(user.security_question_details.unwrap().locked_expiry_date, None);
    }
}
