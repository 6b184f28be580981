//! What a user does with a challenge on the device, and how it ends.

use serde::Deserialize;
use uuid::Uuid;

use super::challenges::{Challenge, ChallengeType, ChallengeView, Status, no_challenge};
use super::refusal::{PIN_LOCKED, SECURITY_QUESTIONS_LOCKED};
use super::state::State;
use super::users::{FactorStatus, User};
use super::{CircleSimulator, ControlError};

/// What the user types where the PIN is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PinEntry {
    /// The PIN entered, compared with the user's.
    pub pin: Option<String>,
    /// Whether the entry is right, where the value does not matter.
    pub correct: Option<bool>,
    /// The PIN to have from then on; without one it stays as it is.
    pub new_pin: Option<String>,
}

impl PinEntry {
    /// The right PIN, whatever it is.
    pub fn right() -> Self {
        Self { correct: Some(true), ..Self::default() }
    }

    /// A wrong PIN.
    pub fn wrong() -> Self {
        Self { correct: Some(false), ..Self::default() }
    }

    /// A PIN as typed.
    pub fn typed(pin: &str) -> Self {
        Self { pin: Some(pin.to_owned()), ..Self::default() }
    }
}

/// How Circle says that a challenge expired; its documentation shows both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Expiry {
    /// The status EXPIRED.
    #[default]
    Expired,
    /// The status FAILED with the code 155121.
    Failed,
}

impl CircleSimulator {
    /// The user opens a challenge on the device: it is IN_PROGRESS.
    pub fn start_challenge(&self, id: Uuid) -> Result<ChallengeView, ControlError> {
        self.work_on(id, |_, _| Ok(None))
    }

    /// The user enters the PIN. The right one completes a CHANGE_PIN challenge; a wrong one is counted, and the
    /// third locks the PIN for 30 minutes and fails the challenge (155119).
    pub fn enter_pin(&self, id: Uuid, entry: PinEntry) -> Result<ChallengeView, ControlError> {
        let now = self.now();
        self.work_on(id, |state, challenge_type| {
            if challenge_type != ChallengeType::ChangePin {
                return Err(invalid("a RESTORE_PIN challenge asks for security answers, not for the PIN"));
            }
            let fails = state.knobs.wrong_pin_fails_challenge;
            let user = user_of(state, id)?;
            let right = match (entry.correct, &entry.pin, &user.pin_value) {
                (Some(correct), None, _) => correct,
                (None, Some(pin), Some(right)) => pin == right,
                (None, Some(_), None) => {
                    return Err(invalid("no PIN value is known for this user: give {\"correct\": true}"));
                }
                _ => return Err(invalid("give either pin or correct")),
            };
            if user.pin.status(now) == FactorStatus::Locked {
                return Ok(Some(Status::failed(155_119, PIN_LOCKED)));
            }
            if right {
                user.pin.right_entry();
                user.pin_value = entry.new_pin.or(user.pin_value.take());
                return Ok(Some(Status::Complete));
            }
            if user.pin.wrong_entry(now) {
                return Ok(Some(Status::failed(155_119, PIN_LOCKED)));
            }
            Ok(fails.then(|| Status::failed(155_112, "The PIN is wrong")))
        })
    }

    /// The user answers the security questions of a RESTORE_PIN challenge. Right answers complete it and unlock the
    /// PIN; wrong ones are counted, and the third lock the questions for 30 minutes and fail the challenge (155120).
    pub fn answer_security_questions(
        &self,
        id: Uuid,
        correct: bool,
        new_pin: Option<String>,
    ) -> Result<ChallengeView, ControlError> {
        let now = self.now();
        self.work_on(id, |state, challenge_type| {
            if challenge_type != ChallengeType::RestorePin {
                return Err(invalid("a CHANGE_PIN challenge asks for the PIN, not for security answers"));
            }
            let fails = state.knobs.wrong_answers_fail_challenge;
            let user = user_of(state, id)?;
            let locked = user.security_questions.status(now) == FactorStatus::Locked;
            if locked || (!correct && user.security_questions.wrong_entry(now)) {
                return Ok(Some(Status::failed(155_120, SECURITY_QUESTIONS_LOCKED)));
            }
            if !correct {
                return Ok(fails.then(|| Status::failed(155_115, "The security answers are wrong")));
            }
            user.security_questions.right_entry();
            user.pin.right_entry();
            user.pin_value = new_pin.or(user.pin_value.take());
            Ok(Some(Status::Complete))
        })
    }

    /// The user turns away: FAILED 155701.
    pub fn cancel_challenge(&self, id: Uuid) -> Result<ChallengeView, ControlError> {
        self.fail_challenge(id, 155_701, "The user cancelled the challenge")
    }

    /// The challenge ends as FAILED with any code.
    pub fn fail_challenge(&self, id: Uuid, code: i32, message: &str) -> Result<ChallengeView, ControlError> {
        self.settle(id, Status::failed(code, message))
    }

    /// The challenge is given up by Circle.
    pub fn expire_challenge(&self, id: Uuid, expiry: Expiry) -> Result<ChallengeView, ControlError> {
        self.settle(
            id,
            match expiry {
                Expiry::Expired => Status::Expired,
                Expiry::Failed => Status::failed(155_121, "The challenge has expired"),
            },
        )
    }

    /// Opens the challenge if it is PENDING, lets `work` happen, and ends the challenge if that says how.
    fn work_on(
        &self,
        id: Uuid,
        work: impl FnOnce(&mut State, ChallengeType) -> Result<Option<Status>, ControlError>,
    ) -> Result<ChallengeView, ControlError> {
        let mut state = self.state();
        let challenge_type = open_challenge(&mut state, id)?.challenge_type;
        let outcome = work(&mut state, challenge_type)?;
        if open_challenge(&mut state, id)?.status == Status::Pending {
            self.change_status(&mut state, id, Status::InProgress)?;
        }
        if let Some(status) = outcome {
            self.change_status(&mut state, id, status)?;
        }
        state.challenges.get(&id).map(Challenge::view).ok_or_else(|| no_challenge(id))
    }

    fn settle(&self, id: Uuid, status: Status) -> Result<ChallengeView, ControlError> {
        let mut state = self.state();
        self.change_status(&mut state, id, status)?;
        state.challenges.get(&id).map(Challenge::view).ok_or_else(|| no_challenge(id))
    }

    /// One webhook for each change.
    fn change_status(&self, state: &mut State, id: Uuid, status: Status) -> Result<(), ControlError> {
        open_challenge(state, id)?.status = status;
        self.announce_challenge(state, id);
        Ok(())
    }
}

fn open_challenge(state: &mut State, id: Uuid) -> Result<&mut Challenge, ControlError> {
    let challenge = state.challenges.get_mut(&id).ok_or_else(|| no_challenge(id))?;
    if challenge.is_final() {
        return Err(ControlError::Final(format!("challenge {id} is {} already", challenge.status.name())));
    }
    Ok(challenge)
}

fn user_of(state: &mut State, challenge: Uuid) -> Result<&mut User, ControlError> {
    let user_id = open_challenge(state, challenge)?.user_id.clone();
    state.users.get_mut(&user_id).ok_or_else(|| ControlError::NotFound(format!("there is no user {user_id}")))
}

fn invalid(problem: &str) -> ControlError {
    ControlError::Invalid(problem.to_owned())
}
