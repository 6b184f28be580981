//! Challenges as callers see them.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::challenge::{Challenge, ChallengeType};
use crate::circle_code::CircleCode;
use crate::failure::FailureReason;

/// How long three incorrect PINs lock PIN entry, by Circle's documentation.
const PIN_LOCK: Duration = Duration::from_secs(30 * 60);

/// A challenge as callers see it.
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
    #[serde(with = "time::serde::rfc3339")]
    checked_at: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

/// Why a challenge ended without success.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    reason: FailureReason,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    circle_code: Option<CircleCode>,
    /// The latest time at which the lock opens. Circle has the exact time (`GET /pin`).
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    locked_until: Option<OffsetDateTime>,
}

/// How long a client should wait before it asks for the challenge again: 3 seconds at first, and longer the older the
/// challenge is, up to a minute. `None` for a settled challenge.
pub fn poll_interval(challenge: &Challenge, now: OffsetDateTime) -> Option<Duration> {
    let age = Duration::try_from(now - challenge.created_at).unwrap_or_default();
    let interval = (age / 20).clamp(Duration::from_secs(3), Duration::from_secs(60));
    (!challenge.status.is_final()).then_some(interval)
}

impl<'a> From<&'a Challenge> for ChallengeView<'a> {
    fn from(challenge: &'a Challenge) -> Self {
        Self {
            challenge_id: challenge.id,
            r#type: challenge.challenge_type,
            status: challenge.status.as_str(),
            created_at: challenge.created_at,
            updated_at: challenge.updated_at,
            checked_at: challenge.checked_at,
            failure: Failure::of(challenge),
        }
    }
}

impl Failure {
    fn of(challenge: &Challenge) -> Option<Self> {
        let reason = challenge.status.failure_reason(challenge.error_code)?;
        let is_pin_lock = reason == FailureReason::PinLocked;
        Some(Self {
            reason,
            message: reason.message(),
            circle_code: challenge.error_code,
            locked_until: is_pin_lock.then(|| challenge.updated_at + PIN_LOCK),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::Status;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    fn challenge(status: Status, error_code: Option<CircleCode>) -> Challenge {
        Challenge {
            id: Uuid::from_u128(1),
            user_id: None,
            challenge_type: ChallengeType::ChangePin,
            status,
            created_at: NOON,
            requested_at: Some(NOON),
            updated_at: NOON,
            checked_at: NOON,
            previous_status: None,
            error_code,
            notification_id: None,
        }
    }

    #[test]
    fn only_failed_and_expired_challenges_have_a_failure() {
        let failure = |status, code| {
            let view = serde_json::to_value(ChallengeView::from(&challenge(status, code))).unwrap();
            view.get("failure").cloned()
        };
        assert_eq!(failure(Status::Complete, None), None);
        assert_eq!(failure(Status::InProgress, Some(CircleCode::INCORRECT_PIN)), None);
        let failed = failure(Status::Failed, Some(CircleCode::INCORRECT_PIN)).unwrap();
        assert_eq!((&failed["reason"], &failed["circleCode"]), (&"incorrect_pin".into(), &155_112.into()));
        assert_eq!(failed.get("lockedUntil"), None);
        let locked = failure(Status::Failed, Some(CircleCode::PIN_LOCKED)).unwrap();
        assert_eq!(locked["lockedUntil"], "2026-01-01T12:30:00Z");
        let expired = failure(Status::Expired, None).unwrap();
        assert_eq!((&expired["reason"], expired.get("circleCode")), (&"expired".into(), None));
    }

    #[test]
    fn clients_poll_less_often_the_older_an_open_challenge_is() {
        let pending = challenge(Status::Pending, None);
        let interval = |minutes: u64| poll_interval(&pending, NOON + Duration::from_secs(minutes * 60));
        assert_eq!(interval(0), Some(Duration::from_secs(3)));
        assert_eq!(interval(1), Some(Duration::from_secs(3)));
        assert_eq!(interval(10), Some(Duration::from_secs(30)));
        assert_eq!(interval(60), Some(Duration::from_secs(60)));
        assert_eq!(poll_interval(&challenge(Status::Failed, None), NOON), None);
    }
}
