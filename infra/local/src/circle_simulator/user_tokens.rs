//! User tokens: RS256 JWTs that the simulator issues and, like Circle, verifies itself.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::CircleSimulator;
use super::api_error::ApiError;
use crate::rs256::Rs256Key;
use crate::secrets;

/// How long a user token is valid, as Circle documents it.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// A token with a valid signature. [`IssuedTokens::user_id`] says whether it is still valid.
#[derive(Debug, Deserialize)]
pub(super) struct VerifiedToken {
    jti: String,
    exp: i64,
}

/// Signs user tokens and verifies their signatures. Clones share the key, which is generated when it is first needed.
#[derive(Clone, Default)]
pub struct UserTokenKey(Rs256Key);

impl UserTokenKey {
    /// Generates the key in the background, because that takes some time. Needs a tokio runtime.
    pub fn generate_in_background() -> Self {
        Self(Rs256Key::generate_in_background())
    }

    /// Waits until the key exists.
    pub async fn ready(&self) {
        self.0.ready().await;
    }

    pub(super) async fn sign(&self, claims: &Value) -> String {
        self.0.ready().await;
        self.0.sign(&json!({"alg": "RS256", "typ": "JWT"}), claims)
    }

    /// Checks the form and the signature, and nothing else.
    pub(super) async fn verify(&self, token: &str) -> Result<VerifiedToken, ApiError> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        self.0.ready().await;
        let key = DecodingKey::from_rsa_der(self.0.public_key().as_ref());
        let verified = jsonwebtoken::decode(token, &key, &validation);
        verified.map(|data| data.claims).map_err(|_| ApiError::user_token_invalid())
    }
}

/// How many tokens are issued between two removals of the expired ones.
const TOKENS_PER_REMOVAL: usize = 1000;

/// The tokens that were issued and not forgotten, by `jti`. Expired ones are removed now and then, because
/// [`IssuedTokens::user_id`] recognizes an expired token by its claims too.
#[derive(Default)]
pub(super) struct IssuedTokens {
    by_id: HashMap<String, IssuedToken>,
    added_since_removal: usize,
}

struct IssuedToken {
    user_id: String,
    expires_at: OffsetDateTime,
}

impl IssuedTokens {
    pub(super) fn add(&mut self, id: String, user_id: &str, expires_at: OffsetDateTime, now: OffsetDateTime) {
        self.added_since_removal += 1;
        if self.added_since_removal == TOKENS_PER_REMOVAL {
            self.added_since_removal = 0;
            self.by_id.retain(|_, token| token.expires_at > now);
        }
        self.by_id.insert(id, IssuedToken { user_id: user_id.to_owned(), expires_at });
    }

    /// The id of the user whose token this is, if the token is still valid.
    pub(super) fn user_id(&self, token: &VerifiedToken, now: OffsetDateTime) -> Result<&str, ApiError> {
        match self.by_id.get(&token.jti) {
            Some(issued) if issued.expires_at > now => Ok(&issued.user_id),
            Some(_) => Err(ApiError::user_token_expired()),
            None if token.exp <= now.unix_timestamp() => Err(ApiError::user_token_expired()),
            None => Err(ApiError::user_token_not_found()),
        }
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn forget(&mut self, user_id: &str) {
        self.by_id.retain(|_, token| token.user_id != user_id);
    }
}

impl CircleSimulator {
    /// Forgets all tokens of a user. From now on Circle rejects them with 155103.
    pub fn forget_user_tokens(&self, user_id: &str) {
        self.state().user_tokens.forget(user_id);
    }

    /// 32 random bytes in base64.
    pub(super) fn new_encryption_key(&self) -> String {
        let halves = [self.core.random.uuid().into_bytes(), self.core.random.uuid().into_bytes()];
        let key = STANDARD.encode(halves.concat());
        secrets::issued("encryption key", &key);
        key
    }
}
