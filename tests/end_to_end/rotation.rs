use std::time::Duration;

use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;
use uuid::Uuid;

use crate::support::{App, eventually, in_time, send};

/// Calls of Circle's that meet each function of the service: as Circle counts them, with method and path. A fault
/// is for a path's beginning, so the longer path comes first.
const CALLS: [(&str, &str, &str); 6] = [
    ("POST /v1/w3s/users/token", "POST", "/v1/w3s/users/token"),
    ("GET /v1/w3s/user/challenges/{id}", "GET", "/v1/w3s/user/challenges/"),
    ("GET /v1/w3s/users/{userId}", "GET", "/v1/w3s/users/"),
    ("GET /v1/w3s/user", "GET", "/v1/w3s/user"),
    ("GET /v2/notifications/publicKey/{keyId}", "GET", "/v2/notifications/publicKey/"),
    ("PUT /v1/w3s/user/pin", "PUT", "/v1/w3s/user/pin"),
];

#[tokio::test]
async fn no_request_fails_while_the_api_key_is_rotated() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    circle.wait_for_deliveries(1).await;
    circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    let (id, token) = (app.challenge().await, app.user_token().await);
    circle.start_challenge(id).unwrap();
    app.status(id).await;
    circle.rotate_signing_key();
    let reads = app.stack.secrets_manager.reads();
    circle.reset_call_counts();

    // Each call has left with the old key and is still under way when the new one replaces it.
    for (_, method, path) in CALLS.into_iter().take(5) {
        let times = if path.ends_with("token") { 5 } else { 1 };
        circle.add_fault(Fault {
            method: Some(method.into()),
            path: Some(path.into()),
            delay_ms: 1000,
            times,
            ..Fault::default()
        });
    }
    let sessions = async {
        let session = async || send(app.request("POST /session-tokens")).await.is(201).clone();
        tokio::join!(session(), session(), session(), session(), session());
    };
    let creation = async {
        let created = send(app.request("POST /challenges").header("x-user-token", &token)).await;
        assert_eq!(created.is(201)["status"], "PENDING");
    };
    let poll = async {
        let polled = send(app.request(&format!("GET /challenges/{id}")).header("x-user-token", &token)).await;
        assert_eq!(polled.is(200)["status"], "IN_PROGRESS");
    };
    let pin = async {
        assert_eq!(send(app.request("GET /pin")).await.is(200)["pinStatus"], "ENABLED");
    };
    let webhook = async {
        let answer = app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await;
        assert_eq!(answer.is(200), &json!({ "outcome": "applied" }));
    };
    let rotation = async {
        let under_way = || CALLS.iter().map(|(call, ..)| circle.call_count(call)).sum::<u64>();
        eventually(|| under_way() == 9).await;
        circle.rotate_api_key();
        app.advance(Duration::from_secs(1));
    };
    in_time(async { tokio::join!(sessions, creation, poll, pin, webhook, rotation) }).await;
    let calls = CALLS.map(|(call, ..)| circle.call_count(call));
    assert_eq!(calls, [10, 2, 2, 2, 2, 1], "each call was made again with the new key");
    let reread = app.stack.secrets_manager.reads() - reads;
    assert_eq!(reread, 5 + 2, "once by each function, and two had not read it before");
}

#[tokio::test]
async fn a_challenge_under_way_survives_the_rotation_of_every_key() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    let (id, token) = (app.challenge().await, app.user_token().await);
    circle.start_challenge(id).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 200).await;
    circle.rotate_api_key();
    circle.rotate_signing_key();
    let polled = send(app.request(&format!("GET /challenges/{id}")).header("x-user-token", &token)).await;
    assert_eq!(polled.is(200)["status"], "IN_PROGRESS");
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    assert_eq!(app.status(id).await["status"], "COMPLETE");
    assert!(circle.deliveries().iter().all(|delivery| delivery.status == Some(200)), "none was sent twice");
}
