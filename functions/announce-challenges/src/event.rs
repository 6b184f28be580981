//! The events that a change of a record causes, and their content. No I/O.

use serde::Serialize;
use shared::challenge::{Challenge, ChallengeType};
use shared::circle_code::CircleCode;
use shared::dynamodb::StoreError;
use shared::failure::FailureReason;
use time::OffsetDateTime;
use uuid::Uuid;

/// The source of all events.
pub(crate) const SOURCE: &str = "circle-pin-reset";

const CHANGE_REQUESTED: &str = "PIN Change Requested";
const RECOVERY_REQUESTED: &str = "PIN Recovery Requested";
const SETTLED: &str = "PIN Challenge Settled";

/// The detail-types of the events.
pub const DETAIL_TYPES: [&str; 3] = [CHANGE_REQUESTED, RECOVERY_REQUESTED, SETTLED];

/// The version of the details. It rises if a member is removed, renamed, or gets another meaning.
const VERSION: u8 = 1;

/// An event. It is smaller than 1 KB: its texts are ids, times, names of this service, and a user id of at most 50
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The challenge.
    pub(crate) challenge_id: Uuid,
    /// One of [`DETAIL_TYPES`].
    pub(crate) detail_type: &'static str,
    /// When the record changed. `None` if an operator wants to publish the event again.
    pub(crate) changed_at: Option<OffsetDateTime>,
    /// A JSON object.
    pub detail: String,
    /// The trace that the event is part of, if its record names one.
    pub(crate) traceparent: Option<String>,
}

/// The detail of an event. Every member is always present.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    version: u8,
    challenge_id: Uuid,
    user_id: &'a str,
    r#type: ChallengeType,
    #[serde(flatten)]
    change: Change<'a>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Change<'a> {
    Requested {
        #[serde(with = "time::serde::rfc3339")]
        requested_at: OffsetDateTime,
    },
    Settled {
        status: &'a str,
        reason: Option<FailureReason>,
        circle_code: Option<CircleCode>,
        #[serde(with = "time::serde::rfc3339")]
        updated_at: OffsetDateTime,
    },
}

impl Change<'_> {
    fn detail_type(&self, challenge_type: ChallengeType) -> &'static str {
        match (self, challenge_type) {
            (Self::Requested { .. }, ChallengeType::ChangePin) => CHANGE_REQUESTED,
            (Self::Requested { .. }, ChallengeType::RestorePin) => RECOVERY_REQUESTED,
            (Self::Settled { .. }, _) => SETTLED,
        }
    }
}

/// The events of a record that changed from `old` to `new`, in the order in which they are published.
///
/// A record of a challenge that nobody requested counts as none. So a request that is recorded after the final webhook
/// causes two events.
///
/// # Errors
/// If the record causes an event but names no user.
pub fn events(old: Option<&Challenge>, new: &Challenge) -> Result<Vec<Event>, StoreError> {
    let Some(requested_at) = new.requested_at else { return Ok(Vec::new()) };
    let old_rank = old.filter(|old| old.requested_at.is_some()).map(|old| old.status.rank());
    let requested = old_rank.is_none().then_some(Change::Requested { requested_at });
    let is_settled = new.status.is_final() && old_rank < Some(new.status.rank());
    let settled = is_settled.then(|| Change::Settled {
        status: new.status.as_str(),
        reason: new.status.failure_reason(new.error_code),
        circle_code: new.error_code,
        updated_at: new.updated_at,
    });
    // A final webhook can be older than the request that makes the record one of this service.
    let changed_at = new.updated_at.max(requested_at);
    requested.into_iter().chain(settled).map(|change| event(new, change, changed_at)).collect()
}

fn event(challenge: &Challenge, change: Change<'_>, changed_at: OffsetDateTime) -> Result<Event, StoreError> {
    let user_id = challenge.user_id.as_ref().ok_or(StoreError::Unreadable { attribute: "userId" })?;
    let (challenge_id, challenge_type) = (challenge.id, challenge.challenge_type);
    let (detail_type, user_id) = (change.detail_type(challenge_type), user_id.as_str());
    let detail = Detail { version: VERSION, challenge_id, user_id, r#type: challenge_type, change };
    let detail = serde_json::to_string(&detail).expect("texts and numbers can be written as JSON");
    Ok(Event { challenge_id, detail_type, changed_at: Some(changed_at), detail, traceparent: None })
}
