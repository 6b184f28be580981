use std::collections::BTreeSet;

use local::circle_simulator::Fault;
use serde_json::{Value, json};

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_SESSION, GET_USER_BY_ID, Log, Response, SECOND, error_of, fault_of,
    hanging,
};

#[tokio::test]
async fn call_measures_its_latency_and_its_retries() {
    let app = App::at_noon().await.without_webhooks().await;
    let measured = async |retries: u64| {
        let log = Log::start();
        let (response, waited) = app.timed(app.post_session_token().send()).await;
        response.is(201);
        let text = log.text();
        let is_measured = |line: &&str| line.contains("CircleRetries") && line.contains("create_session");
        let line: Value = serde_json::from_str(text.lines().find(is_measured).unwrap()).unwrap();
        assert_eq!(line["CircleRetries"], retries);
        let end = text.lines().find(|line| line.contains("request completed")).unwrap();
        let end: Value = serde_json::from_str(end).unwrap();
        assert!(u128::from(end["span"]["duration_ms"].as_u64().unwrap()) <= waited.as_millis(), "{end}");
        assert!(
            u128::from(line["CircleLatency"].as_u64().unwrap()) <= waited.as_millis(),
            "{line}, {waited:?}"
        );
    };
    measured(0).await;
    app.circle.add_fault(Fault { status: Some(503), times: 1, ..fault_of(CREATE_SESSION) });
    measured(1).await;
    app.circle.rotate_api_key();
    measured(1).await;
}

/// The HTTP statuses to test for a Circle code without a documented status.
const UNDOCUMENTED: &[u16] = &[400, 401, 403, 404, 409, 418, 422, 423];

/// Circle's codes, each with the HTTP statuses that Circle sends it with.
type CircleCodes = &'static [(i32, &'static [u16])];

/// Every code in Circle's table of errors, with the status and the code of the problem that callers receive. The
/// rows differ in their `detail`.
const ERRORS: [(u16, &str, CircleCodes); 16] = [
    // Without a reason.
    (502, "circle_error", &[(-1, &[400])]),
    // A malformed request.
    (502, "circle_error", &[(1, &[400]), (2, &[400, 404])]),
    // A permission that the API key does not have, and a key that Circle rejects.
    (500, "misconfigured", &[(3, &[403])]),
    (500, "misconfigured", &[(4, &[401]), (401, &[401])]),
    // Something that exists already.
    (502, "circle_error", &[(155_101, &[409]), (155_106, &[409]), (155_107, &[409])]),
    (404, "user_not_found", &[(155_102, &[404])]),
    (400, "invalid_user_token", &[(155_103, &[401]), (155_104, &[403]), (155_105, &[403])]),
    (403, "user_disabled", &[(155_109, &[403])]),
    (409, "pin_not_set", &[(155_110, UNDOCUMENTED)]),
    (409, "security_questions_not_set", &[(155_111, UNDOCUMENTED)]),
    // Something that the user's device sent.
    (
        502,
        "circle_error",
        &[(155_112, UNDOCUMENTED), (155_115, UNDOCUMENTED), (155_118, UNDOCUMENTED), (155_121, UNDOCUMENTED)],
    ),
    // An unknown challenge.
    (502, "circle_error", &[(155_116, UNDOCUMENTED)]),
    (423, "pin_locked", &[(155_119, UNDOCUMENTED)]),
    (423, "security_answers_locked", &[(155_120, UNDOCUMENTED)]),
    (503, "circle_rate_limited", &[(429, &[429])]),
    // An unknown code.
    (502, "circle_error", &[(987_654, UNDOCUMENTED)]),
];

/// Codes that have their meaning only for a call with a user token. The routes that make no such call have no response for
/// them.
const ABOUT_TOKEN_OR_PIN: [i32; 7] = [155_103, 155_104, 155_105, 155_110, 155_111, 155_119, 155_120];

#[tokio::test]
async fn each_circle_error_has_its_problem() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1000"), ("CALL_BURST", "1000")]).await;
    app.user_token().await;
    let mut details = BTreeSet::new();
    for (status, code, circle_codes) in ERRORS {
        let mut row_details = BTreeSet::new();
        for (circle_code, circle_statuses) in circle_codes {
            let numbers = match circle_code {
                -1 | 429 => json!({ "circleCode": circle_code, "retryAfterSeconds": 2 }),
                _ => json!({ "circleCode": circle_code }),
            };
            for (route, call) in [
                ("POST /challenges", CREATE_CHANGE_PIN),
                ("POST /session-tokens", CREATE_SESSION),
                ("GET /pin", GET_USER_BY_ID),
            ] {
                for circle_status in *circle_statuses {
                    let message = Some("Circle's own words".into());
                    // A token that Circle no longer accepts is replaced once.
                    let is_replaced = [155_103, 155_104].contains(circle_code) && call == CREATE_CHANGE_PIN;
                    let times = if is_replaced { 2 } else { 1 };
                    let error = error_of(call, *circle_status, *circle_code);
                    app.circle.add_fault(Fault { message, times, ..error });
                    let response = app.let_time_pass(app.request(route).send()).await;
                    if ABOUT_TOKEN_OR_PIN.contains(circle_code) && call != CREATE_CHANGE_PIN {
                        response.is_problem_with(502, "circle_error", numbers.clone());
                    } else {
                        response.is_problem_with(status, code, numbers.clone());
                        row_details.insert(response.body["detail"].to_string());
                    }
                    assert_eq!(app.circle.faults(), [], "{route} {circle_code}");
                }
            }
        }
        assert_eq!(row_details.len(), 1, "{row_details:?}");
        details.append(&mut row_details);
    }
    assert_eq!(details.len(), ERRORS.len(), "{details:?}");
    assert!(details.iter().all(|detail| !detail.contains("Circle's own words")));
    assert_eq!(app.record_count().await, 0);
}

#[tokio::test]
async fn error_without_a_code_becomes_a_problem_by_its_status() {
    let app = App::at_noon().await;
    app.user_token().await;
    for (circle_status, status, code) in [
        (302, 502, "circle_error"),
        (400, 502, "circle_error"),
        // Circle rejects the user token: the API key was good enough for the calls before.
        (401, 400, "invalid_user_token"),
        (403, 500, "misconfigured"),
        (404, 502, "circle_error"),
        (429, 503, "circle_rate_limited"),
        (500, 503, "circle_unavailable"),
        (502, 503, "circle_unavailable"),
        (503, 503, "circle_unavailable"),
        (504, 503, "circle_unavailable"),
    ] {
        let status_of_proxy = Some(circle_status);
        let body = Some("<html>".into());
        app.circle.add_fault(Fault {
            status: status_of_proxy,
            body,
            times: 3,
            ..fault_of(CREATE_CHANGE_PIN)
        });
        let response = app.let_time_pass(app.post_challenge().send()).await;
        let numbers = if status <= 500 { json!({}) } else { json!({ "retryAfterSeconds": 2 }) };
        response.is_problem_with(status, code, numbers);
        app.circle.clear_faults();
    }
}

/// A response of Circle's that asks for a wait.
fn rate_limited(call: &str, retry_after: &str) -> Fault {
    Fault { status: Some(429), retry_after: Some(retry_after.into()), ..fault_of(call) }
}

#[tokio::test]
async fn long_wait_that_circle_asks_for_is_passed_on_without_a_retry() {
    let app = App::at_noon().await;
    app.circle.add_fault(rate_limited(CREATE_CHANGE_PIN, "3600"));
    let response = app.post_challenge().send().await;
    let numbers = json!({ "circleCode": 429, "retryAfterSeconds": 3600 });
    response.is_problem_with(503, "circle_rate_limited", numbers);
    response.mentions("userMessage", "13:00 UTC");
    assert_eq!(app.circle.call_count(CREATE_CHANGE_PIN), 1);
    assert_eq!(app.record_count().await, 0);
}

#[tokio::test]
async fn retry_after_can_be_a_date_and_is_capped_at_one_hour() {
    let app = App::at_noon().await;
    app.user_token().await;
    for (retry_after, seconds) in [
        ("Thu, 01 Jan 2026 12:20:00 GMT", 1200),
        ("Thu, 01 Jan 2099 00:00:00 GMT", 3600),
        ("99999999999999999999999", 3600),
        ("0", 2),
        ("Thu, 01 Jan 2026 11:59:59 GMT", 2),
        ("soon", 2),
        ("", 2),
    ] {
        app.circle.add_fault(rate_limited(CREATE_CHANGE_PIN, retry_after));
        let response = app.post_challenge().send().await;
        let numbers = json!({ "circleCode": 429, "retryAfterSeconds": seconds });
        response.is_problem_with(503, "circle_rate_limited", numbers);
    }
}

#[tokio::test]
async fn transient_failure_is_retried_and_hidden_from_the_caller() {
    let app = App::start().await;
    let fault = fault_of(CREATE_CHANGE_PIN);
    for fault in [
        Fault { drop: true, times: 2, ..fault.clone() },
        Fault { drop: true, after_effect: true, ..fault.clone() },
        Fault { status: Some(503), ..fault },
    ] {
        app.circle.add_fault(fault);
        app.create_challenge().await;
    }
    assert_eq!(app.circle.challenges().len(), 3, "a retry creates no second challenge");
}

#[tokio::test]
async fn lasting_failure_of_circle_is_reported_as_unavailable() {
    let app = App::start().await;
    let fault = Fault { times: 100, ..fault_of(CREATE_CHANGE_PIN) };
    app.circle.add_fault(Fault { drop: true, ..fault.clone() });
    let unreachable = app.post_challenge().send().await;
    let calls = app.circle.call_count(CREATE_CHANGE_PIN);
    assert!((3..=6).contains(&calls), "three attempts, each of which may meet a stale connection: {calls}");
    app.circle.clear_faults();
    app.circle.add_fault(Fault { status: Some(500), body: Some("<html>".into()), ..fault });
    let failed = app.post_challenge().send().await;
    for response in [&unreachable, &failed] {
        response.is_problem_with(503, "circle_unavailable", json!({ "retryAfterSeconds": 2 }));
    }
    assert_ne!(unreachable.body["detail"], failed.body["detail"]);
    assert_eq!(app.record_count().await, 0);
}

#[track_caller]
fn is_unreadable(response: &Response) {
    response.is_problem_with(502, "circle_error", json!({ "retryAfterSeconds": 2 }));
}

#[tokio::test]
async fn unreadable_response_of_circle_is_an_error() {
    let app = App::start().await;
    let too_long = format!("{{\"data\": \"{}\"}}", "x".repeat(256 * 1024));
    for body in
        ["<html>", "", "{}", "{\"data\": {}}", "{\"data\": {\"challengeId\": \"not a UUID\"}}", &too_long]
    {
        let body = Some(body.to_owned());
        app.circle.add_fault(Fault { status: Some(201), body, ..fault_of(CREATE_CHANGE_PIN) });
        is_unreadable(&app.post_challenge().send().await);
    }
}

/// Circle's schema calls the key optional, but no device can run a challenge without it.
#[tokio::test]
async fn session_without_an_encryption_key_is_an_error() {
    let app = App::start().await;
    app.circle.set_knobs(|knobs| knobs.omit_encryption_key = true);
    is_unreadable(&app.post_session_token().send().await);
    is_unreadable(&app.post_challenge().send().await);
    assert!(app.circle.challenges().is_empty());
    assert_eq!(app.record_count().await, 0);
}

#[tokio::test]
async fn short_wait_that_circle_asks_for_is_waited_out() {
    let app = App::at_noon().await;
    app.user_token().await;
    app.circle.add_fault(rate_limited(CREATE_SESSION, "3"));
    let (response, waited) = app.timed(app.post_session_token().send()).await;
    response.is(201);
    assert!((3 * SECOND..4 * SECOND).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn hanging_call_is_retried_in_time() {
    let app = App::at_noon().await;
    app.user_token().await;
    app.circle.add_fault(hanging(CREATE_SESSION));
    app.let_time_pass(app.post_session_token().send()).await.is(201);
    assert_eq!(app.circle.call_count(CREATE_SESSION), 3, "one before, one that hangs, and its retry");
}

#[tokio::test]
async fn request_takes_at_most_eight_seconds_or_the_configured_timeout() {
    for (seconds, app) in
        [(8, App::at_noon().await), (4, App::at_noon_with([("REQUEST_TIMEOUT_SECONDS", "4")]).await)]
    {
        // The API key is read here, so that only the calls to Circle take time afterwards.
        app.user_token().await;
        app.circle.add_fault(Fault { delay_ms: 3_600_000, times: 100, ..Fault::default() });
        for request in [app.post_session_token(), app.post_challenge(), app.get_pin()] {
            let (response, waited) = app.timed(request.send()).await;
            response.is_problem_with(504, "timeout", json!({ "retryAfterSeconds": 2 }));
            assert!((seconds - 2) * SECOND < waited && waited <= seconds * SECOND, "{waited:?}");
        }
    }
}
