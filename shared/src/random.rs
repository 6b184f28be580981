//! Randomness and ids: the only source of both.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};
use uuid::Uuid;

/// A random number generator, seeded by the operating system or, for a run that can be reproduced, by hand.
///
/// It generates request ids, idempotency keys and jitter, and no secrets.
#[derive(Debug)]
pub struct Random(Mutex<StdRng>);

impl Random {
    /// Seeded by the operating system.
    ///
    /// # Panics
    /// If the operating system provides no randomness.
    pub fn from_system() -> Self {
        Self(Mutex::new(StdRng::try_from_rng(&mut SysRng).expect("the operating system provides randomness")))
    }

    /// The same seed gives the same sequence.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A new version 4 UUID.
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.generator().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A duration between zero and `limit`, evenly distributed.
    pub fn jitter(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.generator().random_range(0.0..=1.0))
    }

    fn generator(&self) -> std::sync::MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4_and_repeat_only_with_the_seed() {
        let first = Random::from_seed(1);
        let id = first.uuid();
        assert_eq!(id.get_version_num(), 4);
        assert_ne!(id, first.uuid());
        assert_eq!(id, Random::from_seed(1).uuid());
        assert_ne!(Random::from_system().uuid(), Random::from_system().uuid());
    }

    #[test]
    fn jitter_is_spread_within_its_limit() {
        let random = Random::from_seed(2);
        let waits: Vec<_> = (0..100).map(|_| random.jitter(Duration::from_millis(100)).as_millis()).collect();
        assert!(waits.iter().all(|wait| *wait <= 100), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 20) && waits.iter().any(|wait| *wait > 80), "{waits:?}");
    }
}
