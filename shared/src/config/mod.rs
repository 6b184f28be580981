//! Settings: the only place that reads the environment.
//!
//! A function reads only the settings that it uses. A missing or invalid setting is a [`SettingError`], a sentence that
//! names the variable and says what to give; no value is ever part of it.

mod settings;
#[cfg(feature = "otel")]
mod traces;

use std::collections::HashMap;
use std::fmt;

use tracing::level_filters::LevelFilter;

pub use self::settings::{
    CircleSettings, SETTINGS, Setting, abandon_after, aws_credentials, aws_endpoint_url, aws_region,
    call_burst, call_interval, certificates, challenge_retention, challenges_per_hour, challenges_table,
    circle_calls_per_second, circle_source_ips, event_bus_name, is_https_or_loopback, is_local,
    metrics_namespace, rate_limits_table, request_timeout, restore_max_sign_in_age,
    unreadable_records_queue_url, user_hash_key, user_id_claim, user_names, webhook_url,
};
#[cfg(feature = "otel")]
pub use self::traces::{collector_url, trace_ratio};

/// The environment variables, read once.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

/// A setting that is missing or invalid. Its `Debug` is the sentence too, because that is what a `main` that returns an
/// error prints.
#[derive(Clone, thiserror::Error)]
#[error("{name} {problem}")]
pub struct SettingError {
    name: &'static str,
    problem: String,
}

impl fmt::Debug for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Environment {
    /// The variables of this process. A variable that is not UTF-8 counts as missing.
    #[expect(clippy::disallowed_methods, reason = "this is the door to the environment")]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// `AWS_LAMBDA_LOG_LEVEL` (TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF), INFO if it is unset or unknown: the level
    /// of this project's own log lines, which Lambda sets from its logging configuration.
    pub fn log_level(&self) -> LevelFilter {
        match self.get("AWS_LAMBDA_LOG_LEVEL") {
            Some("FATAL") => LevelFilter::ERROR,
            level => level.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO),
        }
    }

    /// A variable of the AWS SDK that applies to one service: `AWS_ENDPOINT_URL_SECRETS_MANAGER` for the variable
    /// `AWS_ENDPOINT_URL` and the service `Secrets Manager`.
    pub(crate) fn of_service(&self, variable: &str, service_id: &str) -> Option<String> {
        let service = service_id.to_uppercase().replace(' ', "_");
        self.get(&format!("{variable}_{service}")).map(str::to_owned)
    }

    /// A variable that is set and not blank.
    fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// A variable that is set, without white space around it.
    fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}
