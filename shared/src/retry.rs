//! When to try a failed operation again: one policy for everything that this project retries itself.
//!
//! The AWS SDK's retries are its own ([`platform`](crate::platform)).

use std::time::Duration;

use crate::clock::{Clock, Deadline};
use crate::random::Random;

/// The retries of one operation: exponential backoff with jitter, within a number of attempts and a deadline.
#[derive(Debug)]
pub struct Retries<'a> {
    clock: &'a dyn Clock,
    random: &'a Random,
    deadline: Deadline,
    backoff: Duration,
    max_backoff: Duration,
    attempts_left: u32,
}

impl<'a> Retries<'a> {
    /// An operation that is tried at most `max_attempts` times. The wait before the second attempt is between a half
    /// and the whole of `backoff`, and doubles with each further attempt.
    pub fn new(
        clock: &'a dyn Clock,
        random: &'a Random,
        deadline: Deadline,
        backoff: Duration,
        max_attempts: u32,
    ) -> Self {
        let attempts_left = max_attempts.saturating_sub(1);
        Self { clock, random, deadline, backoff, max_backoff: Duration::MAX, attempts_left }
    }

    /// An operation that is tried until the deadline. The backoff grows to `max_backoff` at most.
    pub fn until_deadline(
        clock: &'a dyn Clock,
        random: &'a Random,
        deadline: Deadline,
        backoff: Duration,
        max_backoff: Duration,
    ) -> Self {
        Self { max_backoff, ..Self::new(clock, random, deadline, backoff, u32::MAX) }
    }

    /// The wait before the next attempt, at least as long as the server asked for. `None` if no attempt is left, or the
    /// wait would not end before the deadline.
    pub fn next_wait(&mut self, asked_for: Option<Duration>) -> Option<Duration> {
        self.attempts_left = self.attempts_left.checked_sub(1)?;
        let wait = self.backoff / 2 + self.random.jitter(self.backoff / 2);
        self.backoff = self.backoff.saturating_mul(2).min(self.max_backoff);
        let wait = wait.max(asked_for.unwrap_or_default());
        (wait < self.deadline.remaining(self.clock)).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::AdjustableClock;
    use time::macros::datetime;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(max_attempts: u32, deadline: Duration, asked_for: Option<Duration>) -> Vec<Duration> {
        let clock = AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC));
        let random = Random::from_seed(1);
        let deadline = Deadline::after(&clock, deadline);
        let mut retries = Retries::new(&clock, &random, deadline, SECOND, max_attempts);
        std::iter::from_fn(|| retries.next_wait(asked_for)).collect()
    }

    #[test]
    fn waits_double_and_end_with_the_attempts() {
        let waits = waits(4, SECOND * 60, None);
        assert_eq!(waits.len(), 3);
        for (wait, limit) in waits.into_iter().zip([SECOND, SECOND * 2, SECOND * 4]) {
            assert!(wait >= limit / 2 && wait <= limit, "{wait:?}");
        }
    }

    #[test]
    fn operation_that_is_tried_once_is_not_retried() {
        assert!(waits(1, SECOND * 60, None).is_empty());
    }

    #[test]
    fn servers_wait_counts_if_it_is_longer() {
        assert_eq!(waits(2, SECOND * 60, Some(SECOND * 30)), [SECOND * 30]);
        assert!(waits(2, SECOND * 60, Some(Duration::ZERO))[0] >= SECOND / 2);
    }

    #[test]
    fn operation_is_tried_until_shortly_before_the_deadline() {
        let clock = AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC));
        let random = Random::from_seed(1);
        let deadline = Deadline::after(&clock, SECOND * 100);
        let mut retries = Retries::until_deadline(&clock, &random, deadline, SECOND, SECOND * 10);
        while let Some(wait) = retries.next_wait(None) {
            assert!(wait <= SECOND * 10, "{wait:?}");
            clock.advance(wait);
        }
        assert!(deadline.remaining(&clock) <= SECOND * 10);
    }

    #[test]
    fn no_wait_reaches_the_deadline() {
        assert!(waits(2, SECOND * 30, Some(SECOND * 30)).is_empty());
    }
}
