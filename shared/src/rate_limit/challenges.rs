//! How many challenges a user may create: a number per hour of the clock.
//!
//! An hour's item has `keys`, the set of idempotency keys that went to Circle, and `challenges`, the set of challenges that
//! callers' keys created (each as `KEY=CHALLENGE_ID`).

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::RateLimits;
use crate::circle::CircleIdempotencyKey;
use crate::dynamodb::{Item, StoreError, Written, number, text};
use crate::user_hash::UserHashKey;
use crate::user_id::UserId;

/// How long an item is kept after its hour.
const RETENTION: Duration = Duration::from_secs(2 * 3600);

const SECONDS_PER_HOUR: i64 = 3600;

/// Whether the user may create another challenge in this hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeLimit {
    /// The user may, and the challenge has been counted; or the request repeats one that was.
    Allowed {
        /// The challenge that an earlier request with the same key created in this hour, if it is known.
        known: Option<Uuid>,
    },
    /// The user may not.
    Exceeded {
        /// The end of the hour, when the user may create new challenges again.
        until: OffsetDateTime,
    },
}

impl RateLimits {
    /// Counts the challenge that Circle will get under `key`, if fewer than `per_hour` have been counted in this hour of
    /// the clock. A key that has been counted is allowed again, so the caller may retry the request, and the AWS SDK this
    /// call. One call; its condition alone makes it safe under any concurrency.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn count_challenge(
        &self,
        user: &UserId,
        key: &CircleIdempotencyKey,
        per_hour: u32,
    ) -> Result<ChallengeLimit, StoreError> {
        let hour = Hour::of(self.clock.now());
        let key = key.as_uuid().to_string();
        let update = self
            .update(&hour.of_user(user, &self.hash_key))
            .set("expiresAt = :until", ":until", number((hour.end() + RETENTION).unix_timestamp()))
            .reserved(&["#keys"])
            .add("#keys :keys")
            .value(":key", text(&key))
            .value(":keys", AttributeValue::Ss(vec![key.clone()]))
            .value(":limit", number(per_hour))
            .condition("attribute_not_exists(#keys) OR contains(#keys, :key) OR size(#keys) < :limit");
        Ok(match update.send().await? {
            Written::Yes(item) => ChallengeLimit::Allowed { known: known_challenge(&item, &key) },
            Written::No(_) => ChallengeLimit::Exceeded { until: hour.end() },
        })
    }

    /// Remembers which challenge a caller's key created, for as long as the hour's item is kept. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn remember_challenge(
        &self,
        user: &UserId,
        key: &CircleIdempotencyKey,
        challenge_id: Uuid,
    ) -> Result<(), StoreError> {
        let pair = format!("{}={challenge_id}", key.as_uuid());
        let update = self
            .update(&Hour::of(self.clock.now()).of_user(user, &self.hash_key))
            .add("challenges :pair")
            .value(":pair", AttributeValue::Ss(vec![pair]))
            // Another hour may have begun since the challenge was counted.
            .reserved(&["#keys"])
            .condition("attribute_exists(#keys)");
        update.send().await.map(drop)
    }
}

fn known_challenge(item: &Item, key: &str) -> Option<Uuid> {
    let pairs = item.get("challenges").and_then(|pairs| pairs.as_ss().ok());
    let mut pairs = pairs.into_iter().flatten().filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == key).and_then(|(_, challenge_id)| challenge_id.parse().ok())
}

/// An hour of the clock, by its number since the epoch.
#[derive(Debug, Clone, Copy)]
struct Hour(i64);

impl Hour {
    fn of(instant: OffsetDateTime) -> Self {
        Self(instant.unix_timestamp().div_euclid(SECONDS_PER_HOUR))
    }

    fn end(self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::hours(self.0 + 1)
    }

    /// The key of the user's item.
    fn of_user(self, user: &UserId, key: &UserHashKey) -> String {
        let parts: [&[u8]; 2] = [user.as_str().as_bytes(), &self.0.to_be_bytes()];
        key.digest("circle-pin-reset/challenges-per-hour/1", &parts)
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
        let hash_key = UserHashKey::new("test key of 32 characters or more").unwrap();
        let key = hour.of_user(&user("alice"), &hash_key);
        assert_eq!(key, "fff037ae5b08fc2055f3ab7a0c044badc07a2622213fc213e56113f44d0ea443");
        assert_eq!(key, Hour::of(datetime!(2026-01-01 12:00 UTC)).of_user(&user("alice"), &hash_key));
        assert_ne!(key, hour.of_user(&user("bobby"), &hash_key));
        assert_ne!(key, Hour(hour.0 - 1).of_user(&user("alice"), &hash_key));
        assert_eq!(hour.end(), datetime!(2026-01-01 13:00 UTC));
    }
}
