use std::collections::BTreeSet;
use std::sync::Arc;

use create_challenge::CreateChallenge;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use get_challenge::GetChallenge;
use local::circle_simulator::{Fault, PinEntry};
use receive_webhook::ReceiveWebhook;
use reconcile_challenges::ReconcileChallenges;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, DynamoDbProxy, KEY, MINUTE, SECOND, challenge_id, fault_of, in_time, noon, with,
};

const CHECK_RATE_LIMIT: &str = "UpdateItem rate-limits";
const COUNT_CHALLENGE: &str = CHECK_RATE_LIMIT;
const REMEMBER_KEY: &str = CHECK_RATE_LIMIT;
const CONFIRM_KEY: &str = CHECK_RATE_LIMIT;
const READ_SWITCH: &str = "GetItem rate-limits";
const READ_CONFIRMED_KEYS: &str = READ_SWITCH;
const OPEN_CONNECTION: &str = "DescribeEndpoints several tables";
const READ_RECORD: &str = "GetItem challenges";
/// These write different things with the same call.
const WRITE_CREATION: &str = "UpdateItem challenges";
const APPLY_REPORT: &str = WRITE_CREATION;
const CLAIM_POLL: &str = WRITE_CREATION;
const CONFIRM: &str = WRITE_CREATION;

#[tokio::test]
async fn webhook_calls_the_table_at_most_once_unless_its_key_is_new() {
    let (app, proxy) = start().await;
    let id = app.create_challenge().await;
    let complete = app.message(id, "COMPLETE");
    for (message, outcome) in [
        (app.message(id, "IN_PROGRESS"), "applied"),
        (complete.clone(), "applied"),
        (complete, "duplicate"),
        (app.message(id, "FAILED"), "stale"),
        (app.message(Uuid::from_u128(1), "COMPLETE"), "applied"),
    ] {
        let post = async { assert_eq!(app.post_webhook(&message).await.outcome(), outcome) };
        assert_eq!(proxy.operations_of(post).await, [APPLY_REPORT], "{outcome}");
    }
    let without_effect = async {
        let message = with(app.message(id, "COMPLETE"), json!({ "notificationType": "webhooks.test" }));
        assert_eq!(app.post_webhook(&message).await.outcome(), "ignored");
        assert_eq!(app.post_signed(b"{}").await.status, 422);
        let (key_id, _) = app.circle.sign(b"");
        assert_eq!(app.webhook(key_id, "MAYCAQECAQE=", b"{}").send().await.status, 401);
        assert_eq!(app.request("HEAD /webhooks/circle").anonymous().send().await.status, 200);
    };
    assert_eq!(proxy.operations_of(without_effect).await, [""; 0]);
    app.circle.rotate_signing_key();
    let with_new_key = async {
        assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "stale");
    };
    let operations: BTreeSet<_> = proxy.operations_of(with_new_key).await.into_iter().collect();
    assert_eq!(operations, [APPLY_REPORT, CONFIRM_KEY].map(str::to_owned).into());
}

/// Everything but the limit of the user's calls, which takes two updates while the user is busy.
async fn beyond_call_limit(proxy: &DynamoDbProxy, work: impl Future) -> Vec<String> {
    let operations = proxy.operations_of(work).await;
    // These calls run at the same time as others.
    let mut others: Vec<_> = operations.into_iter().collect();
    for _ in 0..2 {
        let limit = others.iter().position(|call| call == CHECK_RATE_LIMIT).unwrap();
        others.remove(limit);
    }
    others.sort();
    others
}

#[tokio::test]
async fn creation_counts_the_challenge_writes_it_once_and_remembers_its_key() {
    let (app, proxy) = start().await;
    let create = async |status| challenge_id(app.post_challenge().key(KEY).send().await.is(status));
    assert_eq!(proxy.operations_of(app.user_token()).await, [CHECK_RATE_LIMIT], "the user was idle");
    assert_eq!(proxy.operations_of(app.user_token()).await, [CHECK_RATE_LIMIT; 2]);
    assert_eq!(proxy.operations_of(app.get_pin().send()).await, [CHECK_RATE_LIMIT; 2]);
    let first = beyond_call_limit(&proxy, app.create_challenge()).await;
    assert_eq!(first, [READ_SWITCH, WRITE_CREATION, COUNT_CHALLENGE]);
    let with_key = [WRITE_CREATION, COUNT_CHALLENGE, REMEMBER_KEY];
    assert_eq!(beyond_call_limit(&proxy, create(201)).await, with_key, "the switch is known");
    let retry = [READ_RECORD, WRITE_CREATION, COUNT_CHALLENGE, REMEMBER_KEY];
    assert_eq!(beyond_call_limit(&proxy, create(200)).await, retry, "a retry of an open challenge");
    let id = create(200).await;
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    let operations = beyond_call_limit(&proxy, create(200)).await;
    assert_eq!(operations, [READ_RECORD, COUNT_CHALLENGE], "a retry of a settled challenge");

    // Circle creates the challenge, but its response is lost.
    let lost = Fault { status: Some(400), after_effect: true, ..fault_of(CREATE_CHANGE_PIN) };
    app.circle.add_fault(lost);
    let other = || app.post_challenge().key(Uuid::from_u128(7));
    let failed = async { assert_eq!(other().send().await.status, 502) };
    assert_eq!(beyond_call_limit(&proxy, failed).await, [COUNT_CHALLENGE]);
    let id = app.circle.challenges().last().unwrap().id;
    assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "applied");
    let completed = async { assert_eq!(other().send().await.is(200)["status"], "COMPLETE") };
    let operations = beyond_call_limit(&proxy, completed).await;
    assert_eq!(operations, [WRITE_CREATION, WRITE_CREATION, COUNT_CHALLENGE, REMEMBER_KEY]);
}

#[tokio::test]
async fn status_calls_the_table_once_and_a_poll_at_most_five_times() {
    let (app, proxy) = start().await;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    let get = |id| app.get_challenge(id).send();
    let poll = || app.get_challenge(id).token(&token).send();
    assert_eq!(proxy.operations_of(get(id)).await, [READ_RECORD]);
    assert_eq!(proxy.operations_of(get(Uuid::from_u128(7))).await, [READ_RECORD], "an unknown challenge");
    assert_eq!(
        proxy.operations_of(poll()).await,
        [READ_RECORD, CHECK_RATE_LIMIT, CLAIM_POLL, CONFIRM],
        "Circle has no news"
    );
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    let operations = proxy.operations_of(poll()).await;
    let limit_of_busy_user = [CHECK_RATE_LIMIT, CHECK_RATE_LIMIT];
    let expected = [&[READ_RECORD], &limit_of_busy_user[..], &[CLAIM_POLL]].concat();
    assert_eq!(operations, expected, "Circle was asked just now");
    app.advance(3 * SECOND);
    let operations = proxy.operations_of(poll()).await;
    assert_eq!(operations, [&expected[..], &[APPLY_REPORT]].concat());
    app.advance(MINUTE);
    assert_eq!(proxy.operations_of(poll()).await, [READ_RECORD], "the challenge is settled");
}

#[tokio::test]
async fn function_that_starts_opens_its_connections() {
    let (app, proxy) = start().await;
    let platform = &app.stack.platform;
    let create_challenge = CreateChallenge::new(platform).unwrap();
    let get_challenge = GetChallenge::new(platform).unwrap();
    let receive_webhook = ReceiveWebhook::new(platform).unwrap();
    let reconcile_challenges = ReconcileChallenges::new(platform).unwrap();
    let connections = async |warm_up: BoxFuture<'_, ()>| {
        app.circle.reset_call_counts();
        let to_table = proxy.operations_of(in_time(warm_up)).await;
        (app.circle.call_count("GET /ping"), to_table)
    };
    // The creation of a challenge asks Circle two things at once.
    let two = [OPEN_CONNECTION; 2].map(str::to_owned).to_vec();
    assert_eq!(connections(create_challenge.warm_up().boxed()).await, (2, two));
    let one = vec![OPEN_CONNECTION.to_owned()];
    assert_eq!(connections(get_challenge.warm_up().boxed()).await, (1, one));
    let confirmed_keys = vec![READ_CONFIRMED_KEYS.to_owned()];
    assert_eq!(connections(receive_webhook.warm_up().boxed()).await, (1, confirmed_keys));
    assert_eq!(connections(reconcile_challenges.warm_up().boxed()).await, (1, Vec::new()));
}

/// An app at noon whose simulator sends no webhooks by itself.
async fn start() -> (App, Arc<DynamoDbProxy>) {
    let (app, proxy) = DynamoDbProxy::start(noon()).await;
    (app.without_webhooks().await, proxy)
}
