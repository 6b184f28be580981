//! Circle and AWS, as one HTTP server on loopback in this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::script::{Replies, Reply, Service};

/// The default challenge.
pub(crate) const CHALLENGE: &str = "5e4ae8f1-8d2b-4a3c-9f60-2b7d1c9e4a55";

/// The default user.
pub(crate) const USER: &str = "user-of-the-fuzzer";

/// The API key in Secrets Manager. It must not be in any log or response.
pub(crate) const API_KEY: &str = "TEST_API_KEY:fuzzer:an-api-key-that-nobody-may-print-0123456789";

/// Stands for a secret of Circle's. It may be in any response of Circle's and in a value of Secrets Manager's, and never in the
/// log.
pub(crate) const SECRET: &str = "a-secret-that-nobody-may-print-0123456789";

/// Stands for what a third party says. It may be in any response of Circle and AWS, and never in a problem document.
pub(crate) const THIRD_PARTY_TEXT: &str = "said-by-a-third-party";

/// A request that a service received.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) method: String,
    pub(crate) path: String,
    /// AWS's name of the operation, as in `x-amz-target`.
    pub(crate) operation: String,
    pub(crate) body: Value,
    /// What it responded; nothing if it closed the connection or never responds.
    pub(crate) response: Option<(u16, Vec<u8>)>,
}

#[derive(Default)]
pub(crate) struct Server {
    /// Rises whenever something was read or written.
    pub(crate) activity: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    replies: Replies,
    calls: Vec<Call>,
    /// The public key that Circle has, in base64.
    public_key: String,
}

impl Server {
    /// Starts on the current runtime. Returns the port.
    pub(crate) fn start(self: &Arc<Self>) -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let port = listener.local_addr().expect("a bound socket").port();
        let server = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the server can accept a connection");
                server.activity.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Arc::clone(&server).serve(stream));
            }
        });
        port
    }

    /// Begins an input.
    pub(crate) fn begin(&self, replies: Replies) {
        let mut state = self.state();
        state.replies = replies;
        state.calls.clear();
    }

    pub(crate) fn set_public_key(&self, base64: &str) {
        self.state().public_key = base64.to_owned();
    }

    /// What the services have received since the input began.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        while let Some(call) = self.read(&mut stream, &mut bytes).await {
            let is_head = call.method == "HEAD";
            match self.reply(call) {
                Reply::Close => return,
                Reply::Hang => {
                    // Keeps the connection open until the client closes it.
                    while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {}
                    return;
                }
                Reply::Respond { status, retry_after, body } => {
                    let body = if is_head || status == 204 || status == 304 { Vec::new() } else { body };
                    let retry_after = retry_after.map(|wait| format!("retry-after: {wait}\r\n"));
                    let mut response = format!(
                        "HTTP/1.1 {status} -\r\ncontent-length: {}\r\ncontent-type: application/json\r\n{}\r\n",
                        body.len(),
                        retry_after.unwrap_or_default()
                    )
                    .into_bytes();
                    response.extend(body);
                    if stream.write_all(&response).await.is_err() {
                        return;
                    }
                    self.activity.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Reads a request, as the HTTP client writes it. `None` at the end of the connection.
    async fn read(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Call> {
        loop {
            if let Some((call, length)) = request(bytes) {
                bytes.drain(..length);
                return Some(call);
            }
            let read = stream.read_buf(bytes).await.ok()?;
            self.activity.fetch_add(1, Ordering::Relaxed);
            if read == 0 {
                return None;
            }
        }
    }

    fn reply(&self, call: Call) -> Reply {
        let mut state = self.state();
        let planned = state.replies.get_mut(&call.service).and_then(|replies| replies.pop_front());
        let reply = planned.unwrap_or_else(|| {
            let (status, body) = good_day(&call, &state.public_key);
            Reply::Respond { status, retry_after: None, body: body.to_string().into_bytes() }
        });
        let reply = match reply {
            Reply::Respond { status, retry_after, body } => {
                Reply::Respond { status, retry_after, body: of_key(&call, body) }
            }
            Reply::Close | Reply::Hang => reply,
        };
        let response = match &reply {
            Reply::Respond { status, body, .. } => Some((*status, body.clone())),
            Reply::Close | Reply::Hang => None,
        };
        state.calls.push(Call { response, ..call });
        reply
    }
}

/// Gives the challenge in a response the id that the call asked for. DynamoDB never returns an item with another key.
fn of_key(call: &Call, body: Vec<u8>) -> Vec<u8> {
    let key = &call.body["Key"]["challengeId"];
    let Ok(mut response) = serde_json::from_slice::<Value>(&body) else { return body };
    for item in ["Item", "Attributes"] {
        if let Some(id) = response.get_mut(item).and_then(|item| item.get_mut("challengeId"))
            && key.is_object()
        {
            *id = key.clone();
            return response.to_string().into_bytes();
        }
    }
    body
}

/// The request at the start of the bytes and its length, if it is complete.
fn request(bytes: &[u8]) -> Option<(Call, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("the head of a request is ASCII");
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = || lines.clone().filter_map(|line| line.split_once(": "));
    let header =
        |name: &str| headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let length = header("content-length").map_or(0, |length| length.parse().expect("a length"));
    let body = bytes.get(end + 4..end + 4 + length)?;
    let operation = header("x-amz-target").unwrap_or_default().to_owned();
    let service = match operation.split('.').next() {
        Some("DynamoDB_20120810") => Service::DynamoDb,
        Some("secretsmanager") => Service::Secrets,
        Some("AWSEvents") => Service::Events,
        Some("AmazonSQS") => Service::Queue,
        _ if path.starts_with("/cloudformation") => Service::CloudFormation,
        _ => Service::Circle,
    };
    let body = serde_json::from_slice(body).unwrap_or_default();
    Some((Call { service, method, path, operation, body, response: None }, end + 4 + length))
}

/// What a service responds on a good day.
fn good_day(call: &Call, public_key: &str) -> (u16, Value) {
    match call.service {
        Service::Circle => circle(call, public_key),
        Service::DynamoDb => (200, dynamodb(call)),
        Service::Secrets => (200, json!({ "ARN": "arn", "Name": "circle", "SecretString": API_KEY })),
        Service::Events => {
            let count = call.body["Entries"].as_array().map_or(0, Vec::len);
            (200, json!({ "FailedEntryCount": 0, "Entries": vec![json!({ "EventId": "1" }); count] }))
        }
        Service::Queue => (200, json!({ "MessageId": "1" })),
        Service::CloudFormation => (200, json!({})),
    }
}

fn circle(call: &Call, public_key: &str) -> (u16, Value) {
    let path = call.path.as_str();
    let subscription = json!({
        "id": CHALLENGE, "endpoint": crate::world::WEBHOOK_URL, "enabled": true, "notificationTypes": ["challenges.*"],
    });
    let user = json!({ "id": USER, "status": "ENABLED", "pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED" });
    match (call.method.as_str(), path) {
        ("POST", "/v1/w3s/users/token") => {
            (200, json!({ "data": { "userToken": SECRET, "encryptionKey": SECRET } }))
        }
        ("GET", "/v1/w3s/user") => (200, json!({ "data": user })),
        ("PUT" | "POST", "/v1/w3s/user/pin" | "/v1/w3s/user/pin/restore") => {
            (201, json!({ "data": { "challengeId": CHALLENGE } }))
        }
        ("GET", path) if path.starts_with("/v1/w3s/user/challenges/") => (
            200,
            json!({ "data": { "challenge": { "id": CHALLENGE, "type": "CHANGE_PIN", "status": "COMPLETE" } } }),
        ),
        ("GET", path) if path.starts_with("/v1/w3s/users/") => (200, json!({ "data": { "user": user } })),
        ("GET", path) if path.starts_with("/v2/notifications/publicKey/") => {
            (200, json!({ "data": { "algorithm": "ECDSA_SHA_256", "publicKey": public_key } }))
        }
        ("GET", "/v2/notifications/subscriptions") => (200, json!({ "data": [subscription] })),
        ("DELETE", _) => (204, Value::Null),
        (_, path) if path.starts_with("/v2/notifications/subscriptions") => {
            (200, json!({ "data": subscription }))
        }
        _ => (404, json!({ "code": 2, "message": "not found" })),
    }
}

fn dynamodb(call: &Call) -> Value {
    let is_of_challenges = call.body["TableName"] == crate::world::CHALLENGES_TABLE;
    match call.operation.split('.').nth(1) {
        Some("UpdateItem") => {
            let item = if is_of_challenges { record(call) } else { Map::new() };
            json!({ "Attributes": updated(item, &call.body) })
        }
        Some("GetItem") if is_of_challenges => json!({ "Item": record(call) }),
        Some("Query") => {
            let shard = call.body["ExpressionAttributeValues"].get(":shard");
            let is_there = shard.is_none_or(|shard| *shard == record(call)["openShard"]);
            if is_there { json!({ "Items": [record(call)] }) } else { json!({ "Items": [] }) }
        }
        _ => json!({}),
    }
}

/// A record that is due for a check.
fn record(call: &Call) -> Map<String, Value> {
    let text = |text: &str| json!({ "S": text });
    let number = |number: i64| json!({ "N": number.to_string() });
    let began = "2026-01-01T11:00:00Z";
    let members = [
        ("challengeId", text(call.body["Key"]["challengeId"]["S"].as_str().unwrap_or(CHALLENGE))),
        ("userId", text(USER)),
        ("type", text("CHANGE_PIN")),
        ("status", text("PENDING")),
        ("rank", number(0)),
        ("createdAt", text(began)),
        ("requestedAt", text(began)),
        ("requestedAtMs", number(1_767_265_200_000)),
        ("updatedAt", text(began)),
        ("checkedAt", text(began)),
        ("openShard", number(5)),
        ("nextCheckAt", number(1_767_268_000)),
        ("dueAt", number(1_767_268_000)),
    ];
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The item with the values that the update sets, as far as they can be read.
fn updated(mut item: Map<String, Value>, update: &Value) -> Map<String, Value> {
    let expression = update["UpdateExpression"].as_str().unwrap_or_default();
    let values = &update["ExpressionAttributeValues"];
    for word in expression.split([',', ' ', '(', ')']).collect::<Vec<_>>().windows(3) {
        if let [name, "=", value] = word
            && let Some(value) = values.get(value)
        {
            let name = update["ExpressionAttributeNames"][name].as_str().unwrap_or(name);
            item.insert(name.to_owned(), value.clone());
        }
    }
    item
}
