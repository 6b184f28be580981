use std::mem::take;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use local::dynamodb::{self, DynamoDb};
use local::stack::StackOptions;
use serde_json::Value;
use shared::clock::AdjustableClock;
use tokio::net::TcpListener;

use crate::support::{App, NOON};

/// A DynamoDB behind a proxy that notes each call, and that can keep calls from it or lose its answers.
pub(crate) struct DynamoDbProxy {
    dynamodb: DynamoDb,
    http: reqwest::Client,
    state: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    operations: Vec<String>,
    down: &'static [&'static str],
    failing: Option<&'static str>,
    calls_to_throttle: usize,
    loses_answers: bool,
    has_lost_one: bool,
    items_read: u64,
}

impl DynamoDbProxy {
    /// An app whose stack has its tables behind a proxy.
    pub(crate) async fn start(clock: AdjustableClock) -> (App, Arc<Self>) {
        Self::start_with(StackOptions { clock, ..StackOptions::default() }).await
    }

    /// An app whose stack has its tables behind a proxy, and these options besides.
    pub(crate) async fn start_with(mut options: StackOptions) -> (App, Arc<Self>) {
        let (clock, data) = (options.clock.clone(), options.data.take());
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            dynamodb: dynamodb::start(listen().await, data.as_deref(), clock.clone()).await.unwrap(),
            http: reqwest::Client::new(),
            state: Mutex::default(),
        });
        let listener = listen().await;
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&proxy));
        tokio::spawn(async { axum::serve(listener, router).await });
        options.settings.insert("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), url);
        (App::with_options(options).await, proxy)
    }

    /// The same at noon, with no webhook, and with the scheduled function run only by hand.
    pub(crate) async fn without_webhooks() -> (App, Arc<Self>) {
        let clock = AdjustableClock::frozen(NOON);
        let options = StackOptions { clock, scheduled: false, ..StackOptions::default() };
        let (app, table) = Self::start_with(options).await;
        app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
        // Circle's first token takes a while of its own.
        app.user_token().await;
        (app, table)
    }

    /// The operations that were called while `work` was done, each with its table, in order.
    pub(crate) async fn operations_of(&self, work: impl Future) -> Vec<String> {
        self.state.lock().unwrap().operations.clear();
        work.await;
        take(&mut self.state.lock().unwrap().operations)
    }

    /// From now on each call to these tables fails, and no other.
    pub(crate) fn set_down(&self, tables: &'static [&'static str]) {
        self.state.lock().unwrap().down = tables;
    }

    /// From now on each write takes effect, but its caller learns only that something failed, and has to repeat it to
    /// be answered.
    pub(crate) fn lose_answers(&self) {
        self.state.lock().unwrap().loses_answers = true;
    }

    /// How many items queries have read so far, by their own count (`ScannedCount`).
    pub(crate) fn items_read(&self) -> u64 {
        self.state.lock().unwrap().items_read
    }

    /// From now on each call with this text in it fails, or none does.
    pub(crate) fn fail_calls_that_say(&self, text: Option<&'static str>) {
        self.state.lock().unwrap().failing = text;
    }

    /// The next calls are refused, because there were too many.
    pub(crate) fn throttle(&self, calls: usize) {
        self.state.lock().unwrap().calls_to_throttle = calls;
    }

    /// Notes an answer, and says whether it may pass.
    fn note_answer(&self, operation: &str, body: &[u8]) -> bool {
        let body: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.state.lock().unwrap();
        state.items_read += body["ScannedCount"].as_u64().unwrap_or(0);
        let is_lost = state.loses_answers && operation.starts_with("UpdateItem") && !state.has_lost_one;
        state.has_lost_one = is_lost;
        !is_lost
    }

    /// Notes a call by its `X-Amz-Target` and its table, and names it, or refuses it.
    fn note(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, (StatusCode, &'static str)> {
        let operation = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap();
        let text = std::str::from_utf8(body).unwrap();
        let body: Value = serde_json::from_str(text).unwrap();
        let table = body["TableName"].as_str().unwrap_or("several tables");
        let mut state = self.state.lock().unwrap();
        let call = format!("{operation} {table}");
        state.operations.push(call.clone());
        if state.calls_to_throttle > 0 {
            state.calls_to_throttle -= 1;
            return Err((StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"));
        }
        if state.down.contains(&table) || state.failing.is_some_and(|failing| text.contains(failing)) {
            return Err((StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"));
        }
        Ok(call)
    }
}

async fn forward(State(proxy): State<Arc<DynamoDbProxy>>, mut headers: HeaderMap, body: Bytes) -> Response {
    let call = match proxy.note(&headers, &body) {
        Ok(call) => call,
        Err((status, word)) => return refusal(status, word),
    };
    headers.remove(header::HOST);
    let answer = proxy.http.post(proxy.dynamodb.url()).headers(headers).body(body).send().await.unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    let body = answer.bytes().await.unwrap();
    if proxy.note_answer(&call, &body) {
        (status, headers, body).into_response()
    } else {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")
    }
}

fn refusal(status: StatusCode, word: &str) -> Response {
    let error = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{word}"}}"#);
    (status, error).into_response()
}
