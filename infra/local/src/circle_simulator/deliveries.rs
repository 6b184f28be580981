//! How webhooks travel: at least once, retried for hours, and as badly as the knobs say.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::clock::{Clock, timeout};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::CircleSimulator;
use super::state::State;
use super::subscriptions::ENDPOINT_LIMIT;
use super::text::date;

/// The waits after each failed attempt, as documented for a sister product of Circle's.
const RETRY_AFTER: [Duration; 11] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(3 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(11 * 60 * 60),
];

/// How many deliveries are remembered.
const REMEMBERED: usize = 10_000;

/// One attempt to deliver a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Where to.
    pub endpoint: String,
    /// For which subscription.
    pub subscription_id: Uuid,
    /// The notification, the same in every attempt and repetition.
    pub notification_id: Uuid,
    /// Its type.
    pub notification_type: String,
    /// 1 for the first attempt; 0 for a notification that was lost.
    pub attempt: usize,
    /// The HTTP status that came back, if one did.
    pub status: Option<u16>,
    /// Why none came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// When it ended.
    pub date: String,
    /// The body, byte for byte.
    #[serde(serialize_with = "as_text")]
    pub body: Vec<u8>,
}

/// In which order held notifications leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseOrder {
    /// As they were made.
    #[default]
    Made,
    /// The latest first.
    Reversed,
}

/// A signed message on its way.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) subscription_id: Uuid,
    pub(super) endpoint: String,
    pub(super) notification_id: Uuid,
    pub(super) notification_type: String,
    pub(super) key_id: Uuid,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// Keeps the first attempts of one subscription in order.
struct Turn {
    previous: Option<oneshot::Receiver<()>>,
    /// Dropped once the first attempt is over, which lets the next one go.
    done: oneshot::Sender<()>,
}

impl CircleSimulator {
    /// Sends a message, or holds, repeats or loses it.
    pub(super) fn send(&self, state: &mut State, message: Outgoing) {
        if state.knobs.lose_webhooks > 0 {
            state.knobs.lose_webhooks -= 1;
            self.record(state, &message, 0, Err("lost"));
            return;
        }
        for _ in 0..=state.knobs.repeat_webhooks {
            if state.knobs.webhooks_paused || state.knobs.reorder_webhooks > 1 {
                state.held.push(message.clone());
            } else {
                self.dispatch(state, message.clone());
            }
        }
        let enough =
            usize::try_from(state.knobs.reorder_webhooks).is_ok_and(|wanted| state.held.len() >= wanted);
        if !state.knobs.webhooks_paused && enough {
            self.dispatch_held(state, ReleaseOrder::Reversed);
        }
    }

    /// Sends the held notifications, and ends a pause. Gives how many there were.
    pub fn release_webhooks(&self, order: ReleaseOrder) -> usize {
        let mut state = self.state();
        state.knobs.webhooks_paused = false;
        self.dispatch_held(&mut state, order)
    }

    /// Sends what is held where no knob holds it any more.
    pub(super) fn release_if_free(&self, state: &mut State) {
        if !state.knobs.webhooks_paused && state.knobs.reorder_webhooks <= 1 {
            self.dispatch_held(state, ReleaseOrder::Made);
        }
    }

    /// The latest attempts, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.iter().cloned().collect()
    }

    /// How many notifications wait to be released.
    pub fn held_webhooks(&self) -> usize {
        self.state().held.len()
    }

    /// Waits until this many attempts have been made or lost since the start.
    pub async fn wait_for_deliveries(&self, count: usize) {
        let mut delivered = self.core.delivered.subscribe();
        // The sender lives as long as this handle does.
        let _ = delivered.wait_for(|made| *made >= count).await;
    }

    fn dispatch_held(&self, state: &mut State, order: ReleaseOrder) -> usize {
        let mut held = std::mem::take(&mut state.held);
        if order == ReleaseOrder::Reversed {
            held.reverse();
        }
        let count = held.len();
        for message in held {
            self.dispatch(state, message);
        }
        count
    }

    fn dispatch(&self, state: &mut State, message: Outgoing) {
        let delay = Duration::from_millis(state.knobs.delay_webhooks_ms);
        let turn = delay.is_zero().then(|| {
            let (done, over) = oneshot::channel();
            Turn { previous: state.first_attempts.insert(message.subscription_id, over), done }
        });
        let sleep = self.core.clock.sleep(delay);
        let simulator = self.for_task();
        self.spawn(async move {
            sleep.await;
            simulator.deliver(message, turn).await;
        });
    }

    async fn deliver(&self, message: Outgoing, turn: Option<Turn>) {
        let mut done = None;
        if let Some(turn) = turn {
            if let Some(previous) = turn.previous {
                // An error says that the one before has finished or was given up.
                let _ = previous.await;
            }
            done = Some(turn.done);
        }
        for attempt in 1.. {
            if !self.is_wanted(&message) {
                return;
            }
            let answer = self.attempt(&message).await;
            drop(done.take());
            let wait = {
                let mut state = self.state();
                self.record(&mut state, &message, attempt, answer);
                match RETRY_AFTER.get(attempt - 1) {
                    Some(wait) if answer != Ok(200) => {
                        self.core.clock.sleep(wait.mul_f64(state.knobs.retry_factor))
                    }
                    _ => return,
                }
            };
            wait.await;
        }
    }

    /// Whether the subscription is still there and enabled.
    fn is_wanted(&self, message: &Outgoing) -> bool {
        self.state().subscriptions.iter().any(|one| one.id == message.subscription_id && one.enabled)
    }

    async fn attempt(&self, message: &Outgoing) -> Result<u16, &'static str> {
        let request = self
            .core
            .http
            .post(&message.endpoint)
            .header("Content-Type", "application/json")
            .header("X-Circle-Key-Id", message.key_id.to_string())
            .header("X-Circle-Signature", &message.signature)
            .body(message.body.clone());
        match timeout(&self.core.clock, ENDPOINT_LIMIT, request.send()).await {
            Ok(Ok(answer)) => Ok(answer.status().as_u16()),
            Ok(Err(_)) => Err("no answer"),
            Err(_) => Err("no answer in time"),
        }
    }

    fn record(
        &self,
        state: &mut State,
        message: &Outgoing,
        attempt: usize,
        answer: Result<u16, &'static str>,
    ) {
        if state.deliveries.len() == REMEMBERED {
            state.deliveries.pop_front();
        }
        state.deliveries.push_back(Delivery {
            endpoint: message.endpoint.clone(),
            subscription_id: message.subscription_id,
            notification_id: message.notification_id,
            notification_type: message.notification_type.clone(),
            attempt,
            status: answer.ok(),
            error: answer.err(),
            date: date(self.now()),
            body: message.body.clone(),
        });
        self.core.delivered.send_modify(|made| *made += 1);
    }
}

fn as_text<S: serde::Serializer>(body: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}
