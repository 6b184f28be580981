//! EventBridge and SQS on one machine: `PutEvents` and `SendMessage` for the real AWS SDK, with one bus and one queue.
//!
//! `GET /events` and `GET /unreadable-records` return what they have received. They respond once every earlier change is
//! announced, so that a script does not have to wait.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock};
use shared::random::Random;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::aws_json::{self, AwsError};
use crate::server::Server;

/// The name of the bus.
pub const EVENT_BUS: &str = "events";

/// The most entries in a call of `PutEvents`.
const MAX_ENTRIES: usize = 10;

/// A running EventBridge and SQS. They keep what they receive in memory.
#[derive(Debug)]
pub struct EventBus {
    server: Server,
    state: Arc<Received>,
}

/// How a call of `PutEvents` fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusFault {
    /// 500 `InternalException`. No event is accepted. The AWS SDK retries the call.
    Unavailable,
    /// 400 `AccessDeniedException`. The AWS SDK does not retry the call.
    AccessDenied,
    /// All events are accepted, and the response is lost.
    ResponseLost,
    /// The entries at these positions are not accepted, and the others are.
    EntriesFail(Vec<usize>),
}

impl EventBus {
    /// Serves an empty bus and an empty queue on `listener`. Needs a tokio runtime.
    ///
    /// Before they are read, they send a request to `catch_up`. The reader of the stream fulfils it once it is up to date.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(
        listener: TcpListener,
        clock: AdjustableClock,
        random: Arc<Random>,
        catch_up: mpsc::UnboundedSender<oneshot::Sender<()>>,
    ) -> io::Result<Self> {
        let state = Arc::new(Received {
            clock,
            random,
            catch_up,
            content: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let router = Router::new()
            .route("/", post(handle))
            .route("/events", get(async |State(state): Shared| Json(state.events().await)))
            .route(
                "/unreadable-records",
                get(async |State(state): Shared| Json(state.unreadable_records().await)),
            )
            .with_state(state.clone());
        Ok(Self { server: Server::start(listener, router)?, state })
    }

    /// The endpoint, for the AWS SDK's `AWS_ENDPOINT_URL_EVENTBRIDGE` and `AWS_ENDPOINT_URL_SQS`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The events of every change so far, in the form in which EventBridge delivers them.
    pub async fn events(&self) -> Vec<Value> {
        self.state.events().await
    }

    /// The X-Ray header that each event was published with.
    pub async fn trace_headers(&self) -> Vec<Option<String>> {
        self.state.catch_up().await;
        self.state.content().trace_headers.clone()
    }

    /// A handle that reads what the bus has received, without waiting for anything.
    pub fn reader(&self) -> EventReader {
        EventReader(Arc::clone(&self.state))
    }

    /// Waits until at least `count` events have been received since the start.
    pub async fn wait_for_events(&self, count: usize) {
        // The sender lives as long as this handle does.
        let _ = self.state.count.subscribe().wait_for(|received| *received >= count).await;
    }

    /// The records on the queue.
    pub async fn unreadable_records(&self) -> Vec<Value> {
        self.state.unreadable_records().await
    }

    /// Makes the next calls of `PutEvents` fail, each with one of the faults.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = BusFault>) {
        self.state.content().faults.extend(faults);
    }

    /// Whether the queue accepts messages from now on.
    pub fn set_queue_available(&self, is_available: bool) {
        self.state.content().queue_fails = !is_available;
    }

    /// Stops the server and frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

/// Reads the events that a bus has received.
#[derive(Debug, Clone)]
pub struct EventReader(Arc<Received>);

impl EventReader {
    /// The events after the first `count`, each with the time of its arrival, because its own time has whole seconds.
    pub fn after(&self, count: usize) -> Vec<(OffsetDateTime, Value)> {
        self.0.content().events.iter().skip(count).cloned().collect()
    }
}

type Shared = State<Arc<Received>>;

#[derive(Debug)]
struct Received {
    clock: AdjustableClock,
    random: Arc<Random>,
    catch_up: mpsc::UnboundedSender<oneshot::Sender<()>>,
    content: Mutex<Content>,
    /// How many events have been received.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Content {
    events: Vec<(OffsetDateTime, Value)>,
    /// Of each event. EventBridge hands it to the event's targets beside the event.
    trace_headers: Vec<Option<String>>,
    messages: Vec<Value>,
    faults: VecDeque<BusFault>,
    queue_fails: bool,
}

impl Received {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn events(&self) -> Vec<Value> {
        self.catch_up().await;
        self.content().events.iter().map(|(_, event)| event.clone()).collect()
    }

    async fn unreadable_records(&self) -> Vec<Value> {
        self.catch_up().await;
        self.content().messages.clone()
    }

    async fn catch_up(&self) {
        let (done, is_done) = oneshot::channel();
        // Neither fails before the stack stops, and then there is nothing to wait for.
        let _ = self.catch_up.send(done);
        let _ = is_done.await;
    }
}

async fn handle(State(state): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let mut content_type = aws_json::CONTENT_TYPE;
    let result = aws_json::operation(&headers).and_then(|operation| match operation {
        "AWSEvents.PutEvents" => aws_json::request(&body).and_then(|request| put_events(&state, request)),
        "AmazonSQS.SendMessage" => {
            content_type = "application/x-amz-json-1.0";
            aws_json::request(&body).and_then(|request| send_message(&state, request))
        }
        _ => Err(aws_json::unknown_operation()),
    });
    aws_json::response(result, content_type, &state.random)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Entry>,
}

/// An event in `PutEvents`, with the members that the functions use.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Entry {
    source: String,
    detail_type: String,
    detail: String,
    event_bus_name: String,
    trace_header: Option<String>,
}

fn put_events(state: &Received, request: PutEvents) -> Result<Value, AwsError> {
    if !(1..=MAX_ENTRIES).contains(&request.entries.len()) {
        return Err(AwsError::bad_request("ValidationException", "There must be 1 to 10 entries."));
    }
    let fault = state.content().faults.pop_front();
    let failing = match &fault {
        Some(BusFault::Unavailable) => return Err(AwsError::internal("InternalException")),
        Some(BusFault::AccessDenied) => {
            return Err(AwsError::bad_request(
                "AccessDeniedException",
                "User is not authorized to perform: events:PutEvents",
            ));
        }
        Some(BusFault::EntriesFail(positions)) => positions.as_slice(),
        Some(BusFault::ResponseLost) | None => &[],
    };
    let entries = request.entries.into_iter().enumerate();
    let results: Vec<Value> = entries
        .map(|(position, entry)| {
            if failing.contains(&position) {
                json!({ "ErrorCode": "InternalFailure", "ErrorMessage": "Internal failure" })
            } else {
                accept(state, entry)
            }
        })
        .collect();
    if fault == Some(BusFault::ResponseLost) {
        return Err(AwsError::internal("InternalException"));
    }
    let failed = results.iter().filter(|result| result.get("ErrorCode").is_some()).count();
    Ok(json!({ "FailedEntryCount": failed, "Entries": results }))
}

/// Keeps an event, unless it is invalid. Returns the result of its entry.
fn accept(state: &Received, entry: Entry) -> Value {
    let Ok(detail) = serde_json::from_str::<Value>(&entry.detail) else {
        return json!({ "ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed." });
    };
    if entry.event_bus_name != EVENT_BUS {
        return json!({ "ErrorCode": "NotFound", "ErrorMessage": "The bus does not exist." });
    }
    let id = state.random.uuid();
    let Entry { source, detail_type, trace_header, .. } = entry;
    tracing::info!(%id, detail_type, %detail, "event received");
    let now = state.clock.now();
    let time = now.truncate_to_second();
    let mut content = state.content();
    let event = json!({
        "version": "0",
        "id": id,
        "time": time.format(&Rfc3339).expect("years of four digits can be written"),
        "source": source,
        "detail-type": detail_type,
        "detail": detail,
    });
    content.events.push((now, event));
    content.trace_headers.push(trace_header);
    state.count.send_replace(content.events.len());
    json!({ "EventId": id })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage {
    message_body: String,
}

fn send_message(state: &Received, request: SendMessage) -> Result<Value, AwsError> {
    let mut content = state.content();
    if content.queue_fails {
        return Err(AwsError::internal("InternalFailure"));
    }
    let record = serde_json::from_str(&request.message_body);
    content.messages.push(record.unwrap_or(Value::String(request.message_body)));
    Ok(json!({ "MessageId": state.random.uuid() }))
}
