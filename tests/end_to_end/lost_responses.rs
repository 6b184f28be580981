//! The AWS SDK retries a call whose response was lost, and the retry finds the effect of the first attempt.

use local::circle_simulator::PinEntry;
use local::stack::StackOptions;
use serde_json::json;

use crate::support::{
    App, CREATE_CHANGE_PIN, DAY, DynamoDbProxy, FIRST_CHECK, GET_CHALLENGE, KEY, Log, MINUTE, NOON,
    Reconciler, challenge_id, noon, not_found_at_circle, owned,
};

/// Does the work while the first response to each update is lost. Returns the updates, with their retries.
async fn lose_responses<T>(
    app: &App,
    proxy: &DynamoDbProxy,
    work: impl Future<Output = T>,
) -> (T, Vec<String>) {
    proxy.lose_responses();
    let mut output = None;
    let operations = proxy.operations_of(async { output = Some(app.let_time_pass(work).await) }).await;
    (output.unwrap(), operations.into_iter().filter(|call| call.starts_with("UpdateItem")).collect())
}

#[tokio::test]
async fn challenge_is_recorded_and_counted_once() {
    let log = Log::start();
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let (created, updates) = lose_responses(&app, &proxy, app.post_challenge().key(KEY).send()).await;
    let id = challenge_id(created.is(201));
    let of_table = |table: &str| updates.iter().filter(|call| call.ends_with(table)).count();
    // The limit of a user who has just sent another request takes two updates, and two more count the challenge and
    // remember it.
    assert_eq!((of_table("rate-limits"), of_table("challenges")), (8, 2), "each twice");
    let [calls, challenges] = &app.rate_limit_items().await[..] else { panic!("two items") };
    let (calls, challenges) =
        if calls.get("keys").is_none() { (calls, challenges) } else { (challenges, calls) };
    assert_eq!(
        calls["callsTat"],
        (NOON.unix_timestamp() + 2 * 5) * 1000,
        "two requests, of five seconds each"
    );
    let counted = ["keys", "challenges"].map(|set| challenges[set].as_array().unwrap().len());
    assert_eq!(counted, [1, 1]);
    let record = app.record(id).await;
    assert_eq!((&record["status"], &record["userId"]), (&json!("PENDING"), &json!("alice")));
    assert_eq!(app.circle.call_count(CREATE_CHANGE_PIN), 1);
    assert_eq!(log.count(&[r#""ChallengesCreated":1"#]), 1);
}

#[tokio::test]
async fn last_request_of_a_burst_is_allowed() {
    let options = StackOptions { settings: owned([("CALL_BURST", "5")]), scheduled: false, ..noon() };
    let (app, proxy) = DynamoDbProxy::start(options).await;
    for _ in 0..4 {
        app.user_token().await;
    }
    let (last, updates) = lose_responses(&app, &proxy, app.get_pin().send()).await;
    last.is(200);
    assert_eq!(updates.len(), 4, "two updates, each twice: {updates:?}");
    assert_eq!(app.let_time_pass(app.get_pin().send()).await.status, 429);
}

#[tokio::test]
async fn challenge_with_an_earlier_final_webhook_is_recorded_once() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let id = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.delete_record(id).await;
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    let log = Log::start();
    let (retried, updates) = lose_responses(&app, &proxy, app.post_challenge().key(KEY).send()).await;
    assert_eq!(retried.is(200)["status"], "COMPLETE");
    let of_challenges = updates.iter().filter(|call| call.ends_with("challenges")).count();
    assert_eq!(of_challenges, 4, "the creation finds a settled record: {updates:?}");
    assert!(app.record(id).await["requestedAt"].is_string());
    for measured in ["ChallengesCreated", "ChallengesSettled"] {
        assert_eq!(log.count(&[&format!(r#""{measured}":1"#)]), 1, "{measured}");
    }
}

#[tokio::test]
async fn webhook_recognises_its_own_write() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let id = app.create_challenge().await;
    let message = app.message(id, "COMPLETE");
    let (response, updates) = lose_responses(&app, &proxy, app.post_webhook(&message)).await;
    assert_eq!(response.outcome(), "duplicate", "another webhook's write would make it stale");
    assert_eq!(updates.len(), 2);
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn claimed_poll_is_made_once() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    let (polled, updates) = lose_responses(&app, &proxy, app.get_challenge(id).token(&token).send()).await;
    assert_eq!(polled.is(200)["status"], "COMPLETE");
    assert_eq!(updates.len(), 6, "the limit, the claim and the report, each twice");
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 1);
    assert_eq!(app.record(id).await["settledBy"], "poll");
}

#[tokio::test]
async fn claimed_check_is_made_and_a_challenge_is_abandoned_once() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let reconciler = Reconciler::of(&app);
    let (settled, open) = (app.create_challenge().await, app.create_challenge().await);
    app.circle.enter_pin(settled, PinEntry::right()).unwrap();
    app.advance(8 * DAY);
    let (summary, updates) = lose_responses(&app, &proxy, reconciler.run()).await;
    assert_eq!((summary.checks, summary.settled, summary.abandoned, summary.failed), (2, 1, 1, 0));
    assert_eq!(
        updates.len(),
        10,
        "two claims, a report, a confirmation, an abandonment, each twice: {updates:?}"
    );
    assert_eq!(app.record(settled).await["settledBy"], "reconcile");
    assert_eq!(app.record(open).await["abandonedReason"], "still_open");
}

#[tokio::test]
async fn abandoned_challenge_is_resumed_once() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let reconciler = Reconciler::of(&app);
    let id = app.create_challenge().await;
    app.advance(8 * DAY);
    assert_eq!(reconciler.run().await.abandoned, 1);
    let command = reconciler.invoke(json!({ "challengeIds": [id] }), MINUTE);
    let (response, updates) = lose_responses(&app, &proxy, command).await;
    assert_eq!(response.unwrap()["challenges"][0]["outcome"], "resumed");
    assert_eq!(updates.len(), 2);
}

#[tokio::test]
async fn check_that_finds_no_challenge_counts_once() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let reconciler = Reconciler::of(&app);
    let (unknown, known) = (app.create_challenge().await, app.create_challenge().await);
    app.circle.add_fault(not_found_at_circle(unknown));
    app.advance(FIRST_CHECK);
    let (summary, _) = lose_responses(&app, &proxy, reconciler.run()).await;
    assert_eq!((summary.not_found, summary.open), (1, 1));
    assert_eq!(app.record(unknown).await["notFoundAt"].as_array().unwrap().len(), 1);
    assert!(app.record(known).await.get("notFoundAt").is_none());
}
