//! Circle's API for user-controlled wallets: one client, one way to send.
//!
//! Facts about Circle are from its API reference for user-controlled wallets
//! (`https://developers.circle.com/api-reference/wallets/user-controlled-wallets`).

mod error;
mod send;
mod subscriptions;
mod wire;

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use reqwest::Url;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::error::CircleError;
pub use self::subscriptions::Subscription;
pub use self::wire::{EndUser, LockDetails, PinStatus, PublicKey};

use self::send::{Call, RetryBudget};
use self::wire::{ChallengeCreated, ChallengeFound, SessionCreated, UserFound};
use crate::api_key::ApiKeySecret;
use crate::challenge::{Challenge, ChallengeType, Report, ReportSource};
use crate::clock::{Clock, Deadline};
use crate::config::CircleSettings;
use crate::identity::UserId;
use crate::platform::{Platform, http_client};
use crate::random::Random;
use crate::secrets::{self, EncryptionKey, UserToken};

/// How long a user token is good for, by Circle's documentation.
const SESSION_LIFETIME: time::Duration = time::Duration::minutes(60);

/// Circle's API, called with the API key from Secrets Manager.
#[derive(Debug)]
pub struct Circle {
    base_url: Url,
    http: reqwest::Client,
    api_key: ApiKeySecret,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    retries: Mutex<RetryBudget>,
}

/// A session: what Circle's client SDK needs on the user's device to run a challenge. It is written as
/// JSON, secrets and all, into the one kind of answer that is meant to carry it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Authorizes calls for the user; good for 60 minutes.
    #[serde(serialize_with = "secrets::expose")]
    pub user_token: UserToken,
    /// Encrypts what the user enters.
    #[serde(serialize_with = "secrets::expose")]
    pub encryption_key: EncryptionKey,
    /// When the user token ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// A challenge that Circle made, or had made before for the same idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedChallenge {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// Whether Circle says that the idempotency key was used before (HTTP 200 instead of 201).
    pub repeated: bool,
}

impl Circle {
    /// A client as the settings say. Nothing is sent yet and no secret is read.
    pub fn new(platform: &Platform, settings: CircleSettings) -> Self {
        let secrets = aws_sdk_secretsmanager::Client::new(&platform.aws);
        Self {
            base_url: settings.base_url,
            http: http_client(),
            api_key: ApiKeySecret::new(
                secrets,
                settings.api_key_secret_id,
                settings.environment,
                Arc::clone(&platform.clock),
            ),
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
            retries: Mutex::default(),
        }
    }

    /// Reads the API key, unless it has been read.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn read_api_key(&self) -> Result<(), CircleError> {
        self.api_key.get().await?;
        Ok(())
    }

    /// Reads the API key ahead of the first call. A failure is logged and left to the first call, which may
    /// find the secret readable again.
    pub async fn warm_up(&self) {
        if let Err(error) = self.read_api_key().await {
            tracing::warn!(error = %crate::telemetry::Chain(&error), "the API key could not be read ahead");
        }
    }

    /// Makes a session for the user (`POST /v1/w3s/users/token`).
    ///
    /// # Errors
    /// As [`CircleError`] says; 155102 where Circle does not know the user.
    pub async fn create_session(&self, user: &UserId, deadline: Deadline) -> Result<Session, CircleError> {
        let call = Call::new("POST /v1/w3s/users/token").body(json!({ "userId": user.as_str() }));
        let answer = self.send::<SessionCreated>(call, deadline).await?;
        let now = self.clock.now();
        let expires_at = answer.data.user_token.expires_at().filter(|at| *at > now);
        Ok(Session {
            encryption_key: answer.data.encryption_key,
            expires_at: expires_at.unwrap_or(now + SESSION_LIFETIME),
            user_token: answer.data.user_token,
        })
    }

    /// The state of the user that the token is for (`GET /v1/w3s/user`).
    ///
    /// # Errors
    /// As [`CircleError`] says; 155104 where the token has expired.
    pub async fn user_of_token(&self, token: &UserToken, deadline: Deadline) -> Result<EndUser, CircleError> {
        let call = Call::new("GET /v1/w3s/user").user_token(token);
        Ok(self.send::<EndUser>(call, deadline).await?.data.at(self.clock.now()))
    }

    /// The state of the user (`GET /v1/w3s/users/{userId}`).
    ///
    /// # Errors
    /// As [`CircleError`] says; 155102 where Circle does not know the user.
    pub async fn user(&self, user: &UserId, deadline: Deadline) -> Result<EndUser, CircleError> {
        let call = Call::new("GET /v1/w3s/users/{userId}").id(user.as_str());
        Ok(self.send::<UserFound>(call, deadline).await?.data.user.at(self.clock.now()))
    }

    /// Makes a challenge: `PUT /v1/w3s/user/pin` or `POST /v1/w3s/user/pin/restore`. The key makes the call
    /// safe to repeat.
    ///
    /// # Errors
    /// As [`CircleError`] says; 155104 where the token has expired.
    pub async fn create_challenge(
        &self,
        challenge_type: ChallengeType,
        token: &UserToken,
        idempotency_key: Uuid,
        deadline: Deadline,
    ) -> Result<CreatedChallenge, CircleError> {
        let call = match challenge_type {
            ChallengeType::ChangePin => Call::new("PUT /v1/w3s/user/pin"),
            ChallengeType::RestorePin => Call::new("POST /v1/w3s/user/pin/restore"),
        };
        let call = call.user_token(token).body(json!({ "idempotencyKey": idempotency_key }));
        let answer = self.send::<ChallengeCreated>(call, deadline).await?;
        Ok(CreatedChallenge { id: answer.data.challenge_id, repeated: answer.status == 200 })
    }

    /// Asks how a challenge stands (`GET /v1/w3s/user/challenges/{id}`), for a report by `asked_by`. `None` where
    /// Circle does not say, or calls it a type that this service does not make; a type that Circle leaves out is the
    /// record's.
    ///
    /// # Errors
    /// As [`CircleError`] says; 155116 where Circle knows no such challenge.
    pub async fn challenge(
        &self,
        challenge: &Challenge,
        token: &UserToken,
        asked_by: ReportSource,
        deadline: Deadline,
    ) -> Result<Option<Report>, CircleError> {
        let id = challenge.id.to_string();
        let call = Call::new("GET /v1/w3s/user/challenges/{id}").id(&id).user_token(token);
        let found = self.send::<ChallengeFound>(call, deadline).await?.data.challenge;
        let challenge_type = match found["type"].as_str() {
            None | Some("") => Some(challenge.challenge_type),
            Some(word) => ChallengeType::parse(word),
        };
        Ok(challenge_type
            .and_then(|challenge_type| Report::read(challenge.id, challenge_type, &found, asked_by, None)))
    }

    /// The public key that Circle signs webhooks with (`GET /v2/notifications/publicKey/{keyId}`); `None`
    /// where Circle says that it has no such key.
    ///
    /// # Errors
    /// As [`CircleError`] says, when it could not be found out.
    pub async fn public_key(
        &self,
        key_id: Uuid,
        deadline: Deadline,
    ) -> Result<Option<PublicKey>, CircleError> {
        let id = key_id.to_string();
        let call = Call::new("GET /v2/notifications/publicKey/{keyId}").id(&id);
        match self.send(call, deadline).await {
            Ok(answer) => Ok(Some(answer.data)),
            Err(CircleError::Response { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The idempotency key that Circle gets for a caller's own: a version 4 UUID shaped from a hash over the
/// user, the type and the caller's key, so that one user's key never returns another user's challenge.
pub fn idempotency_key(user: &UserId, challenge_type: ChallengeType, callers: Uuid) -> Uuid {
    let mut input = b"circle-pin-reset/idempotency-key/1".to_vec();
    for part in [user.as_str(), challenge_type.as_str(), &callers.to_string()] {
        input.extend((part.len() as u64).to_be_bytes());
        input.extend(part.as_bytes());
    }
    let hash = digest(&SHA256, &input);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_are_kept_apart_per_user_and_type() {
        let user = |id| UserId::parse(id).unwrap();
        let callers = Uuid::from_u128(7);
        let key = idempotency_key(&user("alice"), ChallengeType::ChangePin, callers);
        assert_eq!(key.get_version_num(), 4);
        assert_eq!(key.to_string(), "b04046ff-3aac-4ae1-ac07-7eb0d7892520");
        assert_eq!(key, idempotency_key(&user("alice"), ChallengeType::ChangePin, callers));
        assert_ne!(key, idempotency_key(&user("bobby"), ChallengeType::ChangePin, callers));
        assert_ne!(key, idempotency_key(&user("alice"), ChallengeType::RestorePin, callers));
        assert_ne!(key, idempotency_key(&user("alice"), ChallengeType::ChangePin, Uuid::from_u128(8)));
    }
}
