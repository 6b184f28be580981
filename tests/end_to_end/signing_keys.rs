use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use local::circle_simulator::{CircleOptions, CircleSimulator};
use serde_json::json;
use shared::random::Random;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{Answer, App, MINUTE, send};

const ASKS_FOR_KEY: &str = "GET /v2/notifications/publicKey/{keyId}";

#[tokio::test]
async fn a_forger_with_a_key_of_the_same_kind_is_refused() {
    let app = App::at_noon().await;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    let item = app.item(id).await;
    let body = app.message(id, "COMPLETE").to_string().into_bytes();
    let (key_id, signature) = app.stack.circle.sign(&body);
    let (forgers_key_id, forged) = forger(&app).await.sign(&body);
    let request = |key_id: Uuid, signature: &str| app.webhook(&key_id.to_string(), signature, &body);
    for forgery in [
        request(key_id, &forged),
        request(forgers_key_id, &forged),
        request(forgers_key_id, &signature),
        request(key_id, &signature).header("x-circle-signature", &forged),
        request(key_id, &forged).header("x-circle-signature", &signature),
    ] {
        is_not_circles(&send(forgery).await);
    }
    assert_eq!(app.item(id).await, item);
    assert_eq!(send(request(key_id, &signature)).await.is(200), &json!({ "outcome": "applied" }));
}

#[tokio::test]
async fn the_same_json_in_other_bytes_is_refused() {
    let app = App::at_noon().await;
    let id = Uuid::from_u128(1);
    let body = serde_json::to_string_pretty(&app.message(id, "COMPLETE")).unwrap();
    let (key_id, signature) = app.stack.circle.sign(body.as_bytes());
    let compact = serde_json::from_str::<serde_json::Value>(&body).unwrap().to_string();
    for other in
        [compact, format!("{body}\n"), format!("\n{body}"), body.replace("COMPLETE", "COMPL\\u0045TE")]
    {
        is_not_circles(&send(app.webhook(&key_id.to_string(), &signature, other.as_bytes())).await);
    }
    assert_eq!(app.items().await, 0);
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
