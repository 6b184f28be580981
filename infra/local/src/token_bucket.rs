//! A rate limit in the form that API Gateway and Circle document: requests per second, with a burst.

use std::time::Duration;

/// A bucket of tokens. Each request takes one; tokens come back at a steady rate until the bucket is full.
///
/// It is kept as the time at which the bucket will be full again, so it needs no timer and no fractions.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    /// The time in which one token comes back.
    interval: Duration,
    burst: u32,
    /// The bucket is full from this point of monotonic time on.
    full_at: Duration,
}

impl TokenBucket {
    /// A full bucket with `burst` tokens, which come back at `rate` per second.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / rate, burst, full_at: Duration::ZERO }
    }

    /// Takes a token at the point `now` of monotonic time. If there is none, the error is the time until the next
    /// one.
    pub(crate) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.interval;
        let wait = full_at.saturating_sub(now + self.interval * self.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn burst_is_followed_by_the_rate() {
        let mut bucket = TokenBucket::new(10, 20);
        for _ in 0..20 {
            assert_eq!(bucket.take(NOW), Ok(()));
        }
        assert_eq!(bucket.take(NOW), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(NOW + Duration::from_millis(99)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(NOW + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(NOW + Duration::from_millis(100)).is_err());
    }

    #[test]
    fn bucket_never_holds_more_than_its_burst() {
        let mut bucket = TokenBucket::new(10, 2);
        let later = NOW + Duration::from_secs(3600);
        assert_eq!((bucket.take(NOW), bucket.take(later), bucket.take(later)), (Ok(()), Ok(()), Ok(())));
        assert!(bucket.take(later).is_err());
    }
}
