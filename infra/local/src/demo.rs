//! `cargo local demo`: a walk through the service. It prints the requests and responses of each step.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use shared::clock::{SystemClock, timeout};

use crate::stack::{Stack, StackError, StackOptions};

/// How long the walk waits for a webhook or an event.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// Why the walk failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The stack did not start.
    #[error(transparent)]
    Start(#[from] StackError),
    /// A request got no response.
    #[error("a request got no response")]
    Request(#[from] reqwest::Error),
    /// A step had an unexpected result.
    #[error("expected {expected}, but got {found}")]
    Unexpected {
        /// The expected result.
        expected: String,
        /// The actual result.
        found: String,
    },
}

/// Runs the walk. `port` is that of [`StackOptions`].
///
/// # Errors
/// If a port is in use, or a step does not have the expected result.
pub async fn run(port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let stack =
        Stack::start(StackOptions { port, ..StackOptions::default() }).await.map_err(DemoError::from)?;
    let walked = walk(&stack).await;
    stack.stop().await;
    walked?;
    println!("\nAll steps succeeded.");
    Ok(())
}

async fn walk(stack: &Stack) -> Result<(), DemoError> {
    stack.add_user("alice", "112233");
    stack.add_user("bobby", "778899");
    let walk = Walk {
        stack,
        http: reqwest::Client::builder().no_proxy().build()?,
        webhooks_shown: Cell::new(0),
        events_shown: Cell::new(0),
    };
    change_pin(&walk, &stack.sign_in("alice")).await?;
    recover(&walk, &stack.sign_in("bobby")).await
}

async fn change_pin(walk: &Walk<'_>, alice: &str) -> Result<(), DemoError> {
    title("Alice changes her PIN");
    step("Create a session for Circle's client SDK");
    let session = walk.api(alice, "POST /session-tokens", None, None).await?.is(201)?;
    let user_token = session.text("userToken")?;

    step("Create a challenge to change the PIN");
    let challenge = walk.api(alice, "POST /challenges", Some(&user_token), None).await?.is(201)?;
    let id = challenge.has("status", "PENDING")?.text("challengeId")?;

    step("On the device, enter a wrong PIN");
    walk.device(&id, "pin", json!({ "pin": "000000" })).await?.has("status", "IN_PROGRESS")?;
    walk.webhooks(&id, "IN_PROGRESS").await?;
    walk.status(alice, &user_token, &id).await?.has("status", "IN_PROGRESS")?;

    step("On the device, enter the correct PIN and a new one");
    let entry = json!({ "pin": "112233", "newPin": "445566" });
    walk.device(&id, "pin", entry).await?.has("status", "COMPLETE")?;
    walk.webhooks(&id, "COMPLETE").await?;

    step("Get the result");
    walk.status(alice, &user_token, &id).await?.has("status", "COMPLETE")?;

    step("See the events, with which you can tell Alice that her PIN was changed");
    walk.events(&id, "COMPLETE").await?;

    step("Check that the new PIN works and the old one does not");
    let challenge = walk.api(alice, "POST /challenges", Some(&user_token), None).await?.is(201)?;
    let id = challenge.text("challengeId")?;
    walk.device(&id, "pin", json!({ "pin": "112233" })).await?.has("status", "IN_PROGRESS")?;
    walk.device(&id, "pin", json!({ "pin": "445566" })).await?.has("status", "COMPLETE")?;
    walk.webhooks(&id, "COMPLETE").await?;
    walk.status(alice, &user_token, &id).await?.has("status", "COMPLETE")?;
    Ok(())
}

async fn recover(walk: &Walk<'_>, bobby: &str) -> Result<(), DemoError> {
    title("Bobby has forgotten his PIN");
    step("Create a challenge and enter three wrong PINs");
    let challenge = walk.api(bobby, "POST /challenges", None, None).await?.is(201)?;
    let (id, user_token) = (challenge.text("challengeId")?, challenge.text("session.userToken")?);
    for guess in ["111111", "222222", "333333"] {
        walk.device(&id, "pin", json!({ "pin": guess })).await?;
    }
    walk.webhooks(&id, "FAILED").await?;

    step("Get the result: the challenge failed because the PIN is locked");
    walk.status(bobby, &user_token, &id)
        .await?
        .has("status", "FAILED")?
        .has("failure.reason", "pin_locked")?;

    step("Try again while the PIN is locked: no challenge is created");
    let locked = walk.api(bobby, "POST /challenges", Some(&user_token), None).await?.is(423)?;
    locked.has("code", "pin_locked")?.text("lockedUntil")?;

    step("Recover with the security questions");
    let body = json!({ "type": "RESTORE_PIN" });
    let challenge = walk.api(bobby, "POST /challenges", Some(&user_token), Some(body)).await?.is(201)?;
    let id = challenge.text("challengeId")?;
    let answers = json!({ "correct": true, "newPin": "101010" });
    walk.device(&id, "security-questions", answers).await?.has("status", "COMPLETE")?;
    walk.webhooks(&id, "COMPLETE").await?;
    walk.status(bobby, &user_token, &id).await?.has("status", "COMPLETE")?;

    step("See the events: the recovery was requested, and it is complete");
    walk.events(&id, "COMPLETE").await?;

    step("Check that the new PIN works");
    let challenge = walk.api(bobby, "POST /challenges", Some(&user_token), None).await?.is(201)?;
    let id = challenge.text("challengeId")?;
    walk.device(&id, "pin", json!({ "pin": "101010" })).await?.has("status", "COMPLETE")?;
    walk.webhooks(&id, "COMPLETE").await?;
    walk.status(bobby, &user_token, &id).await?.has("status", "COMPLETE")?;
    Ok(())
}

/// Plays the app and the device, and prints the traffic.
struct Walk<'a> {
    stack: &'a Stack,
    http: reqwest::Client,
    webhooks_shown: Cell<usize>,
    events_shown: Cell<usize>,
}

impl Walk<'_> {
    /// Calls this service as the app does for the user with the token `bearer`.
    async fn api(
        &self,
        bearer: &str,
        call: &str,
        user_token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Response, DemoError> {
        let (method, path) = call.split_once(' ').unwrap_or(("GET", call));
        let url = format!("{}{path}", self.stack.api.url());
        let method = method.parse::<Method>().unwrap_or(Method::GET);
        let mut request = self.http.request(method, url).bearer_auth(bearer);
        print!("  app -> API     {call}");
        if let Some(token) = user_token {
            print!("  X-User-Token: {}", shortened(token));
            request = request.header("x-user-token", token);
        }
        if let Some(body) = body {
            print!("  {body}");
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        println!();
        let response = Response::read(request.send().await?).await?;
        println!("  app <- API     {response}");
        Ok(response)
    }

    /// Asks this service for the challenge.
    async fn status(&self, bearer: &str, user_token: &str, id: &str) -> Result<Response, DemoError> {
        self.api(bearer, &format!("GET /challenges/{id}"), Some(user_token), None).await?.is(200)
    }

    /// Acts as the user on the device, where Circle's client SDK would call Circle.
    async fn device(&self, id: &str, action: &str, entry: Value) -> Result<Response, DemoError> {
        let url = format!("{}/control/challenges/{id}/{action}", self.stack.circle.url());
        println!("  user -> Circle {action} {entry}");
        let request = self.http.post(url).body(entry.to_string());
        let response = Response::read(request.send().await?).await?.is(200)?;
        println!("  user <- Circle {}", response.at("status"));
        Ok(response)
    }

    /// Prints the webhooks until one reports this status of the challenge.
    async fn webhooks(&self, challenge: &str, status: &str) -> Result<(), DemoError> {
        loop {
            let next = self.webhooks_shown.get();
            let arrival = self.stack.circle.wait_for_deliveries(next + 1);
            timeout(&SystemClock, WAIT_LIMIT, arrival).await.map_err(|_| DemoError::Unexpected {
                expected: format!("a webhook with the status {status}"),
                found: "none".to_owned(),
            })?;
            self.webhooks_shown.set(next + 1);
            let Some(delivery) = self.stack.circle.deliveries().into_iter().nth(next) else { continue };
            let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
            let notification = &body["notification"];
            let notification_type = body["notificationType"].as_str().unwrap_or_default();
            println!("  Circle -> API  POST /webhooks/circle  {notification_type} {notification}");
            println!(
                "  Circle <- API  {}",
                delivery.status.map_or("no response".into(), |status| status.to_string())
            );
            if delivery.status != Some(200) {
                return Err(DemoError::Unexpected {
                    expected: "the response 200 to a webhook".to_owned(),
                    found: format!("{:?}", delivery.status),
                });
            }
            if notification["id"] == challenge && notification["status"] == status {
                return Ok(());
            }
        }
    }

    /// Prints the events of a challenge until one reports this final status.
    async fn events(&self, challenge: &str, status: &str) -> Result<(), DemoError> {
        loop {
            let next = self.events_shown.get();
            let arrival = self.stack.event_bus.wait_for_events(next + 1);
            timeout(&SystemClock, WAIT_LIMIT, arrival).await.map_err(|_| DemoError::Unexpected {
                expected: format!("an event with the status {status}"),
                found: "none".to_owned(),
            })?;
            self.events_shown.set(next + 1);
            let Some(event) = self.stack.event_bus.events().await.into_iter().nth(next) else { continue };
            let (detail_type, detail) = (event["detail-type"].as_str().unwrap_or_default(), &event["detail"]);
            if detail["challengeId"] != challenge {
                continue;
            }
            println!("  API -> events  {detail_type}  {detail}");
            if detail["status"] == status {
                return Ok(());
            }
        }
    }
}

/// The status, the `Retry-After` header and the JSON body of a response.
struct Response {
    status: u16,
    retry_after: Option<String>,
    body: Value,
}

impl Response {
    async fn read(response: reqwest::Response) -> Result<Self, DemoError> {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        Ok(Self { status, retry_after, body })
    }

    fn is(self, status: u16) -> Result<Self, DemoError> {
        if self.status == status { Ok(self) } else { Err(self.unexpected(format!("status {status}"))) }
    }

    /// The value at a path of member names that are separated by dots.
    fn at(&self, path: &str) -> &Value {
        path.split('.').fold(&self.body, |value, name| &value[name])
    }

    fn has(&self, path: &str, text: &str) -> Result<&Self, DemoError> {
        if self.at(path) == text { Ok(self) } else { Err(self.unexpected(format!("{path} {text}"))) }
    }

    fn text(&self, path: &str) -> Result<String, DemoError> {
        let text = self.at(path).as_str().map(str::to_owned);
        text.ok_or_else(|| self.unexpected(format!("a response with {path}")))
    }

    fn unexpected(&self, expected: String) -> DemoError {
        DemoError::Unexpected { expected, found: self.to_string() }
    }
}

impl fmt::Display for Response {
    /// Shortens secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = self.body.clone();
        shorten_secrets(&mut body);
        write!(formatter, "{} {body}", self.status)?;
        self.retry_after.iter().try_for_each(|seconds| write!(formatter, "  Retry-After: {seconds}"))
    }
}

fn shorten_secrets(value: &mut Value) {
    for (name, member) in value.as_object_mut().into_iter().flatten() {
        match member {
            Value::String(text) if name == "userToken" => *text = shortened(text),
            Value::String(text) if name == "encryptionKey" => *text = "...".to_owned(),
            member => shorten_secrets(member),
        }
    }
}

fn shortened(secret: &str) -> String {
    secret.chars().take(6).chain("...".chars()).collect()
}

fn title(text: &str) {
    println!("\n{text}\n{}", "=".repeat(text.len()));
}

fn step(text: &str) {
    println!("\n{text}");
}
