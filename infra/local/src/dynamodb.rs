//! DynamoDB on one machine: the embedded [`dynoxide`] on loopback, with the tables of the service.
//!
//! The functions use it through the real AWS SDK, as they use DynamoDB in the cloud.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dynoxide::actions::create_table::CreateTableRequest;
use dynoxide::actions::update_time_to_live::UpdateTimeToLiveRequest;
use dynoxide::{Database, DynoxideError};
use rusqlite::Connection;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::interval::Interval;
use crate::server::Server;
use crate::stream::Stream;

/// The name of the challenges table.
pub const CHALLENGES_TABLE: &str = "challenges";

/// The name of the sparse index of the open challenges.
pub const OPEN_CHALLENGES_INDEX: &str = "open-challenges";

/// The name of the table with the rate limit of each user.
pub const RATE_LIMITS_TABLE: &str = "rate-limits";

/// How often expired items are removed. In the cloud, DynamoDB removes an item within a few days of its
/// expiry.
const REMOVAL_PERIOD: Duration = Duration::from_secs(60);

/// `dynoxide` 3.2 searches all records of a stream at each write, so writes become slower and slower. With this index, it
/// finds the latest record at once.
const STREAM_INDEX: &str = "CREATE INDEX IF NOT EXISTS stream_records_by_number \
                            ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

/// A running DynamoDB.
pub struct DynamoDb {
    database: Database,
    server: Server,
    removal: JoinHandle<()>,
}

/// Why DynamoDB did not start.
#[derive(Debug, thiserror::Error)]
pub enum DynamoDbError {
    /// The listener has no address.
    #[error("the listener for DynamoDB is not usable")]
    Listener(#[source] io::Error),
    /// The path of the data file is not UTF-8, which the database requires.
    #[error("the path of the data file is not UTF-8: {}", .0.display())]
    Path(PathBuf),
    /// The file cannot be opened or created, or it is not a database of this kind.
    #[error("cannot open the data file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the database.
        #[source]
        source: DynoxideError,
    },
    /// The stream in the data file cannot be indexed.
    #[error("cannot index the stream in the data file {}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
    /// The tables cannot be created.
    #[error("cannot create the tables")]
    Tables(#[source] DynoxideError),
    /// The stream of the challenges table cannot be read.
    #[error("cannot read the stream of the challenges table")]
    Stream(#[source] DynoxideError),
}

/// Serves DynamoDB on `listener`. The tables are in the file `data`, or in memory if it is `None`.
///
/// The tables are created unless the file has them already. Items whose `expiresAt` has passed are removed
/// once a minute of `clock`.
///
/// A database in memory uses `clock`. A database in a file uses the machine's clock, because `dynoxide` 3.2
/// does not accept a clock for it. With a file, advancing `clock` starts a removal, but no item expires
/// earlier.
pub async fn start(
    listener: TcpListener,
    data: Option<&Path>,
    clock: AdjustableClock,
) -> Result<DynamoDb, DynamoDbError> {
    let address = listener.local_addr().map_err(DynamoDbError::Listener)?;
    let database = match data {
        None => in_memory(clock.clone())?,
        Some(path) => {
            let text = path.to_str().ok_or_else(|| DynamoDbError::Path(path.to_owned()))?;
            let open = |source| DynamoDbError::Open { path: path.to_owned(), source };
            let database = Database::new(text).map_err(open)?;
            Connection::open(path)
                .and_then(|connection| connection.execute_batch(STREAM_INDEX))
                .map_err(|source| DynamoDbError::Index { path: path.to_owned(), source })?;
            with_tables(database)?
        }
    };
    let removal = tokio::spawn(remove_expired_items(database.clone(), Interval::new(clock, REMOVAL_PERIOD)));
    let served = database.clone();
    let server = Server::spawn(address, |stopped| async move {
        dynoxide::server::serve_with_shutdown(listener, served, stopped)
            .await
            .unwrap_or_else(|error| tracing::error!(%error, "DynamoDB failed"));
    });
    Ok(DynamoDb { database, server, removal })
}

impl DynamoDb {
    /// The endpoint, for the AWS SDK's `AWS_ENDPOINT_URL_DYNAMODB`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The database behind the server.
    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }

    /// The stream of the challenges table, from the next change on.
    ///
    /// # Errors
    /// If the data file cannot be read.
    pub(crate) fn stream(&self) -> dynoxide::Result<Stream> {
        Stream::of(self.database.clone(), CHALLENGES_TABLE)
    }

    /// Stops the server and closes the data file.
    pub async fn stop(mut self) {
        self.removal.abort();
        let _ = (&mut self.removal).await;
        self.server.stop().await;
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.removal.abort();
    }
}

/// The tables in `infra/template.yaml`, in the form of `CreateTable` requests with a
/// `TimeToLiveSpecification`.
pub(crate) fn table_definitions() -> [Value; 2] {
    serde_json::from_str(include_str!("tables.json")).expect("the definitions are two JSON objects")
}

/// A database in memory with the tables, on this clock.
///
/// # Errors
/// If the tables cannot be created.
pub fn in_memory(clock: AdjustableClock) -> Result<Database, DynamoDbError> {
    let database = Database::memory_with_clock(Arc::new(DatabaseClock(clock)));
    with_tables(database.map_err(DynamoDbError::Tables)?)
}

/// The database with the tables. Those are created that do not exist yet.
fn with_tables(database: Database) -> Result<Database, DynamoDbError> {
    create_tables(&database).map_err(DynamoDbError::Tables)?;
    Ok(database)
}

fn create_tables(database: &Database) -> dynoxide::Result<()> {
    for mut table in table_definitions() {
        let time_to_live = json!({
            "TableName": table["TableName"],
            "TimeToLiveSpecification": table["TimeToLiveSpecification"].take(),
        });
        let create: CreateTableRequest = request(table);
        if database.get_table_metadata(&create.table_name)?.is_none() {
            database.create_table(create)?;
            database.update_time_to_live(request::<UpdateTimeToLiveRequest>(time_to_live))?;
        }
    }
    Ok(())
}

fn request<R: serde::de::DeserializeOwned>(json: Value) -> R {
    serde_json::from_value(json).expect("the request is valid")
}

/// DynamoDB's time to live: removes the items whose `expiresAt` has passed.
async fn remove_expired_items(database: Database, mut interval: Interval) {
    loop {
        interval.tick().await;
        let database = database.clone();
        match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
            Ok(Ok(removed)) => tracing::debug!(removed, "expired items removed"),
            Ok(Err(error)) => tracing::error!(%error, "expired items not removed"),
            Err(error) => tracing::error!(%error, "the removal of expired items crashed"),
        }
    }
}

/// The stack's clock in the form that the database uses.
struct DatabaseClock(AdjustableClock);

impl dynoxide::storage_backend::Clock for DatabaseClock {
    fn now_unix_secs(&self) -> u64 {
        u64::try_from(self.0.now().unix_timestamp()).unwrap_or(0)
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.0.now().unix_timestamp_nanos() as f64 / 1e9
    }
}

#[cfg(test)]
mod tests;
