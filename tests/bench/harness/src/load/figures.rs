//! Times of requests and sizes of processes, in fifths of the run.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::sandboxes::Sandboxes;
use crate::statistics::{median, percentile};
use crate::table::Table;

const FIFTHS: usize = 5;

/// How much of a figure the last fifth may have beyond the first: a factor, and an amount for small figures.
struct Growth {
    factor: f64,
    amount: f64,
}

/// In milliseconds. The machine of a test does other things, too.
const P50: Growth = Growth { factor: 1.5, amount: 5.0 };
const P99: Growth = Growth { factor: 2.0, amount: 20.0 };

/// In MB.
const MEMORY: Growth = Growth { factor: 1.1, amount: 1.0 };

impl Growth {
    /// A figure that one of the fifths does not have is NaN, and is allowed.
    fn is_exceeded(&self, first: f64, last: f64) -> bool {
        last > first * self.factor + self.amount
    }
}

/// What was measured since a moment. What came earlier only counts.
pub(crate) struct Figures {
    since: Instant,
    length: Duration,
    requests: Mutex<BTreeMap<&'static str, Requests>>,
    /// In MB, of the largest process of each name, with how many there are.
    memory: Mutex<BTreeMap<&'static str, Memory>>,
}

#[derive(Default)]
struct Requests {
    count: usize,
    /// In milliseconds.
    times: [Vec<f64>; FIFTHS],
    /// By status.
    statuses: BTreeMap<u16, usize>,
}

#[derive(Default)]
struct Memory {
    processes: usize,
    sizes: [Vec<f64>; FIFTHS],
}

impl Figures {
    pub(crate) fn new(since: Instant, length: Duration) -> Self {
        Self { since, length, requests: Mutex::default(), memory: Mutex::default() }
    }

    /// The fifth of the run in which a moment is.
    fn fifth(&self, at: Instant) -> Option<usize> {
        let part = at.checked_duration_since(self.since)?.as_secs_f64() / self.length.as_secs_f64();
        Some((part * FIFTHS as f64) as usize).filter(|fifth| *fifth < FIFTHS)
    }

    /// A request that began at a moment and ends now.
    pub(crate) fn add(&self, route: &'static str, began: Instant, status: u16) {
        let mut requests = self.requests.lock().unwrap();
        let requests = requests.entry(route).or_default();
        requests.count += 1;
        *requests.statuses.entry(status).or_default() += 1;
        if let Some(fifth) = self.fifth(began) {
            requests.times[fifth].push(began.elapsed().as_secs_f64() * 1000.0);
        }
    }

    /// Reads the sizes of the processes.
    pub(crate) fn read_memory(&self, sandboxes: &Sandboxes, stack: u32) {
        let Some(fifth) = self.fifth(Instant::now()) else { return };
        let mut memory = self.memory.lock().unwrap();
        for (name, pids) in sandboxes.pids().into_iter().chain([("cargo local", vec![stack])]) {
            let largest = pids.iter().filter_map(|&pid| resident(pid)).fold(0.0, f64::max);
            if largest > 0.0 {
                let memory = memory.entry(name).or_default();
                memory.processes = pids.len();
                memory.sizes[fifth].push(largest);
            }
        }
    }

    /// How often each status of a route was returned, of those that are wanted.
    pub(crate) fn statuses(&self, is_wanted: impl Fn(u16) -> bool) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let all = requests.iter().flat_map(|(route, requests)| {
            requests.statuses.iter().map(move |(status, count)| (*route, *status, *count))
        });
        all.filter(|(_, status, _)| is_wanted(*status))
            .map(|(route, status, count)| format!("{route}: {status}, {count} times"))
            .collect()
    }

    /// The tables, and what has grown too much.
    pub(crate) fn report(&self) -> (String, Vec<String>) {
        let mut grown = Vec::new();
        let mut times = Table::new(&["ms", "requests", "p50", "last fifth", "p99", "last fifth"]);
        for (route, requests) in &*self.requests.lock().unwrap() {
            let [first, .., last] = &requests.times;
            let part = |part| (percentile(first.clone(), part), percentile(last.clone(), part));
            let (p50, p99) = (part(0.5), part(0.99));
            times.row([
                (*route).to_owned(),
                requests.count.to_string(),
                number(p50.0),
                number(p50.1),
                number(p99.0),
                number(p99.1),
            ]);
            for (name, limit, (first, last)) in [("p50", P50, p50), ("p99", P99, p99)] {
                if limit.is_exceeded(first, last) {
                    grown.push(format!("{route}: {name} has grown from {first:.1} to {last:.1} ms"));
                }
            }
        }
        let mut sizes = Table::new(&["MB, the largest process", "processes", "first fifth", "last fifth"]);
        for (name, memory) in &*self.memory.lock().unwrap() {
            let [first, .., last] = &memory.sizes;
            let (first, last) = (median(first.clone()), median(last.clone()));
            sizes.row([(*name).to_owned(), memory.processes.to_string(), number(first), number(last)]);
            // The stack keeps users, challenges and events in memory, so it grows.
            if *name != "cargo local" && MEMORY.is_exceeded(first, last) {
                grown.push(format!("{name} has grown from {first:.1} to {last:.1} MB"));
            }
        }
        (format!("{}\n{}", times.text(), sizes.text()), grown)
    }
}

/// A figure in a table.
fn number(figure: f64) -> String {
    if figure.is_nan() { "-".to_owned() } else { format!("{figure:.1}") }
}

/// The resident set of a process, in MB.
fn resident(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
