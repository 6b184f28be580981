use std::time::Duration;

use local::circle_simulator::Fault;
use local::secrets_manager::InjectedError;
use local::stack::{API_KEY_SECRET, StackOptions};
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::observed::{Log, while_time_passes};
use crate::support::{App, NOON, send};

fn misconfigured(detail: &str) -> Value {
    json!({ "title": "The service is not set up", "status": 500, "detail": detail, "code": "misconfigured" })
}

const NO_KEY: &str = "The service has no usable Circle API key. Its operator finds the cause in the log.";

#[tokio::test]
async fn a_malformed_secret_is_named_in_the_log_and_mended_without_a_restart() {
    let log = Log::start();
    let app = App::start().await;
    app.stack.circle.wait_for_deliveries(1).await;
    app.stack.secrets_manager.put(API_KEY_SECRET, "malformed-and-secret");
    for call in ["POST /session-tokens", "POST /challenges", "GET /pin"] {
        send(app.request(call)).await.is_problem(misconfigured(NO_KEY));
    }
    let text = log.text();
    assert!(text.contains("the secret circle-api-key must hold a Circle API key"), "{text}");
    assert!(!text.contains("malformed-and-secret"), "{text}");
    let key = json!({ "apiKey": app.stack.circle.api_key() }).to_string();
    app.stack.secrets_manager.put(API_KEY_SECRET, &key);
    send(app.request("POST /session-tokens")).await.is(201);
}

#[tokio::test]
async fn a_secrets_manager_that_fails_for_a_moment_is_asked_again() {
    let app = App::start().await;
    app.stack.circle.wait_for_deliveries(1).await;
    app.stack.secrets_manager.fail_next(2, InjectedError::InternalServiceError);
    send(app.request("POST /session-tokens")).await.is(201);
    app.stack.secrets_manager.fail_next(3, InjectedError::InternalServiceError);
    send(app.request("GET /pin")).await.is_problem(key_unavailable());
    send(app.request("GET /pin")).await.is(200);
}

#[tokio::test]
async fn a_key_that_circle_refuses_is_the_operators_to_mend() {
    let app = App::start().await;
    send(app.request("POST /session-tokens")).await.is(201);
    app.stack.circle.add_fault(Fault { status: Some(401), code: Some(4), ..Fault::default() });
    let mut expected =
        misconfigured("Circle refuses the service's API key. Its operator finds the cause in the log.");
    expected["circleCode"] = 4.into();
    send(app.request("POST /session-tokens")).await.is_problem(expected);
}

#[tokio::test]
async fn a_secret_of_another_shape_is_malformed_too() {
    let log = Log::start();
    let app = App::start().await;
    app.stack.circle.wait_for_deliveries(1).await;
    for secret in [
        r#"{"username":"somebody","password":"malformed-and-secret"}"#,
        r#"{"apiKey":["TEST_API_KEY:id:malformed-and-secret"]}"#,
        r#"["TEST_API_KEY:id:malformed-and-secret"]"#,
        "",
    ] {
        app.stack.secrets_manager.put(API_KEY_SECRET, secret);
        send(app.request("POST /session-tokens")).await.is_problem(misconfigured(NO_KEY));
    }
    assert_eq!(app.stack.circle.call_count("POST /v1/w3s/users/token"), 0);
    let text = log.text();
    assert_eq!(text.matches("the secret circle-api-key must hold a Circle API key").count(), 4, "{text}");
    assert!(!text.contains("malformed-and-secret"), "{text}");
}

#[tokio::test]
async fn a_secrets_manager_that_does_not_answer_is_no_reason_to_wait_for_ever() {
    let log = Log::start();
    let app = App::at_noon().await;
    app.stack.circle.wait_for_deliveries(1).await;
    for (failure, calls) in [(InjectedError::NoResponse, 3), (InjectedError::Throttled, 3)] {
        app.stack.secrets_manager.fail_next(calls, failure);
        let before = app.stack.clock.now();
        let answer = while_time_passes(&app.stack.clock, send(app.request("POST /session-tokens"))).await;
        answer.is_problem(key_unavailable());
        let waited = app.stack.clock.now() - before;
        assert!(waited <= Duration::from_secs(5), "{failure:?}: {waited}");
    }
    let named = "the secret circle-api-key cannot be read from Secrets Manager just now";
    assert_eq!(log.text().matches(named).count(), 2, "{}", log.text());
    send(app.request("POST /session-tokens")).await.is(201);
}

#[tokio::test]
async fn a_wrong_key_is_mended_without_a_restart() {
    let app = App::at_noon().await;
    app.stack.circle.wait_for_deliveries(1).await;
    app.stack.secrets_manager.put(API_KEY_SECRET, "TEST_API_KEY:id:not-the-one");
    let mut refused =
        misconfigured("Circle refuses the service's API key. Its operator finds the cause in the log.");
    refused["circleCode"] = 4.into();
    send(app.request("POST /session-tokens")).await.is_problem(refused.clone());
    app.stack.secrets_manager.put(API_KEY_SECRET, &app.stack.circle.api_key());
    send(app.request("POST /session-tokens")).await.is_problem(refused);
    app.advance(Duration::from_secs(30));
    send(app.request("POST /session-tokens")).await.is(201);
}

#[tokio::test]
async fn a_key_for_the_other_environment_is_never_used() {
    let log = Log::start();
    // The simulator's key is a TEST one.
    let app = App::with_settings([("CIRCLE_ENVIRONMENT", "LIVE")]).await;
    for call in ["POST /session-tokens", "POST /challenges", "GET /pin"] {
        send(app.request(call)).await.is_problem(misconfigured(NO_KEY));
    }
    let named =
        "the secret circle-api-key holds a TEST Circle API key, and CIRCLE_ENVIRONMENT asks for a LIVE one";
    assert!(log.text().contains(named), "{}", log.text());
    assert!(!log.text().contains(app.stack.circle.api_key().rsplit(':').next().unwrap()));
    let circle = &app.stack.circle;
    assert_eq!(
        circle.call_count("POST /v1/w3s/users/token") + circle.call_count("GET /v1/w3s/users/{userId}"),
        0
    );
}

#[tokio::test]
async fn a_key_rotated_to_the_other_environment_is_refused_and_mended_without_a_restart() {
    let log = Log::start();
    let app = App::with_settings([("CIRCLE_ENVIRONMENT", "TEST")]).await;
    send(app.request("POST /session-tokens")).await.is(201);
    let key = app.stack.circle.rotate_api_key();
    app.stack.secrets_manager.put(API_KEY_SECRET, &key.replace("TEST_", "LIVE_"));
    send(app.request("POST /session-tokens")).await.is_problem(misconfigured(NO_KEY));
    let named =
        "the secret circle-api-key holds a LIVE Circle API key, and CIRCLE_ENVIRONMENT asks for a TEST one";
    assert!(log.text().contains(named), "{}", log.text());
    app.stack.secrets_manager.put(API_KEY_SECRET, &key);
    // A secret that holds no key is not read again at once.
    app.advance(Duration::from_secs(1));
    send(app.request("POST /session-tokens")).await.is(201);
}

#[tokio::test]
async fn a_rotated_key_costs_no_request() {
    let app = App::start().await;
    let id = app.challenge().await;
    let token = app.user_token().await;
    send(app.request("GET /pin")).await.is(200);
    for _ in 0..3 {
        app.stack.circle.rotate_api_key();
        let reads = app.stack.secrets_manager.reads();
        for call in ["POST /session-tokens", "POST /challenges", "GET /pin"] {
            let answer = send(app.request(call)).await;
            assert!([200, 201].contains(&answer.status), "{call}: {answer:?}");
        }
        let polled = send(app.request(&format!("GET /challenges/{id}")).header("x-user-token", &token)).await;
        polled.is(200);
        assert!(app.stack.secrets_manager.reads() - reads <= 4, "each function reads the secret once");
        // A key may be read again half a minute after it last was.
        app.advance(Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_key_that_is_rotated_twice_at_once_is_read_again_after_half_a_minute() {
    let app = App::start().await;
    send(app.request("POST /session-tokens")).await.is(201);
    app.stack.circle.rotate_api_key();
    send(app.request("POST /session-tokens")).await.is(201);
    let reads = app.stack.secrets_manager.reads();
    app.stack.circle.rotate_api_key();
    for _ in 0..5 {
        assert_eq!(send(app.request("POST /session-tokens")).await.status, 500);
    }
    assert_eq!(app.stack.secrets_manager.reads(), reads, "at most once in 30 seconds");
    app.advance(Duration::from_secs(30));
    send(app.request("POST /session-tokens")).await.is(201);
}

fn storage_unavailable() -> Value {
    json!({
        "title": "Storage is unavailable",
        "status": 503,
        "detail": "The challenge's record could not be reached. Try again, with the same Idempotency-Key if there was one.",
        "code": "storage_unavailable",
        "retryAfterSeconds": 2,
    })
}

#[tokio::test]
async fn a_table_that_cannot_be_reached_is_said_so() {
    // A port of loopback that nothing listens on, and a table that nobody made.
    for (setting, challenges) in
        [(("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1"), 0), (("CHALLENGES_TABLE", "no-such-table"), 1)]
    {
        let app = App::with_settings([setting]).await;
        send(app.request("POST /challenges")).await.is_problem(storage_unavailable());
        let made = app.stack.circle.challenges();
        assert_eq!(made.len(), challenges, "what cannot be counted is not made");
        let id = Uuid::from_u128(7);
        send(app.request(&format!("GET /challenges/{id}"))).await.is_problem(storage_unavailable());
        app.post(&app.message(id, "COMPLETE")).await.is_problem(storage_unavailable());
        // The greeting of the subscription is not about a challenge; Circle's word on the challenge is sent again.
        for challenge in made {
            app.webhook_answered(challenge.id, "PENDING", 503).await;
        }
    }
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_given_up_in_time() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let clock = AdjustableClock::frozen(NOON);
    let settings = [("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), url)].into();
    let app = App::with_options(StackOptions { clock, settings, ..StackOptions::default() }).await;
    send(app.request("POST /session-tokens")).await.is(201);
    for call in ["POST /challenges", "GET /challenges/b04046ff-3aac-4ae1-ac07-7eb0d7892520"] {
        let before = app.stack.clock.now();
        let answer = while_time_passes(&app.stack.clock, send(app.request(call))).await;
        answer.is_problem(storage_unavailable());
        let waited = app.stack.clock.now() - before;
        assert!(waited <= Duration::from_secs(5), "{call}: {waited}");
    }
    assert!(app.stack.circle.challenges().is_empty(), "what cannot be counted is not made");
    let webhook = app.message(Uuid::from_u128(7), "COMPLETE");
    while_time_passes(&app.stack.clock, app.post(&webhook)).await.is_problem(storage_unavailable());
}

fn key_unavailable() -> Value {
    json!({
        "title": "API key is unavailable",
        "status": 503,
        "detail": "The service's Circle API key cannot be read just now. Try again, with the same Idempotency-Key if there was one.",
        "code": "api_key_unavailable",
        "retryAfterSeconds": 2,
    })
}
