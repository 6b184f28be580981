//! Open challenges: the sparse index that lists them, the claims on due checks, and the writes that follow a check.
//!
//! The caller decides when the next check is due and when a challenge is abandoned.

use aws_sdk_dynamodb::types::AttributeValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::item::challenge;
use super::{ChallengeStore, shard_of};
use crate::challenge::{Challenge, FINAL_RANK};
use crate::dynamodb::{
    Item, StoreError, Update, Written, instant, number, text, timestamp, unavailable, unreadable,
};
use crate::user_id::UserId;

/// The sparse index of requested challenges that are not final.
const INDEX: &str = "open-challenges";

/// The maximum number of challenges in a page.
const PAGE_SIZE: i32 = 100;

/// A challenge whose check is due, as the index lists it. The record may have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueChallenge {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// The user that the challenge belongs to.
    pub user_id: UserId,
    /// When the record was created.
    pub created_at: OffsetDateTime,
    /// When the check was due for the first time, in whole seconds: before it was deferred or rescheduled.
    pub due_at: OffsetDateTime,
    next_check_at: i64,
}

/// A page of due challenges. Those that have been due for longest come first.
#[derive(Debug)]
pub struct DuePage {
    /// The challenges, each with its id as the table has it. An item that cannot be read is an error in its place.
    pub challenges: Vec<(String, Result<DueChallenge, StoreError>)>,
    /// Where the next page starts, if there is one.
    pub next: Option<PageKey>,
}

/// Where a page of the index starts.
#[derive(Debug)]
pub struct PageKey(Item);

/// A claimed check. Nobody else checks the challenge before the next check is due.
#[derive(Debug)]
pub struct Check {
    /// The record.
    pub challenge: Challenge,
    /// When this check was due for the first time.
    due_at: OffsetDateTime,
    /// When the next check is due, in seconds since the Unix epoch. It identifies the claim.
    next_check_at: i64,
}

/// Why a challenge is no longer checked. A webhook or a caller's poll can still settle it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AbandonReason {
    /// Circle says that the challenge is still open, after a long time: the user has walked away.
    StillOpen,
    /// The challenge has been open for a long time, and its checks fail.
    ChecksFailed,
    /// Circle does not know the challenge.
    NotFound,
}

impl AbandonReason {
    /// The value that is stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What became of a challenge that an operator wants to be checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ResumeOutcome {
    /// It was abandoned. Now its next check is due.
    Resumed,
    /// It is open and was not abandoned, so it is checked anyway.
    NotAbandoned,
    /// It has a final status.
    Settled,
    /// Nobody has requested such a challenge through this service.
    NotFound,
}

impl ResumeOutcome {
    /// The value that is returned to the operator.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl ChallengeStore {
    /// A page of the challenges in one shard of the index (from 0 to [`OPEN_SHARDS`](super::OPEN_SHARDS)) whose check
    /// was due at `by` or earlier. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
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
            .limit(PAGE_SIZE);
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

    /// Makes a due check due later, in whole seconds. The record keeps the time at which it was due for the first time.
    /// `false` if another run has claimed or deferred the check or the record is final. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn defer(&self, due: &DueChallenge, until: OffsetDateTime) -> Result<bool, StoreError> {
        let defer = self
            .while_due(due)
            .set("nextCheckAt = :until", ":until", number(until.unix_timestamp()))
            .set("dueAt = :due", ":due", number(due.due_at.unix_timestamp()));
        Ok(matches!(defer.send().await?, Written::Yes(_)))
    }

    /// Claims a due check and sets when the next one is due, in whole seconds. `None` if another run has claimed the
    /// check or the record is final. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn claim_check(
        &self,
        due: &DueChallenge,
        next_check_at: OffsetDateTime,
    ) -> Result<Option<Check>, StoreError> {
        let next_check_at = next_check_at.unix_timestamp();
        let claim =
            self.while_due(due).set("nextCheckAt = :next", ":next", number(next_check_at)).remove(&["dueAt"]);
        let Written::Yes(item) = self.claim(claim).await? else { return Ok(None) };
        Ok(Some(Check { challenge: challenge(&item)?, due_at: due.due_at, next_check_at }))
    }

    /// Makes a check that failed due again, in whole seconds. The record keeps the time at which it was due for the first
    /// time. Changes nothing if the challenge has been settled or checked again since. One call.
    ///
    /// # Errors
    /// If the table cannot be reached. The next check is then due when the claim said.
    pub async fn reschedule(&self, check: &Check, next_check_at: OffsetDateTime) -> Result<(), StoreError> {
        let next_check_at = next_check_at.unix_timestamp();
        let update = self.after(check).set("nextCheckAt = :next", ":next", number(next_check_at)).set(
            "dueAt = :due",
            ":due",
            number(check.due_at.unix_timestamp()),
        );
        update.send().await.map(drop)
    }

    /// Records that Circle does not know the challenge. Returns every time that this has been recorded, the new one
    /// included, in whole seconds and in no particular order. Records and returns nothing if the challenge has been
    /// settled or checked again since. One call.
    ///
    /// # Errors
    /// If the table cannot be reached. The call can be retried.
    pub async fn record_not_found(&self, check: &Check) -> Result<Vec<OffsetDateTime>, StoreError> {
        let now = self.clock.now().unix_timestamp();
        // A set, so that a retried write counts once.
        let update =
            self.after(check).add("notFoundAt :now").value(":now", AttributeValue::Ns(vec![now.to_string()]));
        let Written::Yes(item) = update.send().await? else { return Ok(Vec::new()) };
        let times = item.get("notFoundAt").and_then(|times| times.as_ns().ok());
        let times = times.into_iter().flatten().filter_map(|time| time.parse().ok());
        Ok(times.filter_map(|time| OffsetDateTime::from_unix_timestamp(time).ok()).collect())
    }

    /// Takes a challenge off the index, so that it is no longer checked. `false` if it has been settled or checked
    /// again since. One call.
    ///
    /// # Errors
    /// If the table cannot be reached. The call can be retried.
    pub async fn abandon(&self, check: &Check, reason: AbandonReason) -> Result<bool, StoreError> {
        let now = timestamp(self.clock.now());
        let update = self
            .after(check)
            .set("abandonedAt = :now", ":now", now.clone())
            .set("abandonedReason = :reason", ":reason", text(reason.as_str()))
            .remove(&["openShard", "nextCheckAt", "dueAt"]);
        Ok(match update.send().await? {
            Written::Yes(_) => true,
            // The AWS SDK retried a write that had succeeded, because the response was lost.
            Written::No(old) => old.get("abandonedAt") == Some(&now),
        })
    }

    /// Puts an abandoned challenge back on the index, with a check that is due now. Changes nothing else. One call.
    ///
    /// # Errors
    /// If the table cannot be reached, or the record is not readable. The call can be retried.
    pub async fn resume(&self, challenge_id: Uuid) -> Result<ResumeOutcome, StoreError> {
        let resume = Update::new(self.update(challenge_id))
            .set("openShard = :shard", ":shard", number(shard_of(challenge_id)))
            .set("nextCheckAt = :now", ":now", number(self.clock.now().unix_timestamp()))
            .remove(&["abandonedAt", "abandonedReason", "notFoundAt"])
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .condition("attribute_exists(abandonedAt) AND #rank < :final");
        let old = match self.claim(resume).await? {
            Written::Yes(_) => return Ok(ResumeOutcome::Resumed),
            Written::No(old) => old,
        };
        Ok(if !old.contains_key("requestedAt") {
            ResumeOutcome::NotFound
        } else if challenge(&old)?.status.is_final() {
            ResumeOutcome::Settled
        } else {
            ResumeOutcome::NotAbandoned
        })
    }

    /// An update that only succeeds while the check is due as it was read, and the challenge is not final.
    fn while_due(&self, due: &DueChallenge) -> Update {
        Update::new(self.update(due.id))
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .value(":seen", number(due.next_check_at))
            .condition("nextCheckAt = :seen AND #rank < :final")
    }

    /// An update that only succeeds while the check is the latest one and the challenge is not final.
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
    let seconds = |attribute| item.get(attribute).and_then(|value| value.as_n().ok()?.parse::<i64>().ok());
    let next_check_at = seconds("nextCheckAt").ok_or(unreadable("nextCheckAt"))?;
    let due_at = seconds("dueAt").unwrap_or(next_check_at);
    Ok(DueChallenge {
        id: text("challengeId")?.parse().map_err(|_| unreadable("challengeId"))?,
        user_id: text("userId")?.parse().map_err(|_| unreadable("userId"))?,
        created_at: instant(item, "createdAt")?,
        due_at: OffsetDateTime::from_unix_timestamp(due_at).map_err(|_| unreadable("dueAt"))?,
        next_check_at,
    })
}
