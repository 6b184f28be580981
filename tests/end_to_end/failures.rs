use local::circle_simulator::{CircleSimulator, Expiry, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{App, challenge_id, send};

#[tokio::test]
async fn a_failure_has_a_reason_and_circles_number() {
    let app = App::at_noon().await;
    app.stack.circle.set_knobs(|knobs| knobs.wrong_pin_fails_challenge = true);
    fails(
        &app,
        |circle, id| _ = circle.enter_pin(id, PinEntry::wrong()).unwrap(),
        json!({
            "code": 155_112,
            "reason": "incorrect_pin",
            "message": "The PIN was wrong. Start again with the right one.",
        }),
        "The PIN is wrong",
    )
    .await;
    fails(
        &app,
        |circle, id| _ = circle.expire_challenge(id, Expiry::Failed).unwrap(),
        json!({
            "code": 155_121,
            "reason": "expired",
            "message": "This was not finished in time. Start again.",
        }),
        "The challenge has expired",
    )
    .await;
    fails(
        &app,
        |circle, id| _ = circle.cancel_challenge(id).unwrap(),
        json!({
            "code": 155_701,
            "reason": "cancelled",
            "message": "You have cancelled. Start again whenever you like.",
        }),
        "The user cancelled the challenge",
    )
    .await;
    fails(
        &app,
        |circle, id| _ = circle.fail_challenge(id, 155_999, "Something new").unwrap(),
        json!({
            "code": 155_999,
            "reason": "other",
            "message": "This did not work. Start again, and contact support if it happens again.",
        }),
        "Something new",
    )
    .await;

    app.stack.circle.set_knobs(|knobs| knobs.wrong_answers_fail_challenge = true);
    let id = recovery(&app).await;
    app.stack.circle.answer_security_questions(id, false, None).unwrap();
    let expected = json!({
        "code": 155_115,
        "reason": "incorrect_answers",
        "message": "The answers to your security questions were wrong. Start again with the right ones.",
    });
    shows(&app, id, expected, "The security answers are wrong").await;
}

#[tokio::test]
async fn three_wrong_entries_fail_the_challenge_with_a_lock() {
    let app = App::at_noon().await;
    fails(
        &app,
        |circle, id| (0..3).for_each(|_| _ = circle.enter_pin(id, PinEntry::wrong()).unwrap()),
        json!({
            "code": 155_119,
            "reason": "pin_locked",
            "message": "PIN entry was locked for 30 minutes after too many wrong PINs. Wait, or recover your PIN now if you have set security questions.",
        }),
        "The PIN is locked after too many wrong entries",
    )
    .await;
    let id = recovery(&app).await;
    for _ in 0..3 {
        app.stack.circle.answer_security_questions(id, false, None).unwrap();
    }
    let expected = json!({
        "code": 155_120,
        "reason": "security_answers_locked",
        "message": "Recovery was locked after too many wrong answers to your security questions. Wait, and start again later.",
    });
    shows(&app, id, expected, "The security questions are locked after too many wrong answers").await;
}

#[tokio::test]
async fn a_failure_without_a_number_is_one_too() {
    let app = App::at_noon().await;
    let id = app.challenge().await;
    assert_eq!(app.post(&app.message(id, "FAILED")).await.is(200), &json!({ "outcome": "applied" }));
    assert_eq!(
        app.status(id).await["failure"],
        json!({
            "reason": "other",
            "message": "This did not work. Start again, and contact support if it happens again.",
        })
    );
    let item = app.item(id).await;
    assert_eq!((item.get("errorCode"), item.get("errorMessage")), (None, None));
}

#[tokio::test]
async fn an_expired_challenge_is_expired_and_not_failed() {
    let app = App::at_noon().await;
    let id = app.challenge().await;
    app.stack.circle.expire_challenge(id, Expiry::Expired).unwrap();
    app.webhook_answered(id, "EXPIRED", 200).await;
    assert_eq!(
        app.status(id).await,
        json!({
            "challengeId": id,
            "type": "CHANGE_PIN",
            "status": "EXPIRED",
            "createdAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:00:00Z",
        })
    );
    assert_eq!(app.item(id).await["rank"], 2);
}

/// A new RESTORE_PIN challenge.
async fn recovery(app: &App) -> Uuid {
    let restore = app.request("POST /challenges").header("content-type", "application/json");
    challenge_id(send(restore.body(r#"{"type":"RESTORE_PIN"}"#)).await.is(201))
}

/// Makes a challenge, lets it fail, and checks what is shown and kept of that.
async fn fails(app: &App, fail: impl FnOnce(&CircleSimulator, Uuid), failure: Value, circles_words: &str) {
    let id = app.challenge().await;
    fail(&app.stack.circle, id);
    shows(app, id, failure, circles_words).await;
}

async fn shows(app: &App, id: Uuid, failure: Value, circles_words: &str) {
    app.webhook_answered(id, "FAILED", 200).await;
    let item = app.item(id).await;
    assert_eq!(
        app.status(id).await,
        json!({
            "challengeId": id,
            "type": item["type"],
            "status": "FAILED",
            "createdAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:00:00Z",
            "failure": failure,
        })
    );
    let kept = ["status", "rank", "errorCode", "errorMessage", "settledBy"].map(|name| &item[name]);
    assert_eq!(json!(kept), json!(["FAILED", 2, failure["code"], circles_words, "webhook"]));
}
