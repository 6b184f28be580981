use std::time::Duration;

use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;
use shared::clock::AdjustableClock;
use uuid::Uuid;

use crate::dynamodb_proxy::DynamoDbProxy;
use crate::support::{App, MINUTE, NOON, challenge_id, send};

const KEY: &str = "3f2b8a52-6a0e-4d0c-9b57-0d1f6c2f5a11";

const COUNTS: &str = "UpdateItem rate-limits";
const READS: &str = "GetItem challenges";
// What is written differs; the call is the same.
const CREATES: &str = "UpdateItem challenges";
const SETTLES: &str = CREATES;
const CLAIMS: &str = CREATES;

#[tokio::test]
async fn a_webhook_is_one_call_to_the_table_at_most() {
    let (app, table) = start().await;
    let id = app.challenge().await;
    let complete = app.message(id, "COMPLETE");
    for (message, outcome) in [
        (app.message(id, "IN_PROGRESS"), "applied"),
        (complete.clone(), "applied"),
        (complete, "duplicate"),
        (app.message(id, "FAILED"), "stale"),
        (app.message(Uuid::from_u128(1), "COMPLETE"), "applied"),
    ] {
        let post = async {
            assert_eq!(app.post(&message).await.is(200)["outcome"], outcome);
        };
        assert_eq!(table.operations_of(post).await, [SETTLES], "{outcome}");
    }
    let without_effect = async {
        let mut message = app.message(id, "COMPLETE");
        message["notificationType"] = json!("webhooks.test");
        assert_eq!(app.post(&message).await.is(200)["outcome"], "ignored");
        assert_eq!(app.post_bytes(b"{}").await.status, 422);
        let (key_id, _) = app.stack.circle.sign(b"");
        assert_eq!(send(app.webhook(&key_id.to_string(), "AAAA", b"{}")).await.status, 401);
        assert_eq!(send(app.anonymous("HEAD /webhooks/circle")).await.status, 200);
    };
    assert_eq!(table.operations_of(without_effect).await, [""; 0]);
}

#[tokio::test]
async fn a_challenge_is_one_call_to_each_table_and_one_more_where_it_is_settled_already() {
    let (app, table) = start().await;
    let create = |status| {
        let request = app.request("POST /challenges").header("idempotency-key", KEY);
        async move { challenge_id(send(request).await.is(status)) }
    };
    assert_eq!(table.operations_of(app.user_token()).await, [""; 0]);
    assert_eq!(table.operations_of(send(app.request("GET /pin"))).await, [""; 0]);
    assert_eq!(table.operations_of(app.challenge()).await, [COUNTS, CREATES]);
    assert_eq!(table.operations_of(create(201)).await, [COUNTS, CREATES]);
    assert_eq!(table.operations_of(create(200)).await, [COUNTS, CREATES], "a repeat");
    let id = create(200).await;
    app.post(&app.message(id, "COMPLETE")).await.is(200);
    assert_eq!(table.operations_of(create(200)).await, [COUNTS, CREATES], "a repeat of a settled one");

    // Circle makes the challenge, and its answer is lost.
    app.stack.circle.add_fault(Fault {
        path: Some("/v1/w3s/user/pin".into()),
        status: Some(400),
        after_effect: true,
        ..Fault::default()
    });
    let other = || app.request("POST /challenges").header("idempotency-key", Uuid::from_u128(7).to_string());
    let died = async {
        assert_eq!(send(other()).await.status, 502);
    };
    assert_eq!(table.operations_of(died).await, [COUNTS]);
    let id = app.stack.circle.challenges().last().unwrap().id;
    assert_eq!(app.post(&app.message(id, "COMPLETE")).await.is(200)["outcome"], "applied");
    let taken_up = async {
        assert_eq!(send(other()).await.is(200)["status"], "COMPLETE");
    };
    assert_eq!(table.operations_of(taken_up).await, [COUNTS, CREATES, CREATES]);
}

#[tokio::test]
async fn a_status_is_one_call_to_the_table_and_three_at_most_when_circle_is_asked() {
    let (app, table) = start().await;
    let (id, token) = (app.challenge().await, app.user_token().await);
    let get = |id: Uuid| send(app.request(&format!("GET /challenges/{id}")));
    let poll = || send(app.request(&format!("GET /challenges/{id}")).header("x-user-token", &token));
    assert_eq!(table.operations_of(get(id)).await, [READS]);
    assert_eq!(table.operations_of(get(Uuid::from_u128(7))).await, [READS], "of none");
    assert_eq!(table.operations_of(poll()).await, [READS, CLAIMS], "Circle has no news");
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    assert_eq!(table.operations_of(poll()).await, [READS, CLAIMS], "Circle was asked just now");
    app.advance(Duration::from_secs(3));
    assert_eq!(table.operations_of(poll()).await, [READS, CLAIMS, SETTLES]);
    app.advance(MINUTE);
    assert_eq!(table.operations_of(poll()).await, [READS], "settled");
}

/// An app at noon whose simulator sends no webhooks of its own.
async fn start() -> (App, std::sync::Arc<DynamoDbProxy>) {
    let (app, table) = DynamoDbProxy::start(AdjustableClock::frozen(NOON)).await;
    app.stack.circle.wait_for_deliveries(1).await;
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    (app, table)
}
