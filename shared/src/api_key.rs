//! The Circle API key: read from Secrets Manager, kept, and read again when Circle refuses it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::secrets::ApiKey;

/// How long after a re-read the secret is not read again, however often Circle refuses the key.
const REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// The API key in its secret. One read serves the life of the process, until the key is refused.
#[derive(Debug)]
pub struct ApiKeySecret {
    client: Client,
    secret_id: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    key: Option<ApiKey>,
    reread_at: Option<OffsetDateTime>,
}

/// Why there is no API key. The messages name the secret, never its value.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// Secrets Manager did not give the secret.
    #[error("the secret {secret_id} could not be read from Secrets Manager")]
    Unavailable {
        /// Name or ARN of the secret.
        secret_id: String,
        /// What the AWS SDK said.
        #[source]
        source: Box<aws_sdk_secretsmanager::Error>,
    },
    /// The secret does not hold a key.
    #[error(
        "the secret {secret_id} must hold a Circle API key, PREFIX:ID:SECRET, as text or as JSON {{\"apiKey\": ...}}"
    )]
    Malformed {
        /// Name or ARN of the secret.
        secret_id: String,
    },
}

impl ApiKeySecret {
    /// A key that is read with its first use.
    pub fn new(client: Client, secret_id: String, clock: Arc<dyn Clock>) -> Self {
        Self { client, secret_id, clock, state: Mutex::default() }
    }

    /// The key, from memory if it is there.
    ///
    /// # Errors
    /// When it had to be read and could not be.
    pub async fn get(&self) -> Result<ApiKey, ApiKeyError> {
        let mut state = self.state.lock().await;
        if let Some(key) = &state.key {
            return Ok(key.clone());
        }
        let key = self.read().await?;
        state.key = Some(key.clone());
        Ok(key)
    }

    /// A key to use after Circle refused `refused`: one that somebody else has read since, or one read
    /// now. `None` if the secret was read again less than 30 seconds ago or still holds the refused key.
    ///
    /// # Errors
    /// When it had to be read and could not be.
    pub async fn after_refusal(&self, refused: &ApiKey) -> Result<Option<ApiKey>, ApiKeyError> {
        let mut state = self.state.lock().await;
        if let Some(key) = state.key.as_ref().filter(|key| *key != refused) {
            return Ok(Some(key.clone()));
        }
        let now = self.clock.now();
        if state.reread_at.is_some_and(|at| (now - at).abs() < REREAD_INTERVAL) {
            return Ok(None);
        }
        let key = self.read().await?;
        state.reread_at = Some(now);
        state.key = Some(key.clone());
        Ok(Some(key).filter(|key| key != refused))
    }

    async fn read(&self) -> Result<ApiKey, ApiKeyError> {
        let secret = self.client.get_secret_value().secret_id(&self.secret_id).send().await;
        let secret = secret.map_err(|error| ApiKeyError::Unavailable {
            secret_id: self.secret_id.clone(),
            source: Box::new(error.into()),
        })?;
        secret
            .secret_string()
            .and_then(ApiKey::from_secret)
            .ok_or_else(|| ApiKeyError::Malformed { secret_id: self.secret_id.clone() })
    }
}
