//! One run: from shard to shard and from page to page, and when it ends.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use shared::api_key::ApiKeyError;
use shared::challenge_store::{AbandonReason, Check, DueChallenge, OPEN_SHARDS};
use shared::circle::CircleError;
use shared::clock::Deadline;
use shared::dynamodb::StoreError;
use shared::telemetry::Chain;
use shared::user_id::UserId;
use time::OffsetDateTime;

use crate::turn::Turn;
use crate::{ReconcileChallenges, StopReason, Summary};

/// How many users, and how many writes at the end, are looked after at once.
pub(crate) const CONCURRENCY: usize = 8;

/// What a look may cost: a session and a question.
pub(crate) const CALLS_PER_CHECK: u32 = 2;

/// What is kept of the invocation's time to write down what the last looks showed: an operation of the table's takes
/// 4 seconds at most.
const WRITING_TIME: Duration = Duration::from_secs(5);

/// How many calls in a row may fail before it is taken for an outage and not for bad luck with some challenges.
const FAILURES_IN_A_ROW: u32 = 3;

/// The table could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the table could not be reached; what is due stays due")]
pub struct RunError(#[source] StoreError);

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Circle(#[from] CircleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Circle does not say how the challenge stands")]
    NoStatus,
}

impl CheckError {
    /// Whether no challenge has a part in it.
    pub(crate) fn is_systemic(&self) -> bool {
        match self {
            Self::Circle(error) => error.is_rate_limited() || error.is_api_key_unusable(),
            Self::Store(_) => true,
            Self::NoStatus => false,
        }
    }

    /// Whether Circle may be down; a single challenge can meet that too.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Circle(error) if error.is_transient() || error.is_unrecognized())
    }
}

/// One run under way.
pub(crate) struct Run<'a> {
    pub(crate) function: &'a ReconcileChallenges,
    pub(crate) deadline: Deadline,
    started: OffsetDateTime,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) summary: Summary,
    pub(crate) calls_left: u32,
    /// What the run has seen of each user, by id.
    pub(crate) turns: HashMap<String, Turn>,
    /// Looks at challenges that Circle does not know. What they mean shows at the end of the run.
    pub(crate) unknown: Vec<Check>,
    /// Calls to Circle that failed in a row, and calls to the table.
    pub(crate) circle_failures: u32,
    pub(crate) table_failures: u32,
    table_error: Option<StoreError>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(function: &'a ReconcileChallenges, deadline: Deadline) -> Self {
        let state = State {
            summary: Summary::default(),
            calls_left: function.calls_per_run,
            turns: HashMap::new(),
            unknown: Vec::new(),
            circle_failures: 0,
            table_failures: 0,
            table_error: None,
        };
        Self {
            function,
            started: function.clock.now(),
            deadline: deadline.earlier(WRITING_TIME),
            state: Mutex::new(state),
        }
    }

    /// Takes every look that is due, as far as time and calls go.
    pub(crate) async fn finish(self) -> Result<Summary, RunError> {
        let quiet_until = *lock(&self.function.quiet_until);
        if quiet_until.is_some_and(|until| until > self.started) {
            self.state().summary.stopped = Some(StopReason::RateLimited);
        } else if let Err(error) = self.function.circle.read_api_key().await {
            self.fail(error, None);
        }
        // Where calls run short, no shard is always the last.
        let first = self.function.random.uuid().as_bytes()[0] % OPEN_SHARDS;
        for shard in 0..OPEN_SHARDS {
            self.shard((first + shard) % OPEN_SHARDS).await;
        }
        self.resolve_not_found().await;
        let State { summary, table_error, .. } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let summary_text = serde_json::to_string(&summary).expect("numbers and words can be written as JSON");
        tracing::info!(summary = summary_text, "reconciled");
        table_error.map_or(Ok(summary), |error| Err(RunError(error)))
    }

    async fn shard(&self, shard: u8) {
        let mut from = None;
        while !self.has_stopped() {
            let page = match self.function.challenges.due(shard, self.started, from).await {
                Ok(page) => page,
                Err(error) => return self.fail(error, None),
            };
            self.state().summary.due += page.challenges.len() as u32;
            stream::iter(self.by_user(page.challenges))
                .for_each_concurrent(CONCURRENCY, |(user, due)| self.user(user, due))
                .await;
            from = page.next;
            if from.is_none() {
                return;
            }
        }
    }

    /// What is due, together for each user, who then has one session.
    fn by_user(
        &self,
        challenges: Vec<(String, Result<DueChallenge, StoreError>)>,
    ) -> Vec<(UserId, Vec<DueChallenge>)> {
        let mut users: Vec<(UserId, Vec<DueChallenge>)> = Vec::new();
        for (id, due) in challenges {
            match due {
                Ok(due) => match users.iter_mut().find(|(user, _)| *user == due.user_id) {
                    Some((_, theirs)) => theirs.push(due),
                    None => users.push((due.user_id.clone(), vec![due])),
                },
                Err(error) => self.fail(error, Some(&id)),
            }
        }
        users
    }

    pub(crate) fn record_abandoned(&self, check: &Check, why: AbandonReason) {
        self.state().summary.abandoned += 1;
        let challenge_id = check.challenge.id;
        tracing::warn!(
            metric = "challenge_abandoned", %challenge_id, why = why.as_str(),
            "the challenge is not looked at again; a webhook or a poll still settles it"
        );
    }

    /// Logs and counts a failure, and ends the run where more calls would be in vain.
    pub(crate) fn fail(&self, error: impl Into<CheckError>, challenge_id: Option<&str>) {
        let error = error.into();
        tracing::warn!(metric = "check_failed", challenge_id, error = %Chain(&error), "a look came to nothing");
        let mut state = self.state();
        state.summary.failed += 1;
        let is_outage = error.is_outage();
        let stop = match error {
            CheckError::Circle(CircleError::ApiKey(ApiKeyError::Unavailable { .. })) => {
                Some(StopReason::ApiKeyUnavailable)
            }
            CheckError::Circle(error) if error.is_api_key_unusable() => Some(StopReason::ApiKey),
            CheckError::Circle(error) => {
                let quiet_until = error.retry_after().map(|wait| self.function.clock.now() + wait);
                let kept = &mut *lock(&self.function.quiet_until);
                *kept = quiet_until.max(*kept);
                state.circle_failures += u32::from(is_outage);
                let is_down = quiet_until.is_some() || state.circle_failures >= FAILURES_IN_A_ROW;
                let limited = error.is_rate_limited().then_some(StopReason::RateLimited);
                limited.or(is_down.then_some(StopReason::CircleUnavailable))
            }
            CheckError::Store(error @ StoreError::Unavailable { .. }) => {
                state.table_failures += 1;
                let is_down = state.table_failures >= FAILURES_IN_A_ROW && state.summary.stopped.is_none();
                state.table_error = Some(error).filter(|_| is_down).or(state.table_error.take());
                is_down.then_some(StopReason::TableUnavailable)
            }
            CheckError::Store(_) | CheckError::NoStatus => None,
        };
        if let Some(stop) = stop.filter(|_| state.summary.stopped.is_none()) {
            state.summary.stopped = Some(stop);
            tracing::error!(metric = stop.metric(), "the run ends early");
        }
    }

    /// Whether the run is over, which it is when its time is up.
    pub(crate) fn has_stopped(&self) -> bool {
        let stopped = &mut self.state().summary.stopped;
        if stopped.is_none() && self.is_out_of_time() {
            *stopped = Some(StopReason::Time);
        }
        stopped.is_some()
    }

    pub(crate) fn is_out_of_time(&self) -> bool {
        self.deadline.remaining(&*self.function.clock).is_zero()
    }

    /// Takes the calls of one check, if there are as many left and the run is not over.
    pub(crate) fn takes_calls(&self) -> bool {
        if self.has_stopped() {
            return false;
        }
        let mut state = self.state();
        match state.calls_left.checked_sub(CALLS_PER_CHECK) {
            Some(left) => state.calls_left = left,
            None => state.summary.stopped = Some(StopReason::Calls),
        }
        state.summary.stopped.is_none()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
