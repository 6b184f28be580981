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

/// The user that is there from the start.
const USER: &str = "demo-user";

/// The demo user's PIN.
const PIN: &str = "112233";

/// Starts the whole service on loopback: the HTTP API, Circle, DynamoDB, Secrets Manager and a token issuer.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Port of the HTTP API; the four after it are used too. 0 lets the system choose.
    #[arg(long, default_value_t = 8780, value_parser = clap::value_parser!(u16).range(..=65531))]
    port: u16,
    /// File that keeps the challenge records across restarts.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Send requests to functions that run elsewhere, such as `cargo lambda watch` (http://127.0.0.1:9000).
    #[arg(long, value_name = "URL", value_parser = http_url)]
    functions: Option<String>,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Log level: error, warn, info, debug or trace. The lines go to standard error.
    #[arg(long, default_value = "error", value_name = "LEVEL", global = true)]
    log: LevelFilter,
}

#[derive(Subcommand)]
enum Command {
    /// Walks through a change of PIN, a lock and a recovery, and shows each step.
    Demo,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    set_global_default(telemetry::subscriber(arguments.log, &local::CRATES, std::io::stderr))
        .expect("logging starts once");
    let result = match arguments.command {
        Some(Command::Demo) => demo::run().await,
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
    let Arguments { port, data, functions, json, .. } = arguments;
    let functions_elsewhere = functions.is_some();
    let stack = Stack::start(StackOptions { port, data, functions, ..StackOptions::default() }).await?;
    stack.add_user(USER, PIN);
    if json {
        println!("{}", description(&stack));
    } else {
        println!("{}", welcome(&stack));
    }
    if functions_elsewhere {
        eprintln!("Circle subscribes the webhook route once the functions answer");
    }
    shutdown_signal().await?;
    eprintln!("stopping");
    tokio::select! {
        () = stack.stop() => {}
        again = shutdown_signal() => again?,
    }
    Ok(())
}

/// Completes with Ctrl-C, or with the signal that a process manager sends.
async fn shutdown_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Takes the address of functions that run elsewhere.
fn http_url(text: &str) -> Result<String, &'static str> {
    match reqwest::Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Ok(text.to_owned()),
        _ => Err("give a URL such as http://127.0.0.1:9000"),
    }
}

/// Where everything is, for scripts.
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

/// Where everything is, and what to try, for people.
fn welcome(stack: &Stack) -> String {
    let (api, circle) = (stack.api.url(), stack.circle.url());
    let variables: String =
        stack.function_environment().iter().map(|(name, value)| format!("    {name}={value}\n")).collect();
    format!(
        "\
circle-pin-reset is up, all of it on this machine:

  HTTP API         {api}
  Circle           {circle}   (control page: {circle}/control)
  DynamoDB         {dynamodb}
  Secrets Manager  {secrets}
  token issuer     {issuer}

The user {USER} is signed in, with the PIN {PIN}. Copy and paste, in this order.

The token of the signed-in user, and a session for the client SDK of Circle:

  TOKEN={token}
  USER_TOKEN=$({curl} -X POST {api}/session-tokens -H \"Authorization: Bearer $TOKEN\" | {user_token})

A challenge to change the PIN:

  CHALLENGE=$({curl} -X POST {api}/challenges -H \"Authorization: Bearer $TOKEN\" -H \"X-User-Token: $USER_TOKEN\" | {challenge_id})

The user enters a wrong PIN, then the right one and a new one, as on the device:

  {curl} -X POST {circle}/control/challenges/$CHALLENGE/pin -d '{{\"pin\": \"000000\"}}'
  {curl} -X POST {circle}/control/challenges/$CHALLENGE/pin -d '{{\"pin\": \"{PIN}\", \"newPin\": \"445566\"}}'

How it ended, as the webhook said, or as Circle says when it is asked before that came:

  {curl} {api}/challenges/$CHALLENGE -H \"Authorization: Bearer $TOKEN\" -H \"X-User-Token: $USER_TOKEN\"

Functions that run elsewhere (cargo lambda watch, cargo lambda invoke) need:

{variables}
Ctrl-C stops it.",
        dynamodb = stack.dynamodb.url(),
        secrets = stack.secrets_manager.url(),
        issuer = stack.issuer.url(),
        token = stack.sign_in(USER),
        curl = r"curl -s -w '\n'",
        user_token = shown_and_picked("userToken"),
        challenge_id = shown_and_picked("challengeId"),
    )
}

/// The part of a command that shows a JSON answer and passes on one member of it; nothing where the answer has none.
fn shown_and_picked(member: &str) -> String {
    format!(r#"tee /dev/stderr | sed -n 's/.*"{member}":"\([^"]*\)".*/\1/p'"#)
}
