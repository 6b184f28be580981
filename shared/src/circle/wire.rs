//! Circle's answers, as they come. Any field may be missing, and any enumeration may grow.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
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
    pub(super) challenge: Value,
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
    /// The user at `now`: a lock whose end has passed is open, whether or not Circle has noticed yet.
    pub(super) fn at(mut self, now: OffsetDateTime) -> Self {
        for (status, details) in [
            (&mut self.pin_status, &self.pin_details),
            (&mut self.security_question_status, &self.security_question_details),
        ] {
            let until = details.as_ref().and_then(|details| details.locked_expiry_date);
            if *status == Some(PinStatus::Locked) && until.is_some_and(|until| until <= now) {
                *status = Some(PinStatus::Enabled);
            }
        }
        self
    }

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
    /// Wrong entries since the last right one. A number that cannot be read counts as none.
    #[serde(default, deserialize_with = "lenient_count")]
    pub failed_attempts: Option<u32>,
    /// When the lock opens. A date that cannot be read counts as none.
    #[serde(default, deserialize_with = "lenient_date")]
    pub locked_expiry_date: Option<OffsetDateTime>,
}

fn lenient_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let date = Value::deserialize(deserializer)?;
    let date = date.as_str().and_then(|date| OffsetDateTime::parse(date, &Rfc3339).ok());
    // A date at the end of the calendar has no time in UTC.
    Ok(date.and_then(|date| date.checked_to_offset(UtcOffset::UTC)))
}

fn lenient_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_u64().and_then(|count| count.try_into().ok()))
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
    fn a_lock_holds_until_its_end() {
        let user: EndUser = serde_json::from_str(
            r#"{"pinStatus":"LOCKED","pinDetails":{"lockedExpiryDate":"2026-01-01T12:30:00Z"},
                "securityQuestionStatus":"LOCKED"}"#,
        )
        .unwrap();
        let locked = user.clone().at(datetime!(2026-01-01 12:29:59 UTC));
        assert_eq!(locked, user);
        let open = user.at(datetime!(2026-01-01 12:30 UTC));
        assert_eq!(open.pin_status, Some(PinStatus::Enabled));
        assert_eq!(open.security_question_status, Some(PinStatus::Locked), "nobody says until when");
    }

    #[test]
    fn a_date_that_is_none_in_utc_counts_as_none() {
        let details = r#"{"lockedExpiryDate":"9999-12-31T23:59:59-01:00"}"#;
        assert_eq!(serde_json::from_str::<LockDetails>(details).unwrap(), LockDetails::default());
    }

    #[test]
    fn a_user_is_read_whatever_is_missing_or_new() {
        let user: EndUser = serde_json::from_str("{}").unwrap();
        assert_eq!(user, EndUser::default());
        let user: EndUser = serde_json::from_str(
            r#"{"id":"user-1","status":"ENABLED","pinStatus":"LOCKED","securityQuestionStatus":"FROZEN",
                "pinDetails":{"failedAttempts":3,"lockedExpiryDate":"2026-01-01T12:30:00Z"},
                "securityQuestionDetails":{"failedAttempts":-1,"lockedExpiryDate":7},"authMode":"PIN"}"#,
        )
        .unwrap();
        assert_eq!(user.pin_status, Some(PinStatus::Locked));
        assert_eq!(user.security_question_status, Some(PinStatus::Unknown("FROZEN".into())));
        assert_eq!(user.pin_details.unwrap().locked_expiry_date, Some(datetime!(2026-01-01 12:30 UTC)));
        assert_eq!(user.security_question_details, Some(LockDetails::default()));
    }
}
