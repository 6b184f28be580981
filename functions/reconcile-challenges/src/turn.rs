//! A user's turn in a run: one session, and with it a look at each of the user's challenges that is due.

use std::time::Duration;

use shared::challenge::ReportSource;
use shared::challenge_store::{AbandonReason, Check, DueChallenge, FIRST_CHECK};
use shared::circle::CircleError;
use shared::clock::Deadline;
use shared::dynamodb::StoreError;
use shared::secrets::UserToken;
use shared::user_id::UserId;
use time::OffsetDateTime;

use crate::run::{CALLS_PER_CHECK, CheckError, Run};

/// How many looks one user may have in a run, so that none fills it.
const CHECKS_PER_USER: u32 = 20;

/// The longest that a question to Circle is waited for.
const QUESTION_LIMIT: Duration = Duration::from_secs(8);

/// The longest that a session is waited for: a repeat that comes late might end a session that the user has by then.
const SESSION_LIMIT: Duration = Duration::from_secs(3);

/// How much longer a user is left alone than the first look waits: the request is counted a little before the
/// challenge is made.
const CREATION_TIME: Duration = Duration::from_secs(10);

/// How much older than others a challenge is given up whose looks only fail, or are not taken.
const GRACE: time::Duration = time::Duration::DAY;

/// What a run has seen of a user.
pub(crate) struct Turn {
    /// The one session that the user has in the run.
    token: Option<UserToken>,
    checks_left: u32,
    /// Whether Circle knows one of the challenges.
    pub(crate) has_known: bool,
    /// Whether Circle does not know one of them.
    pub(crate) has_not_found: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self { token: None, checks_left: CHECKS_PER_USER, has_known: false, has_not_found: false }
    }
}

impl Run<'_> {
    /// Looks at what is due of one user, unless a new user token might end a PIN entry.
    pub(crate) async fn user(&self, user: UserId, due: Vec<DueChallenge>) {
        if self.has_stopped() {
            return;
        }
        let since = self.function.clock.now() - FIRST_CHECK - CREATION_TIME;
        match self.function.requests.requested_since(&user, since).await {
            Ok(false) => {}
            Ok(true) => return self.defer(due).await,
            Err(error) => return self.fail(error, None),
        }
        for due in due {
            if !self.takes_check(&user) {
                return;
            }
            let claimed = self.function.challenges.claim_check(&due).await;
            if !matches!(claimed, Ok(Some(_))) {
                self.state().calls_left += CALLS_PER_CHECK;
            }
            match claimed {
                Ok(check) => {
                    self.state().table_failures = 0;
                    if let Some(check) = check {
                        self.check(&user, check).await;
                    }
                }
                Err(error) => self.fail(error, Some(&due.id.to_string())),
            }
        }
    }

    /// Leaves the challenges for a later run, but for those that it is too late for.
    async fn defer(&self, due: Vec<DueChallenge>) {
        for due in due {
            self.state().summary.deferred += 1;
            if !self.is_old(due.created_at + GRACE) || self.has_stopped() {
                continue;
            }
            let abandoned = match self.function.challenges.claim_check(&due).await {
                Ok(Some(check)) => self.abandon(&check).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = abandoned {
                self.fail(error, Some(&due.id.to_string()));
            }
        }
    }

    async fn check(&self, user: &UserId, check: Check) {
        self.state().summary.checks += 1;
        let error = match self.ask(user, &check).await {
            Ok(()) => {
                self.state().circle_failures = 0;
                return;
            }
            Err(CheckError::Circle(error)) if error.is_not_found() => {
                let mut state = self.state();
                state.circle_failures = 0;
                state.summary.not_found += 1;
                state.turns.entry(user.as_str().to_owned()).or_default().has_not_found = true;
                state.unknown.push(check);
                return;
            }
            Err(error) => error,
        };
        let id = check.challenge.id.to_string();
        let written = self.after_failure(&error, &check).await;
        // A call that was cut short by the run's own end says nothing about Circle.
        if !(error.is_outage() && self.is_out_of_time()) {
            self.fail(error, Some(&id));
        }
        if let Err(error) = written {
            self.fail(error, Some(&id));
        }
    }

    /// Makes the look due again soon where it may do better then; otherwise the next one comes at its own time. A
    /// challenge whose looks have only failed for long enough is given up, but not over an outage.
    async fn after_failure(&self, error: &CheckError, check: &Check) -> Result<(), StoreError> {
        let is_too_late = self.is_old(check.challenge.created_at + GRACE);
        if error.is_systemic() || error.is_outage() && (self.has_stopped() || !is_too_late) {
            return self.function.challenges.reschedule(check).await;
        }
        if is_too_late { self.abandon(check).await } else { Ok(()) }
    }

    /// Asks Circle how the challenge stands, and records what is new.
    async fn ask(&self, user: &UserId, check: &Check) -> Result<(), CheckError> {
        let Self { function, .. } = self;
        let challenge = &check.challenge;
        let token = self.token(user).await?;
        self.state().summary.circle_calls += 1;
        let deadline = self.call_deadline(QUESTION_LIMIT);
        let report = function.circle.challenge(challenge, &token, ReportSource::Reconcile, deadline).await;
        // A token that was ended in the meantime was ended by a newer one, which must not be ended in turn.
        if report.as_ref().is_err_and(CircleError::is_user_token_rejected) {
            self.end_turn(user);
        }
        let report = report?.ok_or(CheckError::NoStatus)?;
        self.state().turns.entry(user.as_str().to_owned()).or_default().has_known = true;
        let is_final = report.status.is_final();
        if report.status.rank() > challenge.status.rank() {
            // Applied or stale: either way the record is as far along as Circle says, or further.
            function.challenges.apply(&report).await?;
        }
        if is_final {
            self.state().summary.settled += 1;
            return Ok(());
        }
        self.state().summary.open += 1;
        function.challenges.clear_not_found(check).await?;
        Ok(self.abandon_if_old(check).await?)
    }

    /// The user's token of this run. Where none is to be had, the user's turn is over.
    async fn token(&self, user: &UserId) -> Result<UserToken, CircleError> {
        {
            let mut state = self.state();
            let known = state.turns.get(user.as_str()).and_then(|turn| turn.token.clone());
            if let Some(token) = known {
                state.calls_left += 1;
                return Ok(token);
            }
            state.summary.circle_calls += 1;
        }
        let session = self.function.circle.create_session(user, self.call_deadline(SESSION_LIMIT)).await;
        let session = session.inspect_err(|_| {
            self.state().calls_left += 1;
            self.end_turn(user);
        })?;
        let token = session.user_token;
        self.state().turns.entry(user.as_str().to_owned()).or_default().token = Some(token.clone());
        Ok(token)
    }

    /// Takes a look of the user's, and the calls that it may cost, if there are any left.
    fn takes_check(&self, user: &UserId) -> bool {
        let checks_left = self.state().turns.entry(user.as_str().to_owned()).or_default().checks_left;
        if checks_left == 0 || !self.takes_calls() {
            return false;
        }
        self.state().turns.entry(user.as_str().to_owned()).or_default().checks_left = checks_left - 1;
        true
    }

    fn end_turn(&self, user: &UserId) {
        self.state().turns.entry(user.as_str().to_owned()).or_default().checks_left = 0;
    }

    pub(crate) async fn abandon_if_old(&self, check: &Check) -> Result<(), StoreError> {
        if self.is_old(check.challenge.created_at) { self.abandon(check).await } else { Ok(()) }
    }

    async fn abandon(&self, check: &Check) -> Result<(), StoreError> {
        if self.function.challenges.abandon(check, AbandonReason::Age).await? {
            self.record_abandoned(check, AbandonReason::Age);
        }
        Ok(())
    }

    fn is_old(&self, created_at: OffsetDateTime) -> bool {
        self.function.clock.now() - created_at >= self.function.abandon_after
    }

    fn call_deadline(&self, limit: Duration) -> Deadline {
        self.deadline.min(Deadline::after(&*self.function.clock, limit))
    }
}
