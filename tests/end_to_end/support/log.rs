//! What the service logs during a test. Every test logs at TRACE, and [`super::secrecy`] checks every line.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use serde_json::Value;
use shared::telemetry;
use tracing::level_filters::LevelFilter;

use super::secrecy;

/// The log of a test from a certain line on. The whole stack of a test runs on the test's thread, so tests that run at
/// the same time do not log into it.
pub(crate) struct Log {
    /// Where it starts in what the thread has logged.
    start: usize,
}

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

/// Lets the process log, and tells the check of the log every secret. The process has one subscriber: with one for each
/// thread, `tracing` may disable a callsite for all of them if it is first reached on a thread without one.
pub(super) fn capture() {
    static CAPTURED: Once = Once::new();
    CAPTURED.call_once(|| {
        let namespace = "circle-pin-reset".to_owned();
        let subscriber = telemetry::subscriber(LevelFilter::TRACE, &local::CRATES, namespace, || Lines);
        tracing::subscriber::set_global_default(subscriber).expect("nothing else logs in these tests");
        local::secrets::observe(secrecy::remember);
    });
}

impl Log {
    /// A log that is empty now.
    pub(crate) fn start() -> Self {
        capture();
        Self { start: LINES.with_borrow(Vec::len) }
    }

    /// Everything that this thread has logged.
    pub(super) fn of_thread() -> Self {
        Self { start: 0 }
    }

    /// Forgets what the thread has logged since the start.
    pub(super) fn forget(&self) {
        LINES.with_borrow_mut(|lines| lines.truncate(self.start));
    }

    /// Everything that this thread has logged since the start.
    pub(crate) fn text(&self) -> String {
        LINES.with_borrow(|lines| String::from_utf8(lines[self.start..].to_vec()).unwrap())
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
