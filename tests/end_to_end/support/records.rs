//! What the tables hold, and what callers see of it.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use local::dynamodb::{CHALLENGES_TABLE, RATE_LIMITS_TABLE};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, NOON, USER, in_time, with};

/// How long a requested challenge's record is kept after its last change, in seconds.
const RETENTION: i64 = 90 * 86_400;

impl App {
    /// The challenge's item in the table without its audit trail, or null.
    pub(crate) async fn record(&self, id: Uuid) -> Value {
        let mut item = self.item(id).await;
        if let Some(attributes) = item.as_object_mut() {
            attributes.retain(|_, value| !value.is_object());
        }
        item
    }

    /// The audit trail of the challenge's item.
    pub(crate) async fn audit_trail(&self, id: Uuid) -> Value {
        let mut item = self.item(id).await;
        item.as_object_mut().unwrap().retain(|_, value| value.is_object());
        item
    }

    async fn item(&self, id: Uuid) -> Value {
        let id = AttributeValue::S(id.to_string());
        let get = self.dynamodb().get_item().table_name(CHALLENGES_TABLE).key("challengeId", id);
        let found = in_time(get.consistent_read(true).send()).await.unwrap();
        found.item.map_or(Value::Null, |item| plain(&AttributeValue::M(item)))
    }

    /// Puts a record of strings and numbers into the table, even if the service would not write it.
    pub(crate) async fn put_record(&self, item: Value) {
        self.put_item(CHALLENGES_TABLE, item).await;
    }

    /// Puts an item of strings and numbers into a table.
    pub(crate) async fn put_item(&self, table: &str, item: Value) {
        let attribute = |value: &Value| match value {
            Value::String(text) => AttributeValue::S(text.clone()),
            number => AttributeValue::N(number.to_string()),
        };
        let item = item.as_object().unwrap().iter();
        let item = item.map(|(name, value)| (name.clone(), attribute(value))).collect();
        let put = self.dynamodb().put_item().table_name(table).set_item(Some(item));
        in_time(put.send()).await.unwrap();
    }

    /// Deletes a record, as if it had never been written.
    pub(crate) async fn delete_record(&self, id: Uuid) {
        self.delete_item(CHALLENGES_TABLE, "challengeId", &id.to_string()).await;
    }

    /// Deletes the item with this key.
    pub(crate) async fn delete_item(&self, table: &str, name: &str, key: &str) {
        let key = AttributeValue::S(key.to_owned());
        in_time(self.dynamodb().delete_item().table_name(table).key(name, key).send()).await.unwrap();
    }

    /// How many challenges have a record.
    pub(crate) async fn record_count(&self) -> usize {
        self.table_items(CHALLENGES_TABLE).await.len()
    }

    /// The items that limit users.
    pub(crate) async fn rate_limit_items(&self) -> Vec<Value> {
        let mut items = self.table_items(RATE_LIMITS_TABLE).await;
        items.retain(|item| item["limitKey"] != "public-keys");
        items
    }

    /// Every item of a small table.
    pub(crate) async fn table_items(&self, table: &str) -> Vec<Value> {
        let scan = in_time(self.dynamodb().scan().table_name(table).send()).await.unwrap();
        assert!(scan.last_evaluated_key.is_none(), "{table} has more than a page of items");
        scan.items.unwrap_or_default().into_iter().map(|item| plain(&AttributeValue::M(item))).collect()
    }

    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.stack.platform.dynamodb.clone()
    }
}

/// A value without DynamoDB's type.
fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!(text),
        AttributeValue::N(number) => serde_json::from_str(number).unwrap(),
        AttributeValue::Ss(set) => json!(set.iter().collect::<BTreeSet<_>>()),
        AttributeValue::Ns(numbers) => {
            numbers.iter().map(|number| plain(&AttributeValue::N(number.clone()))).collect()
        }
        AttributeValue::L(list) => list.iter().map(plain).collect(),
        AttributeValue::M(map) => map.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => panic!("no record has {other:?}"),
    }
}

/// What callers see of a CHANGE_PIN challenge that was created at noon and has not changed since.
pub(crate) fn expected_challenge(id: Uuid, status: &str) -> Value {
    json!({
        "challengeId": id,
        "type": "CHANGE_PIN",
        "status": status,
        "createdAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:00:00Z",
        "checkedAt": "2026-01-01T12:00:00Z",
    })
}

/// The record of a CHANGE_PIN challenge that alice requested at noon and that has not changed since. A report of another
/// status has replaced PENDING.
pub(crate) fn expected_record(id: Uuid, status: &str) -> Value {
    let rank = match status {
        "PENDING" => 0,
        "IN_PROGRESS" => 1,
        "COMPLETE" => 3,
        _ => 2,
    };
    let record = json!({
        "challengeId": id,
        "userId": USER,
        "type": "CHANGE_PIN",
        "status": status,
        "rank": rank,
        "createdAt": "2026-01-01T12:00:00Z",
        "requestedAt": "2026-01-01T12:00:00Z",
        "requestedAtMs": NOON.unix_timestamp() * 1000,
        "updatedAt": "2026-01-01T12:00:00Z",
        "checkedAt": "2026-01-01T12:00:00Z",
        "retentionSeconds": RETENTION,
        "expiresAt": expires_at(0),
    });
    let record = if rank > 0 { with(record, json!({ "previousStatus": "PENDING" })) } else { record };
    if rank >= 2 {
        return record;
    }
    let open = json!({ "openShard": id.as_bytes()[15] % 8, "nextCheckAt": NOON.unix_timestamp() + 600 });
    with(record, open)
}

/// When a requested challenge's record expires that changed so many seconds after noon.
pub(crate) fn expires_at(seconds_after_noon: i64) -> i64 {
    NOON.unix_timestamp() + seconds_after_noon + RETENTION
}
