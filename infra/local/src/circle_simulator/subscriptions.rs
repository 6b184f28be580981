//! Who wants which webhooks.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use shared::clock::timeout;
use time::OffsetDateTime;
use uuid::Uuid;

use super::refusal::Refusal;
use super::text::date;
use super::{CircleSimulator, ControlError};

/// How long an endpoint may take to answer. Circle documents no limit.
pub(super) const ENDPOINT_LIMIT: Duration = Duration::from_secs(10);

/// The challenge types that Circle's SDKs can subscribe to. Other families are taken as they come.
const CHALLENGE_NOTIFICATIONS: [&str; 10] = [
    "challenges.*",
    "challenges.accelerateTransaction",
    "challenges.cancelTransaction",
    "challenges.changePin",
    "challenges.contractExecution",
    "challenges.createTransaction",
    "challenges.createWallet",
    "challenges.initialize",
    "challenges.restorePin",
    "challenges.setPin",
];
const SET_SECURITY_QUESTIONS: &str = "challenges.setSecurityQuestions";

#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) enabled: bool,
    notification_types: Vec<String>,
    created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

impl Subscription {
    /// Circle's `Subscription`.
    pub(super) fn resource(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "endpoint": self.endpoint,
            "enabled": self.enabled,
            "notificationTypes": self.notification_types,
            "restricted": !self.notification_types.iter().any(|filter| filter == "*"),
            "createDate": date(self.created_at),
            "updateDate": date(self.updated_at),
        })
    }

    /// Whether it wants notifications of this type now.
    pub(super) fn wants(&self, notification_type: &str) -> bool {
        self.enabled && self.notification_types.iter().any(|filter| matches(filter, notification_type))
    }
}

/// `*`, a family such as `challenges.*`, or one exact type.
fn matches(filter: &str, notification_type: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(prefix) => notification_type.starts_with(prefix),
        None => filter == notification_type,
    }
}

/// Whether Circle knows such a filter.
pub(super) fn is_filter(filter: &str) -> bool {
    if filter.starts_with("challenges.") {
        return CHALLENGE_NOTIFICATIONS.contains(&filter) || filter == SET_SECURITY_QUESTIONS;
    }
    let word = |text: &str| !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric());
    filter == "*"
        || filter.split_once('.').is_some_and(|(family, kind)| word(family) && (kind == "*" || word(kind)))
}

/// An https URL, or for local runs any on loopback.
pub(super) fn is_endpoint(endpoint: &str) -> bool {
    let Ok(url) = Url::parse(endpoint) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

impl CircleSimulator {
    /// Subscribes an endpoint as `POST /v2/notifications/subscriptions` does, and gives the subscription.
    pub(super) async fn create_subscription(
        &self,
        endpoint: String,
        notification_types: Vec<String>,
    ) -> Result<Value, Refusal> {
        self.probe(&endpoint).await?;
        let now = self.now();
        let mut state = self.state();
        let subscription = Subscription {
            id: self.core.random.uuid(),
            name: format!("Subscription {}", state.subscriptions.len() + 1),
            endpoint,
            enabled: true,
            notification_types,
            created_at: now,
            updated_at: now,
        };
        state.subscriptions.push(subscription.clone());
        self.announce_test(&mut state, &subscription);
        Ok(subscription.resource())
    }

    /// Changes the two things about a subscription that can be changed.
    pub(super) async fn change_subscription(
        &self,
        id: Uuid,
        name: &str,
        enabled: bool,
    ) -> Result<Value, Refusal> {
        let find = |subscriptions: &[Subscription]| subscriptions.iter().position(|one| one.id == id);
        let endpoint = {
            let state = self.state();
            let index = find(&state.subscriptions).ok_or_else(Refusal::no_such_resource)?;
            state.subscriptions[index].endpoint.clone()
        };
        let probed = self.probe(&endpoint).await;
        if enabled {
            // An endpoint that is gone must not keep its subscription from being turned off.
            probed?;
        }
        let mut state = self.state();
        let index = find(&state.subscriptions).ok_or_else(Refusal::no_such_resource)?;
        let subscription = &mut state.subscriptions[index];
        subscription.name = name.to_owned();
        subscription.enabled = enabled;
        subscription.updated_at = self.now();
        Ok(subscription.resource())
    }

    /// Subscribes an endpoint as `POST /v2/notifications/subscriptions` does, and gives the `Subscription`.
    pub async fn subscribe(
        &self,
        endpoint: &str,
        notification_types: &[&str],
    ) -> Result<Value, ControlError> {
        if !is_endpoint(endpoint) || !notification_types.iter().all(|filter| is_filter(filter)) {
            return Err(ControlError::Invalid("the endpoint or a notification type is invalid".to_owned()));
        }
        let types = notification_types.iter().map(|&filter| filter.to_owned()).collect();
        let made = self.create_subscription(endpoint.to_owned(), types).await;
        made.map_err(|refusal| ControlError::Invalid(refusal.body().to_string()))
    }

    /// All subscriptions, as Circle lists them.
    pub fn subscriptions(&self) -> Vec<Value> {
        self.state().subscriptions.iter().map(Subscription::resource).collect()
    }

    /// The HEAD request with which Circle asks whether an endpoint is there.
    async fn probe(&self, endpoint: &str) -> Result<(), Refusal> {
        let answer = timeout(&self.core.clock, ENDPOINT_LIMIT, self.core.http.head(endpoint).send()).await;
        let problem = match answer {
            Ok(Ok(answer)) if answer.status() == 200 => return Ok(()),
            Ok(Ok(answer)) => format!("must answer HEAD with 200, answered {}", answer.status().as_u16()),
            Ok(Err(_)) => "must answer HEAD with 200, could not be reached".to_owned(),
            Err(_) => "must answer HEAD with 200, did not answer in time".to_owned(),
        };
        Err(Refusal::invalid("body", "endpoint", &endpoint.into(), &problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_a_star_a_family_or_an_exact_type() {
        assert!(matches("*", "webhooks.test"));
        assert!(matches("challenges.*", "challenges.changePin"));
        assert!(!matches("challenges.*", "transactions.inbound"));
        assert!(matches("challenges.changePin", "challenges.changePin"));
        assert!(!matches("challenges.changePin", "challenges.changePin2"));
        for filter in ["*", "challenges.*", "challenges.setSecurityQuestions", "transactions.inbound"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "challenges", "challenges.changepin", "a.b.c", ".*", "challenges.**"] {
            assert!(!is_filter(filter), "{filter}");
        }
    }

    #[test]
    fn endpoints_are_https_except_on_loopback() {
        for endpoint in
            ["https://example.com/x", "http://127.0.0.1:8080/x", "http://[::1]:1/", "http://localhost/"]
        {
            assert!(is_endpoint(endpoint), "{endpoint}");
        }
        for endpoint in ["http://example.com/x", "ftp://127.0.0.1/", "example.com", "", "https://"] {
            assert!(!is_endpoint(endpoint), "{endpoint}");
        }
    }
}
