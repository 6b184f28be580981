//! The decisions about one run: what it may still do, when it stops, and what its results mean. No I/O.

use std::collections::HashMap;
use std::time::Duration;

use shared::clock::Clock;
use shared::secrets::UserToken;
use shared::user_id::UserId;

use crate::error::{CheckError, ErrorKind};
use crate::quiet::Quiet;
use crate::summary::{StopReason, Summary};

/// How many checks one user may have in a run, so that no user takes up the whole run.
const CHECKS_PER_USER: u32 = 20;

/// How many calls in a row have to fail before Circle, or the table, is considered down. Fewer may be bad luck with a
/// few challenges.
const ERRORS_IN_A_ROW: u32 = 3;

/// How many users have to be unknown to Circle, and more than are known, to conclude that the API key is wrong.
const ALARMING_USERS: usize = 3;

/// The state of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    summary: Summary,
    oldest_due: Duration,
    users: HashMap<UserId, User>,
    /// Calls to Circle, and to the table, that have failed since the last one that succeeded.
    circle_errors: u32,
    table_errors: u32,
    quiet: Option<Quiet>,
    /// The error that the run stopped for.
    stopped_by: Option<CheckError>,
}

/// What the run knows of a user.
#[derive(Debug, Default)]
struct User {
    /// The one session that the user has in the run.
    token: Option<UserToken>,
    checks: u32,
    /// Whether Circle knows one of the user's challenges.
    has_found: bool,
    /// Whether Circle does not know one of the user's challenges.
    has_not_found: bool,
}

/// Permission for one check of one user. It goes back to the ledger after the check, unless nothing was checked.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    /// The user's session. If there is none yet, the check creates one and adds it here.
    pub(crate) token: Option<UserToken>,
    /// The calls to Circle that the check has made.
    pub(crate) calls: u32,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Circle has settled the challenge, and the record says so.
    Settled,
    /// Circle has not settled the challenge yet.
    Open,
}

/// What it means that Circle does not know some challenges of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotFoundVerdict {
    /// Circle knows the challenges of most users, so the others may be lost.
    Trusted,
    /// Circle does not know the challenges of most users, but there are too few users to tell why.
    Doubtful,
    /// Circle does not know the challenges of most users. The API key is probably of another account.
    WrongAccount {
        /// Users with a challenge that Circle knows.
        users_found: usize,
        /// Users without one.
        users_not_found: usize,
    },
}

impl Ledger {
    /// A new run. If a wait that Circle asked for is not over, the run has stopped already.
    pub(crate) fn new(quiet: Option<Quiet>, clock: &dyn Clock) -> Self {
        let mut ledger = Self { quiet, ..Self::default() };
        if quiet.is_some_and(|quiet| !quiet.remaining(clock).is_zero()) {
            ledger.stop(StopReason::RateLimited);
        }
        ledger
    }

    /// Stops the run, unless it has stopped already.
    pub(crate) fn stop(&mut self, reason: StopReason) {
        self.summary.stopped.get_or_insert(reason);
    }

    /// Permits another check of the user, unless the run has stopped or the user has no checks left.
    pub(crate) fn begin_check(&mut self, user: &UserId) -> Option<Permit> {
        let state = self.users.entry(user.clone()).or_default();
        if self.summary.stopped.is_some() || state.checks == CHECKS_PER_USER {
            return None;
        }
        state.checks += 1;
        Some(Permit { token: state.token.clone(), calls: 0 })
    }

    /// Takes back a permit after a check.
    pub(crate) fn end_check(&mut self, user: &UserId, permit: Permit, result: Result<Found, ErrorKind>) {
        self.summary.circle_calls += permit.calls;
        self.summary.checks += 1;
        let state = self.users.entry(user.clone()).or_default();
        if permit.token.is_none() || result == Err(ErrorKind::TokenRejected) {
            // A second session might end one that the user has started in the meantime.
            state.checks = CHECKS_PER_USER;
        }
        state.token = permit.token;
        match result {
            Ok(Found::Settled) => self.summary.settled += 1,
            Ok(Found::Open) => self.summary.open += 1,
            Err(ErrorKind::NotFound) => self.summary.not_found += 1,
            // A check uses the table once Circle has returned the challenge.
            Err(ErrorKind::TableUnavailable | ErrorKind::UnreadableItem) => {}
            Err(_) => return,
        }
        self.circle_errors = 0;
        let is_not_found = result == Err(ErrorKind::NotFound);
        state.has_not_found |= is_not_found;
        state.has_found |= !is_not_found;
    }

    /// Records that the table has responded.
    pub(crate) fn table_responded(&mut self) {
        self.table_errors = 0;
    }

    /// Records an error. Returns the reason if the run stops because of it.
    pub(crate) fn record_error(&mut self, error: CheckError, clock: &dyn Clock) -> Option<StopReason> {
        self.summary.failed += 1;
        let mut stop = match error.kind() {
            ErrorKind::Fatal(reason) => Some(reason),
            ErrorKind::Outage => {
                self.circle_errors += 1;
                (self.circle_errors >= ERRORS_IN_A_ROW).then_some(StopReason::CircleUnavailable)
            }
            ErrorKind::TableUnavailable => {
                self.table_errors += 1;
                (self.table_errors >= ERRORS_IN_A_ROW).then_some(StopReason::TableUnavailable)
            }
            _ => None,
        };
        if let CheckError::Circle(error) = &error
            && let Some(wait) = error.retry_after()
        {
            self.quiet = Some(Quiet::longer(self.quiet, wait, clock));
            stop = stop.or(Some(StopReason::CircleUnavailable));
        }
        let reason = stop.filter(|_| self.summary.stopped.is_none())?;
        self.stop(reason);
        self.stopped_by = Some(error);
        Some(reason)
    }

    /// What it means that Circle does not know some challenges. Only the end of the run can tell.
    pub(crate) fn judge_not_found(&self) -> NotFoundVerdict {
        let users_found = self.users.values().filter(|user| user.has_found).count();
        let users_not_found =
            self.users.values().filter(|user| user.has_not_found && !user.has_found).count();
        if users_not_found <= users_found {
            NotFoundVerdict::Trusted
        } else if users_not_found < ALARMING_USERS {
            NotFoundVerdict::Doubtful
        } else {
            NotFoundVerdict::WrongAccount { users_found, users_not_found }
        }
    }

    /// Counts due challenges that were read from the index. `oldest` is the age of the oldest of them.
    pub(crate) fn count_due(&mut self, challenges: usize, oldest: Duration) {
        self.summary.due += challenges as u32;
        self.oldest_due = self.oldest_due.max(oldest);
    }

    /// The age of the oldest due challenge.
    pub(crate) fn oldest_due(&self) -> Duration {
        self.oldest_due
    }

    /// Counts a challenge whose check was deferred.
    pub(crate) fn count_deferred(&mut self) {
        self.summary.deferred += 1;
    }

    /// Counts a challenge that is no longer checked.
    pub(crate) fn count_abandoned(&mut self) {
        self.summary.abandoned += 1;
    }

    /// What the run has done so far.
    pub(crate) fn summary(&self) -> Summary {
        self.summary
    }

    /// How long Circle asks not to be called.
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        self.quiet
    }

    /// The error that the run stopped for.
    pub(crate) fn into_error(self) -> Option<CheckError> {
        self.stopped_by
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::circle_code::CircleCode;
    use shared::clock::AdjustableClock;
    use time::macros::datetime;

    use super::*;
    use crate::error::tests::{response, table_unavailable};

    const MINUTE: Duration = Duration::from_secs(60);

    fn clock() -> AdjustableClock {
        AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC))
    }

    fn ledger() -> Ledger {
        Ledger::new(None, &clock())
    }

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn outage() -> CheckError {
        response(503, None, None).into()
    }

    /// Makes a check, if there is a permit: with a new session if the user has none, and then with this result.
    fn check(ledger: &mut Ledger, name: &str, result: Result<Found, ErrorKind>) -> bool {
        let Some(mut permit) = ledger.begin_check(&user(name)) else { return false };
        permit.calls += 1 + u32::from(permit.token.is_none());
        permit.token = UserToken::parse("token");
        ledger.end_check(&user(name), permit, result);
        true
    }

    #[test]
    fn checks_and_their_calls_are_counted() {
        let mut ledger = ledger();
        drop(ledger.begin_check(&user("alice")).unwrap());
        assert_eq!((ledger.summary().checks, ledger.summary().circle_calls), (0, 0), "nothing was checked");
        assert!(check(&mut ledger, "alice", Ok(Found::Open)), "a session and a challenge");
        assert!(check(&mut ledger, "alice", Ok(Found::Settled)), "a challenge");
        let summary = ledger.summary();
        assert_eq!((summary.checks, summary.circle_calls), (2, 3));
        assert_eq!((summary.open, summary.settled, summary.stopped), (1, 1, None));
    }

    #[test]
    fn what_becomes_of_due_challenges_is_counted() {
        let mut ledger = ledger();
        for (challenges, oldest) in [(2, MINUTE), (100, 3 * MINUTE), (1, 2 * MINUTE)] {
            ledger.count_due(challenges, oldest);
            ledger.count_deferred();
            ledger.count_abandoned();
        }
        let expected = Summary { due: 103, deferred: 3, abandoned: 3, ..Summary::default() };
        assert_eq!((ledger.summary(), ledger.oldest_due()), (expected, 3 * MINUTE));
    }

    #[test]
    fn user_has_one_session_in_a_run() {
        let mut ledger = ledger();
        assert!(check(&mut ledger, "alice", Ok(Found::Open)));
        assert!(ledger.begin_check(&user("alice")).unwrap().token.is_some());
        assert!(ledger.begin_check(&user("bobby")).unwrap().token.is_none());
    }

    #[test]
    fn user_without_a_usable_session_has_no_more_checks() {
        let mut ledger = ledger();
        let permit = ledger.begin_check(&user("alice")).unwrap();
        ledger.end_check(&user("alice"), permit, Err(ErrorKind::Other));
        assert!(!check(&mut ledger, "alice", Ok(Found::Open)), "Circle created no session");
        assert!(check(&mut ledger, "bobby", Err(ErrorKind::TokenRejected)));
        assert!(!check(&mut ledger, "bobby", Ok(Found::Open)), "Circle rejected the token");
        assert!(check(&mut ledger, "carol", Err(ErrorKind::Other)));
        assert!(check(&mut ledger, "carol", Ok(Found::Open)), "the session is usable");
    }

    #[test]
    fn three_outages_in_a_row_stop_the_run() {
        let mut ledger = ledger();
        let responses =
            [Ok(Found::Open), Ok(Found::Settled), Err(ErrorKind::NotFound), Err(ErrorKind::TableUnavailable)];
        for result in responses {
            assert_eq!(ledger.record_error(outage(), &clock()), None);
            assert_eq!(ledger.record_error(outage(), &clock()), None);
            assert!(check(&mut ledger, "alice", result), "Circle responds to another check");
        }
        assert_eq!(ledger.record_error(outage(), &clock()), None);
        assert!(check(&mut ledger, "alice", Err(ErrorKind::Outage)));
        assert_eq!(ledger.record_error(outage(), &clock()), None);
        assert_eq!(ledger.record_error(outage(), &clock()), Some(StopReason::CircleUnavailable));
        assert!(!check(&mut ledger, "alice", Ok(Found::Open)));
        assert_eq!(ledger.summary().failed, 11);
    }

    #[test]
    fn error_about_one_challenge_does_not_stop_the_run() {
        let mut ledger = ledger();
        for _ in 0..10 {
            assert_eq!(ledger.record_error(CheckError::NoStatus, &clock()), None);
            let invalid = response(400, CircleCode::PARAMETER_INVALID, None);
            assert_eq!(ledger.record_error(invalid.into(), &clock()), None);
        }
        assert_eq!(ledger.summary().stopped, None);
    }

    #[test]
    fn rate_limit_or_rejected_api_key_stops_the_run_at_once() {
        let limited = response(429, None, None);
        let rejected = response(401, CircleCode::API_KEY_INVALID, None);
        for (error, reason) in [(limited, StopReason::RateLimited), (rejected, StopReason::ApiKey)] {
            let mut ledger = ledger();
            assert_eq!(ledger.record_error(error.into(), &clock()), Some(reason));
            assert!(ledger.quiet().is_none());
        }
    }

    #[test]
    fn wait_that_circle_asks_for_stops_this_run_and_those_that_start_too_early() {
        let wait =
            |status, minutes| response(status, CircleCode::PARAMETER_INVALID, Some(minutes * MINUTE)).into();
        let (mut ledger, clock) = (ledger(), clock());
        assert_eq!(ledger.record_error(wait(400, 20), &clock), Some(StopReason::CircleUnavailable));
        assert_eq!(ledger.record_error(wait(429, 10), &clock), None, "the run has stopped already");
        let quiet = ledger.quiet();
        assert_eq!(quiet.unwrap().remaining(&clock), 20 * MINUTE, "the longer wait counts");

        clock.advance(19 * MINUTE);
        let too_early = Ledger::new(quiet, &clock);
        assert_eq!(too_early.summary().stopped, Some(StopReason::RateLimited));
        assert_eq!(too_early.quiet().unwrap().remaining(&clock), MINUTE);
        clock.advance(MINUTE);
        assert_eq!(Ledger::new(quiet, &clock).summary().stopped, None);
    }

    #[test]
    fn three_table_errors_in_a_row_stop_the_run_even_if_circle_responds() {
        let mut ledger = ledger();
        for _ in 0..2 {
            assert_eq!(ledger.record_error(table_unavailable(), &clock()), None);
            assert_eq!(ledger.record_error(table_unavailable(), &clock()), None);
            ledger.table_responded();
        }
        ledger.record_error(table_unavailable(), &clock());
        assert!(check(&mut ledger, "alice", Ok(Found::Open)));
        ledger.record_error(table_unavailable(), &clock());
        let stopped = ledger.record_error(table_unavailable(), &clock());
        assert_eq!(stopped, Some(StopReason::TableUnavailable));
        assert!(matches!(ledger.into_error(), Some(CheckError::Store(_))));
    }

    #[test]
    fn first_reason_to_stop_stays() {
        let mut ledger = ledger();
        ledger.stop(StopReason::Time);
        ledger.stop(StopReason::ApiKey);
        assert_eq!(ledger.record_error(response(429, None, None).into(), &clock()), None);
        assert_eq!((ledger.summary().stopped, ledger.summary().failed), (Some(StopReason::Time), 1));
        assert!(ledger.into_error().is_none());
    }

    #[test]
    fn unknown_challenges_are_trusted_unless_most_users_have_no_other() {
        let judge = |users_found: usize, users_not_found: usize| {
            let mut ledger = ledger();
            for number in 0..users_found {
                let name = format!("found-{number}");
                assert!(check(&mut ledger, &name, Ok(Found::Open)));
                assert!(check(&mut ledger, &name, Err(ErrorKind::NotFound)), "one of several");
            }
            for number in 0..users_not_found {
                assert!(check(&mut ledger, &format!("not-found-{number}"), Err(ErrorKind::NotFound)));
            }
            assert_eq!(ledger.summary().not_found as usize, users_found + users_not_found);
            ledger.judge_not_found()
        };
        assert_eq!(judge(0, 0), NotFoundVerdict::Trusted);
        assert_eq!(judge(1, 1), NotFoundVerdict::Trusted);
        assert_eq!(judge(3, 3), NotFoundVerdict::Trusted);
        assert_eq!(judge(0, 1), NotFoundVerdict::Doubtful);
        assert_eq!(judge(1, 2), NotFoundVerdict::Doubtful);
        let wrong_account = NotFoundVerdict::WrongAccount { users_found: 2, users_not_found: 3 };
        assert_eq!(judge(2, 3), wrong_account);
    }

    #[test]
    fn challenge_whose_report_cannot_be_stored_is_known_to_circle() {
        let mut ledger = ledger();
        for number in 0..3 {
            assert!(check(&mut ledger, &format!("stored-not-{number}"), Err(ErrorKind::TableUnavailable)));
            assert!(check(&mut ledger, &format!("not-found-{number}"), Err(ErrorKind::NotFound)));
        }
        assert_eq!(ledger.judge_not_found(), NotFoundVerdict::Trusted);
    }
}
