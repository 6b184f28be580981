use std::time::Duration;

use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{App, in_time, send};

fn not_signed() -> Value {
    json!({
        "title": "Not signed by Circle",
        "status": 401,
        "detail": "The request has to carry Circle's signature over its exact bytes, in X-Circle-Key-Id and X-Circle-Signature.",
        "code": "invalid_signature",
    })
}

#[tokio::test]
async fn what_circle_did_not_sign_is_refused_and_leaves_nothing() {
    let app = App::at_noon().await;
    let body = app.message(Uuid::from_u128(1), "COMPLETE").to_string();
    let other = app.message(Uuid::from_u128(2), "COMPLETE").to_string();
    let (key, signature) = app.stack.circle.sign(body.as_bytes());
    let (key, of_other) = (key.to_string(), app.stack.circle.sign(other.as_bytes()).1);
    let altered = body.replace("COMPLETE", "COMPLETf");
    let unknown = Uuid::from_u128(7).to_string();
    for (key, signature, body) in [
        (key.as_str(), of_other.as_str(), body.as_str()),
        (&key, &signature, &altered),
        (&key, &signature, &format!("{body} ")),
        (&key, &signature, ""),
        (&key, "AAAA", &body),
        (&key, "not base64!", &body),
        (&key, "", &body),
        (&unknown, &signature, &body),
        ("not-a-uuid", &signature, &body),
        ("../../v1/w3s/user", &signature, &body),
        ("", &signature, &body),
    ] {
        send(app.webhook(key, signature, body.as_bytes())).await.is_problem(not_signed());
    }
    let unsigned = app.anonymous("POST /webhooks/circle").header("content-type", "application/json");
    send(unsigned.body(body.clone())).await.is_problem(not_signed());
    assert_eq!(app.items().await, 0);
    assert_eq!(send(app.webhook(&key, &signature, body.as_bytes())).await.is(200)["outcome"], "applied");
}

#[tokio::test]
async fn the_signature_is_over_the_bytes_as_they_came() {
    let app = App::at_noon().await;
    for (number, content_type) in [(1, "application/json"), (2, "application/octet-stream"), (3, "")] {
        let id = Uuid::from_u128(number);
        let body = format!(
            "\n{{ \"notificationType\" : \"challenges.changePin\",\r\n\t\"notification\": {{\"id\":\"{id}\", \"type\":\"\\u0043HANGE_PIN\", \"status\":\"COMPLETE\", \"x\":\"\u{e9}\\u00e9\"}} }} "
        );
        let (key, signature) = app.stack.circle.sign(body.as_bytes());
        let request = app
            .anonymous("POST /webhooks/circle")
            .header("x-circle-key-id", key.to_string())
            .header("x-circle-signature", signature);
        // API Gateway passes a body of any other type than text or JSON in base64.
        let request =
            if content_type.is_empty() { request } else { request.header("content-type", content_type) };
        assert_eq!(send(request.body(body)).await.is(200)["outcome"], "applied", "{content_type}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_circles_is_refused() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "54.243.112.156,100.24.191.35")]).await;
    let message = app.message(Uuid::from_u128(1), "COMPLETE");
    app.post(&message).await.is_problem(json!({
        "title": "Source address not allowed",
        "status": 403,
        "detail": "Webhooks are taken from Circle's addresses only (setting CIRCLE_SOURCE_IPS).",
        "code": "source_not_allowed",
    }));
    let forwarded = app.anonymous("POST /webhooks/circle").header("x-forwarded-for", "54.243.112.156");
    assert_eq!(send(forwarded).await.status, 403, "a header is the sender's word");
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn the_check_of_the_address_can_be_turned_off() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "")]).await;
    let message = app.message(Uuid::from_u128(1), "COMPLETE");
    assert_eq!(app.post(&message).await.is(200)["outcome"], "applied");
}

#[tokio::test]
async fn a_webhook_of_256_kib_is_read_and_a_larger_one_is_not() {
    let app = App::at_noon().await;
    let body = |length: usize| {
        let mut message = app.message(Uuid::from_u128(1), "COMPLETE");
        let padding = length - message.to_string().len();
        message["notification"]["errorMessage"] = "x".repeat(padding).into();
        message.to_string()
    };
    app.post_bytes(body(256 * 1024 + 1).as_bytes()).await.is_problem(json!({
        "title": "Body too large",
        "status": 413,
        "detail": "A webhook may have 256 KiB at most.",
        "code": "body_too_large",
    }));
    assert_eq!(app.post_bytes(body(256 * 1024).as_bytes()).await.is(200)["outcome"], "applied");
}

#[tokio::test]
async fn circles_check_of_the_endpoint_is_answered() {
    let app = App::at_noon().await;
    let answer = send(app.anonymous("HEAD /webhooks/circle")).await;
    assert_eq!((answer.status, answer.body), (200, Value::Null));
}

#[tokio::test]
async fn a_new_signing_key_is_fetched_when_first_met() {
    let app = App::at_noon().await;
    let old = app.message(Uuid::from_u128(1), "COMPLETE").to_string();
    let (old_key, old_signature) = app.stack.circle.sign(old.as_bytes());
    app.stack.circle.rotate_signing_key();
    assert_eq!(app.post(&app.message(Uuid::from_u128(2), "COMPLETE")).await.is(200)["outcome"], "applied");
    let late = app.webhook(&old_key.to_string(), &old_signature, old.as_bytes());
    assert_eq!(send(late).await.is(200)["outcome"], "applied", "a key id's key never changes");
    let fetches = app.stack.circle.call_count("GET /v2/notifications/publicKey/{keyId}");
    assert_eq!(fetches, 2);
}

#[tokio::test]
async fn while_circle_is_down_webhooks_of_a_known_key_are_taken_in() {
    let app = App::start().await;
    assert_eq!(app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is(200)["outcome"], "applied");
    app.stack.circle.add_fault(Fault { status: Some(503), times: 100, ..Fault::default() });
    assert_eq!(app.post(&app.message(Uuid::from_u128(2), "COMPLETE")).await.is(200)["outcome"], "applied");
}

#[tokio::test]
async fn while_a_key_cannot_be_had_circle_is_asked_to_send_again() {
    let app = App::start().await;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    app.stack.circle.rotate_signing_key();
    let fault = Fault {
        path: Some("/v2/notifications/publicKey".into()),
        status: Some(503),
        times: 3,
        ..Fault::default()
    };
    app.stack.circle.add_fault(fault);
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 503).await;
    assert_eq!(app.status(id).await["status"], "PENDING");
    // Circle's own repeats bring what was refused, as time passes.
    in_time(async {
        while app.status(id).await["status"] != "COMPLETE" {
            app.advance(Duration::from_secs(1));
        }
    })
    .await;
}

#[tokio::test]
async fn a_webhook_whose_key_cannot_be_had_is_answered_so() {
    let app = App::start().await;
    // The message that greets a new subscription needs a key too.
    app.stack.circle.wait_for_deliveries(1).await;
    app.stack.circle.add_fault(Fault { status: Some(503), times: 3, ..Fault::default() });
    let body = app.message(Uuid::from_u128(9), "COMPLETE").to_string();
    let (_, signature) = app.stack.circle.sign(body.as_bytes());
    let unknown = Uuid::from_u128(77).to_string();
    send(app.webhook(&unknown, &signature, body.as_bytes())).await.is_problem(json!({
        "title": "Public key unavailable",
        "status": 503,
        "detail": "Circle's public key for the signature cannot be had just now. Send the webhook again.",
        "code": "public_key_unavailable",
        "retryAfterSeconds": 10,
    }));
}
