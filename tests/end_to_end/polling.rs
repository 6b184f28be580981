use std::time::Duration;

use futures_util::future::join_all;
use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    App, CREATE_SESSION, GET_CHALLENGE, MINUTE, Response, SECOND, USER, error_of, expected_challenge,
    expected_record, expires_at, fault_of, hanging, in_time, text, wait_until, with,
};

/// The time between two questions to Circle about one challenge.
const INTERVAL: Duration = Duration::from_secs(3);

/// Asks for the status with the user's token.
async fn poll(app: &App, id: Uuid, token: &str) -> Response {
    app.get_challenge(id).token(token).send().await
}

#[tokio::test]
async fn poll_learns_what_lost_webhooks_would_have_reported() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.advance(MINUTE);
    app.circle.start_challenge(id).unwrap();
    assert_eq!(app.challenge(id).await, expected_challenge(id, "PENDING"));
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 0, "a request without a token asks nothing");

    let polled = json!({ "updatedAt": "2026-01-01T12:01:00Z", "checkedAt": "2026-01-01T12:01:00Z" });
    let started = with(expected_challenge(id, "IN_PROGRESS"), polled);
    assert_eq!(poll(&app, id, &token).await.is(200), &started);
    let record = app.record(id).await;
    let claim = record["claimedBy"].clone();
    let polled = json!({
        "updatedAt": "2026-01-01T12:01:00Z",
        "checkedAt": "2026-01-01T12:01:00Z",
        "expiresAt": expires_at(60),
        "polledAt": 1_767_268_860_000_i64,
        "claimedBy": claim,
    });
    assert_eq!(record, with(expected_record(id, "IN_PROGRESS"), polled));

    app.advance(MINUTE);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    let polled = json!({ "updatedAt": "2026-01-01T12:02:00Z", "checkedAt": "2026-01-01T12:02:00Z" });
    let completed = with(expected_challenge(id, "COMPLETE"), polled);
    assert_eq!(poll(&app, id, &token).await.is(200), &completed);
    assert_eq!(app.challenge(id).await, completed);
    let record = app.record(id).await;
    assert_ne!(record["claimedBy"], claim, "each claim has its own id");
    let polled = json!({
        "previousStatus": "IN_PROGRESS",
        "updatedAt": "2026-01-01T12:02:00Z",
        "checkedAt": "2026-01-01T12:02:00Z",
        "expiresAt": expires_at(120),
        "polledAt": 1_767_268_920_000_i64,
        "claimedBy": record["claimedBy"],
        "settledBy": "poll",
    });
    assert_eq!(record, with(expected_record(id, "COMPLETE"), polled));

    assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "stale");
    assert_eq!(app.record(id).await, record);
}

#[tokio::test]
async fn poll_learns_why_a_challenge_failed() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.cancel_challenge(id).unwrap();
    let polled = poll(&app, id, &token).await;
    let message = text(&polled.is(200)["failure"], "message");
    let failure = json!({ "circleCode": 155_701, "reason": "cancelled", "message": message });
    assert_eq!(polled.body, with(expected_challenge(id, "FAILED"), json!({ "failure": failure })));
    let record = app.record(id).await;
    let circles_message = app.circle.challenge(id).unwrap().error_message;
    let values = ["settledBy", "circleCode", "circleMessage"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["poll", 155_701, circles_message]));
}

#[tokio::test]
async fn poll_of_a_settled_challenge_does_not_ask_circle() {
    let app = App::at_noon().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    let record = app.record(id).await;
    for _ in 0..3 {
        app.advance(MINUTE);
        assert_eq!(poll(&app, id, &token).await.is(200)["status"], "COMPLETE");
    }
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 0);
    assert_eq!(app.record(id).await, record);
}

#[tokio::test]
async fn concurrent_polls_make_one_call_to_circle() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    let responses = join_all((0..20).map(|_| poll(&app, id, &token))).await;
    let statuses: Vec<_> = responses.iter().map(|response| text(response.is(200), "status")).collect();
    assert!(statuses.iter().all(|status| ["PENDING", "COMPLETE"].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&"COMPLETE"), "{statuses:?}");
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 1);
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn circle_is_asked_about_a_challenge_at_most_every_three_seconds() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    let other = app.create_challenge().await;
    let calls = || app.circle.call_count(GET_CHALLENGE);
    poll(&app, id, &token).await.is(200);
    assert_eq!(calls(), 1);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(INTERVAL - Duration::from_millis(1));
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "PENDING");
    assert_eq!(calls(), 1);
    poll(&app, other, &token).await.is(200);
    assert_eq!(calls(), 2, "the interval is kept for each challenge");
    app.advance(Duration::from_millis(1));
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "COMPLETE");
    assert_eq!(calls(), 3);
}

#[tokio::test]
async fn failed_poll_returns_the_record() {
    let app = App::start().await.without_webhooks().await;
    let circle = &app.circle;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    let challenge = app.challenge(id).await;
    circle.start_challenge(id).unwrap();
    let fault = || fault_of(GET_CHALLENGE);
    for (calls, fault, code) in [
        (3, Fault { drop: true, times: 3, ..fault() }, "circle_unavailable"),
        (3, Fault { status: Some(503), times: 3, ..fault() }, "circle_unavailable"),
        (1, error_of(GET_CHALLENGE, 401, 155_103), "invalid_user_token"),
        (1, error_of(GET_CHALLENGE, 403, 155_104), "invalid_user_token"),
        (1, error_of(GET_CHALLENGE, 404, 155_116), "circle_error"),
        (1, Fault { status: Some(200), body: Some("<html>".into()), ..fault() }, "circle_error"),
    ] {
        circle.reset_call_counts();
        circle.add_fault(fault.clone());
        is_unchecked(&poll(&app, id, &token).await, &challenge, code);
        assert_eq!(circle.call_count(GET_CHALLENGE), calls, "{fault:?}");
        assert_eq!(circle.faults(), []);
        app.advance(INTERVAL);
    }
    circle.forget_user_tokens(USER);
    is_unchecked(&poll(&app, id, &token).await, &challenge, "invalid_user_token");
    app.advance(INTERVAL);
    let token = app.user_token().await;
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "IN_PROGRESS");

    let challenge = app.challenge(id).await;
    app.advance(INTERVAL);
    in_time(circle.clone().stop()).await;
    is_unchecked(&poll(&app, id, &token).await, &challenge, "circle_unavailable");
}

/// Checks that the response shows the challenge as it was, and why Circle could not be asked.
#[track_caller]
fn is_unchecked(response: &Response, challenge: &Value, code: &str) {
    let user_message = text(&response.is(200)["checkError"], "userMessage");
    assert!(!user_message.is_empty());
    let check_error = json!({ "checkError": { "code": code, "userMessage": user_message } });
    assert_eq!(response.body, with(challenge.clone(), check_error));
}

#[tokio::test]
async fn poll_waits_for_circle_at_most_three_seconds() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.add_fault(Fault { times: 3, ..hanging(GET_CHALLENGE) });
    let let_three_seconds_pass = async {
        wait_until(|| app.circle.call_count(GET_CHALLENGE) == 1).await;
        app.advance(3 * SECOND);
    };
    let (response, ()) = tokio::join!(poll(&app, id, &token), let_three_seconds_pass);
    is_unchecked(&response, &expected_challenge(id, "PENDING"), "timeout");
}

#[tokio::test]
async fn challenge_of_another_user_is_not_found() {
    let app = App::at_noon().await;
    let alices = app.create_challenge().await;
    let bobby = app.add_user("bobby");
    let session = app.post_session_token().bearer(&bobby).send().await;
    let bobbys_token = text(session.is(201), "userToken");
    for id in [alices, Uuid::from_u128(7)] {
        let request = || app.get_challenge(id).bearer(&bobby);
        request().send().await.is_problem(404, "challenge_not_found");
        request().token(bobbys_token).send().await.is_problem(404, "challenge_not_found");
    }

    let of_another_app = Uuid::from_u128(8);
    let notification = app.message(of_another_app, "IN_PROGRESS")["notification"].clone();
    app.circle.send_notification("challenges.changePin", &notification, None);
    app.wait_for_webhook(of_another_app, "IN_PROGRESS", 200).await;
    assert_eq!(app.record(of_another_app).await["userId"], USER);
    let token = app.user_token().await;
    app.get_challenge(of_another_app).send().await.is_problem(404, "challenge_not_found");
    poll(&app, of_another_app, &token).await.is_problem(404, "challenge_not_found");
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 0);
}

#[tokio::test]
async fn poll_never_creates_a_session() {
    let app = App::at_noon().await.without_webhooks().await;
    app.circle.set_knobs(|knobs| knobs.new_token_ends_old = true);
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.reset_call_counts();
    app.challenge(id).await;
    poll(&app, id, &token).await.is(200);
    app.advance(61 * MINUTE);
    assert_eq!(poll(&app, id, &token).await.is(200)["status"], "PENDING");
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 1, "an expired token is not used");
    assert_eq!(app.circle.call_count(CREATE_SESSION), 0);
}
