//! Coverage-guided fuzzing of the functions. `run` builds this with the instrumentation of LLVM, and runs one target at a
//! time: the one that the variable `FUZZ_TARGET` names.
//!
//! The functions, the HTTP client and the AWS SDK are the real ones. Circle and AWS are one server in this process
//! ([`server`]); an input says what they respond ([`script`]). Time passes only while everything waits ([`clock`]).

#![no_main]

mod api;
mod clock;
mod openapi;
mod script;
mod server;
mod targets;
mod world;

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus { targets::run(input) });
