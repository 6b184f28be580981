//! The binary itself, as `cargo local` runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the stack and waits for its line of JSON.
fn start(arguments: &[&str]) -> (Child, Value) {
    let mut process = local(arguments).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (process, serde_json::from_str(&line).unwrap())
}

fn interrupt(process: &Child) {
    let sent = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn it_starts_small_says_where_it_is_and_ends_with_ctrl_c() {
    let (mut process, stack) = start(&["--json", "--port", "0"]);
    for name in ["api", "circle", "control", "dynamodb", "secretsManager", "issuer", "bearerToken"] {
        assert!(stack[name].is_string(), "{name}: {stack}");
    }
    // Linux only; elsewhere there is nothing to read.
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", process.id())) {
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        println!("resident memory: {} MB", kilobytes / 1024);
        assert!(kilobytes < 60 * 1024, "{line}");
    }
    interrupt(&process);
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_taken_port_ends_it_with_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = local(&["--port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&format!("port {port} for the HTTP API is taken; give another with --port")),
        "{text}"
    );
}

#[test]
fn the_demo_ends_well_and_shows_no_secret_whole() {
    let mut process = local(&["demo"]).spawn().unwrap();
    let mut text = String::new();
    process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success(), "{text}");
    assert!(text.trim_end().ends_with("Everything ended as it should."), "{text}");
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=._-".contains(c)) {
        assert!(
            word.matches('.').count() < 2 || !word.starts_with("eyJ") || word.len() < 20,
            "a token: {word}"
        );
    }
}
