//! User tokens: RS256 JWTs that the simulator issues and, as Circle does, verifies itself.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::CircleSimulator;
use super::refusal::Refusal;
use super::state::State;
use super::users::User;
use crate::rs256::Rs256Key;

/// How long a user token is good for, by Circle's documentation.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// What is kept of a token that was issued.
pub(super) struct IssuedToken {
    user_id: String,
    expires_at: OffsetDateTime,
}

/// A token whose signature holds. Whether it is still good is up to [`State::user_of`].
#[derive(Debug, Deserialize)]
pub(super) struct VerifiedToken {
    jti: String,
    exp: i64,
}

/// Signs user tokens and verifies them. The key is generated in the background from the start, because that takes long.
pub(super) struct UserTokens {
    key: Rs256Key,
}

impl UserTokens {
    /// Needs a tokio runtime.
    pub(super) fn new() -> Self {
        Self { key: Rs256Key::generate_in_background() }
    }

    pub(super) async fn sign(&self, claims: &Value) -> String {
        self.key.ready().await;
        self.key.sign(&json!({"alg": "RS256", "typ": "JWT"}), claims)
    }

    /// Checks the form and the signature, and nothing else.
    pub(super) async fn verify(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        self.key.ready().await;
        let key = DecodingKey::from_rsa_der(self.key.public_key().as_ref());
        let verified = jsonwebtoken::decode(token, &key, &validation);
        verified.map(|data| data.claims).map_err(|_| Refusal::user_token_invalid())
    }
}

impl State {
    /// Registers a new token for a user and gives its claims.
    pub(super) fn issue_user_token(
        &mut self,
        user_id: &str,
        token_id: String,
        now: OffsetDateTime,
    ) -> Result<Value, Refusal> {
        let user = self.enabled_user(user_id)?;
        let expires_at = now + LIFETIME;
        let claims = json!({
            "sub": user_id,
            "exp": expires_at.unix_timestamp(),
            "iat": now.unix_timestamp(),
            "jti": token_id,
            "entityId": self.entity_id,
            "internalUserId": user.internal_id,
            "developerEntityEnvironment": "TEST",
            "iss": "https://programmablewallet.circle.com",
        });
        if self.knobs.new_token_ends_old {
            self.forget_user_tokens(user_id);
        }
        self.user_tokens.insert(token_id, IssuedToken { user_id: user_id.to_owned(), expires_at });
        Ok(claims)
    }

    /// The user whom a token speaks for, if it still does and the user may do anything.
    pub(super) fn user_of(&self, token: &VerifiedToken, now: OffsetDateTime) -> Result<String, Refusal> {
        let issued = self.user_tokens.get(&token.jti);
        match issued {
            Some(issued) if issued.expires_at > now => Ok(self.enabled_user(&issued.user_id)?.id.clone()),
            Some(_) => Err(Refusal::user_token_expired()),
            None if token.exp <= now.unix_timestamp() => Err(Refusal::user_token_expired()),
            None => Err(Refusal::user_token_not_found()),
        }
    }

    /// A user whom Circle knows and has not disabled.
    fn enabled_user(&self, user_id: &str) -> Result<&User, Refusal> {
        let user = self.users.get(user_id).ok_or_else(Refusal::no_such_user)?;
        if user.disabled { Err(Refusal::user_disabled()) } else { Ok(user) }
    }

    fn forget_user_tokens(&mut self, user_id: &str) {
        self.user_tokens.retain(|_, token| token.user_id != user_id);
    }
}

impl CircleSimulator {
    /// Forgets all tokens of a user: Circle answers 155103 to them from now on.
    pub fn forget_user_tokens(&self, user_id: &str) {
        self.state().forget_user_tokens(user_id);
    }

    /// 32 random bytes in base64, as the client SDK is given them.
    pub(super) fn new_encryption_key(&self) -> String {
        let halves = [self.core.random.uuid().into_bytes(), self.core.random.uuid().into_bytes()];
        STANDARD.encode(halves.concat())
    }
}
