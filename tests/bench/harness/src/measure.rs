//! One run of one function: from the start of its process to its last invocation.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::canned::Signer;
use crate::cpu_share::CpuShare;
use crate::lambda::Sandbox;
use crate::operations::Target;
use crate::subject::Subject;
use crate::upstreams::{Event, Upstream, Upstreams};

/// The warm invocations of a run end after this time at the latest.
const WARM_TIME: Duration = Duration::from_secs(6);

/// The conditions of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Conditions {
    /// The memory size in MB whose share of a core the function has after its initialisation; `None` for a whole core.
    pub(crate) memory_mb: Option<u32>,
    /// How long each upstream waits before it responds.
    pub(crate) delay_ms: u64,
}

/// What was measured. Times are in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// From the start of the process to its first poll for an event.
    pub(crate) init: f64,
    pub(crate) init_cpu: f64,
    /// From the first event to its response.
    pub(crate) first: f64,
    pub(crate) first_cpu: f64,
    /// The same for each later event.
    #[serde(skip)]
    pub(crate) warm: Vec<f64>,
    /// CPU of one later invocation, from its event to the poll for the next one.
    pub(crate) warm_cpu: f64,
    /// The largest resident set, in MB.
    pub(crate) memory: f64,
    pub(crate) during_init: Seen,
    pub(crate) during_first: Seen,
    /// On average for each later invocation.
    pub(crate) during_warm: Seen,
    /// What the upstreams saw until the first response.
    pub(crate) timeline: Vec<Sighting>,
}

/// What the upstreams saw.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Seen {
    pub(crate) handshakes: f64,
    pub(crate) circle_calls: f64,
    pub(crate) table_calls: f64,
    pub(crate) secret_calls: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sighting {
    /// Since the start of the process.
    pub(crate) at: f64,
    pub(crate) upstream: Upstream,
    pub(crate) event: Event,
}

/// Starts a function and invokes it `1 + warm_calls` times.
pub(crate) async fn run(
    subject: &Subject,
    conditions: Conditions,
    warm_calls: usize,
    upstreams: &Upstreams,
    signer: &Signer,
    log: &Path,
) -> Result<Run> {
    upstreams.set_delay(Duration::from_millis(conditions.delay_ms));
    upstreams.sightings.take();
    let share = conditions.memory_mb.map(CpuShare::of_memory).transpose()?;
    let mut sandbox = Sandbox::start(&subject.program, log).await?;
    let init_cpu = sandbox.cpu()?;
    let init_sightings = upstreams.sightings.take();
    if let Some(share) = &share {
        share.limit(sandbox.pid())?;
    }

    let target = Target::default();
    let event = || subject.operation.event(signer, &target);
    let first = sandbox.invoke(event(), subject.status).await?;
    let first_cpu = sandbox.cpu()?;
    let first_sightings = upstreams.sightings.take();

    let mut warm = Vec::with_capacity(warm_calls);
    let began = Instant::now();
    while warm.len() < warm_calls && (began.elapsed() < WARM_TIME || warm.len() < 5) {
        warm.push(milliseconds(sandbox.invoke(event(), subject.status).await?));
    }
    let warm_cpu = sandbox.cpu()?;
    let calls = warm.len() as f64;
    let timeline = init_sightings.iter().chain(&first_sightings).map(|(at, upstream, event)| Sighting {
        at: milliseconds(*at - sandbox.started),
        upstream: *upstream,
        event: *event,
    });
    let run = Run {
        init: milliseconds(sandbox.init),
        init_cpu: milliseconds(init_cpu),
        first: milliseconds(first),
        first_cpu: milliseconds(first_cpu - init_cpu),
        warm,
        warm_cpu: milliseconds(warm_cpu - first_cpu) / calls,
        memory: sandbox.peak_memory()? as f64 / 1e6,
        during_init: Seen::of(&init_sightings, 1.0),
        during_first: Seen::of(&first_sightings, 1.0),
        during_warm: Seen::of(&upstreams.sightings.take(), calls),
        timeline: timeline.collect(),
    };
    sandbox.stop().await?;
    Ok(run)
}

impl Seen {
    pub(crate) fn of(sightings: &[(Instant, Upstream, Event)], invocations: f64) -> Self {
        let count = |wanted: &dyn Fn(Upstream, Event) -> bool| {
            sightings.iter().filter(|(_, upstream, event)| wanted(*upstream, *event)).count() as f64
                / invocations
        };
        let calls = |to: Upstream| count(&|upstream, event| upstream == to && event == Event::Call);
        Self {
            handshakes: count(&|_, event| matches!(event, Event::Handshake | Event::Resumption)),
            circle_calls: calls(Upstream::Circle),
            table_calls: calls(Upstream::Dynamodb),
            secret_calls: calls(Upstream::SecretsManager),
        }
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
