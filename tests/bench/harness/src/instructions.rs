//! Instructions of the hot paths, counted by Valgrind. Unlike times they hardly depend on the machine and on what else it
//! does, so a change of a few per cent is a change of the code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::canned::Signer;
use crate::lambda::{Program, Sandbox};
use crate::operations::{Operation, Target};
use crate::subject::{Implementation, Places, Subject};
use crate::table::Table;
use crate::upstreams::Upstreams;

/// How much a count may grow without a change of the baseline.
const TOLERANCE: f64 = 0.05;

/// The invocations over which a count of one is averaged.
const WARM_CALLS: u64 = 40;

const ATTEMPTS: u32 = 4;

/// The instructions of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// From the start of the process to its second poll for an event.
    cold: u64,
    /// Of one later invocation.
    warm: u64,
}

/// The committed counts. They hold for one compiler: another one makes other instructions of the same code.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    /// By the name of the operation.
    operations: BTreeMap<String, Counts>,
}

/// Counts the instructions of every operation, prints a table, and compares it with a baseline.
///
/// # Errors
/// If a count has grown by more than the tolerance, or the baseline lacks an operation.
pub(crate) async fn check(
    places: &Places,
    upstreams: &Upstreams,
    signer: &Signer,
    folder: &Path,
    file: &Path,
    is_update: bool,
) -> Result<()> {
    let known: Baseline = match std::fs::read(file) {
        Ok(json) => {
            serde_json::from_slice(&json).with_context(|| format!("cannot read {}", file.display()))?
        }
        Err(_) => Baseline::default(),
    };
    let mut counted = Baseline { rustc: rustc()?, operations: BTreeMap::new() };
    let mut table = Table::new(&["instructions", "cold", "baseline", "change", "warm", "baseline", "change"]);
    let (mut grown, mut shrunk) = (Vec::new(), Vec::new());
    for operation in Operation::FUNCTIONS.into_iter().chain(Operation::PARTS) {
        let subject = Subject::new(Implementation::Ours, operation, places, upstreams)?;
        let counts = count(&subject, upstreams, signer, folder).await.with_context(|| subject.name())?;
        let known = known.operations.get(operation.name());
        let change =
            |new: u64, old: fn(&Counts) -> u64| known.map(|counts| new as f64 / old(counts) as f64 - 1.0);
        let changes = [change(counts.cold, |counts| counts.cold), change(counts.warm, |counts| counts.warm)];
        if changes.iter().any(|change| change.is_none_or(|change| change > TOLERANCE)) {
            grown.push(operation.name());
        }
        if changes.iter().flatten().any(|&change| change < -TOLERANCE) {
            shrunk.push(operation.name());
        }
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let percent = |change: Option<f64>| change.map_or("-".to_owned(), |c| format!("{:+.2} %", c * 100.0));
        table.row([
            operation.name().to_owned(),
            number(Some(counts.cold)),
            number(known.map(|counts| counts.cold)),
            percent(changes[0]),
            number(Some(counts.warm)),
            number(known.map(|counts| counts.warm)),
            percent(changes[1]),
        ]);
        counted.operations.insert(operation.name().to_owned(), counts);
    }
    println!("{}", table.text());
    if is_update {
        std::fs::write(file, serde_json::to_string_pretty(&counted)? + "\n")?;
        println!("The baseline is now {}", file.display());
        return Ok(());
    }
    if counted.rustc != known.rustc {
        println!(
            "The baseline is of {}, and this is {}. The counts are compared, but may differ.\n",
            known.rustc, counted.rustc
        );
        grown.clear();
    }
    ensure!(
        grown.is_empty(),
        "more than {} % above the baseline, or not in it: {}. If that is meant, run tests/bench/instructions --update",
        TOLERANCE * 100.0,
        grown.join(", ")
    );
    if !shrunk.is_empty() {
        println!(
            "The baseline can be lowered for {}: tests/bench/instructions --update\n",
            shrunk.join(", ")
        );
    }
    println!("{} passed, 0 failed", counted.operations.len());
    Ok(())
}

/// The compiler by its version, such as `rustc 1.95.0`.
fn rustc() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("rustc cannot be started")?;
    let version = String::from_utf8(output.stdout)?;
    Ok(version.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// The counts of a function that met no timeout. Valgrind makes a function so slow that a busy machine can lead to one; the
/// retry then calls an upstream once more.
async fn count(subject: &Subject, upstreams: &Upstreams, signer: &Signer, folder: &Path) -> Result<Counts> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let counted = async {
            let cold = instructions(subject, 1, upstreams, signer, folder).await?;
            let all = instructions(subject, 1 + WARM_CALLS, upstreams, signer, folder).await?;
            ensure!(cold.upstream_events == all.upstream_events, "the function repeated a call");
            Ok(Counts {
                cold: cold.instructions,
                warm: all.instructions.saturating_sub(cold.instructions) / WARM_CALLS,
            })
        };
        match counted.await {
            Err(error) if attempts < ATTEMPTS => eprintln!("{}, once more: {error:#}", subject.name()),
            result => return result,
        }
    }
}

/// A process from its start to its end.
struct Counted {
    instructions: u64,
    /// What the upstreams saw until the first response.
    upstream_events: usize,
}

/// Counts the instructions of a process that responds to so many events.
async fn instructions(
    subject: &Subject,
    calls: u64,
    upstreams: &Upstreams,
    signer: &Signer,
    folder: &Path,
) -> Result<Counted> {
    let profile = folder.join("callgrind.out");
    let mut output = OsString::from("--callgrind-out-file=");
    output.push(&profile);
    let program = Program {
        path: PathBuf::from("valgrind"),
        arguments: vec!["--tool=callgrind".into(), output, subject.program.path.clone().into()],
        environment: subject.program.environment.clone(),
    };
    upstreams.sightings.take();
    let mut sandbox = Sandbox::start(&program, &folder.join("function.log")).await?;
    let target = Target::default();
    sandbox.invoke(subject.operation.event(signer, &target), subject.status).await?;
    let upstream_events = upstreams.sightings.take().len();
    for _ in 1..calls {
        sandbox.invoke(subject.operation.event(signer, &target), subject.status).await?;
    }
    sandbox.stop().await?;
    let text = std::fs::read_to_string(&profile).context("Valgrind wrote no profile")?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ")).context("the profile has no total")?;
    Ok(Counted { instructions: total.trim().parse().context("the total is not a number")?, upstream_events })
}
