//! The rate limits that Circle publishes for one account.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CircleSimulator;
use super::calls::Call;
use crate::token_bucket::TokenBucket;

/// Whether Circle's published rate limits apply: 10 requests per second for `POST /v1/w3s/users/token`, 20 for
/// each GET, and 5 for the rest. Circle does not say whether it counts each call by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RateLimits {
    /// No limit.
    #[default]
    Off,
    /// Each call has a limit of its own.
    PerCall,
    /// All calls with the same limit share it. This is the stricter reading.
    Shared,
}

/// The buckets of the account, and how many calls found theirs empty.
#[derive(Default)]
pub(super) struct RateLimiter {
    buckets: HashMap<&'static str, TokenBucket>,
    rejected: BTreeMap<&'static str, u64>,
}

impl RateLimiter {
    /// Counts a call at a point of monotonic time. If it exceeds the limit, the error is the time until the next
    /// call is accepted.
    pub(super) fn check(&mut self, limits: RateLimits, call: &Call, now: Duration) -> Result<(), Duration> {
        let name = call.name();
        let (class, rate) = match call {
            Call::CreateUserToken => ("token", 10),
            _ if call.is_read() => ("read", 20),
            _ => ("write", 5),
        };
        let bucket = match limits {
            RateLimits::Off => return Ok(()),
            RateLimits::PerCall => name,
            RateLimits::Shared => class,
        };
        let taken = self.buckets.entry(bucket).or_insert_with(|| TokenBucket::new(rate, rate)).take(now);
        if taken.is_err() {
            *self.rejected.entry(name).or_default() += 1;
        }
        taken
    }
}

impl CircleSimulator {
    /// How often each call was rejected because of its rate limit since the start, by method and path template.
    pub fn rate_limited_counts(&self) -> BTreeMap<String, u64> {
        let state = self.state();
        state.rate_limiter.rejected.iter().map(|(call, count)| ((*call).to_owned(), *count)).collect()
    }
}
