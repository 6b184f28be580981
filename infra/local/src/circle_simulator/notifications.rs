//! Webhook messages: what is in them, whom they go to, and their signature.

use serde_json::{Value, json};
use uuid::Uuid;

use super::deliveries::Outgoing;
use super::state::State;
use super::subscriptions::Subscription;
use super::text::timestamp;
use super::{CircleSimulator, ControlError};

impl CircleSimulator {
    /// Sends a notification to each subscription that wants it.
    pub(super) fn announce(&self, state: &mut State, notification_type: &str, notification: &Value) {
        let wanting = state.subscriptions.iter().filter(|one| one.wants(notification_type));
        for subscription in wanting.cloned().collect::<Vec<_>>() {
            let message = self.message(state, &subscription, notification_type, notification, None);
            self.send(state, message);
        }
    }

    /// The message that a new subscription is greeted with.
    pub(super) fn announce_test(&self, state: &mut State, subscription: &Subscription) {
        let message = self.message(state, subscription, "webhooks.test", &json!({"hello": "world"}), None);
        self.send(state, message);
    }

    /// Sends a genuine notification of any content, such as one of another app's challenge on the same Circle
    /// account, and gives how many subscriptions it went to. A given id repeats an earlier notification.
    pub fn send_notification(
        &self,
        notification_type: &str,
        notification: &Value,
        notification_id: Option<Uuid>,
    ) -> usize {
        let mut state = self.state();
        let wanting = state.subscriptions.iter().filter(|one| one.wants(notification_type));
        let wanting: Vec<_> = wanting.cloned().collect();
        for subscription in &wanting {
            let message =
                self.message(&state, subscription, notification_type, notification, notification_id);
            self.send(&mut state, message);
        }
        wanting.len()
    }

    /// Sends any bytes, genuinely signed, to every enabled subscription, and gives how many that were.
    pub fn send_raw(&self, body: &[u8]) -> usize {
        let mut state = self.state();
        let enabled: Vec<_> = state.subscriptions.iter().filter(|one| one.enabled).cloned().collect();
        for subscription in &enabled {
            let message = self.signed(&state, subscription, "raw", self.core.random.uuid(), body.to_vec());
            self.send(&mut state, message);
        }
        enabled.len()
    }

    /// What the control API is asked to send: a notification, or something raw.
    pub(super) fn send_custom(&self, custom: CustomWebhook) -> Result<usize, ControlError> {
        match custom {
            CustomWebhook {
                raw: Some(text),
                notification: None,
                notification_type: None,
                notification_id: None,
            } => Ok(self.send_raw(text.as_bytes())),
            CustomWebhook {
                raw: None,
                notification: Some(value),
                notification_type: Some(name),
                notification_id,
            } => Ok(self.send_notification(&name, &value, notification_id)),
            _ => Err(ControlError::Invalid("give notificationType and notification, or raw".to_owned())),
        }
    }

    fn message(
        &self,
        state: &State,
        subscription: &Subscription,
        notification_type: &str,
        notification: &Value,
        notification_id: Option<Uuid>,
    ) -> Outgoing {
        let notification_id = notification_id.unwrap_or_else(|| self.core.random.uuid());
        let body = json!({
            "subscriptionId": subscription.id,
            "notificationId": notification_id,
            "notificationType": notification_type,
            "notification": notification,
            "timestamp": timestamp(self.now()),
            "version": 2,
        });
        self.signed(state, subscription, notification_type, notification_id, body.to_string().into_bytes())
    }

    fn signed(
        &self,
        state: &State,
        subscription: &Subscription,
        notification_type: &str,
        notification_id: Uuid,
        body: Vec<u8>,
    ) -> Outgoing {
        let key = state.signing_key();
        Outgoing {
            subscription_id: subscription.id,
            endpoint: subscription.endpoint.clone(),
            notification_id,
            notification_type: notification_type.to_owned(),
            key_id: key.id,
            signature: key.sign(&body),
            body,
        }
    }
}

/// A webhook made up by whoever uses the control API.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct CustomWebhook {
    notification_type: Option<String>,
    notification: Option<Value>,
    notification_id: Option<Uuid>,
    raw: Option<String>,
}
