//! One run: reads what is due, calls Circle, and writes, as the policy and the ledger say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use shared::challenge::ReportSource;
use shared::challenge_store::{AbandonReason, ChallengeStore, Check, DueChallenge, OPEN_SHARDS};
use shared::circle::Circle;
use shared::clock::{Clock, Deadline};
use shared::config::{self, CircleSettings, SettingError};
use shared::dynamodb::StoreError;
use shared::metric::{self, Metric, ReconciliationRun};
use shared::platform::Platform;
use shared::random::Random;
use shared::rate_limit::RateLimits;
use shared::telemetry::Chain;
use shared::user_id::UserId;
use time::OffsetDateTime;

use crate::error::{CheckError, ErrorKind};
use crate::ledger::{Found, Ledger, NotFoundVerdict, Permit};
use crate::policy::{Policy, RESCHEDULE_WAIT};
use crate::quiet::Quiet;
use crate::summary::{StopReason, Summary};

/// Time reserved for the writes after the last calls to Circle. One call to the table takes 4 seconds at most.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// How long a check usually takes, including the waits for its two turns. No check begins with less time left, because the
/// end of the run would probably cut it short after it has created a session.
const CHECK_TIME: Duration = Duration::from_secs(3);

/// The longest that Circle may take to return a challenge, the wait for its turn and retries included.
const CHALLENGE_LIMIT: Duration = Duration::from_secs(8);

/// The longest that Circle may take to create a session, the wait for its turn (at most a second) and retries included.
/// It is short because a late request might end a session that the user has started in the meantime.
const SESSION_LIMIT: Duration = Duration::from_secs(4);

/// What the function keeps between runs.
#[derive(Debug)]
pub struct ReconcileChallenges {
    circle: Circle,
    pub(crate) challenges: ChallengeStore,
    rate_limits: RateLimits,
    pub(crate) clock: Arc<dyn Clock>,
    random: Arc<Random>,
    /// How many users are checked at once, and how many unknown challenges are resolved at once. It equals the calls to
    /// Circle in a second. More would only wait for their turn, and fewer could not keep the pace if a call takes a second.
    concurrency: usize,
    policy: Policy,
    /// How long Circle asks not to be called.
    quiet: Mutex<Option<Quiet>>,
}

impl ReconcileChallenges {
    /// The function with the settings of the environment.
    ///
    /// # Errors
    /// If a setting is missing or invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        let calls_per_second = config::circle_calls_per_second(environment)?;
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(environment)?).paced(calls_per_second),
            challenges: ChallengeStore::new(platform, config::challenges_table(environment)?),
            rate_limits: RateLimits::new(
                platform,
                config::rate_limits_table(environment)?,
                config::user_hash_key(environment)?,
            ),
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
            concurrency: calls_per_second as usize,
            policy: Policy { abandon_after: config::abandon_after(environment)? },
            quiet: Mutex::default(),
        })
    }

    /// Reads the API key ahead of the first run.
    pub async fn warm_up(&self) {
        self.circle.warm_up().await;
    }
}

/// The run stopped because the table could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the table cannot be reached; due challenges stay due")]
pub struct RunError(#[source] CheckError);

/// Makes one run: checks what is due until the time is up. The audit trail of the records names the invocation.
///
/// # Errors
/// If the run stopped because the table could not be reached.
pub async fn reconcile(
    function: &ReconcileChallenges,
    invocation_id: &str,
    deadline: Deadline,
) -> Result<Summary, RunError> {
    let (started, quiet) = (function.clock.now(), *lock(&function.quiet));
    let ledger = Mutex::new(Ledger::new(quiet, &*function.clock));
    let run = Run { function, invocation_id, deadline: deadline.earlier(WRITE_TIME), ledger };
    let not_found = run.check_all(started).await;
    run.resolve_not_found(not_found).await;
    let ledger = run.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let summary = ledger.summary();
    let summary_text = serde_json::to_string(&summary).expect("numbers and strings can be written as JSON");
    let measured = ReconciliationRun {
        due: summary.due,
        checked: summary.checks,
        settled: summary.settled,
        deferred: summary.deferred,
        failed: summary.failed,
        oldest_due: ledger.oldest_due(),
    };
    measured.log(&summary_text);
    *lock(&function.quiet) = ledger.quiet();
    match ledger.into_error() {
        Some(error) if summary.stopped == Some(StopReason::TableUnavailable) => Err(RunError(error)),
        _ => Ok(summary),
    }
}

/// Counts the due challenges on the first page of each shard, without a call to Circle and without a write.
///
/// # Errors
/// If the table cannot be reached.
pub async fn count_due(function: &ReconcileChallenges) -> Result<Summary, RunError> {
    let now = function.clock.now();
    let mut summary = Summary::default();
    for shard in 0..OPEN_SHARDS {
        let page = function.challenges.due(shard, now, None).await;
        let due = page.map_err(|error| RunError(error.into()))?.challenges.len();
        summary.due = summary.due.saturating_add(u32::try_from(due).unwrap_or(u32::MAX));
    }
    Ok(summary)
}

struct Run<'a> {
    function: &'a ReconcileChallenges,
    invocation_id: &'a str,
    /// When the calls to Circle end.
    deadline: Deadline,
    /// Locked for one method call at a time.
    ledger: Mutex<Ledger>,
}

impl Run<'_> {
    /// Checks what is due. Returns the checks of challenges that Circle does not know.
    async fn check_all(&self, started: OffsetDateTime) -> Vec<Check> {
        if !self.has_stopped()
            && let Err(error) = self.function.circle.read_api_key().await
        {
            self.record_error(error, None);
        }
        let mut pages: Vec<_> = (0..OPEN_SHARDS).map(|shard| (shard, None)).collect();
        // The first shard is random, so that no shard is always the last when runs stop early.
        pages.rotate_left((self.function.random.uuid().as_bytes()[0] % OPEN_SHARDS).into());
        let mut not_found = Vec::new();
        while let Some((shard, from)) = pages.pop()
            && !self.has_stopped()
        {
            match self.function.challenges.due(shard, started, from).await {
                Ok(page) => {
                    let ages = page.challenges.iter().filter_map(|(_, due)| due.as_ref().ok());
                    let oldest = ages.map(|due| self.age(due.created_at)).max().unwrap_or_default();
                    self.ledger().count_due(page.challenges.len(), oldest);
                    let users = stream::iter(self.by_user(page.challenges));
                    let checks = users.map(|(user, due)| self.check_user(user, due));
                    not_found.extend(checks.buffer_unordered(self.function.concurrency).concat().await);
                    pages.extend(page.next.map(|next| (shard, Some(next))));
                }
                Err(error) => self.record_error(error, None),
            }
        }
        not_found
    }

    /// Groups due challenges by user, because each user has one session in a run.
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
                Err(error) => self.record_error(error, Some(id)),
            }
        }
        users
    }

    /// Checks a user's due challenges one after another, or defers them. They are checked together, because one session
    /// is enough for all of them. Returns the checks of challenges that Circle does not know.
    async fn check_user(&self, user: UserId, due: Vec<DueChallenge>) -> Vec<Check> {
        let mut not_found = Vec::new();
        if self.has_stopped() {
            return not_found;
        }
        let last_session = match self.function.rate_limits.last_session(&user).await {
            Ok(last_session) => last_session,
            Err(error) => {
                self.record_error(error, None);
                return not_found;
            }
        };
        let now = self.function.clock.now();
        let first_due_at = due.iter().map(|due| due.due_at).min().unwrap_or(now);
        let deferred_until = Policy::deferred_until(last_session, first_due_at, now);
        for due in due {
            let checked = match deferred_until {
                Some(until) => self.defer(&due, until).await.map(|()| None),
                None => self.check_due(&user, &due).await,
            };
            match checked {
                Ok(check) => not_found.extend(check),
                Err(error) => self.record_error(error, Some(due.id.to_string())),
            }
        }
        not_found
    }

    /// Defers a check. It leaves the front of the index, so that deferred checks do not keep runs from those behind them.
    async fn defer(&self, due: &DueChallenge, until: OffsetDateTime) -> Result<(), CheckError> {
        if !self.has_stopped() && self.function.challenges.defer(due, until).await? {
            self.ledger().count_deferred();
        }
        Ok(())
    }

    /// Claims and makes a check, if the ledger permits one. Returns the check if Circle does not know the challenge.
    async fn check_due(&self, user: &UserId, due: &DueChallenge) -> Result<Option<Check>, CheckError> {
        let permit = if self.has_stopped() { None } else { self.ledger().begin_check(user) };
        let Some(mut permit) = permit else { return Ok(None) };
        let Some(check) = self.claim(due).await? else { return Ok(None) };
        let result = self.check(user, &check, &mut permit).await;
        self.ledger().end_check(user, permit, result.as_ref().copied().map_err(CheckError::kind));
        match result {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(check)),
            Err(error) => Ok(self.after_error(error, &check).await.map(|()| None)?),
        }
    }

    async fn claim(&self, due: &DueChallenge) -> Result<Option<Check>, StoreError> {
        let (wait, jitter) = Policy::next_wait(self.age(due.created_at));
        let next = self.function.clock.now() + wait + self.function.random.jitter(jitter);
        let claimed = self.function.challenges.claim_check(due, next).await?;
        self.ledger().table_responded();
        Ok(claimed)
    }

    /// Asks Circle for the challenge and stores what is new. Creates a session if the user has none in this run.
    async fn check(&self, user: &UserId, check: &Check, permit: &mut Permit) -> Result<Found, CheckError> {
        let (circle, challenge) = (&self.function.circle, &check.challenge);
        let token = match &permit.token {
            Some(token) => token,
            None => {
                permit.calls += 1;
                let session = circle.create_session(user, self.call_deadline(SESSION_LIMIT)).await?;
                permit.token.insert(session.user_token)
            }
        };
        permit.calls += 1;
        let deadline = self.call_deadline(CHALLENGE_LIMIT);
        let source = ReportSource::Reconcile { request_id: self.invocation_id.to_owned() };
        let report = circle.challenge(challenge, token, source, deadline).await?;
        let report = report.ok_or(CheckError::NoStatus)?;
        if report.status.replaces(Some(&challenge.status)) {
            // A stale report is fine: the record is as far along as Circle says, or further.
            self.function.challenges.apply(&report).await?;
        } else {
            self.function.challenges.confirm(challenge.id).await?;
        }
        if report.status.is_final() {
            return Ok(Found::Settled);
        }
        let reason = self.function.policy.abandon_open(self.age(challenge.created_at));
        self.abandon(check, reason).await?;
        Ok(Found::Open)
    }

    /// Reschedules or abandons a challenge after an error, as the policy says, and records the error.
    async fn after_error(&self, error: CheckError, check: &Check) -> Result<(), StoreError> {
        let ReconcileChallenges { challenges, policy, clock, .. } = self.function;
        let (kind, age) = (error.kind(), self.age(check.challenge.created_at));
        let is_out_of_time = self.is_out_of_time();
        let has_stopped = is_out_of_time || self.ledger().summary().stopped.is_some();
        let written = if policy.reschedules(kind, has_stopped, age) {
            challenges.reschedule(check, clock.now() + RESCHEDULE_WAIT).await
        } else {
            let since_checked = self.age(check.challenge.checked_at);
            self.abandon(check, policy.abandon_failed(kind, age, since_checked)).await
        };
        if Policy::is_cut_short(kind, is_out_of_time) {
            self.ledger().stop(StopReason::Time);
        } else {
            self.record_error(error, Some(check.challenge.id.to_string()));
        }
        written
    }

    /// Records that Circle does not know these challenges, if that can be trusted, and abandons those that are lost.
    async fn resolve_not_found(&self, checks: Vec<Check>) {
        let verdict = self.ledger().judge_not_found();
        if let NotFoundVerdict::WrongAccount { users_found, users_not_found } = verdict {
            tracing::error!(
                metric = Metric::MostChallengesNotFound.as_str(),
                users_found,
                users_not_found,
                "Circle does not know the challenges of most users; is the API key of the right account?"
            );
            return;
        }
        let resolve = |check: Check| async move {
            if self.ledger().summary().stopped == Some(StopReason::TableUnavailable) {
                return;
            }
            if let Err(error) = self.resolve(&check, verdict == NotFoundVerdict::Trusted).await {
                self.record_error(error, Some(check.challenge.id.to_string()));
            }
        };
        stream::iter(checks).for_each_concurrent(self.function.concurrency, resolve).await;
    }

    async fn resolve(&self, check: &Check, is_trusted: bool) -> Result<(), StoreError> {
        let ReconcileChallenges { challenges, policy, .. } = self.function;
        let times = if is_trusted { challenges.record_not_found(check).await? } else { Vec::new() };
        self.abandon(check, policy.abandon_not_found(&times, self.age(check.challenge.created_at))).await
    }

    /// Abandons a challenge, if there is a reason to.
    async fn abandon(&self, check: &Check, reason: Option<AbandonReason>) -> Result<(), StoreError> {
        if let Some(reason) = reason
            && self.function.challenges.abandon(check, reason).await?
        {
            self.ledger().count_abandoned();
            metric::challenge_abandoned(check.challenge.id, reason.as_str());
        }
        Ok(())
    }

    /// Logs and records an error, which may stop the run.
    fn record_error(&self, error: impl Into<CheckError>, challenge_id: Option<String>) {
        let (error, metric) = (error.into(), Metric::CheckFailed.as_str());
        tracing::warn!(metric, challenge_id, error = %Chain(&error), "reconciliation check failed");
        if let Some(reason) = self.ledger().record_error(error, &*self.function.clock) {
            tracing::error!(metric = reason.metric(), ?reason, "reconciliation run stopped early");
        }
    }

    /// Whether nothing more is begun.
    fn has_stopped(&self) -> bool {
        if self.deadline.earlier(CHECK_TIME).remaining(&*self.function.clock).is_zero() {
            self.ledger().stop(StopReason::Time);
        }
        self.ledger().summary().stopped.is_some()
    }

    fn is_out_of_time(&self) -> bool {
        self.deadline.remaining(&*self.function.clock).is_zero()
    }

    fn call_deadline(&self, limit: Duration) -> Deadline {
        self.deadline.min(Deadline::after(&*self.function.clock, limit))
    }

    fn age(&self, since: OffsetDateTime) -> Duration {
        (self.function.clock.now() - since).try_into().unwrap_or_default()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
