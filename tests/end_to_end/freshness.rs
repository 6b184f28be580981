use std::time::Duration;

use local::circle_simulator::PinEntry;
use serde_json::json;

use crate::support::{
    App, CREATE_SESSION, GET_CHALLENGE, HOUR, KEY, MINUTE, Response, SECOND, USER, expected_challenge,
    in_time, text, with,
};

/// The code of the reason why Circle could not be asked.
fn check_error(response: &Response) -> Option<&str> {
    let error = response.is(200).get("checkError")?;
    assert!(!text(error, "userMessage").is_empty());
    Some(text(error, "code"))
}

#[tokio::test]
async fn poll_that_finds_nothing_new_says_when_circle_was_asked() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.advance(MINUTE);
    let record = app.record(id).await;
    let checked = json!({ "checkedAt": "2026-01-01T12:01:00Z" });
    let polled = app.get_challenge(id).token(&token).send().await;
    assert_eq!(polled.is(200), &with(expected_challenge(id, "PENDING"), checked.clone()));
    assert_eq!(app.challenge(id).await, polled.body, "everybody sees it");
    let polled_record = app.record(id).await;
    let claim = json!({ "claimedBy": polled_record["claimedBy"], "polledAt": polled_record["polledAt"] });
    assert_eq!(polled_record, with(record, with(claim, checked)), "nothing else has changed");

    app.advance(SECOND);
    let denied = app.get_challenge(id).token(&token).send().await;
    assert_eq!(denied.is(200)["checkedAt"], "2026-01-01T12:01:00Z", "Circle was not asked again");
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 1);
}

#[tokio::test]
async fn webhook_says_when_circle_reported() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = app.create_challenge().await;
    app.advance(MINUTE);
    assert_eq!(app.post_webhook(&app.message(id, "IN_PROGRESS")).await.outcome(), "applied");
    assert_eq!(app.challenge(id).await["checkedAt"], "2026-01-01T12:01:00Z");
}

#[tokio::test]
async fn status_says_that_the_session_has_ended() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(61 * MINUTE);
    let polled = app.get_challenge(id).token(&token).send().await;
    assert_eq!(check_error(&polled), Some("invalid_user_token"));
    assert_eq!(
        (&polled.body["status"], &polled.body["checkedAt"]),
        (&json!("PENDING"), &json!("2026-01-01T12:00:00Z"))
    );
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 0);

    let token = app.user_token().await;
    let polled = app.get_challenge(id).token(&token).send().await;
    assert_eq!((check_error(&polled), &polled.body["status"]), (None, &json!("COMPLETE")));
}

#[tokio::test]
async fn status_says_that_circle_rejects_the_token() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.forget_user_tokens(USER);
    let polled = app.get_challenge(id).token(&token).send().await;
    assert_eq!(check_error(&polled), Some("invalid_user_token"));
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 1);
}

#[tokio::test]
async fn status_says_that_circle_cannot_be_reached() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    in_time(app.circle.clone().stop()).await;
    let polled = app.let_time_pass(app.get_challenge(id).token(&token).send()).await;
    assert_eq!(check_error(&polled), Some("circle_unavailable"));
    assert_eq!(polled.body["status"], "PENDING");
}

#[tokio::test]
async fn status_that_is_up_to_date_has_no_error() {
    let app = App::at_noon().await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    let get = || app.get_challenge(id);
    assert_eq!(check_error(&get().send().await), None, "nobody wanted Circle to be asked");
    assert_eq!(check_error(&get().token(&token).send().await), None);
    assert_eq!(check_error(&get().token(&token).send().await), None, "Circle was asked just now");
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    app.advance(61 * MINUTE);
    assert_eq!(check_error(&get().token(&token).send().await), None, "a settled challenge needs no session");
    assert_eq!(app.circle.call_count(CREATE_SESSION), 2);
}

#[tokio::test]
async fn clients_are_told_to_ask_less_often_the_older_an_open_challenge_is() {
    let app = App::at_noon().await.without_webhooks().await;
    let created = app.post_challenge().key(KEY).send().await;
    let id = text(created.is(201), "challengeId").to_owned();
    assert_eq!(created.retry_after(), 3);
    let mut age = Duration::ZERO;
    for (next, seconds) in [
        (MINUTE, 3),
        (2 * MINUTE, 6),
        (10 * MINUTE, 30),
        (19 * MINUTE, 57),
        (20 * MINUTE, 60),
        (50 * MINUTE, 60),
        (3 * HOUR, 60),
    ] {
        app.advance(next - age);
        age = next;
        let token = app.user_token().await;
        for request in
            [app.get_challenge(&id), app.get_challenge(&id).token(&token), app.post_challenge().key(KEY)]
        {
            let response = request.send().await;
            response.is(200);
            assert_eq!(response.retry_after(), seconds, "after {age:?}");
        }
    }
}
