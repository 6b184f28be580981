//! Reconciliation: on a schedule, asks Circle about open challenges, because their webhooks may have been lost.
//!
//! A run reads the due challenges from the sparse index, claims each check on the record, and stores Circle's response
//! with the same conditional write as a webhook. Two runs at once therefore check nothing twice, and whatever a run
//! leaves undone stays due for the next one.
//!
//! The decisions are made without I/O: about one challenge in `policy`, about the run in `ledger`. The module `run`
//! reads, calls and writes accordingly. The pace of the calls to Circle is kept where requests are sent, so that it covers
//! retries too ([`Circle::paced`](shared::circle::Circle::paced)).

mod error;
mod ledger;
mod policy;
#[cfg(test)]
mod properties;
mod quiet;
mod resume;
mod run;
mod summary;

use std::time::Duration;

use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::Value;
use shared::lambda::challenge_ids;
use shared::{request, telemetry};

pub use self::error::ErrorKind;
pub use self::policy::Policy;
pub use self::resume::Resumed;
pub use self::run::{ReconcileChallenges, RunError, count_due, reconcile};
pub use self::summary::{StopReason, Summary};

/// The longest that a run may take. Lambda's own time limit is longer.
pub const RUN_LIMIT: Duration = Duration::from_secs(55);

/// The response to an invocation.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To the schedule: what the run did.
    Run(Summary),
    /// To an operator's command: what became of each challenge.
    Resumed {
        /// In the order of the command.
        challenges: Vec<Resumed>,
    },
}

/// Handles an invocation: makes one run and returns what it did. With `"dryRun": true` in the event, it only counts what is
/// due, so that the test of a new version disturbs nothing. With `"challengeIds": ["..."]`, it makes no run, but puts these
/// abandoned challenges back, so that the next run checks them. The rest of the event is ignored.
///
/// # Errors
/// If the run stopped because the table could not be reached, or the command has no valid list of ids.
pub async fn handle(
    function: &ReconcileChallenges,
    event: LambdaEvent<Value>,
) -> Result<Response, lambda_runtime::Error> {
    let invocation_id = &event.context.request_id;
    let work = async {
        if event.payload["dryRun"] == true {
            return Ok(Response::Run(count_due(function).await?));
        }
        let deadline = request::invocation_deadline(Some(&event.context), RUN_LIMIT, &*function.clock);
        if let Some(ids) = challenge_ids(&event.payload) {
            return Ok(Response::Resumed { challenges: resume::resume(function, ids?, deadline).await });
        }
        Ok(Response::Run(reconcile(function, invocation_id, deadline).await?))
    };
    telemetry::run(telemetry::invocation(&event.context), work).await
}
