//! Webhook messages: their content, their receivers and their signature.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::dates::timestamp;
use super::outbox::Message;
use super::state::State;
use super::subscriptions::Subscription;
use super::{CircleSimulator, ControlError, webhook_json};

impl CircleSimulator {
    /// Notifies the subscribers of the status of a challenge.
    pub(super) fn announce_challenge(&self, state: &mut State, id: Uuid) {
        let Some(challenge) = state.challenges.get(id) else { return };
        let notification_type = challenge.notification_type(&state.knobs).to_owned();
        let notification = challenge.notification(&state.knobs);
        self.notify(state, &notification_type, &notification, None);
    }

    /// Sends the test message that Circle sends to each new subscription.
    pub(super) fn announce_test(&self, state: &mut State, subscription: &Subscription) {
        let message = self.message(state, subscription, "webhooks.test", &json!({"hello": "world"}), None);
        self.send(state, message);
    }

    /// Sends a signed notification of any content, such as one of another app's challenge on the same Circle
    /// account. Returns to how many subscriptions it was sent. If an id is given, it repeats an earlier
    /// notification.
    pub fn send_notification(
        &self,
        notification_type: &str,
        notification: &Value,
        notification_id: Option<Uuid>,
    ) -> usize {
        self.notify(&mut self.state(), notification_type, notification, notification_id)
    }

    /// Sends any bytes, signed, to each enabled subscription. Returns how many subscriptions that were.
    pub fn send_raw(&self, body: &[u8]) -> usize {
        let mut state = self.state();
        let enabled = state.subscriptions.enabled();
        for subscription in &enabled {
            let message =
                self.signed(&mut state, subscription, "raw", self.core.random.uuid(), body.to_vec());
            self.send(&mut state, message);
        }
        enabled.len()
    }

    /// Sends the message of a control request: a notification or raw bytes.
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
            _ => Err(ControlError::invalid("give notificationType and notification, or raw")),
        }
    }

    /// Sends a notification to each subscription whose filters match. Returns how many subscriptions that
    /// were.
    fn notify(
        &self,
        state: &mut State,
        notification_type: &str,
        notification: &impl Serialize,
        notification_id: Option<Uuid>,
    ) -> usize {
        let matching = state.subscriptions.matching(notification_type);
        for subscription in &matching {
            let message = self.message(state, subscription, notification_type, notification, notification_id);
            self.send(state, message);
        }
        matching.len()
    }

    fn message(
        &self,
        state: &mut State,
        subscription: &Subscription,
        notification_type: &str,
        notification: &impl Serialize,
        notification_id: Option<Uuid>,
    ) -> Message {
        let notification_id = notification_id.unwrap_or_else(|| self.core.random.uuid());
        let envelope = Envelope {
            subscription_id: subscription.id,
            notification_id,
            notification_type,
            notification,
            timestamp: timestamp(self.now()),
            version: 2,
        };
        let body = webhook_json::text(&envelope, state.knobs.unusual_webhook_json);
        self.signed(state, subscription, notification_type, notification_id, body)
    }

    fn signed(
        &self,
        state: &mut State,
        subscription: &Subscription,
        notification_type: &str,
        notification_id: Uuid,
        body: Vec<u8>,
    ) -> Message {
        if state.knobs.new_key_for_each_webhook {
            state.signing_keys.add(self.core.random.uuid(), self.now());
        }
        let key = state.signing_keys.current();
        Message {
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

/// A webhook, with its members in the order of Circle's examples.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, N> {
    subscription_id: Uuid,
    notification_id: Uuid,
    notification_type: &'a str,
    notification: &'a N,
    timestamp: String,
    version: u8,
}

/// A webhook from the control API: a notification type and a notification, or raw text.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct CustomWebhook {
    notification_type: Option<String>,
    notification: Option<Value>,
    notification_id: Option<Uuid>,
    raw: Option<String>,
}
