//! How many challenges each user asks for, in DynamoDB: a guard, so that one user, or a stolen login, cannot
//! spend the rate limit that the whole account has at Circle.
//!
//! The table has one item for each user and hour. Its partition key `userHour` is a hash, so that no user id
//! stands in it; `keys` is the set of the idempotency keys that go to Circle, `requestedAt` the time of the last
//! request that was let through (epoch milliseconds), `expiresAt` the time to live (epoch seconds).

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::challenge_store::{
    StoreError, Update, Written, milliseconds, number, text, unavailable, unreadable,
};
use crate::clock::Clock;
use crate::identity::UserId;
use crate::platform::Platform;

/// How long an item is kept after its hour: longer than anybody looks back.
const RETENTION: Duration = Duration::hours(2);

const SECONDS_PER_HOUR: i64 = 3600;

/// The table of challenge requests.
#[derive(Debug, Clone)]
pub struct RateLimits {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
}

/// Whether a request is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// It is, and has been counted; or it repeats one that was.
    Allowed,
    /// It is not, and a new challenge has to wait.
    Exceeded {
        /// The end of the hour, when the user may ask for new challenges again.
        until: OffsetDateTime,
    },
}

impl RateLimits {
    /// Counts in the given table.
    pub fn new(platform: &Platform, table: String) -> Self {
        Self { client: Client::new(&platform.aws), table, clock: Arc::clone(&platform.clock) }
    }

    /// Counts the user's request that Circle will get under `key`, if fewer than `per_hour` have been counted in
    /// this hour of the clock. A key that has been counted passes again: so the caller may repeat a request, and
    /// the AWS SDK this call. One call, safe under any concurrency by its condition alone.
    ///
    /// # Errors
    /// When the table gave no answer.
    pub async fn count(&self, user: &UserId, key: Uuid, per_hour: u32) -> Result<RateLimit, StoreError> {
        let now = self.clock.now();
        let hour = Hour::of(now);
        let key = key.to_string();
        let item =
            self.client.update_item().table_name(&self.table).key("userHour", text(&hour.of_user(user)));
        let update = Update::new(item)
            .set("requestedAt = :now", ":now", number(milliseconds(now)))
            .set("expiresAt = :until", ":until", number((hour.end() + RETENTION).unix_timestamp()))
            .clause("ADD #keys :keys")
            // A word that DynamoDB reserves.
            .name("#keys")
            .value(":key", text(&key))
            .value(":keys", AttributeValue::Ss(vec![key]))
            .value(":limit", number(per_hour))
            .condition("attribute_not_exists(#keys) OR contains(#keys, :key) OR size(#keys) < :limit");
        Ok(match update.send().await? {
            Written::Yes(_) => RateLimit::Allowed,
            Written::No(_) => RateLimit::Exceeded { until: hour.end() },
        })
    }

    /// Whether a request of the user was let through at `since` or later, which is an hour back at most. Read
    /// consistently, in one round trip.
    ///
    /// # Errors
    /// When the table gave no answer or an item is not readable.
    pub async fn requested_since(&self, user: &UserId, since: OffsetDateTime) -> Result<bool, StoreError> {
        let hour = Hour::of(self.clock.now());
        let (this, last) =
            tokio::try_join!(self.last_request(user, hour), self.last_request(user, hour.before()))?;
        Ok(this.max(last).is_some_and(|last| last >= milliseconds(since)))
    }

    /// When the user's last request in the hour was let through, in epoch milliseconds.
    async fn last_request(&self, user: &UserId, hour: Hour) -> Result<Option<i128>, StoreError> {
        let get = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("userHour", text(&hour.of_user(user)))
            .projection_expression("requestedAt")
            .consistent_read(true);
        let found = get.send().await.map_err(|error| unavailable("GetItem", error))?;
        found.item.as_ref().map(requested_at).transpose()
    }
}

fn requested_at(item: &HashMap<String, AttributeValue>) -> Result<i128, StoreError> {
    let number = item.get("requestedAt").and_then(|value| value.as_n().ok());
    number.and_then(|number| number.parse().ok()).ok_or(unreadable("requestedAt"))
}

/// An hour of the clock, by its number since the epoch.
#[derive(Debug, Clone, Copy)]
struct Hour(i64);

impl Hour {
    fn of(instant: OffsetDateTime) -> Self {
        Self(instant.unix_timestamp().div_euclid(SECONDS_PER_HOUR))
    }

    fn before(self) -> Self {
        Self(self.0 - 1)
    }

    fn end(self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::hours(self.0 + 1)
    }

    /// The partition key of the user's item.
    fn of_user(self, user: &UserId) -> String {
        let mut input = b"circle-pin-reset/rate-limit/1".to_vec();
        input.extend((user.as_str().len() as u64).to_be_bytes());
        input.extend(user.as_str().as_bytes());
        input.extend(self.0.to_be_bytes());
        digest(&SHA256, &input).as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn each_user_and_hour_has_a_key_of_its_own_that_names_neither() {
        let user = |id| UserId::parse(id).unwrap();
        let hour = Hour::of(datetime!(2026-01-01 12:59:59.999 UTC));
        let key = hour.of_user(&user("alice"));
        assert_eq!(key, "c96ad15abfdcca1b77d9a51838259723a582e7313277c274ad3e269bd4b4dcec");
        assert_eq!(key, Hour::of(datetime!(2026-01-01 12:00 UTC)).of_user(&user("alice")));
        assert_ne!(key, hour.of_user(&user("bobby")));
        assert_ne!(key, hour.before().of_user(&user("alice")));
        assert_eq!(hour.end(), datetime!(2026-01-01 13:00 UTC));
    }
}
