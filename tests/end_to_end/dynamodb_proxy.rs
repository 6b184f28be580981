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

use crate::support::{App, text};

/// A DynamoDB behind a proxy that notes each call, and that can keep calls from it.
pub(crate) struct DynamoDbProxy {
    dynamodb: DynamoDb,
    http: reqwest::Client,
    state: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    operations: Vec<String>,
    down: &'static [&'static str],
}

impl DynamoDbProxy {
    /// An app whose stack has its tables behind a proxy.
    pub(crate) async fn start(clock: AdjustableClock) -> (App, Arc<Self>) {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            dynamodb: dynamodb::start(listen().await, None, clock.clone()).await.unwrap(),
            http: reqwest::Client::new(),
            state: Mutex::default(),
        });
        let listener = listen().await;
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&proxy));
        tokio::spawn(async { axum::serve(listener, router).await });
        let settings = [("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), url)].into();
        let options = StackOptions { clock, settings, ..StackOptions::default() };
        (App::with_options(options).await, proxy)
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

    /// Notes a call by its `X-Amz-Target` and its table, and says whether it may pass.
    fn note(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let operation = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        let table = text(&body, "TableName");
        let mut state = self.state.lock().unwrap();
        state.operations.push(format!("{operation} {table}"));
        !state.down.contains(&table)
    }
}

async fn forward(State(proxy): State<Arc<DynamoDbProxy>>, mut headers: HeaderMap, body: Bytes) -> Response {
    if !proxy.note(&headers, &body) {
        let error = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}"#;
        return (StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
    }
    headers.remove(header::HOST);
    let answer = proxy.http.post(proxy.dynamodb.url()).headers(headers).body(body).send().await.unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    (status, headers, answer.bytes().await.unwrap()).into_response()
}
