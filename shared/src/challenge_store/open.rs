//! The scheduled look at challenges that no webhook has settled: the sparse index, and the claims on what is due.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::item::challenge;
use super::{ChallengeStore, FIRST_CHECK};
use crate::challenge::{Challenge, FINAL_RANK};
use crate::dynamodb::{
    Item, StoreError, Update, Written, instant, number, text, timestamp, unavailable, unreadable,
};
use crate::user_id::UserId;

/// The sparse index of requested challenges that are not final.
const INDEX: &str = "open-challenges";

/// How many challenges are read at once.
const PAGE: i32 = 100;

/// The longest wait between two looks at a challenge.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// The wait after a look that failed through no fault of the challenge's: long enough for others to be looked at first.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(5 * 60);

/// How often Circle has to say that it does not know a challenge, and over how long, before that is believed.
const MISSES: usize = 3;
const MISSES_OVER: Duration = Duration::from_secs(24 * 3600);

/// A challenge whose look is due, as the index has it: the record itself may be further along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueChallenge {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// The user that it is for.
    pub user_id: UserId,
    /// When the record was made.
    pub created_at: OffsetDateTime,
    next_check_at: i64,
}

/// A part of what is due, those that have waited longest first.
#[derive(Debug)]
pub struct DuePage {
    /// The challenges, each with its id as the table has it; an item that cannot be read is in its place.
    pub challenges: Vec<(String, Result<DueChallenge, StoreError>)>,
    /// Where the rest begins, if there is more.
    pub next: Option<PageKey>,
}

/// Where in the index a page begins.
#[derive(Debug)]
pub struct PageKey(Item);

/// A look that was claimed: nobody else takes one until the next is due.
#[derive(Debug)]
pub struct Check {
    /// The record.
    pub challenge: Challenge,
    /// When the next look is due.
    next_check_at: i64,
    /// Whether Circle has said before that it does not know the challenge.
    was_not_found: bool,
}

/// Why a challenge is no longer looked at. A webhook or a caller's poll still settles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AbandonReason {
    /// It has not been settled for too long.
    Age,
    /// Circle does not know it.
    NotFound,
}

impl AbandonReason {
    /// The value that is stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl ChallengeStore {
    /// The challenges of one shard of the index (from 0 to [`OPEN_SHARDS`](super::OPEN_SHARDS)) whose look was
    /// due by `by`. One call.
    ///
    /// # Errors
    /// When the table gave no answer.
    pub async fn due(
        &self,
        shard: u8,
        by: OffsetDateTime,
        from: Option<PageKey>,
    ) -> Result<DuePage, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(INDEX)
            .key_condition_expression("openShard = :shard AND nextCheckAt <= :by")
            .expression_attribute_values(":shard", number(shard))
            .expression_attribute_values(":by", number(by.unix_timestamp()))
            .set_exclusive_start_key(from.map(|key| key.0))
            .limit(PAGE);
        let output = query.send().await.map_err(|error| unavailable("Query", error))?;
        Ok(DuePage {
            challenges: output
                .items
                .unwrap_or_default()
                .iter()
                .map(|item| (id(item), due_challenge(item)))
                .collect(),
            next: output.last_evaluated_key.map(PageKey),
        })
    }

    /// Claims the look that is due, and puts the next one further off: by the challenge's age, from 10 minutes to 6
    /// hours. `None` where another run has claimed it or the record is final. One call.
    ///
    /// # Errors
    /// When the table gave no answer.
    pub async fn claim_check(&self, due: &DueChallenge) -> Result<Option<Check>, StoreError> {
        let now = self.clock.now();
        let age = Duration::try_from(now - due.created_at).unwrap_or_default();
        let wait = age.clamp(FIRST_CHECK, LONGEST_WAIT);
        let next_check_at = (now + wait + self.random.jitter(wait / 10)).unix_timestamp();
        let claim = Update::new(self.update(due.id))
            .set("nextCheckAt = :next", ":next", number(next_check_at))
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .value(":seen", number(due.next_check_at))
            .condition("nextCheckAt = :seen AND #rank < :final");
        let Written::Yes(item) = self.claim(claim).await? else { return Ok(None) };
        Ok(Some(Check {
            challenge: challenge(&item)?,
            next_check_at,
            was_not_found: item.contains_key("notFoundAt"),
        }))
    }

    /// Makes a look due again soon that could not be taken, because Circle did not answer. One call.
    ///
    /// # Errors
    /// When the table gave no answer; the next look then comes at its own time.
    pub async fn reschedule(&self, check: &Check) -> Result<(), StoreError> {
        let soon = self.clock.now() + WAIT_AFTER_FAILURE;
        let update = self.after(check).set("nextCheckAt = :soon", ":soon", number(soon.unix_timestamp()));
        update.send().await.map(drop)
    }

    /// Notes that Circle does not know the challenge. With the third such answer over 24 hours it is believed, and the
    /// challenge is given up, which is what `true` says. One call, or two when that happens.
    ///
    /// # Errors
    /// When the table gave no answer; the call may be repeated.
    pub async fn record_not_found(&self, check: &Check) -> Result<bool, StoreError> {
        let now = self.clock.now().unix_timestamp();
        // A set: an answer that is noted twice counts once.
        let update = self
            .after(check)
            .clause("ADD notFoundAt :now")
            .value(":now", AttributeValue::Ns(vec![now.to_string()]));
        let Written::Yes(item) = update.send().await? else { return Ok(false) };
        let misses = item.get("notFoundAt").and_then(|misses| misses.as_ns().ok());
        let misses: Vec<i64> = misses.into_iter().flatten().filter_map(|miss| miss.parse().ok()).collect();
        let over = now - misses.iter().min().unwrap_or(&now);
        if misses.len() < MISSES || over < MISSES_OVER.as_secs() as i64 {
            return Ok(false);
        }
        self.abandon(check, AbandonReason::NotFound).await
    }

    /// Notes that Circle knows the challenge, after all where it did not before. One call there, else none.
    ///
    /// # Errors
    /// When the table gave no answer; the call may be repeated.
    pub async fn clear_not_found(&self, check: &Check) -> Result<(), StoreError> {
        if check.was_not_found {
            self.after(check).clause("REMOVE notFoundAt").send().await?;
        }
        Ok(())
    }

    /// Takes a challenge off the index, so that it is not looked at again; `false` where it has been settled in the
    /// meantime. One call.
    ///
    /// # Errors
    /// When the table gave no answer; the call may be repeated.
    pub async fn abandon(&self, check: &Check, why: AbandonReason) -> Result<bool, StoreError> {
        let now = timestamp(self.clock.now());
        let update = self
            .after(check)
            .set("abandonedAt = :now", ":now", now.clone())
            .set("abandonedReason = :why", ":why", text(why.as_str()))
            .clause("REMOVE openShard, nextCheckAt");
        Ok(match update.send().await? {
            Written::Yes(_) => true,
            // Our own write whose answer was lost.
            Written::No(old) => old.get("abandonedAt") == Some(&now),
        })
    }

    /// A write after a check, for as long as the look is the last one and the challenge is not final.
    fn after(&self, check: &Check) -> Update {
        Update::new(self.update(check.challenge.id))
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .value(":claimed", number(check.next_check_at))
            .condition("nextCheckAt = :claimed AND #rank < :final")
    }
}

fn id(item: &Item) -> String {
    item.get("challengeId").and_then(|id| id.as_s().ok()).cloned().unwrap_or_default()
}

/// Reads an item of the index.
fn due_challenge(item: &Item) -> Result<DueChallenge, StoreError> {
    let text =
        |attribute| item.get(attribute).and_then(|value| value.as_s().ok()).ok_or(unreadable(attribute));
    let next_check_at = item.get("nextCheckAt").and_then(|value| value.as_n().ok());
    Ok(DueChallenge {
        id: text("challengeId")?.parse().map_err(|_| unreadable("challengeId"))?,
        user_id: text("userId")?.parse().map_err(|_| unreadable("userId"))?,
        created_at: instant(item, "createdAt")?,
        next_check_at: next_check_at.and_then(|at| at.parse().ok()).ok_or(unreadable("nextCheckAt"))?,
    })
}
