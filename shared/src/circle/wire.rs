//! Circle's responses as they come. Any member may be missing, and any enumeration may grow.

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

/// A user as Circle knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndUser {
    /// ENABLED or DISABLED.
    pub status: Option<String>,
    /// How the user signs in to Circle: `PIN`, or another method such as `EMAIL`, with which there is no PIN. Circle's API
    /// reference does not list it, but its responses have it.
    pub auth_mode: Option<String>,
    /// Whether the user has a PIN, and whether it is locked.
    pub pin_status: Option<PinStatus>,
    /// The same for the security questions.
    pub security_question_status: Option<PinStatus>,
    /// Failed attempts and locks of the PIN.
    #[serde(default)]
    pub pin_details: Option<LockDetails>,
    /// Failed attempts and locks of the security questions.
    #[serde(default)]
    pub security_question_details: Option<LockDetails>,
}

impl EndUser {
    /// The user at `now`: a lock is open once its end has passed, even if Circle still reports it as locked.
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

    /// Whether Circle has disabled the user.
    pub fn is_disabled(&self) -> bool {
        self.status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("DISABLED"))
    }

    /// Whether the user signs in to Circle in a way that has no PIN.
    pub fn has_other_auth_mode(&self) -> bool {
        self.auth_mode.as_deref().is_some_and(|mode| !mode.is_empty() && !mode.eq_ignore_ascii_case("PIN"))
    }
}

/// The state of a PIN or of the security questions, under Circle's names. An unknown name is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, strum::EnumString, strum::AsRefStr)]
#[serde(from = "String")]
#[strum(serialize_all = "UPPERCASE")]
pub enum PinStatus {
    /// Set, and open for entry.
    Enabled,
    /// Never set.
    Unset,
    /// Set, and locked for a while.
    Locked,
    /// A state that Circle has added since.
    #[strum(default, transparent)]
    Unknown(String),
}

impl From<String> for PinStatus {
    fn from(name: String) -> Self {
        let known =
            name.to_ascii_uppercase().parse().ok().filter(|status| !matches!(status, Self::Unknown(_)));
        known.unwrap_or(Self::Unknown(name))
    }
}

impl PinStatus {
    /// The name as Circle sent it.
    pub fn as_str(&self) -> &str {
        self.as_ref()
    }
}

/// Failed attempts and locks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockDetails {
    /// Incorrect entries since the last correct one; `None` if Circle's value is not a count.
    #[serde(default, deserialize_with = "lenient_count")]
    pub failed_attempts: Option<u32>,
    /// When the lock opens; `None` if Circle's value is not a date.
    #[serde(default, deserialize_with = "lenient_date")]
    pub locked_expiry_date: Option<OffsetDateTime>,
}

fn lenient_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let date = Value::deserialize(deserializer)?;
    let date = date.as_str().and_then(|date| OffsetDateTime::parse(date, &Rfc3339).ok());
    // A date at the end of the calendar may not exist in UTC.
    Ok(date.and_then(|date| date.checked_to_offset(UtcOffset::UTC)))
}

fn lenient_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_u64().and_then(|count| count.try_into().ok()))
}

/// A public key that verifies Circle's webhook signatures. The key behind an id never changes.
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
    fn user_without_a_pin_is_disabled_or_signs_in_in_another_way() {
        let user = |user: Value| serde_json::from_value::<EndUser>(user).unwrap();
        for (status, is_disabled) in [("DISABLED", true), ("disabled", true), ("ENABLED", false), ("", false)]
        {
            assert_eq!(user(serde_json::json!({ "status": status })).is_disabled(), is_disabled, "{status}");
        }
        for (mode, is_other) in [("EMAIL", true), ("PIN", false), ("pin", false), ("", false)] {
            assert_eq!(
                user(serde_json::json!({ "authMode": mode })).has_other_auth_mode(),
                is_other,
                "{mode}"
            );
        }
        assert!(!EndUser::default().is_disabled() && !EndUser::default().has_other_auth_mode());
    }

    #[test]
    fn state_of_a_pin_keeps_circles_name() {
        for name in ["ENABLED", "UNSET", "LOCKED", "Frozen"] {
            assert_eq!(PinStatus::from(name.to_owned()).as_str(), name);
        }
    }

    #[test]
    fn lock_holds_until_its_end() {
        let user: EndUser = serde_json::from_str(
            r#"{"pinStatus":"LOCKED","pinDetails":{"lockedExpiryDate":"2026-01-01T12:30:00Z"},
                "securityQuestionStatus":"LOCKED"}"#,
        )
        .unwrap();
        let locked = user.clone().at(datetime!(2026-01-01 12:29:59 UTC));
        assert_eq!(locked, user);
        let open = user.at(datetime!(2026-01-01 12:30 UTC));
        assert_eq!(open.pin_status, Some(PinStatus::Enabled));
        assert_eq!(open.security_question_status, Some(PinStatus::Locked), "it has no known end");
    }

    #[test]
    fn date_that_does_not_exist_in_utc_is_ignored() {
        let details = r#"{"lockedExpiryDate":"9999-12-31T23:59:59-01:00"}"#;
        assert_eq!(serde_json::from_str::<LockDetails>(details).unwrap(), LockDetails::default());
    }

    #[test]
    fn user_is_read_if_members_are_missing_or_unknown() {
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
