//! Logging: JSON lines on standard output, as CloudWatch reads them.
//!
//! Rules: callers read texts of this project only, and what Circle or AWS said goes to the log with its request id; a
//! failure is logged once, at the boundary; no secret is ever a field. Dependencies log at WARN at most, whatever the
//! environment says, because the runtime and HTTP crates trace whole requests.

use std::error::Error;
use std::fmt;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for the life of the process. `level` applies to this crate and to `own_crate`.
///
/// # Panics
/// If logging was started before.
pub fn start(level: LevelFilter, own_crate: &'static str) {
    subscriber(level, &[own_crate], std::io::stdout).init();
}

/// The subscriber of [`start`], for any writer.
pub fn subscriber<W>(
    level: LevelFilter,
    own_crates: &[&'static str],
    writer: W,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let own_crates: Vec<&str> = own_crates.iter().copied().chain(["shared"]).collect();
    let is_own = move |target: &str| own_crates.contains(&target.split("::").next().unwrap_or(target));
    let of_others = level.min(LevelFilter::WARN);
    let filter =
        filter_fn(move |line| *line.level() <= if is_own(line.target()) { level } else { of_others });
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
    tracing_subscriber::registry().with(lines.with_filter(filter.with_max_level_hint(level)))
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
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dependencies_are_capped_at_warn_even_at_trace() {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(
            subscriber(LevelFilter::TRACE, &["get_pin"], move || writer.clone()),
            || {
                tracing::trace!(target: "shared::circle", "ours at trace");
                tracing::trace!(target: "get_pin", "ours too");
                tracing::info!(target: "shared_memory", "theirs by another name");
                tracing::info!(target: "lambda_runtime", "theirs at info");
                tracing::warn!(target: "aws_config", "theirs at warn");
            },
        );
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("ours at trace") && text.contains("ours too") && text.contains("theirs at warn"),
            "{text}"
        );
        assert!(!text.contains("theirs at info") && !text.contains("by another name"), "{text}");
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
