use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use local::circle::PinEntry;
use shared::challenge::ChallengeType;
use shared::circle::idempotency_key;
use shared::clock::AdjustableClock;
use shared::identity::UserId;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{App, USER, send};

/// Stands before DynamoDB and counts the functions' calls.
#[derive(Clone)]
struct Counter {
    dynamodb: String,
    http: reqwest::Client,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Counter {
    /// An app whose functions reach the table through the counter only.
    async fn start() -> (Self, App) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dynamodb = local::dynamodb::start(listener, None, AdjustableClock::running()).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let counter = Self { dynamodb: dynamodb.url().to_owned(), http, calls: Arc::default() };
        // Another DynamoDB than the stack's own; it runs until the test is over.
        std::mem::forget(dynamodb);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass_on).with_state(counter.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        let app = App::with_settings([("AWS_ENDPOINT_URL_DYNAMODB", &url)]).await;
        // Only what a test posts is to be counted.
        app.stack.circle.wait_for_deliveries(1).await;
        app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
        (counter, app)
    }

    /// The calls since the last time, by AWS's names.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

async fn pass_on(State(counter): State<Counter>, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
    let target = headers["x-amz-target"].to_str().unwrap();
    counter.calls.lock().unwrap().push(target.rsplit('.').next().unwrap().to_owned());
    let call = counter.http.post(&counter.dynamodb).headers(headers).body(body).send().await.unwrap();
    (call.status(), call.bytes().await.unwrap())
}

#[tokio::test]
async fn each_request_makes_as_few_calls_to_the_table_as_it_can() {
    let (counter, app) = Counter::start().await;
    let token = app.user_token().await;
    assert_eq!(counter.take(), [""; 0], "a session");

    let id = app.challenge().await;
    assert_eq!(counter.take(), ["UpdateItem"], "a new challenge");

    let status = format!("GET /challenges/{id}");
    send(app.request(&status)).await.is(200);
    assert_eq!(counter.take(), ["GetItem"], "a status");
    send(app.request(&status).header("x-user-token", &token)).await.is(200);
    assert_eq!(counter.take(), ["GetItem", "UpdateItem"], "a poll that finds nothing new");
    send(app.request(&status).header("x-user-token", &token)).await.is(200);
    assert_eq!(counter.take(), ["GetItem", "UpdateItem"], "a poll too soon after another");
    app.advance(std::time::Duration::from_secs(3));
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    send(app.request(&status).header("x-user-token", &token)).await.is(200);
    assert_eq!(counter.take(), ["GetItem", "UpdateItem", "UpdateItem"], "a poll that settles");
    send(app.request(&status).header("x-user-token", &token)).await.is(200);
    assert_eq!(counter.take(), ["GetItem"], "a final status");

    for (message, outcome) in
        [(app.message(Uuid::from_u128(1), "COMPLETE"), "applied"), (app.message(id, "COMPLETE"), "stale")]
    {
        assert_eq!(app.post(&message).await.is(200)["outcome"], outcome);
        assert_eq!(counter.take(), ["UpdateItem"], "a webhook");
    }
    app.post_bytes(b"{\"notificationType\": \"webhooks.test\"}").await.is(200);
    assert_eq!(counter.take(), [""; 0], "a webhook about nothing of ours");
}

#[tokio::test]
async fn a_challenge_whose_final_webhook_came_first_takes_two_calls() {
    let (counter, app) = Counter::start().await;
    let callers_key = Uuid::from_u128(9);
    let user = UserId::parse(USER).unwrap();
    let key = idempotency_key(&user, ChallengeType::ChangePin, callers_key);
    let token = app.user_token().await;
    let made = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = made
        .put(format!("{}/v1/w3s/user/pin", app.stack.circle.url()))
        .bearer_auth(app.stack.circle.api_key())
        .header("x-user-token", token)
        .header("content-type", "application/json")
        .body(format!("{{\"idempotencyKey\": \"{key}\"}}"));
    let id: Uuid = send(made).await.body["data"]["challengeId"].as_str().unwrap().parse().unwrap();
    app.post(&app.message(id, "COMPLETE")).await.is(200);
    counter.take();
    let repeat = app.request("POST /challenges").header("idempotency-key", callers_key.to_string());
    assert_eq!(send(repeat).await.is(200)["status"], "COMPLETE");
    assert_eq!(counter.take(), ["UpdateItem", "UpdateItem"]);
}
