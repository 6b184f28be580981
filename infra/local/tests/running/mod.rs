//! A stack in a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};

pub(crate) fn local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running stack. It ends when the test ends or panics.
pub(crate) struct Running {
    pub(crate) process: Child,
    /// The line of JSON that it prints.
    pub(crate) description: Value,
}

impl Running {
    /// Starts the stack and waits for its line of JSON.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_with(&[], environment)
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_on(0, arguments, environment).expect("the stack starts")
    }

    /// Starts the stack on known ports. Returns the one of the HTTP API, too.
    pub(crate) fn start_on_known_ports() -> (Self, String) {
        // Another process may take one of the ports at any time.
        let attempt = |_| {
            let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = probe.local_addr().unwrap().port();
            drop(probe);
            Some((Self::start_on(port.min(65_528), &[], &[])?, port.to_string()))
        };
        (0..20).find_map(attempt).expect("eight free ports in a row")
    }

    /// `None` if the stack does not start.
    fn start_on(port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Self> {
        let mut command = local(&["--json", "--port", &port.to_string()]);
        command.args(arguments);
        command.envs(environment.iter().copied()).env_remove("NO_PROXY").env_remove("no_proxy");
        let mut running = Self { process: command.spawn().unwrap(), description: Value::Null };
        let mut line = String::new();
        BufReader::new(running.process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        running.description = serde_json::from_str(&line).ok()?;
        Some(running)
    }

    /// A value from `/proc/PID/status` in kB; `None` if the system is not Linux.
    pub(crate) fn kilobytes(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        Some(line.split_whitespace().nth(1).unwrap().parse().unwrap())
    }

    /// Sends what Ctrl-C sends, and waits for the end of the process.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.process.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // This fails if the process has already ended, which is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Changes the PIN of the stack's user over HTTP. Returns the challenge when it has a final status.
pub(crate) async fn change_pin(stack: &Value) -> Value {
    let (api, circle) = (stack["api"].as_str().unwrap(), stack["circle"].as_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let read = async |request: reqwest::RequestBuilder| {
        let body = request.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let signed_in =
        |request: reqwest::RequestBuilder| request.bearer_auth(stack["bearerToken"].as_str().unwrap());
    let created = read(signed_in(client.post(format!("{api}/challenges")))).await;
    let id = created["challengeId"].as_str().unwrap_or_else(|| panic!("{created}"));
    let entry = json!({ "pin": stack["pin"] }).to_string();
    let entered = read(client.post(format!("{circle}/control/challenges/{id}/pin")).body(entry)).await;
    assert_eq!(entered["status"], "COMPLETE", "{entered}");
    loop {
        // Waits for the webhook, whose arrival is not visible over HTTP.
        let record = read(signed_in(client.get(format!("{api}/challenges/{id}")))).await;
        if record["status"] != "PENDING" && record["status"] != "IN_PROGRESS" {
            return record;
        }
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}
