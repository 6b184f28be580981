//! The life of a challenge as a model that is checked exhaustively: every order of its steps, within bounds.
//!
//! The rules are the service's own functions: `Status::replaces` and `Creation::on` for the record, `events` for the
//! announcement, `Policy` for abandonment. `shared/tests/it/transitions.rs` shows that the conditions of the writes in
//! DynamoDB say the same. `docs/proof.md` says what the model leaves out.

mod effects;
mod properties;
mod state;
mod steps;

use std::collections::BTreeSet;

use shared::challenge::Status;
use shared::clock::{Clock, SystemClock};
use stateright::{Checker, Expectation, Model};

use crate::steps::{Bug, Service};

const ALL: &[Status] = &[Status::InProgress, Status::Complete, Status::Failed, Status::Expired];

/// A retried request, webhooks, a poll and a fault.
const ARRIVAL: Service = Service {
    statuses: &[Status::Complete, Status::Failed],
    requests: 2,
    copies: 1,
    polls: 1,
    faults: 1,
    checks_at_once: 0,
    resumes: 0,
    deferrals: 0,
    abandon_after_days: 1,
    bug: None,
};

/// Each webhook twice, and every status.
const WEBHOOKS: Service =
    Service { statuses: ALL, requests: 1, copies: 2, polls: 0, faults: 0, checks_at_once: 0, ..ARRIVAL };

/// Days of checks, and an operator.
const RECONCILIATION: Service = Service { requests: 1, polls: 0, checks_at_once: 1, resumes: 1, ..ARRIVAL };

/// A user who begins, and polls, and never ends.
const WALKED_AWAY: Service = Service { statuses: &[Status::InProgress], polls: 1, ..RECONCILIATION };

/// A check that a later one overtakes.
const OVERTAKEN: Service =
    Service { statuses: &[Status::Complete], checks_at_once: 2, faults: 1, resumes: 0, ..RECONCILIATION };

/// Bounds that take minutes.
const LARGE: [(&str, Service); 3] = [
    ("arrival", Service { statuses: ALL, faults: 2, ..ARRIVAL }),
    ("reconciliation", Service { faults: 2, deferrals: 1, ..RECONCILIATION }),
    ("overtaken checks", Service { faults: 2, abandon_after_days: 2, ..OVERTAKEN }),
];

/// Checks every state of these models. Prints their number and the longest way to one.
fn check(models: &[(&str, Service)]) {
    let mut shown = BTreeSet::new();
    let mut properties = Vec::new();
    for (name, model) in models {
        let started = SystemClock.monotonic();
        let checker = model.clone().checker().threads(2).spawn_bfs().join();
        let taken = SystemClock.monotonic() - started;
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        println!("{name}: {states} states, depth {depth}, {:.1} s", taken.as_secs_f64());
        properties = checker.model().properties();
        for property in &properties {
            match (checker.discovery(property.name), &property.expectation) {
                (Some(path), Expectation::Always) => {
                    panic!("{name}: not so: {}, after {:#?}", property.name, path.into_actions())
                }
                (Some(_), _) => _ = shown.insert(property.name),
                (None, _) => {}
            }
        }
    }
    let expected = properties.iter().filter(|property| property.expectation == Expectation::Sometimes);
    let missing: Vec<_> =
        expected.map(|property| property.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "no run shows that {missing:?}");
}

#[test]
fn every_order_of_steps_keeps_the_invariants() {
    check(&[
        ("arrival", ARRIVAL),
        ("webhooks", WEBHOOKS),
        ("reconciliation", RECONCILIATION),
        ("walked away", WALKED_AWAY),
        ("overtaken checks", OVERTAKEN),
    ]);
}

#[test]
#[ignore = "takes minutes"]
fn every_order_of_steps_within_large_bounds_keeps_the_invariants() {
    let small = [("webhooks", WEBHOOKS)];
    check(&[&LARGE[..], &small].concat());
}

/// Each mistake, the shortest way on which it shows, and the property that it breaks.
#[test]
fn planted_bugs_are_found() {
    for (bug, model, length, property) in [
        (
            Bug::ApplyWithoutCondition,
            ARRIVAL,
            3,
            "the rank never falls, and FAILED and EXPIRED change only to COMPLETE",
        ),
        (Bug::FailureIsLast, ARRIVAL, 4, "a COMPLETE is never lost"),
        (Bug::AcknowledgeBeforeStoring, ARRIVAL, 2, "a COMPLETE is never lost"),
        (Bug::NoCreationOfSettled, ARRIVAL, 4, "a caller who has a challenge can read it"),
        (
            Bug::RecordBeforeCircle,
            ARRIVAL,
            1,
            "callers see only challenges that Circle made and a caller requested",
        ),
        (
            Bug::SkipFailedEvents,
            ARRIVAL,
            6,
            "in the end, a request and its ending are announced, the newest last",
        ),
        (
            Bug::AbandonUnchecked,
            RECONCILIATION,
            7,
            "no challenge is abandoned without word from Circle within a day",
        ),
        (Bug::AbandonWithoutCondition, RECONCILIATION, 8, "no settled challenge is abandoned"),
        (
            Bug::ResumeWithoutIndex,
            RECONCILIATION,
            7,
            "reconciliation lists exactly the requested challenges that are open",
        ),
        (Bug::ForgetResponse, RECONCILIATION, 3, "without more faults, everything comes to its end"),
    ] {
        let model = Service { bug: Some(bug), ..model };
        let found = (1..20).find_map(|depth| {
            let checker = model.clone().checker().target_max_depth(depth).spawn_bfs().join();
            checker.discovery(property).map(|path| path.into_actions())
        });
        let steps = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        println!("{bug:?} after {} steps: {steps:?}", steps.len());
        assert_eq!(steps.len(), length, "{bug:?}");
    }
}
