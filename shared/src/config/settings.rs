//! Every setting, its default and its range.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use aws_credential_types::Credentials;
use reqwest::Url;
use rustls::RootCertStore;
use serde::Serialize;

use super::{Environment, SettingError};
use crate::secrets::CircleEnvironment;
use crate::user_hash::{UserHashKey, UserNames};

/// A setting: an environment variable, its value if it is unset, and the values that it takes.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// The value if the variable is unset. Without one the variable is required, unless unset has a meaning of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<&'static str>,
    /// The range of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<RangeInclusive<u32>>,
    /// What to give, as the end of a sentence that begins with "give" or "must be".
    #[serde(skip)]
    pub(super) expected: &'static str,
}

const CHALLENGES_TABLE: Setting =
    text("CHALLENGES_TABLE", "the name of the DynamoDB table of challenge records");
const RATE_LIMITS_TABLE: Setting = text("RATE_LIMITS_TABLE", "the name of the DynamoDB table of rate limits");
const EVENT_BUS_NAME: Setting = text("EVENT_BUS_NAME", "the name or ARN of the EventBridge bus");
const UNREADABLE_RECORDS_QUEUE_URL: Setting = text(
    "UNREADABLE_RECORDS_QUEUE_URL",
    "the URL of the SQS queue for records of the table's stream that cannot be read",
);
const CIRCLE_API_KEY_SECRET_ID: Setting = text(
    "CIRCLE_API_KEY_SECRET_ID",
    "the name or ARN of the Secrets Manager secret that holds the Circle API key",
);
const CIRCLE_BASE_URL: Setting = Setting {
    default: Some("https://api.circle.com"),
    ..text(
        "CIRCLE_BASE_URL",
        "an https URL without path, query or credentials, like https://api.circle.com (http only for a loopback address)",
    )
};
const CIRCLE_ENVIRONMENT: Setting =
    text("CIRCLE_ENVIRONMENT", "TEST or LIVE, or unset to accept an API key for either");
const USER_ID_CLAIM: Setting =
    Setting { default: Some("sub"), ..text("USER_ID_CLAIM", "the name of a claim") };
const USER_HASH_KEY: Setting = text(
    "USER_HASH_KEY",
    "a secret text of at least 32 characters, the key of the hashes that stand for user ids",
);
const LOG_USER_IDS: Setting =
    Setting { default: Some("hashed"), ..text("LOG_USER_IDS", "hashed or plain: how log lines name users") };
const METRICS_NAMESPACE: Setting = Setting {
    default: Some("circle-pin-reset"),
    ..text("METRICS_NAMESPACE", "the CloudWatch namespace of the metrics")
};
const RESTORE_MAX_SIGN_IN_AGE_MINUTES: Setting =
    number("RESTORE_MAX_SIGN_IN_AGE_MINUTES", "number of minutes", "0", 0..=1440);
/// The default is the list of source addresses in Circle's documentation of webhook notifications
/// (`https://developers.circle.com/wallets/webhook-notifications`).
const CIRCLE_SOURCE_IPS: Setting = Setting {
    default: Some("54.243.112.156,100.24.191.35,54.165.52.248,54.87.106.46"),
    ..text(
        "CIRCLE_SOURCE_IPS",
        "a comma-separated list of IP addresses, or empty to accept webhooks from any address",
    )
};
const WEBHOOK_URL: Setting =
    text("WEBHOOK_URL", "the https URL of the webhook route (http only for a loopback address)");
const CHALLENGE_RETENTION_DAYS: Setting =
    number("CHALLENGE_RETENTION_DAYS", "number of days", "90", 14..=3650);
const CHALLENGES_PER_HOUR: Setting = number("CHALLENGES_PER_HOUR", "number", "10", 1..=1000);
const CALL_BURST: Setting = number("CALL_BURST", "number", "20", 5..=1000);
const CALL_INTERVAL_SECONDS: Setting = number("CALL_INTERVAL_SECONDS", "number of seconds", "5", 1..=60);
const REQUEST_TIMEOUT_SECONDS: Setting = number("REQUEST_TIMEOUT_SECONDS", "number of seconds", "8", 3..=9);
const CIRCLE_CALLS_PER_SECOND: Setting = number("CIRCLE_CALLS_PER_SECOND", "number of calls", "4", 1..=50);
const ABANDON_AFTER_DAYS: Setting = number("ABANDON_AFTER_DAYS", "number of days", "7", 1..=13);

const AWS_REGION: Setting = text("AWS_REGION", "the AWS region; Lambda sets it");
const AWS_ACCESS_KEY_ID: Setting =
    text("AWS_ACCESS_KEY_ID", "the access key of the credentials for AWS; Lambda sets it");
const AWS_SECRET_ACCESS_KEY: Setting =
    text("AWS_SECRET_ACCESS_KEY", "the secret key of the credentials for AWS; Lambda sets it");

const SSL_CERT_FILE: Setting = text("SSL_CERT_FILE", "a file of certificates in PEM");
const SSL_CERT_DIR: Setting = text("SSL_CERT_DIR", "a folder with files of certificates in PEM");

/// Every setting of the functions, beside the variables that Lambda, the AWS SDK, OpenSSL and OpenTelemetry define.
pub const SETTINGS: [Setting; 21] = [
    CHALLENGES_TABLE,
    RATE_LIMITS_TABLE,
    EVENT_BUS_NAME,
    UNREADABLE_RECORDS_QUEUE_URL,
    CIRCLE_API_KEY_SECRET_ID,
    CIRCLE_BASE_URL,
    CIRCLE_ENVIRONMENT,
    USER_ID_CLAIM,
    USER_HASH_KEY,
    LOG_USER_IDS,
    METRICS_NAMESPACE,
    RESTORE_MAX_SIGN_IN_AGE_MINUTES,
    CIRCLE_SOURCE_IPS,
    WEBHOOK_URL,
    CHALLENGE_RETENTION_DAYS,
    CHALLENGES_PER_HOUR,
    CALL_BURST,
    CALL_INTERVAL_SECONDS,
    REQUEST_TIMEOUT_SECONDS,
    CIRCLE_CALLS_PER_SECOND,
    ABANDON_AFTER_DAYS,
];

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) const fn text(name: &'static str, expected: &'static str) -> Setting {
    Setting { name, default: None, range: None, expected }
}

const fn number(
    name: &'static str,
    expected: &'static str,
    default: &'static str,
    range: RangeInclusive<u32>,
) -> Setting {
    Setting { name, default: Some(default), range: Some(range), expected }
}

impl Setting {
    /// The variable's value, else the default.
    pub(super) fn required(&self, environment: &Environment) -> Result<String, SettingError> {
        let value = environment.get(self.name).or(self.default);
        let missing =
            || SettingError { name: self.name, problem: format!("is not set: give {}", self.expected) };
        value.map(str::to_owned).ok_or_else(missing)
    }

    /// The variable's value or the default as a whole number within the range.
    fn number(&self, environment: &Environment) -> Result<u32, SettingError> {
        let (text, range) = (environment.get(self.name).or(self.default), self.range.as_ref());
        let number = text.and_then(|text| text.parse().ok());
        number.filter(|number| range.is_none_or(|range| range.contains(number))).ok_or_else(|| self.invalid())
    }

    pub(super) fn invalid(&self) -> SettingError {
        let problem = match &self.range {
            Some(range) => {
                format!("must be a whole {} from {} to {}", self.expected, range.start(), range.end())
            }
            None => format!("must be {}", self.expected),
        };
        SettingError { name: self.name, problem }
    }
}

/// How to reach Circle.
#[derive(Debug, Clone)]
pub struct CircleSettings {
    /// `CIRCLE_BASE_URL`, by default `https://api.circle.com`. Plain http is accepted for a loopback address only.
    pub base_url: Url,
    /// `CIRCLE_API_KEY_SECRET_ID`: name or ARN of the secret that holds the API key.
    pub api_key_secret_id: String,
    /// `CIRCLE_ENVIRONMENT`, `TEST` or `LIVE`: the environment that the API key has to be for; either if unset.
    pub environment: Option<CircleEnvironment>,
}

impl CircleSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// If the secret's id is missing, the base URL is neither an https URL nor a loopback one, or the environment is
    /// neither TEST nor LIVE.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            base_url: Self::base_url(environment)?,
            api_key_secret_id: CIRCLE_API_KEY_SECRET_ID.required(environment)?,
            environment: Self::environment(environment)?,
        })
    }

    pub(super) fn environment(environment: &Environment) -> Result<Option<CircleEnvironment>, SettingError> {
        let name = environment.get(CIRCLE_ENVIRONMENT.name);
        name.map(|name| name.parse().map_err(|_| CIRCLE_ENVIRONMENT.invalid())).transpose()
    }

    pub(super) fn base_url(environment: &Environment) -> Result<Url, SettingError> {
        let url = CIRCLE_BASE_URL.required(environment)?;
        let url = Url::parse(&url).map_err(|_| CIRCLE_BASE_URL.invalid())?;
        let is_bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if is_bare && is_https_or_loopback(&url) { Ok(url) } else { Err(CIRCLE_BASE_URL.invalid()) }
    }
}

/// Whether nobody can read what is sent to the URL on its way: https, or plain http to a loopback address.
pub fn is_https_or_loopback(url: &Url) -> bool {
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

/// Whether the function runs in the local stack: `CIRCLE_BASE_URL` is valid and plain http. It is valid in plain http only
/// if it is a loopback address.
pub fn is_local(environment: &Environment) -> bool {
    CircleSettings::base_url(environment).is_ok_and(|url| url.scheme() == "http")
}

/// `AWS_REGION`: the region of the tables and the secret.
///
/// # Errors
/// If it is missing.
pub fn aws_region(environment: &Environment) -> Result<String, SettingError> {
    AWS_REGION.required(environment)
}

/// `AWS_ENDPOINT_URL`: the endpoint of every AWS service, for emulators of AWS. Variables such as `AWS_ENDPOINT_URL_DYNAMODB`
/// replace it for one service.
pub fn aws_endpoint_url(environment: &Environment) -> Option<String> {
    environment.get("AWS_ENDPOINT_URL").map(str::to_owned)
}

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`: the credentials of the function's role. They are
/// valid for as long as Lambda keeps the process.
///
/// # Errors
/// If one of the first two is missing.
pub fn aws_credentials(environment: &Environment) -> Result<Credentials, SettingError> {
    let session_token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
    Ok(Credentials::new(
        AWS_ACCESS_KEY_ID.required(environment)?,
        AWS_SECRET_ACCESS_KEY.required(environment)?,
        session_token,
        None,
        "environment",
    ))
}

/// The certificates of the authorities to trust, from the file `SSL_CERT_FILE` and the folder `SSL_CERT_DIR` in PEM, the
/// variables of OpenSSL. `None` if neither is set.
///
/// # Errors
/// If no usable certificate can be read.
pub fn certificates(environment: &Environment) -> Result<Option<RootCertStore>, SettingError> {
    let path = |setting: Setting| environment.get(setting.name).map(Path::new);
    let (file, folder) = (path(SSL_CERT_FILE), path(SSL_CERT_DIR));
    let setting = match (file, folder) {
        (None, None) => return Ok(None),
        (Some(_), _) => SSL_CERT_FILE,
        (None, Some(_)) => SSL_CERT_DIR,
    };
    let found = rustls_native_certs::load_certs_from_paths(file, folder);
    let mut certificates = RootCertStore::empty();
    let (usable, _) = certificates.add_parsable_certificates(found.certs);
    if usable == 0 { Err(setting.invalid()) } else { Ok(Some(certificates)) }
}

/// `CHALLENGES_TABLE`: name of the DynamoDB table of challenge records.
///
/// # Errors
/// If it is missing.
pub fn challenges_table(environment: &Environment) -> Result<String, SettingError> {
    CHALLENGES_TABLE.required(environment)
}

/// `RATE_LIMITS_TABLE`: name of the DynamoDB table of rate limits.
///
/// # Errors
/// If it is missing.
pub fn rate_limits_table(environment: &Environment) -> Result<String, SettingError> {
    RATE_LIMITS_TABLE.required(environment)
}

/// `EVENT_BUS_NAME`: name or ARN of the EventBridge bus on which events are published.
///
/// # Errors
/// If it is missing.
pub fn event_bus_name(environment: &Environment) -> Result<String, SettingError> {
    EVENT_BUS_NAME.required(environment)
}

/// `UNREADABLE_RECORDS_QUEUE_URL`: URL of the SQS queue that keeps records of the table's stream that cannot be read.
///
/// # Errors
/// If it is missing.
pub fn unreadable_records_queue_url(environment: &Environment) -> Result<String, SettingError> {
    UNREADABLE_RECORDS_QUEUE_URL.required(environment)
}

/// `CHALLENGES_PER_HOUR`, by default 10: how many new challenges one user may create in an hour.
///
/// # Errors
/// If it is not a number within its range.
pub fn challenges_per_hour(environment: &Environment) -> Result<u32, SettingError> {
    CHALLENGES_PER_HOUR.number(environment)
}

/// `CALL_BURST`, by default 20: how many requests of one user may reach Circle at once.
///
/// # Errors
/// If it is not a number within its range.
pub fn call_burst(environment: &Environment) -> Result<u32, SettingError> {
    CALL_BURST.number(environment)
}

/// `CALL_INTERVAL_SECONDS`, by default 5: how long it takes until another request of a user may reach Circle once the burst
/// is used up.
///
/// # Errors
/// If it is not a number within its range.
pub fn call_interval(environment: &Environment) -> Result<Duration, SettingError> {
    CALL_INTERVAL_SECONDS.number(environment).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `CHALLENGE_RETENTION_DAYS`, by default 90: how long a requested challenge is kept after its last change. Late webhook
/// retries have to find their record.
///
/// # Errors
/// If it is not a number within its range.
pub fn challenge_retention(environment: &Environment) -> Result<Duration, SettingError> {
    CHALLENGE_RETENTION_DAYS.number(environment).map(|days| DAY * days)
}

/// `REQUEST_TIMEOUT_SECONDS`, by default 8: the longest that a caller of the API, or Circle with a webhook, waits for a
/// response. The function's own timeout has to be longer.
///
/// # Errors
/// If it is not a number within its range.
pub fn request_timeout(environment: &Environment) -> Result<Duration, SettingError> {
    REQUEST_TIMEOUT_SECONDS.number(environment).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `CIRCLE_CALLS_PER_SECOND`, by default 4: how many calls to Circle a reconciliation run makes in a second at most. Circle
/// publishes limits of 10 new sessions and 20 reads a second for an account
/// (`https://developers.circle.com/wallets/api-rate-limits`); most of them are meant for the users.
///
/// # Errors
/// If it is not a number within its range.
pub fn circle_calls_per_second(environment: &Environment) -> Result<u32, SettingError> {
    CIRCLE_CALLS_PER_SECOND.number(environment)
}

/// `ABANDON_AFTER_DAYS`, by default 7: the age at which reconciliation stops checking a challenge that Circle has not
/// settled. The record outlives it, for a late webhook.
///
/// # Errors
/// If it is not a number within its range.
pub fn abandon_after(environment: &Environment) -> Result<Duration, SettingError> {
    ABANDON_AFTER_DAYS.number(environment).map(|days| DAY * days)
}

/// `USER_ID_CLAIM`, by default `sub`: the claim of the caller's token that is the Circle user id.
///
/// The issuer has to assign it; a user must not be able to edit it, and no other user may ever get the same value.
pub fn user_id_claim(environment: &Environment) -> String {
    environment.get(USER_ID_CLAIM.name).or(USER_ID_CLAIM.default).unwrap_or_default().to_owned()
}

/// `USER_HASH_KEY`: the key of the hashes that stand for user ids.
///
/// # Errors
/// If it is missing or too short.
pub fn user_hash_key(environment: &Environment) -> Result<UserHashKey, SettingError> {
    UserHashKey::new(&USER_HASH_KEY.required(environment)?).ok_or_else(|| USER_HASH_KEY.invalid())
}

/// `LOG_USER_IDS`, by default `hashed`: how log lines name users.
///
/// # Errors
/// If it is neither `hashed` nor `plain`, or if the key of the hashes is missing or too short.
pub fn user_names(environment: &Environment) -> Result<UserNames, SettingError> {
    match LOG_USER_IDS.required(environment)?.as_str() {
        "hashed" => user_hash_key(environment).map(UserNames::Hashed),
        "plain" => Ok(UserNames::Plain),
        _ => Err(LOG_USER_IDS.invalid()),
    }
}

/// `METRICS_NAMESPACE`, by default `circle-pin-reset`: the CloudWatch namespace of the metrics.
pub fn metrics_namespace(environment: &Environment) -> String {
    environment.get(METRICS_NAMESPACE.name).or(METRICS_NAMESPACE.default).unwrap_or_default().to_owned()
}

/// `RESTORE_MAX_SIGN_IN_AGE_MINUTES`, by default 0: how long ago a user who restores a PIN may have signed in. `None` for 0,
/// which turns the check off.
///
/// # Errors
/// If it is not a number within its range.
pub fn restore_max_sign_in_age(environment: &Environment) -> Result<Option<Duration>, SettingError> {
    let minutes = RESTORE_MAX_SIGN_IN_AGE_MINUTES.number(environment)?;
    Ok((minutes > 0).then(|| Duration::from_secs(60 * u64::from(minutes))))
}

/// `CIRCLE_SOURCE_IPS`: comma-separated addresses that webhooks may come from, by default those that Circle documents.
/// `None` if it is set to nothing, which turns the check off.
///
/// # Errors
/// If an entry is not an IP address.
pub fn circle_source_ips(environment: &Environment) -> Result<Option<Vec<IpAddr>>, SettingError> {
    let addresses = environment.raw(CIRCLE_SOURCE_IPS.name).or(CIRCLE_SOURCE_IPS.default).unwrap_or_default();
    if addresses.is_empty() {
        return Ok(None);
    }
    let addresses: Result<_, _> = addresses.split(',').map(|address| address.trim().parse()).collect();
    addresses.map(Some).map_err(|_| CIRCLE_SOURCE_IPS.invalid())
}

/// `WEBHOOK_URL`: the URL that Circle sends webhooks to. Plain http is accepted for a loopback address only.
///
/// # Errors
/// If it is missing, or neither an https URL nor a loopback one.
pub fn webhook_url(environment: &Environment) -> Result<Url, SettingError> {
    let url = Url::parse(&WEBHOOK_URL.required(environment)?).ok();
    url.filter(is_https_or_loopback).ok_or_else(|| WEBHOOK_URL.invalid())
}

#[cfg(test)]
mod tests;
