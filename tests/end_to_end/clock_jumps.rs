//! The wall clock of a Lambda can be set, forward or back, while a request is in progress.

use local::circle_simulator::{Fault, PinEntry};
use serde_json::json;
use shared::clock::Clock;
use time::Duration as Jump;

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_SESSION, GET_CHALLENGE, GET_PUBLIC_KEY, GET_USER_BY_ID, MINUTE, SECOND,
    challenge_id, fault_of, wait_until,
};

const JUMPS: [Jump; 2] = [Jump::minutes(10), Jump::minutes(-10)];

/// Does the work. While Circle takes a second for the call, the wall clock jumps.
async fn with_jump<T>(app: &App, call: &str, jump: Jump, work: impl Future<Output = T>) -> T {
    let before = app.circle.call_count(call);
    app.circle.add_fault(Fault { delay_ms: 1000, ..fault_of(call) });
    let jumping = async {
        wait_until(|| app.circle.call_count(call) > before).await;
        app.clock.jump_wall_clock(jump);
        app.advance(SECOND);
    };
    let (output, ()) = tokio::join!(work, jumping);
    output
}

/// An app whose clock can be set back without making a token look as if it came from the future.
async fn start() -> App {
    let app = App::at_noon().await.without_webhooks().await;
    // The simulator takes some time to prepare its first token.
    app.user_token().await;
    app.advance(20 * MINUTE);
    app
}

#[tokio::test]
async fn jump_during_a_call_to_circle_changes_nothing_for_the_caller() {
    for jump in JUMPS {
        let app = start().await;
        with_jump(&app, CREATE_SESSION, jump, app.post_session_token().send()).await.is(201);
        with_jump(&app, GET_USER_BY_ID, -jump, app.get_pin().send()).await.is(200);
        let created = with_jump(&app, CREATE_CHANGE_PIN, jump, app.post_challenge().send()).await;
        let id = challenge_id(created.is(201));
        let token = created.body["session"]["userToken"].as_str().unwrap();
        app.circle.start_challenge(id).unwrap();
        let polled = with_jump(&app, GET_CHALLENGE, -jump, app.get_challenge(id).token(token).send()).await;
        assert_eq!(polled.is(200)["status"], "IN_PROGRESS");
        assert_eq!(polled.body.get("checkError"), None);
        app.circle.rotate_signing_key();
        app.circle.enter_pin(id, PinEntry::right()).unwrap();
        let message = app.message(id, "COMPLETE");
        let response = with_jump(&app, GET_PUBLIC_KEY, jump, app.post_webhook(&message)).await;
        assert_eq!(response.outcome(), "applied");
        assert_eq!(app.challenge(id).await["status"], "COMPLETE");
    }
}

/// The deadline of a request is neither reached early nor missed.
#[tokio::test]
async fn request_to_a_circle_that_hangs_ends_in_time_despite_jumps() {
    for jump in JUMPS {
        let app = start().await;
        app.circle.add_fault(Fault { delay_ms: 3_600_000, times: 100, ..fault_of(GET_USER_BY_ID) });
        let before = app.circle.call_count(GET_USER_BY_ID);
        let started = app.clock.monotonic();
        let jumping = async {
            wait_until(|| app.circle.call_count(GET_USER_BY_ID) > before).await;
            app.clock.jump_wall_clock(jump);
        };
        let request = async { tokio::join!(app.get_pin().send(), jumping).0 };
        let response = app.let_time_pass(request).await;
        response.is_problem_with(504, "timeout", json!({ "retryAfterSeconds": 2 }));
        let took = app.clock.monotonic() - started;
        assert!((6 * SECOND..=8 * SECOND).contains(&took), "{took:?}");
    }
}

/// A retry waits as long as ever.
#[tokio::test]
async fn retry_is_made_despite_a_jump() {
    for jump in JUMPS {
        let app = start().await;
        app.circle.add_fault(Fault { status: Some(503), ..fault_of(CREATE_SESSION) });
        let before = app.circle.call_count(CREATE_SESSION);
        let jumping = async {
            wait_until(|| app.circle.call_count(CREATE_SESSION) > before).await;
            app.clock.jump_wall_clock(jump);
        };
        let request = async { tokio::join!(app.post_session_token().send(), jumping).0 };
        app.let_time_pass(request).await.is(201);
        assert_eq!(app.circle.call_count(CREATE_SESSION), before + 2);
    }
}
