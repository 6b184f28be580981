//! Challenges: their states, their JSON forms, and the conditions for a new one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::api_error::{ApiError, CHALLENGE_EXPIRED};
use super::dates::date;
use super::knobs::{Knobs, StatusField};
use super::users::{FactorStatus, User};
use super::{CircleSimulator, ControlError, Expiry};

/// What the user has to do in a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChallengeType {
    /// Enter the PIN and choose a new one.
    ChangePin,
    /// Answer the security questions and choose a new PIN.
    RestorePin,
}

/// A challenge in the form of the control API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeView {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// The user who has to approve it.
    pub user_id: String,
    /// What the user has to do.
    #[serde(rename = "type")]
    pub challenge_type: ChallengeType,
    /// PENDING, IN_PROGRESS, COMPLETE, FAILED or EXPIRED.
    pub status: &'static str,
    /// Circle's code for the reason, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i32>,
    /// The message that comes with the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When it was created.
    pub create_date: String,
}

pub(super) struct Challenge {
    pub(super) id: Uuid,
    pub(super) user_id: String,
    pub(super) challenge_type: ChallengeType,
    pub(super) status: Status,
    created_at: OffsetDateTime,
    /// The point of monotonic time at which it expires, if it does.
    pub(super) expires_at: Option<Duration>,
}

/// The `notification` of a challenge's webhook.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(rename = "type")]
    challenge_type: ChallengeType,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    correlation_ids: [String; 0],
    error_code: i32,
    error_message: String,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    InProgress,
    Complete,
    Failed {
        code: i32,
        message: String,
    },
    Expired,
    /// EXPIRED in responses, and FAILED with 155121 in webhooks.
    ExpiredAnnouncedAsFailed,
    /// An error in responses, and FAILED with 155121 in webhooks.
    ExpiredAsError,
}

impl Status {
    pub(super) fn failed(code: i32, message: &str) -> Self {
        Self::Failed { code, message: message.to_owned() }
    }

    pub(super) fn expired(expiry: Expiry) -> Self {
        match expiry {
            Expiry::Expired => Self::Expired,
            Expiry::Failed => Self::failed(155_121, CHALLENGE_EXPIRED),
            Expiry::Mixed => Self::ExpiredAnnouncedAsFailed,
            Expiry::Error => Self::ExpiredAsError,
        }
    }

    /// The status in webhooks, if it differs from the one in responses.
    fn announced(&self) -> Self {
        match self {
            Self::ExpiredAnnouncedAsFailed | Self::ExpiredAsError => Self::failed(155_121, CHALLENGE_EXPIRED),
            other => other.clone(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Complete => "COMPLETE",
            Self::Failed { .. } => "FAILED",
            Self::Expired | Self::ExpiredAnnouncedAsFailed | Self::ExpiredAsError => "EXPIRED",
        }
    }

    /// The value that Circle sends.
    fn wire_value<'a>(&self, knobs: &'a Knobs) -> &'a str {
        if *self == Self::Complete { &knobs.complete_status } else { self.name() }
    }

    fn error(&self) -> Option<(i32, &str)> {
        match self {
            Self::Failed { code, message } => Some((*code, message)),
            _ => None,
        }
    }
}

impl Challenge {
    /// Circle's `Challenge`. It has an error only if the challenge failed.
    pub(super) fn resource(&self, knobs: &Knobs) -> Value {
        let mut resource = json!({
            "id": self.id,
            "type": self.challenge_type,
            "status": self.status.wire_value(knobs),
            "correlationIds": [],
        });
        if let Some((code, message)) = self.status.error() {
            resource["errorCode"] = code.into();
            resource["errorMessage"] = message.into();
        }
        resource
    }

    /// The `notification` of a webhook, with its members in Circle's order. It always has an error code, which is 0
    /// if the challenge did not fail.
    pub(super) fn notification(&self, knobs: &Knobs) -> impl Serialize + use<> {
        let announced = self.status.announced();
        let (code, message) = announced.error().unwrap_or((0, ""));
        let value = announced.wire_value(knobs).to_owned();
        let (status, state) = match knobs.status_field {
            StatusField::Status => (Some(value), None),
            StatusField::State => (None, Some(value)),
        };
        Notification {
            id: self.id,
            user_id: knobs.notifications_name_user.then(|| self.user_id.clone()),
            challenge_type: self.challenge_type,
            status,
            state,
            correlation_ids: [],
            error_code: code,
            error_message: message.to_owned(),
        }
    }

    pub(super) fn notification_type<'a>(&self, knobs: &'a Knobs) -> &'a str {
        match self.challenge_type {
            ChallengeType::ChangePin => &knobs.change_pin_notification_type,
            ChallengeType::RestorePin => "challenges.restorePin",
        }
    }

    pub(super) fn is_final(&self) -> bool {
        !matches!(self.status, Status::Pending | Status::InProgress)
    }

    pub(super) fn view(&self) -> ChallengeView {
        let error = self.status.error();
        ChallengeView {
            id: self.id,
            user_id: self.user_id.clone(),
            challenge_type: self.challenge_type,
            status: self.status.name(),
            error_code: error.map(|(code, _)| code),
            error_message: error.map(|(_, message)| message.to_owned()),
            create_date: date(self.created_at),
        }
    }
}

/// How many challenges are kept. The oldest ones are forgotten.
const MAX_CHALLENGES: usize = 100_000;

/// The latest challenges, and the idempotency keys that they were created with.
#[derive(Default)]
pub(super) struct Challenges {
    by_id: HashMap<Uuid, Challenge>,
    by_idempotency_key: HashMap<Uuid, Uuid>,
    /// The ids and the idempotency keys, the oldest first.
    order: VecDeque<(Uuid, Uuid)>,
}

impl Challenges {
    /// Adds a challenge that is PENDING.
    pub(super) fn add(
        &mut self,
        id: Uuid,
        idempotency_key: Uuid,
        user_id: &str,
        challenge_type: ChallengeType,
        created_at: OffsetDateTime,
        expires_at: Option<Duration>,
    ) {
        let user_id = user_id.to_owned();
        let challenge =
            Challenge { id, user_id, challenge_type, status: Status::Pending, created_at, expires_at };
        self.by_id.insert(id, challenge);
        self.by_idempotency_key.insert(idempotency_key, id);
        self.order.push_back((id, idempotency_key));
        if self.order.len() > MAX_CHALLENGES
            && let Some((id, idempotency_key)) = self.order.pop_front()
        {
            self.by_id.remove(&id);
            self.by_idempotency_key.remove(&idempotency_key);
        }
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&Challenge> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: Uuid) -> Option<&mut Challenge> {
        self.by_id.get_mut(&id)
    }

    /// The id of the challenge that was created with this idempotency key.
    pub(super) fn with_idempotency_key(&self, key: Uuid) -> Option<Uuid> {
        self.by_idempotency_key.get(&key).copied()
    }

    /// The oldest challenge first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Challenge> {
        self.order.iter().filter_map(|(id, _)| self.by_id.get(id))
    }
}

/// Whether Circle creates a challenge of the type `wanted` for the user now.
///
/// `status` is the HTTP status of the error, because Circle does not document it.
pub(super) fn check_preconditions(
    user: &User,
    wanted: ChallengeType,
    now: OffsetDateTime,
    status: u16,
) -> Result<(), ApiError> {
    match (wanted, user.pin.status(now), user.security_questions.status(now)) {
        (_, FactorStatus::Unset, _) => Err(ApiError::pin_not_set(status)),
        (ChallengeType::ChangePin, FactorStatus::Locked, _) => Err(ApiError::pin_locked(status)),
        (ChallengeType::RestorePin, _, FactorStatus::Unset) => {
            Err(ApiError::security_questions_not_set(status))
        }
        (ChallengeType::RestorePin, _, FactorStatus::Locked) => {
            Err(ApiError::security_questions_locked(status))
        }
        _ => Ok(()),
    }
}

impl CircleSimulator {
    /// All challenges, the oldest first.
    pub fn challenges(&self) -> Vec<ChallengeView> {
        self.state().challenges.in_order().map(Challenge::view).collect()
    }

    /// One challenge.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn challenge(&self, id: Uuid) -> Result<ChallengeView, ControlError> {
        let state = self.state();
        state.challenges.get(id).map(Challenge::view).ok_or_else(|| ControlError::no_challenge(id))
    }
}
