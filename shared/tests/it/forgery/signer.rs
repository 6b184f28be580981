use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::EncodePublicKey;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;
use shared::circle::Circle;
use shared::clock::AdjustableClock;
use shared::config::CircleSettings;
use shared::webhook::PublicKeys;
use uuid::Uuid;

use crate::support::{NOON, platform};

/// A key as Circle publishes it.
#[derive(Debug, Clone)]
pub(crate) struct PublishedKey {
    pub(crate) algorithm: String,
    pub(crate) public_key: String,
}

impl PublishedKey {
    pub(crate) fn of(der: &[u8]) -> Self {
        Self { algorithm: "ECDSA_SHA_256".into(), public_key: BASE64.encode(der) }
    }
}

type Published = Arc<Mutex<HashMap<Uuid, PublishedKey>>>;

/// Circle with any number of keys, and Secrets Manager.
#[derive(Clone)]
pub(crate) struct KeyServer {
    url: String,
    keys: Published,
    fetches: Arc<AtomicU32>,
}

impl KeyServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, keys: Published::default(), fetches: Arc::default() };
        let router = axum::Router::new().fallback(respond).with_state(server.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        server
    }

    /// The keys of an instance of the function that has just started, and its clock.
    pub(crate) fn instance(&self) -> (PublicKeys, AdjustableClock) {
        let clock = AdjustableClock::frozen(NOON);
        let platform = platform(&self.url, clock.clone());
        let circle = Circle::new(&platform, CircleSettings::read(&platform.environment).unwrap());
        (PublicKeys::new(&platform, circle, "rate-limits".into()), clock)
    }

    pub(crate) fn publish(&self, id: Uuid, key: PublishedKey) {
        self.keys().insert(id, key);
    }

    pub(crate) fn published(&self, id: Uuid) -> Option<PublishedKey> {
        self.keys().get(&id).cloned()
    }

    pub(crate) fn withdraw(&self, id: &[u8]) {
        self.keys().remove(&Uuid::try_parse_ascii(id).unwrap());
    }

    /// How many keys have been asked for.
    pub(crate) fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::Relaxed)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Uuid, PublishedKey>> {
        self.keys.lock().unwrap()
    }
}

async fn respond(State(server): State<KeyServer>, uri: Uri, headers: HeaderMap) -> Response {
    if headers.contains_key("x-amz-target") {
        let secret = json!({ "SecretString": "TEST_API_KEY:test-id:first" });
        return (StatusCode::OK, secret.to_string()).into_response();
    }
    server.fetches.fetch_add(1, Ordering::Relaxed);
    let id = uri.path().rsplit('/').next().and_then(|id| Uuid::try_parse(id).ok());
    match id.and_then(|id| Some((id, server.published(id)?))) {
        Some((id, PublishedKey { algorithm, public_key })) => {
            let key = json!({ "id": id, "algorithm": algorithm, "publicKey": public_key });
            (StatusCode::OK, json!({ "data": key }).to_string()).into_response()
        }
        None => {
            (StatusCode::NOT_FOUND, json!({ "code": 2, "message": "not found" }).to_string()).into_response()
        }
    }
}

/// A body, and its signature.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) key_id: Uuid,
    pub(crate) key: VerifyingKey,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: Signature,
}

impl Webhook {
    pub(crate) fn published(&self) -> PublishedKey {
        PublishedKey::of(self.key.to_public_key_der().unwrap().as_bytes())
    }
}

/// Four webhooks of each of eight keys. Everything depends on the random numbers alone.
pub(crate) fn signers(random: &mut StdRng) -> Vec<Webhook> {
    let mut webhooks = Vec::new();
    for _ in 0..8 {
        let key = SigningKey::from_slice(&random.random::<[u8; 32]>()).unwrap();
        let key_id = Uuid::from_u128(random.random());
        for length in [0, 1, random.random_range(2..64), random.random_range(64..1024)] {
            let body: Vec<u8> = (0..length).map(|_| random.random()).collect();
            let signature: Signature = key.sign(&body);
            webhooks.push(Webhook { key_id, key: *key.verifying_key(), body, signature });
        }
    }
    webhooks
}
