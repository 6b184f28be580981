//! The defaults and ranges of the settings, and what an invalid value says.

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

#[test]
fn retention_is_at_least_two_weeks() {
    let read = |days| {
        let environment = Environment::from([("CHALLENGE_RETENTION_DAYS", days)]);
        challenge_retention(&environment)
    };
    assert_eq!(read("14").unwrap(), DAY * 14);
    for bad in ["13", "-1", "3651", "ninety", "14.5"] {
        assert_eq!(
            read(bad).unwrap_err().to_string(),
            "CHALLENGE_RETENTION_DAYS must be a whole number of days from 14 to 3650"
        );
    }
}

#[test]
fn a_user_may_create_at_least_one_challenge_an_hour() {
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
fn the_limits_of_calls_are_within_their_ranges() {
    let burst = |value| call_burst(&Environment::from([("CALL_BURST", value)]));
    assert_eq!((burst("5").unwrap(), burst("1000").unwrap()), (5, 1000));
    assert_eq!(burst("4").unwrap_err().to_string(), "CALL_BURST must be a whole number from 5 to 1000");
    let interval = |value| call_interval(&Environment::from([("CALL_INTERVAL_SECONDS", value)]));
    assert_eq!(interval("60").unwrap(), Duration::from_secs(60));
    assert_eq!(
        interval("0").unwrap_err().to_string(),
        "CALL_INTERVAL_SECONDS must be a whole number of seconds from 1 to 60"
    );
}

#[test]
fn a_run_makes_at_least_one_call_a_second() {
    let calls = |calls| circle_calls_per_second(&Environment::from([("CIRCLE_CALLS_PER_SECOND", calls)]));
    assert_eq!((calls("1").unwrap(), calls("50").unwrap()), (1, 50));
    for bad in ["0", "51", "-5", "2.5", "many"] {
        assert_eq!(
            calls(bad).unwrap_err().to_string(),
            "CIRCLE_CALLS_PER_SECOND must be a whole number of calls from 1 to 50"
        );
    }
}

#[test]
fn a_challenge_is_abandoned_before_its_record_expires() {
    let days = |days| abandon_after(&Environment::from([("ABANDON_AFTER_DAYS", days)]));
    assert_eq!((days("1").unwrap(), days("13").unwrap()), (DAY, DAY * 13));
    for bad in ["0", "14", "1.5", "week"] {
        assert_eq!(
            days(bad).unwrap_err().to_string(),
            "ABANDON_AFTER_DAYS must be a whole number of days from 1 to 13"
        );
    }
}

#[test]
fn the_request_timeout_is_shorter_than_the_functions() {
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
fn the_age_of_a_sign_in_is_at_most_a_day() {
    let read =
        |minutes| restore_max_sign_in_age(&Environment::from([("RESTORE_MAX_SIGN_IN_AGE_MINUTES", minutes)]));
    assert_eq!(read("0").unwrap(), None);
    assert_eq!((read("1").unwrap(), read("1440").unwrap()), (Some(DAY / 1440), Some(DAY)));
    for bad in ["1441", "-1", "1.5", "off"] {
        assert_eq!(
            read(bad).unwrap_err().to_string(),
            "RESTORE_MAX_SIGN_IN_AGE_MINUTES must be a whole number of minutes from 0 to 1440"
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
