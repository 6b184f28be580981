//! Properties that hold for any input. `PROPTEST_CASES` sets the number of cases of each, and `PROPTEST_RNG_SEED` the seed.

/// Derived idempotency keys.
mod idempotency;
/// The cache of public keys, against a model.
mod key_cache;
/// Problem documents.
mod problems;
/// The limit on calls, against a model.
mod rate_limit;
/// Statuses and reports in webhooks.
mod reports;

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};

/// Tries a property on `cases` inputs, the same ones in every run.
fn check<S: Strategy<Value: Debug>>(cases: u32, inputs: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    // Reads proptest's variables. Without them, it has 256 cases and a random seed.
    let asked = ProptestConfig::default();
    let cases = if asked.cases == 256 { cases } else { asked.cases };
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    let config = ProptestConfig { cases, rng_seed, failure_persistence: None, ..asked };
    TestRunner::new(config).run(inputs, property).unwrap_or_else(|error| panic!("{error}"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
