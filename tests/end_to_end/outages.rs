use std::time::Duration;

use local::circle_simulator::{Fault, PinEntry};
use local::dynamodb::CHALLENGES_TABLE;
use local::secrets_manager::InjectedError;
use serde_json::{Value, json};
use shared::clock::AdjustableClock;
use uuid::Uuid;

use crate::dynamodb_proxy::DynamoDbProxy;
use crate::support::{App, challenge_id, eventually, send};

const KEY: &str = "3f2b8a52-6a0e-4d0c-9b57-0d1f6c2f5a11";
const ASKS_FOR_KEY: &str = "GET /v2/notifications/publicKey/{keyId}";

/// When Circle sends a webhook again that was not answered 200: so late that only a moved clock gets there.
const RETRY: Duration = Duration::from_secs(600);
const RETRY_FACTOR: f64 = 600.0;

#[tokio::test]
async fn a_key_that_does_not_come_in_two_seconds_is_not_waited_for() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    circle.set_knobs(|knobs| knobs.retry_factor = RETRY_FACTOR);
    circle.rotate_signing_key();
    circle.add_fault(Fault { delay_ms: 3_600_000, ..key_lookup() });
    circle.start_challenge(id).unwrap();
    eventually(|| circle.call_count(ASKS_FOR_KEY) == 2).await;
    app.advance(Duration::from_secs(2));
    app.webhook_answered(id, "IN_PROGRESS", 503).await;
    assert_eq!(app.status(id).await["status"], "PENDING");
    app.advance(RETRY);
    app.webhook_answered(id, "IN_PROGRESS", 200).await;
    assert_eq!(app.status(id).await["status"], "IN_PROGRESS");
}

#[tokio::test]
async fn what_the_table_missed_in_an_outage_it_has_afterwards() {
    let (app, table) = DynamoDbProxy::start(AdjustableClock::running()).await;
    let circle = &app.stack.circle;
    circle.set_knobs(|knobs| knobs.retry_factor = RETRY_FACTOR);
    let create = || send(app.request("POST /challenges").header("idempotency-key", KEY));
    table.set_down(&[CHALLENGES_TABLE]);
    create().await.is_problem(unavailable());
    let id = circle.challenges()[0].id;
    app.webhook_answered(id, "PENDING", 503).await;
    table.set_down(&[]);
    app.advance(RETRY);
    app.webhook_answered(id, "PENDING", 200).await;
    let created = create().await;
    assert_eq!(challenge_id(created.is(200)), id);

    table.set_down(&[CHALLENGES_TABLE]);
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 503).await;
    app.webhook_answered(id, "COMPLETE", 503).await;
    send(app.request(&format!("GET /challenges/{id}"))).await.is_problem(unavailable());
    app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is_problem(unavailable());
    table.set_down(&[]);
    assert_eq!(app.status(id).await["status"], "PENDING");
    app.advance(RETRY);
    app.webhook_answered(id, "COMPLETE", 200).await;
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn a_table_that_throttles_is_asked_again_and_then_given_up() {
    let (app, table) = DynamoDbProxy::start(AdjustableClock::running()).await;
    table.throttle(2);
    let id = challenge_id(send(app.request("POST /challenges")).await.is(201));
    table.throttle(1);
    app.post(&app.message(id, "COMPLETE")).await.is(200);
    table.throttle(3);
    send(app.request(&format!("GET /challenges/{id}"))).await.is_problem(unavailable());
    table.throttle(3);
    app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is_problem(unavailable());
    table.throttle(3);
    send(app.request("POST /challenges")).await.is_problem(unavailable());
    assert_eq!(app.stack.circle.challenges().len(), 1, "what cannot be counted is not made");
}

#[tokio::test]
async fn while_secrets_manager_is_down_webhooks_of_a_known_key_are_taken_in() {
    let app = App::start().await;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    let reads = app.stack.secrets_manager.reads();
    app.stack.secrets_manager.fail_next(1000, InjectedError::NoResponse);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    assert_eq!(app.stack.secrets_manager.reads(), reads);
}

fn key_lookup() -> Fault {
    Fault { path: Some("/v2/notifications/publicKey/".into()), ..Fault::default() }
}

fn unavailable() -> Value {
    json!({
        "title": "Storage is unavailable",
        "status": 503,
        "detail": "The challenge's record could not be reached. Try again, with the same Idempotency-Key if there was one.",
        "code": "storage_unavailable",
        "retryAfterSeconds": 2,
    })
}
