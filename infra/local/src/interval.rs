//! Work that is due at regular times of the stack's clock.

use std::time::Duration;

use shared::clock::{AdjustableClock, Clock};
use time::OffsetDateTime;

/// Due times at a fixed distance from each other, counted from the creation of this value.
///
/// A due time does not depend on how long the work takes, nor on when the task that does the work runs again.
/// Due times that pass while the work is being done count as one.
#[derive(Debug)]
pub(crate) struct Interval {
    clock: AdjustableClock,
    period: Duration,
    due: OffsetDateTime,
}

impl Interval {
    /// The first due time is one `period` from now.
    pub(crate) fn new(clock: AdjustableClock, period: Duration) -> Self {
        let due = clock.now() + period;
        Self { clock, period, due }
    }

    /// Completes at the next due time, or at once if it has passed already.
    pub(crate) async fn tick(&mut self) {
        let wait = Duration::try_from(self.due - self.clock.now()).unwrap_or(Duration::ZERO);
        self.clock.sleep(wait).await;
        let now = self.clock.now();
        let late = Duration::try_from(now - self.due).unwrap_or(Duration::ZERO);
        let past_due = u64::try_from(late.as_nanos() % self.period.as_nanos()).expect("less than a period");
        self.due = now + (self.period - Duration::from_nanos(past_due));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use time::macros::datetime;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    fn interval() -> (AdjustableClock, Interval) {
        let clock = AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC));
        (clock.clone(), Interval::new(clock, PERIOD))
    }

    async fn is_due(interval: &mut Interval) -> bool {
        poll!(std::pin::pin!(interval.tick())).is_ready()
    }

    #[tokio::test]
    async fn first_due_time_counts_from_the_creation() {
        let (clock, mut interval) = interval();
        clock.advance(PERIOD - Duration::from_secs(1));
        assert!(!is_due(&mut interval).await);
        clock.advance(Duration::from_secs(1));
        assert!(is_due(&mut interval).await);
        assert!(!is_due(&mut interval).await);
    }

    #[tokio::test]
    async fn late_tick_does_not_move_the_next_due_time() {
        let (clock, mut interval) = interval();
        clock.advance(PERIOD + Duration::from_secs(59));
        assert!(is_due(&mut interval).await);
        clock.advance(Duration::from_secs(1));
        assert!(is_due(&mut interval).await);
    }

    #[tokio::test]
    async fn missed_due_times_count_as_one() {
        let (clock, mut interval) = interval();
        clock.advance(10 * PERIOD + Duration::from_secs(1));
        assert!(is_due(&mut interval).await);
        assert!(!is_due(&mut interval).await);
        clock.advance(PERIOD - Duration::from_secs(1));
        assert!(is_due(&mut interval).await);
    }
}
