//! What happens in the stack, for the time line of the demo app: webhooks, records and events, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream as Events;
use futures_util::stream;
use serde_json::{Map, Value, json};
use shared::clock::{Clock, SystemClock};

use super::Sources;
use crate::circle_simulator::Delivery;
use crate::dynamodb::CHALLENGES_TABLE;
use crate::stream::Stream;

/// How often the feed looks for something new. Nothing in the stack waits for it.
const PERIOD: Duration = Duration::from_millis(200);

/// Everything that happens from now on.
pub(super) fn feed(sources: Sources) -> Sse<impl Events<Item = Result<Event, Infallible>>> {
    let seen = Seen {
        deliveries: sources.circle.delivery_count(),
        events: sources.events.after(0).len(),
        records: Stream::of(sources.database.clone(), CHALLENGES_TABLE).ok(),
    };
    let batches = stream::unfold((sources, seen), async |(sources, mut seen)| {
        loop {
            let news = seen.news(&sources);
            if !news.is_empty() {
                return Some((stream::iter(news.into_iter().map(Ok)), (sources, seen)));
            }
            SystemClock.sleep(PERIOD).await;
        }
    });
    Sse::new(futures_util::StreamExt::flatten(batches)).keep_alive(KeepAlive::default())
}

/// How much of each source the page has.
struct Seen {
    deliveries: usize,
    events: usize,
    records: Option<Stream>,
}

impl Seen {
    /// What is new, in the order in which it usually happens.
    fn news(&mut self, sources: &Sources) -> Vec<Event> {
        let count = sources.circle.delivery_count();
        let deliveries = sources.circle.deliveries();
        let new = count.saturating_sub(std::mem::replace(&mut self.deliveries, count));
        let webhooks = deliveries[deliveries.len().saturating_sub(new)..]
            .iter()
            .map(|one| event("webhook", &webhook(one)));

        let records = self.records.as_mut().and_then(|stream| stream.take().ok()).unwrap_or_default();
        let records = records.iter().map(|record| event("record", &image(&record["dynamodb"]["NewImage"])));

        let events = sources.events.after(self.events);
        self.events += events.len();
        let events = events.iter().map(|one| event("event", one));

        webhooks.chain(records).chain(events).collect()
    }
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

fn webhook(delivery: &Delivery) -> Value {
    let body = serde_json::from_slice(&delivery.body);
    json!({
        "attempt": delivery.attempt,
        "status": delivery.status,
        "error": delivery.error,
        "body": body.unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&delivery.body))),
    })
}

/// An item without DynamoDB's types.
fn image(item: &Value) -> Value {
    let plain = |value: &Value| match value.as_object().and_then(|one| one.iter().next()) {
        Some((kind, text)) if kind == "N" => {
            serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or(text.clone())
        }
        Some((kind, members)) if kind == "M" => image(members),
        Some((_, other)) => other.clone(),
        None => Value::Null,
    };
    let attributes = item.as_object().into_iter().flatten();
    Value::Object(attributes.map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>())
}
