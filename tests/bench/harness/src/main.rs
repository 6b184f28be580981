//! Measures the functions of circle-pin-reset and their peers as Lambda runs them. See the README of this workspace.

mod canned;
mod cpu_share;
mod floor;
#[cfg(feature = "growth")]
mod growth;
mod instructions;
mod lambda;
mod load;
mod measure;
mod operations;
#[cfg(feature = "growth")]
mod records;
mod report;
mod statistics;
mod subject;
mod table;
#[cfg(feature = "growth")]
mod tables;
mod upstreams;

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::{Args, Parser};

use crate::canned::{Canned, Signer};
use crate::cpu_share::CpuShare;
use crate::measure::Conditions;
use crate::operations::Operation;
use crate::report::{Machine, Report, Series};
use crate::subject::{Implementation, Places, Subject};
use crate::upstreams::Upstreams;

const FULL_SPEED: Conditions = Conditions { memory_mb: None, delay_ms: 0 };

#[derive(Debug, Parser)]
enum Command {
    /// Measures the functions and their peers as Lambda runs them, prints tables, and writes JSON
    #[command(override_usage = "tests/bench/run [OPTIONS]")]
    Measure(Measure),
    /// Counts the instructions of the hot paths, and compares them with the baseline
    #[command(override_usage = "tests/bench/instructions [OPTIONS]")]
    Instructions(Instructions),
    /// Lets many users reset their PINs at once, and checks that nothing is lost and nothing grows
    #[command(override_usage = "tests/bench/load [OPTIONS]")]
    Load(load::Load),
    /// Measures the functions while the table of challenges grows, prints a table, and writes JSON
    #[cfg(feature = "growth")]
    #[command(override_usage = "tests/bench/growth [OPTIONS]")]
    Growth(growth::Growth),
}

#[derive(Debug, Args)]
struct Measure {
    /// How often each function is started under each condition; the figures are medians
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// One short run, to see whether everything works
    #[arg(long)]
    quick: bool,
    /// Measures only this function
    #[arg(long, value_name = "FUNCTION")]
    only: Option<Operation>,
    /// Measures only these implementations, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "IMPLEMENTATIONS")]
    implementations: Vec<Implementation>,
    /// Measures only at full speed with upstreams that respond at once
    #[arg(long)]
    full_speed: bool,
    /// The folder with the release binaries of the functions, as NAME or NAME/bootstrap; without it they are built
    #[arg(long, value_name = "DIR")]
    bin_dir: PathBuf,
    /// Builds all functions from nothing and measures how long that takes (an option of the script)
    #[arg(long)]
    build_time: bool,
    /// How long the functions took to build from nothing, in seconds
    #[arg(long, value_name = "SECONDS", hide = true)]
    build_seconds: Option<u64>,
    /// The folder with the binaries `plain` and `floor`
    #[arg(long, value_name = "DIR", hide = true)]
    peers_dir: PathBuf,
    /// The program `node`
    #[arg(long, value_name = "PROGRAM", hide = true)]
    node: PathBuf,
    /// The folder with the bundles for Node.js
    #[arg(long, value_name = "DIR", hide = true)]
    bundles_dir: PathBuf,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// A folder for temporary files
    #[arg(long, value_name = "DIR", hide = true)]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct Instructions {
    /// The folder with the binaries of the functions, as NAME or NAME/bootstrap; without it they are built
    #[arg(long, value_name = "DIR")]
    bin_dir: PathBuf,
    /// Writes the counts to the baseline
    #[arg(long)]
    update: bool,
    /// The baseline
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,
    /// A folder for temporary files
    #[arg(long, value_name = "DIR", hide = true)]
    folder: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let signer = Signer::new();
    match Command::parse() {
        Command::Measure(options) => {
            std::fs::create_dir_all(&options.folder)?;
            let upstreams = Upstreams::start(&options.folder, Canned::new(&signer)).await?;
            measure(&options, &upstreams, &signer).await
        }
        Command::Instructions(options) => {
            std::fs::create_dir_all(&options.folder)?;
            let upstreams = Upstreams::start(&options.folder, Canned::new(&signer)).await?;
            let places = Places { functions: options.bin_dir, ..Places::default() };
            let (folder, baseline) = (&options.folder, &options.baseline);
            instructions::check(&places, &upstreams, &signer, folder, baseline, options.update).await
        }
        Command::Load(options) => load::run(&options).await,
        #[cfg(feature = "growth")]
        Command::Growth(options) => growth::measure(&options, &signer).await,
    }
}

async fn measure(options: &Measure, upstreams: &Upstreams, signer: &Signer) -> Result<()> {
    let machine = Machine::read();
    let no_shares = CpuShare::of_memory(128).err().map(|error| format!("{error:#}"));
    let conditions = conditions(options, no_shares.is_none());
    let (runs, warm_calls) = if options.quick { (1, 20) } else { (options.runs.max(1), 500) };
    let mut all = Vec::new();
    for subject in subjects(options, upstreams)? {
        for &conditions in &conditions {
            // The floor calls no upstream, and a part of a path is only of interest for its CPU time.
            let is_floor = subject.implementation == Implementation::Floor;
            let is_part = Operation::PARTS.contains(&subject.operation);
            // Beside the peers, the small sizes are of interest; the large one is for the cost.
            let is_for_cost =
                conditions.memory_mb == Some(1024) && subject.implementation != Implementation::Ours;
            if conditions == FULL_SPEED || !(is_part || is_for_cost || is_floor && conditions.delay_ms > 0) {
                all.push((Rc::clone(&subject), Series::new(&subject, conditions)));
            }
        }
    }
    // Each round measures everything once, so that a disturbance does not spoil all runs of one function.
    for round in 1..=runs {
        for (subject, series) in &mut all {
            eprintln!("round {round} of {runs}: {}", series.title());
            let log = options.folder.join("function.log");
            let warm_calls = if series.conditions.delay_ms > 0 { warm_calls.min(50) } else { warm_calls };
            let run = measure::run(subject, series.conditions, warm_calls, upstreams, signer, &log).await;
            series.runs.push(run.with_context(|| series.title())?);
        }
    }
    let floor = floor::measure(upstreams, signer).await?;
    let series = all.into_iter().map(|(_, series)| series).collect();
    let report = Report::new(machine, runs, options.build_seconds, no_shares, floor, series);
    std::fs::write(&options.json, serde_json::to_vec_pretty(&report)?)?;
    println!("{}", report.text());
    println!("All figures: {}", options.json.display());
    Ok(())
}

fn subjects(options: &Measure, upstreams: &Upstreams) -> Result<Vec<Rc<Subject>>> {
    let places = Places {
        functions: options.bin_dir.clone(),
        peers: options.peers_dir.clone(),
        node: options.node.clone(),
        bundles: options.bundles_dir.clone(),
    };
    let mut subjects = Vec::new();
    for implementation in Implementation::ALL {
        if !options.implementations.contains(&implementation) {
            continue;
        }
        for operation in Operation::FUNCTIONS.into_iter().chain(Operation::PARTS) {
            let is_measured = match implementation {
                Implementation::Ours => true,
                Implementation::PlainRust | Implementation::Node => operation.is_of_peers(),
                // An event of a usual size.
                Implementation::Floor => operation == Operation::CreateToken,
            };
            let is_wanted = implementation == Implementation::Floor
                || options.only.is_none_or(|wanted| wanted.function() == operation.function());
            if is_measured && is_wanted {
                subjects.push(Rc::new(Subject::new(implementation, operation, &places, upstreams)?));
            }
        }
    }
    Ok(subjects)
}

fn conditions(options: &Measure, has_shares: bool) -> Vec<Conditions> {
    let mut conditions = vec![FULL_SPEED];
    if options.full_speed {
        return conditions;
    }
    conditions.push(Conditions { delay_ms: 20, ..FULL_SPEED });
    if has_shares {
        let sizes: &[u32] = if options.quick { &[128] } else { &[128, 256, 512, 1024] };
        conditions.extend(sizes.iter().map(|&size| Conditions { memory_mb: Some(size), ..FULL_SPEED }));
    }
    conditions
}
