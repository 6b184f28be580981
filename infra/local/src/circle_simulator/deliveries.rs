//! The delivery of webhooks: at least once, retried for hours, and as unreliable as the knobs make it.

use std::time::Duration;

use shared::clock::{Clock, timeout};

use super::CircleSimulator;
use super::dates::date;
use super::outbox::{Delivery, Message, QueuePlace, ReleaseOrder};
use super::state::State;
use super::subscriptions::ENDPOINT_TIMEOUT;

/// The waits after each failed attempt, as Circle documents them for a sister product.
const RETRY_WAITS: [Duration; 11] = [
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

impl CircleSimulator {
    /// Sends a message, or holds, repeats or loses it.
    pub(super) fn send(&self, state: &mut State, message: Message) {
        if state.knobs.lose_webhooks > 0 {
            state.knobs.lose_webhooks -= 1;
            self.record(state, &message, 0, Err("lost"));
            return;
        }
        for _ in 0..=state.knobs.repeat_webhooks {
            if state.knobs.webhooks_paused || state.knobs.reorder_webhooks > 1 {
                state.outbox.hold(message.clone());
            } else {
                self.dispatch(state, message.clone());
            }
        }
        let enough =
            usize::try_from(state.knobs.reorder_webhooks).is_ok_and(|wanted| state.outbox.held() >= wanted);
        if !state.knobs.webhooks_paused && enough {
            self.dispatch_held(state, ReleaseOrder::Reversed);
        }
    }

    /// Sends the held messages and ends a pause. Returns how many messages were held.
    pub fn release_webhooks(&self, order: ReleaseOrder) -> usize {
        let mut state = self.state();
        state.knobs.webhooks_paused = false;
        self.dispatch_held(&mut state, order)
    }

    /// Sends the held messages if no knob holds messages any more.
    pub(super) fn release_if_free(&self, state: &mut State) {
        if !state.knobs.webhooks_paused && state.knobs.reorder_webhooks <= 1 {
            self.dispatch_held(state, ReleaseOrder::Made);
        }
    }

    /// The latest attempts, the oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().outbox.log().cloned().collect()
    }

    /// How many attempts have been made or lost since the start. The log may have forgotten the oldest.
    pub(crate) fn delivery_count(&self) -> usize {
        *self.core.delivered.borrow()
    }

    /// How many messages are held.
    pub fn held_webhooks(&self) -> usize {
        self.state().outbox.held()
    }

    /// Waits until this many attempts have been made or lost since the start.
    pub async fn wait_for_deliveries(&self, count: usize) {
        let mut delivered = self.core.delivered.subscribe();
        // The sender lives as long as this handle does.
        let _ = delivered.wait_for(|made| *made >= count).await;
    }

    fn dispatch_held(&self, state: &mut State, order: ReleaseOrder) -> usize {
        let held = state.outbox.take_held(order);
        let count = held.len();
        for message in held {
            self.dispatch(state, message);
        }
        count
    }

    fn dispatch(&self, state: &mut State, message: Message) {
        let delay = Duration::from_millis(state.knobs.delay_webhooks_ms);
        let in_order = delay.is_zero() && !state.knobs.concurrent_webhooks;
        let place = in_order.then(|| state.outbox.enqueue(message.subscription_id));
        let sleep = self.core.clock.sleep(delay);
        let simulator = self.for_task();
        self.spawn(async move {
            sleep.await;
            simulator.deliver(message, place).await;
        });
    }

    async fn deliver(&self, message: Message, place: Option<QueuePlace>) {
        let mut done = None;
        if let Some(place) = place {
            if let Some(previous) = place.previous {
                // An error means that the previous attempt is over or was abandoned.
                let _ = previous.await;
            }
            done = Some(place.done);
        }
        for attempt in 1.. {
            if !self.state().subscriptions.is_enabled(message.subscription_id) {
                return;
            }
            let result = self.attempt(&message).await;
            drop(done.take());
            let wait = {
                let mut state = self.state();
                self.record(&mut state, &message, attempt, result);
                match RETRY_WAITS.get(attempt - 1) {
                    Some(wait) if !is_delivered(result) => {
                        self.core.clock.sleep(wait.mul_f64(state.knobs.retry_factor))
                    }
                    _ => return,
                }
            };
            wait.await;
        }
    }

    /// The status of the response, or why there was none.
    async fn attempt(&self, message: &Message) -> Result<u16, &'static str> {
        let request = self
            .client_for(&message.endpoint)
            .post(&message.endpoint)
            .header("Content-Type", "application/json")
            .header("X-Circle-Key-Id", message.key_id.to_string())
            .header("X-Circle-Signature", &message.signature)
            .body(message.body.clone());
        match timeout(&self.core.clock, ENDPOINT_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => Ok(response.status().as_u16()),
            Ok(Err(_)) => Err("no response"),
            Err(_) => Err("timed out"),
        }
    }

    fn record(
        &self,
        state: &mut State,
        message: &Message,
        attempt: usize,
        result: Result<u16, &'static str>,
    ) {
        let now = self.now();
        state.outbox.record(Delivery {
            endpoint: message.endpoint.clone(),
            subscription_id: message.subscription_id,
            notification_id: message.notification_id,
            notification_type: message.notification_type.clone(),
            attempt,
            status: result.ok(),
            error: result.err(),
            date: date(now),
            at: now,
            body: message.body.clone(),
        });
        self.core.delivered.send_modify(|made| *made += 1);
    }
}

/// Any 2xx counts.
fn is_delivered(result: Result<u16, &'static str>) -> bool {
    result.is_ok_and(|status| (200..300).contains(&status))
}
