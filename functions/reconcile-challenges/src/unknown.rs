//! What it means that Circle does not know a challenge, which shows at the end of a run only.

use futures_util::{StreamExt, stream};
use shared::challenge_store::{GivenUp, Look, StoreError};

use crate::Stop;
use crate::run::{CONCURRENCY, Run};

/// How many users of unknown challenges among few others are a reason to wake somebody.
const ALARMING: usize = 3;

impl Run<'_> {
    /// Where Circle knows the challenges of hardly any user, the API key is of another account, or Circle is at fault:
    /// then no such answer counts. Otherwise each is noted, and believed in the end.
    pub(crate) async fn judge_unknown(&self) {
        let (known, unknown, looks) = {
            let mut state = self.state();
            let known = state.turns.values().filter(|turn| turn.has_known).count();
            let unknown = state.turns.values().filter(|turn| turn.has_unknown && !turn.has_known).count();
            (known, unknown, std::mem::take(&mut state.unknown))
        };
        let is_most = unknown > known;
        if is_most && unknown >= ALARMING {
            tracing::error!(
                metric = "most_challenges_unknown",
                known,
                unknown,
                "Circle knows the challenges of hardly any user: is the API key of the right account?"
            );
            return;
        }
        stream::iter(looks)
            .for_each_concurrent(CONCURRENCY, |look| async move {
                if self.state().summary.stopped == Some(Stop::TableUnavailable) {
                    return;
                }
                if let Err(error) = self.judge(&look, is_most).await {
                    self.fail(error, Some(&look.challenge.id.to_string()));
                }
            })
            .await;
    }

    async fn judge(&self, look: &Look, counts_for_nothing: bool) -> Result<(), StoreError> {
        if !counts_for_nothing && self.function.challenges.note_unknown(look).await? {
            self.note_given_up(look, GivenUp::Unknown);
            return Ok(());
        }
        self.give_up_if_old(look).await
    }
}
