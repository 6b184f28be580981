//! What may happen in a run. Each run leaves some of it out, so that what is left happens more often together.

use local::circle_simulator::{Knobs, RateLimits, StatusField};

use crate::choices::Choices;

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::VariantArray)]
pub(crate) enum Trouble {
    /// Circle responds with an error.
    CircleErrors,
    /// Circle's responses are lost, or it does not receive a call.
    CircleConnections,
    /// Circle's responses are not what its reference says.
    CircleGarbage,
    /// DynamoDB rejects or loses calls.
    DynamoDb,
    /// Secrets Manager fails.
    Secrets,
    /// The event bus fails.
    Bus,
    /// Webhooks are lost, late, repeated or reordered.
    Webhooks,
    /// Calls take until their time limit.
    Slowness,
    /// Processes end.
    Kills,
    /// Processes are frozen.
    Freezes,
    /// Wall clocks are wrong.
    Clocks,
    /// Keys are replaced.
    Rotations,
    /// Somebody tries to do harm.
    Attacks,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) people: usize,
    /// How many requests people still make.
    pub(crate) requests: usize,
    /// How many times more something may go wrong.
    pub(crate) troubles: usize,
    enabled: Vec<Trouble>,
    circle_limits: RateLimits,
    concurrent_webhooks: bool,
    repeated_webhooks: u32,
    /// Whether Circle signs each webhook with another key.
    pub(crate) keys_for_each_webhook: bool,
    wrong_entry_fails: bool,
    /// Whether a new user token ends the older ones.
    pub(crate) new_token_ends_old: bool,
    unusual_json: bool,
    unnamed_users: bool,
    state_field: bool,
    says_when_to_retry: bool,
    /// Whether processes open their connections before the first event, as Lambda lets them.
    pub(crate) warms_up: bool,
}

impl Plan {
    pub(crate) fn choose(choices: &mut Choices) -> Self {
        let all = <Trouble as strum::VariantArray>::VARIANTS;
        Self {
            people: 1 + choices.below(3),
            requests: 1 + choices.below(12),
            troubles: choices.below(14),
            enabled: all.iter().copied().filter(|_| choices.chance(40)).collect(),
            circle_limits: match choices.weighted(&[80, 10, 10]) {
                0 => RateLimits::Off,
                1 => RateLimits::PerCall,
                _ => RateLimits::Shared,
            },
            concurrent_webhooks: choices.chance(30),
            repeated_webhooks: u32::from(choices.chance(15)),
            keys_for_each_webhook: choices.chance(10),
            wrong_entry_fails: choices.chance(20),
            new_token_ends_old: choices.chance(20),
            unusual_json: choices.chance(10),
            unnamed_users: choices.chance(10),
            state_field: choices.chance(10),
            says_when_to_retry: choices.chance(50),
            warms_up: choices.chance(30),
        }
    }

    /// Sets Circle up.
    pub(crate) fn set(&self, knobs: &mut Knobs) {
        knobs.rate_limits = self.circle_limits;
        knobs.concurrent_webhooks = self.concurrent_webhooks;
        knobs.repeat_webhooks = self.repeated_webhooks;
        knobs.new_key_for_each_webhook = self.keys_for_each_webhook;
        knobs.wrong_pin_fails_challenge = self.wrong_entry_fails;
        knobs.wrong_answers_fail_challenge = self.wrong_entry_fails;
        knobs.new_token_ends_old = self.new_token_ends_old;
        knobs.unusual_webhook_json = self.unusual_json;
        knobs.notifications_name_user = !self.unnamed_users;
        knobs.rate_limits_retry_after = self.says_when_to_retry;
        if self.state_field {
            knobs.status_field = StatusField::State;
        }
    }

    /// Whether this may go wrong now.
    pub(crate) fn allows(&self, trouble: Trouble) -> bool {
        self.troubles > 0 && self.enabled.contains(&trouble)
    }
}
