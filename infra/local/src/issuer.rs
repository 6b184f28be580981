//! An OIDC issuer that signs users in without asking, for the demo and for tests.
//!
//! It publishes its key as a real one does, so the JWT check in front of the API works as it would with the app's own
//! issuer. The key is made when the issuer starts and is nowhere else.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock};
use tokio::net::TcpListener;

use crate::server::Server;

/// The name of the one key in the issuer's key set.
const KEY_ID: &str = "demo-issuer-key";

/// A running issuer.
pub struct Issuer {
    server: Server,
    clock: AdjustableClock,
    key: Arc<OnceLock<KeyPair>>,
    other_key: OnceLock<KeyPair>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issuer").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Serves `/.well-known/openid-configuration` and the key set that it names, `/.well-known/jwks.json`.
    ///
    /// The key is made meanwhile: that takes a fifth of a second, more often than not, and nobody needs it yet.
    pub async fn start(listener: TcpListener, clock: AdjustableClock) -> io::Result<Self> {
        let url = format!("http://{}", listener.local_addr()?);
        let key = Arc::<OnceLock<KeyPair>>::default();
        tokio::task::spawn_blocking({
            let key = key.clone();
            move || _ = key.get_or_init(new_key)
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(openid_configuration))
            .route("/.well-known/jwks.json", get(key_set))
            .with_state(Published { url, key: key.clone() });
        let server = Server::start(listener, router)?;
        Ok(Self { server, clock, key, other_key: OnceLock::new() })
    }

    /// The issuer's identifier, the `iss` of its tokens.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// A token for `subject`, good for `expires_in` from now on the stack's clock.
    pub fn token(&self, subject: &str, audience: &str, expires_in: Duration) -> String {
        self.sign(&self.claims(subject, audience, expires_in))
    }

    /// The claims of [`Self::token`], to change before they are signed.
    pub fn claims(&self, subject: &str, audience: &str, expires_in: Duration) -> Value {
        let now = self.clock.now();
        json!({
            "iss": self.url(),
            "sub": subject,
            "aud": audience,
            "iat": now.unix_timestamp(),
            "exp": (now + expires_in).unix_timestamp(),
        })
    }

    /// A token with exactly these claims, of any name and type, right or wrong. The first one waits for the key.
    pub fn sign(&self, claims: &Value) -> String {
        sign(claims, self.key.get_or_init(new_key))
    }

    /// A token that names the issuer's key and is signed with another one.
    pub fn forge(&self, claims: &Value) -> String {
        sign(claims, self.other_key.get_or_init(new_key))
    }

    /// Frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

#[derive(Clone)]
struct Published {
    url: String,
    key: Arc<OnceLock<KeyPair>>,
}

async fn openid_configuration(State(Published { url, .. }): State<Published>) -> Json<Value> {
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn key_set(State(Published { key, .. }): State<Published>) -> Json<Value> {
    let public = tokio::task::spawn_blocking(move || {
        PublicKeyComponents::<Vec<u8>>::from(key.get_or_init(new_key).public_key())
    });
    let public = public.await.expect("making a key does not panic");
    Json(json!({
        "keys": [{
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": KEY_ID,
            "n": URL_SAFE_NO_PAD.encode(public.n),
            "e": URL_SAFE_NO_PAD.encode(public.e),
        }],
    }))
}

fn sign(claims: &Value, key: &KeyPair) -> String {
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .expect("an RSA key signs anything");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn new_key() -> KeyPair {
    KeyPair::generate(KeySize::Rsa2048).expect("the operating system gives randomness")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
    use time::macros::datetime;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn issuer() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Issuer::start(listener, AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC))).await.unwrap()
    }

    async fn get(url: String) -> Value {
        let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn verify(issuer: &Issuer, token: &str) -> jsonwebtoken::errors::Result<TokenData<Value>> {
        let keys: JwkSet =
            serde_json::from_value(get(format!("{}/.well-known/jwks.json", issuer.url())).await).unwrap();
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.set_audience(&["app"]);
        validation.set_issuer(&[issuer.url()]);
        jsonwebtoken::decode(token, &DecodingKey::from_jwk(keys.find(&kid).unwrap())?, &validation)
    }

    #[tokio::test]
    async fn it_publishes_what_an_oidc_client_asks_for() {
        let issuer = issuer().await;
        let url = issuer.url();
        assert_eq!(
            get(format!("{url}/.well-known/openid-configuration")).await,
            json!({
                "issuer": url,
                "jwks_uri": format!("{url}/.well-known/jwks.json"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })
        );
        let keys = get(format!("{url}/.well-known/jwks.json")).await;
        let key = &keys["keys"][0];
        assert_eq!(key["kty"], "RSA");
        assert_eq!(key["alg"], "RS256");
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"], "demo-issuer-key");
        assert_eq!(key["e"], "AQAB");
        assert_eq!(key["n"].as_str().unwrap().len(), 342, "2048 bits in base64url");
        assert_eq!(key.as_object().unwrap().len(), 6, "nothing of the private key");
        issuer.stop().await;
    }

    #[tokio::test]
    async fn a_token_says_who_for_whom_and_how_long() {
        let issuer = issuer().await;
        let token = verify(&issuer, &issuer.token("user-12345", "app", HOUR)).await.unwrap();
        assert_eq!(
            token.claims,
            json!({
                "iss": issuer.url(),
                "sub": "user-12345",
                "aud": "app",
                "iat": 1767268800,
                "exp": 1767272400,
            })
        );
    }

    #[tokio::test]
    async fn wrong_tokens_can_be_had_too() {
        let issuer = issuer().await;
        let mut claims = issuer.claims("user-12345", "app", HOUR);
        let forged = verify(&issuer, &issuer.forge(&claims)).await.unwrap_err();
        assert_eq!(*forged.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature);
        claims["groups"] = json!(["a", 1, null, { "deep": true }]);
        claims.as_object_mut().unwrap().remove("exp");
        let signed = jsonwebtoken::dangerous::insecure_decode::<Value>(issuer.sign(&claims)).unwrap();
        assert_eq!(signed.claims, claims);
    }

    #[tokio::test]
    async fn its_debug_shows_no_key() {
        let issuer = issuer().await;
        assert_eq!(format!("{issuer:?}"), format!("Issuer {{ url: \"{}\", .. }}", issuer.url()));
    }
}
