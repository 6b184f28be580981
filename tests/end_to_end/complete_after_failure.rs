use local::circle_simulator::{Expiry, Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    App, GET_CHALLENGE, KEY, Log, MINUTE, SECOND, USER, challenge_id, expected_challenge, expected_record,
    expires_at, fault_of, wait_until, with,
};

/// A message that says that the challenge failed, with Circle's code and message.
fn failed(app: &App, id: Uuid, code: i32) -> Value {
    let error = json!({ "notification": { "errorCode": code, "errorMessage": "Circle's own words" } });
    with(app.message(id, "FAILED"), error)
}

/// An app whose webhooks are lost from now on, and what is logged from now on.
async fn start() -> (App, Log) {
    (App::at_noon().await.without_webhooks().await, Log::start())
}

#[tokio::test]
async fn complete_replaces_a_failure() {
    let (app, log) = start().await;
    for (first, reason) in [("FAILED", "incorrect_pin"), ("EXPIRED", "expired")] {
        let status = json!({ "notification": { "status": first } });
        let id = app.create_challenge().await;
        assert_eq!(app.post_webhook(&with(failed(&app, id, 155_112), status)).await.outcome(), "applied");
        assert_eq!(app.challenge(id).await["failure"]["reason"], reason);
        assert_eq!(app.record(id).await["reason"], reason);

        let complete = app.message(id, "COMPLETE");
        assert_eq!(app.post_webhook(&complete).await.outcome(), "applied");
        assert_eq!(app.challenge(id).await, expected_challenge(id, "COMPLETE"));
        let replaced = json!({
            "namedUserId": USER,
            "previousStatus": first,
            "notificationId": complete["notificationId"],
            "settledBy": "webhook",
        });
        assert_eq!(app.record(id).await, with(expected_record(id, "COMPLETE"), replaced));
        assert_eq!(log.count(&["complete_after_failure", first, &id.to_string()]), 1);
        assert_eq!(app.post_webhook(&complete).await.outcome(), "duplicate");
    }
    assert_eq!(log.metrics(), ["complete_after_failure"; 2]);
}

#[tokio::test]
async fn failure_does_not_replace_complete() {
    let (app, log) = start().await;
    let id = app.create_challenge().await;
    let complete = app.message(id, "COMPLETE");
    assert_eq!(app.post_webhook(&complete).await.outcome(), "applied");
    let record = app.record(id).await;
    app.advance(MINUTE);
    assert_eq!(app.post_webhook(&failed(&app, id, 155_112)).await.outcome(), "stale");
    assert_eq!(app.challenge(id).await, expected_challenge(id, "COMPLETE"));
    assert_eq!(app.record(id).await, record);
    assert_eq!(log.metrics(), ["conflicting_final_status"]);
}

#[tokio::test]
async fn complete_replaces_a_failure_that_came_before_the_creation() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.delete_record(id).await;
    assert_eq!(app.post_webhook(&failed(&app, id, 155_112)).await.outcome(), "applied");
    assert_eq!(app.post_challenge().key(KEY).send().await.is(200)["status"], "FAILED");
    assert_eq!(app.challenge(id).await["failure"]["reason"], "incorrect_pin");
    app.advance(MINUTE);
    assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "applied");
    let changed = json!({ "updatedAt": "2026-01-01T12:01:00Z", "checkedAt": "2026-01-01T12:01:00Z" });
    assert_eq!(app.challenge(id).await, with(expected_challenge(id, "COMPLETE"), changed));
    let record = app.record(id).await;
    assert_eq!(record["expiresAt"], expires_at(60), "it is kept as a requested challenge");
}

#[tokio::test]
async fn creation_adopts_a_complete_that_replaced_a_failure() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.delete_record(id).await;
    for message in [failed(&app, id, 155_112), app.message(id, "COMPLETE")] {
        assert_eq!(app.post_webhook(&message).await.outcome(), "applied");
    }
    let retried = app.post_challenge().key(KEY).send().await;
    assert_eq!(retried.is(200)["status"], "COMPLETE");
    assert_eq!(app.challenge(id).await, expected_challenge(id, "COMPLETE"));
}

/// Circle reports an expired challenge as EXPIRED when asked, and as FAILED with 155121 in its webhook.
#[tokio::test]
async fn two_reports_of_the_same_expiry_do_not_conflict() {
    let (app, log) = start().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.expire_challenge(id, Expiry::Expired).unwrap();
    let polled = app.get_challenge(id).token(&token).send().await;
    assert_eq!(polled.is(200)["status"], "EXPIRED");
    let record = app.record(id).await;
    assert_eq!(app.post_webhook(&failed(&app, id, 155_121)).await.outcome(), "stale");
    assert_eq!(app.record(id).await, record);

    let id = app.create_challenge().await;
    assert_eq!(app.post_webhook(&failed(&app, id, 155_121)).await.outcome(), "applied");
    assert_eq!(app.post_webhook(&app.message(id, "EXPIRED")).await.outcome(), "stale");
    let challenge = app.challenge(id).await;
    assert_eq!(
        (&challenge["status"], &challenge["failure"]["reason"]),
        (&json!("FAILED"), &json!("expired"))
    );
    assert_eq!(log.metrics(), [""; 0]);

    let complete = app.message(id, "COMPLETE");
    assert_eq!(app.post_webhook(&complete).await.outcome(), "applied");
    assert_eq!(app.challenge(id).await, expected_challenge(id, "COMPLETE"));
    assert_eq!(log.metrics(), ["complete_after_failure"]);
}

/// A poll that has read the open record meets a webhook that says something else.
#[tokio::test]
async fn complete_of_a_poll_replaces_a_failure_of_a_webhook_in_the_meantime() {
    let (app, log) = start().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    let delayed = Fault { delay_ms: 1000, ..fault_of(GET_CHALLENGE) };
    app.circle.add_fault(delayed);
    let fail = async {
        wait_until(|| app.circle.call_count(GET_CHALLENGE) == 1).await;
        assert_eq!(app.post_webhook(&failed(&app, id, 155_112)).await.outcome(), "applied");
        app.advance(SECOND);
    };
    let (polled, ()) = tokio::join!(app.get_challenge(id).token(&token).send(), fail);
    assert_eq!(polled.is(200)["status"], "COMPLETE");
    assert_eq!(polled.body.get("failure"), None);
    let record = app.record(id).await;
    let values = ["status", "settledBy", "circleCode", "circleMessage", "reason"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["COMPLETE", "poll", null, null, null]));
    assert_eq!(log.metrics(), ["complete_after_failure"]);
}
