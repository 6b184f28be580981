//! The functions in sandboxes, behind Lambda's `Invoke`. A sandbox handles one event at a time. If more events come at
//! once, more sandboxes are started, up to a limit. Events beyond it wait.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::figures::Figures;
use crate::lambda::{Program, Sandbox};

/// The most sandboxes of a function. On Lambda it could have a thousand, which no machine for tests has room for.
const MAX_SANDBOXES: usize = 6;

const FUNCTIONS: [&str; 7] = [
    "announce-challenges",
    "create-challenge",
    "create-token",
    "get-challenge",
    "get-pin",
    "receive-webhook",
    "reconcile-challenges",
];

/// The sandboxes of all functions, and what passed through them.
pub(crate) struct Sandboxes {
    functions: BTreeMap<&'static str, Function>,
    folder: PathBuf,
    figures: Arc<Figures>,
    webhooks: Mutex<HashMap<String, Vec<u16>>>,
    failures: Mutex<Vec<String>>,
}

struct Function {
    program: Program,
    permits: Semaphore,
    idle: Mutex<Vec<Sandbox>>,
    pids: Mutex<Vec<u32>>,
    invoked: Mutex<usize>,
}

impl Sandboxes {
    /// Serves the programs in the folder `programs` on a listener.
    pub(crate) fn serve(
        listener: TcpListener,
        programs: &Path,
        environment: &BTreeMap<String, String>,
        folder: &Path,
        figures: Arc<Figures>,
    ) -> Arc<Self> {
        let function = |name: &'static str| {
            let mut environment: Vec<_> = environment.clone().into_iter().collect();
            let of_lambda = [
                ("AWS_LAMBDA_FUNCTION_NAME", name),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
                ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
                ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
                ("METRICS_NAMESPACE", "circle-pin-reset/load"),
                ("TZ", ":UTC"),
            ];
            environment.extend(of_lambda.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let function = Function {
                program: Program {
                    path: programs.join(name).join("bootstrap"),
                    arguments: vec![],
                    environment,
                },
                permits: Semaphore::new(MAX_SANDBOXES),
                idle: Mutex::default(),
                pids: Mutex::default(),
                invoked: Mutex::default(),
            };
            (name, function)
        };
        let sandboxes = Arc::new(Self {
            functions: FUNCTIONS.map(function).into(),
            folder: folder.to_owned(),
            figures,
            webhooks: Mutex::default(),
            failures: Mutex::default(),
        });
        tokio::spawn(accept(listener, Arc::clone(&sandboxes)));
        sandboxes
    }

    /// The processes of each function.
    pub(crate) fn pids(&self) -> Vec<(&'static str, Vec<u32>)> {
        self.functions.iter().map(|(name, function)| (*name, function.pids.lock().unwrap().clone())).collect()
    }

    /// How often a function has responded.
    pub(crate) fn invoked(&self, name: &str) -> usize {
        *self.functions[name].invoked.lock().unwrap()
    }

    /// The statuses that each webhook got, by the notification's id.
    pub(crate) fn webhooks(&self) -> HashMap<String, Vec<u16>> {
        self.webhooks.lock().unwrap().clone()
    }

    /// Invocations that failed, and lines that the functions logged as errors.
    pub(crate) fn failures(&self) -> Result<Vec<String>> {
        let mut failures = self.failures.lock().unwrap().clone();
        for (name, pids) in self.pids() {
            for number in 0..pids.len() {
                let log = std::fs::read_to_string(self.log(name, number))?;
                failures.extend(
                    log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).map(str::to_owned),
                );
            }
        }
        Ok(failures)
    }

    fn log(&self, name: &str, number: usize) -> PathBuf {
        self.folder.join(format!("{name}-{number}.log"))
    }

    async fn invoke(&self, name: &str, event: String) -> Result<Bytes> {
        let came = Instant::now();
        let (&name, function) = self.functions.get_key_value(name).context("there is no such function")?;
        let _permit = function.permits.acquire().await?;
        let idle = function.idle.lock().unwrap().pop();
        let mut sandbox = match idle {
            Some(sandbox) => sandbox,
            None => self.start(name, function).await?,
        };
        let webhook = (name == "receive-webhook").then(|| notification(&event)).flatten();
        let (response, _) = sandbox.call(event).await?;
        function.idle.lock().unwrap().push(sandbox);
        *function.invoked.lock().unwrap() += 1;
        if let Some(id) = webhook {
            let response: Value = serde_json::from_slice(&response)?;
            let status =
                response["statusCode"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(0);
            self.webhooks.lock().unwrap().entry(id).or_default().push(status);
            self.figures.add("POST /webhooks/circle", came, status);
        }
        Ok(response)
    }

    async fn start(&self, name: &str, function: &Function) -> Result<Sandbox> {
        let number = {
            let mut pids = function.pids.lock().unwrap();
            pids.push(0);
            pids.len() - 1
        };
        let sandbox = Sandbox::start(&function.program, &self.log(name, number)).await?;
        function.pids.lock().unwrap()[number] = sandbox.pid();
        Ok(sandbox)
    }
}

/// The id of the notification in the event of a webhook.
fn notification(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).ok()?;
    let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
    body["notificationId"].as_str().map(str::to_owned)
}

async fn accept(listener: TcpListener, sandboxes: Arc<Sandboxes>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let sandboxes = Arc::clone(&sandboxes);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(&sandboxes, request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// `POST /2015-03-31/functions/NAME/invocations`.
async fn respond(
    sandboxes: &Sandboxes,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let name = path.split('/').nth(3).unwrap_or_default();
    let event = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let result = sandboxes.invoke(name, String::from_utf8_lossy(&event).into_owned()).await;
    Ok(result.map_or_else(
        |error| {
            let text = format!("{name}: {error:#}");
            sandboxes.failures.lock().unwrap().push(text.clone());
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            response
        },
        |body| Response::new(Full::new(body)),
    ))
}
