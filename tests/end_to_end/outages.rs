use std::time::Duration;

use local::circle::{Fault, PinEntry};
use local::dynamodb::CHALLENGES_TABLE;
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
