//! Texts with a meaning: what is read and written again is the same.
//!
//! The first line of an input says what the text is.

use libfuzzer_sys::Corpus;
use serde_json::Value;
use shared::challenge::{ChallengeType, Status};
use shared::challenge_store::{Cursor, requested_in_image};
use shared::circle::{CircleIdempotencyKey, IdempotencyKey, PinStatus};
use shared::lambda::challenge_ids;
use shared::secrets::ApiKey;
use shared::user_id::UserId;
use shared::webhook::Notification;
use uuid::Uuid;

use crate::server::USER;
use crate::world::World;

pub(crate) fn texts(_: &World, input: &[u8]) -> Corpus {
    let Some((kind, text)) = std::str::from_utf8(input).ok().and_then(|input| input.split_once('\n')) else {
        return Corpus::Reject;
    };
    let json = || serde_json::from_str::<Value>(text).ok();
    match kind {
        "idempotency-key" => idempotency_key(text),
        "cursor" => {
            if let Ok(cursor) = text.parse::<Cursor>() {
                assert_eq!(cursor.to_string(), text, "two texts for one cursor");
            }
        }
        "user-id" => {
            if let Ok(user) = text.parse::<UserId>() {
                assert_eq!(user.as_str(), text);
            }
        }
        "status" => {
            let status = Status::from(text.to_owned());
            assert_eq!(Status::from(status.as_str().to_owned()), status, "the stored status is another one");
            let is_complete = ["COMPLETE", "COMPLETED"].iter().any(|name| text.eq_ignore_ascii_case(name));
            assert_eq!(status == Status::Complete, is_complete);
            assert!(!matches!(status, Status::Unknown(_)) || status.as_str() == text);
        }
        "type" => {
            if let Ok(kind) = text.parse::<ChallengeType>() {
                assert_eq!(kind.as_str(), text);
            }
        }
        "pin-status" => {
            let status = PinStatus::from(text.to_owned());
            assert!(status.as_str().eq_ignore_ascii_case(text));
        }
        "api-key" => {
            if let Some(key) = ApiKey::from_secret(text) {
                let other = ApiKey::from_secret("TEST_API_KEY:other:key").expect("an API key");
                assert_eq!(format!("{key:?}"), format!("{other:?}"), "the API key can be printed");
            }
        }
        "notification" => notification(text.as_bytes()),
        "image" => {
            let Some(image) = json() else { return Corpus::Reject };
            match requested_in_image(&image) {
                Ok(Some(challenge)) => {
                    assert_eq!(
                        challenge.id,
                        image["challengeId"]["S"]
                            .as_str()
                            .and_then(|id| Uuid::try_parse(id).ok())
                            .unwrap_or_default()
                    );
                    assert!(image["requestedAt"]["S"].is_string() && challenge.requested_at.is_some());
                    assert_eq!(
                        challenge.user_id.as_ref().map(UserId::as_str),
                        image["userId"]["S"].as_str().filter(|id| id.parse::<UserId>().is_ok())
                    );
                }
                Ok(None) => assert!(image.get("requestedAt").is_none(), "a requested challenge is not seen"),
                Err(_) => {}
            }
        }
        "command" => {
            let Some(event) = json() else { return Corpus::Reject };
            if let Some(Ok(ids)) = challenge_ids(&event) {
                let sent = event["challengeIds"].as_array().expect("a list");
                assert_eq!(ids.len(), sent.len());
                assert!((1..=100).contains(&ids.len()));
            }
        }
        _ => return Corpus::Reject,
    }
    Corpus::Keep
}

fn idempotency_key(text: &str) {
    let read = text.parse::<IdempotencyKey>();
    let Some(id) = Uuid::try_parse(text).ok() else { return assert!(read.is_err()) };
    let key = read.expect("every UUID is a key");
    let derive =
        |user: &str, kind| CircleIdempotencyKey::derive(&user.parse().expect("a user id"), kind, key);
    let derived = derive(USER, ChallengeType::ChangePin);
    assert_eq!(derived.as_uuid().get_version_num(), 4);
    assert_ne!(*derived.as_uuid(), id, "the caller's key reaches Circle");
    assert_ne!(derived, derive(USER, ChallengeType::RestorePin));
    assert_ne!(derived, derive("another-user", ChallengeType::ChangePin));
    let again: IdempotencyKey = id.to_string().parse().expect("a UUID");
    assert_eq!(key, again, "two keys for one UUID");
}

fn notification(body: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return assert!(Notification::parse(body).is_err());
    };
    let Ok(read) = Notification::parse(body) else { return };
    let about = &message["notification"];
    if let Some(report) = read.report {
        let id = about["id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
        assert_eq!(Some(report.challenge_id), id, "a report about another challenge");
        let user = about["userId"].as_str().filter(|user| user.parse::<UserId>().is_ok());
        assert_eq!(report.user_id.as_ref().map(UserId::as_str), user, "another user");
        assert!(message["notificationType"].as_str().is_some_and(|name| name.starts_with("challenges.")));
        let code = &about["errorCode"];
        let code = code.as_i64().or_else(|| code.as_str()?.trim().parse().ok()).filter(|code| *code != 0);
        assert_eq!(report.error_code.map(|code| code.0), code, "another code");
        assert!(report.correlation_ids.iter().all(|id| id.chars().count() <= 64));
    }
}
