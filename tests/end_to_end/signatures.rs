use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use local::circle::{CircleOptions, CircleSimulator};
use serde_json::json;
use shared::random::Random;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{Answer, App, MINUTE, send};

const ASKS_FOR_KEY: &str = "GET /v2/notifications/publicKey/{keyId}";

#[tokio::test]
async fn what_circle_did_not_sign_is_refused_unread() {
    let app = App::at_noon().await;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    let item = app.item(id).await;
    let body = app.message(id, "COMPLETE").to_string().into_bytes();
    let (key_id, signature) = app.stack.circle.sign(&body);
    let key_id = key_id.to_string();
    let (forgers_key_id, forged) = forger(&app).await.sign(&body);
    let mut altered = body.clone();
    let at = body.windows(8).position(|bytes| bytes == b"COMPLETE").unwrap();
    altered[at] = b'K';
    let truncated = &body[..body.len() - 1];
    let extended = [&body[..], b" "].concat();
    let request = |key_id: &str, signature: &str, body: &[u8]| app.webhook(key_id, signature, body);
    let bare = || app.anonymous("POST /webhooks/circle").header("content-type", "application/json");
    for (what, request) in [
        ("another's key under Circle's id", request(&key_id, &forged, &body)),
        ("another's key under its own id", request(&forgers_key_id.to_string(), &forged, &body)),
        ("an altered byte", request(&key_id, &signature, &altered)),
        ("a byte less", request(&key_id, &signature, truncated)),
        ("a byte more", request(&key_id, &signature, &extended)),
        ("no body", request(&key_id, &signature, b"")),
        ("no headers", bare().body(body.clone())),
        ("no signature", bare().header("x-circle-key-id", &key_id).body(body.clone())),
        ("no key id", bare().header("x-circle-signature", &signature).body(body.clone())),
        ("a signature that is no base64", request(&key_id, "%%%", &body)),
        ("a signature that is base64 of something else", request(&key_id, "AAAA", &body)),
        ("an empty signature", request(&key_id, "", &body)),
        ("two signatures", request(&key_id, &signature, &body).header("x-circle-signature", &signature)),
        ("a key id that no key has", request(&Uuid::from_u128(7).to_string(), &signature, &body)),
        ("a key id that is no UUID", request("../../v1/w3s/users", &signature, &body)),
        ("an empty key id", request("", &signature, &body)),
    ] {
        println!("{what}");
        is_not_circles(&send(request).await);
    }
    assert_eq!(app.item(id).await, item);
    assert_eq!(app.items().await, 1);
    let genuine = send(app.webhook(&key_id, &signature, &body)).await;
    assert_eq!(genuine.is(200), &json!({ "outcome": "applied" }));
}

#[tokio::test]
async fn the_signature_is_over_the_bytes_and_not_over_what_they_mean() {
    let app = App::at_noon().await;
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    let id = app.challenge().await;
    let body = format!(
        "\r\n {{ \"notification\" :\t{{\"st\\u0061tus\":\"COMPL\\u0045TE\" ,\n\"note\":\"\u{fc} \\ud83d\\ude00 \u{1f600}\",
            \"type\":\"CHANGE_PIN\",\"id\":\"{id}\"}},\"notificationType\":\"challenges.changePin\"}}\r\n\n"
    );
    let (key_id, signature) = app.stack.circle.sign(body.as_bytes());
    let key_id = key_id.to_string();
    let same_meaning = serde_json::from_str::<serde_json::Value>(&body).unwrap().to_string();
    is_not_circles(&send(app.webhook(&key_id, &signature, same_meaning.as_bytes())).await);
    is_not_circles(&send(app.webhook(&key_id, &signature, body.trim().as_bytes())).await);
    let as_it_is = send(app.webhook(&key_id, &signature, body.as_bytes())).await;
    assert_eq!(as_it_is.is(200), &json!({ "outcome": "applied" }));
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

/// API Gateway hands on the body of a type that it takes for binary in base64.
#[tokio::test]
async fn a_body_that_the_gateway_encodes_is_verified_too() {
    let app = App::at_noon().await;
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    for content_type in ["application/octet-stream", "application/problem+json", "text/plain"] {
        let id = app.challenge().await;
        let body = app.message(id, "COMPLETE").to_string();
        let (key_id, signature) = app.stack.circle.sign(body.as_bytes());
        let request = |body: String| {
            app.anonymous("POST /webhooks/circle")
                .header("content-type", content_type)
                .header("x-circle-key-id", key_id.to_string())
                .header("x-circle-signature", &signature)
                .body(body)
        };
        is_not_circles(&send(request(format!("{body} "))).await);
        assert_eq!(send(request(body)).await.is(200), &json!({ "outcome": "applied" }), "{content_type}");
        assert_eq!(app.status(id).await["status"], "COMPLETE");
    }
}

#[tokio::test]
async fn a_rotated_signing_key_is_met_without_a_break() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    assert_eq!(circle.call_count(ASKS_FOR_KEY), 1, "known from the first webhook on");
    let under_way = app.message(id, "IN_PROGRESS").to_string();
    let (old_key, old_signature) = circle.sign(under_way.as_bytes());
    let new_key = circle.rotate_signing_key();
    assert_ne!(old_key, new_key);
    let answer = send(app.webhook(&old_key.to_string(), &old_signature, under_way.as_bytes())).await;
    assert_eq!(answer.is(200), &json!({ "outcome": "applied" }));
    circle.enter_pin(id, local::circle::PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    assert_eq!(app.status(id).await["status"], "COMPLETE");
    assert_eq!(circle.call_count(ASKS_FOR_KEY), 2, "once for each key");
}

#[tokio::test]
async fn many_who_miss_a_key_at_once_fetch_it_once() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    circle.wait_for_deliveries(1).await;
    circle.reset_call_counts();
    circle.rotate_signing_key();
    let messages: Vec<_> = (0..20).map(|id| app.message(Uuid::from_u128(id), "COMPLETE")).collect();
    for answer in join_all(messages.iter().map(|message| app.post(message))).await {
        assert_eq!(answer.is(200), &json!({ "outcome": "applied" }));
    }
    assert_eq!(circle.call_count(ASKS_FOR_KEY), 1);
}

#[tokio::test]
async fn a_flood_of_invented_key_ids_is_no_flood_at_circle() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    circle.wait_for_deliveries(1).await;
    circle.reset_call_counts();
    let invented = async |id: u128| send(app.webhook(&Uuid::from_u128(id).to_string(), "AAAA", b"{}")).await;
    let mut refused = 0;
    for id in 0..20 {
        let answer = invented(id).await;
        if answer.status == 401 {
            is_not_circles(&answer);
            refused += 1;
        } else {
            is_undecided(&answer);
        }
    }
    assert_eq!(refused, 9, "ten fetches at once, of which the first webhook took one");
    assert_eq!(circle.call_count(ASKS_FOR_KEY), 9);
    is_not_circles(&invented(0).await);
    assert_eq!(circle.call_count(ASKS_FOR_KEY), 9, "an id that Circle does not know is remembered");
    let known = app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await;
    assert_eq!(known.is(200), &json!({ "outcome": "applied" }), "Circle's own go on");

    app.advance(Duration::from_secs(1));
    is_not_circles(&invented(19).await);
    is_undecided(&invented(18).await);
    app.advance(MINUTE);
    is_not_circles(&invented(0).await);
    assert_eq!(circle.call_count(ASKS_FOR_KEY), 11, "not remembered for ever");
}

fn is_not_circles(answer: &Answer) {
    answer.is_problem(json!({
        "title": "Not signed by Circle",
        "status": 401,
        "detail": "The request has to carry Circle's signature over its exact bytes, in X-Circle-Key-Id and X-Circle-Signature.",
        "code": "invalid_signature",
    }));
}

fn is_undecided(answer: &Answer) {
    answer.is_problem(json!({
        "title": "Public key unavailable",
        "status": 503,
        "detail": "Circle's public key for the signature cannot be had just now. Send the webhook again.",
        "code": "public_key_unavailable",
        "retryAfterSeconds": 10,
    }));
}

/// Somebody who signs as Circle does, with keys that Circle does not have.
async fn forger(app: &App) -> CircleSimulator {
    CircleSimulator::start(CircleOptions {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        clock: app.stack.clock.clone(),
        random: Arc::new(Random::from_system()),
        on_api_key_change: None,
    })
    .await
}
