//! The operator's switch that stops new challenges for all users: an item of the table, so that it takes effect without a
//! deployment.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::RateLimits;
use crate::clock::{Clock, Moment};
use crate::dynamodb::{StoreError, text, unavailable};

/// The key of the item. New challenges are stopped while the item exists.
const KEY: &str = "challenges-stopped";

/// How long an instance does not read the switch again.
const LIFETIME: Duration = Duration::from_secs(30);

/// What an instance knows of the switch.
#[derive(Debug, Default)]
pub struct Switch(Mutex<Option<(Moment, bool)>>);

impl Switch {
    /// Whether new challenges are stopped. The result may be up to 30 seconds old. One call at most.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn is_stopped(&self, limits: &RateLimits, clock: &dyn Clock) -> Result<bool, StoreError> {
        let known = *self.known();
        if let Some((_, stopped)) = known.filter(|(read_at, _)| read_at.age(clock) < LIFETIME) {
            return Ok(stopped);
        }
        let read_at = Moment::now(clock);
        let get = limits.client.get_item().table_name(&limits.table).key("limitKey", text(KEY));
        let found = get.consistent_read(true).send().await.map_err(|error| unavailable("GetItem", error))?;
        let stopped = found.item.is_some();
        *self.known() = Some((read_at, stopped));
        Ok(stopped)
    }

    fn known(&self) -> MutexGuard<'_, Option<(Moment, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
