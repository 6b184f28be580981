use std::time::Duration;

use local::circle_simulator::Fault;
use serde_json::{Value, json};
use shared::clock::Clock;

use crate::observed::while_time_passes;
use crate::support::{App, send};

/// A fault of the call that makes a CHANGE_PIN challenge.
fn on_creation() -> Fault {
    Fault { method: Some("PUT".into()), path: Some("/v1/w3s/user/pin".into()), ..Fault::default() }
}

/// A fault of the call that makes a session.
fn on_session() -> Fault {
    Fault { method: Some("POST".into()), path: Some("/v1/w3s/users/token".into()), ..Fault::default() }
}

/// A fault of the call that asks for the user's state.
fn on_user() -> Fault {
    Fault { method: Some("GET".into()), path: Some("/v1/w3s/users/".into()), ..Fault::default() }
}

fn problem(status: u16, code: &str, title: &str, detail: &str) -> Value {
    json!({ "status": status, "code": code, "title": title, "detail": detail })
}

/// Statuses to try where Circle documents a code and not its status.
const UNDOCUMENTED: [u16; 8] = [400, 401, 403, 404, 409, 418, 422, 423];

/// Every row of Circle's table of errors: its code, the HTTP statuses that it comes with, and what the caller is
/// told, beside Circle's code.
fn refusals() -> Vec<(i32, &'static [u16], Value)> {
    let mut without_a_reason = problem(
        502,
        "circle_error",
        "Unexpected answer from Circle",
        "Circle refused the request without a reason. Try again, and report it if it stays.",
    );
    without_a_reason["retryAfterSeconds"] = 2.into();
    let circle_error = |detail| problem(502, "circle_error", "Unexpected answer from Circle", detail);
    let malformed = circle_error(
        "Circle finds the request malformed, which is this service's fault. Report it with the requestId.",
    );
    let there_already =
        circle_error("Circle has what the request would make already. Ask GET /pin how the user stands.");
    let of_the_device = circle_error(
        "Circle refuses what came from the user's device. Start again with a new challenge and its session.",
    );
    let no_challenge = circle_error("Circle does not know the challenge. Start again with a new one.");
    let unknown = circle_error(
        "Circle refused the request in a way that this service does not know; circleCode has its number.",
    );
    let misconfigured = problem(
        500,
        "misconfigured",
        "The service is not set up",
        "Circle refuses the service's API key. Its operator finds the cause in the log.",
    );
    let invalid_user_token = problem(
        400,
        "invalid_user_token",
        "Invalid user token",
        "Circle does not accept the user token. Ask POST /session-tokens for a new one.",
    );
    let user_not_found = problem(
        404,
        "user_not_found",
        "User not found",
        "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
    );
    let user_disabled = problem(
        403,
        "user_disabled",
        "User disabled",
        "Circle has disabled the user. Only the app's operator can help.",
    );
    let pin_not_set = problem(
        409,
        "pin_not_set",
        "PIN not set",
        "The user has no PIN yet. Have the user set one with Circle's SDK first.",
    );
    let security_questions_not_set = problem(
        409,
        "security_questions_not_set",
        "Security questions not set",
        "The user has set no security questions, so the PIN can be changed but not restored.",
    );
    let pin_locked = problem(
        423,
        "pin_locked",
        "PIN locked",
        "PIN entry is locked after too many wrong PINs. Wait until it opens, or restore the PIN with a RESTORE_PIN challenge.",
    );
    let security_answers_locked = problem(
        423,
        "security_answers_locked",
        "Security answers locked",
        "Answering the security questions is locked after too many wrong answers. Wait until it opens.",
    );
    let mut rate_limited = problem(
        503,
        "circle_rate_limited",
        "Circle's rate limit is reached",
        "Circle takes no more calls from this account just now. Try again later.",
    );
    rate_limited["retryAfterSeconds"] = 2.into();
    vec![
        (-1, &[400], without_a_reason),
        (1, &[400], malformed.clone()),
        (2, &[400, 404], malformed),
        (3, &[403], misconfigured.clone()),
        (4, &[401], misconfigured.clone()),
        (401, &[401], misconfigured),
        (155_101, &[409], there_already.clone()),
        (155_102, &[404], user_not_found),
        (155_103, &[401], invalid_user_token.clone()),
        (155_104, &[403], invalid_user_token.clone()),
        (155_105, &[403], invalid_user_token),
        (155_106, &[409], there_already.clone()),
        (155_107, &[409], there_already),
        (155_109, &[403], user_disabled),
        (155_110, &UNDOCUMENTED, pin_not_set),
        (155_111, &UNDOCUMENTED, security_questions_not_set),
        (155_112, &UNDOCUMENTED, of_the_device.clone()),
        (155_115, &UNDOCUMENTED, of_the_device.clone()),
        (155_116, &UNDOCUMENTED, no_challenge),
        (155_118, &UNDOCUMENTED, of_the_device.clone()),
        (155_119, &UNDOCUMENTED, pin_locked),
        (155_120, &UNDOCUMENTED, security_answers_locked),
        (155_121, &UNDOCUMENTED, of_the_device),
        (429, &[429], rate_limited),
        (987_654, &UNDOCUMENTED, unknown),
    ]
}

#[tokio::test]
async fn each_refusal_of_circles_has_its_problem() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1000")]).await;
    send(app.request("POST /session-tokens")).await.is(201);
    for (code, statuses, mut expected) in refusals() {
        expected["circleCode"] = code.into();
        for (call, at) in [
            ("POST /challenges", on_creation()),
            ("POST /session-tokens", on_session()),
            ("GET /pin", on_user()),
        ] {
            for status in statuses {
                app.stack.circle.add_fault(Fault {
                    code: Some(code),
                    status: Some(*status),
                    message: Some("Circle's own words".into()),
                    ..at.clone()
                });
                let answer = while_time_passes(&app.stack.clock, send(app.request(call))).await;
                answer.is_problem(expected.clone());
                assert_eq!(app.stack.circle.faults(), [], "{call} {code}");
            }
        }
    }
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn an_error_without_a_code_is_judged_by_its_status() {
    let app = App::at_noon().await;
    send(app.request("POST /session-tokens")).await.is(201);
    for (status, word) in [
        (302, "circle_error"),
        (400, "circle_error"),
        (401, "misconfigured"),
        (403, "circle_error"),
        (404, "circle_error"),
        (429, "circle_rate_limited"),
        (500, "circle_unavailable"),
        (502, "circle_unavailable"),
        (503, "circle_unavailable"),
        (504, "circle_unavailable"),
    ] {
        let from_a_proxy =
            Fault { status: Some(status), body: Some("<html>".into()), times: 3, ..on_creation() };
        app.stack.circle.add_fault(from_a_proxy);
        let answer = while_time_passes(&app.stack.clock, send(app.request("POST /challenges"))).await;
        assert_eq!(answer.body["code"], word, "{status}: {answer:?}");
        assert_eq!(answer.body.get("circleCode"), None, "{status}: {answer:?}");
        let retry_after = (word != "misconfigured").then_some(json!(2));
        assert_eq!(answer.body.get("retryAfterSeconds"), retry_after.as_ref(), "{status}: {answer:?}");
        app.stack.circle.clear_faults();
    }
}

#[tokio::test]
async fn how_long_circle_asks_to_wait_is_handed_on() {
    let app = App::at_noon().await;
    let fault = Fault { status: Some(429), retry_after: Some("3600".into()), ..on_creation() };
    app.stack.circle.add_fault(fault);
    send(app.request("POST /challenges")).await.is_problem(json!({
        "title": "Circle's rate limit is reached",
        "status": 503,
        "detail": "Circle takes no more calls from this account just now. Try again later.",
        "userMessage": "The wallet service is very busy. Try again at 13:00 UTC.",
        "code": "circle_rate_limited",
        "circleCode": 429,
        "retryAfterSeconds": 3600,
    }));
    assert_eq!(app.stack.circle.call_count("PUT /v1/w3s/user/pin"), 1, "no use in trying before");
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn a_wait_can_be_a_date_and_is_an_hour_at_most() {
    let app = App::at_noon().await;
    app.user_token().await;
    for (said, seconds) in [
        ("Thu, 01 Jan 2026 12:20:00 GMT", 1200),
        ("Thu, 01 Jan 2099 00:00:00 GMT", 3600),
        ("99999999999999999999999", 3600),
        ("0", 2),
        ("Thu, 01 Jan 2026 11:59:59 GMT", 2),
        ("soon", 2),
        ("", 2),
    ] {
        let fault = Fault { status: Some(429), retry_after: Some(said.into()), ..on_creation() };
        app.stack.circle.add_fault(fault);
        let answer = send(app.request("POST /challenges")).await;
        assert_eq!((answer.status, &answer.body["retryAfterSeconds"]), (503, &json!(seconds)), "{said}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_the_caller_does_not_notice() {
    let app = App::start().await;
    for fault in [
        Fault { drop: true, times: 2, ..on_creation() },
        Fault { drop: true, after_effect: true, ..on_creation() },
        Fault { status: Some(503), ..on_creation() },
    ] {
        app.stack.circle.add_fault(fault);
        let answer = send(app.request("POST /challenges")).await;
        answer.is(201);
    }
    assert_eq!(app.stack.circle.challenges().len(), 3, "a repeat makes no second challenge");
}

#[tokio::test]
async fn when_circle_fails_the_caller_is_asked_to_come_again() {
    let app = App::start().await;
    let unavailable = |detail: &str| {
        json!({
            "title": "Circle is unavailable",
            "status": 503,
            "detail": detail,
            "code": "circle_unavailable",
            "retryAfterSeconds": 2,
        })
    };
    app.stack.circle.add_fault(Fault { drop: true, times: 3, ..on_creation() });
    let expected = unavailable(
        "Circle could not be reached. Try again, with the same Idempotency-Key if there was one.",
    );
    send(app.request("POST /challenges")).await.is_problem(expected);

    app.stack.circle.add_fault(Fault {
        status: Some(500),
        times: 3,
        body: Some("<html>".into()),
        ..on_creation()
    });
    let expected =
        unavailable("Circle failed to answer. Try again, with the same Idempotency-Key if there was one.");
    send(app.request("POST /challenges")).await.is_problem(expected);
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_not_passed_on() {
    let app = App::start().await;
    let too_long = format!("{{\"data\": \"{}\"}}", "x".repeat(256 * 1024));
    for body in
        ["<html>", "", "{}", "{\"data\": {}}", "{\"data\": {\"challengeId\": \"no uuid\"}}", &too_long]
    {
        app.stack.circle.add_fault(Fault { status: Some(201), body: Some(body.into()), ..on_creation() });
        send(app.request("POST /challenges")).await.is_problem(json!({
            "title": "Unexpected answer from Circle",
            "status": 502,
            "detail": "Circle's answer could not be read. Try again, and report it if it stays.",
            "code": "circle_error",
            "retryAfterSeconds": 2,
        }));
    }
}

/// Circle's schema calls the key optional, but no device can run a challenge without it.
#[tokio::test]
async fn a_session_without_an_encryption_key_is_not_passed_on() {
    let app = App::start().await;
    app.stack.circle.set_knobs(|knobs| knobs.omit_encryption_key = true);
    for call in ["POST /session-tokens", "POST /challenges"] {
        send(app.request(call)).await.is_problem(json!({
            "title": "Unexpected answer from Circle",
            "status": 502,
            "detail": "Circle's answer could not be read. Try again, and report it if it stays.",
            "code": "circle_error",
            "retryAfterSeconds": 2,
        }));
    }
    assert!(app.stack.circle.challenges().is_empty());
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn a_short_wait_that_circle_asks_for_is_waited_out() {
    let app = App::at_noon().await;
    send(app.request("POST /session-tokens")).await.is(201);
    let before = app.stack.clock.now();
    app.stack.circle.add_fault(Fault { status: Some(429), retry_after: Some("3".into()), ..on_session() });
    let answer = while_time_passes(&app.stack.clock, send(app.request("POST /session-tokens"))).await;
    answer.is(201);
    let waited = app.stack.clock.now() - before;
    assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&waited.unsigned_abs()), "{waited}");
}

#[tokio::test]
async fn a_call_that_hangs_is_made_again_in_time() {
    let app = App::at_noon().await;
    send(app.request("POST /session-tokens")).await.is(201);
    app.stack.circle.add_fault(Fault { delay_ms: 3_600_000, ..on_session() });
    let answer = while_time_passes(&app.stack.clock, send(app.request("POST /session-tokens"))).await;
    answer.is(201);
    assert_eq!(app.stack.circle.call_count("POST /v1/w3s/users/token"), 3, "one before, one lost, one more");
}

#[tokio::test]
async fn no_caller_waits_longer_than_eight_seconds_or_what_is_set() {
    waits_at_most(8, App::at_noon().await).await;
    waits_at_most(4, App::at_noon_with([("REQUEST_TIMEOUT_SECONDS", "4")]).await).await;
}

async fn waits_at_most(seconds: i64, app: App) {
    // What is fetched once is fetched now, so that only the slow calls take time.
    send(app.request("POST /session-tokens")).await.is(201);
    app.stack.circle.add_fault(Fault { delay_ms: 3_600_000, times: 100, ..Fault::default() });
    for call in ["POST /session-tokens", "POST /challenges", "GET /pin"] {
        let before = app.stack.clock.now();
        let answer = while_time_passes(&app.stack.clock, send(app.request(call))).await;
        answer.is_problem(json!({
        "title": "Not done in time",
        "status": 504,
        "detail": "The request could not be answered in time. Try again, with the same Idempotency-Key if there was one.",
        "code": "timeout",
        "retryAfterSeconds": 2,
        }));
        let waited = app.stack.clock.now() - before;
        let limit = time::Duration::seconds(seconds);
        assert!(waited <= limit && waited > limit - 2 * time::Duration::SECOND, "{call}: {waited}");
    }
}
