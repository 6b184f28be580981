//! The API keys of a stack: checked before the stack creates anything that would have to be removed by hand.
//!
//! Each key is checked with a read that needs its permission. Nothing is written at Circle, so the check cannot find out
//! whether a key may write.

use std::fmt;

use shared::circle::{Circle, CircleError};
use shared::clock::Deadline;
use shared::config::{CircleSettings, SettingError, circle_source_ips};
use shared::user_id::UserId;

use crate::event::Change;
use crate::subscription::retry;
use crate::{ManageSubscription, WorkError};

/// What a key is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Sessions and challenges of users.
    Users,
    /// The public keys that verify webhooks.
    Webhooks,
    /// The subscription.
    Subscription,
}

/// A key that is not usable for its purpose.
#[derive(Debug, thiserror::Error)]
#[error("the API key of the parameter {parameter} cannot be used for {purpose}")]
pub(crate) struct UnusableKey {
    /// The template's parameter that names the key's secret.
    pub(crate) parameter: &'static str,
    pub(crate) purpose: Purpose,
    #[source]
    pub(crate) error: Box<CircleError>,
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Users => "users and challenges",
            Self::Webhooks => "the public keys of webhooks",
            Self::Subscription => "the webhook subscription",
        })
    }
}

impl Purpose {
    /// Circle's name of the permission that a key needs.
    pub(crate) fn permission(self) -> &'static str {
        match self {
            Self::Users => "Wallets: read and write",
            Self::Webhooks => "Webhooks: read",
            Self::Subscription => "Webhooks: read and write",
        }
    }

    /// The parameter for a key of its own, if there can be one.
    fn parameter(self) -> &'static str {
        match self {
            Self::Users => MAIN_KEY,
            Self::Webhooks => "WebhookApiKeySecretArn",
            Self::Subscription => "SubscriptionApiKeySecretArn",
        }
    }
}

/// The parameter for the key that is used for every purpose without a key of its own.
const MAIN_KEY: &str = "CircleApiKeySecretArn";

/// Checks each key for each of its purposes, and the settings that can be invalid although the template has accepted their
/// parameters.
pub(crate) async fn check(
    function: &ManageSubscription,
    event: &Change,
    deadline: Deadline,
) -> Result<(), WorkError> {
    let platform = &function.platform;
    circle_source_ips(&platform.environment)?;
    let settings = function.settings.as_ref().map_err(SettingError::clone)?;
    let manages_subscription = event.property("ManageSubscription") != Some("false");
    for purpose in [Purpose::Users, Purpose::Webhooks, Purpose::Subscription] {
        if purpose == Purpose::Subscription && !manages_subscription {
            continue;
        }
        let own = event.property(purpose.parameter()).map(|secret| (purpose.parameter(), secret));
        let main = || event.property(MAIN_KEY).unwrap_or(&settings.api_key_secret_id);
        let (parameter, secret_id) = own.unwrap_or_else(|| (MAIN_KEY, main()));
        let settings = CircleSettings { api_key_secret_id: secret_id.to_owned(), ..settings.clone() };
        let circle = Circle::new(platform, settings);
        retry(&*platform.clock, &platform.random, deadline, async || {
            is_accepted(attempt(function, &circle, purpose, deadline).await)
        })
        .await
        .map_err(|error| UnusableKey { parameter, purpose, error: error.into() })?;
        tracing::info!(parameter, %purpose, "Circle accepts the API key");
    }
    Ok(())
}

/// Makes a read at Circle for which the key needs its permission. The ids are random, so Circle does not know them.
async fn attempt(
    function: &ManageSubscription,
    circle: &Circle,
    purpose: Purpose,
    deadline: Deadline,
) -> Result<(), CircleError> {
    let id = function.platform.random.uuid();
    match purpose {
        Purpose::Users => {
            let nobody = id.to_string().parse::<UserId>().expect("a UUID can be a user id");
            circle.user(&nobody, deadline).await.map(drop)
        }
        Purpose::Webhooks => circle.public_key(id, deadline).await.map(drop),
        Purpose::Subscription => circle.subscriptions(deadline).await.map(drop),
    }
}

/// Circle accepts a key if it rejects a request for another reason, such as an unknown id.
fn is_accepted(result: Result<(), CircleError>) -> Result<(), CircleError> {
    match result {
        Err(CircleError::Response { status, code: Some(_), .. })
            if (400..500).contains(&status) && !matches!(status, 401 | 403 | 429) =>
        {
            Ok(())
        }
        result => result,
    }
}
