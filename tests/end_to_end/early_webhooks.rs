use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, KEY, Log, MINUTE, NOON, Response, SECOND, USER, challenge_id, expected_challenge,
    expected_record, expires_at, fault_of, wait_until, with,
};

/// Circle creates the challenge, all of its responses are lost, and the user completes it.
#[tokio::test]
async fn failed_creation_is_completed_by_its_retry() {
    let app = App::start().await;
    let circle = &app.circle;
    circle.add_fault(Fault { drop: true, after_effect: true, times: 100, ..fault_of(CREATE_CHANGE_PIN) });
    let failed = request(&app).await;
    circle.clear_faults();
    failed.is_problem_with(503, "circle_unavailable", json!({ "retryAfterSeconds": 2 }));
    let [created] = &circle.challenges()[..] else { panic!("each attempt had the same key") };
    let id = created.id;
    app.wait_for_webhook(id, "PENDING", 200).await;
    assert_eq!(app.record(id).await.get("requestedAt"), None);

    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    is_hidden(&app, id).await;
    let record = app.record(id).await;
    assert_eq!(record.get("requestedAt"), None);

    let retried = request(&app).await;
    assert_eq!(challenge_id(retried.is(200)), id);
    assert_eq!(retried.body["status"], "COMPLETE");
    let shown = ["challengeId", "type", "status", "createdAt", "updatedAt", "checkedAt"];
    assert_eq!(shown.map(|name| &retried.body[name]), shown.map(|name| &record[name]));
    assert!(app.record(id).await["requestedAt"].is_string());
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn creation_adopts_the_record_of_an_earlier_webhook() {
    let app = App::at_noon().await;
    let id = app.create_at_circle(KEY).await;
    app.circle.start_challenge(id).unwrap();
    app.wait_for_webhook(id, "IN_PROGRESS", 200).await;
    let record = unrequested_record(&app, id, "IN_PROGRESS");
    assert_eq!(app.record(id).await, record);
    is_hidden(&app, id).await;

    app.advance(MINUTE);
    let log = Log::start();
    shows(&request(&app).await, 200, id, "IN_PROGRESS");
    assert_eq!(log.metrics(), [] as [&str; 0], "the webhook named the same user");
    let adopted = json!({
        "requestedAt": "2026-01-01T12:01:00Z",
        "requestedAtMs": (NOON.unix_timestamp() + 60) * 1000,
        "expiresAt": expires_at(60),
        "nextCheckAt": NOON.unix_timestamp() + 60 + 600,
        "namedUserId": USER,
        "notificationId": record["notificationId"],
    });
    assert_eq!(app.record(id).await, with(expected_record(id, "IN_PROGRESS"), adopted));
}

#[tokio::test]
async fn creation_adopts_the_record_of_an_earlier_final_webhook() {
    let app = App::at_noon().await;
    let id = app.create_at_circle(KEY).await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    let settled = json!({ "settledBy": "webhook", "previousStatus": "IN_PROGRESS" });
    let record = with(unrequested_record(&app, id, "COMPLETE"), settled.clone());
    assert_eq!(app.record(id).await, record);
    is_hidden(&app, id).await;

    app.advance(MINUTE);
    shows(&request(&app).await, 200, id, "COMPLETE");
    let adopted = json!({
        "requestedAt": "2026-01-01T12:01:00Z",
        "requestedAtMs": (NOON.unix_timestamp() + 60) * 1000,
        "expiresAt": expires_at(60),
        "namedUserId": USER,
        "notificationId": record["notificationId"],
    });
    let record = with(with(expected_record(id, "COMPLETE"), settled), adopted);
    assert_eq!(app.record(id).await, record);
    assert_eq!(app.challenge(id).await, expected_challenge(id, "COMPLETE"));

    app.advance(MINUTE);
    shows(&request(&app).await, 200, id, "COMPLETE");
    assert_eq!(app.record(id).await, record, "a second retry writes nothing");
}

#[tokio::test]
async fn challenge_can_be_settled_before_circle_responds_to_its_creation() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    circle.add_fault(Fault { delay_ms: 2000, after_effect: true, ..fault_of(CREATE_CHANGE_PIN) });
    let complete = async {
        wait_until(|| !circle.challenges().is_empty()).await;
        let id = circle.challenges()[0].id;
        circle.enter_pin(id, PinEntry::right()).unwrap();
        app.wait_for_webhook(id, "COMPLETE", 200).await;
        app.advance(2 * SECOND);
        id
    };
    let (created, id) = tokio::join!(request(&app), complete);
    shows(&created, 201, id, "COMPLETE");
    let record = app.record(id).await;
    let values = ["requestedAt", "settledBy", "openShard", "nextCheckAt"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["2026-01-01T12:00:02Z", "webhook", null, null]));
}

#[tokio::test]
async fn challenge_of_another_app_on_the_same_account_is_hidden() {
    let app = App::at_noon().await;
    for (id, user, status) in
        [(1, json!(USER), "IN_PROGRESS"), (2, json!(USER), "COMPLETE"), (3, Value::Null, "COMPLETE")]
    {
        let id = Uuid::from_u128(id);
        let mut notification = app.message(id, status)["notification"].clone();
        notification["userId"] = user.clone();
        assert_eq!(app.circle.send_notification("challenges.changePin", &notification, None), 1);
        app.wait_for_webhook(id, status, 200).await;
        let settled_by = if status == "COMPLETE" { json!("webhook") } else { Value::Null };
        let expected = json!({ "userId": user, "namedUserId": user, "settledBy": settled_by });
        assert_eq!(app.record(id).await, with(unrequested_record(&app, id, status), expected));
        is_hidden(&app, id).await;
    }
}

#[tokio::test]
async fn webhooks_that_nobody_asked_for_are_counted_and_name_their_subscription() {
    let log = Log::start();
    let app = App::at_noon().await.without_webhooks().await;
    let counted = |metric: &str, subscription: Uuid| {
        log.count(&[&format!(r#""metric":"{metric}""#), &format!(r#""subscription_id":"{subscription}""#)])
    };
    assert_eq!(log.metrics(), ["webhook_ignored"], "the test message");
    let requested = app.create_challenge().await;
    let foreign = Uuid::from_u128(7);
    let message = |id, changes| with(app.message(id, "COMPLETE"), changes);
    for (message, outcome) in [
        (message(requested, json!({})), "applied"),
        (message(Uuid::from_u128(1), json!({ "subscriptionId": foreign })), "applied"),
        (
            message(requested, json!({ "subscriptionId": foreign, "notificationType": "wallets.new" })),
            "ignored",
        ),
    ] {
        assert_eq!(app.post_webhook(&message).await.outcome(), outcome);
    }
    assert_eq!(log.metrics(), ["webhook_ignored", "unrequested_challenge", "webhook_ignored"]);
    assert_eq!((counted("unrequested_challenge", foreign), counted("webhook_ignored", foreign)), (1, 1));
}

#[tokio::test]
async fn user_of_the_creation_replaces_the_user_that_a_webhook_named() {
    for status in ["IN_PROGRESS", "COMPLETE"] {
        let app = App::at_noon().await.without_webhooks().await;
        let id = app.create_at_circle(KEY).await;
        let message = with(app.message(id, status), json!({ "notification": { "userId": "mallory" } }));
        assert_eq!(app.post_webhook(&message).await.outcome(), "applied");
        assert_eq!(app.record(id).await["userId"], "mallory");
        let mallory = app.stack.sign_in("mallory");
        app.get_challenge(id).bearer(&mallory).send().await.is_problem(404, "challenge_not_found");

        let log = Log::start();
        for _ in 0..2 {
            shows(&request(&app).await, 200, id, status);
            app.advance(SECOND);
        }
        assert_eq!(log.metrics(), ["report_of_another_user"], "a second retry says nothing new");
        assert_eq!(app.record(id).await["userId"], USER);
        assert_eq!(app.challenge(id).await["status"], status);
    }
}

/// Requests the challenge of [`KEY`].
async fn request(app: &App) -> Response {
    app.post_challenge().key(KEY).send().await
}

/// The record that the latest webhook created, before any request for the challenge. It is kept for a week.
fn unrequested_record(app: &App, id: Uuid, status: &str) -> Value {
    let unrequested = json!({
        "requestedAt": null,
        "requestedAtMs": null,
        "retentionSeconds": null,
        "openShard": null,
        "nextCheckAt": null,
        "expiresAt": NOON.unix_timestamp() + 7 * 86_400,
        "namedUserId": USER,
        "notificationId": app.last_notification(),
    });
    with(expected_record(id, status), unrequested)
}

/// Checks that the response shows the challenge, with or without a session.
#[track_caller]
fn shows(response: &Response, status: u16, id: Uuid, challenge_status: &str) {
    let body = with(response.is(status).clone(), json!({ "session": null }));
    assert_eq!(body, expected_challenge(id, challenge_status));
}

async fn is_hidden(app: &App, id: Uuid) {
    app.get_challenge(id).send().await.is_problem(404, "challenge_not_found");
}
