//! Challenges: what they are, and which status may follow which. No I/O.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::circle_code::CircleCode;
use crate::failure::FailureReason;
use crate::secrets::redact_foreign_text;
use crate::user_id::UserId;

/// The types of challenge that this service creates, under Circle's names.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::EnumString, strum::IntoStaticStr, strum::EnumIter,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum ChallengeType {
    /// The user knows the PIN and sets a new one.
    ChangePin,
    /// The user has forgotten the PIN, answers the security questions and sets a new one.
    RestorePin,
}

impl ChallengeType {
    /// Reads Circle's name in any case; `None` for a type that this service does not create.
    pub(crate) fn read(name: &str) -> Option<Self> {
        name.to_ascii_uppercase().parse().ok()
    }

    /// Circle's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The status of a challenge, under Circle's names. An unknown name is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumString, strum::AsRefStr, strum::EnumIter)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Created; the user has not started.
    Pending,
    /// The user has started.
    InProgress,
    /// The user has completed it. Circle's guides also write COMPLETED.
    #[strum(to_string = "COMPLETE", serialize = "COMPLETED")]
    Complete,
    /// It ended without success; the error code says why.
    Failed,
    /// It was not finished in time. Only Circle says so.
    Expired,
    /// A status that Circle has added since.
    #[strum(default, transparent)]
    Unknown(String),
}

impl From<String> for Status {
    fn from(name: String) -> Self {
        let known =
            name.to_ascii_uppercase().parse().ok().filter(|status| !matches!(status, Self::Unknown(_)));
        known.unwrap_or(Self::Unknown(name))
    }
}

impl Status {
    /// The name that is stored and returned.
    pub fn as_str(&self) -> &str {
        self.as_ref()
    }

    /// How far along the status is: 0 created, 1 in progress or unknown, 2 failed or expired, 3 complete. A record's status
    /// changes only to one of a higher rank.
    ///
    /// Circle calls FAILED and EXPIRED final. COMPLETE ranks higher all the same: if Circle says that a PIN was changed,
    /// the record must never say otherwise.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::InProgress | Self::Unknown(_) => 1,
            Self::Failed | Self::Expired => FINAL_RANK,
            Self::Complete => COMPLETE_RANK,
        }
    }

    /// Whether a report of this status changes a record of the status `recorded`; `None` if there is no record.
    pub fn replaces(&self, recorded: Option<&Self>) -> bool {
        recorded.is_none_or(|recorded| self.rank() > recorded.rank())
    }

    /// Whether Circle has settled the challenge.
    pub fn is_final(&self) -> bool {
        self.rank() >= FINAL_RANK
    }

    /// Why a challenge of this status ended without success.
    pub fn failure_reason(&self, code: Option<CircleCode>) -> Option<FailureReason> {
        match self {
            Self::Failed => Some(FailureReason::from(code)),
            Self::Expired => Some(FailureReason::Expired),
            _ => None,
        }
    }
}

/// The lowest rank of a final status.
pub const FINAL_RANK: u8 = 2;

/// The rank of COMPLETE, which nothing replaces.
pub const COMPLETE_RANK: u8 = 3;

/// What the creation of a challenge does to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The challenge is open. Its record says that it is requested, and reconciliation checks it.
    Open,
    /// A webhook settled the challenge before its creation was recorded. Its record now says that it is requested.
    Settled,
    /// Nothing: the creation was recorded before, and the challenge is settled.
    Unchanged,
}

impl Creation {
    /// What a creation does to a record of the status `recorded`; `None` if there is no record.
    pub fn on(recorded: Option<&Status>, is_requested: bool) -> Self {
        match recorded {
            Some(status) if status.is_final() && is_requested => Self::Unchanged,
            Some(status) if status.is_final() => Self::Settled,
            _ => Self::Open,
        }
    }
}

/// How this service learned what Circle says about a challenge.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReportSource {
    /// Circle sent a webhook.
    Webhook {
        /// The id of the notification, the same for each of its repeats.
        notification_id: Option<String>,
    },
    /// A caller polled the challenge.
    Poll {
        /// The id that API Gateway gave the request.
        request_id: String,
    },
    /// Reconciliation checked the challenge.
    Reconcile {
        /// The id of the invocation.
        request_id: String,
    },
}

impl ReportSource {
    /// The name that is stored.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// The id of the webhook notification, if it is one.
    pub fn notification_id(&self) -> Option<&str> {
        match self {
            Self::Webhook { notification_id } => notification_id.as_deref(),
            Self::Poll { .. } | Self::Reconcile { .. } => None,
        }
    }

    /// The id that leads to the log lines: of the notification, the request or the invocation.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Webhook { notification_id } => notification_id.as_deref(),
            Self::Poll { request_id } | Self::Reconcile { request_id } => Some(request_id),
        }
    }
}

/// What Circle said about a challenge, in a webhook or when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The challenge.
    pub challenge_id: Uuid,
    /// Its user, if the message names one.
    pub user_id: Option<UserId>,
    /// Its type.
    pub challenge_type: ChallengeType,
    /// Its status.
    pub status: Status,
    /// Why it failed: Circle's code, absent if it is 0.
    pub error_code: Option<CircleCode>,
    /// Why it failed, in Circle's words. Kept for support and never returned to callers.
    pub error_message: Option<String>,
    /// Circle's ids of the operations that the challenge led to.
    pub correlation_ids: Vec<String>,
    /// How the report reached this service.
    pub source: ReportSource,
}

/// The longest status and the longest id that are accepted from Circle, in characters.
pub(crate) const TEXT_LIMIT: usize = 64;

/// How many correlation ids are kept of a challenge.
const CORRELATION_IDS_LIMIT: usize = 20;

impl Report {
    /// Whether the report contradicts the final status of its record. An expired challenge can be EXPIRED in Circle's API
    /// and FAILED with code 155121 in its webhook: these are the same ending.
    pub(crate) fn contradicts(&self, record: &Challenge) -> bool {
        let is_expired = |status: &Status, code| status.failure_reason(code) == Some(FailureReason::Expired);
        let both_expired =
            is_expired(&self.status, self.error_code) && is_expired(&record.status, record.error_code);
        self.status.is_final() && record.status.is_final() && self.status != record.status && !both_expired
    }

    /// Reads a challenge from a notification or from a response of Circle's API. `None` if it has no status. The status
    /// is read from `status`, else from `state`: Circle's documentation has both. Any other member that is missing or
    /// malformed is ignored.
    pub(crate) fn read(
        challenge_id: Uuid,
        challenge_type: ChallengeType,
        challenge: &Value,
        source: ReportSource,
    ) -> Option<Self> {
        let text = |member: &str| challenge[member].as_str().filter(|text| !text.is_empty());
        let status: String = text("status").or(text("state"))?.chars().take(TEXT_LIMIT).collect();
        let is_short = |text: &&str| text.chars().count() <= TEXT_LIMIT;
        let correlation_ids = challenge["correlationIds"].as_array().into_iter().flatten();
        let correlation_ids = correlation_ids.filter_map(Value::as_str).filter(is_short);
        Some(Self {
            challenge_id,
            user_id: text("userId").and_then(|user_id| user_id.parse().ok()),
            challenge_type,
            status: status.into(),
            error_code: CircleCode::read(&challenge["errorCode"]).filter(|code| code.0 != 0),
            error_message: text("errorMessage").map(redact_foreign_text),
            correlation_ids: correlation_ids.take(CORRELATION_IDS_LIMIT).map(str::to_owned).collect(),
            source,
        })
    }
}

/// A challenge record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// The user that it is for.
    pub user_id: Option<UserId>,
    /// Its type.
    pub challenge_type: ChallengeType,
    /// Its status.
    pub status: Status,
    /// When the record was created.
    pub created_at: OffsetDateTime,
    /// When a caller of this service asked for the challenge. Absent if nobody did: another app on the same Circle
    /// account created it, or this service crashed between creating and recording it.
    pub requested_at: Option<OffsetDateTime>,
    /// When the status last changed.
    pub updated_at: OffsetDateTime,
    /// When Circle last said which status the challenge has.
    pub checked_at: OffsetDateTime,
    /// The status before the last change, if a report changed it.
    pub previous_status: Option<Status>,
    /// Why it failed: Circle's code.
    pub error_code: Option<CircleCode>,
    /// The webhook notification that was applied last.
    pub notification_id: Option<String>,
}

impl Challenge {
    /// Whether `user` may see the challenge: that user requested it through this service.
    pub fn is_visible_to(&self, user: &UserId) -> bool {
        self.requested_at.is_some() && self.user_id.as_ref() == Some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_different_endings_contradict_each_other() {
        let challenge_id = Uuid::from_u128(1);
        let report = |status: &str, error_code| Report {
            challenge_id,
            user_id: None,
            challenge_type: ChallengeType::ChangePin,
            status: status.to_owned().into(),
            error_code,
            error_message: None,
            correlation_ids: Vec::new(),
            source: ReportSource::Webhook { notification_id: None },
        };
        let record = |status: &str, error_code| Challenge {
            id: challenge_id,
            user_id: None,
            challenge_type: ChallengeType::ChangePin,
            status: status.to_owned().into(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            requested_at: None,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            checked_at: OffsetDateTime::UNIX_EPOCH,
            previous_status: None,
            error_code,
            notification_id: None,
        };
        let expired = Some(CircleCode::CHALLENGE_EXPIRED);
        let wrong_pin = Some(CircleCode::INCORRECT_PIN);
        for (said, known, contradicts) in [
            (("FAILED", expired), ("EXPIRED", None), false),
            (("EXPIRED", None), ("FAILED", expired), false),
            (("EXPIRED", None), ("FAILED", wrong_pin), true),
            (("FAILED", wrong_pin), ("EXPIRED", None), true),
            (("FAILED", wrong_pin), ("COMPLETE", None), true),
            (("COMPLETE", None), ("FAILED", wrong_pin), true),
            (("COMPLETE", None), ("COMPLETE", None), false),
            (("IN_PROGRESS", None), ("COMPLETE", None), false),
            (("COMPLETE", None), ("IN_PROGRESS", None), false),
        ] {
            let result = report(said.0, said.1).contradicts(&record(known.0, known.1));
            assert_eq!(result, contradicts, "{said:?} {known:?}");
        }
    }

    #[test]
    fn types_keep_circles_names() {
        for name in ["CHANGE_PIN", "RESTORE_PIN"] {
            assert_eq!(name.parse::<ChallengeType>().unwrap().as_str(), name);
        }
        assert!("SET_PIN".parse::<ChallengeType>().is_err());
        assert_eq!(ChallengeType::read("Change_Pin"), Some(ChallengeType::ChangePin));
        assert_eq!(ChallengeType::read("SET_PIN"), None);
    }
}
