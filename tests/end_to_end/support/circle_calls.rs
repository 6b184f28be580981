//! The service's calls to Circle, by the names under which the simulator counts them, and faults of these calls.

use local::circle_simulator::Fault;
use uuid::Uuid;

use super::App;

pub(crate) const CREATE_SESSION: &str = "POST /v1/w3s/users/token";
pub(crate) const GET_USER_BY_ID: &str = "GET /v1/w3s/users/{userId}";
pub(crate) const GET_USER_BY_TOKEN: &str = "GET /v1/w3s/user";
pub(crate) const CREATE_CHANGE_PIN: &str = "PUT /v1/w3s/user/pin";
pub(crate) const CREATE_RESTORE_PIN: &str = "POST /v1/w3s/user/pin/restore";
pub(crate) const GET_CHALLENGE: &str = "GET /v1/w3s/user/challenges/{id}";
pub(crate) const GET_PUBLIC_KEY: &str = "GET /v2/notifications/publicKey/{keyId}";

impl App {
    /// How often Circle was called for callers and for reconciliation: with everything but webhooks.
    pub(crate) fn caller_calls(&self) -> u64 {
        let calls = self.circle.call_counts();
        calls.iter().filter(|(call, _)| call.contains("/v1/w3s/")).map(|(_, count)| count).sum()
    }
}

/// A fault of the next such call, and of calls whose path only starts the same. The test says what goes wrong.
pub(crate) fn fault_of(call: &str) -> Fault {
    let (method, path) = call.split_once(' ').unwrap();
    let path = path.split('{').next().unwrap();
    Fault { method: Some(method.into()), path: Some(path.into()), ..Fault::default() }
}

/// A response of Circle's with this status and code to the next such call.
pub(crate) fn error_of(call: &str, status: u16, code: i32) -> Fault {
    Fault { status: Some(status), code: Some(code), ..fault_of(call) }
}

/// A call that Circle responds to only after an hour.
pub(crate) fn hanging(call: &str) -> Fault {
    Fault { delay_ms: 3_600_000, ..fault_of(call) }
}

/// A fault of the next call that asks for this challenge. The test says what goes wrong.
pub(crate) fn fault_of_challenge(id: Uuid) -> Fault {
    fault_of(&GET_CHALLENGE.replace("{id}", &id.to_string()))
}

/// Circle's response to the next call that asks for this challenge: the challenge does not exist.
pub(crate) fn not_found_at_circle(id: Uuid) -> Fault {
    Fault { status: Some(404), code: Some(155_116), ..fault_of_challenge(id) }
}
