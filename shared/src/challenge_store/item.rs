//! Challenge records as items of the table.

use crate::challenge::{Challenge, ChallengeType};
use crate::circle_code::CircleCode;
use crate::dynamodb::{Item, StoreError, instant, unreadable};

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

fn challenge_type(item: &Item) -> Result<ChallengeType, StoreError> {
    let name = item.get("type").and_then(|value| value.as_s().ok());
    name.and_then(|name| name.parse().ok()).ok_or(unreadable("type"))
}
