//! Tests of the simulator over real HTTP.

mod challenges; // the PIN calls, and what a user does with a challenge
mod control; // the control API, its page, and how the simulator stops
mod faults; // errors, delays, broken connections, rate limits
mod pin_page; // the page in which the user enters the PIN
mod subscriptions; // the subscription and public key calls
mod users; // authorization, users, user tokens
mod webhooks; // content, receivers and retries of webhooks

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock, SystemClock};
use shared::random::Random;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{CircleOptions, CircleSimulator, UserChange, UserTokenKey};

const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
const USER: &str = "user-1";

/// A simulator with a frozen clock, and an HTTP client.
struct Stage {
    circle: CircleSimulator,
    http: reqwest::Client,
}

/// A response.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Stage {
    async fn new() -> Self {
        let options = CircleOptions {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            clock: AdjustableClock::frozen(NOON),
            random: Arc::new(Random::from_system()),
            user_token_key: UserTokenKey::generate_in_background(),
            on_api_key_change: None,
        };
        Self {
            circle: CircleSimulator::start(options).await,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// A simulator with one user, who has a PIN and security questions.
    async fn with_user() -> Self {
        let stage = Self::new().await;
        stage.circle.put_user(USER, UserChange::with_pin("135790")).unwrap();
        stage
    }

    fn request(&self, call: &str, token: Option<&str>, body: Option<&Value>) -> reqwest::RequestBuilder {
        let (method, path) = call.split_once(' ').unwrap();
        let url = format!("{}{path}", self.circle.url());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, url).bearer_auth(self.circle.api_key());
        if let Some(token) = token {
            request = request.header("X-User-Token", token);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        request
    }

    async fn call(&self, call: &str, token: Option<&str>, body: Option<&Value>) -> Reply {
        reply(self.request(call, token, body)).await
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Reply {
        self.call(&format!("GET {path}"), token, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call(&format!("POST {path}"), None, Some(body)).await
    }

    async fn token(&self, user_id: &str) -> String {
        let reply = self.post("/v1/w3s/users/token", &json!({"userId": user_id})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body["data"]["userToken"].as_str().unwrap().to_owned()
    }

    async fn change_pin(&self, token: &str) -> Reply {
        let body = json!({"idempotencyKey": new_id()});
        self.call("PUT /v1/w3s/user/pin", Some(token), Some(&body)).await
    }

    async fn restore_pin(&self, token: &str) -> Reply {
        let body = json!({"idempotencyKey": new_id()});
        self.call("POST /v1/w3s/user/pin/restore", Some(token), Some(&body)).await
    }

    /// Creates a CHANGE_PIN challenge of the user and returns its id.
    async fn challenge(&self) -> Uuid {
        challenge_id(&self.change_pin(&self.token(USER).await).await)
    }

    /// A receiver that is subscribed to everything and has received its test message.
    async fn subscribed(&self) -> Receiver {
        let receiver = Receiver::start().await;
        self.circle.subscribe(&receiver.url, &["*"]).await.unwrap();
        receiver.wait_for(1).await;
        receiver
    }
}

async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Reply { status, headers, body }
}

fn challenge_id(reply: &Reply) -> Uuid {
    let id = reply.body["data"]["challengeId"].as_str().unwrap_or_else(|| panic!("{reply:?}"));
    Uuid::parse_str(id).unwrap()
}

impl Reply {
    /// The status and Circle's code of an error.
    fn error(&self) -> (u16, i64) {
        assert!(self.body["message"].is_string(), "{self:?}");
        (self.status, self.body["code"].as_i64().unwrap())
    }
}

/// A receiver of webhooks.
struct Receiver {
    url: String,
    received: watch::Receiver<Vec<Received>>,
    /// The status of its responses.
    status: Arc<AtomicU16>,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Received {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

type Inbox = (watch::Sender<Vec<Received>>, Arc<AtomicU16>);

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks", listener.local_addr().unwrap());
        let status = Arc::new(AtomicU16::new(200));
        let (sender, received) = watch::channel(Vec::new());
        let app = Router::new().fallback(receive).with_state((sender, status.clone()));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, received, status, server }
    }

    fn respond_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Waits for this many messages and returns all messages, without the HEAD requests.
    async fn wait_for(&self, count: usize) -> Vec<Value> {
        let posts = |all: &Vec<Received>| all.iter().filter(|one| one.method == Method::POST).count();
        let mut received = self.received.clone();
        let waiting = received.wait_for(|all| posts(all) >= count);
        let limit = Duration::from_secs(10);
        drop(shared::clock::timeout(&SystemClock, limit, waiting).await.expect("in time").unwrap());
        self.messages()
    }

    fn messages(&self) -> Vec<Value> {
        let all = self.received.borrow();
        let posts = all.iter().filter(|one| one.method == Method::POST);
        posts.map(|one| serde_json::from_slice(&one.body).unwrap_or(Value::Null)).collect()
    }

    /// The status in each challenge message so far.
    fn statuses(&self) -> Vec<String> {
        let messages = self.messages();
        let statuses = messages.iter().filter_map(|one| one["notification"]["status"].as_str());
        statuses.map(str::to_owned).collect()
    }

    fn heads(&self) -> usize {
        self.received.borrow().iter().filter(|one| one.method == Method::HEAD).count()
    }

    fn last(&self) -> Received {
        self.received.borrow().last().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State((inbox, status)): State<Inbox>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    inbox.send_modify(|all| all.push(Received { method, headers, body }));
    StatusCode::from_u16(status.load(Ordering::SeqCst)).unwrap()
}

/// Verifies a message as Circle documents it: fetches the key by its id and checks the signature of the raw
/// bytes.
async fn assert_signed(stage: &Stage, message: &Received) {
    let header = |name: &str| message.headers[name].to_str().unwrap().to_owned();
    let key = stage.get(&format!("/v2/notifications/publicKey/{}", header("X-Circle-Key-Id")), None).await;
    assert_eq!(key.status, 200, "{key:?}");
    let der = STANDARD.decode(key.body["data"]["publicKey"].as_str().unwrap()).unwrap();
    let signature = STANDARD.decode(header("X-Circle-Signature")).unwrap();
    let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).verify(&message.body, &signature);
    assert!(verified.is_ok(), "the signature is valid");
}

/// Waits until the condition is true.
async fn eventually(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    };
    shared::clock::timeout(&SystemClock, Duration::from_secs(10), waiting).await.expect("in time");
}

/// Waits long enough for an unwanted event to happen.
async fn wait_briefly() {
    SystemClock.sleep(Duration::from_millis(50)).await;
}

fn new_id() -> Uuid {
    Random::from_system().uuid()
}
