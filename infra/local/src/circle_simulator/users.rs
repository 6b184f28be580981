//! Users, their PIN and their security questions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text::date;
use super::{CircleSimulator, ControlError};

/// Three wrong entries lock a factor for this long.
const LOCK: Duration = Duration::from_secs(30 * 60);
const ATTEMPTS: u32 = 3;

/// The state of a PIN or of security questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FactorStatus {
    /// Set and usable.
    Enabled,
    /// Never set.
    Unset,
    /// Locked after three wrong entries, until the clock passes the lock's end.
    Locked,
}

/// Whether Circle lets a user do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UserStatus {
    /// The usual state.
    Enabled,
    /// New tokens, and every call with a token of the user's, are refused with 155109.
    Disabled,
}

/// What to change about a user. What is absent stays; a new user starts enabled, with nothing set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserChange {
    /// The PIN that will be the right one. It sets an unset PIN. No answer ever shows it.
    pub pin: Option<String>,
    /// The state of the PIN.
    pub pin_status: Option<FactorStatus>,
    /// The state of the security questions.
    pub security_question_status: Option<FactorStatus>,
    /// Whether the user is enabled.
    pub status: Option<UserStatus>,
}

impl UserChange {
    /// A user who has set a PIN and security questions.
    pub fn ready() -> Self {
        Self {
            pin_status: Some(FactorStatus::Enabled),
            security_question_status: Some(FactorStatus::Enabled),
            ..Self::default()
        }
    }

    /// A user who has set this PIN, and security questions.
    pub fn with_pin(pin: &str) -> Self {
        Self { pin: Some(pin.to_owned()), ..Self::ready() }
    }
}

pub(super) struct User {
    pub(super) id: String,
    pub(super) internal_id: Uuid,
    created_at: OffsetDateTime,
    pub(super) disabled: bool,
    pub(super) pin: Factor,
    pub(super) security_questions: Factor,
    /// The right PIN, where somebody told.
    pub(super) pin_value: Option<String>,
}

impl User {
    pub(super) fn new(id: &str, internal_id: Uuid, now: OffsetDateTime) -> Self {
        Self {
            id: id.to_owned(),
            internal_id,
            created_at: now,
            disabled: false,
            pin: Factor::default(),
            security_questions: Factor::default(),
            pin_value: None,
        }
    }

    /// Circle's `EndUser`.
    pub(super) fn end_user(&self, now: OffsetDateTime) -> Value {
        json!({
            "id": self.id,
            "createDate": date(self.created_at),
            "status": if self.disabled { UserStatus::Disabled } else { UserStatus::Enabled },
            "pinStatus": self.pin.status(now),
            "pinDetails": self.pin.details(now),
            "securityQuestionStatus": self.security_questions.status(now),
            "securityQuestionDetails": self.security_questions.details(now),
            "authMode": "PIN",
        })
    }

    fn apply(&mut self, change: UserChange, now: OffsetDateTime) {
        if let Some(status) = change.status {
            self.disabled = status == UserStatus::Disabled;
        }
        if let Some(pin) = change.pin {
            self.pin_value = Some(pin);
            self.pin.set = true;
        }
        if let Some(status) = change.pin_status {
            self.pin.turn(status, now);
            if status == FactorStatus::Unset {
                self.pin_value = None;
            }
        }
        if let Some(status) = change.security_question_status {
            self.security_questions.turn(status, now);
        }
    }
}

/// Something a user proves to be themselves with: it locks after three wrong entries.
#[derive(Default)]
pub(super) struct Factor {
    set: bool,
    failed_attempts: u32,
    /// From when to when the latest lock lasts.
    lock: Option<(OffsetDateTime, OffsetDateTime)>,
    lock_overridden_at: Option<OffsetDateTime>,
}

impl Factor {
    pub(super) fn status(&self, now: OffsetDateTime) -> FactorStatus {
        match self.lock {
            _ if !self.set => FactorStatus::Unset,
            Some((_, until)) if until > now => FactorStatus::Locked,
            _ => FactorStatus::Enabled,
        }
    }

    /// Counts a wrong entry, and says whether that locked it.
    pub(super) fn wrong_entry(&mut self, now: OffsetDateTime) -> bool {
        self.failed_attempts = self.failed_attempts(now) + 1;
        let locks = self.failed_attempts >= ATTEMPTS;
        self.lock = locks.then(|| (now, now + LOCK));
        locks
    }

    /// Forgets wrong entries and locks, after a right one.
    pub(super) fn right_entry(&mut self) {
        self.set = true;
        self.failed_attempts = 0;
        self.lock = None;
    }

    fn turn(&mut self, status: FactorStatus, now: OffsetDateTime) {
        match status {
            FactorStatus::Enabled => {
                let overridden = self.status(now) == FactorStatus::Locked;
                self.right_entry();
                self.lock_overridden_at = if overridden { Some(now) } else { self.lock_overridden_at };
            }
            FactorStatus::Unset => *self = Self::default(),
            FactorStatus::Locked => {
                self.set = true;
                self.failed_attempts = ATTEMPTS;
                self.lock = Some((now, now + LOCK));
            }
        }
    }

    /// A lock that has run out takes the attempts that led to it along; its dates stay.
    fn failed_attempts(&self, now: OffsetDateTime) -> u32 {
        if self.lock.is_some_and(|(_, until)| until <= now) { 0 } else { self.failed_attempts }
    }

    fn details(&self, now: OffsetDateTime) -> Value {
        let mut details = json!({"failedAttempts": self.failed_attempts(now)});
        if let Some((from, until)) = self.lock {
            details["lockedDate"] = date(from).into();
            details["lockedExpiryDate"] = date(until).into();
        }
        if let Some(overridden) = self.lock_overridden_at {
            details["lastLockOverrideDate"] = date(overridden).into();
        }
        details
    }
}

/// Circle's rule for the ids that apps give their users.
pub(super) fn is_user_id(id: &str) -> bool {
    (5..=50).contains(&id.chars().count())
}

impl CircleSimulator {
    /// Creates a user or changes one, and gives Circle's view of them (`EndUser`).
    pub fn put_user(&self, user_id: &str, change: UserChange) -> Result<Value, ControlError> {
        if !is_user_id(user_id) {
            return Err(ControlError::Invalid("a user id has 5 to 50 characters".to_owned()));
        }
        let now = self.now();
        let mut state = self.state();
        let user = state
            .users
            .entry(user_id.to_owned())
            .or_insert_with(|| User::new(user_id, self.core.random.uuid(), now));
        user.apply(change, now);
        Ok(user.end_user(now))
    }

    /// Changes a user who exists.
    pub fn change_user(&self, user_id: &str, change: UserChange) -> Result<Value, ControlError> {
        let now = self.now();
        let mut state = self.state();
        let user = state.users.get_mut(user_id).ok_or_else(|| no_user(user_id))?;
        user.apply(change, now);
        Ok(user.end_user(now))
    }

    /// Circle's view of a user (`EndUser`).
    pub fn user(&self, user_id: &str) -> Result<Value, ControlError> {
        let now = self.now();
        self.state().users.get(user_id).map(|user| user.end_user(now)).ok_or_else(|| no_user(user_id))
    }

    /// Circle's view of all users, by id.
    pub fn users(&self) -> Vec<Value> {
        let now = self.now();
        self.state().users.values().map(|user| user.end_user(now)).collect()
    }
}

fn no_user(user_id: &str) -> ControlError {
    ControlError::NotFound(format!("there is no user {user_id}"))
}
