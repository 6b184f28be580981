//! The schedule on one machine: the part that EventBridge Scheduler has in the cloud.

use std::time::Duration;

use reconcile_challenges::{RUN_LIMIT, ReconcileChallenges, reconcile};
use shared::clock::{AdjustableClock, Deadline, timeout};
use shared::telemetry::Chain;

use crate::interval::Interval;

/// How often `reconcile-challenges` runs, as in the cloud.
const RECONCILE_PERIOD: Duration = Duration::from_secs(300);

/// The function's time limit in another process, as in the cloud. It is longer than a run, which ends by
/// itself.
const FUNCTION_LIMIT: Duration = Duration::from_secs(60);

/// Runs `reconcile-challenges` on its schedule.
pub(crate) enum Scheduler {
    /// The function runs in this process.
    InProcess(Box<ReconcileChallenges>),
    /// The function runs behind an endpoint with Lambda's `Invoke`, such as that of `cargo lambda watch`. The
    /// URL has no trailing slash.
    LambdaInvokeEndpoint(String),
}

impl Scheduler {
    /// Runs the function every five minutes of `clock`, counted from this call, for as long as the future is
    /// polled.
    pub(crate) fn run(self, clock: AdjustableClock) -> impl Future<Output = ()> {
        let mut interval = Interval::new(clock.clone(), RECONCILE_PERIOD);
        async move {
            let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be built");
            loop {
                interval.tick().await;
                self.run_once(&clock, &http).await;
            }
        }
    }

    async fn run_once(&self, clock: &AdjustableClock, http: &reqwest::Client) {
        match self {
            Self::InProcess(function) => {
                let deadline = Deadline::after(clock, RUN_LIMIT);
                if let Err(error) = reconcile(function, deadline).await {
                    tracing::error!(error = %Chain(&error), "reconcile-challenges failed");
                }
            }
            Self::LambdaInvokeEndpoint(url) => {
                let url = format!("{url}/2015-03-31/functions/reconcile-challenges/invocations");
                let run = http.post(url).body("{}").send();
                match timeout(clock, FUNCTION_LIMIT, run).await {
                    Ok(Ok(response)) => log_result(&response),
                    Ok(Err(error)) => tracing::error!(%error, "reconcile-challenges cannot be reached"),
                    Err(_elapsed) => tracing::error!("reconcile-challenges timed out"),
                }
            }
        }
    }
}

/// Lambda reports a failed function with a header, cargo-lambda with a status.
fn log_result(response: &reqwest::Response) {
    let status = response.status();
    if status.is_success() && !response.headers().contains_key("x-amz-function-error") {
        tracing::info!("reconcile-challenges completed");
    } else {
        tracing::error!(status = status.as_u16(), "reconcile-challenges failed");
    }
}
