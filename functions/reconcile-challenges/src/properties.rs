//! The ledger and the policy as state machines, on random runs.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use shared::challenge_store::AbandonReason;
use shared::circle_code::CircleCode;
use shared::clock::AdjustableClock;
use shared::secrets::UserToken;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::error::tests::{response, table_unavailable};
use crate::error::{CheckError, ErrorKind};
use crate::ledger::{Found, Ledger};
use crate::policy::{Policy, RESCHEDULE_WAIT};
use crate::summary::StopReason;

const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tries a property on `cases` inputs, the same ones in every run unless `PROPTEST_RNG_SEED` has another seed.
fn check<S: Strategy>(cases: u32, inputs: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    // Reads proptest's variables. Without them, it has 256 cases and a random seed.
    let asked = ProptestConfig::default();
    let cases = if asked.cases == 256 { cases } else { asked.cases };
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    let config = ProptestConfig { cases, rng_seed, failure_persistence: None, ..asked };
    TestRunner::new(config).run(inputs, property).unwrap_or_else(|error| panic!("{error}"));
}

/// What becomes of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Found(Found),
    Failed(ErrorKind),
}

/// What `run.rs` tells the ledger, in its order.
#[derive(Debug, Clone)]
enum Step {
    /// A due challenge of one of three users. `session` is whether Circle creates one, if the user has none.
    Check { user: usize, outcome: Outcome, session: bool },
    /// A permit whose challenge another run has claimed.
    Claimed { user: usize },
    /// An error on the way to a check.
    Error(ErrorKind),
}

fn kind() -> impl Strategy<Value = ErrorKind> {
    prop_oneof![
        4 => Just(ErrorKind::Outage),
        3 => Just(ErrorKind::TableUnavailable),
        1 => Just(ErrorKind::NotFound),
        1 => Just(ErrorKind::TokenRejected),
        1 => Just(ErrorKind::Other),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let found = prop_oneof![Just(Found::Open), Just(Found::Settled)];
    prop_oneof![4 => found.prop_map(Outcome::Found), 3 => kind().prop_map(Outcome::Failed)]
}

fn step() -> impl Strategy<Value = Step> {
    let user = prop_oneof![8 => Just(0usize), 1 => Just(1), 1 => Just(2)];
    let session = prop::bool::weighted(0.95);
    let error = prop_oneof![
        6 => kind(),
        1 => Just(ErrorKind::Fatal(StopReason::RateLimited)),
        1 => Just(ErrorKind::Fatal(StopReason::ApiKey)),
    ];
    prop_oneof![
        12 => (user.clone(), outcome(), session)
            .prop_map(|(user, outcome, session)| Step::Check { user, outcome, session }),
        1 => user.prop_map(|user| Step::Claimed { user }),
        1 => error.prop_map(Step::Error),
    ]
}

fn error_of(kind: ErrorKind) -> CheckError {
    let circle = |status, code| response(status, code, None).into();
    match kind {
        ErrorKind::Fatal(StopReason::RateLimited) => circle(429, None),
        ErrorKind::Fatal(_) => circle(401, Some(CircleCode::API_KEY_INVALID)),
        ErrorKind::Outage => circle(503, None),
        ErrorKind::TableUnavailable => table_unavailable(),
        ErrorKind::NotFound => circle(404, Some(CircleCode::CHALLENGE_NOT_FOUND)),
        ErrorKind::TokenRejected => circle(401, Some(CircleCode::USER_TOKEN_NOT_FOUND)),
        ErrorKind::UnreadableItem | ErrorKind::Other => CheckError::NoStatus,
    }
}

/// The run in plain numbers.
#[derive(Default)]
struct Model {
    checks: HashMap<usize, u32>,
    /// Users whose session must not be replaced in this run.
    ended: Vec<usize>,
    circle_errors: u32,
    table_errors: u32,
    stopped: Option<StopReason>,
}

impl Model {
    fn permits(&mut self, user: usize) -> bool {
        let checks = self.checks.entry(user).or_default();
        let permits = self.stopped.is_none() && !self.ended.contains(&user) && *checks < 20;
        *checks += u32::from(permits);
        permits
    }

    fn error(&mut self, kind: ErrorKind) {
        self.circle_errors += u32::from(kind == ErrorKind::Outage);
        self.table_errors += u32::from(kind == ErrorKind::TableUnavailable);
        let stop = match kind {
            ErrorKind::Fatal(reason) => Some(reason),
            ErrorKind::Outage if self.circle_errors >= 3 => Some(StopReason::CircleUnavailable),
            ErrorKind::TableUnavailable if self.table_errors >= 3 => Some(StopReason::TableUnavailable),
            _ => None,
        };
        self.stopped = self.stopped.or(stop);
    }
}

#[test]
fn run_checks_no_user_more_than_20_times_and_stops_after_three_errors() {
    check(2_000, &prop::collection::vec(step(), 1..80), |steps| {
        let clock = AdjustableClock::frozen(NOON);
        let (mut ledger, mut model) = (Ledger::new(None, &clock), Model::default());
        let (mut checks, mut failed) = (0, 0);
        for step in steps {
            match step {
                Step::Check { user, outcome, session } => {
                    let id = format!("user-{user}").parse().unwrap();
                    let permit = ledger.begin_check(&id);
                    prop_assert_eq!(permit.is_some(), model.permits(user));
                    let Some(mut permit) = permit else { continue };
                    ledger.table_responded();
                    model.table_errors = 0;
                    let has_session = permit.token.is_some() || session;
                    if has_session && permit.token.is_none() {
                        permit.token = UserToken::parse("token");
                    }
                    let outcome = if has_session { outcome } else { Outcome::Failed(ErrorKind::Other) };
                    let result = match outcome {
                        Outcome::Found(found) => Ok(found),
                        Outcome::Failed(kind) => Err(kind),
                    };
                    ledger.end_check(&id, permit, result);
                    checks += 1;
                    if !has_session || result == Err(ErrorKind::TokenRejected) {
                        model.ended.push(user);
                    }
                    if matches!(result, Ok(_) | Err(ErrorKind::NotFound | ErrorKind::TableUnavailable)) {
                        model.circle_errors = 0;
                    }
                    if let Err(kind) = result
                        && kind != ErrorKind::NotFound
                    {
                        ledger.record_error(error_of(kind), &clock);
                        model.error(kind);
                        failed += 1;
                    }
                }
                Step::Claimed { user } => {
                    let permit = ledger.begin_check(&format!("user-{user}").parse().unwrap());
                    prop_assert_eq!(permit.is_some(), model.permits(user));
                }
                Step::Error(kind) => {
                    ledger.record_error(error_of(kind), &clock);
                    model.error(kind);
                    failed += 1;
                }
            }
            prop_assert_eq!(ledger.summary().stopped, model.stopped);
        }
        prop_assert_eq!((ledger.summary().checks, ledger.summary().failed), (checks, failed));
        Ok(())
    });
}

/// A run that comes to the challenge.
#[derive(Debug, Clone)]
struct Visit {
    outcome: Outcome,
    /// How long after the check was due, in minutes.
    late: u32,
    /// Whether another check has stopped the run meanwhile.
    run_has_stopped: bool,
    /// Whether most users' challenges are known, so that an unknown one may be lost.
    is_trusted: bool,
    /// When the user last got a session, in minutes before the check was due; negative after it.
    session: Option<i64>,
}

fn visit() -> impl Strategy<Value = Visit> {
    let unsettled = prop_oneof![
        2 => Just(Outcome::Found(Found::Open)),
        4 => kind().prop_map(Outcome::Failed),
        1 => Just(Outcome::Failed(ErrorKind::Fatal(StopReason::RateLimited))),
    ];
    let late = prop_oneof![9 => 0..6u32, 1 => 0..3_000u32];
    let session = prop::option::weighted(0.2, -90..90i64);
    (unsettled, late, prop::bool::weighted(0.2), any::<bool>(), session).prop_map(
        |(outcome, late, run_has_stopped, is_trusted, session)| Visit {
            outcome,
            late,
            run_has_stopped,
            is_trusted,
            session,
        },
    )
}

/// A spell in which the same happens again and again, as it does in an outage.
fn visits() -> impl Strategy<Value = Vec<Visit>> {
    let spell = (visit(), 1..30usize).prop_map(|(visit, times)| vec![visit; times]);
    let spells = prop::collection::vec(spell, 1..12).prop_map(|spells| spells.concat());
    let open = Visit {
        outcome: Outcome::Found(Found::Open),
        late: 0,
        run_has_stopped: false,
        is_trusted: true,
        session: None,
    };
    (0..20usize, spells).prop_map(move |(times, spells)| [vec![open.clone(); times], spells].concat())
}

#[test]
fn challenge_is_never_abandoned_unchecked_and_always_checked_again_in_time() {
    let minutes = 24 * 60..4 * 24 * 60u32;
    check(3_000, &(minutes, 0..=10u32, visits()), |(minutes, tenths, visits)| {
        let policy = Policy { abandon_after: MINUTE * minutes };
        let (mut now, mut responded_at, mut not_found) = (NOON, NOON, Vec::new());
        let mut due = NOON + Policy::next_wait(Duration::ZERO).0;
        for visit in visits {
            let first_due = due;
            now = now.max(due) + MINUTE * visit.late;
            let session = visit.session.map(|minutes| due - time::Duration::minutes(minutes));
            if let Some(until) = Policy::deferred_until(session, first_due, now) {
                prop_assert!(until > now && until <= first_due + 65 * MINUTE, "deferred until {until}");
                now = until;
                let again = Policy::deferred_until(Some(now), first_due, now);
                prop_assert!(again.is_none_or(|until| until <= first_due + 65 * MINUTE));
            }
            let age: Duration = (now - NOON).try_into().unwrap();
            let (wait, jitter) = Policy::next_wait(age);
            prop_assert!(wait >= 10 * MINUTE && wait + jitter <= 6 * HOUR + 36 * MINUTE);
            due = now + wait + jitter * tenths / 10;
            let since_checked = (now - responded_at).try_into().unwrap();
            let reason = match visit.outcome {
                Outcome::Found(_) => {
                    responded_at = now;
                    policy.abandon_open(age)
                }
                Outcome::Failed(ErrorKind::NotFound) => {
                    not_found.extend(visit.is_trusted.then_some(now));
                    let times: &[OffsetDateTime] = if visit.is_trusted { &not_found } else { &[] };
                    policy.abandon_not_found(times, age)
                }
                Outcome::Failed(kind) if policy.reschedules(kind, visit.run_has_stopped, age) => {
                    prop_assert_ne!(kind, ErrorKind::Other, "it would fail again at once");
                    due = now + RESCHEDULE_WAIT;
                    None
                }
                Outcome::Failed(kind) => policy.abandon_failed(kind, age, since_checked),
            };
            let kind = match visit.outcome {
                Outcome::Found(_) => None,
                Outcome::Failed(kind) => Some(kind),
            };
            let has_responded = matches!(kind, None | Some(ErrorKind::NotFound | ErrorKind::Other));
            let Some(reason) = reason else {
                // Circle has responded, and yet the challenge goes on: it is not old.
                prop_assert!(!has_responded || age < policy.abandon_after + DAY);
                continue;
            };
            prop_assert!(
                has_responded || now - responded_at <= DAY,
                "abandoned unchecked: {kind:?} at {age:?}"
            );
            match reason {
                AbandonReason::StillOpen => prop_assert!(kind.is_none() && age >= policy.abandon_after),
                AbandonReason::ChecksFailed => prop_assert!(age >= policy.abandon_after + DAY),
                AbandonReason::NotFound => {
                    prop_assert_eq!(kind, Some(ErrorKind::NotFound));
                    let is_lost = not_found.len() >= 3 && now - not_found[0] >= DAY && visit.is_trusted;
                    prop_assert!(is_lost || age >= policy.abandon_after);
                }
            }
            return Ok(());
        }
        Ok(())
    });
}
