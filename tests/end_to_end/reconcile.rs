use std::time::Duration;

use futures_util::future::join;
use local::circle_simulator::{Expiry, Fault, PinEntry};
use local::stack::StackOptions;
use reconcile_challenges::{ReconcileChallenges, StopReason, Summary, reconcile};
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock, Deadline};
use uuid::Uuid;

use crate::observed::{Log, while_time_passes};
use crate::support::{App, DAY, HOUR, MINUTE, NOON, challenge_id, in_time, send};

pub(crate) const NEW_SESSION: &str = "POST /v1/w3s/users/token";
pub(crate) const ASKS_CIRCLE: &str = "GET /v1/w3s/user/challenges/{id}";

/// After it the first look at a new challenge is due, and its user is no longer left alone.
pub(crate) const FIRST_CHECK: Duration = Duration::from_secs(12 * 60);

/// An app at noon whose webhooks are all lost and whose scheduled function runs only when a test says so.
pub(crate) async fn without_webhooks<const N: usize>(settings: [(&str, &str); N]) -> App {
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let clock = AdjustableClock::frozen(NOON);
    let app =
        App::with_options(StackOptions { clock, settings, scheduled: false, ..StackOptions::default() })
            .await;
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    app
}

pub(crate) fn function(app: &App) -> ReconcileChallenges {
    ReconcileChallenges::new(&app.stack.platform).unwrap()
}

/// One run, while time passes where it only waits.
pub(crate) async fn run(app: &App, function: &ReconcileChallenges) -> Summary {
    let deadline = Deadline::after(&app.stack.clock, MINUTE);
    while_time_passes(&app.stack.clock, reconcile(function, deadline)).await.unwrap()
}

/// A challenge of a user made for it.
pub(crate) async fn challenge_of(app: &App, user: &str) -> Uuid {
    app.stack.add_user(user, "112233");
    let bearer = app.stack.sign_in(user);
    challenge_id(send(app.anonymous("POST /challenges").bearer_auth(bearer)).await.is(201))
}

#[tokio::test]
async fn what_no_webhook_said_a_run_finds_out_and_records() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let id = app.challenge().await;
    app.advance(MINUTE);
    app.stack.circle.fail_challenge(id, 155_112, "The PIN is wrong").unwrap();
    app.stack.circle.reset_call_counts();
    assert_eq!(run(&app, &function).await, Summary::default(), "the first look is not due");

    app.advance(FIRST_CHECK);
    let summary = run(&app, &function).await;
    let expected = Summary { due: 1, checks: 1, settled: 1, circle_calls: 2, ..Summary::default() };
    assert_eq!(summary, expected);
    let mut item = app.item(id).await;
    let claim = item.as_object_mut().unwrap().remove("claimedBy").unwrap();
    assert!(Uuid::parse_str(claim.as_str().unwrap()).is_ok());
    assert_eq!(
        item,
        json!({
            "challengeId": id,
            "userId": "alice",
            "type": "CHANGE_PIN",
            "status": "FAILED",
            "rank": 2,
            "reason": "incorrect_pin",
            "errorCode": 155_112,
            "errorMessage": "The PIN is wrong",
            "createdAt": "2026-01-01T12:00:00Z",
            "requestedAt": "2026-01-01T12:00:00Z",
            "updatedAt": "2026-01-01T12:13:00Z",
            "settledBy": "reconcile",
            "retentionSeconds": 90 * 86_400,
            "expiresAt": 1_767_268_800 + 780 + 90 * 86_400,
        })
    );
    assert_eq!(app.status(id).await["failure"]["reason"], "incorrect_pin");
    app.advance(DAY);
    assert_eq!(run(&app, &function).await, Summary::default(), "what is settled costs nothing");
}

#[tokio::test]
async fn the_looks_at_an_open_challenge_are_further_and_further_apart() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let id = app.challenge().await;
    app.stack.circle.start_challenge(id).unwrap();
    let mut age = FIRST_CHECK.as_secs();
    app.advance(FIRST_CHECK);
    let mut looks = 0;
    while age < 36 * HOUR.as_secs() {
        let summary = run(&app, &function).await;
        assert_eq!((summary.open, summary.circle_calls), (1, 2));
        looks += 1;
        assert_eq!(run(&app, &function).await, Summary::default(), "the next one is not due yet");
        let next = app.item(id).await["nextCheckAt"].as_i64().unwrap();
        let wait = Duration::from_secs((next - app.stack.clock.now().unix_timestamp()) as u64);
        let expected = Duration::from_secs(age).min(6 * HOUR);
        assert!(
            wait >= expected - MINUTE && wait <= expected.mul_f64(1.1) + MINUTE,
            "{wait:?} after {age} s"
        );
        app.advance(wait);
        age += wait.as_secs();
    }
    assert!(looks < 12, "{looks}");
    assert_eq!(app.item(id).await["status"], "IN_PROGRESS");
}

#[tokio::test]
async fn two_runs_at_once_do_no_look_twice() {
    let app = without_webhooks([]).await;
    let (one, other) = (function(&app), function(&app));
    for user in 0..20 {
        let id = challenge_of(&app, &format!("user-{user}")).await;
        app.stack.circle.expire_challenge(id, Expiry::Expired).unwrap();
    }
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    let deadline = Deadline::after(&app.stack.clock, MINUTE);
    let runs = join(reconcile(&one, deadline), reconcile(&other, deadline));
    let (one, other) = while_time_passes(&app.stack.clock, runs).await;
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.checks + other.checks, 20, "{one:?} {other:?}");
    assert_eq!(one.settled + other.settled, 20);
    assert_eq!(app.stack.circle.call_count(ASKS_CIRCLE), 20);
}

#[tokio::test]
async fn a_user_with_many_challenges_has_one_session_in_a_run() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for _ in 0..5 {
        let id = app.challenge().await;
        app.stack.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    app.stack.circle.reset_call_counts();
    let summary = run(&app, &function).await;
    assert_eq!((summary.settled, summary.circle_calls), (5, 6));
    assert_eq!(app.stack.circle.call_count(NEW_SESSION), 1);
}

#[tokio::test]
async fn a_pin_entry_in_its_first_ten_minutes_survives_every_poll_and_run() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let circle = &app.stack.circle;
    circle.set_knobs(|knobs| knobs.new_token_ends_old = true);
    let old = app.challenge().await;
    app.advance(FIRST_CHECK);

    let created = send(app.request("POST /challenges")).await;
    let (id, token) = (challenge_id(created.is(201)), created.body["session"]["userToken"].clone());
    circle.start_challenge(id).unwrap();
    circle.reset_call_counts();
    let poll = async |status: &str| {
        let poll = app.request(&format!("GET /challenges/{id}"));
        let answer = send(poll.header("x-user-token", token.as_str().unwrap())).await;
        assert_eq!(answer.is(200)["status"], status);
    };
    for _ in 0..10 {
        let summary = run(&app, &function).await;
        assert_eq!((summary.deferred, summary.checks), (1, 0), "the older challenge has to wait");
        poll("IN_PROGRESS").await;
        app.advance(Duration::from_secs(59));
    }
    assert_eq!(circle.call_count(NEW_SESSION), 0);
    assert_eq!(
        circle.call_count(ASKS_CIRCLE),
        10,
        "each time with the token of the entry, which is good still"
    );
    circle.enter_pin(id, PinEntry::right()).unwrap();
    poll("COMPLETE").await;

    circle.cancel_challenge(old).unwrap();
    app.advance(2 * MINUTE);
    assert_eq!(run(&app, &function).await.settled, 1);
    assert_eq!(app.item(old).await["settledBy"], "reconcile");
}

#[tokio::test]
async fn a_challenge_is_given_up_after_a_week_and_settled_all_the_same() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let id = app.challenge().await;
    app.advance(7 * DAY - MINUTE);
    assert_eq!(run(&app, &function).await.open, 1);
    assert!(app.item(id).await.get("abandonedAt").is_none());
    app.advance(7 * HOUR);
    let log = Log::start();
    let summary = run(&app, &function).await;
    assert_eq!((summary.open, summary.abandoned), (1, 1));
    assert_eq!(metrics(&log), ["challenge_abandoned"]);
    let item = app.item(id).await;
    assert_eq!(
        (&item["abandonedAt"], &item["abandonedReason"]),
        (&json!("2026-01-08T18:59:00Z"), &json!("age"))
    );
    assert!(item.get("nextCheckAt").is_none() && item.get("openShard").is_none(), "{item}");
    app.advance(DAY);
    assert_eq!(run(&app, &function).await, Summary::default());

    let late = app.post(&app.message(id, "COMPLETE")).await;
    assert_eq!(late.is(200), &json!({ "outcome": "applied" }));
    assert_eq!(app.item(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn a_challenge_that_circle_does_not_know_is_believed_lost_after_three_answers_over_a_day() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let lost = challenge_of(&app, "user-of-the-lost").await;
    // Circle knows these, so that most answers are not "unknown".
    let known = [challenge_of(&app, "user-one").await, challenge_of(&app, "user-two").await];
    let path = format!("/v1/w3s/user/challenges/{lost}");
    let fault =
        Fault { path: Some(path), times: 1000, status: Some(404), code: Some(155_116), ..Fault::default() };
    app.stack.circle.add_fault(fault);

    app.advance(FIRST_CHECK);
    assert_eq!(run(&app, &function).await.not_found, 1);
    let mut runs = 1;
    while app.item(lost).await.get("abandonedAt").is_none() {
        let misses = app.item(lost).await["notFoundAt"].as_array().unwrap().len();
        assert_eq!(misses, runs);
        app.advance(7 * HOUR);
        let summary = run(&app, &function).await;
        assert_eq!((summary.not_found, summary.open), (1, 2));
        runs += 1;
    }
    assert_eq!(runs, 5, "the third answer came after 14 hours, the first after a day is the fifth");
    assert_eq!(app.item(lost).await["abandonedReason"], "not_found");
    assert!(app.item(known[0]).await.get("nextCheckAt").is_some());
}

#[tokio::test]
async fn a_challenge_that_circle_knows_after_all_is_not_lost() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let id = app.challenge().await;
    challenge_of(&app, "user-one").await;
    let path = Some(format!("/v1/w3s/user/challenges/{id}"));
    let unknown = Fault { path, status: Some(404), code: Some(155_116), ..Fault::default() };
    app.stack.circle.add_fault(unknown);
    app.advance(FIRST_CHECK);
    run(&app, &function).await;
    assert_eq!(app.item(id).await["notFoundAt"].as_array().unwrap().len(), 1);
    app.advance(HOUR);
    assert_eq!(run(&app, &function).await.open, 2);
    assert!(app.item(id).await.get("notFoundAt").is_none());
}

#[tokio::test]
async fn where_most_challenges_are_unknown_none_is_believed_lost_and_somebody_is_told() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    let mut ids = Vec::new();
    for user in 0..5 {
        ids.push(challenge_of(&app, &format!("user-{user}")).await);
    }
    let unknown = Fault { status: Some(404), code: Some(155_102), times: 1000, ..new_session() };
    app.stack.circle.add_fault(unknown);
    for hours in [1, 8, 16, 24, 32] {
        app.advance(hours * HOUR);
        let log = Log::start();
        assert_eq!(run(&app, &function).await.not_found, 5);
        assert_eq!(metrics(&log), ["most_challenges_not_found"]);
    }
    for id in ids {
        let item = app.item(id).await;
        assert!(item.get("notFoundAt").is_none() && item.get("nextCheckAt").is_some(), "{item}");
    }
}

#[tokio::test]
async fn a_run_makes_no_more_calls_than_it_may_and_runs_take_turns() {
    let app = without_webhooks([("CIRCLE_CALLS_PER_RUN", "20")]).await;
    let function = function(&app);
    for user in 0..25 {
        let id = challenge_of(&app, &format!("user-{user}")).await;
        app.stack.circle.cancel_challenge(id).unwrap();
    }
    app.advance(FIRST_CHECK);
    let mut settled = Vec::new();
    for _ in 0..3 {
        app.stack.circle.reset_call_counts();
        let summary = run(&app, &function).await;
        let calls: u64 = app.stack.circle.call_counts().values().sum();
        assert_eq!(u64::from(summary.circle_calls), calls);
        assert!(calls <= 20);
        settled.push((summary.settled, summary.stopped));
    }
    assert_eq!(settled, [(10, Some(StopReason::Calls)), (10, Some(StopReason::Calls)), (5, None)]);
}

#[tokio::test]
async fn a_run_ends_with_its_time() {
    let app = without_webhooks([]).await;
    let function = function(&app);
    for user in 0..40 {
        challenge_of(&app, &format!("user-{user}")).await;
    }
    app.advance(FIRST_CHECK);
    // Circle takes a second for each answer.
    app.stack.circle.add_fault(Fault { delay_ms: 1000, times: 10_000, ..Fault::default() });
    let before = app.stack.clock.now();
    let deadline = Deadline::after(&app.stack.clock, Duration::from_secs(9));
    let summary = while_time_passes(&app.stack.clock, reconcile(&function, deadline)).await.unwrap();
    let took = app.stack.clock.now() - before;
    assert!(took <= Duration::from_secs(9), "{took}");
    assert_eq!(summary.stopped, Some(StopReason::Time));
    assert!(summary.open > 0 && summary.checks < 40, "{summary:?}");
    app.stack.circle.clear_faults();
    app.advance(6 * MINUTE);
    let rest = run(&app, &function).await;
    assert_eq!(rest.open, 40 - summary.open, "{rest:?}");
}

#[tokio::test]
async fn on_one_machine_the_runs_come_by_the_clock() {
    let clock = AdjustableClock::frozen(NOON);
    let app = App::with_options(StackOptions { clock, ..StackOptions::default() }).await;
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    let id = app.challenge().await;
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(FIRST_CHECK);
    in_time(async {
        while app.status(id).await["status"] != "COMPLETE" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(app.item(id).await["settledBy"], "reconcile");
}

pub(crate) fn new_session() -> Fault {
    Fault { method: Some("POST".into()), path: Some("/v1/w3s/users/token".into()), ..Fault::default() }
}

/// What was counted in the log so far.
pub(crate) fn metrics(log: &Log) -> Vec<String> {
    let lines = log.text();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["metric"].as_str().map(str::to_owned)).collect()
}
