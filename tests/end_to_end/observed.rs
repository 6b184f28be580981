use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use shared::clock::AdjustableClock;
use shared::telemetry;
use tracing::level_filters::LevelFilter;

/// The log of all tests at TRACE, from when the first of them asked for it. It is one for the process, because
/// tests run at the same time and a log line does not say which it belongs to.
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log(Arc::default());
    let lines = Arc::clone(&log.0);
    let subscriber = telemetry::subscriber(LevelFilter::TRACE, move || Lines(Arc::clone(&lines)));
    tracing::subscriber::set_global_default(subscriber).expect("nothing else logs in these tests");
    log
});

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
    /// Logs from now on.
    pub(crate) fn start() -> &'static Self {
        &LOG
    }

    /// Everything logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
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
