//! Circle's API for user-controlled wallets: one client, one way to send.
//!
//! Facts about Circle are from its API reference for user-controlled wallets
//! (`https://developers.circle.com/api-reference/wallets/user-controlled-wallets`).

mod error;
mod idempotency;
mod pace;
mod send;
mod subscriptions;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::error::CircleError;
pub use self::idempotency::{CircleIdempotencyKey, IdempotencyKey};
pub use self::subscriptions::Subscription;
pub use self::wire::{EndUser, LockDetails, PinStatus, PublicKey};

use self::pace::Pace;
use self::send::{Call, RetryBudget};
use self::wire::{ChallengeCreated, ChallengeFound, SessionCreated, UserFound};
use crate::api_key::ApiKeySecret;
use crate::challenge::{Challenge, ChallengeType, Report, ReportSource, Status};
use crate::circle_code::CircleCode;
use crate::clock::{Clock, Deadline, timeout};
use crate::config::CircleSettings;
use crate::http_client::HttpClient;
use crate::platform::Platform;
use crate::random::Random;
use crate::secrets::{self, EncryptionKey, UserToken};
use crate::telemetry::Chain;
use crate::user_id::UserId;

/// How long a user token is valid, by Circle's documentation.
const SESSION_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long start-up waits for a connection to Circle.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Circle's API, called with the API key from Secrets Manager.
#[derive(Debug)]
pub struct Circle {
    base_url: Url,
    http: HttpClient,
    api_key: ApiKeySecret,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    retries: Mutex<RetryBudget>,
    pace: Option<Pace>,
}

/// A session: what Circle's client SDK needs on the user's device to run a challenge. It serializes with its secrets,
/// into the only kind of response that is meant to carry them.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Authorizes calls for the user; valid for 60 minutes.
    #[serde(serialize_with = "secrets::expose")]
    pub user_token: UserToken,
    /// Encrypts what the user enters.
    #[serde(serialize_with = "secrets::expose")]
    pub encryption_key: EncryptionKey,
    /// When the user token expires.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// A challenge that Circle created, now or earlier for the same idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedChallenge {
    /// Circle's id of the challenge.
    pub id: Uuid,
    /// Whether Circle had seen the idempotency key before (HTTP 200 instead of 201).
    pub is_replay: bool,
}

impl Circle {
    /// A client for these settings. It sends nothing and reads no secret yet.
    pub fn new(platform: &Platform, settings: CircleSettings) -> Self {
        Self {
            base_url: settings.base_url,
            http: platform.http.for_another_server(),
            api_key: ApiKeySecret::new(
                platform.secrets_manager.clone(),
                settings.api_key_secret_id,
                settings.environment,
                Arc::clone(&platform.clock),
            ),
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
            retries: Mutex::default(),
            pace: None,
        }
    }

    /// The same client, which sends at most so many requests in any second, retries included. The wait for its turn counts
    /// towards the deadline of a call.
    pub fn paced(self, requests_per_second: u32) -> Self {
        Self { pace: Some(Pace::per_second(requests_per_second)), ..self }
    }

    /// Reads the API key, unless it has been read.
    ///
    /// # Errors
    /// If it cannot be read, or the secret holds no usable key.
    pub async fn read_api_key(&self) -> Result<(), CircleError> {
        self.api_key.get().await?;
        Ok(())
    }

    /// Reads the API key ahead of the first call, and opens a connection. A failure is only logged: the first call tries
    /// again.
    pub async fn warm_up(&self) {
        let (key, ()) = tokio::join!(self.read_api_key(), self.connect());
        if let Err(error) = key {
            tracing::warn!(error = %Chain(&error), "the API key could not be read at start-up");
        }
    }

    /// Opens a connection ahead of a call. It sends Circle's `GET /ping`, which needs no API key
    /// (`https://developers.circle.com/api-reference/wallets/common/ping`). A failure is only logged.
    pub async fn connect(&self) {
        let ping = async {
            let request = self.http.request(Method::GET, self.url("/ping", "")).build()?;
            // The connection can be used again once the body has been read.
            self.http.send(request).await?.bytes().await
        };
        match timeout(&*self.clock, PING_TIMEOUT, ping).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error.without_url()), "Circle could not be reached at start-up")
            }
            Err(error) => tracing::warn!(%error, "Circle did not respond in time at start-up"),
        }
    }

    /// Creates a session for the user (`POST /v1/w3s/users/token`).
    ///
    /// # Errors
    /// A [`CircleError`], with [`CircleCode::USER_NOT_FOUND`](crate::circle_code::CircleCode::USER_NOT_FOUND) if Circle
    /// does not know the user.
    pub async fn create_session(&self, user: &UserId, deadline: Deadline) -> Result<Session, CircleError> {
        let call = Call::new("create_session", "POST /v1/w3s/users/token")
            .user_id(user)
            .body(json!({ "userId": user.as_str() }));
        let created = self.send::<SessionCreated>(call, deadline).await?.data;
        let now = self.clock.now();
        let expires_at = created.user_token.expires_at().filter(|at| *at > now);
        Ok(Session {
            encryption_key: created.encryption_key,
            expires_at: expires_at.unwrap_or(now + SESSION_LIFETIME),
            user_token: created.user_token,
        })
    }

    /// The state of the user whose token this is (`GET /v1/w3s/user`).
    ///
    /// # Errors
    /// A [`CircleError`]; [`CircleError::is_user_token_ended`] tells if a new token helps.
    pub async fn user_of_token(&self, token: &UserToken, deadline: Deadline) -> Result<EndUser, CircleError> {
        let call = Call::new("get_user", "GET /v1/w3s/user").user_token(token);
        Ok(self.send::<EndUser>(call, deadline).await?.data.at(self.clock.now()))
    }

    /// The state of the user (`GET /v1/w3s/users/{userId}`).
    ///
    /// # Errors
    /// A [`CircleError`], with [`CircleCode::USER_NOT_FOUND`](crate::circle_code::CircleCode::USER_NOT_FOUND) if Circle
    /// does not know the user.
    pub async fn user(&self, user: &UserId, deadline: Deadline) -> Result<EndUser, CircleError> {
        let call = Call::new("get_user", "GET /v1/w3s/users/{userId}").user_id(user);
        Ok(self.send::<UserFound>(call, deadline).await?.data.user.at(self.clock.now()))
    }

    /// Creates a challenge: `PUT /v1/w3s/user/pin` or `POST /v1/w3s/user/pin/restore`. The key makes the call safe to
    /// retry.
    ///
    /// # Errors
    /// A [`CircleError`]; [`CircleError::is_user_token_ended`] tells if a new token helps.
    pub async fn create_challenge(
        &self,
        challenge_type: ChallengeType,
        token: &UserToken,
        idempotency_key: &CircleIdempotencyKey,
        deadline: Deadline,
    ) -> Result<CreatedChallenge, CircleError> {
        let name = match challenge_type {
            ChallengeType::ChangePin => "PUT /v1/w3s/user/pin",
            ChallengeType::RestorePin => "POST /v1/w3s/user/pin/restore",
        };
        let call = Call::new("create_challenge", name)
            .user_token(token)
            .body(json!({ "idempotencyKey": idempotency_key }));
        let response = self.send::<ChallengeCreated>(call, deadline).await?;
        Ok(CreatedChallenge { id: response.data.challenge_id, is_replay: response.status == 200 })
    }

    /// Asks for the state of a challenge (`GET /v1/w3s/user/challenges/{id}`), for a report from `source`. `None` if the
    /// response has no status, or a type that this service does not create. If it has no type, the record's is taken.
    ///
    /// If Circle responds with the error code of an expired challenge, whatever the HTTP status, the report says EXPIRED.
    ///
    /// # Errors
    /// A [`CircleError`]; [`CircleError::is_not_found`] tells if Circle does not know the challenge.
    pub async fn challenge(
        &self,
        challenge: &Challenge,
        token: &UserToken,
        source: ReportSource,
        deadline: Deadline,
    ) -> Result<Option<Report>, CircleError> {
        let id = challenge.id.to_string();
        let call = Call::new("get_challenge", "GET /v1/w3s/user/challenges/{id}").id(&id).user_token(token);
        let found = match self.send::<ChallengeFound>(call, deadline).await {
            Ok(response) => response.data.challenge,
            Err(CircleError::Response {
                code: Some(code @ CircleCode::CHALLENGE_EXPIRED), message, ..
            }) => {
                json!({ "status": Status::Expired.as_str(), "errorCode": code, "errorMessage": message })
            }
            Err(error) => return Err(error),
        };
        let challenge_type = match found["type"].as_str() {
            None | Some("") => Some(challenge.challenge_type),
            Some(name) => ChallengeType::read(name),
        };
        Ok(challenge_type
            .and_then(|challenge_type| Report::read(challenge.id, challenge_type, &found, source)))
    }

    /// A public key that verifies webhook signatures (`GET /v2/notifications/publicKey/{keyId}`); `None` if Circle
    /// responds that it has no such key.
    ///
    /// # Errors
    /// A [`CircleError`] if Circle does not say whether it has the key.
    pub async fn public_key(
        &self,
        key_id: Uuid,
        deadline: Deadline,
    ) -> Result<Option<PublicKey>, CircleError> {
        let id = key_id.to_string();
        let call = Call::new("get_public_key", "GET /v2/notifications/publicKey/{keyId}").id(&id);
        match self.send(call, deadline).await {
            Ok(response) => Ok(Some(response.data)),
            Err(CircleError::Response { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
