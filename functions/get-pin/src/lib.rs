//! `GET /pin`: the state of the caller's PIN, for an app to know what to offer before anything is tried.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::circle::{Circle, EndUser, PinStatus};
use shared::clock::{Clock, Deadline};
use shared::config::{self, CircleSettings, SettingError};
use shared::platform::Platform;
use shared::problem::{self, Problem};
use shared::{identity, response};
use time::OffsetDateTime;

/// What the function keeps between requests.
#[derive(Debug)]
pub struct GetPin {
    circle: Circle,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    user_id_claim: String,
}

impl GetPin {
    /// The function, set up as the environment says.
    ///
    /// # Errors
    /// When a setting is missing or bad.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(&platform.environment)?),
            clock: Arc::clone(&platform.clock),
            request_timeout: config::request_timeout(&platform.environment)?,
            user_id_claim: config::user_id_claim(&platform.environment),
        })
    }

    /// Reads the API key ahead of the first request.
    pub async fn warm_up(&self) {
        self.circle.warm_up().await;
    }
}

/// Answers a request.
///
/// # Errors
/// Never: a failure is an answer too.
pub async fn handle(function: &GetPin, request: Request) -> Result<Response<Body>, Infallible> {
    Ok(response::answer(&request, function.request_timeout, &*function.clock, |deadline| {
        get_pin(function, &request, deadline)
    })
    .await)
}

async fn get_pin(
    function: &GetPin,
    request: &Request,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let caller = identity::caller(request, &function.user_id_claim)?;
    let user = function.circle.user(&caller, deadline).await?;
    if user.is_disabled() {
        return Err(problem::user_disabled());
    }
    Ok(response::json(StatusCode::OK, &PinView::from(&user)))
}

/// The state of the PIN, as callers see it. What Circle does not say is `null` or left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PinView<'a> {
    pin_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    locked_until: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_attempts: Option<u32>,
    security_question_status: Option<&'a str>,
}

impl<'a> From<&'a EndUser> for PinView<'a> {
    fn from(user: &'a EndUser) -> Self {
        let details = user.pin_details.as_ref();
        // Circle keeps the dates of a lock that has ended.
        let locked = user.pin_status == Some(PinStatus::Locked);
        Self {
            pin_status: user.pin_status.as_ref().map(PinStatus::as_str),
            locked_until: details.and_then(|details| details.locked_expiry_date).filter(|_| locked),
            failed_attempts: details.and_then(|details| details.failed_attempts),
            security_question_status: user.security_question_status.as_ref().map(PinStatus::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn view(user: Value) -> Value {
        let user: EndUser = serde_json::from_value(user).unwrap();
        serde_json::to_value(PinView::from(&user)).unwrap()
    }

    #[test]
    fn a_lock_shows_its_end_and_an_ended_one_does_not() {
        let details = json!({ "failedAttempts": 3, "lockedExpiryDate": "2026-01-01T12:30:00Z" });
        assert_eq!(
            view(
                json!({ "pinStatus": "LOCKED", "pinDetails": details, "securityQuestionStatus": "ENABLED" })
            ),
            json!({ "pinStatus": "LOCKED", "lockedUntil": "2026-01-01T12:30:00Z", "failedAttempts": 3,
                    "securityQuestionStatus": "ENABLED" })
        );
        assert_eq!(
            view(json!({ "pinStatus": "ENABLED", "pinDetails": details, "securityQuestionStatus": "UNSET" })),
            json!({ "pinStatus": "ENABLED", "failedAttempts": 3, "securityQuestionStatus": "UNSET" })
        );
    }

    #[test]
    fn what_circle_does_not_say_is_not_made_up() {
        assert_eq!(view(json!({})), json!({ "pinStatus": null, "securityQuestionStatus": null }));
        assert_eq!(
            view(json!({ "pinStatus": "FROZEN", "pinDetails": {}, "securityQuestionStatus": "ENABLED" })),
            json!({ "pinStatus": "FROZEN", "securityQuestionStatus": "ENABLED" })
        );
    }
}
