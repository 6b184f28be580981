use std::time::Duration;

use futures_util::future::join;
use local::circle_simulator::{Expiry, Fault, PinEntry};
use reconcile_challenges::{StopReason, Summary};
use serde_json::json;
use shared::clock::Clock;
use uuid::Uuid;

use crate::support::{
    App, CREATE_SESSION, DAY, FIRST_CHECK, GET_CHALLENGE, HOUR, Log, MINUTE, Reconciler, SECOND,
    challenge_id, error_of, expected_record, expires_at, in_time, not_found_at_circle, text, with,
};

#[tokio::test]
async fn run_records_what_lost_webhooks_would_have_reported() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(MINUTE);
    app.circle.fail_challenge(id, 155_112, "The PIN is wrong").unwrap();
    app.circle.reset_call_counts();
    assert_eq!(reconciler.run().await, Summary::default(), "the first check is not due");

    app.advance(FIRST_CHECK);
    let expected = Summary { due: 1, checks: 1, settled: 1, circle_calls: 2, ..Summary::default() };
    assert_eq!(reconciler.run().await, expected);
    let record = app.record(id).await;
    assert!(Uuid::parse_str(text(&record, "claimedBy")).is_ok());
    let reported = json!({
        "reason": "incorrect_pin",
        "circleCode": 155_112,
        "circleMessage": "The PIN is wrong",
        "updatedAt": "2026-01-01T12:13:00Z",
        "expiresAt": expires_at(13 * 60),
        "claimedBy": record["claimedBy"],
        "settledBy": "reconcile",
    });
    assert_eq!(record, with(expected_record(id, "FAILED"), reported));
    assert_eq!(app.challenge(id).await["failure"]["reason"], "incorrect_pin");
    app.advance(DAY);
    assert_eq!(reconciler.run().await, Summary::default(), "a settled challenge is not checked");
}

#[tokio::test]
async fn checks_of_an_open_challenge_become_less_frequent() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.circle.start_challenge(id).unwrap();
    let mut age = FIRST_CHECK;
    app.advance(FIRST_CHECK);
    let mut checks = 0;
    while age < 36 * HOUR {
        let summary = reconciler.run().await;
        assert_eq!((summary.open, summary.circle_calls), (1, 2));
        checks += 1;
        assert_eq!(reconciler.run().await, Summary::default(), "the next check is not due yet");
        let next = app.record(id).await["nextCheckAt"].as_i64().unwrap();
        let wait = Duration::from_secs((next - app.clock.now().unix_timestamp()) as u64);
        let expected = age.min(6 * HOUR);
        let expected = expected - MINUTE..=expected.mul_f64(1.1) + MINUTE;
        assert!(expected.contains(&wait), "{wait:?} after {age:?}");
        app.advance(wait);
        age += wait;
    }
    assert!(checks < 12, "{checks}");
    assert_eq!(app.record(id).await["status"], "IN_PROGRESS");
}

#[tokio::test]
async fn concurrent_runs_make_each_check_once() {
    let (app, first) = Reconciler::start([]).await;
    let second = Reconciler::of(&app);
    for id in app.create_challenges(20).await {
        app.circle.expire_challenge(id, Expiry::Expired).unwrap();
    }
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    let (first, second) = app.let_time_pass(join(first.reconcile(MINUTE), second.reconcile(MINUTE))).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.checks + second.checks, 20, "{first:?} {second:?}");
    assert_eq!(first.settled + second.settled, 20);
    assert_eq!(app.circle.call_count(GET_CHALLENGE), 20);
}

#[tokio::test]
async fn user_with_many_challenges_has_one_session_in_a_run() {
    let (app, reconciler) = Reconciler::start([]).await;
    for _ in 0..5 {
        let id = app.create_challenge().await;
        app.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    app.circle.reset_call_counts();
    let summary = reconciler.run().await;
    assert_eq!((summary.settled, summary.circle_calls), (5, 6));
    assert_eq!(app.circle.call_count(CREATE_SESSION), 1);
}

#[tokio::test]
async fn pin_entry_in_its_first_ten_minutes_is_not_interrupted() {
    let (app, reconciler) = Reconciler::start([]).await;
    let circle = &app.circle;
    circle.set_knobs(|knobs| knobs.new_token_ends_old = true);
    let old = app.create_challenge().await;
    app.advance(FIRST_CHECK);

    let created = app.post_challenge().send().await;
    let id = challenge_id(created.is(201));
    let token = text(&created.body["session"], "userToken");
    circle.start_challenge(id).unwrap();
    circle.reset_call_counts();
    let poll = async |status: &str| {
        assert_eq!(app.get_challenge(id).token(token).send().await.is(200)["status"], status);
    };
    for _ in 0..10 {
        let summary = reconciler.run().await;
        assert_eq!((summary.deferred, summary.checks), (1, 0), "the older challenge is deferred");
        poll("IN_PROGRESS").await;
        app.advance(59 * SECOND);
    }
    assert_eq!(circle.call_count(CREATE_SESSION), 0);
    assert_eq!(circle.call_count(GET_CHALLENGE), 10, "the token of the PIN entry is still valid");
    circle.enter_pin(id, PinEntry::right()).unwrap();
    poll("COMPLETE").await;

    circle.cancel_challenge(old).unwrap();
    app.advance(2 * MINUTE);
    assert_eq!(reconciler.run().await.settled, 1);
    assert_eq!(app.record(old).await["settledBy"], "reconcile");
}

#[tokio::test]
async fn challenge_is_abandoned_after_a_week_and_can_still_be_settled() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(7 * DAY - MINUTE);
    assert_eq!(reconciler.run().await.open, 1);
    assert!(app.record(id).await.get("abandonedAt").is_none());
    app.advance(7 * HOUR);
    let log = Log::start();
    let summary = reconciler.run().await;
    assert_eq!((summary.open, summary.abandoned), (1, 1));
    assert_eq!(log.metrics(), ["challenge_abandoned"]);
    let record = app.record(id).await;
    let values = ["abandonedAt", "abandonedReason", "nextCheckAt", "openShard"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["2026-01-08T18:59:00Z", "age", null, null]));
    app.advance(DAY);
    assert_eq!(reconciler.run().await, Summary::default());

    assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "applied");
    assert_eq!(app.record(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn challenge_that_circle_does_not_find_three_times_over_a_day_is_abandoned() {
    let (app, reconciler) = Reconciler::start([]).await;
    let lost = app.create_challenge_of("user-of-the-lost").await;
    // Circle finds these, so that most checks find their challenge.
    let known = app.create_challenges(2).await;
    app.circle.add_fault(Fault { times: 1000, ..not_found_at_circle(lost) });

    app.advance(FIRST_CHECK);
    assert_eq!(reconciler.run().await.not_found, 1);
    // The third response comes after 14 hours. The first one after a day is the fifth.
    for responses in 1..5 {
        let record = app.record(lost).await;
        assert_eq!(record["notFoundAt"].as_array().unwrap().len(), responses);
        assert!(record.get("abandonedAt").is_none(), "{record}");
        app.advance(7 * HOUR);
        let summary = reconciler.run().await;
        assert_eq!((summary.not_found, summary.open), (1, 2));
    }
    let record = app.record(lost).await;
    assert!(record["abandonedAt"].is_string(), "{record}");
    assert_eq!(record["abandonedReason"], "not_found");
    assert!(app.record(known[0]).await.get("nextCheckAt").is_some());
}

#[tokio::test]
async fn challenge_that_circle_finds_again_is_not_abandoned() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.create_challenge_of("user-one").await;
    app.circle.add_fault(not_found_at_circle(id));
    app.advance(FIRST_CHECK);
    reconciler.run().await;
    assert_eq!(app.record(id).await["notFoundAt"].as_array().unwrap().len(), 1);
    app.advance(HOUR);
    assert_eq!(reconciler.run().await.open, 2);
    assert!(app.record(id).await.get("notFoundAt").is_none());
}

#[tokio::test]
async fn no_challenge_is_abandoned_while_circle_finds_hardly_any() {
    let (app, reconciler) = Reconciler::start([]).await;
    let ids = app.create_challenges(5).await;
    app.circle.add_fault(Fault { times: 1000, ..error_of(CREATE_SESSION, 404, 155_102) });
    for hours in [1, 8, 16, 24, 32] {
        app.advance(hours * HOUR);
        let log = Log::start();
        assert_eq!(reconciler.run().await.not_found, 5);
        assert_eq!(log.metrics(), ["most_challenges_not_found"]);
    }
    for id in ids {
        let record = app.record(id).await;
        assert!(record.get("notFoundAt").is_none() && record.get("nextCheckAt").is_some(), "{record}");
    }
}

#[tokio::test]
async fn run_keeps_its_budget_and_the_next_run_continues() {
    let (app, reconciler) = Reconciler::start([("CIRCLE_CALLS_PER_RUN", "20")]).await;
    for id in app.create_challenges(25).await {
        app.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    let mut settled = Vec::new();
    for _ in 0..3 {
        app.circle.reset_call_counts();
        let summary = reconciler.run().await;
        let calls: u64 = app.circle.call_counts().values().sum();
        assert_eq!(u64::from(summary.circle_calls), calls);
        assert!(calls <= 20);
        settled.push((summary.settled, summary.stopped));
    }
    assert_eq!(settled, [(10, Some(StopReason::Calls)), (10, Some(StopReason::Calls)), (5, None)]);
}

#[tokio::test]
async fn run_ends_before_its_deadline() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenges(40).await;
    app.advance(FIRST_CHECK);
    // Each response of Circle's takes a second.
    app.circle.add_fault(Fault { delay_ms: 1000, times: 10_000, ..Fault::default() });
    let (summary, took) = app.timed(reconciler.reconcile(9 * SECOND)).await;
    let summary = summary.unwrap();
    assert!(took <= 9 * SECOND, "{took:?}");
    assert_eq!(summary.stopped, Some(StopReason::Time));
    assert!(summary.open > 0 && summary.checks < 40, "{summary:?}");
    app.circle.clear_faults();
    app.advance(6 * MINUTE);
    let rest = reconciler.run().await;
    assert_eq!(rest.open, 40 - summary.open, "{rest:?}");
}

#[tokio::test]
async fn local_stack_reconciles_on_a_schedule() {
    let app = App::at_noon().await.without_webhooks();
    let id = app.create_challenge().await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(FIRST_CHECK);
    in_time(async {
        while app.challenge(id).await["status"] != "COMPLETE" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(app.record(id).await["settledBy"], "reconcile");
}
