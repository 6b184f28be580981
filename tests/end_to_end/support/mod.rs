//! The running service, and an app that uses it. Everything that waits here has a time limit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use local::circle_simulator::{CircleSimulator, UserChange};
use local::stack::{Stack, StackOptions};
use serde_json::{Value, json};
use shared::clock::AdjustableClock;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

pub(crate) use self::announcements::{CHANGE_REQUESTED, RECOVERY_REQUESTED, SETTLED};
pub(crate) use self::circle_calls::*;
pub(crate) use self::deployment::{Deployment, STACK_ID, SUBSCRIPTIONS};
pub(crate) use self::dynamodb_proxy::DynamoDbProxy;
pub(crate) use self::log::Log;
pub(crate) use self::reconciler::{FIRST_CHECK, Reconciler, TURN};
pub(crate) use self::records::*;
pub(crate) use self::request::{Request, Response};
use self::secrecy::LogCheck;
pub(crate) use self::secrecy::{assert_no_secret, violations};
pub(crate) use self::waiting::{in_time, wait_until};

mod announcements;
mod circle_calls;
mod deployment;
mod dynamodb_proxy;
mod log;
mod reconciler;
mod records;
mod request;
mod secrecy;
mod waiting;

pub(crate) const USER: &str = "alice";
pub(crate) const PIN: &str = "112233";
/// An idempotency key that a caller could send.
pub(crate) const KEY: &str = "3f2b8a52-6a0e-4d0c-9b57-0d1f6c2f5a11";

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time on the clock of [`App::at_noon`].
pub(crate) const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

/// A running stack with the user `alice` (PIN 112233), and an app in which she is signed in.
pub(crate) struct App {
    pub(crate) stack: Stack,
    /// The stack's simulator of Circle.
    pub(crate) circle: CircleSimulator,
    /// The stack's clock.
    pub(crate) clock: AdjustableClock,
    /// The access token of alice.
    pub(crate) access_token: String,
    /// For requests that are not to the API.
    pub(crate) http: reqwest::Client,
    /// It is dropped after the stack, which logs until then.
    _log_check: LogCheck,
}

impl App {
    /// Starts a stack whose clock runs.
    pub(crate) async fn start() -> Self {
        Self::with_settings([]).await
    }

    /// Like [`App::start`], with settings in addition to the functions' defaults.
    pub(crate) async fn with_settings<const N: usize>(settings: [(&str, &str); N]) -> Self {
        Self::with_options(StackOptions { settings: owned(settings), ..StackOptions::default() }).await
    }

    /// Starts a stack whose clock stands still at noon until a test moves it, so that every date is known.
    /// Anything that waits for time, such as a retry, then needs [`App::let_time_pass`].
    pub(crate) async fn at_noon() -> Self {
        Self::at_noon_with([]).await
    }

    /// Like [`App::at_noon`], with settings in addition to the functions' defaults.
    pub(crate) async fn at_noon_with<const N: usize>(settings: [(&str, &str); N]) -> Self {
        Self::with_options(StackOptions { settings: owned(settings), ..noon() }).await
    }

    pub(crate) async fn with_options(options: StackOptions) -> Self {
        let log_check = LogCheck::new();
        let stack = in_time(Stack::start(options)).await.unwrap();
        let setting = |name| stack.function_environment().get(name).map(String::as_str);
        setting("USER_HASH_KEY").into_iter().for_each(|key| secrecy::remember("key of the user hash", key));
        if setting("LOG_USER_IDS") == Some("plain") {
            secrecy::allow_plain_user_ids();
        }
        stack.add_user(USER, PIN);
        Self {
            circle: stack.circle.clone(),
            clock: stack.clock.clone(),
            access_token: stack.sign_in(USER),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            stack,
            _log_check: log_check,
        }
    }

    /// From now on, every webhook that the simulator sends by itself is lost. Tests can still post webhooks.
    pub(crate) fn lose_webhooks(&self) {
        self.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    }

    /// The same app, whose webhooks are lost from now on. The subscription's test message has arrived.
    pub(crate) async fn without_webhooks(self) -> Self {
        self.wait_for_webhooks(1).await;
        self.lose_webhooks();
        self
    }

    pub(crate) async fn stop(self) {
        in_time(self.stack.stop()).await;
    }

    /// Moves the stack's clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Changes the state of alice at Circle.
    pub(crate) fn change_user(&self, change: UserChange) {
        self.circle.change_user(USER, change).unwrap();
    }

    /// Creates another user at Circle, and returns that user's access token.
    pub(crate) fn add_user(&self, user: &str) -> String {
        self.stack.add_user(user, PIN);
        self.stack.sign_in(user)
    }

    /// A new user token of alice.
    pub(crate) async fn user_token(&self) -> String {
        text(self.post_session_token().send().await.is(201), "userToken").to_owned()
    }

    /// Creates a CHANGE_PIN challenge for alice.
    pub(crate) async fn create_challenge(&self) -> Uuid {
        challenge_id(self.post_challenge().send().await.is(201))
    }

    /// Creates another user, and a CHANGE_PIN challenge for that user.
    pub(crate) async fn create_challenge_of(&self, user: &str) -> Uuid {
        let access_token = self.add_user(user);
        challenge_id(self.post_challenge().bearer(&access_token).send().await.is(201))
    }

    /// Creates a challenge for each of so many new users.
    pub(crate) async fn create_challenges(&self, count: usize) -> Vec<Uuid> {
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(self.create_challenge_of(&format!("user-{number}")).await);
        }
        ids
    }

    /// What the app is told about a challenge, from the record alone.
    pub(crate) async fn challenge(&self, id: Uuid) -> Value {
        self.get_challenge(id).send().await.is(200).clone()
    }

    /// A message as Circle sends it, with a notification id of its own, that reports this status of a challenge.
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

    /// Posts a message, signed with Circle's key.
    pub(crate) async fn post_webhook(&self, message: &Value) -> Response {
        self.post_signed(message.to_string().as_bytes()).await
    }

    /// Posts any bytes, signed with Circle's key.
    pub(crate) async fn post_signed(&self, body: &[u8]) -> Response {
        let (key_id, signature) = self.circle.sign(body);
        self.webhook(key_id, &signature, body).send().await
    }

    /// Waits until the simulator has sent a webhook that reports `status` of the challenge, and the service has
    /// responded with `response`.
    pub(crate) async fn wait_for_webhook(&self, id: Uuid, status: &str, response: u16) {
        in_time(async {
            loop {
                let deliveries = self.circle.deliveries();
                let found = deliveries.iter().any(|delivery| {
                    let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
                    let notification = &body["notification"];
                    let reported = notification.get("status").or(notification.get("state"));
                    notification["id"] == json!(id)
                        && reported == Some(&json!(status))
                        && delivery.status == Some(response)
                });
                if found {
                    return;
                }
                self.circle.wait_for_deliveries(deliveries.len() + 1).await;
            }
        })
        .await;
    }

    /// Waits until the simulator has sent, or lost, this many webhooks since it started. The first is the test
    /// message of the stack's own subscription.
    pub(crate) async fn wait_for_webhooks(&self, count: usize) {
        in_time(self.circle.wait_for_deliveries(count)).await;
    }

    /// The notification id of the latest webhook.
    pub(crate) fn last_notification(&self) -> Uuid {
        self.circle.deliveries().last().unwrap().notification_id
    }
}

/// The options of a stack whose clock stands still at noon. Its routes have no throttles, which count by the clock.
pub(crate) fn noon() -> StackOptions {
    StackOptions { clock: AdjustableClock::frozen(NOON), throttled: false, ..StackOptions::default() }
}

pub(crate) fn owned<const N: usize>(settings: [(&str, &str); N]) -> BTreeMap<String, String> {
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A property that is a string.
#[track_caller]
pub(crate) fn text<'a>(body: &'a Value, property: &str) -> &'a str {
    body[property].as_str().unwrap_or_else(|| panic!("{body} has no string {property}"))
}

#[track_caller]
pub(crate) fn challenge_id(body: &Value) -> Uuid {
    text(body, "challengeId").parse().unwrap()
}

/// The value after a JSON merge patch (RFC 7396): null removes a property.
pub(crate) fn with(mut value: Value, changes: Value) -> Value {
    match changes {
        Value::Object(changes) => {
            for (name, change) in changes {
                let before = value.as_object_mut().unwrap().remove(&name).unwrap_or(json!({}));
                if !change.is_null() {
                    value[name] = with(before, change);
                }
            }
            value
        }
        change => change,
    }
}

/// A file for DynamoDB's data that is deleted after the test.
pub(crate) struct DataFile(pub(crate) PathBuf);

impl DataFile {
    /// Each test has a `name` of its own.
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
