use std::time::Duration;

use local::circle_simulator::Fault;
use local::environment::API_KEY_SECRET;
use local::secrets_manager::InjectedError;
use local::stack::StackOptions;
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{
    App, CREATE_SESSION, GET_PUBLIC_KEY, GET_USER_BY_ID, KEY, Log, MINUTE, Response, SECOND, error_of, noon,
    owned,
};

/// Every route that needs the API key.
const ROUTES: [&str; 3] = ["POST /session-tokens", "POST /challenges", "GET /pin"];

/// The longest that one request waits for AWS.
const AWS_LIMIT: Duration = Duration::from_secs(5);

fn put_secret(app: &App, secret: &str) {
    app.stack.secrets_manager.put(API_KEY_SECRET, secret);
}

#[tokio::test]
async fn malformed_secret_is_named_in_the_log_and_replaced_without_a_restart() {
    let log = Log::start();
    let app = App::start().await;
    app.wait_for_webhooks(1).await;
    put_secret(&app, "malformed-and-secret");
    for route in ROUTES {
        app.request(route).send().await.is_problem(500, "misconfigured");
    }
    assert_eq!(log.count(&["misconfigured", API_KEY_SECRET]), 3, "{}", log.text());
    assert_eq!(log.count(&["malformed-and-secret"]), 0);
    put_secret(&app, &json!({ "apiKey": app.circle.api_key() }).to_string());
    app.post_session_token().send().await.is(201);
}

#[tokio::test]
async fn failed_call_to_secrets_manager_is_retried() {
    let app = App::start().await;
    app.wait_for_webhooks(1).await;
    app.stack.secrets_manager.fail_next(2, InjectedError::InternalServiceError);
    app.post_session_token().send().await.is(201);
    app.stack.secrets_manager.fail_next(3, InjectedError::InternalServiceError);
    is_key_unavailable(&app.get_pin().send().await);
    app.get_pin().send().await.is(200);
}

#[tokio::test]
async fn api_key_that_circle_rejects_is_a_misconfiguration() {
    let app = App::start().await;
    app.post_session_token().send().await.is(201);
    app.circle.add_fault(error_of(CREATE_SESSION, 401, 4));
    is_key_rejected(&app.post_session_token().send().await);
}

#[tokio::test]
async fn secret_of_another_shape_is_a_misconfiguration() {
    let log = Log::start();
    let app = App::start().await;
    app.wait_for_webhooks(1).await;
    for secret in [
        r#"{"username":"somebody","password":"malformed-and-secret"}"#,
        r#"{"apiKey":["TEST_API_KEY:id:malformed-and-secret"]}"#,
        r#"["TEST_API_KEY:id:malformed-and-secret"]"#,
        "",
    ] {
        put_secret(&app, secret);
        app.post_session_token().send().await.is_problem(500, "misconfigured");
    }
    assert_eq!(app.circle.call_count(CREATE_SESSION), 0);
    assert_eq!(log.count(&["misconfigured", API_KEY_SECRET]), 4, "{}", log.text());
    assert_eq!(log.count(&["malformed-and-secret"]), 0);
}

#[tokio::test]
async fn unresponsive_secrets_manager_is_reported_in_time() {
    let log = Log::start();
    let app = App::at_noon().await;
    app.wait_for_webhooks(1).await;
    for failure in [InjectedError::NoResponse, InjectedError::Throttled] {
        app.stack.secrets_manager.fail_next(3, failure);
        let (response, waited) = app.timed(app.post_session_token().send()).await;
        is_key_unavailable(&response);
        assert!(waited <= AWS_LIMIT, "{failure:?}: {waited:?}");
    }
    assert_eq!(log.count(&["api_key_unavailable", API_KEY_SECRET]), 2, "{}", log.text());
    app.post_session_token().send().await.is(201);
}

#[tokio::test]
async fn new_api_key_that_could_not_be_read_is_read_by_the_next_request() {
    let app = App::at_noon().await;
    app.wait_for_webhooks(1).await;
    app.post_session_token().send().await.is(201);
    for failure in [InjectedError::InternalServiceError, InjectedError::Throttled, InjectedError::NoResponse]
    {
        app.circle.rotate_api_key();
        app.stack.secrets_manager.fail_next(3, failure);
        is_key_unavailable(&app.let_time_pass(app.post_session_token().send()).await);
        app.post_session_token().send().await.is(201);
        app.advance(MINUTE / 2);
    }
}

#[tokio::test]
async fn webhook_is_rejected_as_a_misconfiguration_while_circle_rejects_the_api_key() {
    let app = App::at_noon().await.without_webhooks().await;
    app.circle.rotate_signing_key();
    let webhook = app.message(Uuid::from_u128(7), "COMPLETE");
    app.circle.add_fault(Fault { times: 10, ..error_of(GET_PUBLIC_KEY, 401, 4) });
    app.post_webhook(&webhook).await.is_problem(500, "misconfigured");
    app.circle.clear_faults();
    assert_eq!(app.post_webhook(&webhook).await.outcome(), "applied");
}

#[tokio::test]
async fn wrong_api_key_is_replaced_without_a_restart() {
    let app = App::at_noon().await;
    app.wait_for_webhooks(1).await;
    put_secret(&app, "TEST_API_KEY:id:not-the-one");
    is_key_rejected(&app.post_session_token().send().await);
    put_secret(&app, &app.circle.api_key());
    is_key_rejected(&app.post_session_token().send().await);
    app.advance(MINUTE / 2);
    app.post_session_token().send().await.is(201);
}

#[tokio::test]
async fn api_key_of_the_other_environment_is_never_used() {
    let log = Log::start();
    // The simulator's key is a TEST key.
    let app = App::with_settings([("CIRCLE_ENVIRONMENT", "LIVE")]).await;
    for route in ROUTES {
        app.request(route).send().await.is_problem(500, "misconfigured");
    }
    // The test message of the subscription needs the key too, and Circle sends it again.
    let texts = ["misconfigured", API_KEY_SECRET, "CIRCLE_ENVIRONMENT", "TEST", "LIVE"];
    let of_webhooks = log.count(&[&texts[..], &["public key"]].concat());
    assert_eq!(log.count(&texts) - of_webhooks, 3, "{}", log.text());
    assert_eq!(log.count(&[app.circle.api_key().rsplit(':').next().unwrap()]), 0);
    assert_eq!([CREATE_SESSION, GET_USER_BY_ID].map(|call| app.circle.call_count(call)), [0, 0]);
}

#[tokio::test]
async fn api_key_rotated_to_the_other_environment_is_rejected_until_it_is_replaced() {
    let log = Log::start();
    let app = App::with_settings([("CIRCLE_ENVIRONMENT", "TEST")]).await;
    app.post_session_token().send().await.is(201);
    let key = app.circle.rotate_api_key();
    put_secret(&app, &key.replace("TEST_", "LIVE_"));
    app.post_session_token().send().await.is_problem(500, "misconfigured");
    let named = log.count(&["misconfigured", API_KEY_SECRET, "CIRCLE_ENVIRONMENT", "TEST", "LIVE"]);
    assert_eq!(named, 1, "{}", log.text());
    put_secret(&app, &key);
    // A secret without a usable key is not read again within the same second.
    app.advance(SECOND);
    app.post_session_token().send().await.is(201);
}

#[tokio::test]
async fn no_request_fails_after_a_rotation() {
    let app = App::start().await;
    let id = app.create_challenge().await;
    let token = app.user_token().await;
    app.get_pin().send().await.is(200);
    for _ in 0..3 {
        app.circle.rotate_api_key();
        let reads = app.stack.secrets_manager.reads();
        for route in ROUTES {
            let response = app.request(route).send().await;
            assert!([200, 201].contains(&response.status), "{route}: {response:?}");
        }
        app.get_challenge(id).token(&token).send().await.is(200);
        assert!(app.stack.secrets_manager.reads() - reads <= 4, "each function reads the secret once");
        // The secret may be read again half a minute later.
        app.advance(MINUTE / 2);
    }
}

#[tokio::test]
async fn secret_is_read_again_at_most_every_half_minute() {
    let app = App::start().await;
    app.post_session_token().send().await.is(201);
    app.circle.rotate_api_key();
    app.post_session_token().send().await.is(201);
    let reads = app.stack.secrets_manager.reads();
    app.circle.rotate_api_key();
    for _ in 0..5 {
        is_key_rejected(&app.post_session_token().send().await);
    }
    assert_eq!(app.stack.secrets_manager.reads(), reads);
    app.advance(MINUTE / 2);
    app.post_session_token().send().await.is(201);
}

#[tokio::test]
async fn unreachable_table_is_reported_as_unavailable() {
    // Nothing listens on this port, and nobody created this table.
    for (setting, challenges) in
        [(("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1"), 0), (("CHALLENGES_TABLE", "no-such-table"), 1)]
    {
        let app = App::with_settings([setting]).await;
        app.post_challenge().send().await.is_storage_unavailable();
        let created = app.circle.challenges();
        assert_eq!(created.len(), challenges, "without a rate limit check, no challenge is created");
        let id = Uuid::from_u128(7);
        app.get_challenge(id).send().await.is_storage_unavailable();
        app.post_webhook(&app.message(id, "COMPLETE")).await.is_storage_unavailable();
        // Circle sends its report of the challenge again. The subscription's test message needs no table.
        for challenge in created {
            app.wait_for_webhook(challenge.id, "PENDING", 503).await;
        }
    }
}

#[tokio::test]
async fn unresponsive_table_is_reported_in_time() {
    // The listener accepts connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let settings = owned([("AWS_ENDPOINT_URL_DYNAMODB", &url)]);
    let app = App::with_options(StackOptions { settings, ..noon() }).await;
    for request in [
        app.post_session_token(),
        app.post_challenge(),
        app.get_pin(),
        app.get_challenge(KEY),
        app.get_challenges(""),
    ] {
        let (response, waited) = app.timed(request.send()).await;
        response.is_storage_unavailable();
        assert!(waited <= AWS_LIMIT, "{waited:?}");
    }
    assert!(app.circle.challenges().is_empty(), "without a rate limit check, no challenge is created");
    assert_eq!(app.caller_calls(), 0);
    let webhook = app.message(Uuid::from_u128(7), "COMPLETE");
    app.let_time_pass(app.post_webhook(&webhook)).await.is_storage_unavailable();
}

#[track_caller]
fn is_key_rejected(response: &Response) {
    response.is_problem_with(500, "misconfigured", json!({ "circleCode": 4 }));
}

#[track_caller]
fn is_key_unavailable(response: &Response) {
    response.is_problem_with(503, "api_key_unavailable", json!({ "retryAfterSeconds": 2 }));
}
