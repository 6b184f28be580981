//! The operator's command: puts abandoned challenges back, so that the next run checks them.

use serde::Serialize;
use shared::clock::Deadline;
use shared::telemetry::Chain;
use uuid::Uuid;

use crate::ReconcileChallenges;

/// What became of a challenge.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    challenge_id: Uuid,
    /// `resumed`, `not_abandoned`, `settled` or `not_found`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// Why there is no outcome. The command can be repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Puts challenges back, one after the other.
pub(crate) async fn resume(
    function: &ReconcileChallenges,
    ids: Vec<Uuid>,
    deadline: Deadline,
) -> Vec<Resumed> {
    let mut challenges = Vec::with_capacity(ids.len());
    for id in ids {
        challenges.push(resume_one(function, id, deadline).await);
    }
    challenges
}

async fn resume_one(function: &ReconcileChallenges, challenge_id: Uuid, deadline: Deadline) -> Resumed {
    let failed = |error| Resumed { challenge_id, outcome: None, error: Some(error) };
    if deadline.remaining(&*function.clock).is_zero() {
        return failed("there was no time left; send this id again".to_owned());
    }
    match function.challenges.resume(challenge_id).await {
        Ok(outcome) => {
            let outcome = outcome.as_str();
            tracing::info!(%challenge_id, outcome, "an operator asked for a challenge to be checked again");
            Resumed { challenge_id, outcome: Some(outcome), error: None }
        }
        Err(error) => failed(Chain(&error).to_string()),
    }
}
