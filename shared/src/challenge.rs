//! Challenges: what they are and which status may follow which. No I/O.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::identity::UserId;
use crate::secrets::redact_long_tokens;

/// The challenges that this service makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChallengeType {
    /// The user knows the PIN and sets a new one.
    ChangePin,
    /// The user has forgotten the PIN, answers the security questions and sets a new one.
    RestorePin,
}

impl ChallengeType {
    /// Reads Circle's word; `None` for a type that this service does not make.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "CHANGE_PIN" => Some(Self::ChangePin),
            "RESTORE_PIN" => Some(Self::RestorePin),
            _ => None,
        }
    }

    /// Circle's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChangePin => "CHANGE_PIN",
            Self::RestorePin => "RESTORE_PIN",
        }
    }
}

/// Where a challenge stands, in Circle's words. A word never seen before is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Made, and not started by the user.
    Pending,
    /// The user has started.
    InProgress,
    /// Done. Circle's guides also write COMPLETED.
    Complete,
    /// Ended without success; the error code says why.
    Failed,
    /// Ended by time. Only Circle says so.
    Expired,
    /// A status that Circle has added since.
    Unknown(String),
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "PENDING" => Self::Pending,
            "IN_PROGRESS" => Self::InProgress,
            "COMPLETE" | "COMPLETED" => Self::Complete,
            "FAILED" => Self::Failed,
            "EXPIRED" => Self::Expired,
            _ => Self::Unknown(word),
        }
    }
}

impl Status {
    /// The word that is stored and shown.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Complete => "COMPLETE",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Unknown(word) => word,
        }
    }

    /// How far along the status is: 0 made, 1 under way or unknown, 2 final. A record's rank never falls,
    /// and a final status never changes.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::InProgress | Self::Unknown(_) => 1,
            Self::Complete | Self::Failed | Self::Expired => FINAL_RANK,
        }
    }

    /// Whether Circle has settled the challenge.
    pub fn is_final(&self) -> bool {
        self.rank() == FINAL_RANK
    }
}

/// The rank of every final status.
pub const FINAL_RANK: u8 = 2;

/// Who brought the final status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportSource {
    /// Circle's webhook.
    Webhook,
    /// A caller's question for the status.
    Poll,
    /// The scheduled look at challenges that no webhook has settled.
    Reconcile,
}

impl ReportSource {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Reconcile => "reconcile",
        }
    }
}

/// What Circle said about a challenge, by webhook or when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The challenge.
    pub challenge_id: Uuid,
    /// Its user, where the message names one.
    pub user_id: Option<String>,
    /// Its type.
    pub challenge_type: ChallengeType,
    /// Its status.
    pub status: Status,
    /// Why it failed: Circle's number, absent for 0.
    pub error_code: Option<i64>,
    /// Why it failed, in Circle's words. Kept for support, never shown.
    pub error_message: Option<String>,
    /// Circle's ids of what the challenge led to.
    pub correlation_ids: Vec<String>,
    /// How Circle said it.
    pub settled_by: ReportSource,
    /// The id of the webhook notification, the same for each of its repeats.
    pub notification_id: Option<String>,
}

/// The longest status word and the longest id that are taken from Circle, in characters.
const WORD_LIMIT: usize = 64;

/// How many correlation ids are kept of a challenge.
const IDS_LIMIT: usize = 20;

impl Report {
    /// Reads what Circle says of a challenge, in a notification or when asked; `None` if it does not say how
    /// the challenge stands. That is read from `status`, else from `state`: Circle's documentation has both.
    /// Anything else that is missing or odd is passed over.
    pub(crate) fn read(
        challenge_id: Uuid,
        challenge_type: ChallengeType,
        challenge: &Value,
        settled_by: ReportSource,
        notification_id: Option<&str>,
    ) -> Option<Self> {
        let text = |member: &str| challenge[member].as_str().filter(|text| !text.is_empty());
        let status: String = text("status").or(text("state"))?.chars().take(WORD_LIMIT).collect();
        let is_short = |text: &&str| text.chars().count() <= WORD_LIMIT;
        let correlation_ids = challenge["correlationIds"].as_array().into_iter().flatten();
        let correlation_ids = correlation_ids.filter_map(Value::as_str).filter(is_short);
        Some(Self {
            challenge_id,
            user_id: text("userId").filter(is_short).map(str::to_owned),
            challenge_type,
            status: status.into(),
            error_code: challenge["errorCode"].as_i64().filter(|code| *code != 0),
            error_message: text("errorMessage").map(redact_long_tokens),
            correlation_ids: correlation_ids.take(IDS_LIMIT).map(str::to_owned).collect(),
            settled_by,
            notification_id: notification_id.filter(is_short).map(str::to_owned),
        })
    }
}

/// A challenge record, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// The user that it is for.
    pub user_id: Option<String>,
    /// Its type; a record made by a webhook has it too.
    pub challenge_type: ChallengeType,
    /// Where it stands.
    pub status: Status,
    /// When the record was made.
    pub created_at: OffsetDateTime,
    /// When a caller of this service asked for the challenge. Absent where none did: another app on the
    /// same Circle account, or a creation that died before it was recorded.
    pub requested_at: Option<OffsetDateTime>,
    /// When the status last changed.
    pub updated_at: OffsetDateTime,
    /// Why it failed: Circle's number.
    pub error_code: Option<i64>,
    /// The webhook notification that was applied last.
    pub notification_id: Option<String>,
}

impl Challenge {
    /// Whether `user` may see it: it was requested through this service, by that user.
    pub fn is_visible_to(&self, user: &UserId) -> bool {
        self.requested_at.is_some() && self.user_id.as_deref() == Some(user.as_str())
    }
}

/// A challenge record as callers see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeView<'a> {
    challenge_id: Uuid,
    r#type: ChallengeType,
    status: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

/// Why a challenge failed, as callers see it: a stable reason, our sentence, and Circle's number.
#[derive(Debug, Serialize)]
pub struct Failure {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
    pub(crate) reason: &'static str,
    message: &'static str,
}

impl<'a> From<&'a Challenge> for ChallengeView<'a> {
    fn from(challenge: &'a Challenge) -> Self {
        Self {
            challenge_id: challenge.id,
            r#type: challenge.challenge_type,
            status: challenge.status.as_str(),
            created_at: challenge.created_at,
            updated_at: challenge.updated_at,
            failure: (challenge.status == Status::Failed).then(|| Failure::from(challenge.error_code)),
        }
    }
}

impl From<Option<i64>> for Failure {
    fn from(code: Option<i64>) -> Self {
        // The sentences are for the app's user, like `userMessage` of an error. They may be read long
        // after, and the record does not know when a lock opens: that is Circle's to say (`GET /pin`).
        let (reason, message) = match code {
            Some(155_112) => ("incorrect_pin", "The PIN was wrong. Start again with the right one."),
            Some(155_115) => (
                "incorrect_answers",
                "The answers to your security questions were wrong. Start again with the right ones.",
            ),
            Some(155_119) => (
                "pin_locked",
                "PIN entry was locked for 30 minutes after too many wrong PINs. Wait, or recover your PIN now if you have set security questions.",
            ),
            Some(155_120) => (
                "security_answers_locked",
                "Recovery was locked after too many wrong answers to your security questions. Wait, and start again later.",
            ),
            Some(155_121) => ("expired", "This was not finished in time. Start again."),
            Some(155_701) => ("cancelled", "You have cancelled. Start again whenever you like."),
            _ => ("other", "This did not work. Start again, and contact support if it happens again."),
        };
        Self { code, reason, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_ranks_by_how_far_along_it_is() {
        let rank = |word: &str| Status::from(word.to_owned()).rank();
        assert_eq!(rank("PENDING"), 0);
        assert_eq!(rank("IN_PROGRESS"), 1);
        assert_eq!(rank("SOMETHING_NEW"), 1);
        for word in ["COMPLETE", "COMPLETED", "FAILED", "EXPIRED"] {
            assert_eq!(rank(word), FINAL_RANK);
        }
    }

    #[test]
    fn words_are_kept_and_completed_is_complete() {
        for word in ["PENDING", "IN_PROGRESS", "COMPLETE", "FAILED", "EXPIRED", "SOMETHING_NEW", ""] {
            assert_eq!(Status::from(word.to_owned()).as_str(), word);
        }
        assert_eq!(Status::from("COMPLETED".to_owned()).as_str(), "COMPLETE");
        assert_eq!(ChallengeType::parse("CHANGE_PIN"), Some(ChallengeType::ChangePin));
        assert_eq!(ChallengeType::parse("RESTORE_PIN").unwrap().as_str(), "RESTORE_PIN");
        assert_eq!(ChallengeType::parse("SET_PIN"), None);
    }

    #[test]
    fn a_failure_has_a_stable_reason() {
        let reason = |code| Failure::from(code).reason;
        assert_eq!(reason(Some(155_112)), "incorrect_pin");
        assert_eq!(reason(Some(155_115)), "incorrect_answers");
        assert_eq!(reason(Some(155_119)), "pin_locked");
        assert_eq!(reason(Some(155_120)), "security_answers_locked");
        assert_eq!(reason(Some(155_121)), "expired");
        assert_eq!(reason(Some(155_701)), "cancelled");
        assert_eq!(reason(Some(999_999)), "other");
        assert_eq!(reason(None), "other");
    }
}
