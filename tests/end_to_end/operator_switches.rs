//! What the operator can do with items of the rate limits table, without a deployment.

use local::dynamodb::RATE_LIMITS_TABLE;
use local::stack::StackOptions;
use serde_json::json;

use crate::support::{
    App, DynamoDbProxy, GET_CHALLENGE, HOUR, KEY, MINUTE, SECOND, challenge_id, in_time, noon, with,
};

/// The key of alice's item.
const ALICE: &str = "f786ac4a65ff28248bcc3fb8d27c868ba921d1339551d6fe4aa9ffdd3175a1b4";

#[tokio::test]
async fn blocked_user_is_rejected_without_a_call_to_circle_until_unblocked() {
    // Reconciliation would ask Circle about the user's challenge.
    let app = App::with_options(StackOptions { scheduled: false, ..noon() }).await.without_webhooks().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    let items = app.rate_limit_items().await;
    let item = items.iter().find(|item| item["limitKey"] == ALICE).unwrap().clone();
    let blocked = with(item, json!({ "blocked": "reported as stolen", "expiresAt": null }));
    app.put_item(RATE_LIMITS_TABLE, blocked.clone()).await;
    let before = app.caller_calls();
    // Five hours later, the user token has expired.
    for check_error in ["user_blocked", "invalid_user_token"] {
        for request in [
            app.post_session_token(),
            app.post_challenge(),
            app.post_challenge().token(&token).key(KEY),
            app.get_pin(),
        ] {
            request.send().await.is_problem(403, "user_blocked");
        }
        let polled = app.get_challenge(id).token(&token).send().await;
        assert_eq!(polled.is(200)["checkError"]["code"], check_error);
        assert_eq!(polled.body["status"], "PENDING");
        let listed = app.get_challenges("").send().await;
        assert_eq!(listed.is(200)["challenges"].as_array().unwrap().len(), 1);
        assert_eq!(app.caller_calls(), before);
        let items = app.rate_limit_items().await;
        assert!(items.contains(&blocked), "the item is kept as the operator wrote it: {items:?}");
        // The time to live that the item had before passes, and DynamoDB removes the item that counts challenges.
        app.advance(5 * HOUR);
        in_time(async {
            while app.rate_limit_items().await.len() > 1 {
                app.advance(MINUTE);
            }
        })
        .await;
    }
    app.create_challenge_of("bobby").await;

    app.delete_item(RATE_LIMITS_TABLE, "limitKey", ALICE).await;
    app.create_challenge().await;
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 0);
}

#[tokio::test]
async fn user_without_an_item_can_be_blocked_too_and_costs_one_call() {
    let (app, proxy) = DynamoDbProxy::start(noon()).await;
    app.wait_for_webhooks(1).await;
    app.put_item(RATE_LIMITS_TABLE, json!({ "limitKey": ALICE, "blocked": "support ticket 7" })).await;
    let rejected = async { app.post_session_token().send().await.is_problem(403, "user_blocked") };
    assert_eq!(proxy.operations_of(rejected).await, ["UpdateItem rate-limits"]);
    app.post_challenge().send().await.is_problem(403, "user_blocked");
}

#[tokio::test]
async fn new_challenges_can_be_stopped_for_everybody_within_half_a_minute() {
    let app = App::at_noon().await.without_webhooks().await;
    let bobby = app.add_user("bobby");
    let open = challenge_id(app.post_challenge().key(KEY).send().await.is(201));
    app.put_item(RATE_LIMITS_TABLE, json!({ "limitKey": "challenges-stopped" })).await;
    app.advance(29 * SECOND);
    app.create_challenge().await;
    app.advance(SECOND);
    let token = app.user_token().await;
    let before = (app.caller_calls(), app.rate_limit_items().await.len());
    for request in [
        app.post_challenge(),
        app.post_challenge().key(KEY),
        app.post_challenge().restore().token(&token),
        app.post_challenge().bearer(&bobby),
    ] {
        let response = request.send().await;
        response.is_problem_with(503, "challenges_stopped", json!({ "retryAfterSeconds": 60 }));
    }
    assert_eq!(app.caller_calls(), before.0);
    assert_eq!(app.rate_limit_items().await.len(), before.1 + 1, "bobby's, and no challenge is counted");

    // Everything else still works.
    app.get_pin().send().await.is(200);
    assert_eq!(app.get_challenge(open).token(&token).send().await.is(200)["status"], "PENDING");

    app.delete_item(RATE_LIMITS_TABLE, "limitKey", "challenges-stopped").await;
    app.advance(30 * SECOND);
    app.create_challenge().await;
    assert_eq!(challenge_id(app.post_challenge().key(KEY).send().await.is(200)), open);
}
