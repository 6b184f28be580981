//! What the service logs during a test.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use serde_json::Value;
use shared::telemetry;
use tracing::level_filters::LevelFilter;

/// The log of one test, at level TRACE. The whole stack of a test runs on the test's thread, so tests that run at
/// the same time do not log into it.
pub(crate) struct Log(());

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of the current thread.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Starts an empty log. The process has one subscriber: with one for each thread, `tracing` may disable a
    /// callsite for all of them if it is first reached on a thread without one.
    pub(crate) fn start() -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            tracing::subscriber::set_global_default(telemetry::subscriber(
                LevelFilter::TRACE,
                &local::CRATES,
                "circle-pin-reset".to_owned(),
                || Lines,
            ))
            .expect("nothing else logs in these tests");
        });
        LINES.take();
        Self(())
    }

    /// Everything that this thread has logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(LINES.with_borrow(Clone::clone)).unwrap()
    }

    /// How many lines contain all of these texts.
    pub(crate) fn count(&self, texts: &[&str]) -> usize {
        self.text().lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// The problems that were counted so far, in order.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let problems = lines.filter(|line| line["Logged"] == 1);
        problems.filter_map(|line| line["metric"].as_str().map(str::to_owned)).collect()
    }
}
