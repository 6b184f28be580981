use std::collections::BTreeMap;

use local::circle_simulator::{FactorStatus, PinEntry, UserChange};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_SESSION, KEY, MINUTE, Request, challenge_id, expected_challenge,
    expected_record, expires_at, with,
};

/// A request for a CHANGE_PIN challenge with the caller's token and key.
fn request(app: &App, token: &str) -> Request {
    app.post_challenge().token(token).key(KEY)
}

async fn create(app: &App, token: &str) -> Uuid {
    challenge_id(request(app, token).send().await.is(201))
}

#[tokio::test]
async fn repeated_key_returns_the_same_challenge_and_record() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    app.circle.set_knobs(|knobs| knobs.webhooks_paused = true);
    let first = request(&app, &token).send().await;
    let id = challenge_id(first.is(201));
    let record = expected_record(id, "PENDING");
    assert_eq!(app.record(id).await, record);

    app.advance(MINUTE);
    let second = request(&app, &token).send().await;
    assert_eq!(second.is(200), &first.body);
    assert_eq!(app.record(id).await, with(record, json!({ "expiresAt": expires_at(60) })));
    assert_eq!(app.record_count().await, 1);
}

#[tokio::test]
async fn repeated_key_returns_the_settled_record_without_a_session_and_without_circle() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = create(&app, &token).await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    let record = app.record(id).await;
    app.circle.reset_call_counts();

    app.advance(MINUTE);
    // Neither the state of the PIN nor an expired token matters, because Circle is not called.
    app.change_user(UserChange { pin_status: Some(FactorStatus::Locked), ..UserChange::default() });
    for request in [request(&app, &token), app.post_challenge().key(KEY)] {
        assert_eq!(request.send().await.is(200), &expected_challenge(id, "COMPLETE"));
    }
    app.advance(58 * MINUTE);
    assert_eq!(request(&app, &token).send().await.is(200), &expected_challenge(id, "COMPLETE"));
    assert_eq!(app.circle.call_counts(), BTreeMap::new());
    assert_eq!(app.record(id).await, record, "nothing is written to a settled record");
}

#[tokio::test]
async fn every_way_to_write_a_uuid_is_the_same_key() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = create(&app, &token).await;
    for key in [
        KEY.to_uppercase(),
        format!("{{{KEY}}}"),
        format!("{{{}}}", KEY.to_uppercase()),
        format!("urn:uuid:{KEY}"),
        KEY.replace('-', ""),
    ] {
        let retried = app.post_challenge().token(&token).key(&key).send().await;
        assert_eq!(challenge_id(retried.is(200)), id, "{key}");
    }
}

#[tokio::test]
async fn same_key_of_another_user_or_type_is_another_key() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let bobby = app.add_user("bobby");
    let mut ids = Vec::new();
    for (request, user, challenge_type) in [
        (request(&app, &token), "alice", "CHANGE_PIN"),
        (request(&app, &token).restore(), "alice", "RESTORE_PIN"),
        (app.post_challenge().key(KEY).bearer(&bobby), "bobby", "CHANGE_PIN"),
    ] {
        let id = challenge_id(request.send().await.is(201));
        assert!(!ids.contains(&id), "{ids:?}");
        ids.push(id);
        let record = app.record(id).await;
        assert_eq!(json!([record["userId"], record["type"]]), json!([user, challenge_type]));
    }
}

#[tokio::test]
async fn repeated_key_of_an_open_challenge_depends_on_the_current_pin_state() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = create(&app, &token).await;
    let other = app.create_challenge().await;
    for _ in 0..3 {
        app.circle.enter_pin(other, PinEntry::wrong()).unwrap();
    }
    let locked = request(&app, &token).send().await;
    let lock = json!({ "lockedUntil": "2026-01-01T12:30:00Z", "retryAfterSeconds": 1800 });
    locked.is_problem_with(423, "pin_locked", lock);
    app.advance(30 * MINUTE);
    assert_eq!(challenge_id(request(&app, &token).send().await.is(200)), id);
}

/// The hour's item that remembers the challenge is the user's, and Circle remembers the key for longer.
#[tokio::test]
async fn repeated_key_in_another_hour_asks_circle_and_writes_nothing_to_a_settled_record() {
    let app = App::at_noon().await;
    let id = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    let record = app.record(id).await;
    app.advance(60 * MINUTE);
    let retried = app.post_challenge().key(KEY).send().await;
    let session = retried.is(200)["session"].clone();
    assert!(session.is_object());
    assert_eq!(retried.body, with(expected_challenge(id, "COMPLETE"), json!({ "session": session })));
    assert_eq!(app.record(id).await, record);
}

#[tokio::test]
async fn repeated_key_of_an_open_challenge_returns_a_session_for_it() {
    let app = App::at_noon().await;
    let id = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.circle.start_challenge(id).unwrap();
    app.wait_for_webhook(id, "IN_PROGRESS", 200).await;
    app.circle.reset_call_counts();
    let retried = app.post_challenge().key(KEY).send().await;
    assert_eq!(challenge_id(retried.is(200)), id);
    assert_eq!(retried.body["status"], "IN_PROGRESS");
    assert!(retried.body["session"].is_object());
    assert_eq!([CREATE_SESSION, CREATE_CHANGE_PIN].map(|call| app.circle.call_count(call)), [1, 1]);
}

#[tokio::test]
async fn requests_without_a_key_each_create_a_challenge() {
    let app = App::at_noon().await;
    assert_ne!(app.create_challenge().await, app.create_challenge().await);
    assert_eq!(app.record_count().await, 2);
}
