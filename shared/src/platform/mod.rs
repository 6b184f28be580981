//! What every function runs on: settings, HTTP, AWS, time and randomness.

mod aws;
#[cfg(feature = "otel")]
mod otlp;

use std::fmt;
use std::sync::Arc;

use aws_types::SdkConfig;

pub use self::aws::RejectedSignature;
#[cfg(feature = "otel")]
pub use self::otlp::start_traces;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Environment, SettingError};
use crate::http_client::HttpClient;
use crate::metric;
use crate::random::Random;
use crate::telemetry;

/// The seams of the service. Tests and the local stack bring their own.
#[derive(Clone)]
pub struct Platform {
    /// The settings.
    pub environment: Environment,
    /// The HTTP client.
    pub http: HttpClient,
    /// DynamoDB, over the same client.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Secrets Manager, over the same client.
    pub secrets_manager: aws_sdk_secretsmanager::Client,
    /// The AWS SDK's settings, for a function that uses further services. Its clients also take [`RejectedSignature`].
    pub aws: SdkConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness and ids.
    pub random: Arc<Random>,
}

impl fmt::Debug for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Platform").finish_non_exhaustive()
    }
}

impl Platform {
    /// The platform of a Lambda function. Starts logging for the function's crate.
    ///
    /// # Errors
    /// If one of the variables is missing with which Lambda tells a function its region and credentials, or the certificates
    /// that `SSL_CERT_FILE` or `SSL_CERT_DIR` names cannot be read.
    pub fn start(own_crate: &'static str) -> Result<Self, SettingError> {
        let service = own_crate.replace('_', "-");
        let environment = Environment::of_process();
        let platform = Self::new(environment, Arc::new(SystemClock), Arc::new(Random::from_system()))?;
        #[cfg(feature = "otel")]
        start_traces(&platform, &service)?;
        let environment = &platform.environment;
        telemetry::start(environment.log_level(), own_crate, config::metrics_namespace(environment));
        metric::cold_start(&service);
        Ok(platform)
    }

    /// A platform from an environment. Endpoint variables of the AWS SDK such as `AWS_ENDPOINT_URL_DYNAMODB` apply.
    ///
    /// # Errors
    /// If `AWS_REGION`, `AWS_ACCESS_KEY_ID` or `AWS_SECRET_ACCESS_KEY` is missing, or the certificates that `SSL_CERT_FILE` or
    /// `SSL_CERT_DIR` names cannot be read.
    pub fn new(
        environment: Environment,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
    ) -> Result<Self, SettingError> {
        let http = HttpClient::new(&environment)?;
        let aws = aws::sdk_config(&environment, http.for_another_server(), Arc::clone(&clock))?;
        Ok(Self {
            dynamodb: aws::dynamodb(&aws),
            secrets_manager: aws::secrets_manager(&aws),
            aws,
            environment,
            http,
            clock,
            random,
        })
    }
}
