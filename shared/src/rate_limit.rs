//! How many challenges each user may create, in DynamoDB: a limit, so that one user, or a stolen login, cannot spend the
//! rate limit that the whole account has at Circle.
//!
//! The table has one item per user and hour. Its partition key `userHour` is a hash, so the table holds no user id. `keys`
//! is the set of idempotency keys that went to Circle, `challenges` the set of challenges that callers' keys created (each
//! as `KEY=CHALLENGE_ID`), `requestedAt` the time of the last request that was allowed (epoch
//! milliseconds), `expiresAt` the time to live (epoch seconds).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::circle::CircleIdempotencyKey;
use crate::clock::Clock;
use crate::dynamodb::{
    Item, StoreError, Update, Written, milliseconds, number, text, unavailable, unreadable,
};
use crate::platform::Platform;
use crate::user_id::UserId;

/// How long an item is kept after its hour: longer than anything reads it.
const RETENTION: Duration = Duration::from_secs(2 * 3600);

const SECONDS_PER_HOUR: i64 = 3600;

/// The table of rate limits.
#[derive(Debug, Clone)]
pub struct RateLimits {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
}

/// Whether a request is within the user's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// It is, and has been counted; or it repeats a request that was.
    Allowed {
        /// The challenge that an earlier request with the same key created in this hour, if it is known.
        known: Option<Uuid>,
    },
    /// It is not: a new challenge has to wait.
    Exceeded {
        /// The end of the hour, when the user may create new challenges again.
        until: OffsetDateTime,
    },
}

impl RateLimits {
    /// Limits that are counted in this table.
    pub fn new(platform: &Platform, table: String) -> Self {
        Self { client: Client::new(&platform.aws), table, clock: Arc::clone(&platform.clock) }
    }

    /// Counts the user's request that Circle will get under `key`, if fewer than `per_hour` have been counted in this hour
    /// of the clock. A key that has been counted is allowed again, so the caller may retry the request, and the AWS SDK
    /// this call. One call; its condition alone makes it safe under any concurrency.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn check(
        &self,
        user: &UserId,
        key: &CircleIdempotencyKey,
        per_hour: u32,
    ) -> Result<RateLimit, StoreError> {
        let now = self.clock.now();
        let hour = Hour::of(now);
        let key = key.as_uuid().to_string();
        let item =
            self.client.update_item().table_name(&self.table).key("userHour", text(&hour.of_user(user)));
        let update = Update::new(item)
            .set("requestedAt = :now", ":now", number(milliseconds(now)))
            .set("expiresAt = :until", ":until", number((hour.end() + RETENTION).unix_timestamp()))
            .reserved(&["#keys"])
            .add("#keys :keys")
            .value(":key", text(&key))
            .value(":keys", AttributeValue::Ss(vec![key.clone()]))
            .value(":limit", number(per_hour))
            .condition("attribute_not_exists(#keys) OR contains(#keys, :key) OR size(#keys) < :limit");
        Ok(match update.send().await? {
            Written::Yes(item) => RateLimit::Allowed { known: known_challenge(&item, &key) },
            Written::No(_) => RateLimit::Exceeded { until: hour.end() },
        })
    }

    /// Remembers which challenge a caller's key created, for as long as the hour's item is kept. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn remember(
        &self,
        user: &UserId,
        key: &CircleIdempotencyKey,
        challenge_id: Uuid,
    ) -> Result<(), StoreError> {
        let hour = Hour::of(self.clock.now());
        let item =
            self.client.update_item().table_name(&self.table).key("userHour", text(&hour.of_user(user)));
        let pair = format!("{}={challenge_id}", key.as_uuid());
        let update = Update::new(item)
            .add("challenges :pair")
            .value(":pair", AttributeValue::Ss(vec![pair]))
            // Another hour may have begun since the request was counted.
            .condition("attribute_exists(requestedAt)");
        update.send().await.map(drop)
    }

    /// Whether a request of the user was allowed at `since` or later, which is at most an hour ago. Reads consistently, in
    /// one round trip.
    ///
    /// # Errors
    /// If the table cannot be reached, or an item is not readable.
    pub async fn requested_since(&self, user: &UserId, since: OffsetDateTime) -> Result<bool, StoreError> {
        let hour = Hour::of(self.clock.now());
        let (this, last) =
            tokio::try_join!(self.last_request(user, hour), self.last_request(user, hour.before()))?;
        Ok(this.max(last).is_some_and(|last| last >= milliseconds(since)))
    }

    /// When the user's last request in the hour was allowed, in epoch milliseconds.
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

fn known_challenge(item: &Item, key: &str) -> Option<Uuid> {
    let pairs = item.get("challenges").and_then(|pairs| pairs.as_ss().ok());
    let mut pairs = pairs.into_iter().flatten().filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == key).and_then(|(_, challenge_id)| challenge_id.parse().ok())
}

fn requested_at(item: &Item) -> Result<i128, StoreError> {
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
        OffsetDateTime::UNIX_EPOCH + time::Duration::hours(self.0 + 1)
    }

    /// The partition key of the user's item.
    fn of_user(self, user: &UserId) -> String {
        let mut input = b"circle-pin-reset/rate-limit/1".to_vec();
        input.extend((user.as_str().len() as u64).to_be_bytes());
        input.extend(user.as_str().as_bytes());
        input.extend(self.0.to_be_bytes());
        hex::encode(digest(&SHA256, &input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn each_user_and_hour_has_its_own_opaque_key() {
        let user = |id: &str| id.parse().unwrap();
        let hour = Hour::of(datetime!(2026-01-01 12:59:59.999 UTC));
        let key = hour.of_user(&user("alice"));
        assert_eq!(key, "c96ad15abfdcca1b77d9a51838259723a582e7313277c274ad3e269bd4b4dcec");
        assert_eq!(key, Hour::of(datetime!(2026-01-01 12:00 UTC)).of_user(&user("alice")));
        assert_ne!(key, hour.of_user(&user("bobby")));
        assert_ne!(key, hour.before().of_user(&user("alice")));
        assert_eq!(hour.end(), datetime!(2026-01-01 13:00 UTC));
    }
}
