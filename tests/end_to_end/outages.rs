use std::time::Duration;

use local::circle_simulator::PinEntry;
use local::dynamodb::CHALLENGES_TABLE;
use local::secrets_manager::InjectedError;
use local::stack::StackOptions;
use uuid::Uuid;

use crate::support::{App, DynamoDbProxy, GET_PUBLIC_KEY, KEY, SECOND, challenge_id, hanging, wait_until};

/// When the simulator retries a webhook whose response was not 200: so late that the test has to move the clock.
const RETRY: Duration = Duration::from_secs(600);
const RETRY_FACTOR: f64 = 600.0;

#[tokio::test]
async fn webhook_waits_for_a_public_key_for_at_most_two_seconds() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    let id = app.create_challenge().await;
    app.wait_for_webhook(id, "PENDING", 200).await;
    circle.set_knobs(|knobs| knobs.retry_factor = RETRY_FACTOR);
    circle.rotate_signing_key();
    circle.add_fault(hanging(GET_PUBLIC_KEY));
    circle.start_challenge(id).unwrap();
    wait_until(|| circle.call_count(GET_PUBLIC_KEY) == 2).await;
    app.advance(2 * SECOND);
    app.wait_for_webhook(id, "IN_PROGRESS", 503).await;
    assert_eq!(app.challenge(id).await["status"], "PENDING");
    app.advance(RETRY);
    app.wait_for_webhook(id, "IN_PROGRESS", 200).await;
    assert_eq!(app.challenge(id).await["status"], "IN_PROGRESS");
}

#[tokio::test]
async fn table_catches_up_after_an_outage() {
    let (app, proxy) = DynamoDbProxy::start(StackOptions::default()).await;
    let circle = &app.circle;
    circle.set_knobs(|knobs| knobs.retry_factor = RETRY_FACTOR);
    proxy.set_unavailable(&[CHALLENGES_TABLE]);
    app.post_challenge().key(KEY).send().await.is_storage_unavailable();
    let id = circle.challenges()[0].id;
    app.wait_for_webhook(id, "PENDING", 503).await;
    proxy.set_unavailable(&[]);
    app.advance(RETRY);
    app.wait_for_webhook(id, "PENDING", 200).await;
    let created = app.post_challenge().key(KEY).send().await;
    assert_eq!(challenge_id(created.is(200)), id);

    proxy.set_unavailable(&[CHALLENGES_TABLE]);
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "IN_PROGRESS", 503).await;
    app.wait_for_webhook(id, "COMPLETE", 503).await;
    app.get_challenge(id).send().await.is_storage_unavailable();
    app.post_webhook(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is_storage_unavailable();
    proxy.set_unavailable(&[]);
    assert_eq!(app.challenge(id).await["status"], "PENDING");
    app.advance(RETRY);
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn throttled_call_is_retried_and_then_reported_as_unavailable() {
    let options = StackOptions { scheduled: false, ..StackOptions::default() };
    let (app, proxy) = DynamoDbProxy::start(options).await;
    // Only the calls of this test may use up what is throttled.
    let app = app.without_webhooks().await;
    proxy.throttle(2);
    let id = app.create_challenge().await;
    proxy.throttle(1);
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    proxy.throttle(3);
    app.get_challenge(id).send().await.is_storage_unavailable();
    proxy.throttle(3);
    app.post_webhook(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is_storage_unavailable();
    proxy.throttle(3);
    app.post_challenge().send().await.is_storage_unavailable();
    assert_eq!(app.circle.challenges().len(), 1, "without a rate limit check, no challenge is created");
}

#[tokio::test]
async fn webhook_with_a_known_key_is_accepted_while_secrets_manager_is_down() {
    let app = App::start().await;
    let id = app.create_challenge().await;
    app.wait_for_webhook(id, "PENDING", 200).await;
    let reads = app.stack.secrets_manager.reads();
    app.stack.secrets_manager.fail_next(1000, InjectedError::NoResponse);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    assert_eq!(app.stack.secrets_manager.reads(), reads);
}
