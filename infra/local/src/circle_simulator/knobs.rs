//! Switches for what Circle's documentation leaves open, and for how badly webhooks travel.

use serde::{Deserialize, Serialize};

use super::CircleSimulator;

/// How the simulator behaves. The JSON names are the field names in camel case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Knobs {
    /// A new user token ends the user's older ones (155103). Circle does not say whether it does. Default: no.
    pub new_token_ends_old: bool,
    /// New user tokens come without an `encryptionKey`, which Circle's schema calls optional. Default: no.
    pub omit_encryption_key: bool,
    /// A wrong PIN ends its challenge as FAILED 155112, instead of leaving it open until the third. Default: no.
    pub wrong_pin_fails_challenge: bool,
    /// Wrong security answers end their challenge as FAILED 155115, instead of leaving it open until the third.
    /// Default: no.
    pub wrong_answers_fail_challenge: bool,
    /// The `notificationType` of CHANGE_PIN challenges; Circle's guide shows `challenges.initialize`.
    /// Default: `challenges.changePin`.
    pub change_pin_notification_type: String,
    /// Challenge notifications name the user, as in Circle's guide but not on its reference page. Default: yes.
    pub notifications_name_user: bool,
    /// What challenge notifications call the status. Default: `status`.
    pub status_field: StatusField,
    /// The word for a challenge that succeeded: `COMPLETE`, or `COMPLETED` as Circle's guides also write.
    pub complete_word: String,
    /// The HTTP status of errors for which Circle documents none (155110, 155111, 155116, 155119, 155120).
    /// Default: 403.
    pub undocumented_error_status: u16,
    /// Notifications wait until they are released.
    pub webhooks_paused: bool,
    /// How many of the next notifications are never sent.
    pub lose_webhooks: u32,
    /// How many times more than once each notification is sent: one after the other, or at once where
    /// `delay_webhooks_ms` is set.
    pub repeat_webhooks: u32,
    /// How long each notification waits before its first attempt, in milliseconds of the simulator's clock. Those
    /// that wait are overtaken by those that do not.
    pub delay_webhooks_ms: u64,
    /// Collects this many notifications and sends them in reverse; below 2 they are sent as they come.
    pub reorder_webhooks: u32,
    /// What the waits between attempts (1 s to 11 h) are multiplied with, read when a wait begins.
    pub retry_factor: f64,
}

/// What a challenge notification calls the status of the challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StatusField {
    /// `status`, as in Circle's examples.
    Status,
    /// `state`, as in the prose of Circle's reference page.
    State,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            new_token_ends_old: false,
            omit_encryption_key: false,
            wrong_pin_fails_challenge: false,
            wrong_answers_fail_challenge: false,
            change_pin_notification_type: "challenges.changePin".to_owned(),
            notifications_name_user: true,
            status_field: StatusField::Status,
            complete_word: "COMPLETE".to_owned(),
            undocumented_error_status: 403,
            webhooks_paused: false,
            lose_webhooks: 0,
            repeat_webhooks: 0,
            delay_webhooks_ms: 0,
            reorder_webhooks: 0,
            retry_factor: 1.0,
        }
    }
}

impl Knobs {
    /// Says what is wrong with a setting, if anything is.
    fn check(&self) -> Result<(), String> {
        if !(0.0..=1000.0).contains(&self.retry_factor) {
            return Err("retryFactor must be between 0 and 1000".to_owned());
        }
        if !(400..=499).contains(&self.undocumented_error_status) {
            return Err("undocumentedErrorStatus must be a 4xx status".to_owned());
        }
        if !["COMPLETE", "COMPLETED"].contains(&self.complete_word.as_str()) {
            return Err("completeWord must be COMPLETE or COMPLETED".to_owned());
        }
        if self.repeat_webhooks > 1000 {
            return Err("repeatWebhooks must be at most 1000".to_owned());
        }
        if !self.change_pin_notification_type.starts_with("challenges.") {
            return Err("changePinNotificationType must start with challenges.".to_owned());
        }
        Ok(())
    }
}

impl CircleSimulator {
    /// The knobs as they are now; `lose_webhooks` counts down.
    pub fn knobs(&self) -> Knobs {
        self.state().knobs.clone()
    }

    /// Turns knobs. Notifications that were held only for reordering leave once that is turned off.
    ///
    /// # Panics
    /// When a value is out of its range.
    pub fn set_knobs(&self, turn: impl FnOnce(&mut Knobs)) {
        let mut knobs = self.knobs();
        turn(&mut knobs);
        if let Err(problem) = self.replace_knobs(knobs) {
            panic!("{problem}");
        }
    }

    pub(super) fn replace_knobs(&self, knobs: Knobs) -> Result<(), String> {
        knobs.check()?;
        let mut state = self.state();
        state.knobs = knobs;
        self.release_if_free(&mut state);
        Ok(())
    }
}
