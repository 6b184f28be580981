//! A pace for calls, so that no second has more than so many of them.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;

/// Gives turns that are evenly spaced in monotonic time.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// The earliest time of the next turn. Whoever holds the lock is next.
    next: Mutex<Duration>,
}

impl Pace {
    /// So many turns in a second, of at least one.
    pub(super) fn per_second(turns: u32) -> Self {
        // Rounded up, so that no second has room for another turn.
        let interval = Duration::from_nanos(1_000_000_000_u64.div_ceil(turns.max(1).into()));
        Self { interval, next: Mutex::default() }
    }

    /// Waits for the next turn. A cancelled wait takes no turn.
    pub(super) async fn turn(&self, clock: &dyn Clock) {
        let mut next = self.next.lock().await;
        clock.sleep(next.saturating_sub(clock.monotonic())).await;
        // The clock may have woken the sleeper late. The next turn keeps its distance all the same.
        *next = clock.monotonic() + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::future::{BoxFuture, FutureExt};
    use futures_util::poll;
    use time::macros::datetime;

    use super::*;
    use crate::clock::AdjustableClock;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn clock() -> AdjustableClock {
        AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC))
    }

    /// When so many turns begin that are all waited for from the start, if the clock advances in such steps.
    async fn turns(pace: &Pace, clock: &AdjustableClock, count: usize, step: Duration) -> Vec<Duration> {
        let mut waiting: VecDeque<BoxFuture<'_, ()>> = (0..count).map(|_| pace.turn(clock).boxed()).collect();
        let mut times = Vec::new();
        while let Some(turn) = waiting.front_mut() {
            if poll!(turn).is_ready() {
                times.push(clock.monotonic());
                waiting.pop_front();
            } else {
                clock.advance(step);
                // Tokio lets a task that never yields wait for ever.
                tokio::task::yield_now().await;
            }
        }
        times
    }

    #[tokio::test]
    async fn no_second_has_more_turns_than_the_pace() {
        for (turns_per_second, step) in [(1, 50), (3, 1), (4, 50), (4, 70), (7, 1), (50, 1), (50, 30)] {
            let (pace, clock) = (Pace::per_second(turns_per_second), clock());
            let times = turns(&pace, &clock, 4 * turns_per_second as usize, step * MILLISECOND).await;
            for window in times.windows(turns_per_second as usize + 1) {
                let took = window[turns_per_second as usize] - window[0];
                assert!(took >= Duration::from_secs(1), "{turns_per_second} a second: {times:?}");
            }
        }
    }

    #[tokio::test]
    async fn turns_that_nobody_took_are_not_saved_up() {
        let (pace, clock) = (Pace::per_second(4), clock());
        pace.turn(&clock).await;
        clock.advance(Duration::from_secs(60));
        let start = clock.monotonic();
        let times = turns(&pace, &clock, 3, 50 * MILLISECOND).await;
        let expected = [0, 250, 500].map(|after| start + after * MILLISECOND);
        assert_eq!(times, expected);
    }

    #[tokio::test]
    async fn a_cancelled_wait_takes_no_turn() {
        let (pace, clock) = (Pace::per_second(4), clock());
        pace.turn(&clock).await;
        let mut cancelled = pace.turn(&clock).boxed();
        assert!(poll!(&mut cancelled).is_pending());
        drop(cancelled);
        clock.advance(250 * MILLISECOND);
        assert!(poll!(pace.turn(&clock).boxed()).is_ready());
    }
}
