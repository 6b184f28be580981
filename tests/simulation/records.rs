//! What the table holds.

use std::collections::BTreeMap;

use dynoxide::actions::scan::ScanRequest;
use local::dynamodb::CHALLENGES_TABLE;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::World;

impl World {
    /// When the next check of a challenge is due, in seconds since the epoch.
    pub(crate) fn next_check(&self) -> Option<i64> {
        let records = self.records();
        let open = records.values().filter(|record| record.get("openShard").is_some());
        open.filter_map(|record| record["nextCheckAt"].as_i64()).min()
    }

    /// All records, by id.
    pub(crate) fn records(&self) -> BTreeMap<Uuid, Value> {
        let request = ScanRequest { table_name: CHALLENGES_TABLE.to_owned(), ..ScanRequest::default() };
        let items = self.database.scan(request).expect("the table exists").items.unwrap_or_default();
        let records = items.into_iter().map(|item| {
            let record = plain(&json!({ "M": item }));
            (record["challengeId"].as_str().and_then(|id| id.parse().ok()).expect("the id is a UUID"), record)
        });
        records.collect()
    }
}

/// A value of DynamoDB without its types.
pub(crate) fn plain(value: &Value) -> Value {
    let Some((kind, content)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match (kind.as_str(), content) {
        ("N", Value::String(number)) => serde_json::from_str(number).expect("it is a number"),
        ("L", Value::Array(list)) => list.iter().map(plain).collect(),
        ("M", Value::Object(members)) => {
            members.iter().map(|(name, member)| (name.clone(), plain(member))).collect()
        }
        (_, content) => content.clone(),
    }
}
