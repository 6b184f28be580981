//! The environment of the functions: their settings, and the ports of the parts of the stack.

use std::collections::BTreeMap;

use crate::dynamodb::{CHALLENGES_TABLE, RATE_LIMITS_TABLE};
use crate::event_bus::EVENT_BUS;

/// The name of the secret with Circle's API key.
pub const API_KEY_SECRET: &str = "circle-api-key";

/// The key of the hashes that stand for user ids.
pub const USER_HASH_KEY: &str = "not-a-secret-it-hashes-users-on-this-machine";

// The ports of the other parts, counted from that of the HTTP API.
pub(crate) const CIRCLE_PORT: u16 = 1;
pub(crate) const DYNAMODB_PORT: u16 = 2;
pub(crate) const SECRETS_MANAGER_PORT: u16 = 3;
pub(crate) const ISSUER_PORT: u16 = 4;
pub(crate) const EVENT_BUS_PORT: u16 = 5;
pub(crate) const PIN_PAGE_PORT: u16 = 6;
pub(crate) const WEB_PORT: u16 = 7;

/// The environment variables of functions in another process, if the HTTP API of their stack is on `port`.
pub fn function_environment_on(port: u16) -> BTreeMap<String, String> {
    let url = |offset| format!("http://127.0.0.1:{}", port + offset);
    function_environment(&Urls {
        api: &url(0),
        circle: &url(CIRCLE_PORT),
        dynamodb: &url(DYNAMODB_PORT),
        secrets_manager: &url(SECRETS_MANAGER_PORT),
        event_bus: &url(EVENT_BUS_PORT),
    })
}

/// The base URLs of the parts that functions use.
pub(crate) struct Urls<'a> {
    pub(crate) api: &'a str,
    pub(crate) circle: &'a str,
    pub(crate) dynamodb: &'a str,
    pub(crate) secrets_manager: &'a str,
    pub(crate) event_bus: &'a str,
}

/// The environment variables of functions.
pub(crate) fn function_environment(urls: &Urls<'_>) -> BTreeMap<String, String> {
    let webhook_url = format!("{}/webhooks/circle", urls.api);
    let queue_url = format!("{}/unreadable-records", urls.event_bus);
    [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_DYNAMODB", urls.dynamodb),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", urls.event_bus),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", urls.secrets_manager),
        ("AWS_ENDPOINT_URL_SQS", urls.event_bus),
        ("CHALLENGES_TABLE", CHALLENGES_TABLE),
        ("RATE_LIMITS_TABLE", RATE_LIMITS_TABLE),
        ("EVENT_BUS_NAME", EVENT_BUS),
        ("UNREADABLE_RECORDS_QUEUE_URL", &queue_url),
        ("CIRCLE_API_KEY_SECRET_ID", API_KEY_SECRET),
        ("CIRCLE_BASE_URL", urls.circle),
        ("CIRCLE_SOURCE_IPS", "127.0.0.1"),
        ("USER_HASH_KEY", USER_HASH_KEY),
        ("WEBHOOK_URL", &webhook_url),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `functions.env` is for `cargo lambda watch` with a stack on the default ports.
    #[test]
    fn functions_env_has_the_variables_of_a_stack_on_the_default_ports() {
        let environment = function_environment_on(8780);
        let expected: String = environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        assert_eq!(include_str!("../functions.env"), expected);
    }
}
