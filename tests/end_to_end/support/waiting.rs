//! Waiting, with a limit, and time that passes while a test waits.

use std::time::Duration;

use shared::clock::{AdjustableClock, Clock, SystemClock, timeout};

use super::App;

/// The longest that a test waits for anything, by the machine's clock. A slow machine needs some of it.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How far the clock moves in one step.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// How often every ready task runs between two steps. It is enough for a few requests on loopback.
const ROUNDS: usize = 300;

/// How long other threads, such as the database's, can work between two steps.
const FOR_OTHER_THREADS: Duration = Duration::from_millis(8);

impl App {
    /// Does the work, and moves the clock, which stands still, whenever the work only waits.
    pub(crate) async fn let_time_pass<T>(&self, work: impl Future<Output = T>) -> T {
        let_time_pass_by(STEP, &self.clock, work).await
    }

    /// Does the work like [`App::let_time_pass`], and also returns how long it took on the stack's clock.
    pub(crate) async fn timed<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let before = self.clock.now();
        let output = self.let_time_pass(work).await;
        (output, (self.clock.now() - before).unsigned_abs())
    }
}

/// Does the work like [`App::let_time_pass`], in steps of another length, for work that takes minutes.
pub(crate) async fn let_time_pass_by<T>(
    step: Duration,
    clock: &AdjustableClock,
    work: impl Future<Output = T>,
) -> T {
    let mut work = Box::pin(work);
    in_time(async {
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                () = run_ready_tasks() => clock.advance(step),
            }
        }
    })
    .await
}

/// Runs every ready task, several times.
pub(super) async fn run_ready_tasks() {
    for _ in 0..ROUNDS {
        tokio::task::yield_now().await;
    }
    SystemClock.sleep(FOR_OTHER_THREADS).await;
}

/// Waits for something that must happen within [`LIMIT`]. The future is boxed: in a debug build, nested futures
/// overflow the stack of a test.
pub(crate) async fn in_time<F: Future>(waiting: F) -> F::Output {
    timeout(&SystemClock, LIMIT, Box::pin(waiting)).await.expect("it happens in time")
}

/// Waits until a condition holds that can only be polled.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    in_time(async {
        while !condition() {
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
