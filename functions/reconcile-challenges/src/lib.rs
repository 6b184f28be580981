//! On a schedule: asks Circle about the challenges that no webhook has settled.
//!
//! A run takes what is due off the sparse index, claims each look on the record itself, and settles what Circle says
//! through the same conditional write as a webhook. So two runs at once do no harm and no double work, and a run that
//! ends early, whyever, leaves the rest to the next one.

mod run;
mod summary;
mod turn;
mod unknown;

use std::sync::{Arc, Mutex};

use lambda_runtime::LambdaEvent;
use serde::de::IgnoredAny;
use shared::challenge_store::ChallengeStore;
use shared::circle::Circle;
use shared::clock::{Clock, Deadline};
use shared::config::{self, CircleSettings, SettingError};
use shared::platform::Platform;
use shared::random::Random;
use shared::rate_limit::RateLimits;
use shared::request;
use std::time::Duration;
use time::OffsetDateTime;

pub use self::run::RunError;
pub use self::summary::{StopReason, Summary};

/// The longest that a run may take, inside the function's own time limit.
pub const RUN_LIMIT: std::time::Duration = std::time::Duration::from_secs(55);

/// What the function keeps between runs.
#[derive(Debug)]
pub struct ReconcileChallenges {
    circle: Circle,
    challenges: ChallengeStore,
    requests: RateLimits,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    calls_per_run: u32,
    abandon_after: Duration,
    /// Until when Circle asked not to be called.
    quiet_until: Mutex<Option<OffsetDateTime>>,
}

impl ReconcileChallenges {
    /// The function, set up as the environment says.
    ///
    /// # Errors
    /// When a setting is missing or bad.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(environment)?),
            challenges: ChallengeStore::new(platform, config::challenges_table(environment)?),
            requests: RateLimits::new(platform, config::rate_limits_table(environment)?),
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
            calls_per_run: config::circle_calls_per_run(environment)?,
            abandon_after: config::abandon_after(environment)?,
            quiet_until: Mutex::default(),
        })
    }

    /// Reads the API key ahead of the first run.
    pub async fn warm_up(&self) {
        self.circle.warm_up().await;
    }
}

/// Answers an invocation, whatever its event says, with what the run did.
///
/// # Errors
/// When the table could not be reached, so that nothing is known of the rest.
pub async fn handle(
    function: &ReconcileChallenges,
    event: LambdaEvent<IgnoredAny>,
) -> Result<Summary, lambda_runtime::Error> {
    let deadline = request::invocation_deadline(Some(&event.context), RUN_LIMIT, &*function.clock);
    Ok(reconcile(function, deadline).await?)
}

/// One run.
///
/// # Errors
/// When the table could not be reached, so that nothing is known of the rest.
pub async fn reconcile(function: &ReconcileChallenges, deadline: Deadline) -> Result<Summary, RunError> {
    run::Run::new(function, deadline).finish().await
}
