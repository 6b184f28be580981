//! Webhook messages before they are sent, and the log of all attempts.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

/// How many attempts the log keeps.
const MAX_LOG: usize = 10_000;

/// How many bytes of bodies the log keeps. The latest attempt is kept even if it has more.
const MAX_LOG_BYTES: usize = 16 * 1024 * 1024;

/// One attempt to deliver a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The URL of the receiver.
    pub endpoint: String,
    /// The subscription of the receiver.
    pub subscription_id: Uuid,
    /// The id of the notification. It is the same in each attempt and repetition.
    pub notification_id: Uuid,
    /// The type of the notification.
    pub notification_type: String,
    /// 1 for the first attempt; 0 for a notification that was lost.
    pub attempt: usize,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// Why there was no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// When the attempt ended, to the second.
    pub date: String,
    /// When the attempt ended.
    #[serde(skip)]
    pub at: OffsetDateTime,
    /// The body, byte for byte.
    #[serde(serialize_with = "as_text")]
    pub body: Vec<u8>,
}

/// The order in which held messages are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseOrder {
    /// The oldest first.
    #[default]
    Made,
    /// The newest first.
    Reversed,
}

/// A signed message to one subscription.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) subscription_id: Uuid,
    pub(super) endpoint: String,
    pub(super) notification_id: Uuid,
    pub(super) notification_type: String,
    pub(super) key_id: Uuid,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// A place in the queue of one subscription, which keeps first attempts in order.
pub(super) struct QueuePlace {
    /// Ends when the first attempt before this one is over.
    pub(super) previous: Option<oneshot::Receiver<()>>,
    /// Dropping it lets the next first attempt begin.
    pub(super) done: oneshot::Sender<()>,
}

#[derive(Default)]
pub(super) struct Outbox {
    log: VecDeque<Delivery>,
    /// The bytes of all bodies in the log.
    log_bytes: usize,
    /// Messages that wait for a release, or for enough others to be reordered with.
    held: Vec<Message>,
    /// For each subscription, ends when the first attempt of its latest message is over.
    queues: HashMap<Uuid, oneshot::Receiver<()>>,
}

impl Outbox {
    pub(super) fn hold(&mut self, message: Message) {
        self.held.push(message);
    }

    /// How many messages are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Removes all held messages and returns them in `order`.
    pub(super) fn take_held(&mut self, order: ReleaseOrder) -> Vec<Message> {
        let mut held = std::mem::take(&mut self.held);
        if order == ReleaseOrder::Reversed {
            held.reverse();
        }
        held
    }

    /// The last place in the queue of a subscription.
    pub(super) fn enqueue(&mut self, subscription_id: Uuid) -> QueuePlace {
        let (done, over) = oneshot::channel();
        QueuePlace { previous: self.queues.insert(subscription_id, over), done }
    }

    pub(super) fn remove_queue(&mut self, subscription_id: Uuid) {
        self.queues.remove(&subscription_id);
    }

    /// Adds an attempt to the log, and removes the oldest ones if the log is full.
    pub(super) fn record(&mut self, delivery: Delivery) {
        self.log_bytes += delivery.body.len();
        self.log.push_back(delivery);
        while self.log.len() > MAX_LOG || (self.log_bytes > MAX_LOG_BYTES && self.log.len() > 1) {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_bytes -= oldest.body.len();
        }
    }

    /// The latest attempts, the oldest first.
    pub(super) fn log(&self) -> impl Iterator<Item = &Delivery> {
        self.log.iter()
    }
}

fn as_text<S: serde::Serializer>(body: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}
