//! Faults in Circle's answers: errors, delays, broken connections.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CircleSimulator;
use super::state::State;

/// What goes wrong with the next matching calls, instead of or after their effect.
///
/// A fault with only a delay answers late but truly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fault {
    /// The HTTP method it applies to; any when absent.
    pub method: Option<String>,
    /// The beginning of the paths it applies to; any when absent.
    pub path: Option<String>,
    /// How many calls it applies to.
    pub times: u32,
    /// How long to wait first, in milliseconds of the simulator's clock.
    pub delay_ms: u64,
    /// The HTTP status to answer with.
    pub status: Option<u16>,
    /// The Circle code to answer with; by default 429 for the status 429, else -1.
    pub code: Option<i32>,
    /// The message to answer with.
    pub message: Option<String>,
    /// The body to answer with instead of Circle's form, such as a proxy's HTML page.
    pub body: Option<String>,
    /// The `Retry-After` header to answer with: seconds or a date.
    pub retry_after: Option<String>,
    /// Break the connection instead of answering.
    pub drop: bool,
    /// The call takes effect first, and only its answer suffers. A refused call has no effect either way.
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
    /// Says what is wrong with it, if anything is.
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
        let answers = self.code.is_some() || self.message.is_some() || self.body.is_some();
        if self.status.is_none() && (answers || self.retry_after.is_some()) {
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

    /// The body of the answer in Circle's form.
    pub(super) fn error_body(&self) -> Value {
        let code = self.code.unwrap_or(if self.status == Some(429) { 429 } else { -1 });
        json!({"code": code, "message": self.message.as_deref().unwrap_or("Something went wrong")})
    }
}

impl CircleSimulator {
    /// Adds a fault. Where several apply to a call, the oldest one is used.
    ///
    /// # Panics
    /// When the fault contradicts itself.
    pub fn add_fault(&self, fault: Fault) {
        if let Err(problem) = self.accept_fault(fault) {
            panic!("{problem}");
        }
    }

    pub(super) fn accept_fault(&self, fault: Fault) -> Result<(), String> {
        fault.check()?;
        self.state().faults.push_back(fault);
        Ok(())
    }

    /// The faults that are still to happen.
    pub fn faults(&self) -> Vec<Fault> {
        self.state().faults.iter().cloned().collect()
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }
}

impl State {
    /// The fault that this call meets, which is thereby used up once.
    pub(super) fn take_fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|fault| fault.applies(method, path))?;
        let fault = &mut self.faults[index];
        fault.times -= 1;
        if fault.times == 0 { self.faults.remove(index) } else { Some(fault.clone()) }
    }
}
