//! The JWT authorizer of API Gateway's HTTP APIs.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html>

use std::time::Duration;

use http::{HeaderMap, header};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shared::clock::{AdjustableClock, Clock, timeout};
use time::OffsetDateTime;
use tokio::sync::Mutex;

/// How long the issuer may take to send its keys. All callers with a token wait for them.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long API Gateway may cache an issuer's keys.
const KEY_CACHE_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// Accepts valid tokens of one issuer for one audience.
#[derive(Debug)]
pub(super) struct Authorizer {
    issuer: String,
    audience: String,
    clock: AdjustableClock,
    client: reqwest::Client,
    keys: Mutex<Option<Keys>>,
}

#[derive(Debug)]
struct Keys {
    keys: JwkSet,
    read_at: OffsetDateTime,
}

/// Why a request is not authorized.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// There is no token.
    Missing,
    /// The token is invalid for this reason.
    Invalid(&'static str),
}

impl TokenError {
    /// The value of the `WWW-Authenticate` header.
    pub(super) fn www_authenticate(&self) -> String {
        match self {
            Self::Missing => "Bearer".to_owned(),
            Self::Invalid(description) => {
                format!(r#"Bearer scope="" error="invalid_token" error_description="{description}""#)
            }
        }
    }
}

impl Authorizer {
    pub(super) fn new(
        issuer: String,
        audience: String,
        clock: AdjustableClock,
        client: reqwest::Client,
    ) -> Self {
        Self { issuer, audience, clock, client, keys: Mutex::new(None) }
    }

    /// The claims of the token in the `Authorization` header. `Bearer` before the token is optional.
    pub(super) async fn claims(&self, headers: &HeaderMap) -> Result<Map<String, Value>, TokenError> {
        let header = headers.get(header::AUTHORIZATION).ok_or(TokenError::Missing)?;
        let header = header.to_str().map_err(|_| TokenError::Invalid("the token is malformed"))?.trim();
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => header,
        };
        if token.is_empty() || token.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Missing);
        }
        let claims = self.verified(token).await.map_err(TokenError::Invalid)?;
        self.check(&claims).map_err(TokenError::Invalid)?;
        Ok(claims)
    }

    /// Verifies the signature and returns the claims.
    async fn verified(&self, token: &str) -> Result<Map<String, Value>, &'static str> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| "the token is malformed")?;
        if header.alg != Algorithm::RS256 {
            return Err("the token is not signed with RS256");
        }
        let kid = header.kid.ok_or("the token has no key id")?;
        let key = self.key(&kid).await?;
        // `check` validates the claims, because the library would use the machine's clock.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &key, &validation)
            .map(|token| token.claims)
            .map_err(|_| "the token has an invalid signature")
    }

    fn check(&self, claims: &Map<String, Value>) -> Result<(), &'static str> {
        let now = self.clock.now().unix_timestamp_nanos() as f64 / 1e9;
        let time = |name| match claims.get(name) {
            None => Ok(None),
            Some(time) => time.as_f64().map(Some).ok_or("a time in the token is not a number"),
        };
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("the token has an invalid issuer");
        }
        // `client_id` counts only if there is no `aud`.
        let is_for_us = match claims.get("aud").or_else(|| claims.get("client_id")) {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| *audience == self.audience),
            _ => false,
        };
        if !is_for_us {
            return Err("the token does not have a valid audience");
        }
        if time("exp")?.is_none_or(|expires| expires <= now) {
            return Err("the token has expired");
        }
        if time("nbf")?.is_some_and(|from| from > now) {
            return Err("the token is not valid yet");
        }
        if time("iat")?.is_some_and(|issued| issued > now) {
            return Err("the token was issued in the future");
        }
        Ok(())
    }

    /// The issuer's key with this id. The keys are fetched again if they are old or do not have this id.
    async fn key(&self, kid: &str) -> Result<DecodingKey, &'static str> {
        let mut known = self.keys.lock().await;
        let now = self.clock.now();
        let is_outdated =
            |known: &Keys| known.keys.find(kid).is_none() || now - known.read_at > KEY_CACHE_LIFETIME;
        if known.as_ref().is_none_or(is_outdated) {
            let keys = timeout(&self.clock, FETCH_TIMEOUT, self.fetch_keys()).await.ok().flatten();
            let keys = keys.ok_or("OIDC discovery endpoint communication error")?;
            *known = Some(Keys { keys, read_at: now });
        }
        let key =
            known.as_ref().and_then(|known| known.keys.find(kid)).ok_or("the token's key is unknown")?;
        DecodingKey::from_jwk(key).map_err(|_| "the token's key cannot be used")
    }

    async fn fetch_keys(&self) -> Option<JwkSet> {
        #[derive(Deserialize)]
        struct Configuration {
            jwks_uri: String,
        }
        let configuration = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let configuration: Configuration = self.fetch(&configuration).await?;
        self.fetch(&configuration.jwks_uri).await
    }

    async fn fetch<T: DeserializeOwned>(&self, url: &str) -> Option<T> {
        let response = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let body = async { response?.bytes().await }.await;
        let body =
            body.inspect_err(|error| tracing::warn!(%error, "the issuer's keys cannot be fetched")).ok()?;
        serde_json::from_slice(&body)
            .inspect_err(|error| tracing::warn!(%error, url, "the issuer's response cannot be parsed"))
            .ok()
    }
}
