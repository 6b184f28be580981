//! A clock on which time passes only while everything waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::clock::{AdjustableClock, Clock};
use time::OffsetDateTime;
use time::macros::datetime;

/// When each input begins.
pub(crate) const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

/// The clock of the functions and of the AWS SDK.
#[derive(Clone)]
pub(crate) struct FuzzClock {
    /// Its monotonic time never goes back.
    time: AdjustableClock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The monotonic time at which the input began.
    began: Duration,
    /// When the pending sleeps end.
    sleepers: BTreeMap<u64, Duration>,
    next_sleeper: u64,
}

/// A pending sleep. Dropping it removes it from the schedule.
struct Sleeper {
    id: u64,
    state: Arc<Mutex<State>>,
}

impl FuzzClock {
    pub(crate) fn new() -> Self {
        Self { time: AdjustableClock::frozen(NOON), state: Arc::default() }
    }

    /// Sets the wall clock back to [`NOON`].
    pub(crate) fn begin(&self) {
        let began = self.time.monotonic();
        lock(&self.state).began = began;
    }

    /// Advances the clock to when the first sleeper wants to wake up. Returns whether there is one.
    pub(crate) fn wake_first(&self) -> bool {
        let first = lock(&self.state).sleepers.values().min().copied();
        if let Some(first) = first {
            self.time.advance(first.saturating_sub(self.time.monotonic()));
        }
        first.is_some()
    }
}

impl fmt::Debug for FuzzClock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FuzzClock")
    }
}

impl Clock for FuzzClock {
    fn now(&self) -> OffsetDateTime {
        let passed = self.monotonic().saturating_sub(lock(&self.state).began);
        NOON.saturating_add(passed.try_into().unwrap_or(time::Duration::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.time.monotonic()
    }

    fn sleep(&self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = lock(&self.state);
        let id = state.next_sleeper;
        state.next_sleeper += 1;
        state.sleepers.insert(id, self.time.monotonic().saturating_add(duration));
        let sleeper = Sleeper { id, state: Arc::clone(&self.state) };
        let sleep = self.time.sleep(duration);
        Box::pin(async move {
            sleep.await;
            drop(sleeper);
        })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        lock(&self.state).sleepers.remove(&self.id);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
