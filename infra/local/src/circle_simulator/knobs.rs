//! Knobs: the choices that Circle's documentation leaves open, and how unreliable webhooks are.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::CircleSimulator;
use super::device::Expiry;
use super::rate_limits::RateLimits;

/// How the simulator behaves. The JSON names are the field names in camel case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Knobs {
    /// A new user token ends the user's older tokens (155103). Circle does not document whether it does.
    /// Default: no.
    pub new_token_ends_old: bool,
    /// New user tokens come without an `encryptionKey`, which is optional in Circle's schema. Default: no.
    pub omit_encryption_key: bool,
    /// The first wrong PIN fails the challenge with 155112, instead of the third with 155119. Default: no.
    pub wrong_pin_fails_challenge: bool,
    /// The first wrong security answers fail the challenge with 155115, instead of the third with 155120.
    /// Default: no.
    pub wrong_answers_fail_challenge: bool,
    /// A user who closes the page for the PIN fails the challenge with 155701, instead of leaving it open. Circle does
    /// not document which. Default: yes.
    pub cancel_fails_challenge: bool,
    /// The `notificationType` of CHANGE_PIN challenges. Circle's guide shows `challenges.initialize`.
    /// Default: `challenges.changePin`.
    pub change_pin_notification_type: String,
    /// Challenge notifications have a `userId`, as in Circle's guide but not on its reference page. Default:
    /// yes.
    pub notifications_name_user: bool,
    /// The name of the status in challenge notifications. Default: `status`.
    pub status_field: StatusField,
    /// The status of a challenge that succeeded: `COMPLETE`, or `COMPLETED` as in some of Circle's guides.
    /// Default: `COMPLETE`.
    pub complete_status: String,
    /// How long a new challenge stays open, in seconds of the simulator's clock. 0 means that it never expires by
    /// itself. Circle does not document when a challenge expires. Default: 0.
    pub challenge_lifetime_seconds: u64,
    /// How Circle reports a challenge that expired by itself. Default: `ERROR`.
    pub challenge_expiry: Expiry,
    /// The HTTP status of the error for an unknown challenge (155116). Default: 404.
    pub challenge_not_found_status: u16,
    /// The HTTP status of the other errors whose status Circle does not document (155110, 155111, 155119, 155120,
    /// 155121). Default: 403.
    pub undocumented_error_status: u16,
    /// Whether Circle's published rate limits apply: `OFF`, `PER_CALL` or `SHARED`. The limits are counted on the
    /// simulator's clock. Default: `OFF`.
    pub rate_limits: RateLimits,
    /// A call that exceeds a rate limit gets a `Retry-After` header. Default: no.
    pub rate_limits_retry_after: bool,
    /// Webhooks have spaces after colons and commas, and `\u` escapes that they do not need, so that they do not
    /// survive being parsed and written again. Default: no.
    pub unusual_webhook_json: bool,
    /// Each webhook is signed with a new key. Circle does not document how many keys are in use. Default: no.
    pub new_key_for_each_webhook: bool,
    /// The webhooks of a subscription are sent at the same time, so one can overtake another. Otherwise, the first
    /// attempt of each waits for that of the one before. Default: no.
    pub concurrent_webhooks: bool,
    /// What the API key may do with wallets (`/v1/w3s`): `NONE`, `READ` or `READ_WRITE`. Other calls are rejected
    /// with 403 and the code 3. Default: `READ_WRITE`.
    pub api_key_wallets: Access,
    /// What the API key may do with webhooks (`/v2/notifications`), like `api_key_wallets`.
    pub api_key_webhooks: Access,
    /// The only IP addresses from which the API key is accepted. Calls from others are rejected with 403, without a
    /// code. Default: none, which means that every address is accepted.
    pub api_key_addresses: Vec<IpAddr>,
    /// How many requests a connection serves, as servers limit it. 0 means no limit. Default: 0.
    pub requests_per_connection: u32,
    /// How a connection ends that has served `requests_per_connection` requests: `CLOSE` or `RESET`. Default: `CLOSE`.
    pub connection_end: ConnectionEnd,
    /// How long a connection may be idle after a response, in milliseconds of the simulator's clock, before it is
    /// closed. 0 means for ever. Default: 0.
    pub close_idle_after_ms: u64,
    /// Notifications are held until they are released.
    pub webhooks_paused: bool,
    /// How many of the next messages are lost. A notification is one message for each subscription.
    pub lose_webhooks: u32,
    /// How many extra copies of each notification are sent. They are sent one after the other, or all at once
    /// if `delay_webhooks_ms` or `concurrent_webhooks` is set.
    pub repeat_webhooks: u32,
    /// How long each notification waits before its first attempt, in milliseconds of the simulator's clock.
    /// Later notifications without a delay overtake it.
    pub delay_webhooks_ms: u64,
    /// How many messages, to all subscriptions together, are collected and then sent in reverse order. Values below 2 turn this off.
    pub reorder_webhooks: u32,
    /// The waits between attempts (1 s to 11 h) are multiplied by this. It is read when a wait begins.
    /// Default: 1.
    pub retry_factor: f64,
}

/// The name of the status in a challenge notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StatusField {
    /// `status`, as in Circle's examples.
    Status,
    /// `state`, as in the prose of Circle's reference page.
    State,
}

/// How a connection ends that has served its last request. In both cases, the response has no `Connection: close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConnectionEnd {
    /// It is closed after the last response.
    Close,
    /// It stays open, and is reset when another request arrives. That request has no effect.
    Reset,
}

/// What an API key may do with one of Circle's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Access {
    /// Nothing.
    None,
    /// GET calls.
    Read,
    /// All calls.
    ReadWrite,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            new_token_ends_old: false,
            omit_encryption_key: false,
            wrong_pin_fails_challenge: false,
            wrong_answers_fail_challenge: false,
            cancel_fails_challenge: true,
            change_pin_notification_type: "challenges.changePin".to_owned(),
            notifications_name_user: true,
            status_field: StatusField::Status,
            complete_status: "COMPLETE".to_owned(),
            challenge_lifetime_seconds: 0,
            challenge_expiry: Expiry::Error,
            challenge_not_found_status: 404,
            undocumented_error_status: 403,
            rate_limits: RateLimits::Off,
            rate_limits_retry_after: false,
            unusual_webhook_json: false,
            new_key_for_each_webhook: false,
            concurrent_webhooks: false,
            api_key_wallets: Access::ReadWrite,
            api_key_webhooks: Access::ReadWrite,
            api_key_addresses: Vec::new(),
            requests_per_connection: 0,
            connection_end: ConnectionEnd::Close,
            close_idle_after_ms: 0,
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
    /// The error is a sentence that names the invalid knob.
    fn check(&self) -> Result<(), String> {
        if !(0.0..=1000.0).contains(&self.retry_factor) {
            return Err("retryFactor must be between 0 and 1000".to_owned());
        }
        for (name, status) in [
            ("challengeNotFoundStatus", self.challenge_not_found_status),
            ("undocumentedErrorStatus", self.undocumented_error_status),
        ] {
            if !(400..=499).contains(&status) {
                return Err(format!("{name} must be a 4xx status"));
            }
        }
        if !["COMPLETE", "COMPLETED"].contains(&self.complete_status.as_str()) {
            return Err("completeStatus must be COMPLETE or COMPLETED".to_owned());
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
    /// The current knobs. `lose_webhooks` counts down.
    pub fn knobs(&self) -> Knobs {
        self.state().knobs.clone()
    }

    /// Changes knobs. Turning off a pause or reordering sends the messages that it held.
    ///
    /// # Panics
    /// If a value is out of range.
    pub fn set_knobs(&self, change: impl FnOnce(&mut Knobs)) {
        let mut knobs = self.knobs();
        change(&mut knobs);
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
