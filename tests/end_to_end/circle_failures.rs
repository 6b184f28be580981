use std::time::Duration;

use local::circle::Fault;
use serde_json::json;

use crate::observed::while_time_passes;
use crate::support::{App, send};

/// A fault of the call that makes a CHANGE_PIN challenge.
fn on_creation() -> Fault {
    Fault { method: Some("PUT".into()), path: Some("/v1/w3s/user/pin".into()), ..Fault::default() }
}

/// Every row of Circle's table of errors: its code, an HTTP status that it comes with, and what the caller is
/// told.
const REFUSALS: [(i32, u16, u16, &str); 22] = [
    (-1, 400, 502, "circle_error"),
    (1, 400, 502, "circle_error"),
    (2, 400, 502, "circle_error"),
    (2, 404, 502, "circle_error"),
    (3, 403, 500, "misconfigured"),
    (4, 401, 500, "misconfigured"),
    (401, 401, 500, "misconfigured"),
    (155_101, 409, 502, "circle_error"),
    (155_102, 404, 404, "user_not_found"),
    (155_103, 401, 400, "invalid_user_token"),
    (155_105, 403, 400, "invalid_user_token"),
    (155_106, 409, 502, "circle_error"),
    (155_107, 409, 502, "circle_error"),
    (155_109, 403, 403, "user_disabled"),
    (155_110, 400, 409, "pin_not_set"),
    (155_111, 409, 409, "security_questions_not_set"),
    (155_112, 400, 502, "circle_error"),
    (155_116, 404, 502, "circle_error"),
    (155_119, 403, 423, "pin_locked"),
    (155_120, 422, 423, "security_answers_locked"),
    (429, 429, 503, "circle_rate_limited"),
    (987_654, 418, 502, "circle_error"),
];

#[tokio::test]
async fn each_refusal_of_circles_has_its_problem() {
    let app = App::start().await;
    for (code, circles_status, status, word) in REFUSALS {
        // A rate limit is waited out twice before it is handed on.
        let times = if circles_status == 429 { 3 } else { 1 };
        let fault = Fault {
            code: Some(code),
            status: Some(circles_status),
            times,
            message: Some("Circle's own words".into()),
            ..Fault::default()
        };
        for (call, fault) in [
            ("POST /challenges", Fault { ..on_creation() }),
            ("POST /session-tokens", Fault { path: Some("/v1/w3s/users/token".into()), ..Fault::default() }),
        ]
        .map(|(call, at)| (call, Fault { method: at.method, path: at.path, ..fault.clone() }))
        {
            app.stack.circle.clear_faults();
            app.stack.circle.add_fault(fault);
            let answer = send(app.request(call)).await;
            let told = (answer.status, answer.body["code"].as_str(), &answer.body["circleCode"]);
            assert_eq!(told, (status, Some(word), &json!(code)), "{call} {code}: {answer:?}");
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            assert!(!answer.body.to_string().contains("own words"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn how_long_circle_asks_to_wait_is_handed_on() {
    let app = App::start().await;
    let fault = Fault { status: Some(429), retry_after: Some("3600".into()), ..on_creation() };
    app.stack.circle.add_fault(fault);
    send(app.request("POST /challenges")).await.is_problem(json!({
        "title": "Circle's rate limit is reached",
        "status": 503,
        "detail": "Circle takes no more calls from this account just now. Try again later.",
        "code": "circle_rate_limited",
        "circleCode": 429,
        "retryAfterSeconds": 3600,
    }));
    assert_eq!(app.stack.circle.call_count("PUT /v1/w3s/user/pin"), 1, "no use in trying before");
    assert_eq!(app.items().await, 0);
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
        assert!([200, 201].contains(&answer.status), "{answer:?}");
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
    let expected = unavailable("Circle could not be reached. Try again with the same Idempotency-Key.");
    send(app.request("POST /challenges")).await.is_problem(expected);

    app.stack.circle.add_fault(Fault {
        status: Some(500),
        times: 3,
        body: Some("<html>".into()),
        ..on_creation()
    });
    let expected = unavailable("Circle failed to answer. Try again with the same Idempotency-Key.");
    send(app.request("POST /challenges")).await.is_problem(expected);
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_not_passed_on() {
    let app = App::start().await;
    for body in ["<html>", "{}", "{\"data\": {}}", "{\"data\": {\"challengeId\": \"no uuid\"}}"] {
        app.stack.circle.add_fault(Fault { status: Some(201), body: Some(body.into()), ..on_creation() });
        send(app.request("POST /challenges")).await.is_problem(json!({
            "title": "Unexpected answer from Circle",
            "status": 502,
            "detail": "Circle's answer could not be read. Try again, and report it if it stays.",
            "code": "circle_error",
        }));
    }
}

#[tokio::test]
async fn no_caller_waits_longer_than_eight_seconds() {
    let app = App::at_noon().await;
    // What is fetched once is fetched now, so that only the slow calls take time.
    send(app.request("POST /session-tokens")).await.is(201);
    let before = app.stack.platform.clock.now();
    app.stack.circle.add_fault(Fault { delay_ms: 3_600_000, times: 10, ..Fault::default() });
    let answer = while_time_passes(&app.stack.clock, send(app.request("POST /session-tokens"))).await;
    answer.is_problem(json!({
        "title": "Not done in time",
        "status": 504,
        "detail": "The request could not be answered in time. Try again with the same Idempotency-Key.",
        "code": "timeout",
        "retryAfterSeconds": 2,
    }));
    let waited = app.stack.platform.clock.now() - before;
    assert!(waited <= Duration::from_secs(9), "{waited}");
}
