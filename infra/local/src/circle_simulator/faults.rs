//! Faults in Circle's responses: errors, delays, broken connections.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CircleSimulator;

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
    /// A body that replaces Circle's JSON, such as a proxy's HTML page.
    pub body: Option<String>,
    /// The `Retry-After` header of the response: seconds or a date.
    pub retry_after: Option<String>,
    /// Breaks the connection instead of sending a response.
    pub drop: bool,
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
            retry_after: None,
            drop: false,
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
        if self.drop && self.status.is_some() {
            return Err("give drop or status, not both".to_owned());
        }
        if !self.drop && self.status.is_none() && self.delay_ms == 0 {
            return Err("give a status, a delayMs or drop: true".to_owned());
        }
        if self.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("status must be between 200 and 599".to_owned());
        }
        let has_content = self.code.is_some() || self.message.is_some() || self.body.is_some();
        if self.status.is_none() && (has_content || self.retry_after.is_some()) {
            return Err("code, message, body and retryAfter need a status".to_owned());
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

    /// The body of the response in Circle's form.
    pub(super) fn error_body(&self) -> Value {
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
