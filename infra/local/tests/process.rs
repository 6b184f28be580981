//! The binary itself, as `cargo local` runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use shared::clock::{Clock, SystemClock};

fn local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running stack, which ends with the test however that ends.
struct Running {
    process: Child,
    /// Its line of JSON.
    says: Value,
}

impl Running {
    /// Starts the stack and waits until it says that it is up.
    fn start(arguments: &[&str]) -> Self {
        let mut running = Self { process: local(arguments).spawn().unwrap(), says: Value::Null };
        let mut line = String::new();
        BufReader::new(running.process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        running.says = serde_json::from_str(&line).unwrap();
        running
    }

    /// What Linux says of the process under this name, in kB; nothing elsewhere.
    fn kilobytes(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        Some(line.split_whitespace().nth(1).unwrap().parse().unwrap())
    }

    /// Ctrl-C.
    fn interrupt(&mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.process.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Prints how long the start takes and how much memory is in use. Only the memory has a limit here: how long a
/// start takes depends on what else the machine does.
#[test]
fn it_starts_small_says_where_it_is_and_ends_with_ctrl_c() {
    let before = SystemClock.now();
    let mut stack = Running::start(&["--json", "--port", "0"]);
    println!("ready after {:.0} ms", (SystemClock.now() - before).as_seconds_f64() * 1000.0);
    for name in ["api", "circle", "control", "dynamodb", "secretsManager", "issuer", "bearerToken"] {
        assert!(stack.says[name].is_string(), "{name}: {}", stack.says);
    }
    if let Some(kilobytes) = stack.kilobytes("VmRSS:") {
        println!("resident memory: {} MB", kilobytes / 1024);
        assert!(kilobytes < 60 * 1024, "{kilobytes} kB");
    }
    assert_eq!(stack.interrupt().code(), Some(0));
    for name in ["api", "circle", "dynamodb", "secretsManager", "issuer"] {
        let address = stack.says[name].as_str().unwrap().trim_start_matches("http://");
        assert!(std::net::TcpStream::connect(address).is_err(), "{name} is still there");
    }
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
    let is_secret = |word: &str| {
        let token = word.starts_with("eyJ") && word.len() > 20;
        // 32 bytes in base64.
        let encryption_key = word.ends_with('=') && word.len() >= 44;
        token || encryption_key || word.contains("TEST_API_KEY")
    };
    for word in
        text.split(|character: char| !character.is_ascii_alphanumeric() && !"+/=._-".contains(character))
    {
        assert!(!is_secret(word), "a whole secret: {word}");
    }
    assert!(text.contains("\"userToken\":\"eyJ") && text.contains("\"encryptionKey\":\""), "{text}");
}
