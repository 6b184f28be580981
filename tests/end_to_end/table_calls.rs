use std::sync::Arc;

use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, DynamoDbProxy, KEY, MINUTE, SECOND, challenge_id, fault_of, noon, with,
};

const CHECK_RATE_LIMIT: &str = "UpdateItem rate-limits";
const READ_RECORD: &str = "GetItem challenges";
/// These three write different things with the same call.
const WRITE_CREATION: &str = "UpdateItem challenges";
const APPLY_REPORT: &str = WRITE_CREATION;
const CLAIM_POLL: &str = WRITE_CREATION;

#[tokio::test]
async fn webhook_calls_the_table_at_most_once() {
    let (app, proxy) = start().await;
    let id = app.create_challenge().await;
    let complete = app.message(id, "COMPLETE");
    for (message, outcome) in [
        (app.message(id, "IN_PROGRESS"), "applied"),
        (complete.clone(), "applied"),
        (complete, "duplicate"),
        (app.message(id, "FAILED"), "stale"),
        (app.message(Uuid::from_u128(1), "COMPLETE"), "applied"),
    ] {
        let post = async { assert_eq!(app.post_webhook(&message).await.outcome(), outcome) };
        assert_eq!(proxy.operations_of(post).await, [APPLY_REPORT], "{outcome}");
    }
    let without_effect = async {
        let message = with(app.message(id, "COMPLETE"), json!({ "notificationType": "webhooks.test" }));
        assert_eq!(app.post_webhook(&message).await.outcome(), "ignored");
        assert_eq!(app.post_signed(b"{}").await.status, 422);
        let (key_id, _) = app.circle.sign(b"");
        assert_eq!(app.webhook(key_id, "AAAA", b"{}").send().await.status, 401);
        assert_eq!(app.request("HEAD /webhooks/circle").anonymous().send().await.status, 200);
    };
    assert_eq!(proxy.operations_of(without_effect).await, [""; 0]);
}

#[tokio::test]
async fn creation_calls_each_table_once_and_writes_again_if_the_challenge_is_settled() {
    let (app, proxy) = start().await;
    let create = async |status| challenge_id(app.post_challenge().key(KEY).send().await.is(status));
    assert_eq!(proxy.operations_of(app.user_token()).await, [""; 0]);
    assert_eq!(proxy.operations_of(app.get_pin().send()).await, [""; 0]);
    assert_eq!(proxy.operations_of(app.create_challenge()).await, [CHECK_RATE_LIMIT, WRITE_CREATION]);
    assert_eq!(proxy.operations_of(create(201)).await, [CHECK_RATE_LIMIT, WRITE_CREATION]);
    assert_eq!(proxy.operations_of(create(200)).await, [CHECK_RATE_LIMIT, WRITE_CREATION], "a retry");
    let id = create(200).await;
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    let operations = proxy.operations_of(create(200)).await;
    assert_eq!(operations, [CHECK_RATE_LIMIT, WRITE_CREATION], "a retry of a settled challenge");

    // Circle creates the challenge, but its response is lost.
    let lost = Fault { status: Some(400), after_effect: true, ..fault_of(CREATE_CHANGE_PIN) };
    app.circle.add_fault(lost);
    let other = || app.post_challenge().key(Uuid::from_u128(7));
    let failed = async { assert_eq!(other().send().await.status, 502) };
    assert_eq!(proxy.operations_of(failed).await, [CHECK_RATE_LIMIT]);
    let id = app.circle.challenges().last().unwrap().id;
    assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "applied");
    let completed = async { assert_eq!(other().send().await.is(200)["status"], "COMPLETE") };
    let operations = proxy.operations_of(completed).await;
    assert_eq!(operations, [CHECK_RATE_LIMIT, WRITE_CREATION, WRITE_CREATION]);
}

#[tokio::test]
async fn status_calls_the_table_once_and_a_poll_at_most_three_times() {
    let (app, proxy) = start().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    let get = |id| app.get_challenge(id).send();
    let poll = || app.get_challenge(id).token(&token).send();
    assert_eq!(proxy.operations_of(get(id)).await, [READ_RECORD]);
    assert_eq!(proxy.operations_of(get(Uuid::from_u128(7))).await, [READ_RECORD], "an unknown challenge");
    assert_eq!(proxy.operations_of(poll()).await, [READ_RECORD, CLAIM_POLL], "Circle has no news");
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    assert_eq!(proxy.operations_of(poll()).await, [READ_RECORD, CLAIM_POLL], "Circle was asked just now");
    app.advance(3 * SECOND);
    assert_eq!(proxy.operations_of(poll()).await, [READ_RECORD, CLAIM_POLL, APPLY_REPORT]);
    app.advance(MINUTE);
    assert_eq!(proxy.operations_of(poll()).await, [READ_RECORD], "the challenge is settled");
}

/// An app at noon whose simulator sends no webhooks by itself.
async fn start() -> (App, Arc<DynamoDbProxy>) {
    let (app, proxy) = DynamoDbProxy::start(noon()).await;
    app.wait_for_webhooks(1).await;
    app.lose_webhooks();
    (app, proxy)
}
