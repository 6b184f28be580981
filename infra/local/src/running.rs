//! A stack that runs in another process.

use std::collections::VecDeque;

use serde_json::Value;
use uuid::Uuid;

use crate::environment::WEB_PORT;
use crate::story::Story;

/// A stack on known ports.
#[derive(Debug)]
pub struct RunningStack {
    port: u16,
}

/// Why a stack has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// Nothing responds as a stack does.
    #[error(
        "no stack is running on port {0}; start one with `cargo local`, or name its port with --port PORT"
    )]
    NotRunning(u16),
    /// The stack rejected the request.
    #[error("{0}")]
    Rejected(String),
    /// The stack stopped while it was responding.
    #[error("the stack stopped responding")]
    Broken(#[source] reqwest::Error),
}

impl RunningStack {
    /// The stack whose HTTP API is on this port.
    pub fn on(port: u16) -> Self {
        Self { port }
    }

    /// The story of a challenge.
    ///
    /// # Errors
    /// If no stack is running, or it does not know the challenge.
    pub async fn story(&self, id: Uuid) -> Result<Story, RunningError> {
        let response = self.request(reqwest::Method::GET, &format!("/stories/{id}")).await?;
        let body = response.bytes().await.map_err(RunningError::Broken)?;
        serde_json::from_slice(&body).map_err(|_| RunningError::NotRunning(self.port))
    }

    /// Starts an incident. Returns what happens.
    pub(crate) async fn play(&self, incident: &str) -> Result<Lines, RunningError> {
        let response = self.request(reqwest::Method::POST, &format!("/incidents/{incident}")).await?;
        Ok(Lines { response, unread: VecDeque::new() })
    }

    async fn request(&self, method: reqwest::Method, path: &str) -> Result<reqwest::Response, RunningError> {
        let http = reqwest::Client::builder().no_proxy().build().map_err(RunningError::Broken)?;
        let url = format!("http://127.0.0.1:{}{path}", self.port.saturating_add(WEB_PORT));
        let not_running = || RunningError::NotRunning(self.port);
        let response = http.request(method, url).send().await.map_err(|_| not_running())?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(RunningError::Broken)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = body["error"].as_str().map(|error| RunningError::Rejected(error.to_owned()));
        Err(error.unwrap_or_else(not_running))
    }
}

/// Lines of JSON, as the stack sends them.
#[derive(Debug)]
pub(crate) struct Lines {
    response: reqwest::Response,
    unread: VecDeque<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, RunningError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).unwrap_or_default()));
            }
            match self.response.chunk().await.map_err(RunningError::Broken)? {
                Some(chunk) => self.unread.extend(chunk),
                None => return Ok(None),
            }
        }
    }
}
