//! Load: many users at once reset their PINs on `cargo local`, with the functions in processes of their own.

mod checks;
mod figures;
mod sandboxes;
mod stack;
mod user;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::checks::{Evidence, MISTAKES, age_open_challenges, unsettled};
use self::figures::Figures;
use self::sandboxes::Sandboxes;
use self::stack::Stack;

/// The time at the beginning that is not measured, because sandboxes start.
const WARM_UP: Duration = Duration::from_secs(5);

/// How often Circle holds its webhooks, for how long, and after which it sends all of them at once.
const BURST_PERIOD: Duration = Duration::from_secs(10);
const BURST_HELD: Duration = Duration::from_secs(3);

/// A fifth of a shorter run has too few bursts to be compared with another.
const SHORTEST_COMPARED: Duration = Duration::from_secs(150);

/// Longer than what is under way takes at the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Without a webhook for so long, none is on its way.
const QUIET: Duration = Duration::from_secs(3);

/// How often reconciliation runs on the stack's clock.
const RECONCILE_PERIOD: Duration = Duration::from_secs(300);

/// The most runs of reconciliation at the end.
const MAX_RUNS: usize = 10;

/// The most violations that are printed.
const MAX_PRINTED: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// How long new users come, in seconds
    #[arg(long, default_value_t = 360, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: u64,
    /// How many users come in a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    users_per_second: u32,
    /// The folder with the packages' binaries, as NAME/bootstrap; without it they are built
    #[arg(long, value_name = "DIR")]
    bin_dir: PathBuf,
    /// The program `local`
    #[arg(long, value_name = "PROGRAM", hide = true)]
    local: PathBuf,
    /// A folder for the logs of the functions
    #[arg(long, value_name = "DIR", hide = true)]
    folder: PathBuf,
    /// The file for the table. On a disk, the embedded database would wait for the disk at each write
    #[arg(long, value_name = "FILE", hide = true)]
    data: PathBuf,
}

/// Runs the load, prints the figures, and fails if something was lost or has grown.
pub(crate) async fn run(options: &Load) -> Result<()> {
    let folder = &options.folder;
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let functions = format!("http://{}", listener.local_addr()?);
    let stack = Arc::new(Stack::start(&options.local, &functions, &options.data, folder).await?);
    let length = Duration::from_secs(options.seconds);
    let figures = Arc::new(Figures::new(Instant::now() + WARM_UP, length));
    let environment = stack.function_environment();
    let sandboxes = Sandboxes::serve(listener, &options.bin_dir, environment, folder, Arc::clone(&figures));
    wait_for("the subscription", async || {
        Ok(stack
            .control("GET", "/subscriptions", Value::Null)
            .await?
            .as_array()
            .is_some_and(|all| !all.is_empty()))
    })
    .await?;

    // Webhooks may overtake each other.
    stack.control("PATCH", "/knobs", json!({ "concurrentWebhooks": true })).await?;
    let end = Instant::now() + WARM_UP + length;
    let memory = watch_memory(Arc::clone(&figures), Arc::clone(&sandboxes), stack.pid());
    let circle = tokio::spawn(misbehave(Arc::clone(&stack), options.users_per_second, end));
    let mut users = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / options.users_per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0.. {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        let (stack, figures) = (Arc::clone(&stack), Arc::clone(&figures));
        users.spawn(async move {
            user::reset(&stack, &figures, number).await.with_context(|| format!("user {number}"))
        });
    }
    let Misbehaviour { lost, largest_burst } = circle.await??;
    wait_for("a webhook to lose", async || Ok(webhooks_to_lose(&stack).await? == 0)).await?;
    let (mut resets, mut broken) = (Vec::new(), Vec::new());
    while let Some(ended) = users.join_next().await {
        match ended? {
            Ok(reset) => resets.push(reset),
            Err(error) => broken.push(format!("{error:#}")),
        }
    }
    memory.abort();
    wait_until_quiet(&sandboxes).await?;
    let checked = reconcile(&stack, &sandboxes).await?;

    let users = resets.len();
    let evidence = Evidence::read(&stack, &sandboxes, resets, lost).await?;
    let found = evidence.check();
    broken.extend(found.broken);
    broken
        .extend(evidence.missed_mistakes().into_iter().map(|name| format!("not found when planted: {name}")));
    broken.extend(sandboxes.failures()?);
    broken.extend(figures.statuses(|status| status >= 500 || status == 429));
    let (tables, grown) = figures.report();
    println!("{tables}");
    println!("{users} users in {} seconds", (WARM_UP + length).as_secs());
    println!("{}", found.lines.join("\n"));
    println!("the largest burst had {largest_burst} webhooks; reconciliation checked {checked} challenges");
    println!("{} kinds of mistakes were planted into what was compared", MISTAKES.len());
    if length >= SHORTEST_COMPARED {
        broken.extend(grown);
    } else {
        println!("too short to tell whether anything grows");
    }
    let (failed, passed) = (broken.len(), found.passed);
    for violation in broken.iter().take(MAX_PRINTED) {
        println!("broken: {violation}");
    }
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "the load has broken something; logs are in {}", folder.display());
    Ok(())
}

/// What Circle did to its webhooks.
struct Misbehaviour {
    /// How many were lost.
    lost: usize,
    /// The most that were sent at once.
    largest_burst: usize,
}

/// Holds webhooks and sends them at once, in their order and the other way round, and loses some, until the end.
async fn misbehave(stack: Arc<Stack>, users_per_second: u32, end: Instant) -> Result<Misbehaviour> {
    let mut misbehaviour = Misbehaviour { lost: 0, largest_burst: 0 };
    for order in ["made", "reversed"].into_iter().cycle() {
        stack.control("PATCH", "/knobs", json!({ "webhooksPaused": true })).await?;
        sleep(BURST_HELD).await;
        let released = stack.control("POST", "/deliveries/release", json!({ "order": order })).await?;
        let released = released["released"].as_u64().context("the number of webhooks")?;
        misbehaviour.largest_burst = misbehaviour.largest_burst.max(released.try_into()?);
        if end.saturating_duration_since(Instant::now()) < BURST_PERIOD {
            break;
        }
        if webhooks_to_lose(&stack).await? == 0 {
            stack.control("PATCH", "/knobs", json!({ "loseWebhooks": users_per_second })).await?;
            misbehaviour.lost += users_per_second as usize;
        }
        sleep(BURST_PERIOD - BURST_HELD).await;
    }
    Ok(misbehaviour)
}

async fn webhooks_to_lose(stack: &Stack) -> Result<u64> {
    let knobs = stack.control("GET", "/knobs", Value::Null).await?;
    knobs["loseWebhooks"].as_u64().context("loseWebhooks")
}

/// Lets the schedule of reconciliation invoke the function until nothing is behind. Returns how many challenges were open.
async fn reconcile(stack: &Stack, sandboxes: &Sandboxes) -> Result<usize> {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let open = age_open_challenges(stack, now).await?;
    for _ in 0..MAX_RUNS {
        let before = sandboxes.invoked("reconcile-challenges");
        stack.control("POST", "/clock/advance", json!({ "seconds": RECONCILE_PERIOD.as_secs() })).await?;
        wait_for("a run of reconciliation", async || Ok(sandboxes.invoked("reconcile-challenges") > before))
            .await?;
        if unsettled(stack).await? == 0 {
            return Ok(open);
        }
    }
    Ok(open)
}

fn watch_memory(figures: Arc<Figures>, sandboxes: Arc<Sandboxes>, stack: u32) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            figures.read_memory(&sandboxes, stack);
            sleep(Duration::from_secs(1)).await;
        }
    })
}

/// Waits until no webhook has arrived for a while.
async fn wait_until_quiet(sandboxes: &Sandboxes) -> Result<()> {
    let mut arrived = 0;
    wait_for("the last webhook", async || {
        sleep(QUIET).await;
        let before = std::mem::replace(&mut arrived, sandboxes.invoked("receive-webhook"));
        Ok(before == arrived)
    })
    .await
}

/// Asks again and again until something has happened.
async fn wait_for(what: &str, mut has_happened: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waiting = async {
        while !has_happened().await? {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    timeout(PATIENCE, waiting).await.with_context(|| format!("{what} did not come"))?
}
