//! The ids of Circle's keys that have verified a webhook. All instances of the function share them, in one item of the table
//! of rate limits.
//!
//! An instance that has just started knows no key. A flood of forged webhooks with invented key ids uses up its fetches,
//! and before a fetch it cannot tell such an id from one of Circle's. This item lets it. It holds ids only: a key itself
//! always comes from Circle.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::clock::{Clock, Moment};
use crate::dynamodb::{StoreError, Update, number, text, unavailable};
use crate::platform::Platform;
use crate::telemetry::Chain;

/// The key of the item. The template allows the webhook function this item of the table only.
const KEY: &str = "public-keys";

/// The most ids that the item holds. A Circle that signs with more keys does not make it larger.
const LIMIT: usize = 64;

/// How long the item is kept after a write. Instances fetch each key again after a day, so it stays while it is in use. A
/// full item that no longer has the ids of Circle's keys is not written, and makes room.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long an instance does not read the item again.
const LIFETIME: Duration = Duration::from_secs(1);

/// How long after a write an instance that starts writes the item again, if it uses its ids.
const RENEWAL: Duration = Duration::from_secs(24 * 3600);

/// What the item holds.
#[derive(Default)]
pub(super) struct Confirmed {
    pub(super) ids: HashSet<Uuid>,
    /// Whether the item should be written again, so that it does not expire while its ids are in use.
    pub(super) is_ageing: bool,
}

pub(super) struct ConfirmedIds {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
    /// What the item held when it was last read, and when that was.
    last: Mutex<Option<(Moment, HashSet<Uuid>)>>,
}

impl ConfirmedIds {
    pub(super) fn new(platform: &Platform, table: String) -> Self {
        Self {
            client: platform.dynamodb.clone(),
            table,
            clock: Arc::clone(&platform.clock),
            last: Mutex::default(),
        }
    }

    /// Whether a webhook has been verified with the key, as far as is known. One call at most, and at most one in a second.
    pub(super) async fn contains(&self, id: Uuid) -> bool {
        let mut last = self.last.lock().await;
        match &*last {
            Some((read_at, ids)) if read_at.age(&*self.clock) < LIFETIME => ids.contains(&id),
            _ => {
                let read_at = Moment::now(&*self.clock);
                let ids = self.load().await.ids;
                last.insert((read_at, ids)).1.contains(&id)
            }
        }
    }

    /// All ids, read anew; none if they cannot be read. One call.
    pub(super) async fn load(&self) -> Confirmed {
        self.read().await.unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), "the ids of Circle's keys could not be read");
            Confirmed::default()
        })
    }

    /// Adds the id of a key that has verified a webhook. One call. If it fails, that is logged only: another instance or the
    /// next fetch of the key adds the id.
    pub(super) async fn add(&self, id: Uuid) {
        let expires_at = (self.clock.now() + RETENTION).unix_timestamp();
        let item = self.client.update_item().table_name(&self.table).key("limitKey", text(KEY));
        let update = Update::new(item)
            .set("expiresAt = :expires", ":expires", number(expires_at))
            .add("keyIds :ids")
            .value(":id", text(&id.to_string()))
            .value(":ids", AttributeValue::Ss(vec![id.to_string()]))
            .value(":limit", number(LIMIT))
            .condition("attribute_not_exists(keyIds) OR contains(keyIds, :id) OR size(keyIds) < :limit");
        if let Err(error) = update.send().await {
            tracing::warn!(error = %Chain(&error), "the id of Circle's key could not be stored");
        }
    }

    async fn read(&self) -> Result<Confirmed, StoreError> {
        let get = self.client.get_item().table_name(&self.table).key("limitKey", text(KEY));
        let found = get.send().await.map_err(|error| unavailable("GetItem", error))?;
        let attribute = |name: &str| found.item.as_ref().and_then(|item| item.get(name));
        let ids = attribute("keyIds").and_then(|ids| ids.as_ss().ok()).into_iter().flatten();
        let expires_at = attribute("expiresAt").and_then(|at| at.as_n().ok()?.parse::<i64>().ok());
        let renewal = (self.clock.now() + RETENTION - RENEWAL).unix_timestamp();
        Ok(Confirmed {
            ids: ids.filter_map(|id| Uuid::try_parse(id).ok()).collect(),
            is_ageing: expires_at.is_none_or(|at| at < renewal),
        })
    }
}
