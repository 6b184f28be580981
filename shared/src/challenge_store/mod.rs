//! Challenge records in DynamoDB.
//!
//! Each write is one `UpdateItem` whose condition alone makes it safe: nothing is read first and written back. Under any
//! mix of duplicates, reordering, concurrency, crashes and retries the rank never falls, and COMPLETE never changes.
//!
//! The table's partition key is `challengeId`. While a requested challenge is open, `openShard` and `nextCheckAt` put it
//! into the sparse index `open-challenges`. `userId` and `requestedAtMs` put requested challenges into the index
//! `challenges-by-user`.
//!
//! The audit trail of a record is one map for its creation and one for each rank, written together with what they tell of
//! and never again. So it cannot grow.

mod by_user;
mod item;
mod open;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::by_user::{Cursor, InvalidCursor, Page};
pub use self::item::requested_in_image;
pub use self::open::{AbandonReason, Check, DueChallenge, DuePage, PageKey, ResumeOutcome};

use self::item::challenge;
use crate::challenge::{Challenge, ChallengeType, Creation, FINAL_RANK, Report, ReportSource, Status};
use crate::clock::Clock;
use crate::dynamodb::{
    Item, StoreError, Update, Written, milliseconds, number, text, timestamp, unavailable,
};
use crate::failure::FailureReason;
use crate::metric::{self, Metric};
use crate::platform::Platform;
use crate::random::Random;
use crate::telemetry::trace;
use crate::user_id::UserId;

/// How long a record is kept if no caller of this service asked for the challenge.
const UNREQUESTED_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long after a challenge's creation the first reconciliation check is due.
pub const FIRST_CHECK: Duration = Duration::from_secs(10 * 60);

/// The least time between two calls to Circle about one challenge by polling callers.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// How far ahead of now the last poll may be. A later one comes from a clock that was ahead, and is ignored.
const CLOCK_ERROR: Duration = Duration::from_secs(60);

/// Partitions of the sparse index. It cannot change, because records carry their shard.
pub const OPEN_SHARDS: u8 = 8;

/// The table of challenge records.
#[derive(Debug, Clone)]
pub struct ChallengeStore {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

/// The record after a report, and what the report did to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The record as it is now.
    pub record: Challenge,
    /// What the report did.
    pub outcome: ApplyOutcome,
}

/// What a report did to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// It changed the record.
    Applied,
    /// This very notification was applied before.
    Duplicate,
    /// The record is as far along as the report, or further.
    Stale,
}

/// The request that created a challenge, for the audit trail.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The id that API Gateway gave it.
    pub request_id: &'a str,
    /// The address that it came from.
    pub source_ip: Option<IpAddr>,
}

/// Whether a polling caller may ask Circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollClaim {
    /// The caller may ask.
    Granted,
    /// Another caller has just asked, or the challenge is final. The record, if there is one, may be further along than
    /// when it was read.
    Denied(Option<Challenge>),
}

impl ChallengeStore {
    /// A store on this table.
    pub fn new(platform: &Platform, table: String) -> Self {
        Self {
            client: platform.dynamodb.clone(),
            table,
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
        }
    }

    /// Records what Circle said if it is further along than the record, or if there is no record yet. One call.
    ///
    /// # Errors
    /// If the table cannot be reached. The report may then be stored or not, and can be applied again.
    pub async fn apply(&self, report: &Report) -> Result<Applied, StoreError> {
        let now = self.clock.now();
        let mut update = Update::new(self.update(report.challenge_id))
            .reserved(&["#status", "#rank", "#type"])
            .set("#status = :status", ":status", text(report.status.as_str()))
            .set("#rank = :rank", ":rank", number(report.status.rank()))
            .set("#type = if_not_exists(#type, :type)", ":type", text(report.challenge_type.as_str()))
            .set(
                "previousStatus = if_not_exists(#status, :pending)",
                ":pending",
                text(Status::Pending.as_str()),
            )
            .set("updatedAt = :now", ":now", timestamp(now))
            .set_again("checkedAt = :now")
            .set_again("createdAt = if_not_exists(createdAt, :now)")
            .set(
                "expiresAt = if_not_exists(retentionSeconds, :unrequested) + :epoch",
                ":unrequested",
                number(UNREQUESTED_RETENTION.as_secs()),
            )
            .value(":epoch", number(now.unix_timestamp()));
        if let Some(user_id) = &report.user_id {
            update = update
                .set("userId = if_not_exists(userId, :userId)", ":userId", text(user_id.as_str()))
                .set_again("namedUserId = :userId");
        }
        if let Some(id) = report.source.notification_id() {
            update = update.set("notificationId = :notificationId", ":notificationId", text(id));
        }
        // These belong to the status that they came with.
        update = match report.error_code {
            Some(code) => update.set("circleCode = :circleCode", ":circleCode", number(code)),
            None => update.remove(&["circleCode"]),
        };
        update = match &report.error_message {
            Some(message) => update.set("circleMessage = :circleMessage", ":circleMessage", text(message)),
            None => update.remove(&["circleMessage"]),
        };
        update = match report.status.failure_reason(report.error_code) {
            Some(reason) => update.set("reason = :reason", ":reason", text(reason.as_str())),
            None => update.remove(&["reason"]),
        };
        // Circle knows the challenge.
        update = update.remove(&["notFoundAt"]);
        if !report.correlation_ids.is_empty() {
            let ids = report.correlation_ids.iter().map(|id| text(id)).collect();
            update =
                update.set("correlationIds = :correlationIds", ":correlationIds", AttributeValue::L(ids));
        }
        if report.status.is_final() {
            update = update
                .set("settledBy = :settledBy", ":settledBy", text(report.source.as_str()))
                .remove(&["openShard", "nextCheckAt", "dueAt"]);
        }
        let trail = item::trail(report, now);
        update = update.set(format!("{} = :trail", item::trail_of(&report.status)), ":trail", trail);
        let written = update.condition("attribute_not_exists(#rank) OR #rank < :rank").send().await?;
        let (record, is_applied) = match written {
            Written::Yes(new) => (challenge(&new)?, true),
            Written::No(old) => (challenge(&old)?, false),
        };
        log_conflicts(report, &record, is_applied);
        if is_applied && report.status.is_final() {
            log_settled(&record, report.source.as_str(), now);
        }
        let is_same_notification = record.notification_id.is_some()
            && record.notification_id.as_deref() == report.source.notification_id();
        let outcome = match (is_applied, is_same_notification) {
            (true, _) => ApplyOutcome::Applied,
            (false, true) => ApplyOutcome::Duplicate,
            (false, false) => ApplyOutcome::Stale,
        };
        Ok(Applied { record, outcome })
    }

    /// Records that `user` asked for the challenge with this request, and returns the record. It is kept for `retention`
    /// after its last change. One call, or two if the webhook that settled the challenge came first.
    ///
    /// # Errors
    /// If the table cannot be reached; the call can be repeated.
    pub async fn create(
        &self,
        challenge_id: Uuid,
        user: &UserId,
        challenge_type: ChallengeType,
        retention: Duration,
        origin: Origin<'_>,
    ) -> Result<Challenge, StoreError> {
        let now = self.clock.now();
        let first_check = (now + FIRST_CHECK).unix_timestamp();
        let shard = shard_of(challenge_id);
        let create = self
            .creation(challenge_id, user, challenge_type, retention, origin, now)
            .reserved(&["#status", "#rank"])
            .set("#status = if_not_exists(#status, :pending)", ":pending", text(Status::Pending.as_str()))
            .set("#rank = if_not_exists(#rank, :zero)", ":zero", number(0))
            .set("openShard = if_not_exists(openShard, :shard)", ":shard", number(shard))
            .set("nextCheckAt = if_not_exists(nextCheckAt, :firstCheck)", ":firstCheck", number(first_check))
            .value(":final", number(FINAL_RANK))
            // It is checked again, even if it was abandoned before.
            .remove(&["abandonedAt", "abandonedReason", "notFoundAt"])
            .condition("attribute_not_exists(#rank) OR #rank < :final");
        // The AWS SDK retries a write whose response was lost. The time shows that the first attempt succeeded.
        let is_ours = |item: &Item| item.get("requestedAt") == Some(&timestamp(now));
        let (Written::Yes(item) | Written::No(item)) = create.send().await?;
        let is_requested = item.contains_key("requestedAt");
        let is_first = is_ours(&item) || !is_requested;
        if is_first && item.get("namedUserId").is_some_and(|named| *named != text(user.as_str())) {
            log_other_user(challenge_id);
        }
        let record = challenge(&item)?;
        if is_ours(&item) {
            metric::challenge_created(challenge_id, challenge_type.as_str());
        }
        if Creation::on(Some(&record.status), is_requested) != Creation::Settled {
            return Ok(record);
        }
        let create_on_final = self
            .creation(challenge_id, user, challenge_type, retention, origin, now)
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .condition("#rank >= :final AND attribute_not_exists(requestedAt)");
        let (Written::Yes(item) | Written::No(item)) = create_on_final.send().await?;
        let record = challenge(&item)?;
        if is_ours(&item) {
            metric::challenge_created(challenge_id, challenge_type.as_str());
            // Nobody can poll or check a challenge before its record says who requested it.
            log_settled(&record, ReportSource::Webhook { notification_id: None }.as_str(), now);
        }
        Ok(record)
    }

    /// The record, read consistently. One call.
    ///
    /// # Errors
    /// If the table cannot be reached, or the record is not readable.
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

    /// Claims the next call to Circle about the challenge. Of many callers at once one gets it, and the next one only after
    /// three seconds. It is denied for a final record. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn claim_poll(&self, challenge_id: Uuid) -> Result<PollClaim, StoreError> {
        let now = self.clock.now();
        let claim = Update::new(self.update(challenge_id))
            .set("polledAt = :now", ":now", number(milliseconds(now)))
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .value(":before", number(milliseconds(now - POLL_INTERVAL)))
            .value(":ahead", number(milliseconds(now + CLOCK_ERROR)))
            .condition(
                "#rank < :final AND (attribute_not_exists(polledAt) OR polledAt <= :before OR polledAt > :ahead)",
            );
        Ok(match self.claim(claim).await? {
            Written::Yes(_) => PollClaim::Granted,
            Written::No(item) if item.is_empty() => PollClaim::Denied(None),
            Written::No(item) => PollClaim::Denied(Some(challenge(&item)?)),
        })
    }

    /// Records that Circle knows the challenge and says nothing newer than the record. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn confirm(&self, challenge_id: Uuid) -> Result<Challenge, StoreError> {
        let confirm = Update::new(self.update(challenge_id))
            .set("checkedAt = :now", ":now", timestamp(self.clock.now()))
            .remove(&["notFoundAt"])
            .reserved(&["#rank"])
            .value(":final", number(FINAL_RANK))
            .condition("#rank < :final");
        let (Written::Yes(record) | Written::No(record)) = confirm.send().await?;
        challenge(&record)
    }

    /// Writes a claim with an id of its own. If the response is lost and the SDK repeats the call, the condition no longer
    /// holds, and the id shows that the claim is ours.
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

    /// The attributes that both ways of recording a creation set.
    fn creation(
        &self,
        challenge_id: Uuid,
        user: &UserId,
        challenge_type: ChallengeType,
        retention: Duration,
        origin: Origin<'_>,
        now: OffsetDateTime,
    ) -> Update {
        let creation = Update::new(self.update(challenge_id))
            .reserved(&["#type"])
            .set("creation = if_not_exists(creation, :creation)", ":creation", item::creation(origin, now))
            .set("userId = :userId", ":userId", text(user.as_str()))
            .set("#type = :type", ":type", text(challenge_type.as_str()))
            .set("requestedAt = if_not_exists(requestedAt, :now)", ":now", timestamp(now))
            .set("requestedAtMs = if_not_exists(requestedAtMs, :nowMs)", ":nowMs", number(milliseconds(now)))
            .set_again("createdAt = if_not_exists(createdAt, :now)")
            .set_again("updatedAt = if_not_exists(updatedAt, :now)")
            .set_again("checkedAt = if_not_exists(checkedAt, :now)")
            .set("retentionSeconds = :retention", ":retention", number(retention.as_secs()))
            .set("expiresAt = :expiresAt", ":expiresAt", number((now + retention).unix_timestamp()));
        // The events of the challenge continue the trace of this request.
        match trace::traceparent() {
            Some(traceparent) => creation.set(
                "traceparent = if_not_exists(traceparent, :traceparent)",
                ":traceparent",
                text(&traceparent),
            ),
            None => creation,
        }
    }
}

/// The partition of the sparse index that has the challenge while it is open.
fn shard_of(challenge_id: Uuid) -> u8 {
    challenge_id.as_bytes()[15] % OPEN_SHARDS
}

/// Logs and counts a report that contradicts its record: another user, which does not change the record, or a second final
/// status. Only COMPLETE replaces an earlier final status.
fn log_conflicts(report: &Report, record: &Challenge, is_applied: bool) {
    let challenge_id = report.challenge_id;
    if let (Some(named), Some(known)) = (&report.user_id, &record.user_id)
        && named != known
    {
        log_other_user(challenge_id);
    }
    if is_applied && record.previous_status.as_ref().is_some_and(Status::is_final) {
        let previous = record.previous_status.as_ref().map(Status::as_str);
        tracing::warn!(
            metric = Metric::CompleteAfterFailure.as_str(), %challenge_id, previous,
            "Circle reported that a challenge is complete after it had ended without success"
        );
    }
    if !is_applied && report.contradicts(record) {
        let (kept, reported) = (record.status.as_str(), report.status.as_str());
        tracing::warn!(
            metric = Metric::ConflictingFinalStatus.as_str(), %challenge_id, kept, reported,
            "Circle reported a second final status that differs from the first"
        );
    }
}

/// Logs and counts that a requested challenge has a new final status.
fn log_settled(record: &Challenge, settled_by: &'static str, now: OffsetDateTime) {
    let Some(requested_at) = record.requested_at else { return };
    let is_expired = record.status.failure_reason(record.error_code) == Some(FailureReason::Expired);
    let age = (!is_expired).then(|| Duration::try_from(now - requested_at).unwrap_or_default());
    metric::challenge_settled(
        record.id,
        record.challenge_type.as_str(),
        record.status.as_str(),
        settled_by,
        age,
    );
}

/// Logs and counts that Circle names another user for a challenge than the caller who requested it.
fn log_other_user(challenge_id: Uuid) {
    tracing::warn!(
        metric = Metric::ReportOfAnotherUser.as_str(), %challenge_id,
        "Circle named another user than the one who requested the challenge"
    );
}
