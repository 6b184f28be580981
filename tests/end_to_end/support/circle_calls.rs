//! The service's calls to Circle, by the names under which the simulator counts them, and faults of these calls.

use local::circle_simulator::Fault;
use serde_json::json;
use shared::challenge::ChallengeType;
use shared::circle::CircleIdempotencyKey;
use shared::user_id::UserId;
use uuid::Uuid;

use super::{App, Response, USER, challenge_id};

pub(crate) const CREATE_SESSION: &str = "POST /v1/w3s/users/token";
pub(crate) const GET_USER_BY_ID: &str = "GET /v1/w3s/users/{userId}";
pub(crate) const GET_USER_BY_TOKEN: &str = "GET /v1/w3s/user";
pub(crate) const CREATE_CHANGE_PIN: &str = "PUT /v1/w3s/user/pin";
pub(crate) const CREATE_RESTORE_PIN: &str = "POST /v1/w3s/user/pin/restore";
pub(crate) const GET_CHALLENGE: &str = "GET /v1/w3s/user/challenges/{id}";
pub(crate) const GET_PUBLIC_KEY: &str = "GET /v2/notifications/publicKey/{keyId}";

impl App {
    /// Creates a CHANGE_PIN challenge of alice at Circle alone, as a creation does that fails before it writes its record.
    pub(crate) async fn create_at_circle(&self, callers_key: &str) -> Uuid {
        let user: UserId = USER.parse().unwrap();
        let key = CircleIdempotencyKey::derive(&user, ChallengeType::ChangePin, callers_key.parse().unwrap());
        let request = self
            .http
            .put(format!("{}/v1/w3s/user/pin", self.circle.url()))
            .bearer_auth(self.circle.api_key())
            .header("x-user-token", self.user_token().await)
            .header("content-type", "application/json")
            .body(json!({ "idempotencyKey": key }).to_string());
        let created = Response::to(request).await;
        assert_eq!(created.status, 201, "{created:?}");
        challenge_id(&created.body["data"])
    }

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
