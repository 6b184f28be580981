//! Reconciliation that runs only when a test calls it.

use std::time::Duration;

use local::stack::StackOptions;
use reconcile_challenges::{ReconcileChallenges, RunError, Summary, reconcile};
use shared::clock::{AdjustableClock, Deadline};

use super::waiting::{STEP, let_time_pass_by};
use super::{App, MINUTE, noon, owned};

/// After this time the first check of a new challenge is due, and its user is no longer deferred.
pub(crate) const FIRST_CHECK: Duration = Duration::from_secs(12 * 60);

/// The function that reconciles challenges. What it remembers lasts from one run to the next.
pub(crate) struct Reconciler {
    function: ReconcileChallenges,
    clock: AdjustableClock,
}

impl Reconciler {
    pub(crate) fn of(app: &App) -> Self {
        let function = ReconcileChallenges::new(&app.stack.platform).unwrap();
        Self { function, clock: app.clock.clone() }
    }

    /// An app at noon whose webhooks are all lost, and the only reconciler of its challenges.
    pub(crate) async fn start<const N: usize>(settings: [(&str, &str); N]) -> (App, Self) {
        let options = StackOptions { settings: owned(settings), scheduled: false, ..noon() };
        let app = App::with_options(options).await.without_webhooks();
        let reconciler = Self::of(&app);
        (app, reconciler)
    }

    /// One run of at most a minute, as the schedule starts it.
    pub(crate) async fn run(&self) -> Summary {
        self.run_within(MINUTE).await.unwrap()
    }

    /// One run, with time that passes while it waits.
    pub(crate) async fn run_within(&self, limit: Duration) -> Result<Summary, RunError> {
        let_time_pass_by(STEP, &self.clock, self.reconcile(limit)).await
    }

    /// One run for which the test has to move the clock.
    pub(crate) async fn reconcile(&self, limit: Duration) -> Result<Summary, RunError> {
        reconcile(&self.function, Deadline::after(&self.clock, limit)).await
    }
}
