//! `cargo local`: the whole service on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use local::demo;
use local::stack::{Stack, StackOptions};
use serde_json::json;
use shared::telemetry::{self, Chain};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;

/// The user who exists from the start.
const USER: &str = "demo-user";

/// The demo user's PIN.
const PIN: &str = "112233";

/// Starts the whole service on loopback: the HTTP API, Circle, DynamoDB, Secrets Manager and a token issuer.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Port of the HTTP API. The next four ports are used too. 0 lets the system choose all of them.
    #[arg(long, default_value_t = 8780, value_parser = clap::value_parser!(u16).range(..=65531))]
    port: u16,
    /// File that keeps the database across restarts.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// URL of functions that run in another process, such as `cargo lambda watch` (http://127.0.0.1:9000).
    #[arg(long, value_name = "URL", value_parser = http_url)]
    functions: Option<String>,
    /// Do not enforce the routes' throttles, for load tests.
    #[arg(long)]
    unthrottled: bool,
    /// Print the URLs, the user and the token as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Log level: error, warn, info, debug or trace. The log goes to standard error.
    #[arg(long, default_value = "error", value_name = "LEVEL", global = true)]
    log: LevelFilter,
}

#[derive(Subcommand)]
enum Command {
    /// Show a PIN change, a locked PIN and a recovery step by step.
    Demo,
    /// Print routes, error codes, settings and other lists as JSON.
    Facts,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    set_global_default(telemetry::subscriber(arguments.log, &local::CRATES, std::io::stderr))
        .expect("logging is set up once");
    let result = match arguments.command {
        Some(Command::Demo) => demo::run().await,
        Some(Command::Facts) => {
            println!("{:#}", local::facts::facts());
            Ok(())
        }
        None => serve(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo local: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { port, data, functions, unthrottled, json, .. } = arguments;
    let has_external_functions = functions.is_some();
    let stack = Stack::start(StackOptions {
        port,
        data,
        functions,
        throttled: !unthrottled,
        ..StackOptions::default()
    })
    .await?;
    stack.add_user(USER, PIN);
    // Listens before anything is printed, because a script may send the signal as soon as it has read the
    // output.
    let shutdown = shutdown_signal()?;
    if json {
        println!("{}", description(&stack));
    } else {
        println!("{}", welcome(&stack));
    }
    if has_external_functions {
        eprintln!("the webhook route will be subscribed when the functions respond");
    }
    shutdown.await;
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

/// Parses the URL of functions that run in another process.
fn http_url(text: &str) -> Result<String, &'static str> {
    match reqwest::Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Ok(text.to_owned()),
        _ => Err("give a URL such as http://127.0.0.1:9000"),
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
        "userId": USER,
        "pin": PIN,
        "bearerToken": stack.sign_in(USER),
        "functionEnvironment": stack.function_environment(),
    })
}

/// The URLs, and commands to try, for people.
fn welcome(stack: &Stack) -> String {
    let (api, circle) = (stack.api.url(), stack.circle.url());
    let variables: String =
        stack.function_environment().iter().map(|(name, value)| format!("    {name}={value}\n")).collect();
    format!(
        "\
circle-pin-reset is running on this machine:

  HTTP API         {api}
  Circle simulator {circle}   (control page: {circle}/control)
  DynamoDB         {dynamodb}
  Secrets Manager  {secrets}
  token issuer     {issuer}

The user {USER} is signed in and has the PIN {PIN}. Paste these commands in order.

Keep the token of the signed-in user, and create a session for Circle's client SDK:

  TOKEN={token}
  USER_TOKEN=$({curl} -X POST {api}/session-tokens -H \"Authorization: Bearer $TOKEN\" | {user_token})

Create a challenge to change the PIN:

  CHALLENGE=$({curl} -X POST {api}/challenges -H \"Authorization: Bearer $TOKEN\" -H \"X-User-Token: $USER_TOKEN\" | {challenge_id})

Enter a wrong PIN, then the correct PIN and a new one, as the user would on the device:

  {curl} -X POST {circle}/control/challenges/$CHALLENGE/pin -d '{{\"pin\": \"000000\"}}'
  {curl} -X POST {circle}/control/challenges/$CHALLENGE/pin -d '{{\"pin\": \"{PIN}\", \"newPin\": \"445566\"}}'

Get the result. It comes from the webhook, or from Circle if the webhook has not arrived yet:

  {curl} {api}/challenges/$CHALLENGE -H \"Authorization: Bearer $TOKEN\" -H \"X-User-Token: $USER_TOKEN\"

Functions in another process (cargo lambda watch, cargo lambda invoke) need these variables:

{variables}
Press Ctrl-C to stop.",
        dynamodb = stack.dynamodb.url(),
        secrets = stack.secrets_manager.url(),
        issuer = stack.issuer.url(),
        token = stack.sign_in(USER),
        curl = r"curl -s -w '\n'",
        user_token = show_and_extract("userToken"),
        challenge_id = show_and_extract("challengeId"),
    )
}

/// A shell filter that shows a JSON response and outputs the value of one member, or nothing if it is
/// missing.
fn show_and_extract(member: &str) -> String {
    format!(r#"tee /dev/stderr | sed -n 's/.*"{member}":"\([^"]*\)".*/\1/p'"#)
}
