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

/// How long a user token is valid, as Circle documents it.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// A token with a valid signature. [`IssuedTokens::user_id`] says whether it is still valid.
#[derive(Debug, Deserialize)]
pub(super) struct VerifiedToken {
    jti: String,
    exp: i64,
}

/// Signs user tokens and verifies their signatures.
pub(super) struct UserTokenKey(Rs256Key);

impl UserTokenKey {
    /// Generates the key in the background. Needs a tokio runtime.
    pub(super) fn new() -> Self {
        Self(Rs256Key::generate_in_background())
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

/// The tokens that were issued and not forgotten, by `jti`.
#[derive(Default)]
pub(super) struct IssuedTokens(HashMap<String, IssuedToken>);

struct IssuedToken {
    user_id: String,
    expires_at: OffsetDateTime,
}

impl IssuedTokens {
    pub(super) fn add(&mut self, id: String, user_id: &str, expires_at: OffsetDateTime) {
        self.0.insert(id, IssuedToken { user_id: user_id.to_owned(), expires_at });
    }

    /// The id of the user whose token this is, if the token is still valid.
    pub(super) fn user_id(&self, token: &VerifiedToken, now: OffsetDateTime) -> Result<&str, ApiError> {
        match self.0.get(&token.jti) {
            Some(issued) if issued.expires_at > now => Ok(&issued.user_id),
            Some(_) => Err(ApiError::user_token_expired()),
            None if token.exp <= now.unix_timestamp() => Err(ApiError::user_token_expired()),
            None => Err(ApiError::user_token_not_found()),
        }
    }

    pub(super) fn forget(&mut self, user_id: &str) {
        self.0.retain(|_, token| token.user_id != user_id);
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
        STANDARD.encode(halves.concat())
    }
}
