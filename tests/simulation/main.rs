//! Simulated disasters: the real functions, their clients and the local stack, under one seed that decides about time,
//! faults and order. `docs/proof.md` says what is simulated and how to run more of it.
//!
//! Every request waits in `network` until the scheduler (`steps`) responds to it or makes it fail, and every sleep waits in
//! `time` until the scheduler wakes it. A step happens only when everything waits, so the same seed gives the same run.
//! In the end (`ending`) nothing goes wrong any more, time passes, and `checks` compares the records and the events with
//! what happened at Circle.

mod calls;
mod checks;
mod choices;
mod ending;
mod faults;
mod invocations;
mod network;
mod outsiders;
mod people;
mod plan;
mod records;
mod sandbox;
mod shrink;
mod steps;
mod time;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use shared::clock::{Clock, SystemClock};

use crate::choices::Choices;
use crate::world::World;

/// How many seeds `cargo test` runs.
const SEEDS: u64 = 300;

/// With at least this many seeds, everything in [`HAPPENINGS`] has to happen.
const ENOUGH: u64 = 1000;

/// How many runs shrinking may take.
const TRIES: u64 = 600;

/// The stack of a thread that runs seeds: a call through the AWS SDK needs much of it.
const STACK: usize = 16 << 20;

/// What has to happen in some run.
const HAPPENINGS: [&str; 46] = [
    "API flooded",
    "API key replaced",
    "COMPLETE after a failure",
    "Circle: 429",
    "Circle: 4xx",
    "Circle: 5xx after the effect",
    "Circle: 5xx without effect",
    "Circle: connection reset after the effect",
    "Circle: connection reset without effect",
    "Circle: garbage",
    "Circle's own 429",
    "DynamoDB: connection reset after the effect",
    "DynamoDB: connection reset before the effect",
    "DynamoDB: failed after the effect",
    "DynamoDB: failed before the effect",
    "DynamoDB: throttled",
    "PIN locked",
    "Secrets Manager failed",
    "any record read",
    "batch of the stream repeated",
    "batch of the stream split",
    "call at its time limit",
    "challenge of another app",
    "challenge read by a stranger",
    "challenges resumed",
    "event bus failed",
    "events accepted in part",
    "key of another request",
    "process frozen",
    "process killed",
    "recovery with an old sign-in",
    "request beyond the user's limit",
    "response to a webhook lost",
    "runs of reconciliation overlapped",
    "security answers locked",
    "signing key replaced",
    "user walked away",
    "users came back",
    "wall clock jumped",
    "webhook forged",
    "webhook late",
    "webhook lost",
    "webhook lost for ever",
    "webhook of another Circle account",
    "webhook overtaken",
    "webhook repeated",
];

/// What a run did.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    choices: Vec<u32>,
    trace: Vec<String>,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

/// Makes a run.
fn run(seed: u64, choices: Choices) -> Report {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = World::start(seed, choices).await;
        world.live().await;
        world.end().await;
        Report {
            choices: world.choices.into_taken(),
            trace: world.trace,
            violations: world.violations,
            counts: world.counts,
        }
    })
}

/// A variable of the environment.
#[expect(clippy::disallowed_methods, reason = "the settings of the search are not the service's")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable that is a whole number.
fn number(name: &str) -> Option<u64> {
    Some(variable(name)?.parse().unwrap_or_else(|_| panic!("{name} must be a whole number")))
}

/// Does work on a thread with a large stack.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `SEEDS` and `FIRST_SEED` say which seeds, and `TRIES` how many runs may be made to shrink one that fails. `SEED` alone
/// prints the run of one, and `CHOICES` replaces its choices.
#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(seed) = number("SEED") {
        let choices = variable("CHOICES").map(|choices| {
            let given = choices.split(',').filter(|choice| !choice.is_empty());
            given.map(|choice| choice.parse().expect("CHOICES must be whole numbers")).collect()
        });
        let report =
            on_thread(|| run(seed, choices.map_or_else(|| Choices::from_seed(seed), Choices::given)));
        println!("{}", report.trace.join("\n"));
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        return;
    }
    let (first, count) = (number("FIRST_SEED").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64).min(count);
    let (next, longest) = (AtomicU64::new(first), Mutex::new((Duration::ZERO, 0)));
    let (counts, steps) = (Mutex::new(BTreeMap::new()), AtomicU64::new(0));
    let started = SystemClock.monotonic();
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            if seed > first && (seed - first).is_multiple_of(10_000) {
                println!("{} seeds", seed - first);
            }
            let before = SystemClock.monotonic();
            let report = std::panic::catch_unwind(|| run(seed, Choices::from_seed(seed)));
            let report = report.unwrap_or_else(|panic| {
                println!("seed {seed} panics");
                std::panic::resume_unwind(panic)
            });
            let took = SystemClock.monotonic() - before;
            let mut longest = longest.lock().unwrap();
            *longest = (*longest).max((took, seed));
            drop(longest);
            steps.fetch_add(report.trace.len() as u64, Ordering::Relaxed);
            for (what, times) in &report.counts {
                *counts.lock().unwrap().entry(*what).or_insert(0) += times;
            }
            if !report.violations.is_empty() {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                explain(seed, report);
            }
        }
    };
    thread::scope(|scope| {
        let searches: Vec<_> = (0..threads)
            .map(|_| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, search).unwrap())
            .collect();
        for search in searches {
            search.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let took = SystemClock.monotonic() - started;
    let (counts, (longest, slowest)) = (counts.into_inner().unwrap(), longest.into_inner().unwrap());
    println!("seeds {first} to {}: no invariant broken", first + count - 1);
    println!(
        "{} events in {:.0} s: {:.1} ms a run on each of {threads} threads, the longest {} ms (seed {slowest})",
        steps.into_inner(),
        took.as_secs_f64(),
        took.as_secs_f64() * 1000.0 * threads as f64 / count as f64,
        longest.as_millis(),
    );
    for (what, times) in &counts {
        println!("{times:>9} {what}");
    }
    if count >= ENOUGH {
        let missing: Vec<&str> = HAPPENINGS.into_iter().filter(|what| !counts.contains_key(what)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

/// The rule that a violation is about: its text without ids, numbers and names.
fn rule_of(violation: &str) -> String {
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    violation.split(' ').filter(is_word).collect()
}

/// Shrinks a failing run, and fails with what is left of it.
fn explain(seed: u64, report: Report) {
    println!("seed {seed} breaks an invariant: {}", report.violations[0]);
    let rule = rule_of(&report.violations[0]);
    let choices = shrink::shrink(report.choices, number("TRIES").unwrap_or(TRIES), |choices| {
        let violations = run(seed, Choices::given(choices.to_vec())).violations;
        violations.iter().any(|violation| rule_of(violation) == rule)
    });
    let report = run(seed, Choices::given(choices));
    let choices: Vec<String> = report.choices.iter().map(u32::to_string).collect();
    panic!(
        "seed {seed}: {}\n{}\nReplay it with: SEED={seed} CHOICES={} cargo test -p tests --test simulation no_seed -- --nocapture",
        report.violations.first().map_or("the shrunk run breaks nothing", String::as_str),
        report.trace.join("\n"),
        choices.join(","),
    );
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in 1000..1010 {
        let [first, second] = [(); 2].map(|()| on_thread(|| run(seed, Choices::from_seed(seed))));
        assert_eq!(first.trace.join("\n"), second.trace.join("\n"), "seed {seed}");
        assert_eq!(first, second);
        // The choices that a seed made are enough to make its run again.
        let replayed = on_thread(|| run(seed, Choices::given(first.choices.clone())));
        assert_eq!(first, replayed);
    }
}

#[test]
fn seeds_differ() {
    let [first, second] = [1, 2].map(|seed| on_thread(|| run(seed, Choices::from_seed(seed)).trace));
    assert_ne!(first, second);
}
