//! `GET /pin`: the state of the caller's PIN, so that an app knows what to offer before the user tries anything.

use std::convert::Infallible;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::api::{Api, Sessions};
use shared::circle::{EndUser, LockDetails, PinStatus};
use shared::clock::Deadline;
use shared::problem::{Cause, Problem};
use shared::response;
use time::OffsetDateTime;

/// Responds to a request.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn handle(api: &Api, request: Request) -> Result<Response<Body>, Infallible> {
    api.boundary.respond(&request, |deadline| get_pin(api, &request, deadline)).await
}

async fn get_pin(api: &Api, request: &Request, deadline: Deadline) -> Result<Response<Body>, Problem> {
    let caller = api.caller(request)?;
    api.admit(&caller, Sessions::Untouched).await?;
    let user = api.circle.user(&caller, deadline).await?;
    if user.is_disabled() {
        return Err(Problem::new(Cause::UserDisabled));
    }
    if user.has_other_auth_mode() {
        return Err(Problem::new(Cause::PinNotUsed));
    }
    Ok(response::json(StatusCode::OK, &PinView::from(&user)))
}

/// The state of the PIN and of the security questions as callers see it. A member that Circle does not report is `null`
/// or absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PinView<'a> {
    pin_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    locked_until: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_attempts: Option<u32>,
    security_question_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    security_questions_locked_until: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_questions_failed_attempts: Option<u32>,
}

impl<'a> From<&'a EndUser> for PinView<'a> {
    fn from(user: &'a EndUser) -> Self {
        let (pin, questions) = (&user.pin_details, &user.security_question_details);
        Self {
            pin_status: user.pin_status.as_ref().map(PinStatus::as_str),
            locked_until: locked_until(&user.pin_status, pin),
            failed_attempts: failed_attempts(pin),
            security_question_status: user.security_question_status.as_ref().map(PinStatus::as_str),
            security_questions_locked_until: locked_until(&user.security_question_status, questions),
            security_questions_failed_attempts: failed_attempts(questions),
        }
    }
}

/// When the lock opens. Circle keeps the dates of a lock that has opened, so the status decides.
fn locked_until(status: &Option<PinStatus>, details: &Option<LockDetails>) -> Option<OffsetDateTime> {
    let is_locked = *status == Some(PinStatus::Locked);
    details.as_ref().and_then(|details| details.locked_expiry_date).filter(|_| is_locked)
}

fn failed_attempts(details: &Option<LockDetails>) -> Option<u32> {
    details.as_ref().and_then(|details| details.failed_attempts)
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
    fn only_a_locked_pin_shows_when_its_lock_opens() {
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
    fn locked_security_questions_show_when_their_lock_opens() {
        let details = json!({ "failedAttempts": 3, "lockedExpiryDate": "2026-01-01T12:30:00Z" });
        assert_eq!(
            view(json!({ "securityQuestionStatus": "LOCKED", "securityQuestionDetails": details })),
            json!({ "pinStatus": null, "securityQuestionStatus": "LOCKED",
                    "securityQuestionsLockedUntil": "2026-01-01T12:30:00Z", "securityQuestionsFailedAttempts": 3 })
        );
    }

    #[test]
    fn members_that_circle_does_not_report_are_null_or_absent() {
        assert_eq!(view(json!({})), json!({ "pinStatus": null, "securityQuestionStatus": null }));
        assert_eq!(
            view(json!({ "pinStatus": "FROZEN", "pinDetails": {}, "securityQuestionStatus": "ENABLED" })),
            json!({ "pinStatus": "FROZEN", "securityQuestionStatus": "ENABLED" })
        );
    }
}
