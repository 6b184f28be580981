//! Announcements: reads the stream of the challenges table and publishes events on an EventBridge bus.
//!
//! Lambda invokes the function with the changes of a shard in order, and retries everything from the first change that
//! failed. A change that always fails would therefore block its shard. So a change that cannot be read goes to a queue
//! and counts as done. A change fails only if one of its events could not be published, or the queue did not take it.
//!
//! The events of one challenge are sent in the order of its changes, and retries keep that order. So the last event that
//! is sent is about the newest change.
//!
//! `event` decides without I/O which events a change causes. `record` reads a change from the stream, `bus` and `queue`
//! send. An operator can invoke the function by hand to publish events again (`republish`).

mod aws_call;
mod bus;
mod event;
mod queue;
mod record;
mod republish;

use std::collections::BTreeSet;
use std::iter::{repeat_n, zip};
use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::Value;
use shared::challenge_store::ChallengeStore;
use shared::clock::{Clock, Deadline};
use shared::config::{self, SettingError};
use shared::lambda::challenge_ids;
use shared::metric::Metric;
use shared::platform::Platform;
use shared::request;
use shared::telemetry::{self, Chain};

use self::bus::Bus;
pub use self::event::{DETAIL_TYPES, Event, events};
use self::queue::UnreadableRecords;
use self::record::RecordError;
pub use self::republish::Republished;
use self::republish::UnknownEvent;

/// The longest that an invocation may take. Lambda's own time limit is longer.
pub const RUN_LIMIT: Duration = Duration::from_secs(25);

/// What the function keeps between invocations.
#[derive(Debug)]
pub struct AnnounceChallenges {
    bus: Bus,
    unreadable_records: UnreadableRecords,
    challenges: ChallengeStore,
    clock: Arc<dyn Clock>,
}

/// The response to an invocation.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To a batch of the stream.
    Batch(BatchResponse),
    /// To an operator's command: what was published, for each challenge.
    Republished {
        /// In the order of the command.
        challenges: Vec<Republished>,
    },
}

/// The records of a batch that Lambda has to retry (Lambda developer guide, "Configuring partial batch response with
/// DynamoDB and Lambda").
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<ItemFailure>,
}

/// A record that failed. Lambda retries the first of them and all records after it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    /// Its sequence number. If it has none, this is empty, and Lambda retries the whole batch.
    item_identifier: String,
}

impl AnnounceChallenges {
    /// The function with the settings of the environment.
    ///
    /// # Errors
    /// If a setting is missing.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        Ok(Self {
            bus: Bus::new(platform, config::event_bus_name(environment)?),
            unreadable_records: UnreadableRecords::new(
                platform,
                config::unreadable_records_queue_url(environment)?,
            ),
            challenges: ChallengeStore::new(platform, config::challenges_table(environment)?),
            clock: Arc::clone(&platform.clock),
        })
    }
}

/// Handles an invocation: a batch of the table's stream, or an operator's command to publish events again.
///
/// # Errors
/// If the event is neither of them, or the command has no valid list of ids.
pub async fn handle(
    function: &AnnounceChallenges,
    event: LambdaEvent<Value>,
) -> Result<Response, lambda_runtime::Error> {
    let span = telemetry::invocation(&event.context);
    let deadline = request::invocation_deadline(Some(&event.context), RUN_LIMIT, &*function.clock);
    let work = async {
        match event.payload["Records"].as_array() {
            Some(records) => Ok(Response::Batch(announce(function, records, deadline).await)),
            None => {
                let ids = challenge_ids(&event.payload).ok_or(UnknownEvent)??;
                let challenges = republish::republish(function, ids, deadline).await;
                Ok(Response::Republished { challenges })
            }
        }
    };
    // On the heap, because the compiler cannot compute the layout of futures that are nested this deep.
    telemetry::run(span, Box::pin(work)).await
}

/// Publishes the events of a batch's records, and puts the records that cannot be read on the queue.
async fn announce(function: &AnnounceChallenges, records: &[Value], deadline: Deadline) -> BatchResponse {
    let (mut events, mut record_of_event, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    for (index, record) in records.iter().enumerate() {
        match record::events(record) {
            Ok(found) => {
                record_of_event.extend(repeat_n(index, found.len()));
                events.extend(found);
            }
            Err(error) => unreadable.push((index, error)),
        }
    }
    let published = function.bus.publish(&events, deadline).await;
    let unpublished = zip(record_of_event, published).filter(|(_, is_published)| !is_published);
    let mut failed: BTreeSet<usize> = unpublished.map(|(index, _)| index).collect();
    for (index, error) in unreadable {
        if !keep(function, &records[index], &error, deadline).await {
            failed.insert(index);
        }
    }
    let item_failure =
        |index| ItemFailure { item_identifier: record::sequence_number(&records[index]).to_owned() };
    BatchResponse { batch_item_failures: failed.into_iter().map(item_failure).collect() }
}

/// Puts a record that cannot be read on the queue. Returns whether that succeeded.
async fn keep(
    function: &AnnounceChallenges,
    record: &Value,
    error: &RecordError,
    deadline: Deadline,
) -> bool {
    let sent = function.unreadable_records.send(record, deadline).await;
    let (metric, sequence_number) = (Metric::UnreadableRecord.as_str(), record::sequence_number(record));
    let error = Chain(error);
    match sent {
        Ok(is_whole) => {
            tracing::error!(
                metric, sequence_number, %error, is_whole,
                "a record of the stream cannot be read; it is in the queue of unreadable records"
            );
            true
        }
        Err(queue_error) => {
            tracing::error!(
                metric, sequence_number, %error, queue_error = %Chain(&queue_error),
                "a record of the stream cannot be read, and the queue of unreadable records did not take it"
            );
            false
        }
    }
}
