use local::circle_simulator::PinEntry;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    App, KEY, MINUTE, Request, challenge_id, expected_challenge, expected_record, expires_at, with,
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
async fn repeated_key_returns_the_settled_record() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = create(&app, &token).await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    let record = app.record(id).await;

    app.advance(MINUTE);
    let retried = request(&app, &token).send().await;
    assert_eq!(retried.is(200), &expected_challenge(id, "COMPLETE"));
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
async fn repeated_key_depends_on_the_current_pin_state() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = create(&app, &token).await;
    for _ in 0..3 {
        app.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    }
    let locked = request(&app, &token).send().await;
    let lock = json!({ "lockedUntil": "2026-01-01T12:30:00Z", "retryAfterSeconds": 1800 });
    locked.is_problem_with(423, "pin_locked", lock);
    app.advance(30 * MINUTE);
    assert_eq!(challenge_id(request(&app, &token).send().await.is(200)), id);
}

#[tokio::test]
async fn requests_without_a_key_each_create_a_challenge() {
    let app = App::at_noon().await;
    assert_ne!(app.create_challenge().await, app.create_challenge().await);
    assert_eq!(app.record_count().await, 2);
}
