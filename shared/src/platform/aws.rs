//! The AWS SDK's clients: on the project's clock and HTTP client, without a search for region and credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use serde_json::Value;

use crate::clock::{self, Clock};
use crate::config::{self, Environment, SettingError};
use crate::http_client::HttpClient;

/// A client for DynamoDB.
pub(super) fn dynamodb(aws: &SdkConfig) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::config::Builder::from(aws).retry_classifier(RejectedSignature);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// A client for Secrets Manager.
pub(super) fn secrets_manager(aws: &SdkConfig) -> aws_sdk_secretsmanager::Client {
    let config = aws_sdk_secretsmanager::config::Builder::from(aws).retry_classifier(RejectedSignature);
    aws_sdk_secretsmanager::Client::from_conf(config.build())
}

/// The AWS SDK's settings: the project's clock and HTTP client, the region and the credentials that Lambda gives, and
/// timeouts that leave time for a response.
///
/// One attempt takes at most 1.5 s, and an operation with its retries 4 s, well within the time that API Gateway and
/// Circle wait.
pub(super) fn sdk_config(
    environment: &Environment,
    http: HttpClient,
    clock: Arc<dyn Clock>,
) -> Result<SdkConfig, SettingError> {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_millis(1500))
        .operation_timeout(Duration::from_secs(4))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_millis(500));
    let mut builder = SdkConfig::builder();
    builder.set_endpoint_url(config::aws_endpoint_url(environment));
    Ok(builder
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(config::aws_region(environment)?))
        // The credentials never change, so there is nothing to cache and to renew.
        .credentials_provider(SharedCredentialsProvider::new(config::aws_credentials(environment)?))
        .identity_cache(IdentityCache::no_cache())
        .service_config(EndpointVariables(environment.clone()))
        .http_client(http)
        .time_source(clock::time_source(Arc::clone(&clock)))
        .sleep_impl(clock::async_sleep(clock))
        .timeout_config(timeouts)
        .retry_config(retries)
        // Requests and responses are small and in memory, and each attempt has its timeout.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build())
}

/// The AWS SDK's endpoint variables, such as `AWS_ENDPOINT_URL_DYNAMODB`.
struct EndpointVariables(Environment);

impl fmt::Debug for EndpointVariables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EndpointVariables")
    }
}

impl LoadServiceConfig for EndpointVariables {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.of_service(key.env(), key.service_id())
    }
}

/// Retries a call if AWS rejected its signature, as it does if the time in it is wrong.
///
/// The SDK learns from every response how wrong the clock is, and signs the next attempt with the right time. By itself
/// it retries only if the clock was wrong when the response came (aws-runtime 1.10, `service_clock_skew`). If the clock was
/// wrong before and has been set right since, it signs one attempt with the old correction, and does not retry that.
#[derive(Debug, Clone, Copy)]
pub struct RejectedSignature;

impl ClassifyRetry for RejectedSignature {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let response = context.response().filter(|response| response.status().is_client_error());
        let body = response.and_then(|response| response.body().bytes()).unwrap_or_default();
        let error: Value = serde_json::from_slice(body).unwrap_or_default();
        let code = error["__type"].as_str().unwrap_or_default();
        if code.ends_with("InvalidSignatureException") || code.ends_with("RequestTimeTooSkewed") {
            return RetryAction::server_error();
        }
        RetryAction::NoActionIndicated
    }

    fn name(&self) -> &'static str {
        "RejectedSignature"
    }
}
