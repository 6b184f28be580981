//! Whether the operations get slower, or make more table calls, as the table of challenges grows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::canned::{Canned, Signer};
use crate::lambda::Sandbox;
use crate::measure::{Seen, milliseconds};
use crate::operations::{Operation, Target};
use crate::records::{RECORDS_OF_A_USER, challenge_id, open, record, settled};
use crate::report::{Machine, commit};
use crate::statistics::percentile;
use crate::subject::{Implementation, Places, Subject};
use crate::table::Table;
use crate::tables::Tables;
use crate::upstreams::Upstreams;

const OPERATIONS: [Operation; 7] = [
    Operation::CreateToken,
    Operation::CreateChallenge,
    Operation::GetChallenge,
    Operation::ListChallenges,
    Operation::GetPin,
    Operation::ReceiveWebhook,
    Operation::Reconcile,
];

/// Invocations that are not counted.
const WARM_UP: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Growth {
    /// How many records the table of challenges has, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "0,100000,1000000", value_name = "NUMBERS")]
    records: Vec<u64>,
    /// How many invocations of each operation are measured
    #[arg(long, default_value_t = 300)]
    calls: usize,
    /// The folder with the release binaries of the functions, as NAME or NAME/bootstrap; without it they are built
    #[arg(long, value_name = "DIR")]
    bin_dir: PathBuf,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// A folder for temporary files, such as the database
    #[arg(long, value_name = "DIR", hide = true)]
    folder: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    date: String,
    machine: Machine,
    commit: String,
    calls: usize,
    sizes: Vec<Size>,
}

/// The figures with so many records. Times are in milliseconds.
#[derive(Debug, Serialize)]
struct Size {
    records: u64,
    /// The size of the database, in MB.
    database_mb: f64,
    /// One `GetItem` of a random record, without the function and without HTTP; the median.
    get_item: f64,
    operations: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    operation: Operation,
    /// From an event to its response.
    p50: f64,
    p99: f64,
    /// The part of it that the database took; the median.
    database: f64,
    /// On average for each invocation.
    table_calls: f64,
}

pub(crate) async fn measure(options: &Growth, signer: &Signer) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let mut report = Report {
        date: now.replace_nanosecond(0)?.format(&Rfc3339)?,
        machine: Machine::read(),
        commit: commit(),
        calls: options.calls,
        sizes: Vec::new(),
    };
    for &records in &options.records {
        report.sizes.push(size(records, options, signer).await?);
    }
    std::fs::write(&options.json, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{}", report.text());
    println!("All figures: {}", options.json.display());
    Ok(())
}

/// Measures with a new database.
async fn size(records: u64, options: &Growth, signer: &Signer) -> Result<Size> {
    let folder = new_folder(&options.folder)?;
    let tables = Arc::new(Tables::create(&folder.join("dynamodb"))?);
    let now = OffsetDateTime::now_utc();
    // The callers' own challenges come first, so that they are spread over the file's pages as others are.
    let callers: Vec<Target> = (0..2 * (options.calls + WARM_UP))
        .map(|number| Target {
            user: format!("caller-{number:05}"),
            challenge: challenge_id(u64::MAX - number as u64),
        })
        .collect();
    tables.import(callers.iter().map(|caller| open(&caller.challenge, &caller.user, now)))?;
    let earlier = |number: usize, caller: &Target| -> Vec<Value> {
        (1..RECORDS_OF_A_USER)
            .map(|day| {
                let id = challenge_id(u64::MAX / 2 + number as u64 * RECORDS_OF_A_USER + day);
                settled(&id, &caller.user, now - time::Duration::days(day as i64))
            })
            .collect()
    };
    tables.import(callers.iter().enumerate().flat_map(|(number, caller)| earlier(number, caller)))?;
    let began = Instant::now();
    tables.import((0..records).map(|number| record(number, now)))?;
    eprintln!("{records} records: imported in {:.0} s", began.elapsed().as_secs_f64());

    let mut canned = Canned::new(signer);
    let responding = Arc::clone(&tables);
    canned.tables = Some(Box::new(move |operation, body| responding.respond(operation, body)));
    let upstreams = Upstreams::start(&options.folder, canned).await?;
    let places = Places { functions: options.bin_dir.clone(), ..Places::default() };
    let mut operations = Vec::new();
    for operation in OPERATIONS {
        eprintln!("{records} records: {}", operation.name());
        let subject = Subject::new(Implementation::Ours, operation, &places, &upstreams)?;
        let targets: Vec<Target> = match operation {
            // Two operations change an open challenge, each half of them.
            Operation::ReceiveWebhook => callers[callers.len() / 2..].to_vec(),
            Operation::GetChallenge | Operation::ListChallenges => callers[..callers.len() / 2].to_vec(),
            // A user who has not called before, so that no limit is met.
            _ => (0..options.calls + WARM_UP)
                .map(|number| Target {
                    user: format!("{}-{number:05}", operation.name()),
                    ..Target::default()
                })
                .collect(),
        };
        let log = options.folder.join("function.log");
        let measured = run(&subject, &targets, &tables, &upstreams, signer, &log).await;
        operations.push(measured.with_context(|| subject.name())?);
    }
    let ids: Vec<String> = match records {
        0 => callers.iter().map(|caller| caller.challenge.clone()).collect(),
        _ => (0..500).map(|number| challenge_id(number * 7919 % records)).collect(),
    };
    let size = Size {
        records,
        database_mb: tables.size()? as f64 / 1e6,
        get_item: median_time(&ids, |id| tables.get_item(id))?,
        operations,
    };
    std::fs::remove_dir_all(folder)?;
    Ok(size)
}

/// Invokes a function once for each target.
async fn run(
    subject: &Subject,
    targets: &[Target],
    tables: &Tables,
    upstreams: &Upstreams,
    signer: &Signer,
    log: &Path,
) -> Result<Measured> {
    let mut sandbox = Sandbox::start(&subject.program, log).await?;
    let (mut times, mut database) = (Vec::new(), Vec::new());
    for (number, target) in targets.iter().enumerate() {
        if number == WARM_UP {
            upstreams.sightings.take();
        }
        tables.take_busy();
        let time = sandbox.invoke(subject.operation.event(signer, target), subject.status).await?;
        if number >= WARM_UP {
            times.push(milliseconds(time));
            database.push(milliseconds(tables.take_busy()));
        }
    }
    let seen = Seen::of(&upstreams.sightings.take(), times.len() as f64);
    sandbox.stop().await?;
    Ok(Measured {
        operation: subject.operation,
        p50: percentile(times.clone(), 0.5),
        p99: percentile(times, 0.99),
        database: percentile(database, 0.5),
        table_calls: seen.table_calls,
    })
}

/// The median time of a call, in milliseconds.
fn median_time(ids: &[String], call: impl Fn(&str) -> (u16, String)) -> Result<f64> {
    let mut times = Vec::new();
    for id in ids {
        let began = Instant::now();
        let (status, body) = call(id);
        times.push(milliseconds(began.elapsed()));
        ensure!(status == 200, "the database responded with {status}: {body}");
    }
    Ok(percentile(times, 0.5))
}

/// A new, empty folder for a database.
fn new_folder(folder: &Path) -> Result<PathBuf> {
    let folder = folder.join("database");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl Report {
    fn text(&self) -> String {
        let mut table = Table::new(&["", "records", "p50", "p99", "in the database", "table calls"]);
        for (index, operation) in OPERATIONS.iter().enumerate() {
            for size in &self.sizes {
                let measured = &size.operations[index];
                table.row([
                    operation.name().to_owned(),
                    size.records.to_string(),
                    format!("{:.2}", measured.p50),
                    format!("{:.2}", measured.p99),
                    format!("{:.2}", measured.database),
                    format!("{:.2}", measured.table_calls),
                ]);
            }
        }
        let mut text = table.text();
        for size in &self.sizes {
            text += &format!(
                "\n{} records, {:.0} MB: one GetItem takes {:.3} ms",
                size.records, size.database_mb, size.get_item
            );
        }
        text
    }
}
