//! Log lines: one JSON object for each event, with the span that it belongs to.

use std::fmt::Debug;
use std::io::Write;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::{Clock, SystemClock};
use crate::metric;

/// Writes each event as one line to what `writer` makes.
pub(super) struct Lines<W> {
    /// The CloudWatch namespace of the metrics.
    pub(super) namespace: String,
    pub(super) writer: W,
}

/// The fields of an event or a span. A field that is recorded again replaces its earlier value.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }

    /// The value of the field `metric`.
    fn metric(&self) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == "metric").and_then(|(_, value)| value.as_str())
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, format!("{value:?}").into());
    }
}

/// A span as a member of the lines within it: its name and its fields.
struct Span<'a>(&'static str, &'a Fields);

impl Serialize for Span<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.0)?;
        self.1.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<S, W, R> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn() -> R + 'static,
    R: Write,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Vec::with_capacity(512);
        // Serialization into memory cannot fail, and neither may a log line that cannot be written end the program.
        if write_line(&mut line, event, &fields, &self.namespace, &context).is_ok() {
            line.push(b'\n');
            let _ = (self.writer)().write_all(&line);
        }
    }
}

fn write_line<S>(
    line: &mut Vec<u8>,
    event: &Event<'_>,
    fields: &Fields,
    namespace: &str,
    context: &Context<'_, S>,
) -> serde_json::Result<()>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let now = SystemClock.now();
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &timestamp(now))?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    fields.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
    map.serialize_entry("target", event.metadata().target())?;
    if let Some(span) = context.lookup_current()
        && let Some(fields) = span.extensions().get::<Fields>()
    {
        map.serialize_entry("span", &Span(span.name(), fields))?;
    }
    if let Some(metric) = fields.metric() {
        metric::embed(metric, namespace, now, &mut map)?;
    }
    map.end()
}

fn timestamp(now: OffsetDateTime) -> String {
    now.truncate_to_millisecond().format(&Rfc3339).unwrap_or_default()
}
