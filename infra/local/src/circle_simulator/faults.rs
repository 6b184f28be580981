//! Faults in Circle's responses: errors, delays, broken connections.

use std::collections::{HashMap, VecDeque};

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CircleSimulator;
use super::responses::{json_response, response};

/// What goes wrong with the next matching calls, instead of their effect or after it.
///
/// A fault with only a delay sends the real response late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fault {
    /// The HTTP method of the calls; any method if absent.
    pub method: Option<String>,
    /// The beginning of the path of the calls; any path if absent.
    pub path: Option<String>,
    /// How many calls it applies to.
    pub times: u32,
    /// How long the call waits first, in milliseconds of the simulator's clock.
    pub delay_ms: u64,
    /// The HTTP status of the response.
    pub status: Option<u16>,
    /// The Circle code in the response. The default is 429 for the status 429, and -1 for any other status.
    pub code: Option<i32>,
    /// The message in the response.
    pub message: Option<String>,
    /// A body that replaces Circle's JSON, such as a gateway's HTML page. The response then has no `X-Request-Id`.
    pub body: Option<String>,
    /// Headers of the response, such as `cf-ray`. They replace the usual ones; the content type of a body is
    /// `text/html` otherwise.
    pub headers: HashMap<String, String>,
    /// The `Retry-After` header of the response: seconds or a date.
    pub retry_after: Option<String>,
    /// Closes the connection instead of sending a response.
    pub drop: bool,
    /// Resets the connection (RST) instead of sending a response.
    pub reset: bool,
    /// Closes the connection after this many bytes of the response, in its head or its body.
    pub cut_after_bytes: Option<usize>,
    /// The call takes effect first, and only its response is replaced. A call that Circle rejects has no
    /// effect.
    pub after_effect: bool,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            method: None,
            path: None,
            times: 1,
            delay_ms: 0,
            status: None,
            code: None,
            message: None,
            body: None,
            headers: HashMap::new(),
            retry_after: None,
            drop: false,
            reset: false,
            cut_after_bytes: None,
            after_effect: false,
        }
    }
}

impl Fault {
    /// The error is a sentence that names the invalid field.
    fn check(&self) -> Result<(), String> {
        if self.times == 0 {
            return Err("times must be at least 1".to_owned());
        }
        let breaks = self.drop || self.reset;
        if [self.drop, self.reset, self.status.is_some()].iter().filter(|given| **given).count() > 1 {
            return Err("give drop, reset or status, but only one of them".to_owned());
        }
        if breaks && self.cut_after_bytes.is_some() {
            return Err("cutAfterBytes needs a response".to_owned());
        }
        if !breaks && self.status.is_none() && self.delay_ms == 0 && self.cut_after_bytes.is_none() {
            return Err("give a status, a delayMs, cutAfterBytes, drop: true or reset: true".to_owned());
        }
        if self.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("status must be between 200 and 599".to_owned());
        }
        let has_content = self.code.is_some() || self.message.is_some() || self.body.is_some();
        let has_headers = self.retry_after.is_some() || !self.headers.is_empty();
        if self.status.is_none() && (has_content || has_headers) {
            return Err("code, message, body, headers and retryAfter need a status".to_owned());
        }
        if HeaderMap::<HeaderValue>::try_from(&self.headers).is_err() {
            return Err("headers must be names and values of HTTP headers".to_owned());
        }
        if self.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err("path must start with /".to_owned());
        }
        if self.retry_after.as_ref().is_some_and(|value| http::HeaderValue::from_str(value).is_err()) {
            return Err("retryAfter must be a header value".to_owned());
        }
        Ok(())
    }

    fn applies(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_str()))
    }

    /// The response with this status.
    pub(super) fn response(&self, status: u16) -> Response {
        let mut response = match &self.body {
            Some(text) => response(status, "text/html", text.clone()),
            None => json_response(status, &self.error_body()),
        };
        let headers = response.headers_mut();
        if let Some(value) = self.retry_after.as_ref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(header::RETRY_AFTER, value);
        }
        headers.extend(HeaderMap::try_from(&self.headers).unwrap_or_default());
        response
    }

    /// The body of the response in Circle's form.
    fn error_body(&self) -> Value {
        let code = self.code.unwrap_or(if self.status == Some(429) { 429 } else { -1 });
        json!({"code": code, "message": self.message.as_deref().unwrap_or("Something went wrong")})
    }
}

/// The faults that have not happened yet, the oldest first.
#[derive(Default)]
pub(super) struct Faults(VecDeque<Fault>);

impl Faults {
    /// The first fault that applies to this call. It is removed once it has been taken `times` times.
    pub(super) fn take(&mut self, method: &str, path: &str) -> Option<Fault> {
        let index = self.0.iter().position(|fault| fault.applies(method, path))?;
        let fault = &mut self.0[index];
        fault.times -= 1;
        if fault.times == 0 { self.0.remove(index) } else { Some(fault.clone()) }
    }
}

impl CircleSimulator {
    /// Adds a fault. If several faults apply to a call, the oldest one happens.
    ///
    /// # Panics
    /// If the fault contradicts itself.
    pub fn add_fault(&self, fault: Fault) {
        if let Err(problem) = self.try_add_fault(fault) {
            panic!("{problem}");
        }
    }

    pub(super) fn try_add_fault(&self, fault: Fault) -> Result<(), String> {
        fault.check()?;
        self.state().faults.0.push_back(fault);
        Ok(())
    }

    /// The faults that have not happened yet.
    pub fn faults(&self) -> Vec<Fault> {
        self.state().faults.0.iter().cloned().collect()
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.state().faults.0.clear();
    }
}
