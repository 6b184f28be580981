//! The webhook subscriptions of the Circle account.
//!
//! Facts are from Circle's API reference for subscriptions
//! (`https://developers.circle.com/api-reference/wallets/common/create-subscription` and its neighbours).

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use uuid::Uuid;

use super::send::Call;
use super::{Circle, CircleError};
use crate::clock::Deadline;

/// The notifications that this service subscribes to: those of all challenges, because Circle's guide shows a CHANGE_PIN
/// challenge under `challenges.initialize`.
const NOTIFICATION_TYPES: &str = "challenges.*";

/// How long Circle may take for calls in which it first sends a `HEAD` to the endpoint, which can be a function that has
/// to start.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(20);

/// A subscription as Circle describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Circle's id of the subscription.
    pub id: Uuid,
    /// Its display name.
    pub name: Option<String>,
    /// The URL that receives the webhooks.
    pub endpoint: Option<String>,
    /// Whether Circle sends them.
    pub enabled: Option<bool>,
    /// `*`, a family such as `challenges.*`, or exact types.
    notification_types: Option<Vec<String>>,
    /// Whether it receives only these types.
    restricted: Option<bool>,
}

impl Subscription {
    /// Whether the webhooks go to this URL, in any spelling.
    pub fn is_for(&self, endpoint: &Url) -> bool {
        self.endpoint.as_deref().is_some_and(|own| Url::parse(own).is_ok_and(|own| own == *endpoint))
    }

    /// Whether it receives the notifications of all challenges. By Circle's reference an unrestricted subscription
    /// receives everything. One without a `restricted` member and without types is treated as unrestricted.
    pub fn covers_challenges(&self) -> bool {
        let types = self.notification_types.as_deref().unwrap_or_default();
        match self.restricted {
            Some(false) => true,
            None if types.is_empty() => true,
            _ => types.iter().any(|one| one == "*" || one == NOTIFICATION_TYPES),
        }
    }
}

impl Circle {
    /// All subscriptions of the account, including those of other services (`GET /v2/notifications/subscriptions`).
    ///
    /// # Errors
    /// A [`CircleError`].
    pub async fn subscriptions(&self, deadline: Deadline) -> Result<Vec<Subscription>, CircleError> {
        Ok(self
            .send(Call::new("list_subscriptions", "GET /v2/notifications/subscriptions"), deadline)
            .await?
            .data)
    }

    /// One subscription (`GET /v2/notifications/subscriptions/{id}`); `None` if the API key's account does not have it.
    ///
    /// # Errors
    /// A [`CircleError`].
    pub async fn subscription(
        &self,
        id: Uuid,
        deadline: Deadline,
    ) -> Result<Option<Subscription>, CircleError> {
        let id = id.to_string();
        let call = Call::new("get_subscription", "GET /v2/notifications/subscriptions/{id}").id(&id);
        match self.send(call, deadline).await {
            Ok(response) => Ok(Some(response.data)),
            Err(CircleError::Response { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Subscribes an endpoint to the notifications of all challenges (`POST /v2/notifications/subscriptions`). Circle
    /// first sends a `HEAD` to the endpoint, which has to respond with 200.
    ///
    /// The call is not retried: it has no idempotency key, so each one creates a subscription. If an error leaves open
    /// whether it took effect, [`subscriptions`](Self::subscriptions) tells.
    ///
    /// # Errors
    /// A [`CircleError`].
    pub async fn create_subscription(
        &self,
        endpoint: &Url,
        deadline: Deadline,
    ) -> Result<Subscription, CircleError> {
        let call = Call::new("create_subscription", "POST /v2/notifications/subscriptions")
            .body(json!({ "endpoint": endpoint.as_str(), "notificationTypes": [NOTIFICATION_TYPES] }))
            .attempt_timeout(ENDPOINT_TIMEOUT)
            .once();
        Ok(self.send(call, deadline).await?.data)
    }

    /// Enables a subscription (`PATCH /v2/notifications/subscriptions/{id}`). Circle requires its name in the same call
    /// and allows no other change.
    ///
    /// # Errors
    /// A [`CircleError`].
    pub async fn enable_subscription(
        &self,
        subscription: &Subscription,
        deadline: Deadline,
    ) -> Result<(), CircleError> {
        let id = subscription.id.to_string();
        let name = subscription.name.as_deref().filter(|name| !name.is_empty());
        let call = Call::new("update_subscription", "PATCH /v2/notifications/subscriptions/{id}")
            .id(&id)
            .body(json!({ "name": name.unwrap_or("circle-pin-reset"), "enabled": true }))
            .attempt_timeout(ENDPOINT_TIMEOUT);
        self.send::<IgnoredAny>(call, deadline).await?;
        Ok(())
    }

    /// Deletes a subscription (`DELETE /v2/notifications/subscriptions/{id}`). A subscription that
    /// does not exist is not an error.
    ///
    /// # Errors
    /// A [`CircleError`].
    pub async fn delete_subscription(&self, id: Uuid, deadline: Deadline) -> Result<(), CircleError> {
        let id = id.to_string();
        let call = Call::new("delete_subscription", "DELETE /v2/notifications/subscriptions/{id}").id(&id);
        match self.send::<IgnoredAny>(call, deadline).await {
            Ok(_) | Err(CircleError::Response { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn subscription(members: Value) -> Subscription {
        let mut all = json!({ "id": "b04046ff-3aac-4ae1-ac07-7eb0d7892520" });
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn star_or_the_family_covers_all_challenges() {
        for covering in [
            json!({ "notificationTypes": ["*"], "restricted": false }),
            json!({ "notificationTypes": ["transactions.*", "challenges.*"], "restricted": true }),
            json!({ "notificationTypes": [] }),
            json!({ "notificationTypes": ["challenges.changePin", "transactions.inbound"], "restricted": false }),
            json!({ "notificationTypes": null }),
            json!({}),
        ] {
            assert!(subscription(covering.clone()).covers_challenges(), "{covering}");
        }
        for narrow in [
            json!({ "notificationTypes": ["challenges.changePin", "challenges.restorePin"] }),
            json!({ "notificationTypes": ["transactions.*"], "restricted": true }),
            json!({ "restricted": true }),
        ] {
            assert!(!subscription(narrow.clone()).covers_challenges(), "{narrow}");
        }
    }

    #[test]
    fn endpoint_is_compared_as_a_url() {
        let endpoint = Url::parse("https://api.example.com/webhooks/circle").unwrap();
        for (own, same) in [
            (json!("https://api.example.com/webhooks/circle"), true),
            (json!("HTTPS://API.example.com:443/webhooks/circle"), true),
            (json!("https://api.example.com/webhooks/circle/"), false),
            (json!("https://api.example.com/webhooks/circle?x"), false),
            (json!("http://api.example.com/webhooks/circle"), false),
            (json!("not a URL"), false),
            (Value::Null, false),
        ] {
            assert_eq!(subscription(json!({ "endpoint": own })).is_for(&endpoint), same, "{own}");
        }
    }
}
