//! Errors of Circle's API: each has a code, an HTTP status and a message.

use serde_json::{Value, json};

/// A response of Circle's API that is not 2xx.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) status: u16,
    /// `None` if the response comes from in front of Circle's API.
    code: Option<i32>,
    message: String,
    errors: Vec<Value>,
    /// The value of the `Retry-After` header, in seconds.
    pub(super) retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: u16, code: i32, message: &str) -> Self {
        Self { status, code: Some(code), message: message.to_owned(), errors: Vec::new(), retry_after: None }
    }

    /// The body. It has `errors` only if a parameter caused the error.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({"message": self.message});
        if let Some(code) = self.code {
            body["code"] = code.into();
        }
        if !self.errors.is_empty() {
            body["errors"] = Value::from(self.errors.clone());
        }
        body
    }

    /// A required parameter is missing.
    pub(super) fn missing(location: &str, name: &str) -> Self {
        let error = json!({
            "error": "value_must_not_be_empty",
            "message": format!("{name} must not be empty"),
            "location": location,
            "invalidValue": null,
            "constraints": {"required": true},
        });
        Self { errors: vec![error], ..Self::new(400, 1, "API parameter missing") }
    }

    /// A parameter has an invalid value.
    pub(super) fn invalid(location: &str, name: &str, value: &Value, constraint: &str) -> Self {
        let error = json!({
            "error": "invalid_value",
            "message": format!("{name} is invalid: {constraint}"),
            "location": location,
            "invalidValue": value,
            "constraints": {name: constraint},
        });
        Self { errors: vec![error], ..Self::new(400, 2, "API parameter invalid") }
    }

    /// The body is not a JSON object.
    pub(super) fn unreadable_body() -> Self {
        Self::invalid("body", "body", &Value::Null, "must be a JSON object")
    }

    pub(super) fn no_such_resource() -> Self {
        Self::new(404, 2, "Cannot find the resource")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(405, -1, "Method not allowed")
    }

    pub(super) fn something_went_wrong() -> Self {
        Self::new(500, -1, "Something went wrong")
    }

    pub(super) fn malformed_api_key() -> Self {
        Self::new(401, 401, "Malformed authorization. Is the authorization type missing?")
    }

    pub(super) fn wrong_api_key() -> Self {
        Self::new(401, 4, "Unauthorized")
    }

    /// The API key is not allowed to make this call.
    pub(super) fn no_permission() -> Self {
        Self::new(403, 3, "Forbidden")
    }

    /// The allowlist of the API key does not have the caller's address. Circle does not document the response.
    pub(super) fn address_not_allowed() -> Self {
        Self { code: None, ..Self::new(403, 0, "Forbidden") }
    }

    /// The rate limit of the account is exceeded.
    pub(super) fn too_many_requests(retry_after: Option<u64>) -> Self {
        Self { retry_after, ..Self::new(429, 429, "Too many requests") }
    }

    pub(super) fn user_exists() -> Self {
        Self::new(409, 155_101, "Existing user already created with the provided userId")
    }

    pub(super) fn no_such_user() -> Self {
        Self::new(404, 155_102, "Cannot find the user in the system")
    }

    pub(super) fn user_token_not_found() -> Self {
        Self::new(401, 155_103, "Cannot find the userToken in the system")
    }

    pub(super) fn user_token_expired() -> Self {
        Self::new(403, 155_104, "The userToken has expired")
    }

    pub(super) fn user_token_invalid() -> Self {
        Self::new(403, 155_105, "The userToken is invalid")
    }

    pub(super) fn user_disabled() -> Self {
        Self::new(403, 155_109, "The user has been disabled")
    }

    // Circle does not document the HTTP status of the next ones, so the caller chooses it.

    pub(super) fn pin_not_set(status: u16) -> Self {
        Self::new(status, 155_110, "The user has not set the PIN yet")
    }

    pub(super) fn security_questions_not_set(status: u16) -> Self {
        Self::new(status, 155_111, "The user has not set the security questions yet")
    }

    pub(super) fn no_such_challenge(status: u16) -> Self {
        Self::new(status, 155_116, "Cannot find the challenge in the system")
    }

    pub(super) fn challenge_expired(status: u16) -> Self {
        Self::new(status, 155_121, CHALLENGE_EXPIRED)
    }

    pub(super) fn pin_locked(status: u16) -> Self {
        Self::new(status, 155_119, PIN_LOCKED)
    }

    pub(super) fn security_questions_locked(status: u16) -> Self {
        Self::new(status, 155_120, SECURITY_QUESTIONS_LOCKED)
    }
}

pub(super) const PIN_WRONG: &str = "The PIN is wrong";
pub(super) const ANSWERS_WRONG: &str = "The security answers are wrong";
pub(super) const CHALLENGE_EXPIRED: &str = "The challenge has expired";
pub(super) const PIN_LOCKED: &str = "The PIN is locked after too many wrong entries";
pub(super) const SECURITY_QUESTIONS_LOCKED: &str =
    "The security questions are locked after too many wrong answers";
