//! A function in its sandbox: a process, and the Runtime API that it polls
//! (`https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html`).

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longer than any function takes at the smallest share of a core.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a function.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
}

/// A running function that waits for an event.
pub(crate) struct Sandbox {
    process: Child,
    pid: Pid,
    cpu: ClockId,
    log: PathBuf,
    polls: mpsc::UnboundedReceiver<Poll>,
    posts: mpsc::UnboundedReceiver<Post>,
    waiting: oneshot::Sender<String>,
    server: JoinHandle<()>,
    pub(crate) started: Instant,
    /// From the start of the process to its first poll.
    pub(crate) init: Duration,
}

struct Poll {
    at: Instant,
    event: oneshot::Sender<String>,
}

struct Post {
    at: Instant,
    is_response: bool,
    body: Bytes,
}

#[derive(Clone)]
struct Api {
    polls: mpsc::UnboundedSender<Poll>,
    posts: mpsc::UnboundedSender<Post>,
}

impl Sandbox {
    /// Starts a function, and waits for its first poll.
    pub(crate) async fn start(program: &Program, log: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (polls_sender, mut polls) = mpsc::unbounded_channel();
        let (posts_sender, posts) = mpsc::unbounded_channel();
        let server = tokio::spawn(serve(listener, Api { polls: polls_sender, posts: posts_sender }));

        let output = std::fs::File::create(log)?;
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", &address)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let started = Instant::now();
        let mut process =
            command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
        let pid = Pid::from_raw(process.id().context("the function has ended")?.try_into()?);
        let cpu = clock_getcpuclockid(pid)?;
        let Some(poll) = next(&mut polls, &mut process).await else {
            bail!("the function did not poll for an event:\n{}", tail(log));
        };
        let init = poll.at - started;
        let (log, waiting) = (log.to_owned(), poll.event);
        Ok(Self { process, pid, cpu, log, polls, posts, waiting, server, started, init })
    }

    /// Sends an event, and waits until the function polls for the next one. Returns the time from the event to the
    /// response, which has to have this status, if the operation has one.
    pub(crate) async fn invoke(&mut self, event: String, status: Option<u16>) -> Result<Duration> {
        let (body, took) = self.call(event).await?;
        let response: Value = serde_json::from_slice(&body)?;
        let is_expected = status.is_none_or(|status| response["statusCode"] == status);
        ensure!(is_expected, "an unexpected response: {response}\n{}", tail(&self.log));
        Ok(took)
    }

    /// Sends an event, and waits until the function polls for the next one. Returns the response, and the time from the
    /// event to it.
    pub(crate) async fn call(&mut self, event: String) -> Result<(Bytes, Duration)> {
        let sent = Instant::now();
        let (next_waiting, unused) = oneshot::channel();
        drop(unused);
        let waiting = std::mem::replace(&mut self.waiting, next_waiting);
        if waiting.send(event).is_err() {
            bail!("the function no longer waits for an event:\n{}", tail(&self.log));
        }
        let post = next(&mut self.posts, &mut self.process).await;
        let poll = next(&mut self.polls, &mut self.process).await;
        let (Some(post), Some(poll)) = (post, poll) else {
            bail!("the function did not respond:\n{}", tail(&self.log));
        };
        if !post.is_response {
            bail!("the function failed: {}", String::from_utf8_lossy(&post.body));
        }
        self.waiting = poll.event;
        Ok((post.body, post.at - sent))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// The CPU time of all threads since the start, user and system.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(Duration::from(self.cpu.now()?))
    }

    /// The largest resident set so far, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes: u64 = line.context("VmHWM")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    /// Ends the function with SIGTERM, on which a program that watches it can still write what it saw.
    pub(crate) async fn stop(mut self) -> Result<()> {
        kill(self.pid, Signal::SIGTERM)?;
        self.process.wait().await?;
        self.server.abort();
        Ok(())
    }
}

/// The next message; `None` if the process ends first, or nothing comes.
async fn next<T>(messages: &mut mpsc::UnboundedReceiver<T>, process: &mut Child) -> Option<T> {
    tokio::select! {
        biased;
        message = messages.recv() => message,
        _ = process.wait() => None,
        () = tokio::time::sleep(PATIENCE) => None,
    }
}

/// The last lines that the function wrote.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

async fn serve(listener: TcpListener, api: Api) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let api = api.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(&api, request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(api: &Api, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        return Ok(poll(api).await.expect("the parts of the response are valid"));
    }
    let is_response = request.uri().path().ends_with("/response");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let _ = api.posts.send(Post { at: Instant::now(), is_response, body });
    Ok(Response::builder().status(202).body(Full::default()).expect("the parts of the response are valid"))
}

async fn poll(api: &Api) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let (event, given) = oneshot::channel();
    let _ = api.polls.send(Poll { at: Instant::now(), event });
    let Ok(event) = given.await else { return Response::builder().status(500).body(Full::default()) };
    let deadline = time::OffsetDateTime::now_utc() + PATIENCE;
    Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", uuid::Uuid::new_v4().to_string())
        .header("lambda-runtime-deadline-ms", (deadline.unix_timestamp() * 1000).to_string())
        .header(
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:circle-pin-reset",
        )
        .header("lambda-runtime-trace-id", "Root=1-6743b2f6-0c8e1a5b7d9f20416d3e5a7b;Parent=0;Sampled=0")
        .body(Full::new(event.into()))
}
