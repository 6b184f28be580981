//! The control API: over HTTP, it acts as a user or as an operator of Circle, and makes Circle misbehave.
//!
//! Each operation calls a method of [`CircleSimulator`]. [`page`] lists the operations.

mod page;

use std::time::Duration;

use axum::response::Response;
use http::header::ACCEPT;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::CircleSimulator;
use super::calls::path_segments;
use super::control_error::ControlError;
use super::dates::timestamp;
use super::device::{Expiry, PinEntry};
use super::notifications::CustomWebhook;
use super::outbox::ReleaseOrder;
use super::responses::{json_response, response};
use crate::server;

/// The page loads nothing from elsewhere, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Responds to a request under `/control`.
pub(super) fn respond(
    simulator: &CircleSimulator,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let path = path.trim_start_matches("/control").trim_end_matches('/');
    let Some(segments) = path_segments(path) else {
        return error_response(&ControlError::invalid("the path is not UTF-8"));
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if method == Method::GET && segments.is_empty() {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("text/html") {
            return server::file("text/html; charset=utf-8", POLICY, page::HTML);
        }
        return response(200, "text/plain; charset=utf-8", page::text(simulator));
    }
    if method == Method::GET
        && let ["assets", name] = segments.as_slice()
        && let Some((content_type, content)) = page::asset(name)
    {
        return server::file(content_type, POLICY, content);
    }
    match operate(simulator, method, &segments, body) {
        Ok(result) => json_response(200, &result),
        Err(error) => error_response(&error),
    }
}

fn error_response(error: &ControlError) -> Response {
    json_response(error.status(), &json!({"error": error.to_string()}))
}

fn operate(
    simulator: &CircleSimulator,
    method: &Method,
    segments: &[&str],
    body: &[u8],
) -> Result<Value, ControlError> {
    match (method.as_str(), segments) {
        ("GET", ["users"]) => Ok(simulator.users().into()),
        ("GET", ["users", id]) => simulator.user(id),
        ("PUT", ["users", id]) => simulator.put_user(id, read(body)?),
        ("PATCH", ["users", id]) => simulator.change_user(id, read(body)?),
        ("POST", ["users", id, "forget-tokens"]) => {
            let user = simulator.user(id)?;
            simulator.forget_user_tokens(id);
            Ok(user)
        }
        ("GET", ["challenges"]) => Ok(json!(simulator.challenges())),
        ("GET", ["challenges", id]) => Ok(json!(simulator.challenge(uuid(id)?)?)),
        ("POST", ["challenges", id, action]) => challenge(simulator, uuid(id)?, action, body),
        ("GET", ["state"]) => Ok(page::state(simulator)),
        ("GET", ["knobs"]) => Ok(json!(simulator.knobs())),
        ("PATCH", ["knobs"]) => change_knobs(simulator, body),
        ("GET", ["faults"]) => Ok(json!(simulator.faults())),
        ("POST", ["faults"]) => {
            simulator.try_add_fault(read(body)?).map_err(ControlError::Invalid)?;
            Ok(json!(simulator.faults()))
        }
        ("DELETE", ["faults"]) => {
            simulator.clear_faults();
            Ok(json!([]))
        }
        ("GET", ["calls"]) => Ok(json!(simulator.call_counts())),
        ("DELETE", ["calls"]) => {
            simulator.reset_call_counts();
            Ok(json!({}))
        }
        ("GET", ["rate-limited"]) => Ok(json!(simulator.rate_limited_counts())),
        ("GET", ["subscriptions"]) => Ok(simulator.subscriptions().into()),
        ("GET", ["deliveries"]) => Ok(json!(simulator.deliveries())),
        ("POST", ["deliveries", "release"]) => {
            let Release { order } = read(body)?;
            Ok(json!({"released": simulator.release_webhooks(order)}))
        }
        ("POST", ["webhooks"]) => Ok(json!({"sent": simulator.send_custom(read::<CustomWebhook>(body)?)?})),
        ("POST", ["signing-key", "rotate"]) => Ok(json!({"keyId": simulator.rotate_signing_key()})),
        ("POST", ["api-key", "rotate"]) => Ok(json!({"apiKey": simulator.rotate_api_key()})),
        ("GET", ["clock"]) => Ok(json!({"now": timestamp(simulator.now())})),
        ("POST", ["clock", "advance"]) => {
            let Advance { seconds } = read(body)?;
            let by = Duration::try_from_secs_f64(seconds).ok().filter(|by| *by <= LONGEST_ADVANCE);
            let by = by.ok_or_else(|| {
                ControlError::invalid("seconds must be between 0 and 315360000 (ten years)")
            })?;
            simulator.advance_clock(by);
            Ok(json!({"now": timestamp(simulator.now())}))
        }
        _ => Err(ControlError::NotFound(format!(
            "there is no {method} /control/{}; GET /control lists all operations",
            segments.join("/")
        ))),
    }
}

fn challenge(
    simulator: &CircleSimulator,
    id: Uuid,
    action: &str,
    body: &[u8],
) -> Result<Value, ControlError> {
    let view = match action {
        "start" => simulator.start_challenge(id)?,
        "pin" => simulator.enter_pin(id, read::<PinEntry>(body)?)?,
        "security-questions" => {
            let SecurityAnswers { correct, new_pin } = read(body)?;
            simulator.answer_security_questions(id, correct, new_pin)?
        }
        "cancel" => simulator.cancel_challenge(id)?,
        "expire" => simulator.expire_challenge(id, read::<Expire>(body)?.expire_as)?,
        "fail" => {
            let Fail { code, message } = read(body)?;
            simulator.fail_challenge(id, code, &message)?
        }
        _ => {
            return Err(ControlError::NotFound(format!(
                "there is no action {action}: use start, pin, security-questions, cancel, expire or fail"
            )));
        }
    };
    Ok(json!(view))
}

/// Changes the given knobs and keeps the others.
fn change_knobs(simulator: &CircleSimulator, body: &[u8]) -> Result<Value, ControlError> {
    let changes: Map<String, Value> = read(body)?;
    let mut knobs = json!(simulator.knobs());
    for (name, value) in changes {
        knobs[name] = value;
    }
    let knobs = serde_json::from_value(knobs).map_err(|error| ControlError::Invalid(error.to_string()))?;
    simulator.replace_knobs(knobs).map_err(ControlError::Invalid)?;
    Ok(json!(simulator.knobs()))
}

const LONGEST_ADVANCE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    #[serde(default)]
    order: ReleaseOrder,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecurityAnswers {
    correct: bool,
    new_pin: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    #[serde(default, rename = "as")]
    expire_as: Expiry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    code: i32,
    #[serde(default)]
    message: String,
}

/// Reads a JSON body. No body counts as an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ControlError::Invalid(format!("the body is invalid: {error}")))
}

fn uuid(text: &str) -> Result<Uuid, ControlError> {
    Uuid::parse_str(text).map_err(|_| ControlError::Invalid(format!("{text} is not a UUID")))
}
