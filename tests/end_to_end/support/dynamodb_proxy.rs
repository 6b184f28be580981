//! A proxy in front of DynamoDB that counts calls, and can make them fail.

use std::collections::HashSet;
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
use tokio::net::TcpListener;

use super::{App, noon};

/// A DynamoDB whose calls a test can count, and make fail.
pub(crate) struct DynamoDbProxy {
    dynamodb: DynamoDb,
    http: reqwest::Client,
    state: Mutex<ProxyState>,
}

#[derive(Default)]
struct ProxyState {
    operations: Vec<String>,
    unavailable_tables: &'static [&'static str],
    failing_text: Option<&'static str>,
    calls_to_throttle: usize,
    loses_responses: bool,
    /// The ids of the updates that have lost a response. The SDK sends each retry with the same id.
    lost: HashSet<String>,
    items_read: u64,
}

impl DynamoDbProxy {
    /// An app with these options, whose stack reaches its tables through a proxy.
    pub(crate) async fn start(mut options: StackOptions) -> (App, Arc<Self>) {
        let (clock, data) = (options.clock.clone(), options.data.take());
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            dynamodb: dynamodb::start(listen().await, data.as_deref(), clock).await.unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            state: Mutex::default(),
        });
        let listener = listen().await;
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&proxy));
        tokio::spawn(async { axum::serve(listener, router).await });
        options.settings.insert("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), url);
        (App::with_options(options).await, proxy)
    }

    /// An app at noon without webhooks and without scheduled reconciliation.
    pub(crate) async fn without_webhooks() -> (App, Arc<Self>) {
        let (app, proxy) = Self::start(StackOptions { scheduled: false, ..noon() }).await;
        let app = app.without_webhooks().await;
        // The simulator takes some time to prepare its first token.
        app.user_token().await;
        (app, proxy)
    }

    /// The operations that were called during `work`, each with its table, in order.
    pub(crate) async fn operations_of(&self, work: impl Future) -> Vec<String> {
        self.state.lock().unwrap().operations.clear();
        work.await;
        take(&mut self.state.lock().unwrap().operations)
    }

    /// From now on, calls to these tables fail, and no others.
    pub(crate) fn set_unavailable(&self, tables: &'static [&'static str]) {
        self.state.lock().unwrap().unavailable_tables = tables;
    }

    /// From now on, each update takes effect, but the first response to it is an error, so that the SDK retries.
    pub(crate) fn lose_responses(&self) {
        self.state.lock().unwrap().loses_responses = true;
    }

    /// How many items queries have read so far, according to DynamoDB (`ScannedCount`).
    pub(crate) fn items_read(&self) -> u64 {
        self.state.lock().unwrap().items_read
    }

    /// From now on, each call fails whose body contains this text. `None` ends this.
    pub(crate) fn fail_calls_with(&self, text: Option<&'static str>) {
        self.state.lock().unwrap().failing_text = text;
    }

    /// The next calls are throttled.
    pub(crate) fn throttle(&self, calls: usize) {
        self.state.lock().unwrap().calls_to_throttle = calls;
    }

    /// Records a call by its `X-Amz-Target` and its table. Returns its name, or the error for its caller.
    fn record_call(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, (StatusCode, &'static str)> {
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
        let is_failing = state.failing_text.is_some_and(|failing| text.contains(failing));
        if is_failing || state.unavailable_tables.contains(&table) {
            return Err((StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"));
        }
        Ok(call)
    }

    /// Records a response to the call with this `amz-sdk-invocation-id`. Returns whether the caller receives it.
    fn record_response(&self, call: &str, invocation: &str, body: &[u8]) -> bool {
        let body: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.state.lock().unwrap();
        state.items_read += body["ScannedCount"].as_u64().unwrap_or(0);
        let can_be_lost = state.loses_responses && call.starts_with("UpdateItem");
        !(can_be_lost && state.lost.insert(invocation.to_owned()))
    }
}

async fn forward(State(proxy): State<Arc<DynamoDbProxy>>, mut headers: HeaderMap, body: Bytes) -> Response {
    let call = match proxy.record_call(&headers, &body) {
        Ok(call) => call,
        Err((status, error)) => return error_response(status, error),
    };
    headers.remove(header::HOST);
    let invocation = headers["amz-sdk-invocation-id"].to_str().unwrap().to_owned();
    let response = proxy.http.post(proxy.dynamodb.url()).headers(headers).body(body).send().await.unwrap();
    let (status, mut headers) = (response.status(), response.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    let body = response.bytes().await.unwrap();
    if proxy.record_response(&call, &invocation, &body) {
        (status, headers, body).into_response()
    } else {
        error_response(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")
    }
}

fn error_response(status: StatusCode, error: &str) -> Response {
    (status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{error}"}}"#)).into_response()
}
