use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::clock::AdjustableClock;
use shared::telemetry;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;

/// The log of this thread at TRACE, from now on until this is dropped. A test's whole stack runs on the
/// test's thread.
pub(crate) struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

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

impl Log {
    pub(crate) fn capture() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = telemetry::subscriber(LevelFilter::TRACE, move || writer.clone());
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Everything logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }

    /// The one line that has this text.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) -> serde_json::Value {
        let log = self.text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
        assert_eq!(lines.len(), 1, "{text}: {log}");
        serde_json::from_str(lines[0]).unwrap()
    }
}

/// How far the clock moves at once.
const STEP: Duration = Duration::from_millis(50);

/// How often everything that is ready runs between two steps: often enough for a few requests on loopback.
const ROUNDS: usize = 300;

/// Does the work, and lets time pass on a clock that stands still wherever the work only waits.
pub(crate) async fn while_time_passes<T>(clock: &AdjustableClock, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return output,
            () = rounds() => clock.advance(STEP),
        }
    }
}

async fn rounds() {
    for _ in 0..ROUNDS {
        tokio::task::yield_now().await;
    }
}
