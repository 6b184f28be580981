//! Challenges: what they are, how Circle shows them, and when it makes one.

use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::knobs::{Knobs, StatusField};
use super::refusal::Refusal;
use super::state::State;
use super::text::date;
use super::users::{FactorStatus, User};
use super::{CircleSimulator, ControlError};

/// What a challenge asks of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChallengeType {
    /// Enter the PIN and choose a new one.
    ChangePin,
    /// Answer the security questions and choose a new PIN.
    RestorePin,
}

/// A challenge as the control API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeView {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// What it asks.
    #[serde(rename = "type")]
    pub challenge_type: ChallengeType,
    /// PENDING, IN_PROGRESS, COMPLETE, FAILED or EXPIRED.
    pub status: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i32>,
    /// Why it failed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When it was made.
    pub create_date: String,
}

pub(super) struct Challenge {
    pub(super) id: Uuid,
    pub(super) user_id: String,
    pub(super) challenge_type: ChallengeType,
    pub(super) status: Status,
    created_at: OffsetDateTime,
    /// The order in which challenges were made.
    number: usize,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    InProgress,
    Complete,
    Failed { code: i32, message: String },
    Expired,
}

impl Status {
    pub(super) fn failed(code: i32, message: &str) -> Self {
        Self::Failed { code, message: message.to_owned() }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Complete => "COMPLETE",
            Self::Failed { .. } => "FAILED",
            Self::Expired => "EXPIRED",
        }
    }

    fn shown<'a>(&self, knobs: &'a Knobs) -> &'a str {
        if *self == Self::Complete { &knobs.complete_word } else { self.name() }
    }

    fn error(&self) -> Option<(i32, &str)> {
        match self {
            Self::Failed { code, message } => Some((*code, message)),
            _ => None,
        }
    }
}

impl Challenge {
    /// Circle's `Challenge`: an error only where it failed.
    pub(super) fn resource(&self, knobs: &Knobs) -> Value {
        let mut resource = json!({
            "id": self.id,
            "type": self.challenge_type,
            "status": self.status.shown(knobs),
            "correlationIds": [],
        });
        if let Some((code, message)) = self.status.error() {
            resource["errorCode"] = code.into();
            resource["errorMessage"] = message.into();
        }
        resource
    }

    /// The `notification` of a webhook: an error always, 0 where there is none.
    fn notification(&self, knobs: &Knobs) -> Value {
        let (code, message) = self.status.error().unwrap_or((0, ""));
        let mut notification = json!({
            "id": self.id,
            "type": self.challenge_type,
            "correlationIds": [],
            "errorCode": code,
            "errorMessage": message,
        });
        let field = if knobs.status_field == StatusField::State { "state" } else { "status" };
        notification[field] = self.status.shown(knobs).into();
        if knobs.notifications_name_user {
            notification["userId"] = self.user_id.as_str().into();
        }
        notification
    }

    fn notification_type<'a>(&self, knobs: &'a Knobs) -> &'a str {
        match self.challenge_type {
            ChallengeType::ChangePin => &knobs.change_pin_notification_type,
            ChallengeType::RestorePin => "challenges.restorePin",
        }
    }

    pub(super) fn is_final(&self) -> bool {
        !matches!(self.status, Status::Pending | Status::InProgress)
    }

    pub(super) fn has_status(&self, name: &str) -> bool {
        self.status.name() == name
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

impl State {
    /// A user's challenges, oldest first.
    pub(super) fn challenges_of(&self, user_id: &str) -> Vec<&Challenge> {
        let mut challenges: Vec<_> = self.challenges.values().filter(|one| one.user_id == user_id).collect();
        challenges.sort_by_key(|challenge| challenge.number);
        challenges
    }

    /// Whether Circle makes a challenge of this type for the user, who is not disabled, now.
    fn may_challenge(&self, user: &User, wanted: ChallengeType, now: OffsetDateTime) -> Result<(), Refusal> {
        let status = self.knobs.undocumented_error_status;
        match (wanted, user.pin.status(now), user.security_questions.status(now)) {
            (_, FactorStatus::Unset, _) => Err(Refusal::pin_not_set(status)),
            (ChallengeType::ChangePin, FactorStatus::Locked, _) => Err(Refusal::pin_locked(status)),
            (ChallengeType::RestorePin, _, FactorStatus::Unset) => {
                Err(Refusal::security_questions_not_set(status))
            }
            (ChallengeType::RestorePin, _, FactorStatus::Locked) => {
                Err(Refusal::security_questions_locked(status))
            }
            _ => Ok(()),
        }
    }
}

impl CircleSimulator {
    /// Makes a challenge and announces it as PENDING.
    pub(super) fn make_challenge(
        &self,
        state: &mut State,
        user_id: &str,
        challenge_type: ChallengeType,
    ) -> Result<Uuid, Refusal> {
        let now = self.now();
        let user = state.users.get(user_id).ok_or_else(Refusal::no_such_user)?;
        state.may_challenge(user, challenge_type, now)?;
        let challenge = Challenge {
            id: self.core.random.uuid(),
            user_id: user_id.to_owned(),
            challenge_type,
            status: Status::Pending,
            created_at: now,
            number: state.challenges.len(),
        };
        let id = challenge.id;
        state.challenges.insert(id, challenge);
        self.announce_challenge(state, id);
        Ok(id)
    }

    /// All challenges, oldest first.
    pub fn challenges(&self) -> Vec<ChallengeView> {
        let state = self.state();
        let mut challenges: Vec<_> = state.challenges.values().collect();
        challenges.sort_by_key(|challenge| challenge.number);
        challenges.into_iter().map(Challenge::view).collect()
    }

    /// One challenge.
    pub fn challenge(&self, id: Uuid) -> Result<ChallengeView, ControlError> {
        self.state().challenges.get(&id).map(Challenge::view).ok_or_else(|| no_challenge(id))
    }

    pub(super) fn announce_challenge(&self, state: &mut State, id: Uuid) {
        let Some(challenge) = state.challenges.get(&id) else { return };
        let notification_type = challenge.notification_type(&state.knobs).to_owned();
        let notification = challenge.notification(&state.knobs);
        self.announce(state, &notification_type, &notification);
    }
}

pub(super) fn no_challenge(id: Uuid) -> ControlError {
    ControlError::NotFound(format!("there is no challenge {id}"))
}
