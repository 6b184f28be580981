//! Time: the only source of "now" and the only way to wait.
//!
//! Every timeout, back-off, deadline and cache age goes through a [`Clock`], the AWS SDK's included
//! ([`time_source`], [`async_sleep`]), so a test can hold time still and move it by hand.
//!
//! The wall clock can jump while a request is in progress, and a frozen Lambda sandbox may or may not stop the monotonic
//! clock. So deadlines use monotonic time, ages use the larger of both ([`Moment`]), and only instants that are stored or
//! shown use wall time alone.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::sync::watch;

/// The time, and a way to wait.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The current time in UTC, by the wall clock.
    fn now(&self) -> OffsetDateTime;

    /// The time since some fixed point in the past. It never goes back and never jumps.
    fn monotonic(&self) -> Duration;

    /// Completes once `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock and tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door to the wall clock")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to the monotonic clock")]
    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to tokio's timer")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that can be advanced by hand, and that otherwise either runs or stands still.
///
/// The local stack uses a running one, so that a developer can let an hour pass at once. Tests use a frozen one.
#[derive(Debug, Clone)]
pub struct AdjustableClock {
    shared: Arc<Adjustment>,
}

#[derive(Debug)]
struct Adjustment {
    /// The instant that a frozen clock started from; `None` for a clock that runs with the machine's.
    base: Option<OffsetDateTime>,
    added: Mutex<Added>,
    moved: watch::Sender<()>,
}

/// How far the clock has been moved by hand.
#[derive(Debug, Default)]
struct Added {
    /// Time that has passed.
    passed: Duration,
    /// The error of the wall clock, in addition to that.
    wall_error: time::Duration,
}

impl AdjustableClock {
    /// A clock that starts at the machine's time and runs at its pace.
    pub fn running() -> Self {
        Self::from(None)
    }

    /// A clock that shows `at` until it is advanced.
    pub fn frozen(at: OffsetDateTime) -> Self {
        Self::from(Some(at))
    }

    fn from(base: Option<OffsetDateTime>) -> Self {
        let adjustment = Adjustment { base, added: Mutex::default(), moved: watch::Sender::new(()) };
        Self { shared: Arc::new(adjustment) }
    }

    /// Advances the clock, at most to the end of the year 9999, and wakes every sleeper whose time has come.
    pub fn advance(&self, by: Duration) {
        let mut added = self.added();
        added.passed = added.passed.saturating_add(by);
        drop(added);
        self.shared.moved.send_replace(());
    }

    /// Makes the wall clock jump, forward or back, while no time passes.
    pub fn jump_wall_clock(&self, by: time::Duration) {
        let mut added = self.added();
        added.wall_error = added.wall_error.saturating_add(by);
    }

    fn added(&self) -> MutexGuard<'_, Added> {
        self.shared.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for AdjustableClock {
    fn now(&self) -> OffsetDateTime {
        let added = self.added();
        let base = self.shared.base.unwrap_or_else(|| SystemClock.now());
        later(base, added.passed).saturating_add(added.wall_error)
    }

    fn monotonic(&self) -> Duration {
        let base = if self.shared.base.is_some() { Duration::ZERO } else { SystemClock.monotonic() };
        base.saturating_add(self.added().passed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        let wake_at = clock.monotonic().saturating_add(duration);
        Box::pin(async move {
            let mut moved = clock.shared.moved.subscribe();
            loop {
                moved.mark_unchanged();
                let remaining = wake_at.saturating_sub(clock.monotonic());
                if remaining.is_zero() {
                    return;
                }
                if clock.shared.base.is_some() {
                    let _ = moved.changed().await;
                } else {
                    tokio::select! {
                        _ = moved.changed() => {}
                        () = SystemClock.sleep(remaining) => {}
                    }
                }
            }
        })
    }
}

/// `instant` plus `duration`, at most the last instant that a date can hold.
fn later(instant: OffsetDateTime, duration: Duration) -> OffsetDateTime {
    instant.saturating_add(duration.try_into().unwrap_or(time::Duration::MAX))
}

/// The limit of [`timeout`] has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time limit has passed")]
pub struct Elapsed;

/// Runs `future` for at most `limit` on `clock`.
pub async fn timeout<F: Future>(clock: &dyn Clock, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = clock.sleep(limit) => Err(Elapsed),
    }
}

/// The point of monotonic time by which something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// A deadline `limit` from now.
    pub fn after(clock: &dyn Clock, limit: Duration) -> Self {
        Self(clock.monotonic().saturating_add(limit))
    }

    /// A deadline that is `duration` earlier.
    pub fn earlier(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// How long there is until the deadline; zero once it has passed.
    pub fn remaining(self, clock: &dyn Clock) -> Duration {
        self.0.saturating_sub(clock.monotonic())
    }
}

/// A point in time whose age can be told although the wall clock may jump and the monotonic clock may have been frozen.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall: OffsetDateTime,
    monotonic: Duration,
}

impl Moment {
    /// This moment.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// The time since then: the larger of what the two clocks say.
    pub fn age(self, clock: &dyn Clock) -> Duration {
        let by_wall = Duration::try_from(clock.now() - self.wall).unwrap_or_default();
        by_wall.max(clock.monotonic().saturating_sub(self.monotonic))
    }
}

/// The clock as the AWS SDK's source of time.
pub fn time_source(clock: Arc<dyn Clock>) -> SharedTimeSource {
    SharedTimeSource::new(SdkClock(clock))
}

/// The clock as the AWS SDK's sleep.
pub fn async_sleep(clock: Arc<dyn Clock>) -> SharedAsyncSleep {
    SharedAsyncSleep::new(SdkClock(clock))
}

#[derive(Debug)]
struct SdkClock(Arc<dyn Clock>);

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}

impl AsyncSleep for SdkClock {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(SyncFuture(Mutex::new(self.0.sleep(duration))))
    }
}

/// The SDK requires a sleep that is `Sync`; a boxed future is only `Send`.
struct SyncFuture(Mutex<BoxFuture<'static, ()>>);

impl Future for SyncFuture {
    type Output = ();

    fn poll(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let future = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        future.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    #[tokio::test]
    async fn a_frozen_clock_wakes_sleepers_only_when_advanced_far_enough() {
        let clock = AdjustableClock::frozen(NOON);
        let mut sleep = clock.sleep(Duration::from_secs(10));
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(9));
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut sleep).is_ready());
        assert_eq!(clock.now(), NOON + Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_running_clock_moves_by_itself_and_by_hand() {
        let clock = AdjustableClock::running();
        let before = clock.now();
        clock.sleep(Duration::from_millis(1)).await;
        assert!(clock.now() > before);
        let hour = clock.sleep(Duration::from_secs(3600));
        clock.advance(Duration::from_secs(3600));
        hour.await;
    }

    #[tokio::test]
    async fn no_duration_overflows() {
        let clock = AdjustableClock::frozen(NOON);
        let mut sleep = clock.sleep(Duration::MAX);
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(Duration::MAX);
        assert!(poll!(&mut sleep).is_ready());
        assert_eq!(clock.now().year(), 9999);
    }

    #[tokio::test]
    async fn timeout_returns_the_output_or_elapsed() {
        let clock = AdjustableClock::frozen(NOON);
        assert_eq!(timeout(&clock, Duration::ZERO, async { 7 }).await, Ok(7));
        let waiting = timeout(&clock, Duration::from_secs(1), std::future::pending::<()>());
        tokio::pin!(waiting);
        assert!(poll!(&mut waiting).is_pending());
        clock.advance(Duration::from_secs(1));
        assert_eq!(waiting.await, Err(Elapsed));
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_no_time() {
        let clock = AdjustableClock::frozen(NOON);
        let deadline = Deadline::after(&clock, Duration::from_secs(5));
        clock.advance(Duration::from_secs(2));
        assert_eq!(deadline.remaining(&clock), Duration::from_secs(3));
        clock.advance(Duration::from_secs(60));
        assert_eq!(deadline.remaining(&clock), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_jump_of_the_wall_clock_changes_neither_sleeps_nor_deadlines() {
        let clock = AdjustableClock::frozen(NOON);
        let deadline = Deadline::after(&clock, Duration::from_secs(5));
        let mut sleep = clock.sleep(Duration::from_secs(1));
        for jump in [time::Duration::minutes(10), time::Duration::minutes(-20)] {
            clock.jump_wall_clock(jump);
            assert!(poll!(&mut sleep).is_pending());
            assert_eq!(deadline.remaining(&clock), Duration::from_secs(5));
        }
        assert_eq!(clock.now(), NOON - Duration::from_secs(600));
        clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut sleep).is_ready());
    }

    #[test]
    fn an_age_is_the_larger_of_what_the_clocks_say() {
        let clock = AdjustableClock::frozen(NOON);
        let moment = Moment::now(&clock);
        clock.advance(Duration::from_secs(5));
        assert_eq!(moment.age(&clock), Duration::from_secs(5));
        clock.jump_wall_clock(time::Duration::minutes(-10));
        assert_eq!(moment.age(&clock), Duration::from_secs(5), "the wall clock was set back");
        clock.jump_wall_clock(time::Duration::minutes(20));
        assert_eq!(moment.age(&clock), Duration::from_secs(605), "the monotonic clock was frozen");
    }

    #[tokio::test]
    async fn the_aws_sdk_sleeps_and_reads_the_time_on_the_same_clock() {
        let clock = Arc::new(AdjustableClock::frozen(NOON));
        assert_eq!(time_source(clock.clone()).now(), SystemTime::from(NOON));
        let mut sleep = async_sleep(clock.clone()).sleep(Duration::from_secs(1));
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut sleep).is_ready());
    }
}
