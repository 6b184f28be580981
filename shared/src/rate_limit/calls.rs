//! How often a user's requests may reach Circle: a cell rate limiter (GCRA).
//!
//! A bucket is one number, the theoretical arrival time (TAT): when the next request would arrive if they all came evenly.
//! A request is allowed if the TAT is less than a burst ahead of now, and moves the TAT on by an interval. DynamoDB has no
//! `max()`, so the TAT of an idle bucket is set with one conditional write, and that of a busy one with a second.

use std::time::Duration;

use time::OffsetDateTime;

use super::RateLimits;
use crate::dynamodb::{Item, StoreError, Written, milliseconds, number, text, unavailable, unreadable};
use crate::user_id::UserId;

/// How far ahead of now a TAT may be beyond the burst. A larger one comes from a clock that was ahead, and is reset. A user
/// waits for this time at most because of such a clock, and no two clocks that work differ by as much.
const CLOCK_ERROR: Duration = Duration::from_secs(60);

/// How long an item is kept after its last request: longer than reconciliation defers a user's checks.
const RETENTION: Duration = Duration::from_secs(4 * 3600);

/// A kind of request with a limit of its own: `burst` requests at once, and then one in each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    tat: &'static str,
    call: &'static str,
    burst: u32,
    interval: Duration,
}

impl Bucket {
    /// Requests that create or read something at Circle.
    pub fn calls(burst: u32, interval: Duration) -> Self {
        Self { tat: "callsTat", call: "callsId", burst, interval }
    }

    /// Polls of challenges.
    pub const POLLS: Self =
        Self { tat: "pollsTat", call: "pollsId", burst: 20, interval: Duration::from_secs(2) };

    /// How far ahead of now the TAT may be for another request to be allowed.
    fn tolerance(&self) -> Duration {
        self.interval * (self.burst - 1)
    }
}

/// Whether a request is within the user's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// It is, and has been counted.
    Allowed,
    /// It is not.
    Exceeded {
        /// When the next request will be allowed.
        until: OffsetDateTime,
    },
    /// The operator has blocked the user: the item has the attribute `blocked`. A blocked user's item is not written, so it
    /// stays for as long as it has no `expiresAt`.
    Blocked,
}

impl RateLimits {
    /// Counts a request that may reach Circle. If it hands out a session, the item remembers when. One call for an idle
    /// user, else two.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn count_call(
        &self,
        user: &UserId,
        bucket: Bucket,
        hands_out_session: bool,
    ) -> Result<RateLimit, StoreError> {
        // An id of this request: if the response is lost and the SDK repeats the call, it is not counted twice.
        let id = text(&self.random.uuid().to_string());
        let now = self.clock.now();
        let (key, interval, tolerance) = (self.key_of(user), bucket.interval, bucket.tolerance());
        let (tat, call) = (bucket.tat, bucket.call);
        let write = || {
            let update = self
                .update(&key)
                .set(format!("{call} = :id"), ":id", id.clone())
                .set("expiresAt = :expires", ":expires", number((now + RETENTION).unix_timestamp()))
                .value(":now", number(milliseconds(now)));
            if hands_out_session { update.set_again("sessionAt = :now") } else { update }
        };

        let idle = write()
            .set(format!("{tat} = :next"), ":next", number(milliseconds(now + interval)))
            .value(":reset", number(milliseconds(now + interval + tolerance + CLOCK_ERROR)))
            .condition(&format!(
                "attribute_not_exists(blocked) AND (attribute_not_exists({tat}) OR {tat} <= :now OR {tat} > :reset)"
            ));
        match idle.send().await? {
            Written::Yes(_) => return Ok(RateLimit::Allowed),
            Written::No(old) if old.contains_key("blocked") => return Ok(RateLimit::Blocked),
            Written::No(old) if old.get(call) == Some(&id) => return Ok(RateLimit::Allowed),
            Written::No(_) => {}
        }
        let limit = milliseconds(now + tolerance);
        let busy = write()
            .set(format!("{tat} = {tat} + :interval"), ":interval", number(interval.as_millis()))
            .value(":limit", number(limit))
            .condition(&format!(
                "attribute_not_exists(blocked) AND {tat} > :now AND {tat} <= :limit AND {call} <> :id"
            ));
        let old = match busy.send().await? {
            Written::Yes(_) => return Ok(RateLimit::Allowed),
            Written::No(old) if old.contains_key("blocked") => return Ok(RateLimit::Blocked),
            Written::No(old) => old,
        };
        match tat_of(&old, tat)? {
            Some(tat) if tat > limit && old.get(call) != Some(&id) => {
                let wait = u64::try_from(tat - limit).unwrap_or(u64::MAX);
                Ok(RateLimit::Exceeded { until: now + Duration::from_millis(wait) })
            }
            // The request has been counted, or the item has expired since the first write.
            _ => Ok(RateLimit::Allowed),
        }
    }

    /// When a session was last handed out to the user, if that was less than a few hours ago. Reads consistently, in one
    /// call.
    ///
    /// # Errors
    /// If the table cannot be reached, or the item is not readable.
    pub async fn last_session(&self, user: &UserId) -> Result<Option<OffsetDateTime>, StoreError> {
        let get = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("limitKey", text(&self.key_of(user)))
            .projection_expression("sessionAt")
            .consistent_read(true);
        let found = get.send().await.map_err(|error| unavailable("GetItem", error))?;
        let Some(session_at) = found.item.as_ref().and_then(|item| item.get("sessionAt")) else {
            return Ok(None);
        };
        let milliseconds: Option<i128> = session_at.as_n().ok().and_then(|number| number.parse().ok());
        let nanoseconds = milliseconds.and_then(|milliseconds| milliseconds.checked_mul(1_000_000));
        let instant = nanoseconds.and_then(|at| OffsetDateTime::from_unix_timestamp_nanos(at).ok());
        instant.map(Some).ok_or(unreadable("sessionAt"))
    }

    /// The key of a user's item.
    fn key_of(&self, user: &UserId) -> String {
        self.hash_key.digest("circle-pin-reset/calls/1", &[user.as_str().as_bytes()])
    }
}

fn tat_of(item: &Item, attribute: &'static str) -> Result<Option<i128>, StoreError> {
    let Some(tat) = item.get(attribute) else { return Ok(None) };
    let tat = tat.as_n().ok().and_then(|number| number.parse().ok());
    tat.map(Some).ok_or(unreadable(attribute))
}
