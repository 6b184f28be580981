//! What every function runs on: settings, AWS, time and randomness.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use reqwest::redirect::Policy;

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
