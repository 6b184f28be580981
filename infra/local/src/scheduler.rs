//! The schedule on one machine: what EventBridge Scheduler does in the cloud.

use std::time::Duration;

use reconcile_challenges::{RUN_LIMIT, ReconcileChallenges, reconcile};
use shared::clock::{AdjustableClock, Clock, Deadline, timeout};
use shared::telemetry::Chain;

/// How often `reconcile-challenges` runs, as in the cloud.
const RECONCILE_EVERY: Duration = Duration::from_secs(300);

/// How long the function may take elsewhere, as in the cloud: longer than a run, which ends itself.
const FUNCTION_LIMIT: Duration = Duration::from_secs(60);

/// Runs `reconcile-challenges` again and again.
pub(crate) enum Scheduler {
    /// In this process.
    InProcess(Box<ReconcileChallenges>),
    /// Through Lambda's `Invoke` at an endpoint, such as that of `cargo lambda watch`, without a slash at the end.
    LambdaInvokeEndpoint(String),
}

impl Scheduler {
    /// Runs by `clock` for as long as it is polled.
    pub(crate) async fn run(self, clock: AdjustableClock) {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be built");
        loop {
            clock.sleep(RECONCILE_EVERY).await;
            match &self {
                Self::InProcess(function) => {
                    let deadline = Deadline::after(&clock, RUN_LIMIT);
                    if let Err(error) = reconcile(function, deadline).await {
                        tracing::error!(error = %Chain(&error), "reconcile-challenges failed");
                    }
                }
                Self::LambdaInvokeEndpoint(url) => {
                    let url = format!("{url}/2015-03-31/functions/reconcile-challenges/invocations");
                    let run = http.post(url).body("{}").send();
                    match timeout(&clock, FUNCTION_LIMIT, run).await {
                        Ok(Ok(answer)) => note(&answer),
                        Ok(Err(error)) => tracing::error!(%error, "reconcile-challenges cannot be reached"),
                        Err(_elapsed) => tracing::error!("reconcile-challenges took too long"),
                    }
                }
            }
        }
    }
}

/// A function that fails is answered for with a header, or by cargo-lambda with a status.
fn note(answer: &reqwest::Response) {
    let status = answer.status();
    if status.is_success() && !answer.headers().contains_key("x-amz-function-error") {
        tracing::info!("reconcile-challenges ran");
    } else {
        tracing::error!(status = status.as_u16(), "reconcile-challenges failed");
    }
}
