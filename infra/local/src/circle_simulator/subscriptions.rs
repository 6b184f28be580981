//! Subscriptions to webhooks.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use shared::clock::timeout;
use time::OffsetDateTime;
use uuid::Uuid;

use super::api_error::ApiError;
use super::dates::date;
use super::{CircleSimulator, ControlError};

/// How long the simulator waits for the response of an endpoint. Circle does not document a limit.
pub(super) const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

/// All filters that Circle accepts, as Circle's Python SDK 9.6 lists them.
const FILTERS: [&str; 33] = [
    "*",
    "transactions.*",
    "transactions.inbound",
    "transactions.outbound",
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
    "challenges.setSecurityQuestions",
    "contracts.*",
    "contracts.eventLog",
    "modularWallet.*",
    "modularWallet.userOperation",
    "modularWallet.inboundTransfer",
    "modularWallet.outboundTransfer",
    "travelRule.*",
    "travelRule.statusUpdate",
    "travelRule.deny",
    "travelRule.approve",
    "rampSession.*",
    "rampSession.completed",
    "rampSession.depositReceived",
    "rampSession.expired",
    "rampSession.failed",
    "rampSession.kycApproved",
    "rampSession.kycRejected",
    "rampSession.kycSubmitted",
];

#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) id: Uuid,
    name: String,
    pub(super) endpoint: String,
    enabled: bool,
    notification_types: Vec<String>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
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

    fn matches(&self, notification_type: &str) -> bool {
        self.enabled && self.notification_types.iter().any(|filter| matches(filter, notification_type))
    }
}

/// All subscriptions, the oldest first.
#[derive(Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(super) fn find(&self, id: Uuid) -> Result<&Subscription, ApiError> {
        self.0.iter().find(|subscription| subscription.id == id).ok_or_else(ApiError::no_such_resource)
    }

    pub(super) fn find_mut(&mut self, id: Uuid) -> Result<&mut Subscription, ApiError> {
        self.0.iter_mut().find(|subscription| subscription.id == id).ok_or_else(ApiError::no_such_resource)
    }

    /// The subscriptions that receive notifications of this type now.
    pub(super) fn matching(&self, notification_type: &str) -> Vec<Subscription> {
        self.0.iter().filter(|subscription| subscription.matches(notification_type)).cloned().collect()
    }

    pub(super) fn enabled(&self) -> Vec<Subscription> {
        self.0.iter().filter(|subscription| subscription.enabled).cloned().collect()
    }

    /// Whether the subscription exists and is enabled.
    pub(super) fn is_enabled(&self, id: Uuid) -> bool {
        self.find(id).is_ok_and(|subscription| subscription.enabled)
    }
}

/// `*`, a family such as `challenges.*`, or one exact type.
fn matches(filter: &str, notification_type: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(prefix) => notification_type.starts_with(prefix),
        None => filter == notification_type,
    }
}

/// Whether Circle accepts the filter.
pub(super) fn is_filter(filter: &str) -> bool {
    FILTERS.contains(&filter)
}

/// Whether the endpoint is an https URL. On loopback, http is accepted too, for local runs.
pub(super) fn is_endpoint(endpoint: &str) -> bool {
    let Ok(url) = Url::parse(endpoint) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

impl CircleSimulator {
    /// Creates a subscription as `POST /v2/notifications/subscriptions` does, and returns Circle's
    /// `Subscription`.
    pub(super) async fn create_subscription(
        &self,
        endpoint: String,
        notification_types: Vec<String>,
    ) -> Result<Value, ApiError> {
        self.probe(&endpoint).await?;
        let now = self.now();
        let mut state = self.state();
        let subscription = Subscription {
            id: self.core.random.uuid(),
            name: format!("Subscription {}", state.subscriptions.0.len() + 1),
            endpoint,
            enabled: true,
            notification_types,
            created_at: now,
            updated_at: now,
        };
        state.subscriptions.0.push(subscription.clone());
        self.announce_test(&mut state, &subscription);
        Ok(subscription.resource())
    }

    /// Changes the name of a subscription and whether it is enabled. Nothing else can be changed.
    pub(super) async fn change_subscription(
        &self,
        id: Uuid,
        name: &str,
        enabled: bool,
    ) -> Result<Value, ApiError> {
        let endpoint = self.state().subscriptions.find(id)?.endpoint.clone();
        let probed = self.probe(&endpoint).await;
        if enabled {
            // A subscription whose endpoint is gone can still be disabled.
            probed?;
        }
        let now = self.now();
        let mut state = self.state();
        let subscription = state.subscriptions.find_mut(id)?;
        subscription.name = name.to_owned();
        subscription.enabled = enabled;
        subscription.updated_at = now;
        Ok(subscription.resource())
    }

    pub(super) fn delete_subscription(&self, id: Uuid) -> Result<(), ApiError> {
        let mut state = self.state();
        state.subscriptions.find(id)?;
        state.subscriptions.0.retain(|subscription| subscription.id != id);
        state.outbox.remove_queue(id);
        Ok(())
    }

    /// Creates a subscription as `POST /v2/notifications/subscriptions` does, and returns Circle's
    /// `Subscription`.
    ///
    /// # Errors
    /// If the endpoint or a filter is invalid, or the endpoint does not respond to HEAD with 200.
    pub async fn subscribe(
        &self,
        endpoint: &str,
        notification_types: &[&str],
    ) -> Result<Value, ControlError> {
        if !is_endpoint(endpoint) || !notification_types.iter().all(|filter| is_filter(filter)) {
            return Err(ControlError::invalid("the endpoint or a notification type is invalid"));
        }
        let types = notification_types.iter().map(|&filter| filter.to_owned()).collect();
        let created = self.create_subscription(endpoint.to_owned(), types).await;
        created.map_err(|error| ControlError::Invalid(error.body().to_string()))
    }

    /// All subscriptions in Circle's form, the oldest first.
    pub fn subscriptions(&self) -> Vec<Value> {
        self.state().subscriptions.0.iter().map(Subscription::resource).collect()
    }

    /// Checks the endpoint with the HEAD request that Circle sends.
    async fn probe(&self, endpoint: &str) -> Result<(), ApiError> {
        let request = self.client_for(endpoint).head(endpoint).send();
        let response = timeout(&self.core.clock, ENDPOINT_TIMEOUT, request).await;
        let problem = match response {
            Ok(Ok(response)) if response.status() == 200 => return Ok(()),
            Ok(Ok(response)) => {
                format!("must respond to HEAD with 200, responded with {}", response.status().as_u16())
            }
            Ok(Err(_)) => "must respond to HEAD with 200, cannot be reached".to_owned(),
            Err(_) => "must respond to HEAD with 200, timed out".to_owned(),
        };
        Err(ApiError::invalid("body", "endpoint", &endpoint.into(), &problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_is_a_star_a_family_or_an_exact_type() {
        assert!(matches("*", "webhooks.test"));
        assert!(matches("challenges.*", "challenges.changePin"));
        assert!(!matches("challenges.*", "transactions.inbound"));
        assert!(matches("challenges.changePin", "challenges.changePin"));
        assert!(!matches("challenges.changePin", "challenges.changePin2"));
        for filter in ["*", "challenges.*", "challenges.setSecurityQuestions", "transactions.inbound"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in [
            "",
            "challenges",
            "challenges.changepin",
            "challenge.*",
            "Challenges.*",
            "bogus.thing",
            "webhooks.test",
        ] {
            assert!(!is_filter(filter), "{filter}");
        }
    }

    #[test]
    fn endpoint_is_https_except_on_loopback() {
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
