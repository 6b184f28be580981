//! One run: from shard to shard, user to user, look to look.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use shared::challenge::SettledBy;
use shared::challenge_store::{DueChallenge, FIRST_LOOK, GivenUp, Look, PENDING_SHARDS, StoreError};
use shared::circle::CircleError;
use shared::clock::Deadline;
use shared::identity::UserId;
use shared::secrets::UserToken;
use shared::telemetry::Chain;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{ReconcileChallenges, Stop, Summary};

/// How many users are looked after at once.
const CONCURRENCY: usize = 8;

/// What a look may cost: a session and a question.
const CALLS_PER_LOOK: u32 = 2;

/// The longest that Circle is waited for.
const CALL_LIMIT: Duration = Duration::from_secs(8);

/// What is kept of the invocation's time to write down what the last looks showed.
const WRITING_TIME: Duration = Duration::from_secs(3);

/// How many calls in a row may fail before it is taken for an outage and not for bad luck with some challenges.
const FAILURES_IN_A_ROW: u32 = 3;

/// How many unknown challenges among few answers are a reason to wake somebody.
const ALARMING: usize = 3;

/// How much longer a user is left alone than the first look waits: the request is counted a little before the
/// challenge is made.
const CREATION_TIME: Duration = Duration::from_secs(60);

/// The longest that a wait of Circle's choosing is kept to.
const LONGEST_QUIET: Duration = Duration::from_secs(3600);

/// The table could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the table could not be reached; what is due stays due")]
pub struct RunError(#[source] StoreError);

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Circle(#[from] CircleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Circle does not say how the challenge stands")]
    NoStatus,
}

impl LookError {
    /// Whether the challenge has no part in it, so that the look is due again soon.
    fn may_pass(&self) -> bool {
        match self {
            Self::Circle(error) => {
                error.is_transient()
                    || error.is_rate_limited()
                    || error.is_api_key_unusable()
                    || error.is_user_token_refused()
            }
            Self::Store(_) | Self::NoStatus => false,
        }
    }
}

/// One run under way.
pub(crate) struct Run<'a> {
    function: &'a ReconcileChallenges,
    started: OffsetDateTime,
    deadline: Deadline,
    state: Mutex<State>,
}

struct State {
    summary: Summary,
    calls_left: u32,
    /// One session for each user and run.
    tokens: HashMap<String, UserToken>,
    /// Answers by which Circle knows the challenge.
    known: usize,
    /// Looks at challenges that Circle does not know. What they mean shows at the end of the run.
    unknown: Vec<Look>,
    failures_in_a_row: u32,
    table_error: Option<StoreError>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(function: &'a ReconcileChallenges, deadline: Deadline) -> Self {
        let state = State {
            summary: Summary::default(),
            calls_left: function.calls_per_run,
            tokens: HashMap::new(),
            known: 0,
            unknown: Vec::new(),
            failures_in_a_row: 0,
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
            self.state().summary.stopped = Some(Stop::RateLimited);
        }
        // Where calls run short, no shard is always the last.
        let first = self.function.random.uuid().as_bytes()[0] % PENDING_SHARDS;
        for shard in 0..PENDING_SHARDS {
            self.shard((first + shard) % PENDING_SHARDS).await;
        }
        self.judge_unknown().await;
        let State { summary, table_error, .. } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        tracing::info!(?summary, "reconciled");
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
    fn by_user(&self, challenges: Vec<Result<DueChallenge, StoreError>>) -> Vec<(UserId, Vec<DueChallenge>)> {
        let mut users: Vec<(UserId, Vec<DueChallenge>)> = Vec::new();
        for due in challenges {
            match due {
                Ok(due) => match users.iter_mut().find(|(user, _)| *user == due.user_id) {
                    Some((_, theirs)) => theirs.push(due),
                    None => users.push((due.user_id.clone(), vec![due])),
                },
                Err(error) => self.fail(error, None),
            }
        }
        users
    }

    async fn user(&self, user: UserId, due: Vec<DueChallenge>) {
        if self.has_stopped() {
            return;
        }
        let since = self.function.clock.now() - FIRST_LOOK - CREATION_TIME;
        match self.function.requests.requested_since(&user, since).await {
            Ok(false) => {}
            Ok(true) => {
                self.state().summary.held_back += due.len() as u32;
                return;
            }
            Err(error) => return self.fail(error, None),
        }
        for due in due {
            if !self.takes_calls() {
                return;
            }
            match self.function.challenges.claim_look(&due).await {
                Ok(Some(look)) => self.look(&user, look).await,
                Ok(None) => self.state().calls_left += CALLS_PER_LOOK,
                Err(error) => self.fail(error, Some(due.id)),
            }
        }
    }

    async fn look(&self, user: &UserId, look: Look) {
        self.state().summary.looks += 1;
        let written = match self.ask(user, &look).await {
            Ok(()) => {
                self.state().failures_in_a_row = 0;
                Ok(())
            }
            Err(LookError::Circle(error)) if error.is_not_found() => {
                let mut state = self.state();
                state.failures_in_a_row = 0;
                state.summary.unknown += 1;
                state.unknown.push(look);
                return;
            }
            Err(error) => {
                let written = if error.may_pass() {
                    self.function.challenges.put_back(&look).await
                } else {
                    self.give_up_if_old(&look).await
                };
                // A call that was cut short by the run's own end says nothing about Circle.
                if !(error.may_pass() && self.is_out_of_time()) {
                    self.fail(error, Some(look.challenge.id));
                }
                written
            }
        };
        if let Err(error) = written {
            self.fail(error, Some(look.challenge.id));
        }
    }

    /// Asks Circle how the challenge stands, and records what is new.
    async fn ask(&self, user: &UserId, look: &Look) -> Result<(), LookError> {
        let Self { function, .. } = self;
        let id = look.challenge.id;
        let token = self.token(user).await?;
        self.state().summary.circle_calls += 1;
        let report = function.circle.challenge(id, &token, SettledBy::Sweep, self.call_deadline()).await;
        let report = report.inspect_err(|error| {
            // A token that was ended in the meantime is no good for the user's other challenges either.
            if error.is_user_token_refused() {
                self.state().tokens.remove(user.as_str());
            }
        })?;
        let report = report.ok_or(LookError::NoStatus)?;
        self.state().known += 1;
        let is_final = report.status.is_final();
        if report.status.rank() > look.challenge.status.rank() {
            // Applied or stale: either way the record is as far along as Circle says, or further.
            function.challenges.settle(&report).await?;
        }
        if is_final {
            self.state().summary.settled += 1;
            return Ok(());
        }
        self.state().summary.open += 1;
        function.challenges.note_known(look).await?;
        Ok(self.give_up_if_old(look).await?)
    }

    /// The user's token of this run.
    async fn token(&self, user: &UserId) -> Result<UserToken, CircleError> {
        {
            let mut state = self.state();
            if let Some(token) = state.tokens.get(user.as_str()).cloned() {
                state.calls_left += 1;
                return Ok(token);
            }
            state.summary.circle_calls += 1;
        }
        let session = self.function.circle.create_session(user, self.call_deadline()).await?;
        self.state().tokens.insert(user.as_str().to_owned(), session.user_token.clone());
        Ok(session.user_token)
    }

    async fn give_up_if_old(&self, look: &Look) -> Result<(), StoreError> {
        let age = self.function.clock.now() - look.challenge.created_at;
        if age >= self.function.give_up_after && self.function.challenges.give_up(look, GivenUp::Age).await? {
            self.note_given_up(look, GivenUp::Age);
        }
        Ok(())
    }

    /// Where Circle knows hardly any challenge, the API key is of another account, or Circle is at fault; then no
    /// answer of this kind counts. Otherwise each is noted, and believed in the end.
    async fn judge_unknown(&self) {
        let (known, unknown) = {
            let mut state = self.state();
            (state.known, std::mem::take(&mut state.unknown))
        };
        let is_most = unknown.len() > known;
        if is_most && unknown.len() >= ALARMING {
            tracing::error!(
                metric = "most_challenges_unknown",
                known,
                unknown = unknown.len(),
                "Circle knows hardly any of the challenges: is the API key of the right account?"
            );
        }
        for look in &unknown {
            if let Err(error) = self.judge(look, is_most).await {
                self.fail(error, Some(look.challenge.id));
            }
        }
    }

    async fn judge(&self, look: &Look, counts_for_nothing: bool) -> Result<(), StoreError> {
        if !counts_for_nothing && self.function.challenges.note_unknown(look).await? {
            self.note_given_up(look, GivenUp::Unknown);
            return Ok(());
        }
        self.give_up_if_old(look).await
    }

    fn note_given_up(&self, look: &Look, why: GivenUp) {
        self.state().summary.given_up += 1;
        let challenge_id = look.challenge.id;
        tracing::warn!(
            metric = "reconcile_gave_up", %challenge_id, why = why.as_str(),
            "the challenge is not looked at again; a webhook or a poll still settles it"
        );
    }

    /// Logs and counts a failure, and ends the run where more calls would be in vain.
    fn fail(&self, error: impl Into<LookError>, challenge_id: Option<Uuid>) {
        let error = error.into();
        let challenge_id = challenge_id.map(tracing::field::display);
        tracing::warn!(metric = "reconcile_failed", challenge_id, error = %Chain(&error), "a look came to nothing");
        let mut state = self.state();
        state.summary.failed += 1;
        let stop = match error {
            LookError::Circle(error) => {
                if let Some(wait) = error.retry_after() {
                    let until = self.function.clock.now() + wait.min(LONGEST_QUIET);
                    *lock(&self.function.quiet_until) = Some(until);
                }
                if error.is_rate_limited() {
                    Some(Stop::RateLimited)
                } else if error.is_api_key_unusable() {
                    Some(Stop::ApiKey)
                } else {
                    (error.is_transient() && state.fails_again()).then_some(Stop::CircleUnavailable)
                }
            }
            LookError::Store(error @ StoreError::Unavailable { .. }) if state.fails_again() => {
                state.table_error = Some(error);
                Some(Stop::TableUnavailable)
            }
            LookError::Store(_) | LookError::NoStatus => None,
        };
        state.summary.stopped = state.summary.stopped.or(stop);
    }

    /// Whether the run is over, which it is when its time is up.
    fn has_stopped(&self) -> bool {
        let stopped = &mut self.state().summary.stopped;
        if stopped.is_none() && self.is_out_of_time() {
            *stopped = Some(Stop::Time);
        }
        stopped.is_some()
    }

    fn is_out_of_time(&self) -> bool {
        self.deadline.remaining(&*self.function.clock).is_zero()
    }

    /// Takes the calls of one look, if there are as many left and the run is not over.
    fn takes_calls(&self) -> bool {
        if self.has_stopped() {
            return false;
        }
        let mut state = self.state();
        match state.calls_left.checked_sub(CALLS_PER_LOOK) {
            Some(left) => state.calls_left = left,
            None => state.summary.stopped = Some(Stop::Calls),
        }
        state.summary.stopped.is_none()
    }

    fn call_deadline(&self) -> Deadline {
        self.deadline.min(Deadline::after(&*self.function.clock, CALL_LIMIT))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Counts one more failure in a row, and says whether that makes it an outage.
    fn fails_again(&mut self) -> bool {
        self.failures_in_a_row += 1;
        self.failures_in_a_row >= FAILURES_IN_A_ROW
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
