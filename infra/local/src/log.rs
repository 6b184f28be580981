//! The log that the stack keeps in memory: the lines of the functions, and one line for each request to the HTTP API.
//!
//! In the cloud these are the log groups of the functions and the access log.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use shared::clock::{AdjustableClock, Clock, Elapsed, SystemClock, timeout};
use time::OffsetDateTime;
use tracing::Level;
use tracing::level_filters::LevelFilter;

/// How many bytes of lines are kept. The latest line is kept even if it has more.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The longest wait for a line.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// How often the lines are read meanwhile.
const PERIOD: Duration = Duration::from_millis(20);

/// The latest lines of a stack. Clones are handles to the same lines.
#[derive(Debug, Clone)]
pub struct Log(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    clock: AdjustableClock,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    latest: VecDeque<(OffsetDateTime, String)>,
    bytes: usize,
    /// How many lines were written since the start.
    count: usize,
}

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was written, on the stack's clock. The `timestamp` in the line is the machine's time.
    pub at: OffsetDateTime,
    /// Its JSON.
    pub json: Value,
}

impl Log {
    /// An empty log, whose lines get the time of `clock`.
    pub fn new(clock: AdjustableClock) -> Self {
        Self(Arc::new(Kept { clock, lines: Mutex::default() }))
    }

    /// What a subscriber of `tracing` writes JSON lines to: lines at INFO and above are kept, and those up to `printed` go
    /// to standard error.
    pub fn writer(&self, printed: LevelFilter) -> impl Fn() -> LineWriter + Send + Sync + use<> {
        let log = self.clone();
        move || LineWriter { log: log.clone(), printed }
    }

    /// Adds a line, and forgets the oldest ones if there are too many.
    pub(crate) fn add(&self, line: impl Into<String>) {
        let (at, line) = (self.0.clock.now(), line.into());
        let mut lines = self.lines();
        lines.count += 1;
        lines.bytes += line.len();
        lines.latest.push_back((at, line));
        while lines.bytes > MAX_BYTES && lines.latest.len() > 1 {
            let Some((_, oldest)) = lines.latest.pop_front() else { break };
            lines.bytes -= oldest.len();
        }
    }

    /// How many lines were written since the start.
    pub fn count(&self) -> usize {
        self.lines().count
    }

    /// The kept lines after the first `count` since the start, the oldest first.
    pub fn after(&self, count: usize) -> Vec<Line> {
        let lines = self.lines();
        let forgotten = lines.count - lines.latest.len();
        let new = lines.latest.range(count.saturating_sub(forgotten).min(lines.latest.len())..);
        let read = |(at, text): &(OffsetDateTime, String)| {
            Some(Line { at: *at, json: serde_json::from_str(text).ok()? })
        };
        new.filter_map(read).collect()
    }

    /// Waits, for a limited time, until `find` finds something in the lines after the first `count`.
    pub(crate) async fn wait_for<T>(
        &self,
        count: usize,
        find: impl Fn(&[Line]) -> Option<T>,
    ) -> Result<T, Elapsed> {
        let finding = async {
            loop {
                if let Some(found) = find(&self.after(count)) {
                    return found;
                }
                SystemClock.sleep(PERIOD).await;
            }
        };
        timeout(&SystemClock, WAIT_LIMIT, finding).await
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps and prints lines.
#[derive(Debug)]
pub struct LineWriter {
    log: Log,
    printed: LevelFilter,
}

#[derive(Deserialize)]
struct Leveled<'a> {
    level: &'a str,
}

impl Write for LineWriter {
    /// The subscriber writes a whole line at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let level = serde_json::from_slice::<Leveled<'_>>(line).ok().and_then(|line| line.level.parse().ok());
        let level: Level = level.unwrap_or(Level::ERROR);
        if level <= Level::INFO {
            self.log.add(String::from_utf8_lossy(line));
        }
        if level <= self.printed {
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::telemetry;

    fn log() -> Log {
        Log::new(AdjustableClock::running())
    }

    #[test]
    fn lines_at_info_and_above_are_kept_whatever_is_printed() {
        let log = log();
        let writer = log.writer(LevelFilter::OFF);
        let subscriber =
            telemetry::subscriber(LevelFilter::DEBUG, &["local"], "namespace".to_owned(), writer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("a detail");
            tracing::info!(status = 200, "request completed");
            tracing::error!("a failure");
        });
        let messages: Vec<Value> = log.after(0).iter().map(|line| line.json["message"].clone()).collect();
        assert_eq!(messages, ["request completed", "a failure"]);
        assert_eq!(log.after(0)[0].json["status"], 200);
        assert_eq!(log.after(1).len(), 1);
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let log = log();
        let text = "x".repeat(MAX_BYTES / 4);
        for number in 0..10 {
            log.add(json!({ "number": number, "text": text }).to_string());
        }
        let numbers = |count| log.after(count).iter().map(|line| line.json["number"].clone()).collect();
        assert_eq!(log.count(), 10);
        let kept: Vec<Value> = numbers(0);
        assert_eq!(kept, [7, 8, 9]);
        assert_eq!(numbers(8), [8, 9].map(Value::from).to_vec());
        assert_eq!(numbers(10), [] as [Value; 0]);
        log.add(json!({ "text": "x".repeat(2 * MAX_BYTES) }).to_string());
        assert_eq!(log.after(0).len(), 1, "a line that is too long alone is kept");
    }
}
