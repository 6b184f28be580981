//! Secrets Manager, asked by the real AWS SDK.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{Credentials, Region};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::primitives::DateTime;
use time::macros::datetime;

use super::*;

async fn endpoint() -> (SecretsManager, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = AdjustableClock::frozen(datetime!(2026-01-01 12:00:00.5 UTC));
    let manager = SecretsManager::start(listener, clock, Arc::new(Random::from_seed(1))).unwrap();
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .endpoint_url(manager.url())
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .build();
    (manager, Client::from_conf(config))
}

#[tokio::test]
async fn a_secret_is_found_by_name_and_by_arn() {
    let (manager, client) = endpoint().await;
    let arn = manager.put("circle/api-key", "TEST_API_KEY:1:2");
    assert!(arn.starts_with("arn:aws:secretsmanager:us-east-1:000000000000:secret:circle/api-key-"));
    assert_eq!(arn.len(), ARN_PREFIX.len() + "circle/api-key-123456".len());
    let without_suffix = &arn[..arn.len() - 7];
    for id in ["circle/api-key", &arn, without_suffix] {
        let secret = client.get_secret_value().secret_id(id).send().await.unwrap();
        assert_eq!(secret.arn(), Some(arn.as_str()));
        assert_eq!(secret.name(), Some("circle/api-key"));
        assert_eq!(secret.secret_string(), Some("TEST_API_KEY:1:2"));
        assert_eq!(secret.secret_binary(), None);
        assert_eq!(secret.version_stages(), ["AWSCURRENT"]);
        assert_eq!(secret.version_id().unwrap().len(), 36);
        assert_eq!(secret.created_date(), Some(&DateTime::from_secs_f64(1_767_268_800.5)));
    }
    assert_eq!(manager.reads(), 3);
    manager.stop().await;
}

#[tokio::test]
async fn rotation_keeps_the_previous_version() {
    let (manager, client) = endpoint().await;
    let arn = manager.put("key", "first");
    let rotated = client.put_secret_value().secret_id("key").secret_string("second").send().await.unwrap();
    assert_eq!((rotated.arn(), rotated.name()), (Some(arn.as_str()), Some("key")));
    assert_eq!(rotated.version_stages(), ["AWSCURRENT"]);
    let read = |stage: &'static str| client.get_secret_value().secret_id("key").version_stage(stage).send();
    assert_eq!(read("AWSCURRENT").await.unwrap().version_id(), rotated.version_id());
    assert_eq!(read("AWSPREVIOUS").await.unwrap().secret_string(), Some("first"));

    assert_eq!(manager.put("key", "third"), arn, "a rotated secret keeps its ARN");
    assert_eq!(read("AWSCURRENT").await.unwrap().secret_string(), Some("third"));
    assert_eq!(read("AWSPREVIOUS").await.unwrap().secret_string(), Some("second"));
    assert_eq!(read("OTHER").await.unwrap_err().code(), Some("ResourceNotFoundException"));
    let oldest = client.get_secret_value().secret_id("key").version_id(rotated.version_id().unwrap());
    assert_eq!(oldest.send().await.unwrap().secret_string(), Some("second"));
}

#[tokio::test]
async fn the_same_rotation_sent_twice_is_one() {
    let (manager, client) = endpoint().await;
    manager.put("key", "first");
    let put = |value: &'static str| {
        let token = "11111111-1111-4111-8111-111111111111";
        client.put_secret_value().secret_id("key").client_request_token(token).secret_string(value).send()
    };
    assert_eq!(put("second").await.unwrap().version_id(), put("second").await.unwrap().version_id());
    assert_eq!(put("other").await.unwrap_err().code(), Some("ResourceExistsException"));
    assert_eq!(manager.state.content().secrets["key"].versions.len(), 2);
}

#[tokio::test]
async fn errors_have_the_shape_of_aws() {
    let (manager, client) = endpoint().await;
    let error = client.get_secret_value().secret_id("missing").send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    let error = error.into_service_error();
    assert!(error.is_resource_not_found_exception());
    assert_eq!(error.message(), Some("Secrets Manager can't find the specified secret."));
    let error = client.put_secret_value().secret_id("missing").secret_string("x").send().await.unwrap_err();
    assert!(error.into_service_error().is_resource_not_found_exception());

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = async |target: &'static str, body: &'static str, authorization: &'static str| {
        let mut request = http.post(manager.url()).header("x-amz-target", target).body(body);
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/x-amz-json-1.1");
        let kind = response.headers()["x-amzn-errortype"].to_str().unwrap().to_owned();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(body["__type"], kind.as_str());
        kind
    };
    let get = "secretsmanager.GetSecretValue";
    assert_eq!(send(get, "{}", "").await, "MissingAuthenticationTokenException");
    assert_eq!(send(get, "{}", "AWS4").await, "SerializationException");
    assert_eq!(send("secretsmanager.DeleteSecret", "{}", "AWS4").await, "UnknownOperationException");
}

#[tokio::test]
async fn failures_on_demand_are_tried_again_by_the_sdk() {
    let (manager, client) = endpoint().await;
    manager.put("key", "value");
    for failure in [Failure::InternalServiceError, Failure::Throttled] {
        let reads = manager.reads();
        manager.fail_next(2, failure);
        let secret = client.get_secret_value().secret_id("key").send().await.unwrap();
        assert_eq!(secret.secret_string(), Some("value"));
        assert_eq!(manager.reads() - reads, 3);
    }
    manager.fail_next(3, Failure::InternalServiceError);
    let error = client.get_secret_value().secret_id("key").send().await.unwrap_err();
    assert!(error.into_service_error().is_internal_service_error());
}

#[tokio::test]
async fn a_call_without_an_answer_ends_when_the_caller_gives_up() {
    let (manager, client) = endpoint().await;
    manager.put("key", "value");
    manager.fail_next(1, Failure::NoAnswer);
    let limits = aws_sdk_secretsmanager::config::timeout::TimeoutConfig::builder()
        .operation_timeout(Duration::from_millis(50))
        .build();
    let config = aws_sdk_secretsmanager::config::Builder::new()
        .timeout_config(limits)
        .sleep_impl(shared::clock::async_sleep(Arc::new(shared::clock::SystemClock)));
    let error = client
        .get_secret_value()
        .secret_id("key")
        .customize()
        .config_override(config)
        .send()
        .await
        .unwrap_err();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    manager.stop().await;
}

#[tokio::test]
async fn its_debug_shows_no_secret() {
    let (manager, _client) = endpoint().await;
    manager.put("key", "do-not-print");
    assert!(!format!("{manager:?}").contains("do-not-print"));
}
