//! What happens in a stack, as it happens: for the time line of the demo app, and for the terminal.

use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::clock::{Clock, SystemClock};

use crate::circle_simulator::Delivery;
use crate::dynamodb::CHALLENGES_TABLE;
use crate::embedded_metrics::{MetricValues, metric_values};
use crate::http_api::ACCESS_LOG;
use crate::log::Line;
use crate::sources::Sources;
use crate::stream::Stream;

/// How often an activity looks for something new. Nothing in the stack waits for it.
const PERIOD: Duration = Duration::from_millis(200);

/// The metrics that tell of a problem, if their value is not 0.
const PROBLEMS: [&str; 3] = ["Logged", "ChallengesAbandoned", "SettledLate"];

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The HTTP API responded to a request: its line of the access log.
    Request(Value),
    /// The functions counted a problem.
    Problem {
        /// The metric.
        metric: MetricValues,
        /// The log line with the metric.
        line: Value,
    },
    /// Something failed that is not counted: its log line.
    Failure(Value),
    /// Circle sent a webhook, or lost it: `attempt` (0 if lost), `status`, `error` and `body`.
    Webhook(Value),
    /// A challenge record changed.
    Record {
        /// The record before; null if it is new.
        old: Value,
        /// The record now; null if it was removed.
        new: Value,
    },
    /// An event was published.
    Event(Value),
}

/// Everything that happens in a stack from some moment on.
pub struct Activity {
    sources: Sources,
    lines: usize,
    deliveries: usize,
    events: usize,
    records: Option<Stream>,
}

impl Activity {
    /// Begins now.
    pub(crate) fn of(sources: Sources) -> Self {
        Self {
            lines: sources.log.count(),
            deliveries: sources.circle.delivery_count(),
            events: sources.events.after(0).len(),
            records: Stream::of(sources.database.clone(), CHALLENGES_TABLE).ok(),
            sources,
        }
    }

    /// Waits until something happens.
    pub async fn next(&mut self) -> Vec<News> {
        loop {
            let news = self.news();
            if !news.is_empty() {
                return news;
            }
            SystemClock.sleep(PERIOD).await;
        }
    }

    /// What is new, in the order in which it usually happens.
    fn news(&mut self) -> Vec<News> {
        let count = self.sources.log.count();
        let lines = self.sources.log.after(std::mem::replace(&mut self.lines, count));

        let count = self.sources.circle.delivery_count();
        let new = count.saturating_sub(std::mem::replace(&mut self.deliveries, count));
        // The simulator copies its whole list.
        let deliveries = if new > 0 { self.sources.circle.deliveries() } else { Vec::new() };
        let webhooks = deliveries[deliveries.len().saturating_sub(new)..].iter();

        let records = self.records.as_mut().and_then(|stream| stream.take().ok()).unwrap_or_default();
        let records = records.iter().map(|record| &record["dynamodb"]);

        let events = self.sources.events.after(self.events);
        self.events += events.len();

        let lines = lines.into_iter().flat_map(of_line);
        let webhooks = webhooks.map(|delivery| News::Webhook(webhook(delivery)));
        let records = records
            .map(|record| News::Record { old: image(&record["OldImage"]), new: image(&record["NewImage"]) });
        lines
            .chain(webhooks)
            .chain(records)
            .chain(events.into_iter().map(|(_, event)| News::Event(event)))
            .collect()
    }
}

/// What a line of the log tells.
fn of_line(line: Line) -> Vec<News> {
    if line.json["target"] == ACCESS_LOG {
        return vec![News::Request(line.json)];
    }
    let is_problem = |metric: &MetricValues| {
        PROBLEMS.contains(&metric.name.as_str()) && metric.values.iter().any(|value| *value != 0.0)
    };
    let problems = metric_values(&line.json).into_iter().filter(is_problem);
    let mut news: Vec<_> = problems.map(|metric| News::Problem { metric, line: line.json.clone() }).collect();
    if news.is_empty() && line.json["level"] == "ERROR" {
        news.push(News::Failure(line.json));
    }
    news
}

/// An attempt to deliver a webhook, with its body as JSON if it is JSON.
pub(crate) fn webhook(delivery: &Delivery) -> Value {
    let body = serde_json::from_slice(&delivery.body);
    json!({
        "attempt": delivery.attempt,
        "status": delivery.status,
        "error": delivery.error,
        "body": body.unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&delivery.body))),
    })
}

/// An item without DynamoDB's types; null if there is none.
pub(crate) fn image(item: &Value) -> Value {
    let plain = |value: &Value| match value.as_object().and_then(|one| one.iter().next()) {
        Some((kind, text)) if kind == "N" => {
            serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or(text.clone())
        }
        Some((kind, members)) if kind == "M" => image(members),
        Some((_, other)) => other.clone(),
        None => Value::Null,
    };
    let Some(attributes) = item.as_object() else { return Value::Null };
    Value::Object(attributes.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>())
}
