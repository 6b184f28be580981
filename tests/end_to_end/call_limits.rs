//! How often one user's requests may reach Circle.

use std::time::Duration;

use futures_util::future::join_all;
use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_SESSION, DynamoDbProxy, GET_CHALLENGE, GET_USER_BY_ID, KEY, MINUTE,
    Request, Response, SECOND, challenge_id, fault_of,
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Every request that reaches Circle and is not a poll.
const ROUTES: [&str; 3] = ["POST /session-tokens", "POST /challenges", "GET /pin"];

/// Checks that the user has to wait so many seconds.
#[track_caller]
fn is_over_limit(response: &Response, seconds: u64) {
    response.is_problem_with(429, "too_many_requests", json!({ "retryAfterSeconds": seconds }));
}

/// An app in which the number of challenges per hour does not matter.
async fn start() -> App {
    App::at_noon_with([("CHALLENGES_PER_HOUR", "1000")]).await.without_webhooks().await
}

#[tokio::test]
async fn user_over_the_burst_is_rejected_on_every_route_without_a_call_to_circle() {
    let app = start().await;
    let requests: [fn(&App) -> Request; 4] =
        [App::post_session_token, App::post_challenge, |app| app.post_challenge().key(KEY), App::get_pin];
    for (number, request) in requests.into_iter().enumerate() {
        let user = app.add_user(&format!("user-{number}"));
        for _ in 0..20 {
            let response = request(&app).bearer(&user).send().await;
            assert!([200, 201].contains(&response.status), "{response:?}");
        }
        let before = app.caller_calls();
        for other in requests {
            is_over_limit(&other(&app).bearer(&user).send().await, 5);
        }
        assert_eq!(app.caller_calls(), before);
    }
    app.post_challenge().key(KEY).send().await.is(201);
}

#[tokio::test]
async fn user_who_has_used_the_burst_can_send_a_request_every_five_seconds() {
    let app = start().await;
    let bobby = app.add_user("bobby");
    for _ in 0..20 {
        app.get_pin().send().await.is(200);
    }
    for _ in 0..3 {
        is_over_limit(&app.get_pin().send().await, 5);
        app.advance(5 * SECOND - MILLISECOND);
        is_over_limit(&app.get_pin().send().await, 1);
        app.advance(MILLISECOND);
        app.get_pin().send().await.is(200);
    }
    app.get_pin().bearer(&bobby).send().await.is(200);
    app.advance(100 * SECOND);
    for _ in 0..20 {
        app.get_pin().send().await.is(200);
    }
    is_over_limit(&app.get_pin().send().await, 5);
}

#[tokio::test]
async fn burst_and_interval_are_settings() {
    let app = App::at_noon_with([("CALL_BURST", "5"), ("CALL_INTERVAL_SECONDS", "60")]).await;
    for _ in 0..5 {
        app.get_pin().send().await.is(200);
    }
    let response = app.get_pin().send().await;
    is_over_limit(&response, 60);
    response.mentions("userMessage", "12:01 UTC");
}

#[tokio::test]
async fn concurrent_requests_of_one_user_are_limited_exactly() {
    let app = start().await;
    app.user_token().await;
    let requests = (0..60).map(|number| app.request(ROUTES[number % ROUTES.len()]).send());
    let responses = join_all(requests).await;
    let with_status =
        |statuses: &[u16]| responses.iter().filter(|one| statuses.contains(&one.status)).count();
    assert_eq!((with_status(&[200, 201]), with_status(&[429])), (19, 41));
}

#[tokio::test]
async fn rejected_request_is_not_counted() {
    let app = start().await;
    for _ in 0..20 {
        app.get_pin().send().await.is(200);
    }
    let items = app.rate_limit_items().await;
    for _ in 0..20 {
        is_over_limit(&app.post_challenge().send().await, 5);
    }
    assert_eq!(app.rate_limit_items().await, items, "neither the limit nor the last session moves");
}

#[tokio::test]
async fn polls_over_their_limit_return_the_record_without_a_call_to_circle() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1000"), ("CALL_BURST", "1000")]).await;
    let app = app.without_webhooks().await;
    let token = app.user_token().await;
    let mut ids = Vec::new();
    for _ in 0..23 {
        ids.push(app.create_challenge().await);
    }
    let asked = || app.circle.call_count(GET_CHALLENGE);
    let poll = |id: Uuid| app.get_challenge(id).token(&token).send();
    for id in &ids[..20] {
        poll(*id).await.is(200);
    }
    assert_eq!(asked(), 20);
    app.circle.enter_pin(ids[20], PinEntry::right()).unwrap();
    for id in &ids[20..] {
        let polled = poll(*id).await;
        assert_eq!(polled.is(200), &app.challenge(*id).await, "the record, without an error");
        assert_eq!((polled.body["status"].as_str(), polled.retry_after()), (Some("PENDING"), 3));
    }
    assert_eq!(asked(), 20);
    app.get_pin().send().await.is(200);

    let bobby = app.add_user("bobby");
    let created = app.post_challenge().bearer(&bobby).send().await;
    let bobbys_token = created.is(201)["session"]["userToken"].as_str().unwrap();
    let of_bobby = app.get_challenge(challenge_id(&created.body)).bearer(&bobby).token(bobbys_token);
    of_bobby.send().await.is(200);
    assert_eq!(asked(), 21, "another user is not affected");

    app.advance(2 * SECOND);
    assert_eq!(poll(ids[20]).await.is(200)["status"], "COMPLETE");
    assert_eq!(poll(ids[21]).await.is(200)["status"], "PENDING");
    assert_eq!(asked(), 22, "one more poll every two seconds");
}

#[tokio::test]
async fn status_without_a_token_is_not_limited() {
    let app = start().await;
    let id = app.create_challenge().await;
    for _ in 0..30 {
        app.get_challenge(id).send().await.is(200);
        app.get_challenges("").send().await.is(200);
    }
    app.user_token().await;
}

#[tokio::test]
async fn poll_whose_limit_cannot_be_checked_returns_the_record() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    proxy.set_unavailable(&["rate-limits"]);
    let polled = app.let_time_pass(app.get_challenge(id).token(&token).send()).await;
    assert_eq!(polled.is(200)["checkError"]["code"], "storage_unavailable");
    assert_eq!(polled.body["status"], "PENDING");
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 0);
    app.let_time_pass(app.get_pin().send()).await.is_storage_unavailable();
}

/// Neither the client nor, in the second case, the service receives a response.
#[tokio::test]
async fn client_that_loses_ten_responses_in_a_minute_succeeds_with_the_same_challenge() {
    for wait in [Duration::ZERO, 6 * SECOND] {
        for circles_are_lost in [false, true] {
            let app = App::at_noon().await.without_webhooks().await;
            app.user_token().await;
            if circles_are_lost {
                let lost =
                    Fault { drop: true, after_effect: true, times: 1000, ..fault_of(CREATE_CHANGE_PIN) };
                app.circle.add_fault(lost);
            }
            for _ in 0..10 {
                let response = app.let_time_pass(app.post_challenge().key(KEY).send()).await;
                let expected: &[u16] = if circles_are_lost { &[503] } else { &[200, 201] };
                assert!(expected.contains(&response.status), "{response:?}");
                app.advance(wait);
            }
            app.circle.clear_faults();
            let eleventh = app.post_challenge().key(KEY).send().await;
            let [created] = &app.circle.challenges()[..] else { panic!("each attempt had the same key") };
            assert_eq!(challenge_id(eleventh.is(200)), created.id);
            let session = eleventh.body["session"]["userToken"].as_str().unwrap();
            app.circle.enter_pin(created.id, PinEntry::right()).unwrap();
            app.advance(MINUTE);
            let polled = app.get_challenge(created.id).token(session).send().await;
            assert_eq!(polled.is(200)["status"], "COMPLETE");
        }
    }
}

#[tokio::test]
async fn calls_of_an_allowed_request_are_known() {
    let app = start().await;
    let token = app.user_token().await;
    let counts =
        || [CREATE_SESSION, GET_USER_BY_ID, CREATE_CHANGE_PIN].map(|call| app.circle.call_count(call));
    app.circle.reset_call_counts();
    app.post_challenge().send().await.is(201);
    assert_eq!((counts(), app.caller_calls()), ([1, 1, 1], 3));
    app.circle.reset_call_counts();
    app.post_challenge().token(&token).send().await.is(201);
    assert_eq!((counts(), app.caller_calls()), ([0, 0, 1], 2));
}
