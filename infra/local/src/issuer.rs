//! An OIDC issuer that signs in any user without a question, for local runs and for tests.
//!
//! `GET /token?sub=USER` responds with a token of that user.
//!
//! It publishes its public key as a real issuer does, so that the JWT check in front of the API works as it
//! does with the app's own issuer. The key is generated when the issuer starts, and exists nowhere else.

use std::io;
use std::time::Duration;

use aws_lc_rs::rsa::PublicKeyComponents;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock};
use tokio::net::TcpListener;

use crate::rs256::Rs256Key;
use crate::server::Server;

/// The audience of the tokens that the HTTP API accepts.
pub const AUDIENCE: &str = "circle-pin-reset";

/// How long the tokens of `GET /token` are valid.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// The id of the only key in the issuer's key set.
const KEY_ID: &str = "demo-issuer-key";

/// A running issuer.
pub struct Issuer {
    server: Server,
    signer: Signer,
    other_key: Rs256Key,
}

/// What signs the tokens.
#[derive(Clone)]
struct Signer {
    url: String,
    clock: AdjustableClock,
    key: Rs256Key,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issuer").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Serves `/.well-known/openid-configuration`, the key set that it names, `/.well-known/jwks.json`, and `/token`.
    ///
    /// The key is generated in the background, because nothing needs it yet.
    pub async fn start(listener: TcpListener, clock: AdjustableClock) -> io::Result<Self> {
        let url = format!("http://{}", listener.local_addr()?);
        let signer = Signer { url, clock, key: Rs256Key::generate_in_background() };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(openid_configuration))
            .route("/.well-known/jwks.json", get(key_set))
            .route("/token", get(token))
            .with_state(signer.clone());
        let server = Server::start(listener, router)?;
        Ok(Self { server, signer, other_key: Rs256Key::default() })
    }

    /// The issuer's identifier, which is the `iss` of its tokens.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// A token for `subject` that expires `expires_in` from now on the stack's clock.
    pub fn token(&self, subject: &str, audience: &str, expires_in: Duration) -> String {
        self.sign(&self.claims(subject, audience, expires_in))
    }

    /// The claims of [`Self::token`], for callers that change them before they are signed.
    pub fn claims(&self, subject: &str, audience: &str, expires_in: Duration) -> Value {
        self.signer.claims(subject, audience, expires_in)
    }

    /// A token with exactly these claims, whether they are valid or not. The first call waits for the key.
    pub fn sign(&self, claims: &Value) -> String {
        self.signer.key.sign(&header(), claims)
    }

    /// A token that names the issuer's key but is signed with another one.
    pub fn forge(&self, claims: &Value) -> String {
        self.other_key.sign(&header(), claims)
    }

    /// Stops the server and frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

fn header() -> Value {
    json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID })
}

impl Signer {
    fn claims(&self, subject: &str, audience: &str, expires_in: Duration) -> Value {
        let now = self.clock.now();
        json!({
            "iss": self.url,
            "sub": subject,
            "aud": audience,
            "iat": now.unix_timestamp(),
            "auth_time": now.unix_timestamp(),
            "exp": (now + expires_in).unix_timestamp(),
        })
    }
}

/// A token of the user in the query string, as plain text. Pages of any origin may read it, because nothing here
/// protects anything real.
async fn token(State(signer): State<Signer>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let subject = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "sub");
    let (status, text) = match subject {
        Some((_, subject)) if !subject.is_empty() => {
            signer.key.ready().await;
            let claims = signer.claims(&subject, AUDIENCE, TOKEN_LIFETIME);
            (StatusCode::OK, signer.key.sign(&header(), &claims))
        }
        _ => (StatusCode::BAD_REQUEST, format!("Name the user: {}/token?sub=USER\n", signer.url)),
    };
    (status, [(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], text).into_response()
}

async fn openid_configuration(State(Signer { url, .. }): State<Signer>) -> Json<Value> {
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn key_set(State(Signer { key, .. }): State<Signer>) -> Json<Value> {
    key.ready().await;
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
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
    async fn discovery_document_and_public_key_are_published() {
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
        assert_eq!(key.as_object().unwrap().len(), 6, "the key set has no part of the private key");
        issuer.stop().await;
    }

    #[tokio::test]
    async fn token_has_issuer_subject_audience_and_times() {
        let issuer = issuer().await;
        let token = verify(&issuer, &issuer.token("user-12345", "app", HOUR)).await.unwrap();
        assert_eq!(
            token.claims,
            json!({
                "iss": issuer.url(),
                "sub": "user-12345",
                "aud": "app",
                "iat": 1767268800,
                "auth_time": 1767268800,
                "exp": 1767272400,
            })
        );
    }

    #[tokio::test]
    async fn token_of_any_user_can_be_fetched() {
        let issuer = issuer().await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let fetch = async |path: &str| {
            let response = client.get(format!("{}{path}", issuer.url())).send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
            assert_eq!(response.headers()["access-control-allow-origin"], "*");
            (response.status().as_u16(), response.text().await.unwrap())
        };
        for (query, user) in [("sub=user-12345", "user-12345"), ("sub=a%20%C3%A9%26b", "a é&b")] {
            let (status, token) = fetch(&format!("/token?{query}")).await;
            assert_eq!((status, token), (200, issuer.token(user, AUDIENCE, TOKEN_LIFETIME)));
        }
        for path in ["/token", "/token?sub=", "/token?user=x"] {
            let (status, text) = fetch(path).await;
            assert_eq!((status, text), (400, format!("Name the user: {}/token?sub=USER\n", issuer.url())));
        }
    }

    #[tokio::test]
    async fn tokens_can_be_forged_or_carry_any_claims() {
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
    async fn debug_output_does_not_contain_the_key() {
        let issuer = issuer().await;
        assert_eq!(format!("{issuer:?}"), format!("Issuer {{ url: \"{}\", .. }}", issuer.url()));
    }
}
