//! The time during which Circle asks not to be called.

use std::time::Duration;

use shared::clock::{Clock, Moment};

/// A wait that Circle asked for (`Retry-After`), and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    since: Moment,
    wait: Duration,
}

impl Quiet {
    /// A wait that begins now, or what remains of an earlier one if that is longer.
    pub(crate) fn longer(earlier: Option<Self>, wait: Duration, clock: &dyn Clock) -> Self {
        earlier
            .filter(|earlier| earlier.remaining(clock) > wait)
            .unwrap_or_else(|| Self { since: Moment::now(clock), wait })
    }

    /// How much of the wait is left.
    pub(crate) fn remaining(self, clock: &dyn Clock) -> Duration {
        self.wait.saturating_sub(self.since.age(clock))
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::AdjustableClock;
    use time::macros::datetime;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn clock() -> AdjustableClock {
        AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC))
    }

    #[test]
    fn wait_ends_on_time_even_if_the_wall_clock_is_set_back() {
        let clock = clock();
        let quiet = Quiet::longer(None, 10 * MINUTE, &clock);
        clock.jump_wall_clock(time::Duration::minutes(-30));
        clock.advance(9 * MINUTE);
        assert_eq!(quiet.remaining(&clock), MINUTE);
        clock.advance(MINUTE);
        assert!(quiet.remaining(&clock).is_zero());
    }

    #[test]
    fn wait_goes_on_while_the_sandbox_is_frozen() {
        let clock = clock();
        let quiet = Quiet::longer(None, 10 * MINUTE, &clock);
        // Only the wall clock moves on.
        clock.jump_wall_clock(time::Duration::minutes(10));
        assert!(quiet.remaining(&clock).is_zero());
    }

    #[test]
    fn longer_wait_counts() {
        let clock = clock();
        let quiet = Quiet::longer(None, 10 * MINUTE, &clock);
        clock.advance(5 * MINUTE);
        assert_eq!(Quiet::longer(Some(quiet), MINUTE, &clock).remaining(&clock), 5 * MINUTE);
        assert_eq!(Quiet::longer(Some(quiet), 6 * MINUTE, &clock).remaining(&clock), 6 * MINUTE);
    }
}
