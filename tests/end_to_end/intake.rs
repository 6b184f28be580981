use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use uuid::Uuid;

use crate::support::{App, send};

const LIMIT: usize = 256 * 1024;

#[tokio::test]
async fn circles_check_of_the_endpoint_is_answered() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "54.243.112.156")]).await;
    let answer = send(app.anonymous("HEAD /webhooks/circle")).await;
    assert_eq!(answer.status, 200, "from any address");
    assert!(answer.headers.contains_key("apigw-requestid"));
    let get = send(app.anonymous("GET /webhooks/circle")).await;
    assert_eq!((get.status, get.body), (404, json!({ "message": "Not Found" })));
}

#[tokio::test]
async fn only_circles_addresses_may_send() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "54.243.112.156,100.24.191.35")]).await;
    let circle = &app.stack.circle;
    let body = app.message(Uuid::from_u128(1), "COMPLETE").to_string();
    let (key_id, signature) = circle.sign(body.as_bytes());
    let request = || app.webhook(&key_id.to_string(), &signature, body.as_bytes());
    for request in [
        request(),
        request().header("x-forwarded-for", "54.243.112.156"),
        request().header("forwarded", "for=54.243.112.156"),
        request().header("x-real-ip", "54.243.112.156"),
    ] {
        send(request).await.is_problem(json!({
            "title": "Source address not allowed",
            "status": 403,
            "detail": "Webhooks are taken from Circle's addresses only (setting CIRCLE_SOURCE_IPS).",
            "code": "source_not_allowed",
        }));
    }
    assert_eq!(app.items().await, 0);
    circle.wait_for_deliveries(1).await;
    assert_eq!(circle.deliveries()[0].status, Some(403), "the simulator is not at Circle's address either");
    assert_eq!(circle.call_count("GET /v2/notifications/publicKey/{keyId}"), 0);
}

#[tokio::test]
async fn the_address_list_can_be_turned_off() {
    let app = App::with_settings([("CIRCLE_SOURCE_IPS", "")]).await;
    let answer = app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await;
    assert_eq!(answer.is(200), &json!({ "outcome": "applied" }));
}

#[tokio::test]
async fn a_webhook_may_have_256_kib() {
    let app = App::at_noon().await;
    let body = app.message(Uuid::from_u128(1), "COMPLETE").to_string();
    let padded = |length: usize| format!("{body}{}", " ".repeat(length - body.len()));
    for content_type in ["application/json", "application/octet-stream"] {
        let too_large = padded(LIMIT + 1);
        let (key_id, signature) = app.stack.circle.sign(too_large.as_bytes());
        let mut request = app.webhook(&key_id.to_string(), &signature, too_large.as_bytes()).build().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        let request = reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request);
        send(request).await.is_problem(json!({
            "title": "Body too large",
            "status": 413,
            "detail": "A webhook may have 256 KiB at most.",
            "code": "body_too_large",
        }));
    }
    assert_eq!(app.items().await, 0);
    let largest = app.post_bytes(padded(LIMIT).as_bytes()).await;
    assert_eq!(largest.is(200), &json!({ "outcome": "applied" }));
}
