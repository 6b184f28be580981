use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use local::circle_simulator::{CircleOptions, CircleSimulator, UserTokenKey};
use local::dynamodb::RATE_LIMITS_TABLE;
use local::stack::StackOptions;
use receive_webhook::{ReceiveWebhook, handle};
use serde_json::{Value, json};
use shared::random::Random;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{App, DynamoDbProxy, GET_PUBLIC_KEY, MINUTE, NOON, Response, SECOND, noon, owned};

/// The form of a signature: two numbers, 1 and 1.
const A_SIGNATURE: &str = "MAYCAQECAQE=";

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
    let post_invented = async |id: u128| app.webhook(Uuid::from_u128(id), A_SIGNATURE, b"{}").send().await;
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

#[tokio::test]
async fn genuine_webhooks_get_through_to_a_cold_instance_in_a_flood_of_forged_ones() {
    let settings = owned([("CIRCLE_SOURCE_IPS", "")]);
    let (app, proxy) = DynamoDbProxy::start(StackOptions { settings, ..noon() }).await;
    // One instance has verified the test message.
    let app = app.without_webhooks().await;
    app.circle.reset_call_counts();
    let cold = ReceiveWebhook::new(&app.stack.platform).unwrap();
    let post = async |key_id: Uuid, signature: &str, body: &[u8]| {
        let Ok(response) = handle(&cold, webhook_event(key_id, signature, body)).await;
        Response::of_function(&response, "request-1")
    };
    let mut invented = (1000..).map(Uuid::from_u128);
    let mut forged = async |count: usize| {
        let mut statuses = BTreeMap::new();
        for id in invented.by_ref().take(count) {
            *statuses.entry(post(id, A_SIGNATURE, b"{}").await.status).or_insert(0) += 1;
        }
        statuses
    };
    let flood = async { assert_eq!(forged(200).await, [(401, 20), (503, 180)].into()) };
    assert_eq!(
        proxy.operations_of(flood).await,
        ["GetItem rate-limits"],
        "a flood costs one read in a second"
    );
    for second in 1..=10 {
        let body = app.message(Uuid::from_u128(second), "COMPLETE").to_string();
        let (key_id, signature) = app.circle.sign(body.as_bytes());
        assert_eq!(post(key_id, &signature, body.as_bytes()).await.outcome(), "applied");
        app.advance(SECOND);
        assert_eq!(forged(100).await, [(401, 5), (503, 95)].into());
    }
    assert_eq!(app.circle.call_count(GET_PUBLIC_KEY), 20 + 1 + 10 * 5);
    assert_eq!(app.record_count().await, 10);
    let ids = [app.circle.sign(b"").0.to_string()];
    assert_eq!(
        app.table_items(RATE_LIMITS_TABLE).await,
        [json!({
            "limitKey": "public-keys", "keyIds": ids, "expiresAt": NOON.unix_timestamp() + 7 * 86_400,
        })]
    );
}

/// An event of API Gateway with a webhook.
fn webhook_event(key_id: Uuid, signature: &str, body: &[u8]) -> lambda_http::Request {
    let event = json!({
        "version": "2.0",
        "routeKey": "POST /webhooks/circle",
        "rawPath": "/webhooks/circle",
        "rawQueryString": "",
        "headers": { "x-circle-key-id": key_id, "x-circle-signature": signature },
        "requestContext": {
            "http": {
                "method": "POST", "path": "/webhooks/circle", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                "userAgent": "",
            },
            "requestId": "request-1",
            "stage": "$default",
            "timeEpoch": 0,
        },
        "body": std::str::from_utf8(body).unwrap(),
        "isBase64Encoded": false,
    });
    shared::lambda::request(&event, lambda_http::Context::default())
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
        user_token_key: UserTokenKey::generate_in_background(),
        on_api_key_change: None,
    })
    .await
}
