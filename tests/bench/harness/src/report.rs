//! The figures of all runs, as JSON and as text.

use std::fmt::Write;
use std::process::Command;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::floor::Floor;
use crate::measure::{Conditions, Run, Seen};
use crate::operations::Operation;
use crate::statistics::{median, percentile};
use crate::subject::{Implementation, Subject};
use crate::table::Table;

/// All runs of one function under the same conditions.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) implementation: Implementation,
    pub(crate) operation: Operation,
    #[serde(skip)]
    name: String,
    #[serde(flatten)]
    pub(crate) conditions: Conditions,
    /// In bytes.
    size: u64,
    zipped_size: u64,
    pub(crate) runs: Vec<Run>,
}

/// Medians over the runs, in milliseconds and MB.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    init: f64,
    init_cpu: f64,
    first: f64,
    first_cpu: f64,
    /// The sum of `init` and `first`.
    cold: f64,
    warm_p50: f64,
    warm_p99: f64,
    warm_cpu: f64,
    memory: f64,
    /// When the function first connected to an upstream, since the start of its process.
    first_connection: f64,
    during_init: Seen,
    during_first: Seen,
    during_warm: Seen,
}

impl Series {
    pub(crate) fn new(subject: &Subject, conditions: Conditions) -> Self {
        Self {
            implementation: subject.implementation,
            operation: subject.operation,
            name: subject.name(),
            conditions,
            size: subject.size,
            zipped_size: subject.zipped,
            runs: Vec::new(),
        }
    }

    pub(crate) fn title(&self) -> String {
        let Conditions { memory_mb, delay_ms } = self.conditions;
        let speed = memory_mb.map_or("full speed".to_owned(), |size| format!("the share of {size} MB"));
        format!("{}, {speed}, upstreams respond after {delay_ms} ms", self.name)
    }

    fn summary(&self) -> Summary {
        let of = |figure: &dyn Fn(&Run) -> f64| median(self.runs.iter().map(figure).collect());
        let seen = |during: &dyn Fn(&Run) -> Seen| Seen {
            handshakes: of(&|run| during(run).handshakes),
            circle_calls: of(&|run| during(run).circle_calls),
            table_calls: of(&|run| during(run).table_calls),
            secret_calls: of(&|run| during(run).secret_calls),
        };
        let warm: Vec<f64> = self.runs.iter().flat_map(|run| &run.warm).copied().collect();
        Summary {
            init: of(&|run| run.init),
            init_cpu: of(&|run| run.init_cpu),
            first: of(&|run| run.first),
            first_cpu: of(&|run| run.first_cpu),
            cold: of(&|run| run.init + run.first),
            warm_p50: percentile(warm.clone(), 0.5),
            warm_p99: percentile(warm, 0.99),
            warm_cpu: of(&|run| run.warm_cpu),
            memory: of(&|run| run.memory),
            first_connection: of(&|run| run.timeline.first().map_or(f64::NAN, |first| first.at)),
            during_init: seen(&|run| run.during_init),
            during_first: seen(&|run| run.during_first),
            during_warm: seen(&|run| run.during_warm),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    date: String,
    machine: Machine,
    commit: String,
    rustc: String,
    runs: usize,
    /// How long a build of all functions from nothing took.
    build_seconds: Option<u64>,
    /// Why nothing was measured at a share of a core.
    no_cpu_shares: Option<String>,
    floor: Floor,
    results: Vec<Measured>,
}

/// The machine at the beginning.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// The load average of the last minute.
    load: f64,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: cpu.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: output("uname", &["-srm"]),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Measured {
    median: Summary,
    #[serde(flatten)]
    series: Series,
}

impl Report {
    pub(crate) fn new(
        machine: Machine,
        runs: usize,
        build_seconds: Option<u64>,
        no_cpu_shares: Option<String>,
        floor: Floor,
        series: Vec<Series>,
    ) -> Self {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("zero is a nanosecond");
        Self {
            date: now.format(&Rfc3339).expect("a date of now"),
            machine,
            commit: commit(),
            rustc: output("rustc", &["--version"]),
            runs,
            build_seconds,
            no_cpu_shares,
            floor,
            results: series.into_iter().map(|series| Measured { median: series.summary(), series }).collect(),
        }
    }

    /// The tables.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let Machine { cpu, cores, kernel, load } = &self.machine;
        let _ = writeln!(text, "\n{}, {cpu}, {cores} cores, {kernel}", self.date);
        let _ = writeln!(text, "commit {}, {}, medians of {} runs\n", self.commit, self.rustc, self.runs);
        if *load > 0.5 {
            let _ = writeln!(
                text,
                "The machine was busy (load {load}): times are too long, CPU times a little.\n"
            );
        }
        text.push_str("At full speed, upstreams respond at once. Times in ms, sizes in MB.\n\n");
        text.push_str(&self.full_speed());
        text.push_str(
            "\nThe parts. Handshakes are with upstreams, in initialisation, first and warm invocation.\n\n",
        );
        text.push_str(&self.parts());
        if self.results.iter().any(|result| result.series.conditions.delay_ms > 0) {
            text.push_str("\nUpstreams respond after 20 ms.\n\n");
            text.push_str(&self.delayed());
        }
        match &self.no_cpu_shares {
            Some(why) => {
                let _ = writeln!(text, "\nNothing was measured at a share of a core: {why}. Run it as root.");
            }
            None => text.push_str(&self.shares()),
        }
        let Floor { handshake_cpu_ms, verification_cpu_ms } = self.floor;
        let _ = writeln!(
            text,
            "\nCPU of one TLS handshake: {handshake_cpu_ms:.3} ms, of one ECDSA P-256 verification: {verification_cpu_ms:.3} ms"
        );
        if let Some(seconds) = self.build_seconds {
            let _ = writeln!(text, "A release build of all functions from nothing: {seconds} s");
        }
        text
    }

    fn at(&self, memory_mb: Option<u32>, delay_ms: u64) -> impl Iterator<Item = &Measured> {
        let wanted = Conditions { memory_mb, delay_ms };
        self.results.iter().filter(move |result| result.series.conditions == wanted)
    }

    fn full_speed(&self) -> String {
        let cold_of = |implementation, operation| {
            let mut found = self.at(None, 0).filter(|result| {
                result.series.implementation == implementation && result.series.operation == operation
            });
            found.next().map(|result| result.median.cold)
        };
        let mut table = Table::new(&[
            "", "init", "first", "cold", "/ ours", "p50", "p99", "CPU cold", "CPU warm", "memory", "binary",
            "zip",
        ]);
        for Measured { median, series } in self.at(None, 0) {
            let ours = cold_of(Implementation::Ours, series.operation);
            let is_peer = matches!(series.implementation, Implementation::PlainRust | Implementation::Node);
            table.row([
                series.name.clone(),
                format!("{:.1}", median.init),
                format!("{:.1}", median.first),
                format!("{:.1}", median.cold),
                ours.filter(|_| is_peer).map_or(String::new(), |ours| format!("{:.1}", median.cold / ours)),
                format!("{:.2}", median.warm_p50),
                format!("{:.2}", median.warm_p99),
                format!("{:.1}", median.init_cpu + median.first_cpu),
                format!("{:.3}", median.warm_cpu),
                format!("{:.1}", median.memory),
                format!("{:.1}", series.size as f64 / 1e6),
                format!("{:.2}", series.zipped_size as f64 / 1e6),
            ]);
        }
        table.text()
    }

    fn parts(&self) -> String {
        let floor = self.at(None, 0).find(|result| result.series.implementation == Implementation::Floor);
        let mut table = Table::new(&[
            "",
            "connects at",
            "handshakes",
            "Circle calls",
            "table calls",
            "CPU beyond the floor",
            "per call",
        ]);
        for Measured { median, series } in self.at(None, 0) {
            let beyond = floor.map(|floor| median.warm_cpu - floor.median.warm_cpu);
            let calls = median.during_warm.circle_calls + median.during_warm.table_calls;
            let each = beyond.filter(|_| calls > 0.5).map(|beyond| beyond / calls);
            let or_none = |figure: Option<f64>| figure.map_or(String::new(), |figure| format!("{figure:.3}"));
            let connects = Some(median.first_connection).filter(|at| at.is_finite());
            table.row([
                series.name.clone(),
                connects.map_or(String::new(), |at| format!("{at:.1}")),
                format!(
                    "{} + {} + {}",
                    median.during_init.handshakes,
                    median.during_first.handshakes,
                    rounded(median.during_warm.handshakes)
                ),
                format!(
                    "{} + {}",
                    median.during_first.circle_calls,
                    rounded(median.during_warm.circle_calls)
                ),
                format!("{} + {}", median.during_first.table_calls, rounded(median.during_warm.table_calls)),
                or_none(beyond),
                or_none(each),
            ]);
        }
        table.text()
    }

    fn delayed(&self) -> String {
        let mut table = Table::new(&["", "init", "first", "cold", "p50", "round trips when warm"]);
        for Measured { median, series } in self.at(None, 20) {
            table.row([
                series.name.clone(),
                format!("{:.1}", median.init),
                format!("{:.1}", median.first),
                format!("{:.1}", median.cold),
                format!("{:.1}", median.warm_p50),
                format!("{}", (median.warm_p50 / 20.0).floor()),
            ]);
        }
        table.text()
    }

    fn shares(&self) -> String {
        let mut text = String::new();
        for size in [128, 256, 512, 1024] {
            if self.at(Some(size), 0).next().is_none() {
                continue;
            }
            let _ = writeln!(
                text,
                "\nThe share of {size} MB after the initialisation, upstreams respond at once.\n"
            );
            let mut table = Table::new(&["", "first", "p50", "p99", "CPU warm"]);
            for Measured { median, series } in self.at(Some(size), 0) {
                table.row([
                    series.name.clone(),
                    format!("{:.1}", median.first),
                    format!("{:.2}", median.warm_p50),
                    format!("{:.2}", median.warm_p99),
                    format!("{:.3}", median.warm_cpu),
                ]);
            }
            text.push_str(&table.text());
        }
        text
    }
}

/// The commit of the project; `-dirty` if something is not committed.
pub(crate) fn commit() -> String {
    output("git", &["describe", "--always", "--dirty", "--abbrev=12"])
}

/// Calls that only some invocations make are left out.
fn rounded(calls: f64) -> f64 {
    (calls * 10.0).round() / 10.0
}

/// The first line that a program prints; empty if it cannot be started.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
