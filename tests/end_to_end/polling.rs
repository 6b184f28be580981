use std::time::Duration;

use futures_util::future::join_all;
use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, App, MINUTE, USER, eventually, in_time, send};

const ASKS_CIRCLE: &str = "GET /v1/w3s/user/challenges/{id}";
const NEW_SESSION: &str = "POST /v1/w3s/users/token";

/// The time that has to pass between two questions to Circle about one challenge.
const INTERVAL: Duration = Duration::from_secs(3);

#[tokio::test]
async fn what_a_lost_webhook_did_not_say_circle_says_when_asked() {
    let app = without_webhooks(App::at_noon().await);
    let (id, token) = (app.challenge().await, app.user_token().await);
    app.advance(MINUTE);
    app.stack.circle.start_challenge(id).unwrap();
    let mut shown = shown(id, "PENDING", "2026-01-01T12:00:00Z");
    assert_eq!(app.status(id).await, shown);
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 0, "not without the user's token");

    (shown["status"], shown["updatedAt"]) = (json!("IN_PROGRESS"), json!("2026-01-01T12:01:00Z"));
    assert_eq!(poll(&app, id, &token).await.is(200), &shown);
    let mut item = json!({
        "challengeId": id,
        "userId": USER,
        "type": "CHANGE_PIN",
        "status": "IN_PROGRESS",
        "rank": 1,
        "createdAt": "2026-01-01T12:00:00Z",
        "requestedAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:01:00Z",
        "retentionSeconds": 90 * 86_400,
        "expiresAt": 1_767_268_860 + 90 * 86_400,
        "openShard": id.as_bytes()[15] % 8,
        "nextCheckAt": 1_767_268_800 + 600,
        "polledAt": 1_767_268_860_000_i64,
    });
    let stored = app.item(id).await;
    item["claimedBy"] = stored["claimedBy"].clone();
    assert_eq!(stored, item);

    app.advance(MINUTE);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    (shown["status"], shown["updatedAt"]) = (json!("COMPLETE"), json!("2026-01-01T12:02:00Z"));
    assert_eq!(poll(&app, id, &token).await.is(200), &shown);
    assert_eq!(app.status(id).await, shown);
    item["status"] = json!("COMPLETE");
    item["rank"] = json!(2);
    item["updatedAt"] = json!("2026-01-01T12:02:00Z");
    item["expiresAt"] = json!(1_767_268_920 + 90 * 86_400);
    item["polledAt"] = json!(1_767_268_920_000_i64);
    item["settledBy"] = json!("poll");
    item.as_object_mut().unwrap().retain(|name, _| name != "openShard" && name != "nextCheckAt");
    let stored = app.item(id).await;
    assert_ne!(stored["claimedBy"], item["claimedBy"], "each claim has an id of its own");
    item["claimedBy"] = stored["claimedBy"].clone();
    assert_eq!(stored, item);

    let late = app.post(&app.message(id, "COMPLETE")).await;
    assert_eq!(late.is(200), &json!({ "outcome": "stale" }));
    assert_eq!(app.item(id).await, item);
}

#[tokio::test]
async fn a_poll_learns_why_a_challenge_failed() {
    let app = without_webhooks(App::at_noon().await);
    let (id, token) = (app.challenge().await, app.user_token().await);
    app.stack.circle.cancel_challenge(id).unwrap();
    let mut expected = shown(id, "FAILED", "2026-01-01T12:00:00Z");
    expected["failure"] = json!({
        "code": 155_701,
        "reason": "cancelled",
        "message": "You have cancelled. Start again whenever you like.",
    });
    assert_eq!(poll(&app, id, &token).await.is(200), &expected);
    let item = app.item(id).await;
    let kept = ["settledBy", "errorCode", "errorMessage"].map(|name| &item[name]);
    assert_eq!(json!(kept), json!(["poll", 155_701, "The user cancelled the challenge"]));
}

#[tokio::test]
async fn a_settled_challenge_is_never_asked_about() {
    let app = App::at_noon().await;
    let (id, token) = (app.challenge().await, app.user_token().await);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    let item = app.item(id).await;
    for _ in 0..3 {
        app.advance(MINUTE);
        assert_eq!(poll(&app, id, &token).await.is(200)["status"], "COMPLETE");
    }
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 0);
    assert_eq!(app.item(id).await, item);
}

#[tokio::test]
async fn many_who_wait_at_once_make_one_call_to_circle() {
    let app = without_webhooks(App::at_noon().await);
    let (id, token) = (app.challenge().await, app.user_token().await);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    let answers = join_all((0..20).map(|_| poll(&app, id, &token))).await;
    let statuses: Vec<_> = answers.iter().map(|answer| &answer.is(200)["status"]).collect();
    assert!(statuses.iter().all(|status| **status == "PENDING" || **status == "COMPLETE"), "{statuses:?}");
    assert!(statuses.contains(&&json!("COMPLETE")), "{statuses:?}");
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 1);
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn circle_is_asked_again_only_after_a_while() {
    let app = without_webhooks(App::at_noon().await);
    let (id, token) = (app.challenge().await, app.user_token().await);
    let other = app.challenge().await;
    let asked = || app.stack.circle.call_count(ASKS_CIRCLE);
    poll(&app, id, &token).await.is(200);
    assert_eq!(asked(), 1);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(INTERVAL - Duration::from_millis(1));
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "PENDING");
    assert_eq!(asked(), 1);
    poll(&app, other, &token).await.is(200);
    assert_eq!(asked(), 2, "each challenge has its own turn");
    app.advance(Duration::from_millis(1));
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "COMPLETE");
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn a_poll_that_fails_still_answers_with_the_record() {
    let app = without_webhooks(App::start().await);
    let circle = &app.stack.circle;
    let (id, token) = (app.challenge().await, app.user_token().await);
    let record = app.status(id).await;
    circle.start_challenge(id).unwrap();
    let fault = || Fault { path: Some("/v1/w3s/user/challenges".into()), ..Fault::default() };
    let refused = |status, code| Fault { status: Some(status), code: Some(code), ..fault() };
    for (calls, fault) in [
        (3, Fault { drop: true, times: 3, ..fault() }),
        (3, Fault { status: Some(503), times: 3, ..fault() }),
        (1, refused(401, 155_103)),
        (1, refused(403, 155_104)),
        (1, refused(404, 155_116)),
        (1, Fault { status: Some(200), body: Some("<html>".into()), ..fault() }),
    ] {
        circle.reset_call_counts();
        circle.add_fault(fault.clone());
        assert_eq!(poll(&app, id, &token).await.is(200), &record, "{fault:?}");
        assert_eq!(circle.call_count(ASKS_CIRCLE), calls, "{fault:?}");
        assert_eq!(circle.faults(), []);
        app.advance(INTERVAL);
    }
    circle.forget_user_tokens(USER);
    assert_eq!(poll(&app, id, &token).await.is(200), &record);
    app.advance(INTERVAL);
    let token = app.user_token().await;
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "IN_PROGRESS");

    let record = app.status(id).await;
    app.advance(INTERVAL);
    circle.clone().stop().await;
    assert_eq!(poll(&app, id, &token).await.is(200), &record);
}

#[tokio::test]
async fn a_poll_waits_three_seconds_at_most() {
    let app = without_webhooks(App::at_noon().await);
    let (id, token) = (app.challenge().await, app.user_token().await);
    let slow = Fault {
        path: Some("/v1/w3s/user/challenges".into()),
        delay_ms: 3_600_000,
        times: 3,
        ..Fault::default()
    };
    app.stack.circle.add_fault(slow);
    let time_passes = async {
        eventually(|| app.stack.circle.call_count(ASKS_CIRCLE) == 1).await;
        app.advance(Duration::from_secs(3));
    };
    let (answer, ()) = in_time(async { tokio::join!(poll(&app, id, &token), time_passes) }).await;
    assert_eq!(answer.is(200), &shown(id, "PENDING", "2026-01-01T12:00:00Z"));
}

#[tokio::test]
async fn nobody_sees_the_challenges_of_others() {
    let app = App::at_noon().await;
    let alices = app.challenge().await;
    app.stack.add_user("bobby", "778899");
    let bobby = app.stack.sign_in("bobby");
    let sessions = send(app.anonymous("POST /session-tokens").bearer_auth(&bobby)).await;
    let bobbys_token = sessions.is(201)["userToken"].as_str().unwrap().to_owned();
    let not_found = json!({
        "title": "Challenge not found",
        "status": 404,
        "detail": "The signed-in user has no such challenge.",
        "code": "challenge_not_found",
    });
    for id in [alices, Uuid::from_u128(7)] {
        let request = || app.anonymous(&format!("GET /challenges/{id}")).bearer_auth(&bobby);
        send(request()).await.is_problem(not_found.clone());
        send(request().header("x-user-token", &bobbys_token)).await.is_problem(not_found.clone());
    }

    let of_another_app = Uuid::from_u128(8);
    let notification = app.message(of_another_app, "IN_PROGRESS")["notification"].clone();
    app.stack.circle.send_notification("challenges.changePin", &notification, None);
    app.webhook_answered(of_another_app, "IN_PROGRESS", 200).await;
    assert_eq!(app.item(of_another_app).await["userId"], USER);
    let token = app.user_token().await;
    let request = || app.request(&format!("GET /challenges/{of_another_app}"));
    send(request()).await.is_problem(not_found.clone());
    send(request().header("x-user-token", token)).await.is_problem(not_found);
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 0);
}

#[tokio::test]
async fn a_poll_never_makes_a_session() {
    let app = without_webhooks(App::at_noon().await);
    app.stack.circle.set_knobs(|knobs| knobs.new_token_ends_old = true);
    let (id, token) = (app.challenge().await, app.user_token().await);
    app.stack.circle.reset_call_counts();
    app.status(id).await;
    poll(&app, id, &token).await.is(200);
    app.advance(61 * MINUTE);
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "PENDING", "with an expired token");
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 1, "an expired token is no use in asking");
    assert_eq!(app.stack.circle.call_count(NEW_SESSION), 0);
}

/// From now on Circle's webhooks are lost.
fn without_webhooks(app: App) -> App {
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    app
}

/// A question for the status with the user's token.
async fn poll(app: &App, id: Uuid, token: &str) -> Answer {
    send(app.request(&format!("GET /challenges/{id}")).header("x-user-token", token)).await
}

/// A CHANGE_PIN challenge made at noon.
fn shown(id: Uuid, status: &str, updated_at: &str) -> Value {
    json!({
        "challengeId": id,
        "type": "CHANGE_PIN",
        "status": status,
        "createdAt": "2026-01-01T12:00:00Z",
        "updatedAt": updated_at,
    })
}
