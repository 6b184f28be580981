//! `cargo local` in a process of its own, and requests to its parts.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The line that `cargo local --json` prints.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    api: String,
    control: String,
    dynamodb: String,
    issuer: String,
    event_bus: String,
    function_environment: BTreeMap<String, String>,
}

/// A running stack. It ends when this is dropped.
pub(crate) struct Stack {
    process: Child,
    description: Description,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// A response.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
    /// Null if it is not JSON.
    pub(crate) body: Value,
}

impl Stack {
    /// Starts the program `local` with functions at the URL `functions`. Its table is in a file, because the stack has an
    /// index for the stream only there.
    pub(crate) async fn start(program: &Path, functions: &str, data: &Path, folder: &Path) -> Result<Self> {
        let mut process = Command::new(program)
            .args(["--port", "0", "--json", "--quiet", "--unthrottled", "--functions", functions, "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("local.log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = process.stdout.take().context("the output is a pipe")?;
        let line = BufReader::new(output).lines().next_line().await?.context("cargo local did not start")?;
        let description = serde_json::from_str(&line)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { process, description, http })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// The environment of functions that run elsewhere.
    pub(crate) fn function_environment(&self) -> &BTreeMap<String, String> {
        &self.description.function_environment
    }

    /// A bearer token of a user.
    pub(crate) async fn token(&self, user: &str) -> Result<String> {
        let url = format!("{}/token?sub={user}", self.description.issuer);
        let (_, body) = self.send("GET", &url, &[], String::new()).await?;
        Ok(String::from_utf8(body.into())?)
    }

    /// A request to the HTTP API.
    pub(crate) async fn api(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Reply> {
        let url = format!("{}{path}", self.description.api);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (head, body) = self.send(method, &url, headers, body).await?;
        let retry_after = head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Reply { status: head.status.as_u16(), retry_after, body })
    }

    /// A request to the simulator's control API, which has to succeed.
    pub(crate) async fn control(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let url = format!("{}{path}", self.description.control);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (head, body) = self.send(method, &url, &[], body).await?;
        ensure!(head.status.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    /// Every event so far. The stack responds once the changes so far are announced.
    pub(crate) async fn events(&self) -> Result<Vec<Value>> {
        let url = format!("{}/events", self.description.event_bus);
        let (_, body) = self.send("GET", &url, &[], String::new()).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Every record, in DynamoDB's JSON.
    pub(crate) async fn records(&self) -> Result<Vec<Value>> {
        let (mut records, mut start) = (Vec::new(), Value::Null);
        loop {
            let mut scan = json!({ "TableName": "challenges", "ConsistentRead": true });
            if !start.is_null() {
                scan["ExclusiveStartKey"] = start;
            }
            let mut page = self.dynamodb("Scan", &scan).await?;
            records.extend(page["Items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            start = page["LastEvaluatedKey"].take();
            if start.is_null() {
                return Ok(records);
            }
        }
    }

    pub(crate) async fn dynamodb(&self, operation: &str, request: &Value) -> Result<Value> {
        // The embedded database wants these headers and does not verify them.
        let authorization = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0";
        let target = format!("DynamoDB_20120810.{operation}");
        let headers = [
            ("x-amz-target", target.as_str()),
            ("authorization", authorization),
            ("x-amz-date", "20260101T000000Z"),
        ];
        let (head, body) =
            self.send("POST", &self.description.dynamodb, &headers, request.to_string()).await?;
        ensure!(head.status.is_success(), "{operation}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(hyper::http::response::Parts, Bytes)> {
        let mut request = Request::builder().method(method).uri(url);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.http.request(request.body(Full::from(body))?).await?;
        let (head, body) = response.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }
}
