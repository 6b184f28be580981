//! The event bus.

use std::collections::BTreeMap;
use std::iter::{repeat, zip};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use shared::clock::{Clock, Deadline};
use shared::metric::{self, Metric};
use shared::platform::{Platform, RejectedSignature};
use shared::random::Random;
use shared::retry::Retries;
use shared::telemetry::{Chain, trace};
use tracing::Span;

use crate::aws_call::{CallError, call};
use crate::event::{Event, SOURCE};

/// The most events in one call. They are far below the limit of its size, at least 256 KB
/// (`https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html`).
const MAX_ENTRIES: usize = 10;

/// The most attempts for an event that EventBridge rejects in a call that succeeds. It does so if it is overloaded.
const MAX_ATTEMPTS: u32 = 3;

/// The backoff before the first retry of such an event.
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

    /// Publishes events in their order. Returns for each event whether it was published. Logs each that was not.
    pub(crate) async fn publish(&self, events: &[Event], deadline: Deadline) -> Vec<bool> {
        let mut published = Vec::with_capacity(events.len());
        for events in events.chunks(MAX_ENTRIES) {
            published.extend(self.publish_chunk(events, deadline).await);
        }
        published
    }

    async fn publish_chunk(&self, events: &[Event], deadline: Deadline) -> Vec<bool> {
        let mut unsent: Vec<usize> = (0..events.len()).collect();
        let span = |event: &Event| trace::event(event.detail_type, event.traceparent.as_deref());
        let spans: Vec<Span> = events.iter().map(span).collect();
        let mut retries = Retries::new(&*self.clock, &self.random, deadline, BACKOFF, MAX_ATTEMPTS);
        loop {
            let entries = unsent.iter().map(|&index| (&events[index], &spans[index]));
            let sent = self.put(entries, deadline).await;
            let indexes = unsent.iter().copied();
            let (failed, wait): (BTreeMap<usize, String>, _) = match sent {
                Ok(results) => {
                    let results = results.into_iter().map(Some).chain(repeat(None));
                    let failed = zip(indexes, results).filter_map(|(index, result)| {
                        self.log_result(&events[index], result.as_ref()).err().map(|error| (index, error))
                    });
                    (failed.collect(), retries.next_wait(None))
                }
                // The SDK has already retried the call if that can help.
                Err(error) => {
                    let error = Chain(&error).to_string();
                    (indexes.map(|index| (index, error.clone())).collect(), None)
                }
            };
            match wait {
                Some(wait) if !failed.is_empty() => {
                    // An accepted event is sent again if an earlier one of its challenge is. Otherwise the last event
                    // would be about an older change.
                    let challenge = |index: usize| events[index].challenge_id;
                    unsent.retain(|&index| {
                        failed.range(..=index).any(|(&earlier, _)| challenge(earlier) == challenge(index))
                    });
                    self.clock.sleep(wait).await;
                }
                _ => {
                    for (&index, error) in &failed {
                        log_failure(&events[index], error);
                    }
                    return (0..events.len()).map(|index| !failed.contains_key(&index)).collect();
                }
            }
        }
    }

    /// Makes one call. The results are in the order of the events.
    async fn put(
        &self,
        events: impl Iterator<Item = (&Event, &Span)>,
        deadline: Deadline,
    ) -> Result<Vec<PutEventsResultEntry>, CallError> {
        let entries = events.map(|(event, span)| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(event.detail_type)
                .detail(&event.detail)
                .set_trace_header(trace::xray_header(span))
                .build()
        });
        let sent = self.client.put_events().set_entries(Some(entries.collect())).send();
        let output = call("EventBridge PutEvents", &*self.clock, deadline, sent).await?;
        Ok(output.entries.unwrap_or_default())
    }

    /// Logs and measures that EventBridge has accepted an event, or returns why it has not.
    fn log_result(&self, event: &Event, result: Option<&PutEventsResultEntry>) -> Result<(), String> {
        let Some(event_id) = result.and_then(|result| result.event_id()) else {
            let code = result.and_then(|result| result.error_code()).unwrap_or("no error code");
            let message = result.and_then(|result| result.error_message()).unwrap_or("no message");
            return Err(format!("EventBridge did not accept the event ({code}): {message}"));
        };
        let since = |at| Duration::try_from(self.clock.now() - at).unwrap_or_default();
        metric::event_published(event.challenge_id, event.detail_type, event_id, event.changed_at.map(since));
        Ok(())
    }
}

fn log_failure(event: &Event, error: &str) {
    let Event { challenge_id, detail_type, .. } = event;
    tracing::error!(
        metric = Metric::PublishFailed.as_str(), %challenge_id, detail_type, error,
        "an event could not be published"
    );
}
