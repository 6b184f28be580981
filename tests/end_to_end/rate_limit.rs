use std::time::Duration;

use futures_util::future::join_all;
use local::circle_simulator::{FactorStatus, Fault, UserChange};
use local::dynamodb::RATE_LIMITS_TABLE;
use local::environment::USER_HASH_KEY;
use serde_json::json;
use shared::challenge::ChallengeType;
use shared::circle::CircleIdempotencyKey;
use shared::rate_limit::RateLimits;
use shared::user_hash::UserHashKey;
use shared::user_id::UserId;
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_RESTORE_PIN, CREATE_SESSION, KEY, MINUTE, NOON, Response, USER,
    challenge_id,
};

/// Checks that the user has to wait until the end of the hour.
#[track_caller]
fn is_over_limit(response: &Response, until: &str, retry_after_seconds: u64) {
    let numbers = json!({ "retryAfterSeconds": retry_after_seconds });
    response.is_problem_with(429, "too_many_challenges", numbers);
    response.mentions("userMessage", until);
}

#[tokio::test]
async fn user_can_create_ten_challenges_in_an_hour() {
    let app = App::at_noon().await;
    let millisecond = Duration::from_millis(1);
    for _ in 0..5 {
        app.create_challenge().await;
        app.post_challenge().restore().send().await.is(201);
        app.advance(MINUTE);
    }
    for request in [app.post_challenge(), app.post_challenge().restore()] {
        is_over_limit(&request.send().await, "13:00 UTC", 55 * 60);
    }
    app.create_challenge_of("bobby").await;
    app.advance(55 * MINUTE - millisecond);
    is_over_limit(&app.post_challenge().send().await, "13:00 UTC", 1);
    assert_eq!(app.circle.challenges().len(), 11);
    assert_eq!(app.record_count().await, 11);
    app.advance(millisecond);
    app.create_challenge().await;
}

#[tokio::test]
async fn allowed_request_can_be_retried_beyond_the_limit() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "2")]).await;
    let token = app.user_token().await;
    let create = |key: u128| app.post_challenge().token(&token).key(Uuid::from_u128(key)).send();
    let first = challenge_id(create(1).await.is(201));
    assert_eq!(challenge_id(create(1).await.is(200)), first);
    create(2).await.is(201);
    is_over_limit(&create(3).await, "13:00 UTC", 3600);
    assert_eq!(challenge_id(create(1).await.is(200)), first);
    is_over_limit(&create(3).await, "13:00 UTC", 3600);
    assert_eq!(app.circle.challenges().len(), 2);
}

#[tokio::test]
async fn concurrent_requests_are_limited_exactly() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "7"), ("CALL_BURST", "30")]).await;
    let responses = join_all((0..30).map(|_| app.post_challenge().send())).await;
    let with_status = |status| responses.iter().filter(|response| response.status == status).count();
    assert_eq!((with_status(201), with_status(429)), (7, 23));
    assert_eq!([CREATE_CHANGE_PIN, CREATE_SESSION].map(|call| app.circle.call_count(call)), [7, 7]);
    assert_eq!(app.record_count().await, 7);
    let items = app.rate_limit_items().await;
    let of_hour = items.iter().find(|item| item.get("keys").is_some()).unwrap();
    assert_eq!((items.len(), of_hour["keys"].as_array().unwrap().len()), (2, 7));
}

#[tokio::test]
async fn rejected_request_creates_neither_a_challenge_nor_a_session() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1")]).await;
    let expired = app.user_token().await;
    app.advance(60 * MINUTE);
    let token = app.user_token().await;
    app.create_challenge().await;
    let calls =
        || [CREATE_SESSION, CREATE_CHANGE_PIN, CREATE_RESTORE_PIN].map(|call| app.circle.call_count(call));
    let before = calls();
    for request in
        [app.post_challenge(), app.post_challenge().token(&token), app.post_challenge().token(&expired)]
    {
        is_over_limit(&request.send().await, "14:00 UTC", 3600);
    }
    assert_eq!(calls(), before);
    assert_eq!(app.record_count().await, 1);
}

/// The response does not depend on which call is the faster one.
#[tokio::test]
async fn request_over_the_limit_is_rejected_for_that_reason_without_waiting_for_circle() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1")]).await;
    let token = app.user_token().await;
    app.create_challenge().await;
    app.change_user(UserChange { pin_status: Some(FactorStatus::Locked), ..UserChange::default() });
    let is_rejected = async || {
        for request in [app.post_challenge(), app.post_challenge().token(&token)] {
            is_over_limit(&request.send().await, "13:00 UTC", 3600);
        }
    };
    is_rejected().await;
    // The clock stands still, so these calls never end.
    let slow = Fault { path: Some("/v1/w3s/user".into()), delay_ms: 1000, times: 2, ..Fault::default() };
    app.circle.add_fault(slow);
    is_rejected().await;
}

#[tokio::test]
async fn without_a_rate_limit_check_circle_is_not_called() {
    let app = App::at_noon_with([("RATE_LIMITS_TABLE", "no-such-table")]).await;
    for request in [app.post_session_token(), app.post_challenge(), app.get_pin()] {
        request.send().await.is_storage_unavailable();
    }
    assert_eq!(app.caller_calls(), 0);
}

#[tokio::test]
async fn rate_limit_item_holds_no_user_id() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "2")]).await;
    app.advance(Duration::from_millis(1_234));
    let id = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.advance(MINUTE);
    app.post_challenge().key(KEY).send().await.is(200);
    let user: UserId = USER.parse().unwrap();
    let key = CircleIdempotencyKey::derive(&user, ChallengeType::ChangePin, KEY.parse().unwrap());
    let mut items = app.rate_limit_items().await;
    items.sort_by_key(|item| item.get("keys").is_some());
    let now = NOON.unix_timestamp() * 1000 + 61_234;
    assert_eq!(
        items,
        [
            json!({
                "limitKey": "f786ac4a65ff28248bcc3fb8d27c868ba921d1339551d6fe4aa9ffdd3175a1b4",
                "callsTat": now + 5_000,
                "callsId": items[0]["callsId"],
                "sessionAt": now,
                "expiresAt": now / 1000 + 4 * 3600,
            }),
            json!({
                "limitKey": "333c81826f16ef7ebcf85fd5b58b328a7b83fee338cf713baeaf1a46f7bb7522",
                "keys": [key],
                "challenges": [format!("{}={id}", key.as_uuid())],
                "expiresAt": NOON.unix_timestamp() + 3 * 3600,
            })
        ]
    );
    assert!(!json!(items).to_string().contains(USER));
}

#[tokio::test]
async fn users_last_session_is_known() {
    let app = App::at_noon().await;
    let rate_limits = RateLimits::new(
        &app.stack.platform,
        RATE_LIMITS_TABLE.into(),
        UserHashKey::new(USER_HASH_KEY).unwrap(),
    );
    let user = USER.parse().unwrap();
    assert_eq!(rate_limits.last_session(&user).await.unwrap(), None);
    app.user_token().await;
    assert_eq!(rate_limits.last_session(&user).await.unwrap(), Some(NOON));
    app.advance(5 * MINUTE);
    app.create_challenge().await;
    assert_eq!(rate_limits.last_session(&user).await.unwrap(), Some(NOON + 5 * MINUTE));
    assert_eq!(rate_limits.last_session(&"bobby".parse().unwrap()).await.unwrap(), None);
}
