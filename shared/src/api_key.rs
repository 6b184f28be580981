//! The Circle API key: read from Secrets Manager, kept, and read again if Circle rejects it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::RequestId;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use tokio::sync::Mutex;

use crate::clock::{Clock, Moment};
use crate::secrets::{ApiKey, CircleEnvironment};

/// How long the secret is not read again after a re-read, however often Circle rejects the key.
const REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// The same after a re-read that found no usable key, because an operator may fix the secret at any moment.
const FAILED_REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// The API key in its secret. It is read once in the life of the process, and again if Circle rejects it.
#[derive(Debug)]
pub struct ApiKeySecret {
    client: Client,
    secret_id: String,
    environment: Option<CircleEnvironment>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    key: Option<ApiKey>,
    /// The last re-read, and how long the secret is not read again after it.
    last_reread: Option<(Moment, Duration)>,
}

/// Why there is no API key. The messages name the secret, never its value.
#[derive(thiserror::Error)]
pub enum ApiKeyError {
    /// Secrets Manager did not respond, failed, or throttled the call.
    #[error(
        "the secret {secret_id} cannot be read from Secrets Manager at the moment (request id {request_id})"
    )]
    Unavailable {
        /// Name or ARN of the secret.
        secret_id: String,
        /// The id that AWS support asks for; `none` if there was no response.
        request_id: String,
        /// What the AWS SDK said.
        #[source]
        source: Box<aws_sdk_secretsmanager::Error>,
    },
    /// Secrets Manager rejected the call: the secret does not exist, or this function may not read it.
    #[error("the secret {secret_id} could not be read from Secrets Manager (request id {request_id})")]
    Rejected {
        /// Name or ARN of the secret.
        secret_id: String,
        /// The id that AWS support asks for.
        request_id: String,
        /// What the AWS SDK said.
        #[source]
        source: Box<aws_sdk_secretsmanager::Error>,
    },
    /// The secret does not hold an API key.
    #[error(
        "the secret {secret_id} must hold a Circle API key, PREFIX:ID:SECRET, as text or as JSON {{\"apiKey\": ...}}"
    )]
    Malformed {
        /// Name or ARN of the secret.
        secret_id: String,
    },
    /// The secret holds a key for another Circle environment than this service is configured for.
    #[error(
        "the secret {secret_id} holds {}, but CIRCLE_ENVIRONMENT is {}",
        found.map_or("a Circle API key for an unknown environment".into(), |found| format!("a {} Circle API key", found.as_str())),
        wanted.as_str()
    )]
    WrongEnvironment {
        /// Name or ARN of the secret.
        secret_id: String,
        /// The environment of the key, if its prefix says.
        found: Option<CircleEnvironment>,
        /// The environment that is configured.
        wanted: CircleEnvironment,
    },
}

/// The same as the message. The SDK's own `Debug` would show the bytes of a response, and so the secret.
impl fmt::Debug for ApiKeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl ApiKeySecret {
    /// A key that is read on its first use. It is accepted if it is for `environment`, or if that is `None`.
    pub fn new(
        client: Client,
        secret_id: String,
        environment: Option<CircleEnvironment>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { client, secret_id, environment, clock, state: Mutex::default() }
    }

    /// The key, from memory if it has been read.
    ///
    /// # Errors
    /// If it has to be read and cannot be.
    pub async fn get(&self) -> Result<ApiKey, ApiKeyError> {
        let mut state = self.state.lock().await;
        if let Some(key) = &state.key {
            return Ok(key.clone());
        }
        let key = self.read().await?;
        state.key = Some(key.clone());
        Ok(key)
    }

    /// The key to use after Circle rejected `rejected`: the key that another request has read since, or one read now. `None`
    /// if the secret was read again less than 30 seconds ago (1 second if no usable key was found), or still holds the
    /// rejected key. A re-read does not count if Secrets Manager was unavailable or the caller stopped waiting.
    ///
    /// # Errors
    /// If it has to be read and cannot be.
    pub async fn after_rejection(&self, rejected: &ApiKey) -> Result<Option<ApiKey>, ApiKeyError> {
        let mut state = self.state.lock().await;
        if let Some(key) = state.key.as_ref().filter(|key| *key != rejected) {
            return Ok(Some(key.clone()));
        }
        if state.last_reread.is_some_and(|(at, interval)| at.age(&*self.clock) < interval) {
            return Ok(None);
        }
        let now = Moment::now(&*self.clock);
        let read = self.read().await;
        match &read {
            Ok(_) => state.last_reread = Some((now, REREAD_INTERVAL)),
            Err(ApiKeyError::Unavailable { .. }) => {}
            Err(_) => state.last_reread = Some((now, FAILED_REREAD_INTERVAL)),
        }
        let key = read?;
        state.key = Some(key.clone());
        Ok(Some(key).filter(|key| key != rejected))
    }

    async fn read(&self) -> Result<ApiKey, ApiKeyError> {
        let secret = self.client.get_secret_value().secret_id(&self.secret_id).send().await;
        let secret = secret.map_err(|error| {
            let (secret_id, is_rejected) = (self.secret_id.clone(), is_rejected(&error));
            let request_id = error.request_id().unwrap_or("none").to_owned();
            let source = Box::new(error.into());
            if is_rejected {
                ApiKeyError::Rejected { secret_id, request_id, source }
            } else {
                ApiKeyError::Unavailable { secret_id, request_id, source }
            }
        })?;
        let key = secret
            .secret_string()
            .and_then(ApiKey::from_secret)
            .ok_or_else(|| ApiKeyError::Malformed { secret_id: self.secret_id.clone() })?;
        let found = key.environment();
        match self.environment {
            Some(wanted) if found != Some(wanted) => {
                Err(ApiKeyError::WrongEnvironment { secret_id: self.secret_id.clone(), found, wanted })
            }
            _ => Ok(key),
        }
    }
}

/// Whether Secrets Manager rejected the call, so that a retry does not help
/// (`https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html`).
fn is_rejected(error: &SdkError<GetSecretValueError>) -> bool {
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
    fn debug_form_is_the_message() {
        let malformed = ApiKeyError::Malformed { secret_id: "circle".into() };
        assert_eq!(format!("{malformed:?}"), malformed.to_string());
    }

    #[test]
    fn key_for_another_environment_is_named_by_its_secret_only() {
        let error = |found| {
            let wanted = CircleEnvironment::Live;
            ApiKeyError::WrongEnvironment { secret_id: "circle".into(), found, wanted }.to_string()
        };
        assert_eq!(
            error(Some(CircleEnvironment::Test)),
            "the secret circle holds a TEST Circle API key, but CIRCLE_ENVIRONMENT is LIVE"
        );
        assert_eq!(
            error(None),
            "the secret circle holds a Circle API key for an unknown environment, but CIRCLE_ENVIRONMENT is LIVE"
        );
    }
}
