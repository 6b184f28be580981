//! Users, their PIN and their security questions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::api_error::ApiError;
use super::dates::date;
use super::{CircleSimulator, ControlError};
use crate::secrets;

/// How long a factor is locked after [`MAX_WRONG_ENTRIES`].
const LOCK_DURATION: Duration = Duration::from_secs(30 * 60);

/// How many wrong entries lock a factor.
const MAX_WRONG_ENTRIES: u32 = 3;

/// The security questions of every user, and the answers of a user who has no others.
pub(super) const SECURITY_QUESTIONS: [(&str, &str); 2] =
    [("What was the name of your first pet?", "Rex"), ("In which town were you born?", "Oslo")];

/// The state of a PIN or of security questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FactorStatus {
    /// Set and usable.
    Enabled,
    /// Never set.
    Unset,
    /// Locked after three wrong entries. The lock ends with time.
    Locked,
}

/// Whether Circle accepts requests of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UserStatus {
    /// Circle accepts the user's requests.
    Enabled,
    /// Circle rejects requests for a new token, and calls with a token of the user, with 155109.
    Disabled,
}

/// How a user signs in to Circle. Only users who sign in with a PIN have a PIN and security questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthMode {
    /// With a PIN.
    #[default]
    Pin,
    /// With a code that Circle sends by e-mail.
    Email,
    /// With a social account.
    Social,
}

/// A change of a user. Absent fields keep their value. A new user is enabled and has neither a PIN nor
/// security questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserChange {
    /// The correct PIN from now on. It sets an unset PIN. No response contains it.
    pub pin: Option<String>,
    /// The state of the PIN.
    pub pin_status: Option<FactorStatus>,
    /// The state of the security questions.
    pub security_question_status: Option<FactorStatus>,
    /// The correct answers from now on, in the order of the questions. Case and outer white space do not matter. No
    /// response contains them.
    pub security_answers: Option<[String; 2]>,
    /// Whether the user is enabled.
    pub status: Option<UserStatus>,
    /// How the user signs in. Any other mode than PIN unsets the PIN and the security questions.
    pub auth_mode: Option<AuthMode>,
}

impl UserChange {
    /// The user has a PIN and security questions.
    pub fn ready() -> Self {
        Self {
            pin_status: Some(FactorStatus::Enabled),
            security_question_status: Some(FactorStatus::Enabled),
            ..Self::default()
        }
    }

    /// The user has this PIN, and security questions.
    pub fn with_pin(pin: &str) -> Self {
        Self { pin: Some(pin.to_owned()), ..Self::ready() }
    }

    /// Fails if a user with this mode would have a PIN without signing in with one.
    fn check(&self, auth_mode: AuthMode) -> Result<(), ControlError> {
        let is_set =
            |status: Option<FactorStatus>| status.is_some_and(|status| status != FactorStatus::Unset);
        let sets_factor =
            self.pin.is_some() || is_set(self.pin_status) || is_set(self.security_question_status);
        if self.auth_mode.unwrap_or(auth_mode) != AuthMode::Pin && sets_factor {
            return Err(ControlError::invalid(
                "only users with the authMode PIN have a PIN and security questions",
            ));
        }
        Ok(())
    }
}

pub(super) struct User {
    pub(super) id: String,
    pub(super) internal_id: Uuid,
    created_at: OffsetDateTime,
    disabled: bool,
    pub(super) auth_mode: AuthMode,
    pub(super) pin: Factor,
    pub(super) security_questions: Factor,
    /// The correct PIN, if it is known.
    pub(super) pin_value: Option<String>,
    security_answers: [String; 2],
}

impl User {
    pub(super) fn new(id: &str, internal_id: Uuid, now: OffsetDateTime) -> Self {
        Self {
            id: id.to_owned(),
            internal_id,
            created_at: now,
            disabled: false,
            auth_mode: AuthMode::default(),
            pin: Factor::default(),
            security_questions: Factor::default(),
            pin_value: None,
            security_answers: SECURITY_QUESTIONS.map(|(_, answer)| answer.to_owned()),
        }
    }

    /// Whether these are the answers to the security questions.
    pub(super) fn has_answers(&self, answers: &[String]) -> bool {
        let normalized = |answers: &[String]| -> Vec<String> {
            answers.iter().map(|answer| answer.trim().to_lowercase()).collect()
        };
        normalized(answers) == normalized(&self.security_answers)
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
            "authMode": self.auth_mode,
        })
    }

    fn apply(&mut self, change: UserChange, now: OffsetDateTime) {
        self.auth_mode = change.auth_mode.unwrap_or(self.auth_mode);
        if self.auth_mode != AuthMode::Pin {
            (self.pin, self.security_questions, self.pin_value) =
                (Factor::default(), Factor::default(), None);
        }
        if let Some(status) = change.status {
            self.disabled = status == UserStatus::Disabled;
        }
        if let Some(pin) = change.pin {
            secrets::issued("PIN", &pin);
            self.pin_value = Some(pin);
            self.pin.set = true;
        }
        if let Some(status) = change.pin_status {
            self.pin.set_status(status, now);
            if status == FactorStatus::Unset {
                self.pin_value = None;
            }
        }
        if let Some(status) = change.security_question_status {
            self.security_questions.set_status(status, now);
        }
        if let Some(answers) = change.security_answers {
            self.security_answers = answers;
        }
    }
}

/// What an entry of a PIN or of security answers leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// Wrong, and the user may try again.
    Wrong,
    /// The factor was locked before, or this entry has locked it.
    Locked,
}

/// The PIN or the security questions: each locks after three wrong entries.
#[derive(Default)]
pub(super) struct Factor {
    set: bool,
    failed_attempts: u32,
    /// The beginning and the end of the latest lock.
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

    /// Judges an entry, and counts it if it is wrong.
    pub(super) fn enter(&mut self, is_correct: bool, now: OffsetDateTime) -> Verdict {
        if self.status(now) == FactorStatus::Locked {
            return Verdict::Locked;
        }
        if is_correct {
            self.correct_entry();
            return Verdict::Right;
        }
        self.failed_attempts = self.failed_attempts(now) + 1;
        if self.failed_attempts < MAX_WRONG_ENTRIES {
            self.lock = None;
            return Verdict::Wrong;
        }
        self.lock = Some((now, now + LOCK_DURATION));
        Verdict::Locked
    }

    /// How many wrong entries are left before the factor is locked.
    pub(super) fn attempts_left(&self, now: OffsetDateTime) -> u32 {
        MAX_WRONG_ENTRIES.saturating_sub(self.failed_attempts(now))
    }

    /// When the lock ends, if there is one.
    pub(super) fn locked_until(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.lock.map(|(_, until)| until).filter(|until| *until > now)
    }

    /// Forgets wrong entries and locks.
    pub(super) fn correct_entry(&mut self) {
        self.set = true;
        self.failed_attempts = 0;
        self.lock = None;
    }

    fn set_status(&mut self, status: FactorStatus, now: OffsetDateTime) {
        match status {
            FactorStatus::Enabled => {
                let overridden = self.status(now) == FactorStatus::Locked;
                self.correct_entry();
                self.lock_overridden_at = if overridden { Some(now) } else { self.lock_overridden_at };
            }
            FactorStatus::Unset => *self = Self::default(),
            FactorStatus::Locked => {
                self.set = true;
                self.failed_attempts = MAX_WRONG_ENTRIES;
                self.lock = Some((now, now + LOCK_DURATION));
            }
        }
    }

    /// The attempts that led to a lock no longer count when the lock has ended. The dates of the lock remain.
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

/// Circle's rule for the user ids that an app chooses.
pub(super) fn is_user_id(id: &str) -> bool {
    (5..=50).contains(&id.chars().count())
}

/// A user who exists and is not disabled.
pub(super) fn enabled_user<'a>(
    users: &'a BTreeMap<String, User>,
    user_id: &str,
) -> Result<&'a User, ApiError> {
    let user = users.get(user_id).ok_or_else(ApiError::no_such_user)?;
    if user.disabled { Err(ApiError::user_disabled()) } else { Ok(user) }
}

impl CircleSimulator {
    /// Creates or changes a user, and returns Circle's `EndUser`.
    ///
    /// # Errors
    /// If the id does not have 5 to 50 characters, or the change sets a PIN or security questions of a user who does
    /// not sign in with a PIN.
    pub fn put_user(&self, user_id: &str, change: UserChange) -> Result<Value, ControlError> {
        if !is_user_id(user_id) {
            return Err(ControlError::invalid("a user id has 5 to 50 characters"));
        }
        let now = self.now();
        let mut state = self.state();
        change.check(state.users.get(user_id).map_or(AuthMode::Pin, |user| user.auth_mode))?;
        let user = state
            .users
            .entry(user_id.to_owned())
            .or_insert_with(|| User::new(user_id, self.new_resource_id(), now));
        user.apply(change, now);
        Ok(user.end_user(now))
    }

    /// Changes a user, and returns Circle's `EndUser`.
    ///
    /// # Errors
    /// If the user does not exist, or the change sets a PIN or security questions of a user who does not sign in with
    /// a PIN.
    pub fn change_user(&self, user_id: &str, change: UserChange) -> Result<Value, ControlError> {
        let now = self.now();
        let mut state = self.state();
        let user = state.users.get_mut(user_id).ok_or_else(|| ControlError::no_user(user_id))?;
        change.check(user.auth_mode)?;
        user.apply(change, now);
        Ok(user.end_user(now))
    }

    /// A user as Circle's `EndUser`.
    ///
    /// # Errors
    /// If the user does not exist.
    pub fn user(&self, user_id: &str) -> Result<Value, ControlError> {
        let now = self.now();
        let state = self.state();
        let user = state.users.get(user_id).ok_or_else(|| ControlError::no_user(user_id))?;
        Ok(user.end_user(now))
    }

    /// All users as Circle's `EndUser`, in the order of their ids.
    pub fn users(&self) -> Vec<Value> {
        let now = self.now();
        self.state().users.values().map(|user| user.end_user(now)).collect()
    }
}
