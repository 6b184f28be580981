//! The stream of the challenges table, and its reader, which does what Lambda's event source mapping does in the cloud.

use std::time::Duration;

use announce_challenges::{AnnounceChallenges, handle};
use dynoxide::Database;
use dynoxide::actions::get_records::GetRecordsRequest;
use dynoxide::actions::get_shard_iterator::GetShardIteratorRequest;
use dynoxide::actions::list_streams::ListStreamsRequest;
use lambda_http::LambdaEvent;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock, SystemClock};
use shared::telemetry::Chain;
use tokio::sync::{mpsc, oneshot};

use crate::invocation;
use crate::lambda_endpoint::LambdaEndpoint;

/// How long the reader waits if there is nothing new, and before it retries. Lambda reads a stream four times a second,
/// too. The wait is on the machine's clock, so that events are published even if the stack's clock stands still.
const WAIT: Duration = Duration::from_millis(250);

/// The most records in one invocation, as in the cloud.
const BATCH_SIZE: usize = 10;

/// The function's time limit in this process.
const FUNCTION_LIMIT: Duration = Duration::from_secs(30);

/// How long `cargo lambda watch` may take. It compiles the function at its first call.
const WATCH_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Where `announce-challenges` runs.
pub(crate) enum Announcer {
    /// This process.
    InProcess(Box<AnnounceChallenges>),
    /// Another process.
    LambdaEndpoint(LambdaEndpoint),
}

/// The changes of a table, in their order.
pub struct Stream {
    database: Database,
    arn: String,
    shard: String,
    /// Where the unread records begin.
    iterator: String,
}

/// Records that follow each other in a stream.
#[derive(Debug)]
pub struct Batch {
    /// The records, as Lambda passes them to a function.
    pub records: Vec<Value>,
    next: Option<String>,
}

impl Stream {
    /// A stream that begins with the next change of the table.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of(database: Database, table: &str) -> dynoxide::Result<Self> {
        let request =
            ListStreamsRequest { table_name: Some(table.to_owned()), ..ListStreamsRequest::default() };
        let streams = database.list_streams(request)?.streams;
        let arn = streams.into_iter().map(|stream| stream.stream_arn).next().unwrap_or_default();
        let shard = dynoxide::streams::shard_id(table);
        let mut stream = Self { database, arn, shard, iterator: String::new() };
        stream.go_to("LATEST", None)?;
        Ok(stream)
    }

    fn go_to(&mut self, kind: &str, sequence_number: Option<String>) -> dynoxide::Result<()> {
        let found = self.database.get_shard_iterator(GetShardIteratorRequest {
            stream_arn: self.arn.clone(),
            shard_id: self.shard.clone(),
            shard_iterator_type: kind.to_owned(),
            sequence_number,
        })?;
        self.iterator = found.shard_iterator.unwrap_or_default();
        Ok(())
    }

    /// Reads the next records, and moves on.
    pub(crate) fn take(&mut self) -> dynoxide::Result<Vec<Value>> {
        let batch = self.read(BATCH_SIZE)?;
        self.iterator = batch.next.unwrap_or_default();
        Ok(batch.records)
    }

    /// Reads the next records, at most `limit`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn read(&self, limit: usize) -> dynoxide::Result<Batch> {
        let read = self
            .database
            .get_records(GetRecordsRequest { shard_iterator: self.iterator.clone(), limit: Some(limit) })?;
        let records = read.records.iter().map(|record| json!(record)).collect();
        Ok(Batch { records, next: read.next_shard_iterator })
    }

    /// Moves on after an invocation with this batch: to the first record that failed, or past all of them. Returns whether
    /// none failed.
    ///
    /// # Errors
    /// If the response is not one of a function that reports batch item failures.
    pub fn respond(&mut self, batch: Batch, response: &Value) -> Result<bool, BoxError> {
        match first_failure(response)? {
            None => {
                self.iterator = batch.next.ok_or("the stream has ended")?;
                Ok(true)
            }
            Some(failed) => {
                self.go_to("AT_SEQUENCE_NUMBER", Some(failed))?;
                Ok(false)
            }
        }
    }
}

/// Why a stream cannot go on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Reads the stream and invokes the function, until the future is dropped. A request to catch up is fulfilled once
/// everything is done that was in the stream when it came.
pub(crate) async fn announce(
    mut stream: Stream,
    announcer: Announcer,
    clock: AdjustableClock,
    mut requests_to_catch_up: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    loop {
        let waiting = tokio::select! {
            waiting = requests_to_catch_up.recv() => waiting,
            () = SystemClock.sleep(WAIT) => None,
        };
        loop {
            match announce_next(&mut stream, &announcer, &clock).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(error = %Chain(&*error), "announce-challenges failed, retrying");
                    SystemClock.sleep(WAIT).await;
                }
            }
        }
        if let Some(waiting) = waiting {
            // An error means that nobody waits any more.
            let _ = waiting.send(());
        }
    }
}

/// Invokes the function with the next records. Returns whether there were any. If some fail, the next call begins with
/// the first of them.
async fn announce_next(
    stream: &mut Stream,
    announcer: &Announcer,
    clock: &AdjustableClock,
) -> Result<bool, BoxError> {
    let batch = stream.read(BATCH_SIZE)?;
    if batch.records.is_empty() {
        return Ok(false);
    }
    let response = announcer.invoke(json!({ "Records": batch.records }), clock).await?;
    if !stream.respond(batch, &response)? {
        SystemClock.sleep(WAIT).await;
    }
    Ok(true)
}

/// The lowest sequence number among the batch item failures.
fn first_failure(response: &Value) -> Result<Option<String>, &'static str> {
    let failures = response["batchItemFailures"].as_array().ok_or("the response has no batchItemFailures")?;
    let numbers = failures.iter().map(|failure| failure["itemIdentifier"].as_str().map(str::to_owned));
    let numbers: Option<Vec<String>> = numbers.collect();
    // All of them have the same length.
    Ok(numbers.ok_or("a failure has no itemIdentifier")?.into_iter().min())
}

impl Announcer {
    async fn invoke(&self, event: Value, clock: &AdjustableClock) -> Result<Value, BoxError> {
        match self {
            Self::InProcess(function) => {
                let context = invocation::context(clock.now() + FUNCTION_LIMIT);
                let response = handle(function, LambdaEvent::new(event, context)).await?;
                Ok(json!(response))
            }
            Self::LambdaEndpoint(endpoint) => {
                let event = event.to_string();
                let result = endpoint.invoke("announce-challenges", event, WATCH_LIMIT, clock).await?;
                Ok(serde_json::from_slice(&result)?)
            }
        }
    }
}
