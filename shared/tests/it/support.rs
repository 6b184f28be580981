use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
use serde_json::{Value, json};
use shared::circle::Circle;
use shared::clock::{AdjustableClock, Deadline};
use shared::config::{CircleSettings, Environment};
use shared::platform::Platform;
use shared::random::Random;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

/// A platform whose AWS and Circle are at `url`.
pub(crate) fn platform(url: &str, clock: AdjustableClock) -> Platform {
    let environment = Environment::from([
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL_DYNAMODB", url),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", url),
        ("CIRCLE_BASE_URL", url),
        ("CIRCLE_API_KEY_SECRET_ID", "circle-api-key"),
    ]);
    Platform::new(environment, Arc::new(clock), Arc::new(Random::from_seed(1))).unwrap()
}

/// A server on loopback that stands for Circle and for Secrets Manager. Circle's replies come from a queue; once it is
/// empty, requests hang.
#[derive(Clone)]
pub(crate) struct FakeServer {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

struct Inner {
    replies: Mutex<VecDeque<Reply>>,
    requests: watch::Sender<Vec<Request>>,
    /// `None` if reads of it get no response.
    secret: Mutex<Option<String>>,
    secret_reads: Mutex<u32>,
}

pub(crate) enum Reply {
    Json(u16, Value),
    Raw(u16, Vec<(&'static str, &'static str)>, String),
    /// The connection is closed without a response.
    Drop,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Inner {
            replies: Mutex::default(),
            requests: watch::Sender::default(),
            secret: Mutex::new(Some("TEST_API_KEY:test-id:first".into())),
            secret_reads: Mutex::new(0),
        };
        let server = Self { url, inner: Arc::new(inner) };
        let router = axum::Router::new().fallback(respond).with_state(server.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        server
    }

    pub(crate) async fn circle(&self, clock: &AdjustableClock) -> Circle {
        let platform = platform(&self.url, clock.clone());
        Circle::new(&platform, CircleSettings::read(&platform.environment).unwrap())
    }

    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.replies.lock().unwrap().extend(replies);
    }

    pub(crate) fn set_secret(&self, secret: &str) {
        *self.inner.secret.lock().unwrap() = Some(secret.into());
    }

    /// Lets reads of the secret wait for ever, until there is a new one.
    pub(crate) fn withhold_secret(&self) {
        *self.inner.secret.lock().unwrap() = None;
    }

    pub(crate) fn secret_reads(&self) -> u32 {
        *self.inner.secret_reads.lock().unwrap()
    }

    /// The requests to Circle so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.inner.requests.borrow().clone()
    }

    /// Waits until Circle has received `count` requests.
    pub(crate) async fn requests_reach(&self, count: usize) {
        let mut requests = self.inner.requests.subscribe();
        requests.wait_for(|requests| requests.len() >= count).await.unwrap();
    }
}

async fn respond(
    State(server): State<FakeServer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers.contains_key("x-amz-target") {
        *server.inner.secret_reads.lock().unwrap() += 1;
        let secret = server.inner.secret.lock().unwrap().clone();
        let Some(secret) = secret else { std::future::pending().await };
        let body = json!({ "ARN": "arn", "Name": "circle-api-key", "SecretString": secret });
        return (StatusCode::OK, body.to_string()).into_response();
    }
    let body = String::from_utf8(body.to_vec()).unwrap();
    server.inner.requests.send_modify(|all| all.push(Request { method, uri, headers, body }));
    let next = server.inner.replies.lock().unwrap().pop_front();
    match next {
        Some(Reply::Json(status, body)) => {
            (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
        }
        Some(Reply::Raw(status, headers, body)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        // hyper closes a connection whose handler panics, before anything is written.
        Some(Reply::Drop) => panic!("dropped on purpose"),
        None => std::future::pending().await,
    }
}

/// The deadline that functions give a request.
pub(crate) fn deadline(clock: &AdjustableClock) -> Deadline {
    Deadline::after(clock, std::time::Duration::from_secs(8))
}

/// A table of challenges in an embedded DynamoDB, with the index of open challenges, and a platform that reaches it.
pub(crate) async fn challenges_table(clock: &AdjustableClock) -> Platform {
    let (platform, client) = database(clock).await;
    let attribute = |name: &str, of: ScalarAttributeType| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(of).build().unwrap()
    };
    let key = |name: &str, of: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(of).build().unwrap()
    };
    let projection = Projection::builder().projection_type(ProjectionType::All).build();
    let index = GlobalSecondaryIndex::builder()
        .index_name("open-challenges")
        .key_schema(key("openShard", KeyType::Hash))
        .key_schema(key("nextCheckAt", KeyType::Range))
        .projection(projection);
    client
        .create_table()
        .table_name("challenges")
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key("challengeId", KeyType::Hash))
        .attribute_definitions(attribute("challengeId", ScalarAttributeType::S))
        .attribute_definitions(attribute("openShard", ScalarAttributeType::N))
        .attribute_definitions(attribute("nextCheckAt", ScalarAttributeType::N))
        .global_secondary_indexes(index.build().unwrap())
        .send()
        .await
        .unwrap();
    platform
}

/// A new table in an embedded DynamoDB, with a partition key of text, and a platform that reaches it.
pub(crate) async fn table(name: &str, key: &str, clock: &AdjustableClock) -> (Platform, Client) {
    let (platform, client) = database(clock).await;
    let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash);
    client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap())
        .send()
        .await
        .unwrap();
    (platform, client)
}

/// An embedded DynamoDB without tables.
async fn database(clock: &AdjustableClock) -> (Platform, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(dynoxide::server::serve_on(listener, Database::memory().unwrap()));
    let platform = platform(&url, clock.clone());
    let client = platform.dynamodb.clone();
    (platform, client)
}
