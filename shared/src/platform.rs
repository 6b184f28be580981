//! What every function runs on: settings, AWS, time and randomness.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use reqwest::redirect::Policy;
use serde_json::Value;

use crate::clock::{self, Clock, SystemClock};
use crate::config::Environment;
use crate::random::Random;
use crate::telemetry;

/// The seams of the service. Tests and the local stack bring their own.
#[derive(Clone)]
pub struct Platform {
    /// The settings.
    pub environment: Environment,
    /// How to reach AWS. Endpoint variables such as `AWS_ENDPOINT_URL_DYNAMODB` apply.
    pub aws: SdkConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness and ids.
    pub random: Arc<Random>,
}

impl Platform {
    /// The platform of a Lambda function. Starts logging for the function's crate.
    pub async fn start(own_crate: &'static str) -> Self {
        let environment = Environment::of_process();
        telemetry::start(environment.log_level(), own_crate);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let aws = aws_defaults(Arc::clone(&clock)).load().await;
        Self { environment, aws, clock, random: Arc::new(Random::from_system()) }
    }

    /// A client for DynamoDB.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.aws).retry_classifier(RejectedSignature);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A client for Secrets Manager.
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        let config =
            aws_sdk_secretsmanager::config::Builder::from(&self.aws).retry_classifier(RejectedSignature);
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }
}

/// Retries a call if AWS rejected its signature, as it does if the time in it is wrong.
///
/// The SDK learns from every response how wrong the clock is, and signs the next attempt with the right time. By itself
/// it retries only if the clock was wrong when the response came (aws-runtime 1.10, `service_clock_skew`). If the clock was
/// wrong before and has been set right since, it signs one attempt with the old correction, and does not retry that.
#[derive(Debug)]
struct RejectedSignature;

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

/// The HTTP client of the project: no redirects, no retries, no proxy. Timeouts and retries are the caller's, on the
/// project's clock.
///
/// # Panics
/// If the client cannot be built, which these settings always can.
pub fn http_client() -> reqwest::Client {
    client_builder().build().expect("an HTTP client can be built from these settings")
}

/// The same with a new connection for each request.
///
/// # Panics
/// If the client cannot be built, which these settings always can.
pub fn unpooled_http_client() -> reqwest::Client {
    let builder = client_builder().pool_max_idle_per_host(0);
    builder.build().expect("an HTTP client can be built from these settings")
}

/// How long an idle connection is kept: less than the 60 seconds that AWS load balancers keep theirs by default
/// (`https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("circle-pin-reset/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_idle_timeout(IDLE_TIMEOUT)
}

/// The AWS SDK's settings: the project's clock, and timeouts that leave time for a response.
///
/// One attempt takes at most 1.5 s, and an operation with its retries 4 s, well within the time that API Gateway and
/// Circle wait. The connect timeout is the SDK's own, within that of the attempt.
pub fn aws_defaults(clock: Arc<dyn Clock>) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_millis(1500))
        .operation_timeout(Duration::from_secs(4))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_millis(500));
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .time_source(clock::time_source(Arc::clone(&clock)))
        .sleep_impl(clock::async_sleep(clock))
        .timeout_config(timeouts)
        .retry_config(retries)
}
