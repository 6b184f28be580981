//! `cargo local`: the whole service on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use local::demo;
use local::environment::function_environment_on;
use local::incidents::{self, Incident};
use local::live;
use local::log::Log;
use local::running::RunningStack;
use local::stack::{Stack, StackOptions};
use serde_json::json;
use shared::clock::AdjustableClock;
use shared::telemetry::{self, Chain};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use uuid::Uuid;

/// The user who exists from the start.
const USER: &str = "demo-user";

/// The demo user's PIN.
const PIN: &str = "112233";

/// The port of the HTTP API.
const DEFAULT_PORT: u16 = 8780;

/// Starts the whole service on loopback: the HTTP API, Circle, DynamoDB, Secrets Manager, an event bus and a token issuer.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Port of the HTTP API. The next seven ports are used too. 0 lets the system choose all of them.
    #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(..=65528))]
    port: u16,
    /// File that keeps the database across restarts.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Origin whose pages may call the API, such as http://localhost:3000. Repeat it for several. Without this option,
    /// pages of any origin may, unlike in a deployment.
    #[arg(long = "origin", value_name = "URL", value_parser = origin)]
    origins: Vec<String>,
    /// URL of functions that run in another process, such as `cargo lambda watch` (http://127.0.0.1:9000). They need
    /// the variables that `cargo local env` prints.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    functions: Option<String>,
    /// Do not enforce the routes' throttles, for load tests.
    #[arg(long)]
    unthrottled: bool,
    /// Open the demo app in the browser. It needs Node.js 20 or newer, which builds it at its first use.
    #[arg(long)]
    open: bool,
    /// Print the URLs, the user and the token as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Do not show on the terminal what happens.
    #[arg(long)]
    quiet: bool,
    /// Log level: off, error, warn, info, debug or trace. The log goes to standard error. The default is error, or off if
    /// failures are shown anyway.
    #[arg(long, value_name = "LEVEL", global = true)]
    log: Option<LevelFilter>,
}

#[derive(Subcommand)]
enum Command {
    /// Show a PIN change, a locked PIN and a recovery step by step.
    Demo {
        /// Port of the HTTP API. The next seven ports are used too. 0 lets the system choose all of them.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=65528))]
        port: u16,
    },
    /// Print the environment variables of functions that run in another process, for an env file.
    Env {
        /// Port of the HTTP API of the stack that the functions use.
        #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..=65528))]
        port: u16,
    },
    /// Print the story of a challenge on a running stack: its record, requests, log lines, webhooks and events, in the order
    /// of time.
    Inspect {
        /// The challenge's id.
        challenge_id: Uuid,
        /// Port of the HTTP API of the stack.
        #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..=65528))]
        port: u16,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Play an incident, and print the metric that it raises and the alarm that watches the metric. Without a name, list
    /// the incidents.
    Incident {
        /// The incident.
        #[arg(value_parser = incident)]
        name: Option<&'static Incident>,
        /// Play it on the running stack whose HTTP API has this port, and whose clock it moves, instead of on a stack of
        /// its own.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=65528))]
        port: Option<u16>,
        /// List the incidents.
        #[arg(long)]
        list: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print routes, error codes, settings and other lists as JSON.
    Facts,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let clock = AdjustableClock::running();
    let log = Log::new(clock.clone());
    // The stack keeps these lines, whatever is printed.
    let shows_failures = is_live(&arguments) || matches!(arguments.command, Some(Command::Incident { .. }));
    let printed = if shows_failures { LevelFilter::OFF } else { LevelFilter::ERROR };
    let printed = arguments.log.unwrap_or(printed);
    let level = printed.max(LevelFilter::INFO);
    let lines =
        telemetry::subscriber(level, &local::CRATES, "circle-pin-reset".to_owned(), log.writer(printed));
    set_global_default(lines.with(without_failed_conditions(level))).expect("logging is set up once");
    let result = match arguments.command {
        Some(Command::Demo { port }) => demo::run(port).await,
        Some(Command::Env { port }) => {
            for (name, value) in function_environment_on(port) {
                println!("{name}={value}");
            }
            Ok(())
        }
        Some(Command::Facts) => {
            println!("{:#}", local::facts::facts());
            Ok(())
        }
        Some(Command::Inspect { challenge_id, port, json }) => inspect(challenge_id, port, json).await,
        Some(Command::Incident { name: Some(incident), port, list: false, json }) => match port {
            Some(port) => incidents::play_on_running_stack(incident, port, json).await,
            None => incidents::play_on_stack_of_its_own(incident, clock, log, json).await,
        },
        Some(Command::Incident { json, .. }) => {
            println!("{}", incidents::list(json));
            Ok(())
        }
        None => serve(arguments, clock, log).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo local: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// DynamoDB's server warns of each condition that fails. These are part of normal work here, and the functions log
/// the failures that matter.
fn without_failed_conditions<S: Subscriber>(level: LevelFilter) -> impl Layer<S> {
    filter_fn(|line| line.target() != "dynoxide::server" || *line.level() <= Level::ERROR)
        .with_max_level_hint(level)
}

async fn inspect(challenge_id: Uuid, port: u16, as_json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let story = RunningStack::on(port).story(challenge_id).await?;
    if as_json {
        println!("{:#}", json!(story));
    } else {
        print!("{}", live::story(&story, live::has_colours()));
    }
    Ok(())
}

/// Whether the terminal shows what happens.
fn is_live(arguments: &Arguments) -> bool {
    arguments.command.is_none() && live::is_terminal() && !arguments.json && !arguments.quiet
}

async fn serve(
    arguments: Arguments,
    clock: AdjustableClock,
    log: Log,
) -> Result<(), Box<dyn std::error::Error>> {
    let is_live = is_live(&arguments);
    let Arguments { port, data, origins, functions, unthrottled, open, json, .. } = arguments;
    let has_external_functions = functions.is_some();
    let mut options = StackOptions {
        port,
        data,
        functions,
        throttled: !unthrottled,
        clock,
        log: Some(log),
        ..StackOptions::default()
    };
    if !origins.is_empty() {
        options.allowed_origins = origins;
    }
    let stack = Stack::start(options).await?;
    stack.add_user(USER, PIN);
    // Listens before anything is printed, because a script may send the signal as soon as it has read the
    // output.
    let shutdown = shutdown_signal()?;
    if json {
        println!("{}", description(&stack));
    } else {
        println!("{}", welcome(&stack));
    }
    if open && let Err(error) = open::that_detached(stack.app_url()) {
        eprintln!("the browser cannot be opened ({error}); open {} yourself", stack.app_url());
    }
    if has_external_functions {
        eprintln!("the webhook route will be subscribed when the functions respond");
    }
    let show = async {
        if is_live {
            live::show(stack.activity(), stack.clock.clone()).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        () = shutdown => {}
        () = show => {}
    }
    eprintln!("stopping");
    // A second signal ends the process at once.
    let second_shutdown = shutdown_signal()?;
    tokio::select! {
        () = stack.stop() => {}
        () = second_shutdown => {}
    }
    Ok(())
}

/// Listens from now on, and completes with Ctrl-C or SIGTERM.
#[cfg(unix)]
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Listens from now on, and completes with Ctrl-C.
#[cfg(windows)]
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// Finds an incident.
fn incident(name: &str) -> Result<&'static Incident, &'static str> {
    Incident::find(name).ok_or("there is no such incident; `cargo local incident` lists them")
}

/// Parses the URL of functions that run in another process.
fn http_url(text: &str) -> Result<String, &'static str> {
    match reqwest::Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Ok(text.to_owned()),
        _ => Err("give a URL such as http://127.0.0.1:9000"),
    }
}

/// Parses an origin in the form that browsers send.
fn origin(text: &str) -> Result<String, &'static str> {
    match http_url(text).ok().and_then(|text| reqwest::Url::parse(&text).ok()) {
        Some(url) if url.origin().ascii_serialization() == text => Ok(text.to_owned()),
        _ => Err("give an origin such as http://localhost:3000, without a path"),
    }
}

/// The URLs, the user and the token, for scripts.
fn description(stack: &Stack) -> serde_json::Value {
    json!({
        "api": stack.api.url(),
        "circle": stack.circle.url(),
        "control": format!("{}/control", stack.circle.url()),
        "dynamodb": stack.dynamodb.url(),
        "secretsManager": stack.secrets_manager.url(),
        "issuer": stack.issuer.url(),
        "app": stack.app_url(),
        "pinPage": stack.pin_page_url(),
        "eventBus": stack.event_bus.url(),
        "userId": USER,
        "pin": PIN,
        "bearerToken": stack.sign_in(USER),
        "functionEnvironment": stack.function_environment(),
    })
}

/// The URLs, and commands to try, for people. The commands can be pasted again and again.
fn welcome(stack: &Stack) -> String {
    format!(
        "\
circle-pin-reset is running on this machine:

  demo app         {app}   (change a PIN in the browser; needs Node.js)
  HTTP API         {api}
  Circle simulator {circle}   (control page: {circle}/control)
  page for the PIN {pin_page}   (for the serviceUrl of Circle's Web SDK)
  token issuer     {issuer}   (signs in any user: {issuer}/token?sub=USER)
  event bus        {event_bus}   (events so far: {event_bus}/events)

Paste these commands in order. Let the user {USER} exist with the PIN {PIN}, and sign in:

  API={api}
  CONTROL={circle}/control
  {curl} -X PUT $CONTROL/users/{USER} -d '{user}'
  AUTH=\"Authorization: Bearer $(curl -s '{issuer}/token?sub={USER}')\"

Define a function that shows a response and keeps one of its members:

  {keep}

Create a session for Circle's client SDK:

  USER_TOKEN=$({curl} -X POST $API/session-tokens -H \"$AUTH\" | keep userToken)

Create a challenge to change the PIN. The same key returns the same challenge:

  KEY=$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid)
  CHALLENGE=$({curl} -X POST $API/challenges -H \"$AUTH\" -H \"X-User-Token: $USER_TOKEN\" -H \"Idempotency-Key: $KEY\" | keep challengeId)

Enter a wrong PIN, then the correct PIN and a new one, as the user would on the device:

  {curl} -X POST $CONTROL/challenges/$CHALLENGE/pin -d '{{\"pin\": \"000000\"}}'
  {curl} -X POST $CONTROL/challenges/$CHALLENGE/pin -d '{{\"pin\": \"{PIN}\", \"newPin\": \"445566\"}}'

Get the result. It comes from the webhook, or from Circle if the webhook has not arrived yet:

  {curl} $API/challenges/$CHALLENGE -H \"$AUTH\" -H \"X-User-Token: $USER_TOKEN\"

Get the events that were published so far, about this challenge and others:

  {curl} {event_bus}/events

Recover a forgotten PIN with the security questions:

  CHALLENGE=$({curl} -X POST $API/challenges -H \"$AUTH\" -H \"X-User-Token: $USER_TOKEN\" -H \"Content-Type: application/json\" -d '{{\"type\": \"RESTORE_PIN\"}}' | keep challengeId)
  {curl} -X POST $CONTROL/challenges/$CHALLENGE/security-questions -d '{{\"correct\": true, \"newPin\": \"{PIN}\"}}'
  {curl} $API/challenges/$CHALLENGE -H \"$AUTH\" -H \"X-User-Token: $USER_TOKEN\"

`cargo local inspect CHALLENGE_ID` prints everything that happened to a challenge. `cargo local incident` lists incidents
to practise with.

Press Ctrl-C to stop.",
        api = stack.api.url(),
        app = stack.app_url(),
        pin_page = stack.pin_page_url(),
        circle = stack.circle.url(),
        issuer = stack.issuer.url(),
        event_bus = stack.event_bus.url(),
        curl = r"curl -s -w '\n'",
        user = format_args!(r#"{{"pin": "{PIN}", "pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED"}}"#),
        // It does not write to /dev/stderr by name, which would overwrite a file that the output goes to.
        keep = r#"keep() { read -r line; printf '%.300s\n' "$line" >&2; printf '%s\n' "$line" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }"#,
    )
}
