use std::time::Duration;

use futures_util::future::join_all;
use local::circle_simulator::{FactorStatus, Fault, UserChange};
use local::dynamodb::RATE_LIMITS_TABLE;
use serde_json::{Value, json};
use shared::challenge::ChallengeType;
use shared::circle::CircleIdempotencyKey;
use shared::clock::Clock;
use shared::rate_limit::RateLimits;
use shared::user_id::UserId;
use uuid::Uuid;

use crate::support::{Answer, App, MINUTE, NOON, USER, challenge_id, send};

const MAKES_SESSION: &str = "POST /v1/w3s/users/token";
const CHANGES: &str = "PUT /v1/w3s/user/pin";
const RESTORES: &str = "POST /v1/w3s/user/pin/restore";

fn too_many(retry_after_seconds: u64) -> Value {
    too_many_until("at 13:00 UTC", retry_after_seconds)
}

fn too_many_until(when: &str, retry_after_seconds: u64) -> Value {
    json!({
        "title": "Too many challenges",
        "status": 429,
        "detail": "The user has asked for as many new challenges as one user may in an hour. Wait for the next one; what was asked for can still be repeated with its Idempotency-Key.",
        "userMessage": format!("You have asked to change or recover your PIN too often. Try again {when}."),
        "code": "too_many_challenges",
        "retryAfterSeconds": retry_after_seconds,
    })
}

#[tokio::test]
async fn ten_challenges_are_made_in_an_hour_and_the_next_has_to_wait() {
    let app = App::at_noon().await;
    app.stack.add_user("bobby", "778899");
    for _ in 0..5 {
        create(&app, "CHANGE_PIN").await.is(201);
        create(&app, "RESTORE_PIN").await.is(201);
        app.advance(MINUTE);
    }
    for challenge_type in ["CHANGE_PIN", "RESTORE_PIN"] {
        create(&app, challenge_type).await.is_problem(too_many(55 * 60));
    }
    let bobbys = app.anonymous("POST /challenges").bearer_auth(app.stack.sign_in("bobby"));
    send(bobbys).await.is(201);
    app.advance(55 * MINUTE - Duration::from_millis(1));
    create(&app, "CHANGE_PIN").await.is_problem(too_many(1));
    assert_eq!(app.stack.circle.challenges().len(), 11);
    assert_eq!(app.items().await, 11);
    app.advance(Duration::from_millis(1));
    create(&app, "CHANGE_PIN").await.is(201);
}

#[tokio::test]
async fn a_request_that_was_let_through_can_be_repeated_beyond_the_limit() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "2")]).await;
    let token = app.user_token().await;
    let create = |key: u128| {
        let request = app.request("POST /challenges").header("x-user-token", &token);
        send(request.header("idempotency-key", Uuid::from_u128(key).to_string()))
    };
    let first = challenge_id(create(1).await.is(201));
    assert_eq!(challenge_id(create(1).await.is(200)), first);
    create(2).await.is(201);
    create(3).await.is_problem(too_many(3600));
    assert_eq!(challenge_id(create(1).await.is(200)), first);
    create(3).await.is_problem(too_many(3600));
    assert_eq!(app.stack.circle.challenges().len(), 2);
}

#[tokio::test]
async fn of_many_requests_at_once_exactly_as_many_get_through() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "7")]).await;
    let answers = join_all((0..30).map(|_| send(app.request("POST /challenges")))).await;
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(201), with(429)), (7, 23));
    assert_eq!(app.stack.circle.call_count(CHANGES), 7);
    assert_eq!(app.stack.circle.call_count(MAKES_SESSION), 7);
    assert_eq!(app.items().await, 7);
    let counted = app.counted().await;
    assert_eq!((counted.len(), counted[0]["keys"].as_array().unwrap().len()), (1, 7));
}

#[tokio::test]
async fn a_refused_request_makes_neither_a_challenge_nor_a_session() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1")]).await;
    let expired = app.user_token().await;
    app.advance(60 * MINUTE);
    let token = app.user_token().await;
    create(&app, "CHANGE_PIN").await.is(201);
    let circle = &app.stack.circle;
    let calls = || [MAKES_SESSION, CHANGES, RESTORES].map(|call| circle.call_count(call));
    let before = calls();
    for token in [None, Some(&token), Some(&expired)] {
        let request = app.request("POST /challenges");
        send(match token {
            Some(token) => request.header("x-user-token", token),
            None => request,
        })
        .await
        .is_problem(too_many_until("at 14:00 UTC", 3600));
    }
    assert_eq!(calls(), before);
    assert_eq!(app.items().await, 1);
}

/// The answer is the same whichever call is the faster one.
#[tokio::test]
async fn beyond_the_limit_nothing_else_is_said_and_circle_is_not_waited_for() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1")]).await;
    let token = app.user_token().await;
    create(&app, "CHANGE_PIN").await.is(201);
    let with_token = || send(app.request("POST /challenges").header("x-user-token", &token));
    let locked = UserChange { pin_status: Some(FactorStatus::Locked), ..UserChange::default() };
    app.stack.circle.change_user(USER, locked).unwrap();
    with_token().await.is_problem(too_many(3600));
    create(&app, "CHANGE_PIN").await.is_problem(too_many(3600));
    // On this clock the answer would never come.
    let slow = Fault { path: Some("/v1/w3s/user".into()), delay_ms: 1000, times: 2, ..Fault::default() };
    app.stack.circle.add_fault(slow);
    with_token().await.is_problem(too_many(3600));
    create(&app, "CHANGE_PIN").await.is_problem(too_many(3600));
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_made() {
    let app = App::at_noon_with([("RATE_LIMITS_TABLE", "no-such-table")]).await;
    let token = app.user_token().await;
    let unavailable = json!({
        "title": "Storage is unavailable",
        "status": 503,
        "detail": "The challenge's record could not be reached. Try again, with the same Idempotency-Key if there was one.",
        "code": "storage_unavailable",
        "retryAfterSeconds": 2,
    });
    create(&app, "CHANGE_PIN").await.is_problem(unavailable.clone());
    send(app.request("POST /challenges").header("x-user-token", token)).await.is_problem(unavailable);
    assert_eq!(app.stack.circle.call_count(MAKES_SESSION), 1);
    assert!(app.stack.circle.challenges().is_empty());
}

#[tokio::test]
async fn what_is_counted_names_no_user() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "2")]).await;
    app.advance(Duration::from_millis(1_234));
    let callers_key = Uuid::from_u128(1);
    let create = || send(app.request("POST /challenges").header("idempotency-key", callers_key.to_string()));
    create().await.is(201);
    app.advance(MINUTE);
    create().await.is(200);
    let user: UserId = USER.parse().unwrap();
    let key = callers_key.to_string().parse().unwrap();
    let key = CircleIdempotencyKey::derive(&user, ChallengeType::ChangePin, key);
    assert_eq!(
        app.counted().await,
        [json!({
            "userHour": "c96ad15abfdcca1b77d9a51838259723a582e7313277c274ad3e269bd4b4dcec",
            "keys": [key],
            "requestedAt": NOON.unix_timestamp() * 1000 + 61_234,
            "expiresAt": NOON.unix_timestamp() + 3 * 3600,
        })]
    );
}

#[tokio::test]
async fn it_is_known_for_an_hour_whether_a_user_has_asked() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1")]).await;
    let requests = RateLimits::new(&app.stack.platform, RATE_LIMITS_TABLE.into());
    let user = |id: &str| id.parse::<UserId>().unwrap();
    let (alice, bobby) = (user(USER), user("bobby"));
    let since = async |ago| {
        let since = app.stack.clock.now() - ago;
        let [alices, bobbys] =
            [requests.requested_since(&alice, since).await, requests.requested_since(&bobby, since).await];
        assert!(!bobbys.unwrap());
        alices.unwrap()
    };
    assert!(!since(60 * MINUTE).await);
    app.advance(50 * MINUTE);
    create(&app, "CHANGE_PIN").await.is(201);
    assert!(since(Duration::ZERO).await);
    app.advance(5 * MINUTE);
    create(&app, "CHANGE_PIN").await.is_problem(too_many(300));
    assert!(!since(4 * MINUTE).await, "a refused request is none");
    assert!(since(5 * MINUTE).await);
    app.advance(10 * MINUTE);
    assert!(!since(14 * MINUTE).await);
    assert!(since(15 * MINUTE).await, "in the hour before");
    create(&app, "RESTORE_PIN").await.is(201);
    assert!(since(Duration::ZERO).await);
}

async fn create(app: &App, challenge_type: &str) -> Answer {
    let request = app.request("POST /challenges").header("content-type", "application/json");
    send(request.body(json!({ "type": challenge_type }).to_string())).await
}
