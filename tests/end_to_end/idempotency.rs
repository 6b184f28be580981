use local::circle_simulator::PinEntry;
use serde_json::{Value, json};

use crate::support::{Answer, App, MINUTE, challenge_id, send};

const KEY: &str = "3f2b8a52-6a0e-4d0c-9b57-0d1f6c2f5a11";

#[tokio::test]
async fn a_repeated_key_gives_the_same_challenge_and_record() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    app.stack.circle.set_knobs(|knobs| knobs.webhooks_paused = true);
    let first = create(&app, &token, KEY, "CHANGE_PIN").await;
    let id = challenge_id(first.is(201));
    let item = app.item(id).await;

    app.advance(MINUTE);
    let second = create(&app, &token, KEY, "CHANGE_PIN").await;
    assert_eq!(second.is(200), &first.body);
    let mut renewed = item;
    renewed["expiresAt"] = json!(renewed["expiresAt"].as_u64().unwrap() + 60);
    assert_eq!(app.item(id).await, renewed);
    assert_eq!(app.items().await, 1);
}

#[tokio::test]
async fn a_repeated_key_answers_from_the_settled_record() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = challenge_id(create(&app, &token, KEY, "CHANGE_PIN").await.is(201));
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    let item = app.item(id).await;

    app.advance(MINUTE);
    let repeated = create(&app, &token, KEY, "CHANGE_PIN").await;
    assert_eq!(
        repeated.is(200),
        &json!({
            "challengeId": id,
            "type": "CHANGE_PIN",
            "status": "COMPLETE",
            "createdAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:00:00Z",
        })
    );
    assert_eq!(app.item(id).await, item, "nothing is written to a settled record");
}

#[tokio::test]
async fn every_way_to_write_a_uuid_is_the_same_key() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = challenge_id(create(&app, &token, KEY, "CHANGE_PIN").await.is(201));
    for key in [
        KEY.to_uppercase(),
        format!("{{{KEY}}}"),
        format!("{{{}}}", KEY.to_uppercase()),
        format!("urn:uuid:{KEY}"),
        KEY.replace('-', ""),
    ] {
        assert_eq!(challenge_id(create(&app, &token, &key, "CHANGE_PIN").await.is(200)), id, "{key}");
    }
}

#[tokio::test]
async fn a_key_is_kept_apart_by_user_and_type() {
    let app = App::at_noon().await;
    app.stack.add_user("bobby", "778899");
    let token = app.user_token().await;
    let changed = create(&app, &token, KEY, "CHANGE_PIN").await;
    let restored = create(&app, &token, KEY, "RESTORE_PIN").await;
    let bobbys = app.anonymous("POST /challenges").bearer_auth(app.stack.sign_in("bobby"));
    let bobbys = send(bobbys.header("idempotency-key", KEY)).await;
    let ids = [&changed, &restored, &bobbys].map(|answer| challenge_id(answer.is(201)));
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2], "{ids:?}");
    let mut records = Vec::<Value>::new();
    for id in ids {
        let item = app.item(id).await;
        records.push(json!([item["userId"], item["type"]]));
    }
    assert_eq!(
        records,
        [json!(["alice", "CHANGE_PIN"]), json!(["alice", "RESTORE_PIN"]), json!(["bobby", "CHANGE_PIN"])]
    );
}

#[tokio::test]
async fn a_repeated_key_is_judged_by_the_pin_state_of_the_day() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    let id = challenge_id(create(&app, &token, KEY, "CHANGE_PIN").await.is(201));
    for _ in 0..3 {
        app.stack.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    }
    assert_eq!(create(&app, &token, KEY, "CHANGE_PIN").await.body["code"], "pin_locked");
    app.advance(30 * MINUTE);
    assert_eq!(challenge_id(create(&app, &token, KEY, "CHANGE_PIN").await.is(200)), id);
}

#[tokio::test]
async fn without_a_key_each_request_makes_a_challenge() {
    let app = App::at_noon().await;
    assert_ne!(app.challenge().await, app.challenge().await);
    assert_eq!(app.items().await, 2);
}

async fn create(app: &App, token: &str, key: &str, challenge_type: &str) -> Answer {
    let request = app.request("POST /challenges").header("x-user-token", token);
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    send(request.body(json!({ "type": challenge_type }).to_string())).await
}
