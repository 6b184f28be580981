use local::circle_simulator::{Expiry, PinEntry};
use serde_json::json;
use uuid::Uuid;

use crate::support::{App, challenge_id, expected_challenge, text, with};

#[tokio::test]
async fn failure_has_a_reason_and_circles_code() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    circle.set_knobs(|knobs| {
        knobs.wrong_pin_fails_challenge = true;
        knobs.wrong_answers_fail_challenge = true;
    });
    let id = app.create_challenge().await;
    circle.enter_pin(id, PinEntry::wrong()).unwrap();
    has_failed(&app, id, 155_112, "incorrect_pin").await;

    let id = app.create_challenge().await;
    circle.expire_challenge(id, Expiry::Failed).unwrap();
    has_failed(&app, id, 155_121, "expired").await;

    let id = app.create_challenge().await;
    circle.cancel_challenge(id).unwrap();
    has_failed(&app, id, 155_701, "cancelled").await;

    let id = app.create_challenge().await;
    circle.fail_challenge(id, 155_999, "Something new").unwrap();
    has_failed(&app, id, 155_999, "other").await;

    let id = create_restore_challenge(&app).await;
    circle.answer_security_questions(id, false, None).unwrap();
    has_failed(&app, id, 155_115, "incorrect_answers").await;
}

#[tokio::test]
async fn three_wrong_entries_fail_the_challenge_with_a_lock() {
    let app = App::at_noon().await;
    let id = app.create_challenge().await;
    for _ in 0..3 {
        app.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    }
    has_failed(&app, id, 155_119, "pin_locked").await;
    let id = create_restore_challenge(&app).await;
    for _ in 0..3 {
        app.circle.answer_security_questions(id, false, None).unwrap();
    }
    has_failed(&app, id, 155_120, "security_answers_locked").await;
}

#[tokio::test]
async fn failure_without_a_code_has_the_reason_other() {
    let app = App::at_noon().await;
    let id = app.create_challenge().await;
    assert_eq!(app.post_webhook(&app.message(id, "FAILED")).await.outcome(), "applied");
    let failure = &app.challenge(id).await["failure"];
    assert_eq!(failure, &json!({ "reason": "other", "message": text(failure, "message") }));
    let record = app.record(id).await;
    assert_eq!((record.get("circleCode"), record.get("circleMessage")), (None, None));
    assert_eq!(record["reason"], "other");
}

#[tokio::test]
async fn expired_challenge_has_the_reason_expired() {
    let app = App::at_noon().await;
    let id = app.create_challenge().await;
    app.circle.expire_challenge(id, Expiry::Expired).unwrap();
    app.wait_for_webhook(id, "EXPIRED", 200).await;
    let shown = app.challenge(id).await;
    let message = text(&shown["failure"], "message");
    let failure = json!({ "failure": { "reason": "expired", "message": message } });
    assert_eq!(shown, with(expected_challenge(id, "EXPIRED"), failure));
    let record = app.record(id).await;
    let values = ["rank", "circleCode", "reason"].map(|name| &record[name]);
    assert_eq!(json!(values), json!([2, null, "expired"]));
}

async fn create_restore_challenge(app: &App) -> Uuid {
    challenge_id(app.post_challenge().restore().send().await.is(201))
}

/// Checks what callers see of a failure, and what is recorded: Circle's own message stays in the record.
async fn has_failed(app: &App, id: Uuid, code: i32, reason: &str) {
    app.wait_for_webhook(id, "FAILED", 200).await;
    let (shown, record) = (app.challenge(id).await, app.record(id).await);
    let message = text(&shown["failure"], "message");
    let locked_until = if reason == "pin_locked" { json!("2026-01-01T12:30:00Z") } else { json!(null) };
    let failure = with(
        json!({ "circleCode": code, "reason": reason, "message": message }),
        json!({ "lockedUntil": locked_until }),
    );
    let expected = json!({ "type": record["type"], "failure": failure });
    assert_eq!(shown, with(expected_challenge(id, "FAILED"), expected));
    let circles_message = app.circle.challenge(id).unwrap().error_message;
    assert!(!message.is_empty() && Some(message) != circles_message.as_deref(), "{message}");
    let values =
        ["status", "rank", "circleCode", "circleMessage", "reason", "settledBy"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["FAILED", 2, code, circles_message, reason, "webhook"]));
}
