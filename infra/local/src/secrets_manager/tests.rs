//! Secrets Manager, called by the real AWS SDK.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use shared::config::Environment;
use shared::http_client::HttpClient;

use super::*;

async fn endpoint() -> (SecretsManager, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let manager = SecretsManager::start(listener, Arc::new(Random::from_seed(1))).unwrap();
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(HttpClient::new(&Environment::default()).unwrap())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .endpoint_url(manager.url())
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .build();
    (manager, Client::from_conf(config))
}

#[tokio::test]
async fn secret_is_found_by_name_and_can_be_replaced() {
    let (manager, client) = endpoint().await;
    let read = || client.get_secret_value().secret_id("circle/api-key").send();
    manager.put("circle/api-key", "TEST_API_KEY:1:2");
    manager.put("other", "other");
    let secret = read().await.unwrap();
    assert_eq!(secret.name(), Some("circle/api-key"));
    assert_eq!(secret.secret_string(), Some("TEST_API_KEY:1:2"));
    assert_eq!(secret.secret_binary(), None);
    manager.put("circle/api-key", "TEST_API_KEY:3:4");
    assert_eq!(read().await.unwrap().secret_string(), Some("TEST_API_KEY:3:4"));
    assert_eq!(manager.reads(), 2);
    manager.stop().await;
}

#[tokio::test]
async fn errors_have_the_form_of_aws() {
    let (manager, client) = endpoint().await;
    let error = client.get_secret_value().secret_id("missing").send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    let error = error.into_service_error();
    assert!(error.is_resource_not_found_exception());
    assert_eq!(error.message(), Some("Secrets Manager can't find the specified secret."));

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
async fn sdk_retries_injected_errors() {
    let (manager, client) = endpoint().await;
    manager.put("key", "value");
    for error in [InjectedError::InternalServiceError, InjectedError::Throttled] {
        let reads = manager.reads();
        manager.fail_next(2, error);
        let secret = client.get_secret_value().secret_id("key").send().await.unwrap();
        assert_eq!(secret.secret_string(), Some("value"));
        assert_eq!(manager.reads() - reads, 3);
    }
    manager.fail_next(3, InjectedError::InternalServiceError);
    let error = client.get_secret_value().secret_id("key").send().await.unwrap_err();
    assert!(error.into_service_error().is_internal_service_error());
}

#[tokio::test]
async fn call_without_a_response_ends_with_the_callers_timeout() {
    let (manager, client) = endpoint().await;
    manager.put("key", "value");
    manager.fail_next(1, InjectedError::NoResponse);
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
async fn debug_output_does_not_contain_secrets() {
    let (manager, _client) = endpoint().await;
    manager.put("key", "do-not-print");
    assert!(!format!("{manager:?}").contains("do-not-print"));
}
