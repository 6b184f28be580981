use local::circle_simulator::{Fault, PinEntry, UserChange, UserStatus};
use local::secrets_manager::InjectedError;
use local::stack::API_KEY_SECRET;
use reconcile_challenges::{StopReason, Summary, reconcile};
use serde_json::json;
use shared::clock::Deadline;
use uuid::Uuid;

use crate::dynamodb_proxy::DynamoDbProxy;
use crate::observed::{Log, while_time_passes};
use crate::reconcile::{
    FIRST_CHECK, NEW_SESSION, challenge_of, function, metrics, new_session, run, without_webhooks,
};
use crate::support::{App, DAY, HOUR, MINUTE};

#[tokio::test]
async fn a_run_ends_early_when_circle_is_down_and_the_next_one_takes_up_the_rest() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for user in 0..30 {
        let id = challenge_of(&app, &format!("user-{user}")).await;
        app.stack.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    app.stack.circle.add_fault(Fault { status: Some(503), times: 10_000, ..Fault::default() });
    let summary = run(&app, &function).await;
    assert_eq!(summary.stopped, Some(StopReason::CircleUnavailable));
    assert!(summary.checks <= 10 && summary.failed == summary.checks, "{summary:?}");
    let calls: u64 = app.stack.circle.call_counts().values().sum();
    assert!(calls <= 30, "{calls} calls, with the repeats of each");

    app.stack.circle.clear_faults();
    let rest = run(&app, &function).await;
    assert_eq!(rest.settled, 30 - summary.checks, "{rest:?}");
    app.advance(6 * MINUTE);
    assert_eq!(
        run(&app, &function).await.settled,
        summary.checks,
        "those that met the outage come again soon"
    );
}

#[tokio::test]
async fn a_rate_limit_ends_the_run_and_is_kept_to() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for user in 0..20 {
        challenge_of(&app, &format!("user-{user}")).await;
    }
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    let limit = Fault { status: Some(429), retry_after: Some("900".into()), times: 1, ..Fault::default() };
    app.stack.circle.add_fault(limit);
    let log = Log::start();
    let summary = run(&app, &function).await;
    assert_eq!(summary.stopped, Some(StopReason::RateLimited));
    assert_eq!(metrics(&log).iter().filter(|metric| *metric == "circle_rate_limited").count(), 1);
    let calls = |app: &App| app.stack.circle.call_counts().values().sum::<u64>();
    let calls_then = calls(&app);
    assert!(calls_then <= 16, "only what was under way is finished: {calls_then}");
    app.advance(14 * MINUTE);
    let quiet = Summary { stopped: Some(StopReason::RateLimited), ..Summary::default() };
    assert_eq!(run(&app, &function).await, quiet);
    assert_eq!(calls(&app), calls_then);
    app.advance(2 * MINUTE);
    assert_eq!(run(&app, &function).await.stopped, None);
}

#[tokio::test]
async fn an_api_key_that_circle_refuses_ends_the_run() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for user in 0..20 {
        challenge_of(&app, &format!("user-{user}")).await;
    }
    app.advance(FIRST_CHECK);
    let refused = Fault { status: Some(401), code: Some(4), times: 10_000, ..Fault::default() };
    app.stack.circle.add_fault(refused);
    let summary = run(&app, &function).await;
    assert_eq!(summary.stopped, Some(StopReason::ApiKey));
    assert!(summary.checks <= 8, "{summary:?}");
    app.stack.circle.clear_faults();
    app.advance(6 * MINUTE);
    assert_eq!(run(&app, &function).await.open, 20);
}

#[tokio::test]
async fn one_bad_challenge_keeps_no_other_from_its_look() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    challenge_of(&app, "user-disabled").await;
    let poisoned = challenge_of(&app, "user-poisoned").await;
    let mut good = Vec::new();
    for user in 0..10 {
        good.push(challenge_of(&app, &format!("user-{user}")).await);
        app.stack.circle.cancel_challenge(good[user]).unwrap();
    }
    let unreadable = Uuid::from_u128(7);
    app.put_item(json!({
        "challengeId": unreadable.to_string(), "openShard": 3, "nextCheckAt": 0, "userId": "x",
        "createdAt": "2026-01-01T12:00:00Z",
    }))
    .await;
    let off = UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() };
    app.stack.circle.change_user("user-disabled", off).unwrap();
    let path = Some(format!("/v1/w3s/user/challenges/{poisoned}"));
    app.stack.circle.add_fault(Fault { path, status: Some(500), times: 1000, ..Fault::default() });

    app.advance(FIRST_CHECK);
    let log = Log::start();
    let summary = run(&app, &function).await;
    assert_eq!(summary.settled, 10, "{summary:?}");
    assert_eq!((summary.stopped, summary.due), (None, 13));
    let failures = metrics(&log).into_iter().filter(|metric| metric == "check_failed").count();
    assert_eq!(failures as u32, summary.failed);
    assert!(log.text().contains(&poisoned.to_string()), "each failure names its challenge");
    assert!(log.text().contains("no readable userId"), "{}", log.text());
}

#[tokio::test]
async fn a_wait_that_circle_asks_for_ends_the_run_whatever_the_error() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for user in 0..20 {
        challenge_of(&app, &format!("user-{user}")).await;
    }
    app.advance(FIRST_CHECK);
    let closed = Fault { status: Some(503), retry_after: Some("1200".into()), ..Fault::default() };
    app.stack.circle.add_fault(closed);
    assert_eq!(run(&app, &function).await.stopped, Some(StopReason::CircleUnavailable));
    app.advance(19 * MINUTE);
    app.stack.circle.reset_call_counts();
    assert_eq!(run(&app, &function).await.checks, 0);
    assert!(app.stack.circle.call_counts().is_empty());
    app.advance(2 * MINUTE);
    assert!(run(&app, &function).await.checks > 0);
}

#[tokio::test]
async fn pages_that_are_not_circles_are_an_outage_too() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for user in 0..20 {
        let id = challenge_of(&app, &format!("user-{user}")).await;
        app.stack.circle.cancel_challenge(id).unwrap();
    }
    for (status, body) in [(403, "<html>blocked</html>"), (200, "<html>welcome</html>"), (404, "not here")] {
        app.advance(FIRST_CHECK);
        let page = Fault { status: Some(status), body: Some(body.into()), times: 1000, ..Fault::default() };
        app.stack.circle.add_fault(page);
        let summary = run(&app, &function).await;
        assert_eq!(
            (summary.stopped, summary.not_found),
            (Some(StopReason::CircleUnavailable), 0),
            "{status}"
        );
        app.stack.circle.clear_faults();
    }
    app.advance(6 * MINUTE);
    assert_eq!(run(&app, &function).await.settled, 20, "all of them come again soon");
}

#[tokio::test]
async fn a_token_that_was_ended_by_a_newer_one_ends_the_users_turn() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    app.challenge().await;
    app.challenge().await;
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    let path = Some("/v1/w3s/user/challenges/".into());
    app.stack.circle.add_fault(Fault { path, status: Some(401), code: Some(155_103), ..Fault::default() });
    let summary = run(&app, &function).await;
    assert_eq!((summary.due, summary.checks, summary.failed), (2, 1, 1), "{summary:?}");
    assert_eq!(
        app.stack.circle.call_count(NEW_SESSION),
        1,
        "no second session, which would end the newer one"
    );
}

#[tokio::test]
async fn a_user_without_a_session_costs_one_call_and_wakes_nobody() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for _ in 0..4 {
        app.challenge().await;
    }
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    let deleted = Fault { status: Some(404), code: Some(155_102), times: 100, ..new_session() };
    app.stack.circle.add_fault(deleted);
    let log = Log::start();
    let summary = run(&app, &function).await;
    assert_eq!((summary.checks, summary.not_found, summary.circle_calls), (1, 1, 1), "{summary:?}");
    assert!(metrics(&log).is_empty());
}

#[tokio::test]
async fn a_challenge_whose_looks_only_fail_is_given_up_a_day_later_than_others() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let id = app.challenge().await;
    let path = Some(format!("/v1/w3s/user/challenges/{id}"));
    app.stack.circle.add_fault(Fault { path, status: Some(500), times: 1000, ..Fault::default() });
    app.advance(7 * DAY + HOUR);
    assert_eq!(run(&app, &function).await.abandoned, 0);
    app.advance(DAY);
    assert_eq!(run(&app, &function).await.abandoned, 1);
    assert_eq!(app.item(id).await["abandonedReason"], "age");
}

#[tokio::test]
async fn a_look_that_the_end_of_the_run_cuts_short_gives_nothing_up() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let id = app.challenge().await;
    app.advance(9 * DAY);
    app.stack.circle.add_fault(Fault { delay_ms: 3_600_000, times: 1000, ..Fault::default() });
    let deadline = Deadline::after(&app.stack.clock, std::time::Duration::from_secs(7));
    let summary = while_time_passes(&app.stack.clock, reconcile(&function, deadline)).await.unwrap();
    assert_eq!((summary.checks, summary.abandoned, summary.failed), (1, 0, 0), "{summary:?}");
    app.stack.circle.clear_faults();
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(6 * MINUTE);
    assert_eq!(run(&app, &function).await.settled, 1);
}

#[tokio::test]
async fn a_run_without_an_api_key_calls_nobody_and_says_whose_fault_it_is() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    app.challenge().await;
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    for (failure, stop, metric) in [
        (InjectedError::InternalServiceError, StopReason::ApiKeyUnavailable, "api_key_unavailable"),
        (InjectedError::NoResponse, StopReason::ApiKeyUnavailable, "api_key_unavailable"),
    ] {
        app.stack.secrets_manager.fail_next(3, failure);
        let log = Log::start();
        let summary = run(&app, &function).await;
        let expected = Summary { failed: 1, stopped: Some(stop), ..Summary::default() };
        assert_eq!(summary, expected);
        assert_eq!(metrics(&log), ["check_failed", metric]);
    }
    let key = app.stack.circle.api_key();
    app.stack.secrets_manager.put(API_KEY_SECRET, "no-key");
    assert_eq!(run(&app, &function).await.stopped, Some(StopReason::ApiKey));
    assert!(app.stack.circle.call_counts().is_empty());
    app.stack.secrets_manager.put(API_KEY_SECRET, &key);
    assert_eq!(run(&app, &function).await.open, 1);
}

#[tokio::test]
async fn a_challenge_of_a_user_who_never_rests_is_given_up_all_the_same() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let old = challenge_of(&app, "user-restless").await;
    app.advance(8 * DAY);
    let again = challenge_of(&app, "user-restless").await;
    app.stack.circle.reset_call_counts();
    let summary = run(&app, &function).await;
    assert_eq!((summary.deferred, summary.abandoned, summary.circle_calls), (1, 1, 0), "{summary:?}");
    assert_eq!(app.item(old).await["abandonedReason"], "age");
    assert!(app.item(again).await.get("nextCheckAt").is_some());
}

#[tokio::test]
async fn with_a_key_of_another_account_nothing_is_given_up() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let mut ids = Vec::new();
    for user in 0..4 {
        ids.push(challenge_of(&app, &format!("user-{user}")).await);
    }
    let unknown = Fault { status: Some(404), code: Some(155_102), times: 1000, ..new_session() };
    app.stack.circle.add_fault(unknown);
    app.advance(9 * DAY);
    assert_eq!(run(&app, &function).await.abandoned, 0);
    for id in ids {
        assert!(app.item(id).await.get("nextCheckAt").is_some());
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_down_is_asked_for_again() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let function = function(&app);
    let id = app.challenge().await;
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(8 * DAY);
    table.fail_calls_that_say(Some("settledBy"));
    let summary = run(&app, &function).await;
    assert_eq!((summary.failed, summary.abandoned), (1, 0), "what Circle said is not given up");
    table.fail_calls_that_say(None);
    app.advance(6 * MINUTE);
    assert_eq!(run(&app, &function).await.settled, 1);
    assert_eq!(app.item(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn a_table_that_cannot_be_reached_fails_the_run() {
    let (app, table) = DynamoDbProxy::without_webhooks().await;
    let function = function(&app);
    let id = app.challenge().await;
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(FIRST_CHECK);
    table.set_down(&["challenges"]);
    let log = Log::start();
    let deadline = Deadline::after(&app.stack.clock, MINUTE);
    let failed = while_time_passes(&app.stack.clock, reconcile(&function, deadline)).await;
    assert_eq!(failed.unwrap_err().to_string(), "the table cannot be reached; due challenges stay due");
    assert!(metrics(&log).contains(&"storage_unavailable".to_owned()));
    table.set_down(&[]);
    assert_eq!(run(&app, &function).await.settled, 1);
}
