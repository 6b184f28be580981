use std::sync::Arc;

use futures_util::future::join_all;
use local::circle_simulator::{CircleOptions, CircleSimulator};
use serde_json::{Value, json};
use shared::random::Random;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{App, GET_PUBLIC_KEY, MINUTE, Response, SECOND};

#[tokio::test]
async fn forger_with_a_key_of_the_same_kind_is_rejected() {
    let app = App::at_noon().await;
    let id = app.create_challenge().await;
    app.wait_for_webhook(id, "PENDING", 200).await;
    let record = app.record(id).await;
    let body = app.message(id, "COMPLETE").to_string().into_bytes();
    let (key_id, signature) = app.circle.sign(&body);
    let (forgers_key_id, forged) = start_forger(&app).await.sign(&body);
    let request = |key_id: Uuid, signature: &str| app.webhook(key_id, signature, &body);
    for forgery in [
        request(key_id, &forged),
        request(forgers_key_id, &forged),
        request(forgers_key_id, &signature),
        request(key_id, &signature).header("x-circle-signature", &forged),
        request(key_id, &forged).header("x-circle-signature", &signature),
    ] {
        forgery.send().await.is_problem(401, "invalid_signature");
    }
    assert_eq!(app.record(id).await, record);
    assert_eq!(request(key_id, &signature).send().await.outcome(), "applied");
}

#[tokio::test]
async fn same_json_in_other_bytes_is_rejected() {
    let app = App::at_noon().await;
    let message = app.message(Uuid::from_u128(1), "COMPLETE");
    let body = serde_json::to_string_pretty(&message).unwrap();
    let (key_id, signature) = app.circle.sign(body.as_bytes());
    for other in [
        serde_json::from_str::<Value>(&body).unwrap().to_string(),
        format!("{body}\n"),
        format!("\n{body}"),
        body.replace("COMPLETE", "COMPL\\u0045TE"),
    ] {
        let response = app.webhook(key_id, &signature, other.as_bytes()).send().await;
        response.is_problem(401, "invalid_signature");
    }
    assert_eq!(app.record_count().await, 0);
}

#[tokio::test]
async fn concurrent_webhooks_fetch_a_new_key_once() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    app.wait_for_webhooks(1).await;
    circle.reset_call_counts();
    circle.rotate_signing_key();
    let messages: Vec<_> = (0..20).map(|id| app.message(Uuid::from_u128(id), "COMPLETE")).collect();
    for response in join_all(messages.iter().map(|message| app.post_webhook(message))).await {
        assert_eq!(response.outcome(), "applied");
    }
    assert_eq!(circle.call_count(GET_PUBLIC_KEY), 1);
}

#[tokio::test]
async fn invented_key_ids_do_not_flood_circle() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    app.wait_for_webhooks(1).await;
    circle.reset_call_counts();
    let post_invented = async |id: u128| app.webhook(Uuid::from_u128(id), "AAAA", b"{}").send().await;
    let mut rejected = 0;
    for id in 0..30 {
        let response = post_invented(id).await;
        if response.status == 401 {
            response.is_problem(401, "invalid_signature");
            rejected += 1;
        } else {
            is_undecided(&response);
        }
    }
    assert_eq!(rejected, 19, "twenty fetches are allowed at once, and the test message needed one");
    assert_eq!(circle.call_count(GET_PUBLIC_KEY), 19);
    post_invented(0).await.is_problem(401, "invalid_signature");
    assert_eq!(circle.call_count(GET_PUBLIC_KEY), 19, "an id that Circle does not know is remembered");
    let genuine = app.post_webhook(&app.message(Uuid::from_u128(1), "COMPLETE")).await;
    assert_eq!(genuine.outcome(), "applied", "Circle's own webhooks are still accepted");

    app.advance(SECOND);
    for id in 20..25 {
        post_invented(id).await.is_problem(401, "invalid_signature");
    }
    is_undecided(&post_invented(25).await);
    app.advance(MINUTE);
    post_invented(0).await.is_problem(401, "invalid_signature");
    assert_eq!(circle.call_count(GET_PUBLIC_KEY), 25, "an unknown id is remembered for a limited time");
}

#[track_caller]
fn is_undecided(response: &Response) {
    response.is_problem_with(503, "public_key_unavailable", json!({ "retryAfterSeconds": 10 }));
}

/// Starts a simulator of which the stack knows nothing. It signs with keys that Circle does not have.
async fn start_forger(app: &App) -> CircleSimulator {
    CircleSimulator::start(CircleOptions {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        clock: app.clock.clone(),
        random: Arc::new(Random::from_system()),
        on_api_key_change: None,
    })
    .await
}
