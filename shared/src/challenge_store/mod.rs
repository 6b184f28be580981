//! Challenge records in DynamoDB.
//!
//! Each write is one `UpdateItem` whose condition alone makes it safe: nothing is read first and written
//! back. Under any mix of duplicates, reordering, concurrency, crashes and retries the rank never falls and
//! a final status never changes.
//!
//! The table's partition key is `challengeId`. While a requested challenge is not final, `openShard` and
//! `nextCheckAt` put it into the sparse index `open-challenges`.

mod item;
mod open;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::open::{AbandonReason, Check, DueChallenge, DuePage, PageKey};

pub(crate) use self::item::{Update, Written, milliseconds, number, text, unavailable, unreadable};
use self::item::{challenge, timestamp};
use crate::challenge::{Challenge, ChallengeType, FINAL_RANK, Failure, Report, Status};
use crate::clock::Clock;
use crate::identity::UserId;
use crate::platform::Platform;
use crate::random::Random;

/// How long a record lives that no caller of this service asked for.
const UNREQUESTED_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long after a challenge's creation the first look for a lost webhook is due.
pub const FIRST_CHECK: time::Duration = time::Duration::minutes(10);

/// The least time between two questions to Circle about one challenge by polling callers.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Partitions of the sparse index. A constant: records carry the number.
pub const OPEN_SHARDS: u8 = 8;

/// The table of challenge records.
#[derive(Debug, Clone)]
pub struct ChallengeStore {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It changed the record, which is now as given.
    Applied(Challenge),
    /// This very notification was applied before.
    Duplicate(Challenge),
    /// The record is as far along, or further.
    Stale(Challenge),
}

/// What became of a claim to ask Circle for a waiting caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollClaim {
    /// The caller may ask.
    Granted,
    /// Somebody has just asked, or there is nothing to ask about. The record, if there is one, is as given: it may be
    /// further along than when it was read.
    Denied(Option<Challenge>),
}

/// Why the table gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB could not be reached, or refused the call.
    #[error("DynamoDB {operation} failed (request id {request_id})")]
    Unavailable {
        /// The operation, by AWS's name.
        operation: &'static str,
        /// The id that AWS's support asks for; `none` where there was no answer.
        request_id: String,
        /// What the AWS SDK said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An item is not as this service writes it.
    #[error("the item has no readable {attribute}")]
    Unreadable {
        /// The attribute at fault.
        attribute: &'static str,
    },
}

impl ChallengeStore {
    /// A store on the given table.
    pub fn new(platform: &Platform, table: String) -> Self {
        Self {
            client: Client::new(&platform.aws),
            table,
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
        }
    }

    /// Records what Circle said, if it is further along than what is known. Makes the record if there is
    /// none. One call.
    ///
    /// # Errors
    /// When the table gave no answer; the report may then be stored or not, and may be repeated.
    pub async fn settle(&self, report: &Report) -> Result<Settlement, StoreError> {
        let now = self.clock.now();
        let mut update = Update::new(self.update(report.challenge_id))
            .set("#status = :status", ":status", text(report.status.as_str()))
            .set("#rank = :rank", ":rank", number(report.status.rank()))
            .set("#type = if_not_exists(#type, :type)", ":type", text(report.challenge_type.as_str()))
            .set("updatedAt = :now", ":now", timestamp(now))
            .set_again("createdAt = if_not_exists(createdAt, :now)")
            .set(
                "expiresAt = if_not_exists(retentionSeconds, :unrequested) + :epoch",
                ":unrequested",
                number(UNREQUESTED_RETENTION.as_secs()),
            )
            .value(":epoch", number(now.unix_timestamp()));
        if let Some(user_id) = &report.user_id {
            update = update.set("userId = if_not_exists(userId, :userId)", ":userId", text(user_id));
        }
        if let Some(id) = &report.notification_id {
            update = update.set("notificationId = :notificationId", ":notificationId", text(id));
        }
        if let Some(code) = report.error_code {
            update = update.set("errorCode = :errorCode", ":errorCode", number(code));
        }
        if let Some(message) = &report.error_message {
            update = update.set("errorMessage = :errorMessage", ":errorMessage", text(message));
        }
        if !report.correlation_ids.is_empty() {
            let ids = report.correlation_ids.iter().map(|id| text(id)).collect();
            update =
                update.set("correlationIds = :correlationIds", ":correlationIds", AttributeValue::L(ids));
        }
        if report.status.is_final() {
            update = update
                .set("settledBy = :settledBy", ":settledBy", text(report.settled_by.as_str()))
                .clause("REMOVE openShard, nextCheckAt");
        }
        if report.status == Status::Failed {
            let reason = Failure::from(report.error_code).reason;
            update = update.set("reason = :reason", ":reason", text(reason));
        }
        match update.condition("attribute_not_exists(#rank) OR #rank < :rank").send().await? {
            Written::Yes(new) => {
                let new = challenge(&new)?;
                note_conflicts(report, &new);
                Ok(Settlement::Applied(new))
            }
            Written::No(old) => {
                let old = challenge(&old)?;
                note_conflicts(report, &old);
                let repeat = old.notification_id.is_some() && old.notification_id == report.notification_id;
                Ok(if repeat { Settlement::Duplicate(old) } else { Settlement::Stale(old) })
            }
        }
    }

    /// Records that `user` asked for the challenge, to be kept for `retention` after its last change, and
    /// answers with the record as it stands then. One call, or two where the challenge's final webhook came
    /// first.
    ///
    /// # Errors
    /// When the table gave no answer; the call may be repeated.
    pub async fn create(
        &self,
        challenge_id: Uuid,
        user: &UserId,
        challenge_type: ChallengeType,
        retention: time::Duration,
    ) -> Result<Challenge, StoreError> {
        let now = self.clock.now();
        let first_check = (now + FIRST_CHECK).unix_timestamp();
        let shard = challenge_id.as_bytes()[15] % OPEN_SHARDS;
        let create = self
            .creation(challenge_id, user, challenge_type, retention, now)
            .set("#status = if_not_exists(#status, :pending)", ":pending", text(Status::Pending.as_str()))
            .set("#rank = if_not_exists(#rank, :zero)", ":zero", number(0))
            .set("openShard = if_not_exists(openShard, :shard)", ":shard", number(shard))
            .set("nextCheckAt = if_not_exists(nextCheckAt, :firstCheck)", ":firstCheck", number(first_check))
            .value(":final", number(FINAL_RANK))
            // It is looked at again, whatever became of that before.
            .clause("REMOVE abandonedAt, abandonedReason, notFoundAt")
            .condition("attribute_not_exists(#rank) OR #rank < :final");
        let settled = match create.send().await? {
            Written::Yes(new) => return challenge(&new),
            Written::No(old) => challenge(&old)?,
        };
        if settled.requested_at.is_some() {
            return Ok(settled);
        }
        if settled.user_id.as_ref().is_some_and(|named| named != user.as_str()) {
            tracing::warn!(metric = "report_of_another_user", %challenge_id, "Circle named another user than the caller");
        }
        let create_on_final = self
            .creation(challenge_id, user, challenge_type, retention, now)
            .name("#rank")
            .value(":final", number(FINAL_RANK))
            .condition("#rank = :final AND attribute_not_exists(requestedAt)");
        match create_on_final.send().await? {
            Written::Yes(record) | Written::No(record) => challenge(&record),
        }
    }

    /// The record, read consistently. One call.
    ///
    /// # Errors
    /// When the table gave no answer or the record is not readable.
    pub async fn get(&self, challenge_id: Uuid) -> Result<Option<Challenge>, StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("challengeId", text(&challenge_id.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| unavailable("GetItem", error))?;
        output.item.as_ref().map(challenge).transpose()
    }

    /// Claims the next question to Circle about the challenge: of many callers at once one gets it, and the
    /// next not before three seconds have passed. Never for a final record. One call.
    ///
    /// # Errors
    /// When the table gave no answer.
    pub async fn claim_poll(&self, challenge_id: Uuid) -> Result<PollClaim, StoreError> {
        let now = self.clock.now();
        let claim = Update::new(self.update(challenge_id))
            .set("polledAt = :now", ":now", number(milliseconds(now)))
            .name("#rank")
            .value(":final", number(FINAL_RANK))
            .value(":before", number(milliseconds(now - POLL_INTERVAL)))
            .condition("#rank < :final AND (attribute_not_exists(polledAt) OR polledAt <= :before)");
        Ok(match self.claim(claim).await? {
            Written::Yes(_) => PollClaim::Granted,
            Written::No(item) if item.is_empty() => PollClaim::Denied(None),
            Written::No(item) => PollClaim::Denied(Some(challenge(&item)?)),
        })
    }

    /// Writes a claim, with an id of its own: so one whose answer was lost, and which the SDK then repeats in
    /// vain, is told from another's.
    async fn claim(&self, claim: Update) -> Result<Written, StoreError> {
        let id = text(&self.random.uuid().to_string());
        Ok(match claim.set("claimedBy = :claim", ":claim", id.clone()).send().await? {
            Written::No(item) if item.get("claimedBy") == Some(&id) => Written::Yes(item),
            written => written,
        })
    }

    fn update(&self, challenge_id: Uuid) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("challengeId", text(&challenge_id.to_string()))
    }

    /// What both ways of recording a creation set.
    fn creation(
        &self,
        challenge_id: Uuid,
        user: &UserId,
        challenge_type: ChallengeType,
        retention: time::Duration,
        now: OffsetDateTime,
    ) -> Update {
        Update::new(self.update(challenge_id))
            .set("userId = :userId", ":userId", text(user.as_str()))
            .set("#type = :type", ":type", text(challenge_type.as_str()))
            .set("requestedAt = if_not_exists(requestedAt, :now)", ":now", timestamp(now))
            .set_again("createdAt = if_not_exists(createdAt, :now)")
            .set_again("updatedAt = if_not_exists(updatedAt, :now)")
            .set("retentionSeconds = :retention", ":retention", number(retention.whole_seconds()))
            .set("expiresAt = :expiresAt", ":expiresAt", number((now + retention).unix_timestamp()))
    }
}

/// Logs and counts what Circle says and the record does not: another user, or a second final status. Neither
/// changes anything.
fn note_conflicts(report: &Report, record: &Challenge) {
    let challenge_id = report.challenge_id;
    if let (Some(named), Some(known)) = (&report.user_id, &record.user_id)
        && named != known
    {
        tracing::warn!(metric = "report_of_another_user", %challenge_id, "Circle names another user than the record");
    }
    if report.status.is_final() && record.status.is_final() && report.status != record.status {
        let (kept, said) = (record.status.as_str(), report.status.as_str());
        tracing::warn!(metric = "conflicting_final_status", %challenge_id, kept, said, "Circle settled the challenge a second time, differently");
    }
}
