//! The user's actions on the device, and the ways in which a challenge ends.

use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use uuid::Uuid;

use super::api_error::{ANSWERS_WRONG, PIN_LOCKED, PIN_WRONG, SECURITY_QUESTIONS_LOCKED};
use super::challenges::{Challenge, ChallengeType, ChallengeView, Status};
use super::state::State;
use super::users::{User, Verdict};
use super::{CircleSimulator, ControlError};
use crate::secrets;

/// A PIN that the user enters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PinEntry {
    /// The PIN, which is compared with the user's.
    pub pin: Option<String>,
    /// Whether the entry is correct, instead of a PIN.
    pub correct: Option<bool>,
    /// The user's PIN from then on, if the entry is correct. If absent, the PIN stays the same.
    pub new_pin: Option<String>,
}

impl PinEntry {
    /// The correct PIN, without its value.
    pub fn right() -> Self {
        Self { correct: Some(true), ..Self::default() }
    }

    /// A wrong PIN, without a value.
    pub fn wrong() -> Self {
        Self { correct: Some(false), ..Self::default() }
    }

    /// This PIN, which may be correct or wrong.
    pub fn typed(pin: &str) -> Self {
        Self { pin: Some(pin.to_owned()), ..Self::default() }
    }
}

/// How Circle reports that a challenge expired. Its documentation shows EXPIRED and FAILED, and lists 155121 among
/// the errors of its API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Expiry {
    /// The status EXPIRED, in responses and in the webhook.
    #[default]
    Expired,
    /// The status FAILED with the code 155121, in responses and in the webhook.
    Failed,
    /// The status EXPIRED in responses, and FAILED with 155121 in the webhook.
    Mixed,
    /// An API error 155121 instead of the challenge, and FAILED with 155121 in the webhook.
    Error,
}

impl CircleSimulator {
    /// The user opens a challenge on the device. It becomes IN_PROGRESS.
    ///
    /// # Errors
    /// If the challenge does not exist or already has a final status.
    pub fn start_challenge(&self, id: Uuid) -> Result<ChallengeView, ControlError> {
        self.act_on(id, |_, _| Ok(None))
    }

    /// The user enters a PIN. The correct PIN completes a CHANGE_PIN challenge. The third wrong PIN locks the
    /// PIN for 30 minutes and fails the challenge (155119).
    ///
    /// # Errors
    /// If the challenge does not exist, already has a final status or is a RESTORE_PIN challenge, or the
    /// entry is incomplete.
    pub fn enter_pin(&self, id: Uuid, entry: PinEntry) -> Result<ChallengeView, ControlError> {
        let now = self.now();
        for pin in entry.pin.iter().chain(&entry.new_pin) {
            secrets::issued("PIN", pin);
        }
        self.act_on(id, |state, challenge_type| {
            if challenge_type != ChallengeType::ChangePin {
                return Err(ControlError::invalid(
                    "a RESTORE_PIN challenge asks for security answers, not for the PIN",
                ));
            }
            let fails = state.knobs.wrong_pin_fails_challenge;
            let (wrong, locked) = entry_errors(challenge_type);
            let user = user_of(state, id)?;
            let correct = match (entry.correct, &entry.pin, &user.pin_value) {
                (Some(correct), None, _) => correct,
                (None, Some(pin), Some(value)) => pin == value,
                (None, Some(_), None) => {
                    return Err(ControlError::invalid(
                        "no PIN value is known for this user: give {\"correct\": true}",
                    ));
                }
                _ => return Err(ControlError::invalid("give either pin or correct")),
            };
            Ok(match user.pin.enter(correct, now) {
                Verdict::Right => {
                    user.pin_value = entry.new_pin.or(user.pin_value.take());
                    Some(Status::Complete)
                }
                Verdict::Wrong => fails.then(|| Status::failed(wrong.0, wrong.1)),
                Verdict::Locked => Some(Status::failed(locked.0, locked.1)),
            })
        })
    }

    /// The user answers the security questions of a RESTORE_PIN challenge. Correct answers complete it and
    /// unlock the PIN. The third wrong answers lock the questions for 30 minutes and fail the challenge
    /// (155120).
    ///
    /// # Errors
    /// If the challenge does not exist, already has a final status or is a CHANGE_PIN challenge.
    pub fn answer_security_questions(
        &self,
        id: Uuid,
        correct: bool,
        new_pin: Option<String>,
    ) -> Result<ChallengeView, ControlError> {
        let now = self.now();
        if let Some(pin) = &new_pin {
            secrets::issued("PIN", pin);
        }
        self.act_on(id, |state, challenge_type| {
            if challenge_type != ChallengeType::RestorePin {
                return Err(ControlError::invalid(
                    "a CHANGE_PIN challenge asks for the PIN, not for security answers",
                ));
            }
            let fails = state.knobs.wrong_answers_fail_challenge;
            let (wrong, locked) = entry_errors(challenge_type);
            let user = user_of(state, id)?;
            Ok(match user.security_questions.enter(correct, now) {
                Verdict::Right => {
                    user.pin.correct_entry();
                    user.pin_value = new_pin.or(user.pin_value.take());
                    Some(Status::Complete)
                }
                Verdict::Wrong => fails.then(|| Status::failed(wrong.0, wrong.1)),
                Verdict::Locked => Some(Status::failed(locked.0, locked.1)),
            })
        })
    }

    /// The user cancels the challenge. It becomes FAILED with 155701.
    ///
    /// # Errors
    /// If the challenge does not exist or already has a final status.
    pub fn cancel_challenge(&self, id: Uuid) -> Result<ChallengeView, ControlError> {
        self.fail_challenge(id, 155_701, "The user cancelled the challenge")
    }

    /// The challenge becomes FAILED with any code.
    ///
    /// # Errors
    /// If the challenge does not exist or already has a final status.
    pub fn fail_challenge(&self, id: Uuid, code: i32, message: &str) -> Result<ChallengeView, ControlError> {
        self.settle(id, Status::failed(code, message))
    }

    /// The challenge expires.
    ///
    /// # Errors
    /// If the challenge does not exist or already has a final status.
    pub fn expire_challenge(&self, id: Uuid, expiry: Expiry) -> Result<ChallengeView, ControlError> {
        self.settle(id, Status::expired(expiry))
    }

    /// Lets the challenge expire if its time has come. See [`super::Knobs::challenge_lifetime_seconds`].
    pub(super) fn expire_if_due(&self, state: &mut State, id: Uuid) {
        let now = self.core.clock.monotonic();
        let expiry = state.knobs.challenge_expiry;
        let is_due =
            |challenge: &Challenge| !challenge.is_final() && challenge.expires_at.is_some_and(|at| at <= now);
        if state.challenges.get(id).is_some_and(is_due) {
            // The challenge exists and is open, so this succeeds.
            let _ = self.change_status(state, id, Status::expired(expiry));
        }
    }

    /// Runs `action`, opens the challenge if it is PENDING, and gives it the status that `action` returned.
    pub(super) fn act_on(
        &self,
        id: Uuid,
        action: impl FnOnce(&mut State, ChallengeType) -> Result<Option<Status>, ControlError>,
    ) -> Result<ChallengeView, ControlError> {
        let mut state = self.state();
        self.expire_if_due(&mut state, id);
        let challenge_type = open_challenge(&mut state, id)?.challenge_type;
        let outcome = action(&mut state, challenge_type)?;
        if open_challenge(&mut state, id)?.status == Status::Pending {
            self.change_status(&mut state, id, Status::InProgress)?;
        }
        if let Some(status) = outcome {
            self.change_status(&mut state, id, status)?;
        }
        state.challenges.get(id).map(Challenge::view).ok_or_else(|| ControlError::no_challenge(id))
    }

    fn settle(&self, id: Uuid, status: Status) -> Result<ChallengeView, ControlError> {
        let mut state = self.state();
        self.expire_if_due(&mut state, id);
        self.change_status(&mut state, id, status)?;
        state.challenges.get(id).map(Challenge::view).ok_or_else(|| ControlError::no_challenge(id))
    }

    /// Each change of the status sends a webhook.
    fn change_status(&self, state: &mut State, id: Uuid, status: Status) -> Result<(), ControlError> {
        open_challenge(state, id)?.status = status;
        self.announce_challenge(state, id);
        Ok(())
    }
}

/// Circle's codes and texts: for a wrong entry, and for a factor that is locked.
pub(super) fn entry_errors(challenge_type: ChallengeType) -> ((i32, &'static str), (i32, &'static str)) {
    match challenge_type {
        ChallengeType::ChangePin => ((155_112, PIN_WRONG), (155_119, PIN_LOCKED)),
        ChallengeType::RestorePin => ((155_115, ANSWERS_WRONG), (155_120, SECURITY_QUESTIONS_LOCKED)),
    }
}

fn open_challenge(state: &mut State, id: Uuid) -> Result<&mut Challenge, ControlError> {
    let challenge = state.challenges.get_mut(id).ok_or_else(|| ControlError::no_challenge(id))?;
    if challenge.is_final() {
        return Err(ControlError::Final(format!("challenge {id} is already {}", challenge.status.name())));
    }
    Ok(challenge)
}

pub(super) fn user_of(state: &mut State, challenge: Uuid) -> Result<&mut User, ControlError> {
    let user_id = open_challenge(state, challenge)?.user_id.clone();
    state.users.get_mut(&user_id).ok_or_else(|| ControlError::no_user(&user_id))
}
