//! Reconciliation that runs only when a test calls it.

use std::time::Duration;

use lambda_http::LambdaEvent;
use local::invocation;
use local::stack::StackOptions;
use reconcile_challenges::{ReconcileChallenges, RunError, Summary, handle, reconcile};
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock, Deadline};

use super::waiting::{STEP, let_time_pass_by, run_ready_tasks};
use super::{App, MINUTE, in_time, noon, owned};

/// After this time the first check of a new challenge is due, and its user's session has expired, so that the check is not
/// deferred.
pub(crate) const FIRST_CHECK: Duration = Duration::from_secs(61 * 60);

/// A step of the clock in which reconciliation makes one call to Circle, at its default pace.
pub(crate) const TURN: Duration = Duration::from_millis(250);

/// The function that reconciles challenges. What it remembers lasts from one run to the next.
pub(crate) struct Reconciler {
    function: ReconcileChallenges,
    clock: AdjustableClock,
}

impl App {
    /// Lets this much time pass, slowly enough for a run to make its calls.
    pub(crate) async fn let_run_work(&self, time: Duration) {
        let_time_pass_by(TURN, &self.clock, self.clock.sleep(time)).await;
    }
}

impl Reconciler {
    pub(crate) fn of(app: &App) -> Self {
        let function = ReconcileChallenges::new(&app.stack.platform).unwrap();
        Self { function, clock: app.clock.clone() }
    }

    /// An app at noon whose webhooks are all lost, and the only reconciler of its challenges.
    pub(crate) async fn start<const N: usize>(settings: [(&str, &str); N]) -> (App, Self) {
        let options = StackOptions { settings: owned(settings), scheduled: false, ..noon() };
        let app = App::with_options(options).await.without_webhooks().await;
        let reconciler = Self::of(&app);
        (app, reconciler)
    }

    /// One run of at most a minute, as the schedule starts it.
    pub(crate) async fn run(&self) -> Summary {
        self.run_within(MINUTE).await.unwrap()
    }

    /// An invocation with this event, for which Lambda has so much time. Time passes while it waits. Returns its response
    /// or its error.
    pub(crate) async fn invoke(&self, event: Value, limit: Duration) -> Result<Value, String> {
        let event = LambdaEvent::new(event, invocation::context(self.clock.now() + limit));
        let response = let_time_pass_by(STEP, &self.clock, handle(&self.function, event)).await;
        response.map(|response| json!(response)).map_err(|error| error.to_string())
    }

    /// One run, with time that passes while it waits.
    pub(crate) async fn run_within(&self, limit: Duration) -> Result<Summary, RunError> {
        let_time_pass_by(STEP, &self.clock, self.reconcile(limit)).await
    }

    /// One run of at most `limit`, during which time passes in such steps. Before each step, the test does something else.
    pub(crate) async fn run_beside(
        &self,
        limit: Duration,
        step: Duration,
        mut beside: impl AsyncFnMut(),
    ) -> Summary {
        let mut run = Box::pin(self.reconcile(limit));
        in_time(async {
            loop {
                let beside = async {
                    run_ready_tasks().await;
                    beside().await;
                };
                tokio::select! {
                    biased;
                    summary = &mut run => return summary.unwrap(),
                    () = beside => self.clock.advance(step),
                }
            }
        })
        .await
    }

    /// One run for which the test has to move the clock.
    pub(crate) async fn reconcile(&self, limit: Duration) -> Result<Summary, RunError> {
        reconcile(&self.function, "run", Deadline::after(&self.clock, limit)).await
    }
}
