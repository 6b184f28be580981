use std::time::Duration;

use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use shared::challenge::ChallengeType;
use shared::circle::CircleIdempotencyKey;
use shared::user_id::UserId;
use uuid::Uuid;

use crate::support::{Answer, App, MINUTE, USER, challenge_id, eventually, in_time, send, text};

const KEY: Uuid = Uuid::from_u128(0x3f2b_8a52_6a0e_4d0c_9b57_0d1f_6c2f_5a11);
const WEEK: u64 = 7 * 86_400;
const NOON: u64 = 1_767_268_800;

/// Circle makes the challenge, all its answers are lost, and the user goes on without us.
#[tokio::test]
async fn a_creation_that_died_is_taken_up_by_its_repeat() {
    let app = App::start().await;
    let circle = &app.stack.circle;
    circle.add_fault(Fault { drop: true, after_effect: true, times: 3, ..change_pin() });
    create(&app).await.is_problem(json!({
        "title": "Circle is unavailable",
        "status": 503,
        "detail": "Circle could not be reached. Try again, with the same Idempotency-Key if there was one.",
        "code": "circle_unavailable",
        "retryAfterSeconds": 2,
    }));
    let [made] = &circle.challenges()[..] else { panic!("each attempt had the same key") };
    let id = made.id;
    app.webhook_answered(id, "PENDING", 200).await;
    assert_eq!(app.item(id).await.get("requestedAt"), None);

    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    is_hidden(&app, id).await;
    let item = app.item(id).await;
    assert_eq!(item.get("requestedAt"), None);

    let repeated = create(&app).await;
    assert_eq!(challenge_id(repeated.is(200)), id);
    assert_eq!(repeated.body["status"], "COMPLETE");
    let now = app.item(id).await;
    let shown = ["challengeId", "type", "status", "createdAt", "updatedAt"];
    assert_eq!(shown.map(|name| &repeated.body[name]), shown.map(|name| &item[name]));
    assert!(now["requestedAt"].is_string());
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn a_record_that_a_webhook_made_under_way_becomes_the_creations() {
    let app = App::at_noon().await;
    let id = made_at_circle(&app).await;
    app.stack.circle.start_challenge(id).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 200).await;
    let mut item = json!({
        "challengeId": id,
        "userId": USER,
        "type": "CHANGE_PIN",
        "status": "IN_PROGRESS",
        "rank": 1,
        "createdAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:00:00Z",
        "expiresAt": NOON + WEEK,
        "notificationId": last_notification(&app),
    });
    assert_eq!(app.item(id).await, item);
    is_hidden(&app, id).await;

    app.advance(MINUTE);
    is_shown(create(&app).await.is(200), id, "IN_PROGRESS");
    item["requestedAt"] = json!("2026-01-01T12:01:00Z");
    item["retentionSeconds"] = json!(90 * 86_400);
    item["expiresAt"] = json!(NOON + 60 + 90 * 86_400);
    item["openShard"] = json!(id.as_bytes()[15] % 8);
    item["nextCheckAt"] = json!(NOON + 60 + 600);
    assert_eq!(app.item(id).await, item);
}

#[tokio::test]
async fn a_record_that_the_final_webhook_made_becomes_the_creations() {
    let app = App::at_noon().await;
    let id = made_at_circle(&app).await;
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    let mut item = json!({
        "challengeId": id,
        "userId": USER,
        "type": "CHANGE_PIN",
        "status": "COMPLETE",
        "rank": 2,
        "createdAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:00:00Z",
        "expiresAt": NOON + WEEK,
        "notificationId": last_notification(&app),
        "settledBy": "webhook",
    });
    assert_eq!(app.item(id).await, item);
    is_hidden(&app, id).await;

    app.advance(MINUTE);
    is_shown(create(&app).await.is(200), id, "COMPLETE");
    item["requestedAt"] = json!("2026-01-01T12:01:00Z");
    item["retentionSeconds"] = json!(90 * 86_400);
    item["expiresAt"] = json!(NOON + 60 + 90 * 86_400);
    assert_eq!(app.item(id).await, item);
    is_shown(&app.status(id).await, id, "COMPLETE");

    app.advance(MINUTE);
    is_shown(create(&app).await.is(200), id, "COMPLETE");
    assert_eq!(app.item(id).await, item, "a second repeat writes nothing");
}

#[tokio::test]
async fn a_challenge_can_be_settled_before_circles_answer_is_here() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    circle.add_fault(Fault { delay_ms: 2000, after_effect: true, ..change_pin() });
    let meanwhile = async {
        eventually(|| !circle.challenges().is_empty()).await;
        let id = circle.challenges()[0].id;
        circle.enter_pin(id, PinEntry::right()).unwrap();
        app.webhook_answered(id, "COMPLETE", 200).await;
        app.advance(Duration::from_secs(2));
        id
    };
    let (created, id) = in_time(async { tokio::join!(create(&app), meanwhile) }).await;
    is_shown(created.is(201), id, "COMPLETE");
    let item = app.item(id).await;
    let marks = ["requestedAt", "settledBy", "openShard", "nextCheckAt"].map(|name| &item[name]);
    assert_eq!(json!(marks), json!(["2026-01-01T12:00:02Z", "webhook", null, null]));
}

#[tokio::test]
async fn a_challenge_of_another_app_on_the_same_account_is_kept_apart() {
    let app = App::at_noon().await;
    for (id, named, status) in
        [(1, json!(USER), "IN_PROGRESS"), (2, json!(USER), "COMPLETE"), (3, Value::Null, "COMPLETE")]
    {
        let id = Uuid::from_u128(id);
        let mut notification = app.message(id, status)["notification"].clone();
        notification["userId"] = named.clone();
        assert_eq!(app.stack.circle.send_notification("challenges.changePin", &notification, None), 1);
        app.webhook_answered(id, status, 200).await;
        let mut expected = json!({
            "challengeId": id,
            "type": "CHANGE_PIN",
            "status": status,
            "rank": if status == "COMPLETE" { 2 } else { 1 },
            "createdAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:00:00Z",
            "expiresAt": NOON + WEEK,
            "notificationId": last_notification(&app),
        });
        if !named.is_null() {
            expected["userId"] = named;
        }
        if status == "COMPLETE" {
            expected["settledBy"] = json!("webhook");
        }
        assert_eq!(app.item(id).await, expected);
        is_hidden(&app, id).await;
    }
}

#[tokio::test]
async fn the_creations_user_wins_over_the_one_that_a_webhook_named() {
    let app = App::at_noon().await;
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    for status in ["IN_PROGRESS", "COMPLETE"] {
        let key = Uuid::from_u128(status.len() as u128);
        let id = made_at_circle_with(&app, key).await;
        let mut message = app.message(id, status);
        message["notification"]["userId"] = json!("mallory");
        assert_eq!(app.post(&message).await.is(200), &json!({ "outcome": "applied" }));
        assert_eq!(app.item(id).await["userId"], "mallory");
        let mallory = app.stack.sign_in("mallory");
        let theirs = app.anonymous(&format!("GET /challenges/{id}")).bearer_auth(mallory);
        assert_eq!(send(theirs).await.status, 404, "a webhook shows nobody anything");

        is_shown(create_with(&app, key).await.is(200), id, status);
        assert_eq!(app.item(id).await["userId"], USER);
        assert_eq!(app.status(id).await["status"], status);
    }
}

/// A fault of the call that makes a CHANGE_PIN challenge.
fn change_pin() -> Fault {
    Fault { method: Some("PUT".into()), path: Some("/v1/w3s/user/pin".into()), ..Fault::default() }
}

async fn create(app: &App) -> Answer {
    create_with(app, KEY).await
}

async fn create_with(app: &App, key: Uuid) -> Answer {
    send(app.request("POST /challenges").header("idempotency-key", key.to_string())).await
}

async fn made_at_circle(app: &App) -> Uuid {
    made_at_circle_with(app, KEY).await
}

/// What is left of a creation that died before its write: the challenge at Circle, made under the key that
/// this service derives of the caller's.
async fn made_at_circle_with(app: &App, key: Uuid) -> Uuid {
    let token = app.user_token().await;
    let user: UserId = USER.parse().unwrap();
    let key = key.to_string().parse().unwrap();
    let key = CircleIdempotencyKey::derive(&user, ChallengeType::ChangePin, key);
    let request = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .put(format!("{}/v1/w3s/user/pin", app.stack.circle.url()))
        .bearer_auth(app.stack.circle.api_key())
        .header("x-user-token", token)
        .header("content-type", "application/json")
        .body(json!({ "idempotencyKey": key }).to_string());
    let made = send(request).await;
    assert_eq!(made.status, 201, "{made:?}");
    text(&made.body["data"], "challengeId").parse().unwrap()
}

/// A challenge of noon; the session that may come along is not looked at.
fn is_shown(body: &Value, id: Uuid, status: &str) {
    let expected = json!([id, "CHANGE_PIN", status, "2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z", null]);
    let shown = ["challengeId", "type", "status", "createdAt", "updatedAt", "failure"];
    assert_eq!(json!(shown.map(|name| &body[name])), expected);
}

async fn is_hidden(app: &App, id: Uuid) {
    send(app.request(&format!("GET /challenges/{id}"))).await.is_problem(json!({
        "title": "Challenge not found",
        "status": 404,
        "detail": "The signed-in user has no such challenge.",
        "code": "challenge_not_found",
    }));
}

/// The id of the latest notification.
fn last_notification(app: &App) -> Uuid {
    app.stack.circle.deliveries().last().unwrap().notification_id
}
