//! What it means that Circle does not know a challenge, which shows at the end of a run only.

use futures_util::{StreamExt, stream};
use shared::challenge_store::{AbandonReason, Check};
use shared::dynamodb::StoreError;

use crate::StopReason;
use crate::run::{CONCURRENCY, Run};

/// How many users of unknown challenges among few others are a reason to wake somebody.
const ALARMING: usize = 3;

impl Run<'_> {
    /// Where Circle knows the challenges of hardly any user, the API key is of another account, or Circle is at fault:
    /// then no such answer counts. Otherwise each is noted, and believed in the end.
    pub(crate) async fn resolve_not_found(&self) {
        let (known, unknown, checks) = {
            let mut state = self.state();
            let known = state.turns.values().filter(|turn| turn.has_known).count();
            let unknown = state.turns.values().filter(|turn| turn.has_not_found && !turn.has_known).count();
            (known, unknown, std::mem::take(&mut state.unknown))
        };
        let is_most = unknown > known;
        if is_most && unknown >= ALARMING {
            tracing::error!(
                metric = "most_challenges_not_found",
                known,
                unknown,
                "Circle knows the challenges of hardly any user: is the API key of the right account?"
            );
            return;
        }
        stream::iter(checks)
            .for_each_concurrent(CONCURRENCY, |check| async move {
                if self.state().summary.stopped == Some(StopReason::TableUnavailable) {
                    return;
                }
                if let Err(error) = self.resolve(&check, is_most).await {
                    self.fail(error, Some(&check.challenge.id.to_string()));
                }
            })
            .await;
    }

    async fn resolve(&self, check: &Check, counts_for_nothing: bool) -> Result<(), StoreError> {
        if !counts_for_nothing && self.function.challenges.record_not_found(check).await? {
            self.record_abandoned(check, AbandonReason::NotFound);
            return Ok(());
        }
        self.abandon_if_old(check).await
    }
}
