//! The defaults and ranges of the settings, and what an invalid value says.

use std::fmt::Debug;

use tracing::level_filters::LevelFilter;

use super::*;

#[test]
fn defaults_are_as_documented() {
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
    assert_eq!(circle_calls_per_second(&environment).unwrap(), 4);
    assert_eq!(abandon_after(&environment).unwrap(), DAY * 7);
    assert_eq!(challenge_retention(&environment).unwrap(), DAY * 90);
    assert_eq!(request_timeout(&environment).unwrap().as_secs(), 8);
    assert_eq!(user_id_claim(&environment), "sub");
    assert_eq!(restore_max_sign_in_age(&environment).unwrap(), None);
    assert_eq!(circle_source_ips(&environment).unwrap().unwrap().len(), 4);
    assert_eq!(environment.log_level(), LevelFilter::INFO);
}

#[test]
fn settings_of_the_deployment_are_taken_as_they_are() {
    let nothing = Environment::default();
    let environment = Environment::from([
        ("AWS_REGION", "eu-central-1"),
        ("UNREADABLE_RECORDS_QUEUE_URL", "https://sqs.example.com/records"),
        ("METRICS_NAMESPACE", "pins"),
    ]);
    assert_eq!(aws_region(&environment).unwrap(), "eu-central-1");
    assert_eq!(unreadable_records_queue_url(&environment).unwrap(), "https://sqs.example.com/records");
    assert_eq!(metrics_namespace(&environment), "pins");
    assert_eq!(metrics_namespace(&nothing), "circle-pin-reset");
    assert!(aws_region(&nothing).is_err() && unreadable_records_queue_url(&nothing).is_err());
}

#[test]
fn stack_is_local_if_circle_is_at_a_loopback_address_in_plain_http() {
    for (url, is_on_this_machine) in [
        ("http://127.0.0.1:9", true),
        ("https://127.0.0.1:9", false),
        ("https://api.circle.com", false),
        ("http://api.circle.com", false),
        ("", false),
    ] {
        assert_eq!(is_local(&Environment::from([("CIRCLE_BASE_URL", url)])), is_on_this_machine, "{url}");
    }
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
        "RATE_LIMITS_TABLE is not set: give the name of the DynamoDB table of rate limits"
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
fn the_webhook_url_is_https_unless_it_is_loopback() {
    let read = |url| webhook_url(&Environment::from([("WEBHOOK_URL", url)]));
    for good in ["https://api.example.com/webhooks/circle", "http://127.0.0.1:8780/webhooks/circle"] {
        assert_eq!(read(good).unwrap().as_str(), good);
    }
    for bad in ["http://api.example.com/webhooks/circle", "api.example.com", "ftp://127.0.0.1/"] {
        assert_eq!(
            read(bad).unwrap_err().to_string(),
            "WEBHOOK_URL must be the https URL of the webhook route (http only for a loopback address)"
        );
    }
    assert!(read("").unwrap_err().to_string().starts_with("WEBHOOK_URL is not set: give the https URL"));
}

#[test]
fn the_environment_is_test_or_live() {
    let read = |word| CircleSettings::environment(&Environment::from([("CIRCLE_ENVIRONMENT", word)]));
    assert_eq!(read("TEST").unwrap(), Some(CircleEnvironment::Test));
    assert_eq!(read("LIVE").unwrap(), Some(CircleEnvironment::Live));
    assert_eq!(read(" ").unwrap(), None);
    for bad in ["test", "PRODUCTION", "TEST_"] {
        assert_eq!(
            read(bad).unwrap_err().to_string(),
            "CIRCLE_ENVIRONMENT must be TEST or LIVE, or unset to accept an API key for either"
        );
    }
}

/// Checks that a setting takes the good values, and says of the bad ones that it must be a whole number like this.
fn check<T: Debug + PartialEq, const N: usize>(
    name: &'static str,
    read: fn(&Environment) -> Result<T, SettingError>,
    good: [(&str, T); N],
    bad: &[&str],
    number: &str,
) {
    let read = |value| read(&Environment::from([(name, value)]));
    for (value, expected) in good {
        assert_eq!(read(value).unwrap(), expected, "{name}={value}");
    }
    for value in bad {
        let error = read(value).unwrap_err().to_string();
        assert_eq!(error, format!("{name} must be a whole {number}"), "{value}");
    }
}

#[test]
fn numbers_are_within_their_ranges() {
    check(
        "CHALLENGE_RETENTION_DAYS",
        challenge_retention,
        [("14", DAY * 14), ("3650", DAY * 3650)],
        &["13", "-1", "3651", "ninety", "14.5"],
        "number of days from 14 to 3650",
    );
    check(
        "CHALLENGES_PER_HOUR",
        challenges_per_hour,
        [("1", 1), ("1000", 1000)],
        &["0", "-1", "1001", "ten", "1.5"],
        "number from 1 to 1000",
    );
    check("CALL_BURST", call_burst, [("5", 5), ("1000", 1000)], &["4", "1001"], "number from 5 to 1000");
    check(
        "CALL_INTERVAL_SECONDS",
        call_interval,
        [("1", Duration::from_secs(1)), ("60", Duration::from_secs(60))],
        &["0", "61"],
        "number of seconds from 1 to 60",
    );
    check(
        "CIRCLE_CALLS_PER_SECOND",
        circle_calls_per_second,
        [("1", 1), ("50", 50)],
        &["0", "51", "-5", "2.5", "many"],
        "number of calls from 1 to 50",
    );
    check(
        "ABANDON_AFTER_DAYS",
        abandon_after,
        [("1", DAY), ("13", DAY * 13)],
        &["0", "14", "1.5", "week"],
        "number of days from 1 to 13",
    );
    check(
        "REQUEST_TIMEOUT_SECONDS",
        request_timeout,
        [("3", Duration::from_secs(3)), ("9", Duration::from_secs(9))],
        &["2", "10", "2.5", "eight"],
        "number of seconds from 3 to 9",
    );
    check(
        "RESTORE_MAX_SIGN_IN_AGE_MINUTES",
        restore_max_sign_in_age,
        [("0", None), ("1", Some(DAY / 1440)), ("1440", Some(DAY))],
        &["1441", "-1", "1.5", "off"],
        "number of minutes from 0 to 1440",
    );
}

#[test]
fn users_are_named_by_a_hash_unless_told_otherwise() {
    let key = "not the key of any stack, and long";
    let names = |names: &str, key: &str| {
        user_names(&Environment::from([("LOG_USER_IDS", names), ("USER_HASH_KEY", key)]))
    };
    assert!(matches!(names("", key), Ok(UserNames::Hashed(_))));
    assert!(matches!(names("hashed", key), Ok(UserNames::Hashed(_))));
    assert!(matches!(names("plain", ""), Ok(UserNames::Plain)));
    let error = names("none", key).unwrap_err().to_string();
    assert_eq!(error, "LOG_USER_IDS must be hashed or plain: how log lines name users");
    let error = names("", &key[..31]).unwrap_err().to_string();
    assert!(error.starts_with("USER_HASH_KEY must be a secret text of at least 32 characters"), "{error}");
    assert!(!error.contains(&key[..31]), "{error}");
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
