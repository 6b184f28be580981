use std::cell::RefCell;
use std::io::Write;
use std::pin::pin;
use std::sync::Once;
use std::time::Duration;

use shared::clock::{AdjustableClock, Clock, SystemClock};
use shared::telemetry;
use tracing::level_filters::LevelFilter;

/// The log of one test at TRACE. A test's whole stack runs on the test's thread, so other tests that run at the
/// same time have no part in it.
pub(crate) struct Log(());

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of the thread that it is called on.
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
    /// Logs from now on. There is one subscriber for the process: with one for each thread, `tracing` may turn a
    /// place in the code off for all of them where it is first met on a thread that has none.
    pub(crate) fn start() -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            tracing::subscriber::set_global_default(telemetry::subscriber(
                LevelFilter::TRACE,
                &local::CRATES,
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
}

/// How far the clock moves at once.
const STEP: Duration = Duration::from_millis(50);

/// How often everything that is ready runs between two steps: often enough for a few requests on loopback.
const ROUNDS: usize = 300;

/// How long other threads, such as the database's, have between two steps.
const FOR_OTHER_THREADS: Duration = Duration::from_millis(8);

/// Does the work, and lets time pass on a clock that stands still wherever the work only waits.
pub(crate) async fn while_time_passes<T>(clock: &AdjustableClock, work: impl Future<Output = T>) -> T {
    while_time_passes_by(STEP, clock, work).await
}

/// The same with steps of another length, for work that takes minutes.
pub(crate) async fn while_time_passes_by<T>(
    step: Duration,
    clock: &AdjustableClock,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return output,
            () = rounds() => clock.advance(step),
        }
    }
}

async fn rounds() {
    for _ in 0..ROUNDS {
        tokio::task::yield_now().await;
    }
    SystemClock.sleep(FOR_OTHER_THREADS).await;
}
