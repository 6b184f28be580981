//! A user's own challenges: the index by user.

use std::fmt;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::ChallengeStore;
use super::item::challenge;
use crate::challenge::Challenge;
use crate::dynamodb::{Item, StoreError, number, text, unavailable, unreadable};
use crate::user_id::UserId;

/// The index of requested challenges by user and time of request.
const INDEX: &str = "challenges-by-user";

/// Where the next page of a user's challenges begins: after this challenge. As text it is opaque, and it holds no user id,
/// so it is of no use to another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    requested_at_ms: i64,
    challenge_id: Uuid,
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.requested_at_ms.to_be_bytes()[..], self.challenge_id.as_bytes()].concat();
        formatter.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (requested_at_ms, challenge_id) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
        Ok(Self {
            requested_at_ms: i64::from_be_bytes(*requested_at_ms),
            challenge_id: Uuid::from_slice(challenge_id).map_err(|_| InvalidCursor)?,
        })
    }
}

/// A page of a user's challenges, newest first.
#[derive(Debug)]
pub struct Page {
    /// The challenges.
    pub challenges: Vec<Challenge>,
    /// Where the next page begins, if there may be more.
    pub next: Option<Cursor>,
}

impl ChallengeStore {
    /// The challenges that the user requested through this service, newest first, after `from`. The index is eventually
    /// consistent: a challenge may appear, or show a new status, a moment late. One call.
    ///
    /// # Errors
    /// If the table cannot be reached.
    pub async fn requested_by(
        &self,
        user: &UserId,
        from: Option<Cursor>,
        limit: u8,
    ) -> Result<Page, StoreError> {
        let start = from.map(|cursor| {
            Item::from([
                ("userId".to_owned(), text(user.as_str())),
                ("requestedAtMs".to_owned(), number(cursor.requested_at_ms)),
                ("challengeId".to_owned(), text(&cursor.challenge_id.to_string())),
            ])
        });
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(INDEX)
            .key_condition_expression("userId = :userId")
            .expression_attribute_values(":userId", text(user.as_str()))
            .scan_index_forward(false)
            .set_exclusive_start_key(start)
            .limit(limit.into());
        let output = query.send().await.map_err(|error| unavailable("Query", error))?;
        Ok(Page {
            challenges: output.items.unwrap_or_default().iter().filter_map(readable).collect(),
            next: output.last_evaluated_key.as_ref().map(cursor).transpose()?,
        })
    }
}

/// The record of an item. An item that cannot be read is logged, so that it does not hide the others.
fn readable(item: &Item) -> Option<Challenge> {
    let record = challenge(item);
    if let Err(error) = &record {
        let challenge_id = item.get("challengeId").and_then(|id| id.as_s().ok());
        tracing::error!(challenge_id, %error, "a record of the list cannot be read");
    }
    record.ok()
}

fn cursor(key: &Item) -> Result<Cursor, StoreError> {
    let requested_at_ms = key.get("requestedAtMs").map(AttributeValue::as_n);
    let challenge_id = key.get("challengeId").map(AttributeValue::as_s);
    Ok(Cursor {
        requested_at_ms: requested_at_ms
            .and_then(|number| number.ok()?.parse().ok())
            .ok_or(unreadable("requestedAtMs"))?,
        challenge_id: challenge_id.and_then(|id| id.ok()?.parse().ok()).ok_or(unreadable("challengeId"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_way_through_a_url() {
        let cursor = Cursor { requested_at_ms: 1_767_268_800_000, challenge_id: Uuid::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert!(cursor.to_string().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn any_other_text_is_not_a_cursor() {
        for text in ["", "a", "AAAA", "%%%%", &"A".repeat(31), &"A".repeat(33), &"A".repeat(400)] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
