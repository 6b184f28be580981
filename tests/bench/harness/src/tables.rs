//! DynamoDB for the measurement of growth: the embedded `dynoxide`, in a file, with the tables of the service.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dynoxide::{Database, DynoxideError, ImportOptions, Item};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The tables, as the local stack has them.
const DEFINITIONS: &str = include_str!("../../../../infra/local/src/tables.json");

pub(crate) struct Tables {
    database: Database,
    busy: Mutex<Duration>,
}

impl Tables {
    /// Creates the tables in a new file.
    pub(crate) fn create(file: &Path) -> Result<Self> {
        let database = Database::new(file.to_str().context("the path of the file is not UTF-8")?)?;
        for mut table in serde_json::from_str::<Vec<Value>>(DEFINITIONS)? {
            // A request of its own, which matters only for deletions.
            table.as_object_mut().context("a definition is an object")?.remove("TimeToLiveSpecification");
            database.create_table(serde_json::from_value(table)?)?;
        }
        Ok(Self { database, busy: Mutex::default() })
    }

    /// Adds records to the table of challenges.
    pub(crate) fn import(&self, records: impl Iterator<Item = Value>) -> Result<()> {
        self.database.enable_bulk_loading()?;
        let mut records = records.peekable();
        while records.peek().is_some() {
            let part: Vec<Item> =
                records.by_ref().take(10_000).map(serde_json::from_value).collect::<Result<_, _>>()?;
            let options = ImportOptions { record_streams: false, set_cached_at: false };
            self.database.import_items("challenges", part, options)?;
        }
        Ok(self.database.disable_bulk_loading()?)
    }

    /// The size of the file, in bytes.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(self.database.db_size_bytes()?)
    }

    /// How long the database has worked since the last time.
    pub(crate) fn take_busy(&self) -> Duration {
        std::mem::take(&mut self.busy.lock().unwrap())
    }

    /// The response to an operation: status and JSON.
    pub(crate) fn respond(&self, operation: &str, body: &[u8]) -> (u16, String) {
        let began = Instant::now();
        let response = match operation {
            "GetItem" => self.call(body, Database::get_item),
            "UpdateItem" => self.call(body, Database::update_item),
            "Query" => self.call(body, Database::query),
            _ => Err(DynoxideError::ValidationException(format!("unknown operation {operation}"))),
        };
        *self.busy.lock().unwrap() += began.elapsed();
        response.map_or_else(|error| (error.status_code(), error.to_json()), |response| (200, response))
    }

    fn call<R: DeserializeOwned, S: serde::Serialize>(
        &self,
        body: &[u8],
        call: impl Fn(&Database, R) -> dynoxide::Result<S>,
    ) -> dynoxide::Result<String> {
        let request = serde_json::from_slice(body)
            .map_err(|error| DynoxideError::SerializationException(error.to_string()))?;
        Ok(serde_json::to_string(&call(&self.database, request)?).expect("a response is JSON"))
    }

    /// Reads a record, consistently.
    pub(crate) fn get_item(&self, challenge: &str) -> (u16, String) {
        let request = json!({
            "TableName": "challenges",
            "Key": { "challengeId": { "S": challenge } },
            "ConsistentRead": true,
        });
        self.respond("GetItem", request.to_string().as_bytes())
    }
}
