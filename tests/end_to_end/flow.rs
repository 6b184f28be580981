use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use shared::secrets::{UserToken, UserTokenClaims};
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_SESSION, GET_USER_BY_TOKEN, MINUTE, PIN, Response, SECOND, USER,
    challenge_id, error_of, expected_challenge, expected_record, expires_at, text, with,
};

#[tokio::test]
async fn session_is_valid_for_an_hour() {
    let app = App::at_noon().await;
    let response = app.post_session_token().send().await;
    let token = is_session(response.is(201), "2026-01-01T13:00:00Z");
    assert_eq!(text(&response.body, "encryptionKey").len(), 44, "32 bytes in base64");
    let claims = UserToken::parse(&token).unwrap().claims();
    assert_eq!(claims, Some(UserTokenClaims { sub: USER.into(), exp: 1_767_272_400.into() }));
    assert_ne!(app.user_token().await, token, "each session is new");
}

#[tokio::test]
async fn pin_is_changed() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    let token = app.user_token().await;
    circle.set_knobs(|knobs| knobs.webhooks_paused = true);
    let created = app.post_challenge().token(&token).send().await;
    let id = challenge_id(created.is(201));
    let challenge = expected_challenge(id, "PENDING");
    assert_eq!(created.body, challenge);
    let record = expected_record(id, "PENDING");
    assert_eq!(app.record(id).await, record);
    circle.set_knobs(|knobs| knobs.webhooks_paused = false);
    app.wait_for_webhook(id, "PENDING", 200).await;
    assert_eq!(app.challenge(id).await, challenge);
    assert_eq!(app.record(id).await, record, "the webhook reported nothing new");

    app.advance(MINUTE);
    circle.start_challenge(id).unwrap();
    is_reported(&app, id, expected_record(id, "IN_PROGRESS"), "2026-01-01T12:01:00Z", 60).await;

    app.advance(MINUTE);
    circle.enter_pin(id, PinEntry { new_pin: Some("445566".into()), ..PinEntry::typed(PIN) }).unwrap();
    let after = json!({ "settledBy": "webhook", "previousStatus": "IN_PROGRESS" });
    let settled = with(expected_record(id, "COMPLETE"), after);
    is_reported(&app, id, settled, "2026-01-01T12:02:00Z", 120).await;

    let next = app.create_challenge().await;
    assert_ne!(next, id);
    assert_eq!(circle.enter_pin(next, PinEntry::typed("445566")).unwrap().status, "COMPLETE");
}

#[tokio::test]
async fn pin_is_restored() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let created = app.post_challenge().restore().token(&token).send().await;
    let id = challenge_id(created.is(201));
    let restore = |value| with(value, json!({ "type": "RESTORE_PIN" }));
    assert_eq!(created.body, restore(expected_challenge(id, "PENDING")));
    app.circle.answer_security_questions(id, false, None).unwrap();
    let started = restore(expected_record(id, "IN_PROGRESS"));
    is_reported(&app, id, started, "2026-01-01T12:00:00Z", 0).await;
    app.circle.answer_security_questions(id, true, Some("101010".into())).unwrap();
    let after = json!({ "settledBy": "webhook", "previousStatus": "IN_PROGRESS" });
    let settled = with(restore(expected_record(id, "COMPLETE")), after);
    is_reported(&app, id, settled, "2026-01-01T12:00:00Z", 0).await;
    let next = app.create_challenge().await;
    assert_eq!(app.circle.enter_pin(next, PinEntry::typed("101010")).unwrap().status, "COMPLETE");
}

/// Waits for the webhook that reports the record's status so many seconds after noon, and checks what callers see
/// and what is recorded.
async fn is_reported(app: &App, id: Uuid, record: Value, updated_at: &str, seconds: i64) {
    let status = text(&record, "status").to_owned();
    app.wait_for_webhook(id, &status, 200).await;
    let shown = json!({ "type": record["type"], "updatedAt": updated_at, "checkedAt": updated_at });
    assert_eq!(app.challenge(id).await, with(expected_challenge(id, &status), shown));
    let stored = json!({
        "updatedAt": updated_at,
        "checkedAt": updated_at,
        "expiresAt": expires_at(seconds),
        "namedUserId": USER,
        "notificationId": app.last_notification(),
    });
    assert_eq!(app.record(id).await, with(record, stored));
}

#[tokio::test]
async fn two_devices_can_each_have_a_challenge() {
    let app = App::at_noon().await;
    let start_on_device = async || {
        let id = app.create_challenge().await;
        app.circle.start_challenge(id).unwrap();
        id
    };
    let (first, second) = tokio::join!(start_on_device(), start_on_device());
    assert_ne!(first, second);
    app.circle.cancel_challenge(first).unwrap();
    app.circle.enter_pin(second, PinEntry::right()).unwrap();
    tokio::join!(app.wait_for_webhook(first, "FAILED", 200), app.wait_for_webhook(second, "COMPLETE", 200));
    assert_eq!(app.challenge(first).await["status"], "FAILED");
    assert_eq!(app.challenge(second).await["status"], "COMPLETE");
}

#[tokio::test]
async fn caller_without_a_token_receives_a_session_that_works() {
    let app = App::at_noon().await;
    let created = app.post_challenge().send().await;
    let token = has_session(&created, "2026-01-01T13:00:00Z");
    let expected = json!({ "session": created.body["session"] });
    let challenge = expected_challenge(challenge_id(&created.body), "PENDING");
    assert_eq!(created.body, with(challenge, expected));
    assert_eq!(text(&created.body["session"], "encryptionKey").len(), 44);
    let next = app.post_challenge().token(&token).send().await;
    assert_eq!(next.is(201).get("session"), None);
    assert_eq!(app.circle.call_count(CREATE_SESSION), 1);
}

#[tokio::test]
async fn session_is_created_while_the_pin_state_is_read() {
    let app = App::at_noon().await;
    app.user_token().await;
    let slow = Fault { path: Some("/v1/w3s/users".into()), delay_ms: 1000, times: 2, ..Fault::default() };
    app.circle.add_fault(slow);
    let (response, took) = app.timed(app.post_challenge().send()).await;
    response.is(201);
    assert!(took.as_millis() < 1900, "each call takes a second: {took:?}");
}

/// How often Circle was asked for the user's state, a session and a challenge.
fn calls(app: &App) -> [u64; 3] {
    [GET_USER_BY_TOKEN, CREATE_SESSION, CREATE_CHANGE_PIN].map(|call| app.circle.call_count(call))
}

#[tokio::test]
async fn expired_token_is_replaced_once() {
    let app = App::at_noon().await;
    let expired = app.user_token().await;
    app.advance(61 * MINUTE);
    app.circle.reset_call_counts();
    let created = app.post_challenge().token(&expired).send().await;
    let renewed = has_session(&created, "2026-01-01T14:01:00Z");
    assert_eq!(calls(&app), [2, 1, 1]);

    let next = app.post_challenge().token(&renewed).send().await;
    assert_eq!(next.is(201).get("session"), None);
    let restored = app.post_challenge().restore().token(&expired).send().await;
    has_session(&restored, "2026-01-01T14:01:00Z");
}

#[tokio::test]
async fn token_that_expires_between_two_calls_is_replaced_once() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    app.circle.reset_call_counts();
    let expired = error_of(CREATE_CHANGE_PIN, 403, 155_104);
    app.circle.add_fault(expired.clone());
    app.advance(30 * SECOND);
    let created = app.post_challenge().token(&token).send().await;
    has_session(&created, "2026-01-01T13:00:30Z");
    assert_eq!(calls(&app), [1, 1, 2]);

    app.circle.reset_call_counts();
    app.circle.add_fault(Fault { times: 2, ..expired });
    let response = app.post_challenge().token(&token).send().await;
    response.is_problem_with(400, "invalid_user_token", json!({ "circleCode": 155_104 }));
    assert_eq!(calls(&app), [1, 1, 2], "the token is not replaced again");
}

/// Checks that a challenge was created with a session that expires then. Returns the session's user token.
#[track_caller]
fn has_session(created: &Response, expires_at: &str) -> String {
    is_session(&created.is(201)["session"], expires_at)
}

#[track_caller]
fn is_session(session: &Value, expires_at: &str) -> String {
    let (token, key) = (text(session, "userToken"), text(session, "encryptionKey"));
    let expected = json!({ "userToken": token, "encryptionKey": key, "expiresAt": expires_at });
    assert_eq!(session, &expected);
    token.to_owned()
}
