use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{App, GET_PUBLIC_KEY, SECOND, fault_of, in_time};

#[tokio::test]
async fn webhook_without_circles_signature_is_rejected_and_has_no_effect() {
    let app = App::at_noon().await;
    let body = app.message(Uuid::from_u128(1), "COMPLETE").to_string();
    let other = app.message(Uuid::from_u128(2), "COMPLETE").to_string();
    let (key_id, signature) = app.circle.sign(body.as_bytes());
    let (key_id, of_other) = (key_id.to_string(), app.circle.sign(other.as_bytes()).1);
    let unknown = Uuid::from_u128(7).to_string();
    for (key_id, signature, body) in [
        (key_id.as_str(), of_other.as_str(), body.as_str()),
        (&key_id, &signature, &body.replace("COMPLETE", "COMPLETf")),
        (&key_id, &signature, &format!("{body} ")),
        (&key_id, &signature, ""),
        (&key_id, "AAAA", &body),
        (&key_id, "not base64!", &body),
        (&key_id, "", &body),
        (&unknown, &signature, &body),
        ("not-a-uuid", &signature, &body),
        ("../../v1/w3s/user", &signature, &body),
        ("", &signature, &body),
    ] {
        let response = app.webhook(key_id, signature, body.as_bytes()).send().await;
        response.is_problem(401, "invalid_signature");
    }
    let unsigned = app.request("POST /webhooks/circle").anonymous().json(&body).send().await;
    unsigned.is_problem(401, "invalid_signature");
    assert_eq!(app.record_count().await, 0);
    assert_eq!(app.webhook(&key_id, &signature, body.as_bytes()).send().await.outcome(), "applied");
}

#[tokio::test]
async fn signature_covers_the_bytes_as_they_were_sent() {
    let app = App::at_noon().await;
    // API Gateway passes a body in base64 unless its content type is JSON or text.
    let content_types = [Some("application/json"), Some("application/octet-stream"), None];
    for (number, content_type) in (1..).zip(content_types) {
        let id = Uuid::from_u128(number);
        let body = format!(
            "\n{{ \"notificationType\" : \"challenges.changePin\",\r\n\t\"notification\": {{\"id\":\"{id}\", \"type\":\"\\u0043HANGE_PIN\", \"status\":\"COMPLETE\", \"x\":\"\u{e9}\\u00e9\"}} }} "
        );
        let (key_id, signature) = app.circle.sign(body.as_bytes());
        let mut request = app
            .request("POST /webhooks/circle")
            .anonymous()
            .header("x-circle-key-id", key_id.to_string())
            .header("x-circle-signature", signature)
            .body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        assert_eq!(request.send().await.outcome(), "applied", "{content_type:?}");
    }
}

#[tokio::test]
async fn webhook_from_another_address_is_rejected() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "54.243.112.156,100.24.191.35")]).await;
    let message = app.message(Uuid::from_u128(1), "COMPLETE");
    app.post_webhook(&message).await.is_problem(403, "source_not_allowed");
    let forwarded = app.request("POST /webhooks/circle").header("x-forwarded-for", "54.243.112.156");
    forwarded.anonymous().send().await.is_problem(403, "source_not_allowed");
    assert_eq!(app.record_count().await, 0);
}

#[tokio::test]
async fn check_of_the_address_can_be_disabled() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "")]).await;
    accepts_webhook(&app, 1).await;
}

#[tokio::test]
async fn webhook_of_256_kib_is_accepted_and_a_larger_one_rejected() {
    let app = App::at_noon().await;
    let body = |length: usize| {
        let mut message = app.message(Uuid::from_u128(1), "COMPLETE");
        let padding = length - message.to_string().len();
        message["notification"]["errorMessage"] = "x".repeat(padding).into();
        message.to_string()
    };
    let too_large = app.post_signed(body(256 * 1024 + 1).as_bytes()).await;
    too_large.is_problem(413, "body_too_large");
    too_large.mentions("detail", "256 KiB");
    assert_eq!(app.post_signed(body(256 * 1024).as_bytes()).await.outcome(), "applied");
}

#[tokio::test]
async fn head_request_for_the_webhook_is_successful() {
    let app = App::at_noon().await;
    let response = app.request("HEAD /webhooks/circle").anonymous().send().await;
    assert_eq!((response.status, response.body), (200, Value::Null));
}

#[tokio::test]
async fn new_signing_key_is_fetched_once_and_an_old_one_stays_valid() {
    let app = App::at_noon().await;
    let old = app.message(Uuid::from_u128(1), "COMPLETE").to_string();
    let (old_key_id, old_signature) = app.circle.sign(old.as_bytes());
    app.circle.rotate_signing_key();
    accepts_webhook(&app, 2).await;
    let late = app.webhook(old_key_id, &old_signature, old.as_bytes()).send().await;
    assert_eq!(late.outcome(), "applied", "the key of an id never changes");
    assert_eq!(app.circle.call_count(GET_PUBLIC_KEY), 2);
}

#[tokio::test]
async fn webhook_with_a_known_key_is_accepted_while_circle_is_down() {
    let app = App::start().await;
    accepts_webhook(&app, 1).await;
    app.circle.add_fault(Fault { status: Some(503), times: 100, ..Fault::default() });
    accepts_webhook(&app, 2).await;
}

#[tokio::test]
async fn circle_retries_a_webhook_whose_key_was_unavailable() {
    let app = App::start().await;
    let id = app.create_challenge().await;
    app.wait_for_webhook(id, "PENDING", 200).await;
    app.circle.rotate_signing_key();
    app.circle.add_fault(Fault { status: Some(503), times: 3, ..fault_of(GET_PUBLIC_KEY) });
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "IN_PROGRESS", 503).await;
    assert_eq!(app.challenge(id).await["status"], "PENDING");
    in_time(async {
        while app.challenge(id).await["status"] != "COMPLETE" {
            app.advance(SECOND);
        }
    })
    .await;
}

#[tokio::test]
async fn webhook_whose_key_is_unavailable_is_not_accepted() {
    let app = App::start().await;
    // The test message of a new subscription needs a key, too.
    app.wait_for_webhooks(1).await;
    app.circle.add_fault(Fault { status: Some(503), times: 3, ..Fault::default() });
    let body = app.message(Uuid::from_u128(9), "COMPLETE").to_string();
    let (_, signature) = app.circle.sign(body.as_bytes());
    let response = app.webhook(Uuid::from_u128(77), &signature, body.as_bytes()).send().await;
    response.is_problem_with(503, "public_key_unavailable", json!({ "retryAfterSeconds": 10 }));
}

async fn accepts_webhook(app: &App, challenge: u128) {
    let message = app.message(Uuid::from_u128(challenge), "COMPLETE");
    assert_eq!(app.post_webhook(&message).await.outcome(), "applied");
}
