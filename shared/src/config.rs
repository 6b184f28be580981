//! Settings: the only place that reads the environment.
//!
//! A function reads only the settings that it uses. A missing or bad one is a [`SettingError`], a sentence that
//! names it; no value is ever part of the sentence.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use reqwest::Url;
use time::Duration;
use tracing::level_filters::LevelFilter;

use crate::api_key::CircleEnvironment;

/// The environment variables, read once.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

/// A setting that is missing or bad. Its `Debug` is the sentence too, because that is what a `main` that
/// returns an error prints.
#[derive(Clone, Copy, thiserror::Error)]
#[error("{name} {problem}")]
pub struct SettingError {
    name: &'static str,
    problem: &'static str,
}

impl fmt::Debug for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Environment {
    /// The variables of this process; one that is not UTF-8 counts as missing.
    #[expect(clippy::disallowed_methods, reason = "this is the door to the environment")]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// `AWS_LAMBDA_LOG_LEVEL` (TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF), INFO if it is unset or unknown:
    /// the level of this project's own log lines, which Lambda sets from its logging configuration.
    pub fn log_level(&self) -> LevelFilter {
        match self.get("AWS_LAMBDA_LOG_LEVEL") {
            Some("FATAL") => LevelFilter::ERROR,
            level => level.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO),
        }
    }

    /// A variable that is set and not blank.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn require(&self, name: &'static str, problem: &'static str) -> Result<&str, SettingError> {
        self.get(name).ok_or(SettingError { name, problem })
    }

    /// A whole number within a range, or the default where it is unset.
    fn number<N: FromStr + PartialOrd>(
        &self,
        name: &'static str,
        default: N,
        range: RangeInclusive<N>,
        problem: &'static str,
    ) -> Result<N, SettingError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or(SettingError { name, problem })
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

/// How to reach Circle.
#[derive(Debug, Clone)]
pub struct CircleSettings {
    /// `CIRCLE_BASE_URL`, by default `https://api.circle.com`. Plain http is accepted for a loopback
    /// address only.
    pub base_url: Url,
    /// `CIRCLE_API_KEY_SECRET_ID`: name or ARN of the secret that holds the API key.
    pub api_key_secret_id: String,
    /// `CIRCLE_ENVIRONMENT`, `TEST` or `LIVE`: the environment that the API key has to be for; any if unset.
    pub environment: Option<CircleEnvironment>,
}

impl CircleSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// When the secret's id is missing, the base URL is not an https URL (or a loopback one), or there is no such
    /// environment.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            base_url: Self::base_url(environment)?,
            api_key_secret_id: environment
                .require(
                    "CIRCLE_API_KEY_SECRET_ID",
                    "is not set: give the name or ARN of the Secrets Manager secret that holds the Circle API key",
                )?
                .to_owned(),
            environment: Self::environment(environment)?,
        })
    }

    fn environment(environment: &Environment) -> Result<Option<CircleEnvironment>, SettingError> {
        let Some(word) = environment.get("CIRCLE_ENVIRONMENT") else { return Ok(None) };
        CircleEnvironment::parse(word).map(Some).ok_or(SettingError {
            name: "CIRCLE_ENVIRONMENT",
            problem: "must be TEST or LIVE, or unset to take an API key of either",
        })
    }

    fn base_url(environment: &Environment) -> Result<Url, SettingError> {
        const BAD: SettingError = SettingError {
            name: "CIRCLE_BASE_URL",
            problem: "must be an https URL without path, query or credentials, like https://api.circle.com (http only for a loopback address)",
        };
        let url = environment.get("CIRCLE_BASE_URL").unwrap_or("https://api.circle.com");
        let url = Url::parse(url).map_err(|_| BAD)?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if bare && is_https_or_loopback(&url) { Ok(url) } else { Err(BAD) }
    }
}

/// Whether what is sent to the URL can be read on the way by nobody: https, or plain http to a loopback address.
pub fn is_https_or_loopback(url: &Url) -> bool {
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

/// `CHALLENGES_TABLE`: name of the DynamoDB table of challenge records.
///
/// # Errors
/// When it is missing.
pub fn challenges_table(environment: &Environment) -> Result<String, SettingError> {
    let problem = "is not set: give the name of the DynamoDB table of challenge records";
    environment.require("CHALLENGES_TABLE", problem).map(str::to_owned)
}

/// `RATE_LIMITS_TABLE`: name of the DynamoDB table in which challenge requests are counted.
///
/// # Errors
/// When it is missing.
pub fn rate_limits_table(environment: &Environment) -> Result<String, SettingError> {
    let problem = "is not set: give the name of the DynamoDB table in which challenge requests are counted";
    environment.require("RATE_LIMITS_TABLE", problem).map(str::to_owned)
}

/// `CHALLENGES_PER_HOUR`, from 1 to 1000, by default 10: how many new challenges one user may ask for in an hour.
///
/// # Errors
/// When it is no such number.
pub fn challenges_per_hour(environment: &Environment) -> Result<u32, SettingError> {
    environment.number("CHALLENGES_PER_HOUR", 10, 1..=1000, "must be a whole number from 1 to 1000")
}

/// `CHALLENGE_RETENTION_DAYS`, from 14 to 3650, by default 90: how long a requested challenge is kept after
/// its last change. Late webhook retries have to meet their record.
///
/// # Errors
/// When it is no such number of days.
pub fn challenge_retention(environment: &Environment) -> Result<Duration, SettingError> {
    let problem = "must be a whole number of days from 14 to 3650";
    environment.number("CHALLENGE_RETENTION_DAYS", 90, 14..=3650, problem).map(Duration::days)
}

/// `REQUEST_TIMEOUT_SECONDS`, from 3 to 9, by default 8: the longest that a caller of the API, or Circle with a
/// webhook, waits for an answer. The function's own time limit has to be longer.
///
/// # Errors
/// When it is no such number of seconds.
pub fn request_timeout(environment: &Environment) -> Result<std::time::Duration, SettingError> {
    let problem = "must be a whole number of seconds from 3 to 9";
    environment.number("REQUEST_TIMEOUT_SECONDS", 8, 3..=9, problem).map(std::time::Duration::from_secs)
}

/// `CIRCLE_CALLS_PER_RUN`, from 2 to 100000, by default 500: how many calls to Circle one run of the scheduled
/// look may make, so that it leaves room in the account's rate limit.
///
/// # Errors
/// When it is no such number.
pub fn circle_calls_per_run(environment: &Environment) -> Result<u32, SettingError> {
    let problem = "must be a whole number of calls from 2 to 100000";
    environment.number("CIRCLE_CALLS_PER_RUN", 500, 2..=100_000, problem)
}

/// `ABANDON_AFTER_DAYS`, from 1 to 13, by default 7: after how long a challenge that Circle has not settled is
/// no longer looked at. Its record is there for longer, for a late webhook.
///
/// # Errors
/// When it is no such number of days.
pub fn abandon_after(environment: &Environment) -> Result<Duration, SettingError> {
    let problem = "must be a whole number of days from 1 to 13";
    environment.number("ABANDON_AFTER_DAYS", 7, 1..=13, problem).map(Duration::days)
}

/// `USER_ID_CLAIM`, by default `sub`: the claim of the caller's token that is the Circle user id.
///
/// It has to be assigned by the issuer, never editable by the user and never given to another user.
pub fn user_id_claim(environment: &Environment) -> String {
    environment.get("USER_ID_CLAIM").unwrap_or("sub").to_owned()
}

/// The addresses that Circle sends webhooks from, by its documentation of webhook notifications.
const CIRCLE_SOURCE_IPS: &str = "54.243.112.156,100.24.191.35,54.165.52.248,54.87.106.46";

/// `CIRCLE_SOURCE_IPS`: comma-separated addresses that webhooks may come from; `None` if it is set to
/// nothing, which turns the check off. By default the addresses that Circle documents.
///
/// # Errors
/// When an entry is not an IP address.
pub fn circle_source_ips(environment: &Environment) -> Result<Option<Vec<IpAddr>>, SettingError> {
    let addresses = environment.0.get("CIRCLE_SOURCE_IPS").map_or(CIRCLE_SOURCE_IPS, |list| list.trim());
    if addresses.is_empty() {
        return Ok(None);
    }
    let addresses: Result<_, _> = addresses.split(',').map(|address| address.trim().parse()).collect();
    addresses.map(Some).map_err(|_| SettingError {
        name: "CIRCLE_SOURCE_IPS",
        problem: "must be a comma-separated list of IP addresses, or empty to accept webhooks from any address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let environment = Environment::from([
            ("CHALLENGES_TABLE", "challenges"),
            ("RATE_LIMITS_TABLE", "requests"),
            ("CIRCLE_API_KEY_SECRET_ID", "circle"),
        ]);
        let circle = CircleSettings::read(&environment).unwrap();
        assert_eq!(circle.base_url.as_str(), "https://api.circle.com/");
        assert_eq!(circle.api_key_secret_id, "circle");
        assert_eq!(circle.environment, None);
        assert_eq!(challenges_table(&environment).unwrap(), "challenges");
        assert_eq!(rate_limits_table(&environment).unwrap(), "requests");
        assert_eq!(challenges_per_hour(&environment).unwrap(), 10);
        assert_eq!(circle_calls_per_run(&environment).unwrap(), 500);
        assert_eq!(abandon_after(&environment).unwrap(), Duration::days(7));
        assert_eq!(challenge_retention(&environment).unwrap(), Duration::days(90));
        assert_eq!(request_timeout(&environment).unwrap().as_secs(), 8);
        assert_eq!(user_id_claim(&environment), "sub");
        assert_eq!(circle_source_ips(&environment).unwrap().unwrap().len(), 4);
        assert_eq!(environment.log_level(), LevelFilter::INFO);
    }

    #[test]
    fn a_missing_setting_is_named() {
        let nothing = Environment::default();
        assert_eq!(
            CircleSettings::read(&nothing).unwrap_err().to_string(),
            "CIRCLE_API_KEY_SECRET_ID is not set: give the name or ARN of the Secrets Manager secret that holds the Circle API key"
        );
        let blank = Environment::from([("CHALLENGES_TABLE", " ")]);
        assert_eq!(
            format!("{:?}", challenges_table(&blank).unwrap_err()),
            "CHALLENGES_TABLE is not set: give the name of the DynamoDB table of challenge records"
        );
        assert_eq!(
            rate_limits_table(&nothing).unwrap_err().to_string(),
            "RATE_LIMITS_TABLE is not set: give the name of the DynamoDB table in which challenge requests are counted"
        );
    }

    #[test]
    fn the_base_url_is_https_unless_it_is_loopback() {
        let read = |url| CircleSettings::base_url(&Environment::from([("CIRCLE_BASE_URL", url)]));
        for good in [
            "https://api.circle.com",
            "http://127.0.0.1:9",
            "http://[::1]:9",
            "http://localhost:9",
            "https://x.y/",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.circle.com",
            "http://10.0.0.1",
            "http://127.0.0.1.example.com",
            "https://user:secret@api.circle.com",
            "https://api.circle.com/v1",
            "https://api.circle.com/?a=b",
            "ftp://127.0.0.1",
            "api.circle.com",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.starts_with("CIRCLE_BASE_URL must be an https URL"), "{bad}: {error}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn the_environment_is_circles_word() {
        let read = |word| CircleSettings::environment(&Environment::from([("CIRCLE_ENVIRONMENT", word)]));
        assert_eq!(read("TEST").unwrap(), Some(CircleEnvironment::Test));
        assert_eq!(read("LIVE").unwrap(), Some(CircleEnvironment::Live));
        assert_eq!(read(" ").unwrap(), None);
        for bad in ["test", "PRODUCTION", "TEST_"] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                "CIRCLE_ENVIRONMENT must be TEST or LIVE, or unset to take an API key of either"
            );
        }
    }

    #[test]
    fn retention_is_at_least_a_fortnight() {
        let read = |days| {
            let environment = Environment::from([("CHALLENGE_RETENTION_DAYS", days)]);
            challenge_retention(&environment).map(Duration::whole_days)
        };
        assert_eq!(read("14").unwrap(), 14);
        for bad in ["13", "-1", "3651", "ninety", "14.5"] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                "CHALLENGE_RETENTION_DAYS must be a whole number of days from 14 to 3650"
            );
        }
    }

    #[test]
    fn a_user_may_ask_for_one_challenge_an_hour_at_least() {
        let read = |limit| challenges_per_hour(&Environment::from([("CHALLENGES_PER_HOUR", limit)]));
        assert_eq!((read("1").unwrap(), read("1000").unwrap()), (1, 1000));
        for bad in ["0", "-1", "1001", "ten", "1.5"] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                "CHALLENGES_PER_HOUR must be a whole number from 1 to 1000"
            );
        }
    }

    #[test]
    fn a_run_makes_two_calls_at_least_and_gives_up_before_the_record_goes() {
        let calls = |calls| circle_calls_per_run(&Environment::from([("CIRCLE_CALLS_PER_RUN", calls)]));
        assert_eq!((calls("2").unwrap(), calls("100000").unwrap()), (2, 100_000));
        for bad in ["1", "100001", "-5", "many"] {
            assert_eq!(
                calls(bad).unwrap_err().to_string(),
                "CIRCLE_CALLS_PER_RUN must be a whole number of calls from 2 to 100000"
            );
        }
        let days = |days| abandon_after(&Environment::from([("ABANDON_AFTER_DAYS", days)]));
        assert_eq!((days("1").unwrap(), days("13").unwrap()), (Duration::days(1), Duration::days(13)));
        for bad in ["0", "14", "1.5", "week"] {
            assert_eq!(
                days(bad).unwrap_err().to_string(),
                "ABANDON_AFTER_DAYS must be a whole number of days from 1 to 13"
            );
        }
    }

    #[test]
    fn a_request_waits_for_less_than_the_function_may_take() {
        let read = |seconds| request_timeout(&Environment::from([("REQUEST_TIMEOUT_SECONDS", seconds)]));
        assert_eq!((read("3").unwrap().as_secs(), read("9").unwrap().as_secs()), (3, 9));
        for bad in ["2", "10", "2.5", "eight"] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                "REQUEST_TIMEOUT_SECONDS must be a whole number of seconds from 3 to 9"
            );
        }
    }

    #[test]
    fn source_addresses_can_be_given_or_turned_off() {
        let read = |list| circle_source_ips(&Environment::from([("CIRCLE_SOURCE_IPS", list)]));
        assert_eq!(
            read("127.0.0.1, ::1").unwrap().unwrap(),
            ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
        );
        assert_eq!(read("").unwrap(), None);
        assert!(read("10.0.0.0/8").unwrap_err().to_string().starts_with("CIRCLE_SOURCE_IPS must be"));
    }
}
