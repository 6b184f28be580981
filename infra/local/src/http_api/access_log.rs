//! The access log: one line for each request, as API Gateway writes it.
//!
//! Unlike the access log in the cloud, it has the path and the user, because nobody else reads it.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};

use super::Route;

/// The `target` of the lines, which tells them from the lines of the functions.
pub(crate) const TARGET: &str = "access";

/// A request that is being responded to.
#[derive(Debug)]
pub(super) struct Access {
    line: Value,
    /// On the machine's clock, because the stack's clock can jump.
    began: Duration,
}

impl Access {
    pub(super) fn begin(peer: SocketAddr, request_id: &str) -> Self {
        let line = json!({ "target": TARGET, "request_id": request_id, "source_ip": peer.ip() });
        Self { line, began: SystemClock.monotonic() }
    }

    pub(super) fn request(&mut self, parts: &Parts, route: Option<&Route>) {
        self.line["method"] = parts.method.as_str().into();
        self.line["path"] = parts.uri.path().into();
        self.line["route"] = route.map(|route| route.path).into();
    }

    /// The caller, once the token is verified.
    pub(super) fn user(&mut self, subject: Option<&Value>) {
        self.line["user"] = subject.cloned().unwrap_or_default();
    }

    pub(super) fn end(mut self, status: StatusCode) -> String {
        self.line["status"] = status.as_u16().into();
        let duration = SystemClock.monotonic().saturating_sub(self.began);
        self.line["duration_ms"] = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into();
        self.line.to_string()
    }
}
