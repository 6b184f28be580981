//! Limits per user, in DynamoDB, so that one user, or a stolen login, cannot spend the rate limit that the whole account has
//! at Circle.
//!
//! The table's partition key `limitKey` is a keyed hash, so that the table holds no user id, and nobody without the key can
//! find out whose an item is. A user has one item for the calls to
//! Circle ([`Bucket`]) and one for each hour with new challenges ([`ChallengeLimit`]). One more item, if it exists, stops new
//! challenges for all users ([`Switch`]).

mod calls;
mod challenges;
mod switch;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;

pub use self::calls::{Bucket, RateLimit};
pub use self::challenges::ChallengeLimit;
pub use self::switch::Switch;

use crate::clock::Clock;
use crate::dynamodb::{self, Update, text};
use crate::platform::Platform;
use crate::random::Random;
use crate::user_hash::UserHashKey;

/// The table of rate limits.
#[derive(Debug, Clone)]
pub struct RateLimits {
    client: Client,
    table: String,
    hash_key: UserHashKey,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl RateLimits {
    /// Limits that are counted in this table, under hashes with this key.
    pub fn new(platform: &Platform, table: String, hash_key: UserHashKey) -> Self {
        Self {
            client: platform.dynamodb.clone(),
            table,
            hash_key,
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
        }
    }

    /// Opens a connection to the table ahead of the first call.
    pub(crate) async fn connect(&self) {
        dynamodb::connect(&self.client).await;
    }

    fn update(&self, key: &str) -> Update {
        Update::new(self.client.update_item().table_name(&self.table).key("limitKey", text(key)))
    }
}
