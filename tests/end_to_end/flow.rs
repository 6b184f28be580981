use std::time::Duration;

use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;
use shared::clock::Clock;
use shared::secrets::{UserToken, UserTokenClaims};
use uuid::Uuid;

use crate::observed::while_time_passes;
use crate::support::{Answer, App, MINUTE, PIN, USER, challenge_id, send, text};

const NEW_SESSION: &str = "POST /v1/w3s/users/token";

#[tokio::test]
async fn a_session_is_good_for_an_hour() {
    let app = App::at_noon().await;
    let answer = send(app.request("POST /session-tokens")).await;
    let session = answer.is(201);
    assert_eq!(session.as_object().unwrap().len(), 3, "{session}");
    assert_eq!(session["expiresAt"], "2026-01-01T13:00:00Z");
    assert_eq!(text(session, "encryptionKey").len(), 44, "32 bytes in base64");
    let claims = UserToken::parse(text(session, "userToken")).unwrap().claims();
    assert_eq!(claims, Some(UserTokenClaims { sub: USER.into(), exp: 1_767_272_400.into() }));
    assert_ne!(app.user_token().await, text(session, "userToken"), "each is new");
}

#[tokio::test]
async fn a_pin_is_changed() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    let token = app.user_token().await;
    circle.set_knobs(|knobs| knobs.webhooks_paused = true);
    let created = send(app.request("POST /challenges").header("x-user-token", &token)).await;
    let id = challenge_id(created.is(201));
    let mut shown = json!({
        "challengeId": id,
        "type": "CHANGE_PIN",
        "status": "PENDING",
        "createdAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:00:00Z",
    });
    assert_eq!(created.body, shown);
    let mut item = json!({
        "challengeId": id,
        "userId": USER,
        "type": "CHANGE_PIN",
        "status": "PENDING",
        "rank": 0,
        "createdAt": "2026-01-01T12:00:00Z",
        "requestedAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:00:00Z",
        "retentionSeconds": 90 * 86_400,
        "expiresAt": 1_767_268_800 + 90 * 86_400,
        "openShard": id.as_bytes()[15] % 8,
        "nextCheckAt": 1_767_268_800 + 600,
    });
    assert_eq!(app.item(id).await, item);
    circle.set_knobs(|knobs| knobs.webhooks_paused = false);
    app.webhook_answered(id, "PENDING", 200).await;
    assert_eq!(app.status(id).await, shown);
    assert_eq!(app.item(id).await, item, "Circle said nothing new");

    app.advance(MINUTE);
    circle.start_challenge(id).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 200).await;
    shown["status"] = json!("IN_PROGRESS");
    shown["updatedAt"] = json!("2026-01-01T12:01:00Z");
    assert_eq!(app.status(id).await, shown);
    item["status"] = json!("IN_PROGRESS");
    item["rank"] = json!(1);
    item["updatedAt"] = json!("2026-01-01T12:01:00Z");
    item["expiresAt"] = json!(1_767_268_860 + 90 * 86_400);
    item["notificationId"] = json!(last_notification(&app));
    assert_eq!(app.item(id).await, item);

    app.advance(MINUTE);
    circle.enter_pin(id, PinEntry { new_pin: Some("445566".into()), ..PinEntry::typed(PIN) }).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    shown["status"] = json!("COMPLETE");
    shown["updatedAt"] = json!("2026-01-01T12:02:00Z");
    assert_eq!(app.status(id).await, shown);
    item["status"] = json!("COMPLETE");
    item["rank"] = json!(2);
    item["updatedAt"] = json!("2026-01-01T12:02:00Z");
    item["expiresAt"] = json!(1_767_268_920 + 90 * 86_400);
    item["notificationId"] = json!(last_notification(&app));
    item["settledBy"] = json!("webhook");
    item.as_object_mut().unwrap().retain(|name, _| name != "openShard" && name != "nextCheckAt");
    assert_eq!(app.item(id).await, item);

    let next = app.challenge().await;
    assert_ne!(next, id);
    assert_eq!(circle.enter_pin(next, PinEntry::typed("445566")).unwrap().status, "COMPLETE");
}

#[tokio::test]
async fn a_pin_is_restored() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let created = restore(&app, &token).await;
    let id = challenge_id(created.is(201));
    let mut shown = json!({
        "challengeId": id,
        "type": "RESTORE_PIN",
        "status": "PENDING",
        "createdAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:00:00Z",
    });
    assert_eq!(created.body, shown);
    app.stack.circle.answer_security_questions(id, false, None).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 200).await;
    shown["status"] = json!("IN_PROGRESS");
    assert_eq!(app.status(id).await, shown);
    app.stack.circle.answer_security_questions(id, true, Some("101010".into())).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    shown["status"] = json!("COMPLETE");
    assert_eq!(app.status(id).await, shown);
    let item = app.item(id).await;
    assert_eq!(
        item,
        json!({
            "challengeId": id,
            "userId": USER,
            "type": "RESTORE_PIN",
            "status": "COMPLETE",
            "rank": 2,
            "createdAt": "2026-01-01T12:00:00Z",
            "requestedAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:00:00Z",
            "retentionSeconds": 90 * 86_400,
            "expiresAt": 1_767_268_800 + 90 * 86_400,
            "notificationId": last_notification(&app),
            "settledBy": "webhook",
        })
    );
    let next = app.challenge().await;
    assert_eq!(app.stack.circle.enter_pin(next, PinEntry::typed("101010")).unwrap().status, "COMPLETE");
}

#[tokio::test]
async fn two_devices_at_once_each_have_their_challenge() {
    let app = App::at_noon().await;
    let device = async || {
        let id = app.challenge().await;
        app.stack.circle.start_challenge(id).unwrap();
        id
    };
    let (first, second) = tokio::join!(device(), device());
    assert_ne!(first, second);
    app.stack.circle.cancel_challenge(first).unwrap();
    app.stack.circle.enter_pin(second, PinEntry::right()).unwrap();
    tokio::join!(app.webhook_answered(first, "FAILED", 200), app.webhook_answered(second, "COMPLETE", 200));
    assert_eq!(app.status(first).await["status"], "FAILED");
    assert_eq!(app.status(second).await["status"], "COMPLETE");
}

#[tokio::test]
async fn whoever_brings_no_token_gets_a_session_that_works() {
    let app = App::at_noon().await;
    let created = send(app.request("POST /challenges")).await;
    let session = &created.is(201)["session"];
    assert_eq!(
        created.body,
        json!({
            "challengeId": challenge_id(&created.body),
            "type": "CHANGE_PIN",
            "status": "PENDING",
            "createdAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:00:00Z",
            "session": {
                "userToken": session["userToken"],
                "encryptionKey": session["encryptionKey"],
                "expiresAt": "2026-01-01T13:00:00Z",
            },
        })
    );
    assert_eq!(text(session, "encryptionKey").len(), 44);
    let token = text(session, "userToken");
    let with_it = send(app.request("POST /challenges").header("x-user-token", token)).await;
    assert_eq!(with_it.is(201).get("session"), None);
    assert_eq!(app.stack.circle.call_count(NEW_SESSION), 1);
}

#[tokio::test]
async fn a_session_is_made_while_the_pin_state_is_asked_for() {
    let app = App::at_noon().await;
    app.user_token().await;
    let slow = Fault { path: Some("/v1/w3s/users".into()), delay_ms: 1000, times: 2, ..Fault::default() };
    app.stack.circle.add_fault(slow);
    let before = app.stack.clock.now();
    while_time_passes(&app.stack.clock, send(app.request("POST /challenges"))).await.is(201);
    let took = app.stack.clock.now() - before;
    assert!(took < time::Duration::milliseconds(1900), "both take a second: {took}");
}

#[tokio::test]
async fn an_expired_token_is_replaced_once() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    let token = app.user_token().await;
    app.advance(61 * MINUTE);
    circle.reset_call_counts();
    let created = send(app.request("POST /challenges").header("x-user-token", &token)).await;
    has_session_until(&created, "2026-01-01T14:01:00Z");
    let calls = ["GET /v1/w3s/user", NEW_SESSION, "PUT /v1/w3s/user/pin"].map(|call| circle.call_count(call));
    assert_eq!(calls, [2, 1, 1]);

    let renewed = text(&created.body["session"], "userToken");
    let again = send(app.request("POST /challenges").header("x-user-token", renewed)).await;
    assert_eq!(again.is(201).get("session"), None);
    let restored = restore(&app, &token).await;
    has_session_until(&restored, "2026-01-01T14:01:00Z");
}

#[tokio::test]
async fn a_token_that_expires_between_two_calls_is_replaced_once() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    let token = app.user_token().await;
    circle.reset_call_counts();
    let expired = |times| Fault {
        method: Some("PUT".into()),
        path: Some("/v1/w3s/user/pin".into()),
        status: Some(403),
        code: Some(155_104),
        times,
        ..Fault::default()
    };
    circle.add_fault(expired(1));
    app.advance(Duration::from_secs(30));
    let created = send(app.request("POST /challenges").header("x-user-token", &token)).await;
    has_session_until(&created, "2026-01-01T13:00:30Z");
    let calls =
        || ["GET /v1/w3s/user", NEW_SESSION, "PUT /v1/w3s/user/pin"].map(|call| circle.call_count(call));
    assert_eq!(calls(), [1, 1, 2]);

    circle.reset_call_counts();
    circle.add_fault(expired(2));
    send(app.request("POST /challenges").header("x-user-token", &token)).await.is_problem(json!({
        "title": "Invalid user token",
        "status": 400,
        "detail": "Circle does not accept the user token. Ask POST /session-tokens for a new one.",
        "code": "invalid_user_token",
        "circleCode": 155_104,
    }));
    assert_eq!(calls(), [1, 1, 2], "once, and not again");
}

/// Asks for a RESTORE_PIN challenge.
async fn restore(app: &App, token: &str) -> Answer {
    let request = app.request("POST /challenges").header("x-user-token", token);
    send(request.header("content-type", "application/json").body(r#"{"type":"RESTORE_PIN"}"#)).await
}

fn has_session_until(created: &Answer, expires_at: &str) {
    let session = created.is(201)["session"].as_object().unwrap();
    assert_eq!(session.len(), 3);
    assert_eq!(session["expiresAt"], expires_at);
    assert!(session["userToken"].is_string() && session["encryptionKey"].is_string());
}

/// The id of the latest notification.
fn last_notification(app: &App) -> Uuid {
    app.stack.circle.deliveries().last().unwrap().notification_id
}
