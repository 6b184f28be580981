//! The Circle API key: read from Secrets Manager, kept, and read again when Circle refuses it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::RequestId;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::secrets::ApiKey;

/// How long after a re-read the secret is not read again, however often Circle refuses the key.
const REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// The same after a re-read that gave no key, which may be mended at any moment.
const FAILED_REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// The API key in its secret. One read serves the life of the process, until the key is refused.
#[derive(Debug)]
pub struct ApiKeySecret {
    client: Client,
    secret_id: String,
    environment: Option<CircleEnvironment>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// One of Circle's two environments. They share nothing, and an API key says with its prefix which one it is for
/// (`https://developers.circle.com/w3s/keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircleEnvironment {
    /// Test networks: `TEST_API_KEY:...`.
    Test,
    /// Main networks, with money: `LIVE_API_KEY:...`.
    Live,
}

impl CircleEnvironment {
    /// Reads Circle's word, `TEST` or `LIVE`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "TEST" => Some(Self::Test),
            "LIVE" => Some(Self::Live),
            _ => None,
        }
    }

    /// Circle's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "TEST",
            Self::Live => "LIVE",
        }
    }

    /// The environment that a key is for; `None` if its prefix does not say.
    fn of(key: &ApiKey) -> Option<Self> {
        let (word, _) = key.expose_secret().split(':').next()?.split_once('_')?;
        Self::parse(word)
    }
}

#[derive(Debug, Default)]
struct State {
    key: Option<ApiKey>,
    /// Until when the secret is not read again.
    no_reread_until: Option<OffsetDateTime>,
}

/// Why there is no API key. The messages name the secret, never its value.
#[derive(thiserror::Error)]
pub enum ApiKeyError {
    /// Secrets Manager did not answer, failed, or takes no more calls just now.
    #[error("the secret {secret_id} cannot be read from Secrets Manager just now (request id {request_id})")]
    Unavailable {
        /// Name or ARN of the secret.
        secret_id: String,
        /// The id that AWS's support asks for; `none` where there was no answer.
        request_id: String,
        /// What the AWS SDK said.
        #[source]
        source: Box<aws_sdk_secretsmanager::Error>,
    },
    /// Secrets Manager does not give the secret: it is not there, or this function may not read it.
    #[error("the secret {secret_id} could not be read from Secrets Manager (request id {request_id})")]
    Rejected {
        /// Name or ARN of the secret.
        secret_id: String,
        /// The id that AWS's support asks for.
        request_id: String,
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
    /// The secret holds a key for another of Circle's environments than this service is set up for.
    #[error(
        "the secret {secret_id} holds {}, and CIRCLE_ENVIRONMENT asks for a {} one",
        found.map_or("a Circle API key of no known environment".into(), |found| format!("a {} Circle API key", found.as_str())),
        wanted.as_str()
    )]
    WrongEnvironment {
        /// Name or ARN of the secret.
        secret_id: String,
        /// The environment of the key, where its prefix says.
        found: Option<CircleEnvironment>,
        /// The environment that the settings ask for.
        wanted: CircleEnvironment,
    },
}

/// As the message: the SDK's own would show the bytes of an answer, and so the secret.
impl fmt::Debug for ApiKeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl ApiKeySecret {
    /// A key that is read with its first use, and taken if it is for the environment; any is without one.
    pub fn new(
        client: Client,
        secret_id: String,
        environment: Option<CircleEnvironment>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { client, secret_id, environment, clock, state: Mutex::default() }
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
    /// now. `None` if the secret was read again less than 30 seconds ago (1 second, where that gave no key) or
    /// still holds the refused key.
    ///
    /// # Errors
    /// When it had to be read and could not be.
    pub async fn after_rejection(&self, refused: &ApiKey) -> Result<Option<ApiKey>, ApiKeyError> {
        let mut state = self.state.lock().await;
        if let Some(key) = state.key.as_ref().filter(|key| *key != refused) {
            return Ok(Some(key.clone()));
        }
        let now = self.clock.now();
        // A clock that was set back must not keep the key away for as long.
        if state.no_reread_until.is_some_and(|until| until > now && until - now <= REREAD_INTERVAL) {
            return Ok(None);
        }
        state.no_reread_until = Some(now + FAILED_REREAD_INTERVAL);
        let key = self.read().await?;
        state.no_reread_until = Some(now + REREAD_INTERVAL);
        state.key = Some(key.clone());
        Ok(Some(key).filter(|key| key != refused))
    }

    async fn read(&self) -> Result<ApiKey, ApiKeyError> {
        let secret = self.client.get_secret_value().secret_id(&self.secret_id).send().await;
        let secret = secret.map_err(|error| {
            let (secret_id, is_refused) = (self.secret_id.clone(), is_refused(&error));
            let request_id = error.request_id().unwrap_or("none").to_owned();
            let source = Box::new(error.into());
            if is_refused {
                ApiKeyError::Rejected { secret_id, request_id, source }
            } else {
                ApiKeyError::Unavailable { secret_id, request_id, source }
            }
        })?;
        let key = secret
            .secret_string()
            .and_then(ApiKey::from_secret)
            .ok_or_else(|| ApiKeyError::Malformed { secret_id: self.secret_id.clone() })?;
        let found = CircleEnvironment::of(&key);
        match self.environment {
            Some(wanted) if found != Some(wanted) => {
                Err(ApiKeyError::WrongEnvironment { secret_id: self.secret_id.clone(), found, wanted })
            }
            _ => Ok(key),
        }
    }
}

/// Whether Secrets Manager answered, and asking again would not help
/// (`https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html`).
fn is_refused(error: &SdkError<GetSecretValueError>) -> bool {
    matches!(
        error.code(),
        Some(
            "ResourceNotFoundException"
                | "AccessDeniedException"
                | "DecryptionFailure"
                | "InvalidParameterException"
                | "InvalidRequestException"
                | "ValidationException"
                | "UnrecognizedClientException"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_key_says_its_environment() {
        let of = |key| CircleEnvironment::of(&ApiKey::from_secret(key).unwrap());
        assert_eq!(of("TEST_API_KEY:id:value"), Some(CircleEnvironment::Test));
        assert_eq!(of("LIVE_API_KEY:id:value"), Some(CircleEnvironment::Live));
        for other in
            ["TEST:id:value", "TESTING_API_KEY:id:value", "API_KEY:LIVE_id:value", "test_api_key:id:value"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_key_of_another_environment_is_named_by_its_secret_alone() {
        let error = |found| {
            let wanted = CircleEnvironment::Live;
            ApiKeyError::WrongEnvironment { secret_id: "circle".into(), found, wanted }.to_string()
        };
        assert_eq!(
            error(Some(CircleEnvironment::Test)),
            "the secret circle holds a TEST Circle API key, and CIRCLE_ENVIRONMENT asks for a LIVE one"
        );
        assert_eq!(
            error(None),
            "the secret circle holds a Circle API key of no known environment, and CIRCLE_ENVIRONMENT asks for a LIVE one"
        );
    }
}
