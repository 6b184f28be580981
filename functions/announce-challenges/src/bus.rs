//! The event bus.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use shared::clock::{Clock, Deadline};
use shared::metric::Metric;
use shared::platform::{Platform, RejectedSignature};
use shared::random::Random;
use shared::retry::Retries;
use shared::telemetry::Chain;

use crate::aws_call::{CallError, call};
use crate::event::{Event, SOURCE};

/// The most events in one call. The limit of its size, at least 256 KB, is far away
/// (`https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html`).
const MAX_ENTRIES: usize = 10;

/// How often an event is sent that EventBridge rejects while it accepts the call, as it does if it is overloaded.
const MAX_ATTEMPTS: u32 = 3;

/// The backoff before the first retry of such events.
const BACKOFF: Duration = Duration::from_millis(100);

/// The bus on which events are published.
#[derive(Debug)]
pub(crate) struct Bus {
    client: Client,
    name: String,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl Bus {
    pub(crate) fn new(platform: &Platform, name: String) -> Self {
        let config = aws_sdk_eventbridge::config::Builder::from(&platform.aws);
        Self {
            client: Client::from_conf(config.retry_classifier(RejectedSignature).build()),
            name,
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
        }
    }

    /// Publishes events in their order. Returns for each whether it was published, and logs those that were not.
    pub(crate) async fn publish(&self, events: &[Event], deadline: Deadline) -> Vec<bool> {
        let mut published = Vec::with_capacity(events.len());
        for events in events.chunks(MAX_ENTRIES) {
            published.extend(self.publish_chunk(events, deadline).await);
        }
        published
    }

    async fn publish_chunk(&self, events: &[Event], deadline: Deadline) -> Vec<bool> {
        let mut published = vec![false; events.len()];
        let mut retries = Retries::new(&*self.clock, &self.random, deadline, BACKOFF, MAX_ATTEMPTS);
        loop {
            let open: Vec<usize> = (0..events.len()).filter(|&index| !published[index]).collect();
            let results = match self.put(open.iter().map(|&index| &events[index]), deadline).await {
                Ok(results) => results,
                Err(error) => {
                    for index in open {
                        log_failure(&events[index], &Chain(&error).to_string());
                    }
                    return published;
                }
            };
            for (&index, result) in open.iter().zip(&results) {
                if let Some(event_id) = &result.event_id {
                    published[index] = true;
                    let Event { challenge_id, detail_type, .. } = &events[index];
                    tracing::info!(%challenge_id, detail_type, event_id, "event published");
                }
            }
            if published.iter().all(|&is_published| is_published) {
                return published;
            }
            let Some(wait) = retries.next_wait(None) else {
                for (index, result) in open.into_iter().zip(&results).filter(|&(index, _)| !published[index])
                {
                    let code = result.error_code().unwrap_or("no error code");
                    let message = result.error_message().unwrap_or("no message");
                    log_failure(
                        &events[index],
                        &format!("EventBridge rejected the event ({code}): {message}"),
                    );
                }
                return published;
            };
            self.clock.sleep(wait).await;
        }
    }

    /// Makes one call. The results are in the order of the events.
    async fn put(
        &self,
        events: impl Iterator<Item = &Event>,
        deadline: Deadline,
    ) -> Result<Vec<PutEventsResultEntry>, CallError> {
        let entries = events.map(|event| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(event.detail_type)
                .detail(&event.detail)
                .build()
        });
        let sent = self.client.put_events().set_entries(Some(entries.collect())).send();
        let output = call("EventBridge PutEvents", &*self.clock, deadline, sent).await?;
        Ok(output.entries.unwrap_or_default())
    }
}

fn log_failure(event: &Event, error: &str) {
    let Event { challenge_id, detail_type, .. } = event;
    tracing::error!(
        metric = Metric::PublishFailed.as_str(), %challenge_id, detail_type, error,
        "an event could not be published"
    );
}
