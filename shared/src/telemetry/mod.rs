//! Logging: JSON lines on standard output, as CloudWatch reads them.
//!
//! Rules: callers read texts of this project only, and what Circle or AWS said goes to the log with its request id; a
//! failure is logged once, at the boundary; no secret is ever a field. Dependencies log at WARN at most, whatever the
//! environment says, because the runtime and HTTP crates trace whole requests.
//!
//! A line with a field `metric` is also a metric, in CloudWatch's embedded metric format ([`metric`](crate::metric)).

mod lines;
#[cfg_attr(not(feature = "otel"), path = "no_trace.rs")]
pub mod trace;

use std::error::Error;
use std::fmt;
use std::io::Write;

use lambda_http::Context;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::lines::Lines;

/// Starts logging for the life of the process. `level` applies to this crate and to `own_crate`. Metrics get the CloudWatch
/// namespace `namespace`.
///
/// # Panics
/// If logging was started before.
pub fn start(level: LevelFilter, own_crate: &'static str, namespace: String) {
    subscriber(level, &[own_crate], namespace, std::io::stdout).init();
}

/// The subscriber of [`start`], for any writer.
pub fn subscriber<W, R>(
    level: LevelFilter,
    own_crates: &[&'static str],
    namespace: String,
    writer: W,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W, R>
where
    W: Fn() -> R + Send + Sync + 'static,
    R: Write + 'static,
{
    let own_crates: Vec<&str> = own_crates.iter().copied().chain(["shared"]).collect();
    let is_own = move |target: &str| own_crates.contains(&target.split("::").next().unwrap_or(target));
    let of_others = level.min(LevelFilter::WARN);
    #[cfg(feature = "otel")]
    let traces = trace::layer(is_own.clone());
    let filter =
        filter_fn(move |line| *line.level() <= if is_own(line.target()) { level } else { of_others });
    let lines = Lines { namespace, writer };
    let subscriber =
        tracing_subscriber::registry().with(lines.with_filter(filter.with_max_level_hint(level)));
    #[cfg(feature = "otel")]
    let subscriber = subscriber.with(traces);
    subscriber
}

/// The span of an invocation that is not an HTTP request. Its id is part of each log line.
pub fn invocation(context: &Context) -> Span {
    let span = tracing::info_span!("invocation", invocation_id = context.request_id);
    trace::link(&span, Some(context), None);
    span
}

/// The work of an invocation in its span. It ends once the spans of its trace are exported.
pub fn run<F: Future>(span: Span, work: F) -> impl Future<Output = F::Output> {
    trace::exported(work.instrument(span))
}

/// An error and its sources on one line, for the log.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        std::iter::successors(self.0.source(), |&error| error.source())
            .try_for_each(|source| write!(formatter, ": {source}"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` logs at `level` in the crate `get_pin`.
    pub(crate) fn lines(level: LevelFilter, work: impl FnOnce()) -> Vec<Value> {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = subscriber(level, &["get_pin"], "tests".to_owned(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn dependencies_are_capped_at_warn_even_at_trace() {
        let lines = lines(LevelFilter::TRACE, || {
            tracing::trace!(target: "shared::circle", "ours at trace");
            tracing::trace!(target: "get_pin", "ours too");
            tracing::info!(target: "shared_memory", "theirs by another name");
            tracing::info!(target: "lambda_runtime", "theirs at info");
            tracing::warn!(target: "aws_config", "theirs at warn");
        });
        let messages: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
        assert_eq!(messages, ["ours at trace", "ours too", "theirs at warn"]);
    }

    #[test]
    fn line_has_the_fields_of_the_event_and_of_its_span() {
        let mut lines = lines(LevelFilter::INFO, || {
            let span = tracing::info_span!("request", request_id = "r-1", user = tracing::field::Empty);
            span.record("user", "first");
            span.record("user", "second");
            span.in_scope(|| {
                let none: Option<&str> = None;
                let error = std::fmt::Error;
                tracing::warn!(status = 201_u16, is_new = true, share = 0.5, none, %error, "it's \"done\"\n");
            });
            tracing::info!("outside");
        });
        let timestamp = lines[0]["timestamp"].take();
        assert!(
            timestamp.as_str().is_some_and(|text| text.ends_with('Z') && text.len() <= 24),
            "{timestamp}"
        );
        assert_eq!(
            lines[0],
            json!({
                "timestamp": null, "level": "WARN", "message": "it's \"done\"\n", "status": 201, "is_new": true,
                "share": 0.5, "error": std::fmt::Error.to_string(), "target": module_path!(),
                "span": { "name": "request", "request_id": "r-1", "user": "second" },
            })
        );
        assert_eq!(lines[1].get("span"), None);
    }

    #[test]
    fn chain_names_every_source() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);
        let inner = std::fmt::Error;
        assert_eq!(Chain(&Outer(inner)).to_string(), format!("outer: {inner}"));
    }
}
