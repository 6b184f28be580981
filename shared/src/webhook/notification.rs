//! A verified webhook body, read leniently.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::challenge::{ChallengeType, Report, ReportSource, TEXT_LIMIT};

/// What a webhook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The subscription that Circle sent it for, if it is a UUID. It is only logged: it may be the subscription of another
    /// Circle account, and it is not known before the subscription has been created.
    pub subscription_id: Option<Uuid>,
    /// What it reports about a challenge of a type that this service creates. `None` for anything else: other families,
    /// other challenge types, Circle's test message.
    pub report: Option<Report>,
}

/// A webhook about a challenge without an id, a type or a status. The message names the missing field and holds nothing
/// of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the notification has no readable {0}")]
pub struct UnreadableNotification(&'static str);

impl Notification {
    /// Reads a body whose signature has been verified.
    ///
    /// The notification's own `type` decides what the challenge is, because Circle's guide shows a CHANGE_PIN challenge
    /// under the `notificationType` `challenges.initialize`. That one counts only if `type` is missing.
    ///
    /// # Errors
    /// If the body is not a JSON object with a `notificationType`, or is about a challenge and has no readable id, type or
    /// status.
    pub fn parse(body: &[u8]) -> Result<Self, UnreadableNotification> {
        let message: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| UnreadableNotification("JSON"))?;
        let text = |member| message.get(member).and_then(Value::as_str);
        let subscription_id = text("subscriptionId").and_then(|id| Uuid::try_parse(id).ok());
        let about = |report| Self { subscription_id, report };
        let family = text("notificationType").ok_or(UnreadableNotification("notificationType"))?;
        let Some(event) = family.strip_prefix("challenges.") else { return Ok(about(None)) };

        let notification = message.get("notification").unwrap_or(&Value::Null);
        let challenge_type = match (notification["type"].as_str(), event) {
            (None | Some(""), "changePin") => ChallengeType::ChangePin,
            (None | Some(""), "restorePin") => ChallengeType::RestorePin,
            (None | Some(""), _) => return Err(UnreadableNotification("type")),
            (Some(name), _) => match ChallengeType::read(name) {
                Some(challenge_type) => challenge_type,
                None => return Ok(about(None)),
            },
        };
        let id = notification["id"]
            .as_str()
            .and_then(|id| Uuid::try_parse(id).ok())
            .ok_or(UnreadableNotification("id"))?;
        let is_short = |id: &&str| id.chars().count() <= TEXT_LIMIT;
        let notification_id = text("notificationId").filter(is_short).map(str::to_owned);
        Report::read(id, challenge_type, notification, ReportSource::Webhook { notification_id })
            .map(|report| about(Some(report)))
            .ok_or(UnreadableNotification("status"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::Status;
    use crate::circle_code::CircleCode;
    use serde_json::json;

    const ID: &str = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";

    fn parse(
        notification_type: &str,
        notification: serde_json::Value,
    ) -> Result<Notification, UnreadableNotification> {
        let message = json!({
            "subscriptionId": "00000000-0000-0000-0000-000000000000",
            "notificationId": "n-1",
            "notificationType": notification_type,
            "notification": notification,
            "timestamp": "2026-01-01T12:00:00.000000000Z",
            "version": 2,
        });
        Notification::parse(message.to_string().as_bytes())
    }

    fn report(parsed: Result<Notification, UnreadableNotification>) -> Report {
        parsed.unwrap().report.expect("a challenge")
    }

    #[test]
    fn every_member_of_a_challenge_is_read() {
        let read = report(parse(
            "challenges.initialize",
            json!({ "id": ID, "userId": "user-1", "type": "CHANGE_PIN", "status": "FAILED",
                    "correlationIds": ["a", "b"], "errorCode": 155112, "errorMessage": "incorrect" }),
        ));
        let expected = Report {
            challenge_id: ID.parse().unwrap(),
            user_id: Some("user-1".parse().unwrap()),
            challenge_type: ChallengeType::ChangePin,
            status: Status::Failed,
            error_code: Some(CircleCode::INCORRECT_PIN),
            error_message: Some("incorrect".into()),
            correlation_ids: vec!["a".into(), "b".into()],
            source: ReportSource::Webhook { notification_id: Some("n-1".into()) },
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn missing_or_odd_optional_members_are_ignored() {
        let read = report(parse(
            "challenges.restorePin",
            json!({ "id": ID, "state": "COMPLETED", "errorCode": 0, "errorMessage": "", "correlationIds": null, "new": {} }),
        ));
        assert_eq!(read.challenge_type, ChallengeType::RestorePin);
        assert_eq!(read.status, Status::Complete);
        assert_eq!((read.user_id, read.error_code, read.error_message), (None, None, None));
        assert!(read.correlation_ids.is_empty());
        let lower_case =
            report(parse("challenges.x", json!({ "id": ID, "type": "change_pin", "status": "complete" })));
        assert_eq!(
            (lower_case.challenge_type, lower_case.status),
            (ChallengeType::ChangePin, Status::Complete)
        );
        let new = report(parse("challenges.changePin", json!({ "id": ID, "type": "", "status": "PAUSED" })));
        assert_eq!(new.status, Status::Unknown("PAUSED".into()));
    }

    #[test]
    fn other_families_and_types_are_ignored() {
        for (family, notification) in [
            ("webhooks.test", json!({ "hello": "world" })),
            ("transactions.outbound", json!({ "id": ID, "state": "COMPLETE" })),
            ("challenges.createWallet", json!({ "id": ID, "type": "CREATE_WALLET", "status": "COMPLETE" })),
            ("challenges.changePin", json!({ "id": ID, "type": "SET_PIN", "status": "COMPLETE" })),
            ("somethingNew", json!(null)),
        ] {
            let expected = Notification { subscription_id: Some(Uuid::nil()), report: None };
            assert_eq!(parse(family, notification), Ok(expected), "{family}");
        }
    }

    #[test]
    fn odd_subscription_is_ignored() {
        for id in [json!(null), json!(7), json!("no-uuid"), json!(" ")] {
            let message = json!({ "subscriptionId": id, "notificationType": "webhooks.test" });
            let expected = Notification { subscription_id: None, report: None };
            assert_eq!(Notification::parse(message.to_string().as_bytes()), Ok(expected), "{id}");
        }
    }

    #[test]
    fn unreadable_challenge_is_an_error_that_names_the_field() {
        for (notification, field) in [
            (json!({ "type": "CHANGE_PIN", "status": "COMPLETE" }), "id"),
            (json!({ "id": "x", "type": "CHANGE_PIN", "status": "COMPLETE" }), "id"),
            (json!({ "id": ID, "type": "CHANGE_PIN" }), "status"),
            (json!({ "id": ID, "type": "CHANGE_PIN", "status": "" }), "status"),
            (json!({ "id": ID, "status": "COMPLETE" }), "type"),
            (json!({ "id": ID, "type": "", "status": "COMPLETE" }), "type"),
            (json!("text"), "type"),
        ] {
            assert_eq!(parse("challenges.initialize", notification), Err(UnreadableNotification(field)));
        }
        for (body, field) in
            [("", "JSON"), ("[]", "JSON"), ("{", "JSON"), ("\"secret\"", "JSON"), ("{}", "notificationType")]
        {
            assert_eq!(Notification::parse(body.as_bytes()), Err(UnreadableNotification(field)), "{body}");
        }
    }
}
