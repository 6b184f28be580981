//! Everything that the simulator remembers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::random::Random;
use time::OffsetDateTime;
use uuid::Uuid;

use super::api_error::ApiError;
use super::challenges::Challenges;
use super::faults::Faults;
use super::knobs::Knobs;
use super::outbox::Outbox;
use super::rate_limits::RateLimiter;
use super::signing::SigningKeys;
use super::subscriptions::Subscriptions;
use super::user_tokens::{IssuedTokens, TOKEN_LIFETIME, VerifiedToken};
use super::users::{User, enabled_user};
use crate::secrets;

pub(super) struct State {
    pub(super) api_key: String,
    /// The Circle account. It stays the same when the API key is rotated.
    entity_id: Uuid,
    /// By user id.
    pub(super) users: BTreeMap<String, User>,
    pub(super) user_tokens: IssuedTokens,
    pub(super) challenges: Challenges,
    pub(super) signing_keys: SigningKeys,
    pub(super) subscriptions: Subscriptions,
    pub(super) outbox: Outbox,
    pub(super) knobs: Knobs,
    pub(super) faults: Faults,
    pub(super) rate_limiter: RateLimiter,
    /// How often each call was made, by its name.
    pub(super) calls: BTreeMap<&'static str, u64>,
}

impl State {
    pub(super) fn new(random: &Random, now: OffsetDateTime) -> Self {
        Self {
            api_key: new_api_key(random),
            entity_id: random.uuid(),
            users: BTreeMap::new(),
            user_tokens: IssuedTokens::default(),
            challenges: Challenges::default(),
            signing_keys: SigningKeys::new(random.uuid(), now),
            subscriptions: Subscriptions::default(),
            outbox: Outbox::default(),
            knobs: Knobs::default(),
            faults: Faults::default(),
            rate_limiter: RateLimiter::default(),
            calls: BTreeMap::new(),
        }
    }

    /// Registers a new token of a user and returns its claims.
    pub(super) fn issue_user_token(
        &mut self,
        user_id: &str,
        token_id: String,
        now: OffsetDateTime,
    ) -> Result<Value, ApiError> {
        let user = enabled_user(&self.users, user_id)?;
        let expires_at = now + TOKEN_LIFETIME;
        let claims = json!({
            "sub": user_id,
            "exp": expires_at.unix_timestamp(),
            "iat": now.unix_timestamp(),
            "jti": token_id,
            "entityId": self.entity_id,
            "internalUserId": user.internal_id,
            "developerEntityEnvironment": "TEST",
            "iss": "https://programmable-wallet.circle.com",
            "authMode": user.auth_mode,
        });
        if self.knobs.new_token_ends_old {
            self.user_tokens.forget(user_id);
        }
        self.user_tokens.add(token_id, user_id, expires_at, now);
        Ok(claims)
    }

    /// The user whose token this is. Fails if the token is no longer valid or the user is disabled.
    pub(super) fn user_of(&self, token: &VerifiedToken, now: OffsetDateTime) -> Result<&User, ApiError> {
        enabled_user(&self.users, self.user_tokens.user_id(token, now)?)
    }
}

/// An API key in the form of Circle's keys for its test network.
pub(super) fn new_api_key(random: &Random) -> String {
    let key = format!("TEST_API_KEY:{}:{}", random.uuid().simple(), random.uuid().simple());
    secrets::issued("API key", &key);
    key
}
