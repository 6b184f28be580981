use local::circle_simulator::{Fault, PinEntry, UserChange, UserStatus};
use local::environment::API_KEY_SECRET;
use local::secrets_manager::InjectedError;
use reconcile_challenges::{StopReason, Summary};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    App, CREATE_SESSION, DAY, DynamoDbProxy, FIRST_CHECK, GET_CHALLENGE, HOUR, Log, MINUTE, Reconciler,
    SECOND, challenge_id, error_of, fault_of_challenge, text,
};

/// A response of Circle's with this status to every call.
fn outage(status: u16) -> Fault {
    Fault { status: Some(status), times: 10_000, ..Fault::default() }
}

fn calls(app: &App) -> u64 {
    app.circle.call_counts().values().sum()
}

#[tokio::test]
async fn run_stops_while_circle_is_down_and_the_next_run_continues() {
    let (app, reconciler) = Reconciler::start([]).await;
    for id in app.create_challenges(30).await {
        app.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    app.circle.add_fault(outage(503));
    let summary = reconciler.run().await;
    assert_eq!(summary.stopped, Some(StopReason::CircleUnavailable));
    assert!(summary.checks <= 10 && summary.failed == summary.checks, "{summary:?}");
    assert!(calls(&app) <= 30, "{} calls, with the retries of each", calls(&app));

    app.circle.clear_faults();
    let rest = reconciler.run().await;
    assert_eq!(rest.settled, 30 - summary.checks, "{rest:?}");
    app.advance(6 * MINUTE);
    assert_eq!(reconciler.run().await.settled, summary.checks, "failed checks are rescheduled");
}

#[tokio::test]
async fn rate_limit_of_circle_stops_the_run_and_delays_the_next_one() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenges(20).await;
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    app.circle.add_fault(Fault { retry_after: Some("900".into()), times: 1, ..outage(429) });
    let log = Log::start();
    assert_eq!(reconciler.run().await.stopped, Some(StopReason::RateLimited));
    assert_eq!(log.metrics().iter().filter(|metric| *metric == "circle_rate_limited").count(), 1);
    let calls_before = calls(&app);
    assert!(calls_before <= 16, "only calls under way are finished: {calls_before}");
    app.advance(14 * MINUTE);
    let idle = Summary { stopped: Some(StopReason::RateLimited), ..Summary::default() };
    assert_eq!(reconciler.run().await, idle);
    assert_eq!(calls(&app), calls_before);
    app.advance(2 * MINUTE);
    assert_eq!(reconciler.run().await.stopped, None);
}

#[tokio::test]
async fn api_key_that_circle_rejects_stops_the_run() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenges(20).await;
    app.advance(FIRST_CHECK);
    app.circle.add_fault(Fault { code: Some(4), ..outage(401) });
    let summary = reconciler.run().await;
    assert_eq!(summary.stopped, Some(StopReason::ApiKey));
    assert!(summary.checks <= 8, "{summary:?}");
    app.circle.clear_faults();
    app.advance(6 * MINUTE);
    assert_eq!(reconciler.run().await.open, 20);
}

#[tokio::test]
async fn failing_checks_do_not_keep_others_from_theirs() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenge_of("user-disabled").await;
    let poisoned = app.create_challenge_of("user-poisoned").await;
    for id in app.create_challenges(10).await {
        app.circle.cancel_challenge(id).unwrap();
    }
    let unreadable = Uuid::from_u128(7);
    app.put_record(json!({
        "challengeId": unreadable, "openShard": 3, "nextCheckAt": 0, "userId": "x",
        "createdAt": "2026-01-01T12:00:00Z",
    }))
    .await;
    let disabled = UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() };
    app.circle.change_user("user-disabled", disabled).unwrap();
    app.circle.add_fault(Fault { status: Some(500), times: 1000, ..fault_of_challenge(poisoned) });

    app.advance(FIRST_CHECK);
    let log = Log::start();
    let summary = reconciler.run().await;
    assert_eq!(summary.settled, 10, "{summary:?}");
    assert_eq!((summary.stopped, summary.due), (None, 13));
    let failures = log.metrics().into_iter().filter(|metric| metric == "check_failed").count();
    assert_eq!(failures as u32, summary.failed);
    for (id, why) in [(poisoned, "Circle"), (unreadable, "userId")] {
        assert!(log.count(&["check_failed", &id.to_string(), why]) > 0, "{id}: {}", log.text());
    }
}

#[tokio::test]
async fn retry_after_stops_the_run_with_any_error() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenges(20).await;
    app.advance(FIRST_CHECK);
    app.circle.add_fault(Fault { retry_after: Some("1200".into()), times: 1, ..outage(503) });
    assert_eq!(reconciler.run().await.stopped, Some(StopReason::CircleUnavailable));
    app.advance(19 * MINUTE);
    app.circle.reset_call_counts();
    assert_eq!(reconciler.run().await.checks, 0);
    assert!(app.circle.call_counts().is_empty());
    app.advance(2 * MINUTE);
    assert!(reconciler.run().await.checks > 0);
}

#[tokio::test]
async fn pages_that_are_not_circles_count_as_an_outage() {
    let (app, reconciler) = Reconciler::start([]).await;
    for id in app.create_challenges(20).await {
        app.circle.cancel_challenge(id).unwrap();
    }
    for (status, body) in [(403, "<html>blocked</html>"), (200, "<html>welcome</html>"), (404, "not here")] {
        app.advance(FIRST_CHECK);
        app.circle.add_fault(Fault { body: Some(body.into()), ..outage(status) });
        let summary = reconciler.run().await;
        let expected = (Some(StopReason::CircleUnavailable), 0);
        assert_eq!((summary.stopped, summary.not_found), expected, "{status}");
        app.circle.clear_faults();
    }
    app.advance(6 * MINUTE);
    assert_eq!(reconciler.run().await.settled, 20, "every check is rescheduled");
}

#[tokio::test]
async fn run_does_not_replace_a_token_that_a_newer_one_ended() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenge().await;
    app.create_challenge().await;
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    app.circle.add_fault(error_of(GET_CHALLENGE, 401, 155_103));
    let summary = reconciler.run().await;
    assert_eq!((summary.due, summary.checks, summary.failed), (2, 1, 1), "{summary:?}");
    assert_eq!(app.circle.call_count(CREATE_SESSION), 1, "a second session would end the newer one");
}

#[tokio::test]
async fn user_without_a_session_costs_one_call_and_raises_no_alarm() {
    let (app, reconciler) = Reconciler::start([]).await;
    for _ in 0..4 {
        app.create_challenge().await;
    }
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    app.circle.add_fault(Fault { times: 100, ..error_of(CREATE_SESSION, 404, 155_102) });
    let log = Log::start();
    let summary = reconciler.run().await;
    assert_eq!((summary.checks, summary.not_found, summary.circle_calls), (1, 1, 1), "{summary:?}");
    assert!(log.metrics().is_empty(), "{:?}", log.metrics());
}

#[tokio::test]
async fn challenge_whose_checks_all_fail_is_checked_until_circle_responds() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.circle.add_fault(Fault { status: Some(500), times: 1000, ..fault_of_challenge(id) });
    app.advance(7 * DAY + HOUR);
    assert_eq!(reconciler.run().await.abandoned, 0);
    for _ in 0..5 {
        app.advance(DAY);
        let summary = reconciler.run().await;
        assert_eq!((summary.checks, summary.failed, summary.abandoned), (1, 1, 0));
        app.advance(HOUR);
        assert_eq!(reconciler.run().await, Summary::default(), "an old challenge is checked less often");
    }
    app.circle.clear_faults();
    app.advance(DAY);
    let summary = reconciler.run().await;
    assert_eq!((summary.open, summary.abandoned), (1, 1), "{summary:?}");
    assert_eq!(app.record(id).await["abandonedReason"], "still_open");
}

#[tokio::test]
async fn challenge_that_circle_rejects_to_return_is_abandoned_a_day_later() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.circle.add_fault(Fault { times: 1000, ..error_of(CREATE_SESSION, 403, 155_109) });
    app.advance(7 * DAY + HOUR);
    assert_eq!(reconciler.run().await.abandoned, 0);
    app.advance(DAY);
    assert_eq!(reconciler.run().await.abandoned, 1);
    assert_eq!(app.record(id).await["abandonedReason"], "checks_failed");
}

#[tokio::test]
async fn check_that_the_deadline_cuts_short_abandons_nothing() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(9 * DAY);
    app.circle.add_fault(Fault { delay_ms: 3_600_000, times: 1000, ..Fault::default() });
    let summary = reconciler.run_within(9 * SECOND).await.unwrap();
    assert_eq!((summary.checks, summary.abandoned, summary.failed), (1, 0, 0), "{summary:?}");
    app.circle.clear_faults();
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(6 * MINUTE);
    assert_eq!(reconciler.run().await.settled, 1);
}

#[tokio::test]
async fn run_without_an_api_key_calls_nobody_and_logs_why() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenge().await;
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    for failure in [InjectedError::InternalServiceError, InjectedError::NoResponse] {
        app.stack.secrets_manager.fail_next(3, failure);
        let log = Log::start();
        let stopped = Some(StopReason::ApiKeyUnavailable);
        assert_eq!(reconciler.run().await, Summary { failed: 1, stopped, ..Summary::default() });
        assert_eq!(log.metrics(), ["check_failed", "api_key_unavailable"]);
    }
    let key = app.circle.api_key();
    app.stack.secrets_manager.put(API_KEY_SECRET, "no-key");
    assert_eq!(reconciler.run().await.stopped, Some(StopReason::ApiKey));
    assert!(app.circle.call_counts().is_empty());
    app.stack.secrets_manager.put(API_KEY_SECRET, &key);
    assert_eq!(reconciler.run().await.open, 1);
}

#[tokio::test]
async fn challenge_of_a_user_who_never_rests_is_checked_before_it_is_abandoned() {
    let (app, reconciler) = Reconciler::start([]).await;
    let changed = app.create_challenge_of("user-restless").await;
    let open = app.create_challenge_of("user-restless").await;
    app.circle.enter_pin(changed, PinEntry::right()).unwrap();
    app.advance(9 * DAY);
    let new = app.create_challenge_of("user-restless").await;
    let summary = reconciler.run().await;
    assert_eq!((summary.deferred, summary.settled, summary.abandoned), (0, 1, 1), "{summary:?}");
    assert_eq!(app.record(changed).await["status"], "COMPLETE");
    let record = app.record(open).await;
    assert_eq!(
        (&record["abandonedReason"], &record["abandonedAt"]),
        (&json!("still_open"), &record["checkedAt"])
    );
    assert!(app.record(new).await.get("nextCheckAt").is_some());
}

#[tokio::test]
async fn error_code_of_an_expired_challenge_settles_it() {
    let (app, reconciler) = Reconciler::start([]).await;
    for (user, status) in [("user-one", 400), ("user-two", 404), ("user-three", 410)] {
        let id = app.create_challenge_of(user).await;
        app.circle.add_fault(Fault { status: Some(status), code: Some(155_121), ..fault_of_challenge(id) });
        app.advance(FIRST_CHECK);
        let summary = reconciler.run().await;
        assert_eq!((summary.settled, summary.failed), (1, 0), "{status}: {summary:?}");
        let record = app.record(id).await;
        let ending = ["status", "reason", "settledBy"].map(|name| text(&record, name));
        assert_eq!(ending, ["EXPIRED", "expired", "reconcile"]);
        assert_eq!(record["circleCode"], 155_121);
    }

    let created = app.post_challenge().send().await;
    let id = challenge_id(created.is(201));
    let token = text(&created.body["session"], "userToken");
    app.circle.add_fault(Fault { status: Some(410), code: Some(155_121), ..fault_of_challenge(id) });
    let polled = app.get_challenge(id).token(token).send().await;
    assert_eq!(polled.is(200)["failure"]["reason"], "expired");
    assert_eq!(app.record(id).await["settledBy"], "poll");
}

#[tokio::test]
async fn invalid_challenge_id_means_that_circle_does_not_know_the_challenge() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.create_challenge_of("user-one").await;
    app.circle.add_fault(Fault { status: Some(400), code: Some(155_122), ..fault_of_challenge(id) });
    app.advance(FIRST_CHECK);
    let summary = reconciler.run().await;
    assert_eq!((summary.not_found, summary.open, summary.failed), (1, 1, 0), "{summary:?}");
    assert_eq!(app.record(id).await["notFoundAt"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_abandoned_with_an_api_key_of_another_account() {
    let (app, reconciler) = Reconciler::start([]).await;
    let ids = app.create_challenges(4).await;
    app.circle.add_fault(Fault { times: 1000, ..error_of(CREATE_SESSION, 404, 155_102) });
    app.advance(9 * DAY);
    assert_eq!(reconciler.run().await.abandoned, 0);
    for id in ids {
        assert!(app.record(id).await.get("nextCheckAt").is_some());
    }
}

#[tokio::test]
async fn check_whose_result_cannot_be_stored_is_retried() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let reconciler = Reconciler::of(&app);
    let id = app.create_challenge().await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(8 * DAY);
    proxy.fail_calls_with(Some("settledBy"));
    let summary = reconciler.run().await;
    assert_eq!((summary.failed, summary.abandoned), (1, 0), "the challenge is not abandoned");
    proxy.fail_calls_with(None);
    app.advance(6 * MINUTE);
    assert_eq!(reconciler.run().await.settled, 1);
    assert_eq!(app.record(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn unreachable_table_fails_the_run() {
    let (app, proxy) = DynamoDbProxy::without_webhooks().await;
    let reconciler = Reconciler::of(&app);
    let id = app.create_challenge().await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(FIRST_CHECK);
    proxy.set_unavailable(&["challenges"]);
    let log = Log::start();
    reconciler.run_within(MINUTE).await.unwrap_err();
    assert!(log.metrics().contains(&"storage_unavailable".to_owned()));
    proxy.set_unavailable(&[]);
    assert_eq!(reconciler.run().await.settled, 1);
}
