//! `cargo local`: the whole service on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use local::circle::UserChange;
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
#[command(name = "cargo local", bin_name = "cargo local")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Port of the HTTP API; the four after it are used too. 0 lets the system choose.
    #[arg(long, default_value_t = 8780)]
    port: u16,
    /// File that keeps the challenge records across restarts.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Send requests to functions that run elsewhere, such as `cargo lambda watch` (http://127.0.0.1:9000).
    #[arg(long, value_name = "URL")]
    functions: Option<String>,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Log level: error, warn, info, debug or trace. The lines go to standard error.
    #[arg(long, default_value = "error", value_name = "LEVEL")]
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
    set_global_default(telemetry::subscriber(arguments.log, std::io::stderr)).expect("logging starts once");
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
    let stack = Stack::start(StackOptions { port, data, functions, ..StackOptions::default() }).await?;
    stack.add_user(USER, PIN);
    stack.circle.put_user("user-without-pin", UserChange::default())?;
    if json {
        println!("{}", description(&stack));
    } else {
        println!("{}", welcome(&stack));
    }
    tokio::signal::ctrl_c().await?;
    eprintln!("stopping");
    stack.stop().await;
    Ok(())
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

The user {USER} is signed in, with the PIN {PIN}. Copy and paste, in this order:

  # 1. the user's token for this API
  TOKEN={token}

  # 2. a session for Circle's client SDK
  curl -s -X POST {api}/session-tokens -H \"Authorization: Bearer $TOKEN\"

  # 3. a challenge to change the PIN; keep its id
  curl -s -X POST {api}/challenges -H \"Authorization: Bearer $TOKEN\"
  CHALLENGE=the challengeId of the answer

  # 4. the user enters a wrong PIN, then the right one (this is what Circle's client SDK does on the device)
  curl -s -X POST {circle}/control/challenges/$CHALLENGE/pin -d '{{\"pin\": \"000000\"}}'
  curl -s -X POST {circle}/control/challenges/$CHALLENGE/pin -d '{{\"pin\": \"{PIN}\", \"newPin\": \"445566\"}}'

  # 5. how it ended, as Circle's webhook said
  curl -s {api}/challenges/$CHALLENGE -H \"Authorization: Bearer $TOKEN\"

Functions that run elsewhere (cargo lambda watch, cargo lambda invoke) need:

{variables}
Ctrl-C stops it.",
        dynamodb = stack.dynamodb.url(),
        secrets = stack.secrets_manager.url(),
        issuer = stack.issuer.url(),
        token = stack.sign_in(USER),
    )
}
