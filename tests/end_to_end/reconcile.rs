use std::time::Duration;

use futures_util::future::join;
use local::circle_simulator::{Expiry, Fault, PinEntry};
use reconcile_challenges::{StopReason, Summary};
use serde_json::json;
use shared::clock::Clock;
use uuid::Uuid;

use crate::support::{
    App, CREATE_SESSION, DAY, FIRST_CHECK, GET_CHALLENGE, HOUR, KEY, Log, MINUTE, NOON, Reconciler, SECOND,
    challenge_id, error_of, expected_record, expires_at, not_found_at_circle, text, with,
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
        "updatedAt": "2026-01-01T13:02:00.25Z",
        "checkedAt": "2026-01-01T13:02:00.25Z",
        "expiresAt": expires_at(62 * 60),
        "claimedBy": record["claimedBy"],
        "settledBy": "reconcile",
    });
    assert_eq!(record, with(expected_record(id, "FAILED"), reported));
    assert_eq!(app.challenge(id).await["failure"]["reason"], "incorrect_pin");
    app.advance(DAY);
    assert_eq!(reconciler.run().await, Summary::default(), "a settled challenge is not checked");
}

#[tokio::test]
async fn dry_run_only_counts_what_is_due() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(FIRST_CHECK);
    let record = app.record(id).await;
    app.circle.reset_call_counts();
    let counted = Summary { due: 1, ..Summary::default() };
    assert_eq!(reconciler.invoke(json!({ "dryRun": true }), MINUTE).await, Ok(json!(counted)));
    assert_eq!(app.circle.call_counts().len(), 0);
    assert_eq!(app.record(id).await, record);
    let ordinary_run = reconciler.invoke(json!({ "dryRun": "no" }), MINUTE).await.unwrap();
    assert_eq!(ordinary_run["checks"], 1);
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
    let record = app.record(id).await;
    assert_eq!(record["status"], "IN_PROGRESS");
    assert!(text(&record, "updatedAt").starts_with("2026-01-01T13:01:00"), "{record}");
    assert!(text(&record, "checkedAt") > "2026-01-02", "each check is recorded: {record}");
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
async fn pin_entry_in_its_first_hour_is_not_interrupted() {
    let (app, reconciler) = Reconciler::start([]).await;
    let circle = &app.circle;
    circle.set_knobs(|knobs| knobs.new_token_ends_old = true);
    let old = app.create_challenge().await;
    app.advance(FIRST_CHECK);
    assert_eq!(reconciler.run().await.open, 1);
    // The next check of the old challenge is due.
    app.advance(70 * MINUTE);

    let created = app.post_challenge().send().await;
    let id = challenge_id(created.is(201));
    let token = text(&created.body["session"], "userToken");
    circle.start_challenge(id).unwrap();
    circle.reset_call_counts();
    let poll = async |status: &str| {
        assert_eq!(app.get_challenge(id).token(token).send().await.is(200)["status"], status);
    };
    let mut deferred = 0;
    for _ in 0..10 {
        let summary = reconciler.run().await;
        assert_eq!((summary.due, summary.checks), (summary.deferred, 0), "{summary:?}");
        deferred += summary.deferred;
        poll("IN_PROGRESS").await;
        app.advance(5 * MINUTE);
    }
    assert_eq!(deferred, 2, "the old and the new challenge are deferred, once each");
    assert_eq!(circle.call_count(CREATE_SESSION), 0);
    assert_eq!(circle.call_count(GET_CHALLENGE), 10, "the token of the PIN entry is still valid");
    circle.enter_pin(id, PinEntry::right()).unwrap();
    poll("COMPLETE").await;

    circle.cancel_challenge(old).unwrap();
    app.advance(15 * MINUTE);
    assert_eq!(reconciler.run().await.settled, 1);
    assert_eq!(app.record(old).await["settledBy"], "reconcile");
}

#[tokio::test]
async fn session_without_a_challenge_defers_checks_too() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(55 * MINUTE);
    app.user_token().await;
    app.advance(6 * MINUTE);
    let deferred = Summary { due: 1, deferred: 1, ..Summary::default() };
    assert_eq!(reconciler.run().await, deferred);
    let record = app.record(id).await;
    let times = ["dueAt", "nextCheckAt"].map(|name| record[name].as_i64().unwrap() - NOON.unix_timestamp());
    assert_eq!(
        times,
        [10 * 60, 75 * 60],
        "65 minutes after it was due, although the session lives for longer"
    );
    assert_eq!(
        reconciler.run().await,
        Summary::default(),
        "a deferred check is not read again before its time"
    );

    app.advance(14 * MINUTE);
    assert_eq!(reconciler.run().await.open, 1);
    assert!(app.record(id).await.get("dueAt").is_none());
}

#[tokio::test]
async fn check_that_failed_is_deferred_from_the_time_it_was_first_due() {
    let (app, reconciler) = Reconciler::start([]).await;
    app.create_challenge().await;
    app.advance(FIRST_CHECK);
    app.circle.add_fault(Fault { status: Some(503), times: 1000, ..Fault::default() });
    assert_eq!(reconciler.run().await.failed, 1);
    app.circle.clear_faults();
    app.user_token().await;
    app.advance(6 * MINUTE);
    assert_eq!(reconciler.run().await.deferred, 1);
    app.advance(8 * MINUTE);
    assert_eq!(reconciler.run().await.open, 1, "75 minutes have passed");
}

#[tokio::test]
async fn deferred_checks_do_not_keep_others_from_theirs() {
    let (app, reconciler) = Reconciler::start([]).await;
    let restless = app.add_user("user-restless");
    for _ in 0..9 {
        app.post_challenge().bearer(&restless).send().await.is(201);
    }
    for id in app.create_challenges(3).await {
        app.circle.cancel_challenge(id).unwrap();
    }
    app.advance(59 * MINUTE);
    app.post_session_token().bearer(&restless).send().await.is(201);
    app.advance(2 * MINUTE);
    let summary = reconciler.run().await;
    assert_eq!((summary.due, summary.deferred, summary.settled), (12, 9, 3));
    app.advance(5 * MINUTE);
    assert_eq!(reconciler.run().await, Summary::default());
    app.advance(9 * MINUTE);
    let summary = reconciler.run().await;
    assert_eq!((summary.open, summary.circle_calls), (9, 10), "one session is enough for all of them");
}

#[tokio::test]
async fn thief_who_starts_session_after_session_cannot_hold_off_the_check() {
    let (app, reconciler) = Reconciler::start([]).await;
    let steal = || app.post_challenge().key(KEY).send();
    let id = challenge_id(steal().await.is(201));
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    let mut minutes = 0;
    while app.record(id).await["status"] == "PENDING" {
        assert!(minutes < 90, "nobody is told that the PIN was changed");
        app.advance(MINUTE);
        minutes += 1;
        if minutes % 9 == 0 {
            steal().await.is(200);
        }
        if minutes % 5 == 0 {
            reconciler.run().await;
        }
    }
    println!("the PIN change is recorded {minutes} minutes after it was made");
    let record = app.record(id).await;
    let change = ["previousStatus", "status", "settledBy"].map(|name| text(&record, name));
    assert_eq!(change, ["PENDING", "COMPLETE", "reconcile"]);
    assert!(record["requestedAt"].is_string(), "so consumers are told: {record}");
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
    assert_eq!(log.count(&[r#""metric":"challenge_abandoned""#, r#""reason":"still_open""#]), 1);
    let record = app.record(id).await;
    let values = ["abandonedAt", "abandonedReason", "nextCheckAt", "openShard"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["2026-01-08T18:59:00.5Z", "still_open", null, null]));
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
    app.advance(2 * HOUR);
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
async fn run_keeps_its_pace_and_the_next_run_continues() {
    let (app, reconciler) = Reconciler::start([("CIRCLE_CALLS_PER_SECOND", "3")]).await;
    for id in app.create_challenges(25).await {
        app.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    // Retries keep the pace too.
    app.circle.add_fault(Fault { status: Some(503), times: 2, ..Fault::default() });
    app.circle.reset_call_counts();
    let (mut settled, mut stopped, mut calls) = (0, Vec::new(), Vec::new());
    while settled < 25 {
        let mut count =
            || calls.push((app.clock.monotonic(), app.circle.call_counts().values().sum::<u64>()));
        let summary = reconciler.run_beside(10 * SECOND, Duration::from_millis(50), async || count()).await;
        count();
        settled += summary.settled;
        stopped.push(summary.stopped);
        // A check that the end of the run cut short is due again.
        app.advance(6 * MINUTE);
    }
    for (time, count) in &calls {
        for seconds in [1, 3] {
            let before = calls.iter().rfind(|(earlier, _)| *earlier + seconds * SECOND <= *time);
            let made = count - before.map_or(0, |(_, count)| *count);
            // On a busy machine, a call may arrive a step of the clock later than it was sent.
            assert!(made <= u64::from(3 * seconds + 1), "{made} calls in {seconds} s at {time:?}: {calls:?}");
        }
    }
    // The last run has done its work, perhaps just as its time ended.
    stopped.pop();
    assert!(stopped.len() >= 2, "{stopped:?}");
    assert!(stopped.iter().all(|reason| *reason == Some(StopReason::Time)), "{stopped:?}");
    let rest = reconciler.run().await;
    assert_eq!((rest.stopped, rest.checks), (None, 0));
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
    let app = App::at_noon().await.without_webhooks().await;
    let id = app.create_challenge().await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(FIRST_CHECK);
    app.let_run_work(10 * SECOND).await;
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
    assert_eq!(app.record(id).await["settledBy"], "reconcile");
}
