//! The schedule on one machine: the part that EventBridge Scheduler has in the cloud.

use std::time::Duration;

use reconcile_challenges::{RUN_LIMIT, ReconcileChallenges, reconcile};
use shared::clock::{AdjustableClock, Deadline};
use shared::telemetry::Chain;

use crate::interval::Interval;
use crate::lambda_endpoint::LambdaEndpoint;

/// How often `reconcile-challenges` runs, as in the cloud.
const RECONCILE_PERIOD: Duration = Duration::from_secs(300);

/// The function's time limit in another process, as in the cloud. It is longer than a run, which ends by
/// itself.
const FUNCTION_LIMIT: Duration = Duration::from_secs(60);

/// Runs `reconcile-challenges` on its schedule.
pub(crate) enum Scheduler {
    /// The function runs in this process.
    InProcess(Box<ReconcileChallenges>),
    /// The function runs in another process.
    LambdaEndpoint(LambdaEndpoint),
}

impl Scheduler {
    /// Runs the function every five minutes of `clock`, counted from this call, for as long as the future is
    /// polled.
    pub(crate) fn run(self, clock: AdjustableClock) -> impl Future<Output = ()> {
        let mut interval = Interval::new(clock.clone(), RECONCILE_PERIOD);
        async move {
            loop {
                interval.tick().await;
                self.run_once(&clock).await;
            }
        }
    }

    async fn run_once(&self, clock: &AdjustableClock) {
        match self {
            Self::InProcess(function) => {
                let deadline = Deadline::after(clock, RUN_LIMIT);
                if let Err(error) = reconcile(function, "local", deadline).await {
                    tracing::error!(error = %Chain(&error), "reconcile-challenges failed");
                }
            }
            Self::LambdaEndpoint(endpoint) => {
                match endpoint.invoke("reconcile-challenges", "{}".to_owned(), FUNCTION_LIMIT, clock).await {
                    Ok(_) => tracing::info!("reconcile-challenges completed"),
                    Err(error) => tracing::error!(error = %Chain(&error), "reconcile-challenges failed"),
                }
            }
        }
    }
}
