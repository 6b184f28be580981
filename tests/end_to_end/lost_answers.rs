//! The AWS SDK repeats a call whose answer was lost, and finds what it did itself the first time.

use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;

use crate::dynamodb_proxy::DynamoDbProxy;
use crate::observed::while_time_passes;
use crate::reconcile::{ASKS_CIRCLE, FIRST_CHECK, function, run};
use crate::support::{App, DAY, challenge_id, send};

const KEY: &str = "3f2b8a52-6a0e-4d0c-9b57-0d1f6c2f5a11";

/// Does the work while every write to the tables has to be repeated, because its first answer is lost.
async fn losing<T>(app: &App, table: &DynamoDbProxy, work: impl Future<Output = T>) -> (T, Vec<String>) {
    table.lose_answers();
    let mut done = None;
    let work = async { done = Some(while_time_passes(&app.stack.clock, work).await) };
    let operations = table.operations_of(work).await;
    (done.unwrap(), operations.into_iter().filter(|call| call.starts_with("UpdateItem")).collect())
}

#[tokio::test]
async fn a_challenge_is_recorded_and_counted_once() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let request = app.request("POST /challenges").header("idempotency-key", KEY);
    let (answer, writes) = losing(&app, &table, send(request)).await;
    let id = challenge_id(answer.is(201));
    assert_eq!(writes, ["rate-limits", "rate-limits", "challenges", "challenges"].map(update));
    let item = app.item(id).await;
    assert_eq!((&item["status"], &item["userId"]), (&json!("PENDING"), &json!("alice")));
    assert_eq!(app.stack.circle.call_count("PUT /v1/w3s/user/pin"), 1);
}

#[tokio::test]
async fn a_challenge_whose_final_webhook_came_first_is_recorded_once() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let request = || app.request("POST /challenges").header("idempotency-key", KEY);
    let id = challenge_id(send(request()).await.is(201));
    app.forget(id).await;
    app.post(&app.message(id, "COMPLETE")).await.is(200);
    let (answer, writes) = losing(&app, &table, send(request())).await;
    assert_eq!(answer.is(200)["status"], "COMPLETE");
    assert_eq!(writes.len(), 6, "{writes:?}");
    assert!(app.item(id).await["requestedAt"].is_string());
}

#[tokio::test]
async fn a_webhook_meets_its_own_write_and_no_strangers() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let id = app.challenge().await;
    let message = app.message(id, "COMPLETE");
    let (answer, writes) = losing(&app, &table, app.post(&message)).await;
    assert_eq!(answer.is(200), &json!({ "outcome": "duplicate" }), "a stranger's write would make it stale");
    assert_eq!(writes.len(), 2);
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn a_poll_that_was_claimed_is_made() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let (id, token) = (app.challenge().await, app.user_token().await);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    let poll = app.request(&format!("GET /challenges/{id}")).header("x-user-token", token);
    let (answer, writes) = losing(&app, &table, send(poll)).await;
    assert_eq!(answer.is(200)["status"], "COMPLETE");
    assert_eq!(writes.len(), 4, "the claim and the settlement, each twice");
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 1);
    assert_eq!(app.item(id).await["settledBy"], "poll");
}

#[tokio::test]
async fn a_look_that_was_claimed_is_taken_and_one_given_up_is_so_once() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let function = function(&app);
    let (ended, open) = (app.challenge().await, app.challenge().await);
    app.stack.circle.enter_pin(ended, PinEntry::right()).unwrap();
    app.advance(8 * DAY);
    let (summary, writes) = losing(&app, &table, run(&app, &function)).await;
    assert_eq!((summary.checks, summary.settled, summary.abandoned, summary.failed), (2, 1, 1, 0));
    assert_eq!(writes.len(), 8, "{writes:?}");
    assert_eq!(app.item(ended).await["settledBy"], "reconcile");
    assert_eq!(app.item(open).await["abandonedReason"], "age");
}

#[tokio::test]
async fn an_answer_that_a_challenge_is_unknown_counts_once() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let function = function(&app);
    let (unknown, known) = (app.challenge().await, app.challenge().await);
    let path = Some(format!("/v1/w3s/user/challenges/{unknown}"));
    let fault = Fault { path, status: Some(404), code: Some(155_116), ..Fault::default() };
    app.stack.circle.add_fault(fault);
    app.advance(FIRST_CHECK);
    let (summary, _) = losing(&app, &table, run(&app, &function)).await;
    assert_eq!((summary.not_found, summary.open), (1, 1));
    assert_eq!(app.item(unknown).await["notFoundAt"].as_array().unwrap().len(), 1);
    assert!(app.item(known).await.get("notFoundAt").is_none());
}

fn update(table: &str) -> String {
    format!("UpdateItem {table}")
}
