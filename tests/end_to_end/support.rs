use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use local::dynamodb::{CHALLENGES_TABLE, RATE_LIMITS_TABLE};
use local::stack::{Stack, StackOptions};
use reqwest::Method;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock, SystemClock, timeout};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use crate::user_messages::user_message;

/// A running stack with the user `alice` (PIN 112233) and an app in which she is signed in.
pub(crate) struct App {
    pub(crate) stack: Stack,
    pub(crate) bearer: String,
    http: reqwest::Client,
}

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

pub(crate) const USER: &str = "alice";
pub(crate) const PIN: &str = "112233";

impl App {
    pub(crate) async fn start() -> Self {
        Self::with_settings([]).await
    }

    /// Settings of the functions beside those of every stack.
    pub(crate) async fn with_settings<const N: usize>(settings: [(&str, &str); N]) -> Self {
        Self::with_options(StackOptions { settings: owned(settings), ..StackOptions::default() }).await
    }

    pub(crate) async fn with_options(options: StackOptions) -> Self {
        let stack = Stack::start(options).await.unwrap();
        stack.add_user(USER, PIN);
        let bearer = stack.sign_in(USER);
        Self { stack, bearer, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// A request of the signed-in app; `call` is like `GET /challenges/...`.
    pub(crate) fn request(&self, call: &str) -> reqwest::RequestBuilder {
        self.anonymous(call).bearer_auth(&self.bearer)
    }

    /// A request of nobody in particular.
    pub(crate) fn anonymous(&self, call: &str) -> reqwest::RequestBuilder {
        let (method, path) = call.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.stack.api.url()))
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    Answer { status, headers, body }
}

/// Where the clock of [`App::at_noon`] stands.
pub(crate) const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

impl App {
    /// An app whose stack's clock stands still at noon until a test moves it, so that every date is known.
    /// What waits for time, such as a repeated call to Circle, needs a clock that runs: [`App::start`].
    pub(crate) async fn at_noon() -> Self {
        Self::at_noon_with([]).await
    }

    /// The same with settings of the functions beside those of every stack.
    pub(crate) async fn at_noon_with<const N: usize>(settings: [(&str, &str); N]) -> Self {
        let clock = AdjustableClock::frozen(NOON);
        Self::with_options(StackOptions { clock, settings: owned(settings), ..StackOptions::default() }).await
    }

    /// Moves the stack's clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.stack.clock.advance(by);
    }

    /// A new user token of the signed-in user.
    pub(crate) async fn user_token(&self) -> String {
        text(send(self.request("POST /session-tokens")).await.is(201), "userToken").to_owned()
    }

    /// A new CHANGE_PIN challenge of the signed-in user.
    pub(crate) async fn challenge(&self) -> Uuid {
        challenge_id(send(self.request("POST /challenges")).await.is(201))
    }

    /// What the app is told about a challenge, from the record alone.
    pub(crate) async fn status(&self, id: Uuid) -> Value {
        send(self.request(&format!("GET /challenges/{id}"))).await.is(200).clone()
    }

    /// Every item in which challenge requests are counted.
    pub(crate) async fn counted(&self) -> Vec<Value> {
        let items = self.table().scan().table_name(RATE_LIMITS_TABLE).send().await.unwrap().items;
        items.unwrap_or_default().into_iter().map(|item| plain(&AttributeValue::M(item))).collect()
    }

    /// The challenge's item in the table; null where there is none.
    pub(crate) async fn item(&self, id: Uuid) -> Value {
        let id = AttributeValue::S(id.to_string());
        let get = self.table().get_item().table_name(CHALLENGES_TABLE).key("challengeId", id);
        let found = get.consistent_read(true).send().await.unwrap();
        let item = found.item.unwrap_or_default();
        if item.is_empty() { Value::Null } else { plain(&AttributeValue::M(item)) }
    }

    /// Puts an item of text and numbers into the table, whatever it says.
    pub(crate) async fn put_item(&self, item: Value) {
        let attribute = |value: Value| match value {
            Value::String(text) => AttributeValue::S(text),
            number => AttributeValue::N(number.to_string()),
        };
        let item = item.as_object().unwrap().clone();
        let item = item.into_iter().map(|(name, value)| (name, attribute(value))).collect();
        let put = self.table().put_item().table_name(CHALLENGES_TABLE).set_item(Some(item));
        put.send().await.unwrap();
    }

    /// Takes a record out of the table, as if it had never been written.
    pub(crate) async fn forget(&self, id: Uuid) {
        let id = AttributeValue::S(id.to_string());
        let delete = self.table().delete_item().table_name(CHALLENGES_TABLE).key("challengeId", id);
        delete.send().await.unwrap();
    }

    /// How many items the table has.
    pub(crate) async fn items(&self) -> i32 {
        self.table().scan().table_name(CHALLENGES_TABLE).send().await.unwrap().count
    }

    fn table(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.stack.platform.aws)
    }

    /// Waits until a webhook that says `status` of the challenge has been answered with `answer`.
    pub(crate) async fn webhook_answered(&self, id: Uuid, status: &str, answer: u16) {
        in_time(async {
            loop {
                let deliveries = self.stack.circle.deliveries();
                let found = deliveries.iter().any(|delivery| {
                    let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
                    let notification = &body["notification"];
                    let said = notification.get("status").or(notification.get("state"));
                    notification["id"] == json!(id)
                        && said == Some(&json!(status))
                        && delivery.status == Some(answer)
                });
                if found {
                    return;
                }
                self.stack.circle.wait_for_deliveries(deliveries.len() + 1).await;
            }
        })
        .await;
    }

    /// A message of Circle's, with an id of its own, that says `status` of the challenge.
    pub(crate) fn message(&self, id: Uuid, status: &str) -> Value {
        json!({
            "subscriptionId": "00000000-0000-0000-0000-000000000000",
            "notificationId": self.stack.platform.random.uuid(),
            "notificationType": "challenges.changePin",
            "notification": {
                "id": id, "userId": USER, "type": "CHANGE_PIN", "status": status, "correlationIds": [],
                "errorCode": 0, "errorMessage": "",
            },
            "timestamp": "2026-01-01T12:00:00.000000000Z",
            "version": 2,
        })
    }

    /// Posts a message as Circle would, signed by Circle's key.
    pub(crate) async fn post(&self, message: &Value) -> Answer {
        self.post_bytes(message.to_string().as_bytes()).await
    }

    /// Posts any bytes, signed by Circle's key.
    pub(crate) async fn post_bytes(&self, body: &[u8]) -> Answer {
        let (key_id, signature) = self.stack.circle.sign(body);
        send(self.webhook(&key_id.to_string(), &signature, body)).await
    }

    /// A webhook with these headers.
    pub(crate) fn webhook(&self, key_id: &str, signature: &str, body: &[u8]) -> reqwest::RequestBuilder {
        self.anonymous("POST /webhooks/circle")
            .header("content-type", "application/json")
            .header("x-circle-key-id", key_id)
            .header("x-circle-signature", signature)
            .body(body.to_vec())
    }
}

impl Answer {
    /// A JSON answer of a function with this status, which no cache may keep; gives its body.
    pub(crate) fn is(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert!(!self.headers.contains_key("retry-after"), "{self:?}");
        assert!(self.headers.contains_key("apigw-requestid"), "{self:?}");
        &self.body
    }

    /// A problem with exactly these members, beside those that follow from them and the request's id. What the
    /// user is told follows from the code unless it is given, as it has to be where it names a time.
    pub(crate) fn is_problem(&self, members: Value) {
        let mut expected = members;
        let code = text(&expected, "code").to_owned();
        if expected.get("userMessage").is_none()
            && let Some(message) = user_message(&code)
        {
            expected["userMessage"] = json!(message);
        }
        expected["type"] = json!(format!("urn:circle-pin-reset:problem:{code}"));
        expected["requestId"] = json!(self.headers["apigw-requestid"].to_str().unwrap());
        assert_eq!(self.body, expected);
        assert_eq!(json!(self.status), expected["status"]);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        let retry_after = self.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after, expected.get("retryAfterSeconds").map(Value::to_string));
        let refused_for_a_reason =
            code == "circle_error" && expected["circleCode"].as_i64().is_some_and(|code| code != -1);
        if matches!(self.status, 502..=504) && !refused_for_a_reason {
            assert!(retry_after.is_some(), "{self:?} does not say when to try again");
        }
    }
}

fn owned<const N: usize>(settings: [(&str, &str); N]) -> BTreeMap<String, String> {
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A member that is text.
pub(crate) fn text<'a>(body: &'a Value, member: &str) -> &'a str {
    body[member].as_str().unwrap_or_else(|| panic!("no {member} in {body}"))
}

/// The challenge that a body is about.
pub(crate) fn challenge_id(body: &Value) -> Uuid {
    text(body, "challengeId").parse().unwrap()
}

/// An attribute without its type.
fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!(text),
        AttributeValue::N(number) => serde_json::from_str(number).unwrap(),
        AttributeValue::Ss(set) => json!(set.iter().collect::<BTreeSet<_>>()),
        AttributeValue::Ns(numbers) => {
            numbers.iter().map(|number| plain(&AttributeValue::N(number.clone()))).collect()
        }
        AttributeValue::L(list) => list.iter().map(plain).collect(),
        AttributeValue::M(map) => map.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => panic!("no record has {other:?}"),
    }
}

/// What must happen soon, by the machine's clock.
pub(crate) async fn in_time<F: Future>(waiting: F) -> F::Output {
    timeout(&SystemClock, Duration::from_secs(20), waiting).await.expect("in time")
}

/// Waits until something is so that nobody announces.
pub(crate) async fn eventually(so: impl Fn() -> bool) {
    in_time(async {
        while !so() {
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where a DynamoDB keeps its data for as long as a test lasts.
pub(crate) struct DataFile(pub(crate) PathBuf);

impl DataFile {
    /// `name` is no other test's.
    pub(crate) fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("circle-pin-reset-{name}-{}.db", std::process::id())))
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.0.display()));
        }
    }
}
