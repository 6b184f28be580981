//! Challenge records as items of the table.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;
use time::OffsetDateTime;

use super::Origin;
use crate::challenge::{Challenge, ChallengeType, FINAL_RANK, Report, Status};
use crate::circle_code::CircleCode;
use crate::dynamodb::{Item, StoreError, instant, text, timestamp, unreadable};

/// Reads a record.
pub(crate) fn challenge(item: &Item) -> Result<Challenge, StoreError> {
    let text = |attribute| item.get(attribute).and_then(|value| value.as_s().ok()).map(String::as_str);
    let error_code = item.get("circleCode").and_then(|value| value.as_n().ok());
    Ok(Challenge {
        id: text("challengeId").and_then(|id| id.parse().ok()).ok_or(unreadable("challengeId"))?,
        user_id: text("userId").and_then(|user_id| user_id.parse().ok()),
        challenge_type: challenge_type(item)?,
        status: text("status").map(str::to_owned).ok_or(unreadable("status"))?.into(),
        created_at: instant(item, "createdAt")?,
        requested_at: instant(item, "requestedAt").ok(),
        updated_at: instant(item, "updatedAt")?,
        checked_at: instant(item, "checkedAt")?,
        previous_status: text("previousStatus").map(|status| status.to_owned().into()),
        error_code: error_code.and_then(|code| code.parse().ok()).map(CircleCode),
        notification_id: text("notificationId").map(str::to_owned),
    })
}

/// The attribute that says what gave the record a status: one for each rank.
pub(super) fn trail_of(status: &Status) -> &'static str {
    match status.rank() {
        0 => "arrival",
        1 => "progress",
        FINAL_RANK => "ending",
        _ => "completion",
    }
}

/// What gave the record its status, and when.
pub(super) fn trail(report: &Report, now: OffsetDateTime) -> AttributeValue {
    map([
        ("at", Some(timestamp(now))),
        ("status", Some(text(report.status.as_str()))),
        ("by", Some(text(report.source.as_str()))),
        ("id", report.source.id().map(text)),
    ])
}

/// Which request created the challenge, and when.
pub(super) fn creation(origin: Origin<'_>, now: OffsetDateTime) -> AttributeValue {
    map([
        ("at", Some(timestamp(now))),
        ("requestId", Some(text(origin.request_id))),
        ("sourceIp", origin.source_ip.map(|address| text(&address.to_string()))),
    ])
}

fn map<const N: usize>(members: [(&str, Option<AttributeValue>); N]) -> AttributeValue {
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    AttributeValue::M(members.collect())
}

/// Reads a record from an image of the table's stream, in Lambda's JSON. Returns `None` if nobody has requested the
/// challenge through this service, even if the rest of the image is unreadable.
///
/// # Errors
/// If an attribute is missing or is not as this service writes it.
pub fn requested_in_image(image: &Value) -> Result<Option<Challenge>, StoreError> {
    if image.get("requestedAt").is_none() {
        return Ok(None);
    }
    let attributes = image.as_object().into_iter().flatten();
    let item = attributes.map(|(name, value)| (name.clone(), attribute(value))).collect();
    let challenge = challenge(&item)?;
    // `challenge` treats a `requestedAt` that is not a time as absent.
    if challenge.requested_at.is_none() { Err(unreadable("requestedAt")) } else { Ok(Some(challenge)) }
}

/// Converts a text or a number. Attributes of other types are not read, so they become null.
fn attribute(value: &Value) -> AttributeValue {
    let member = |name: &str| value[name].as_str().map(str::to_owned);
    let text = member("S").map(AttributeValue::S);
    text.or(member("N").map(AttributeValue::N)).unwrap_or(AttributeValue::Null(true))
}

fn challenge_type(item: &Item) -> Result<ChallengeType, StoreError> {
    let name = item.get("type").and_then(|value| value.as_s().ok());
    name.and_then(|name| name.parse().ok()).ok_or(unreadable("type"))
}
