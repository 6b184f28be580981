use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair,
};
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use shared::clock::AdjustableClock;
use shared::webhook::{KeyError, PublicKeys, VerifyError, verify};
use uuid::Uuid;

use crate::support::Reply::{self, Json};
use crate::support::{FakeServer, NOON};

const BODY: &[u8] = br#"{ "any": "bytes" }"#;

/// A key made for one test.
struct TestKey {
    id: Uuid,
    pair: EcdsaKeyPair,
}

impl TestKey {
    fn new(id: u128) -> Self {
        Self::with_algorithm(id, &ECDSA_P256_SHA256_ASN1_SIGNING)
    }

    fn with_algorithm(id: u128, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self { id: Uuid::from_u128(id), pair: EcdsaKeyPair::generate(algorithm).unwrap() }
    }

    fn reply(&self, algorithm: &str) -> Reply {
        let der = self.pair.public_key().as_der().unwrap();
        let key =
            json!({ "id": self.id, "algorithm": algorithm, "publicKey": STANDARD.encode(der.as_ref()) });
        Json(200, json!({ "data": key }))
    }

    fn headers(&self, body: &[u8]) -> HeaderMap {
        let signature = self.pair.sign(&SystemRandom::new(), body).unwrap();
        headers(&self.id.to_string(), &STANDARD.encode(signature))
    }
}

fn headers(key_id: &str, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-circle-key-id", key_id.parse().unwrap());
    headers.insert("x-circle-signature", signature.parse().unwrap());
    headers
}

fn unknown() -> Reply {
    Json(404, json!({ "code": 2, "message": "not found" }))
}

async fn start() -> (FakeServer, PublicKeys, AdjustableClock) {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::frozen(NOON);
    let circle = server.circle(&clock).await;
    (server, PublicKeys::new(Arc::new(circle), Arc::new(clock.clone())), clock)
}

#[tokio::test]
async fn signature_of_circles_is_valid_and_its_key_is_fetched_once() {
    let (server, keys, _) = start().await;
    let key = TestKey::new(1);
    server.replies([key.reply("ECDSA_SHA_256")]);
    for _ in 0..3 {
        verify(&keys, &key.headers(BODY), BODY).await.unwrap();
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn body_that_circle_did_not_sign_is_rejected() {
    let (server, keys, _) = start().await;
    let (key, other) = (TestKey::new(1), TestKey::new(2));
    server.replies([key.reply("ECDSA_SHA_256")]);
    verify(&keys, &key.headers(BODY), BODY).await.unwrap();

    let altered = [BODY, b" "].concat();
    let error = verify(&keys, &key.headers(BODY), &altered).await.unwrap_err();
    assert!(matches!(error, VerifyError::WrongSignature), "{error}");
    let forged = headers(&key.id.to_string(), other.headers(BODY)["x-circle-signature"].to_str().unwrap());
    let error = verify(&keys, &forged, BODY).await.unwrap_err();
    assert!(matches!(error, VerifyError::WrongSignature), "{error}");
    server.replies([unknown()]);
    let error = verify(&keys, &other.headers(BODY), BODY).await.unwrap_err();
    assert!(matches!(error, VerifyError::UnknownKey(id) if id == other.id), "{error}");
}

#[tokio::test]
async fn malformed_headers_are_rejected_before_any_key_is_fetched() {
    let (server, keys, _) = start().await;
    let id = Uuid::from_u128(1).to_string();
    for (headers, name) in [
        (HeaderMap::new(), "x-circle-key-id"),
        (headers("no-uuid", "c2ln"), "x-circle-key-id"),
        (headers("../../v1/w3s/user", "c2ln"), "x-circle-key-id"),
        (headers(&id, "not base64!"), "x-circle-signature"),
    ] {
        let error = verify(&keys, &headers, BODY).await.unwrap_err();
        assert!(matches!(error, VerifyError::Header(header) if header == name), "{error}");
    }
    let mut no_signature = headers(&id, "c2ln");
    no_signature.remove("x-circle-signature");
    assert!(matches!(
        verify(&keys, &no_signature, BODY).await,
        Err(VerifyError::Header("x-circle-signature"))
    ));
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn only_ecdsa_p256_is_accepted() {
    let (server, keys, _) = start().await;
    let p256 = TestKey::new(1);
    let p384 = TestKey::with_algorithm(2, &ECDSA_P384_SHA384_ASN1_SIGNING);
    server.replies([p256.reply("RSA_SHA_256"), p384.reply("ECDSA_SHA_256")]);
    for key in [p256, p384] {
        let error = verify(&keys, &key.headers(BODY), BODY).await.unwrap_err();
        assert!(matches!(error, VerifyError::Key(KeyError::Unsupported)), "{error}");
    }
}

#[tokio::test]
async fn unknown_id_is_remembered_for_60_seconds() {
    let (server, keys, clock) = start().await;
    let id = Uuid::from_u128(1);
    server.replies([unknown(), unknown()]);
    assert!(keys.get(id).await.unwrap().is_none());
    clock.advance(Duration::from_secs(59));
    assert!(keys.get(id).await.unwrap().is_none());
    assert_eq!(server.requests().len(), 1);
    clock.advance(Duration::from_secs(1));
    assert!(keys.get(id).await.unwrap().is_none());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn flood_of_unknown_ids_neither_evicts_a_key_nor_floods_circle() {
    let (server, keys, clock) = start().await;
    let key = TestKey::new(1);
    server.replies([key.reply("ECDSA_SHA_256")]);
    verify(&keys, &key.headers(BODY), BODY).await.unwrap();

    server.replies((0..1000).map(|_| unknown()));
    let mut limited = 0;
    for id in 0..300 {
        if matches!(keys.get(Uuid::from_u128(1000 + id)).await, Err(KeyError::RateLimited)) {
            limited += 1;
        }
    }
    assert_eq!((limited, server.requests().len()), (281, 20));
    clock.advance(Duration::from_millis(200));
    keys.get(Uuid::from_u128(5000)).await.unwrap();
    assert!(matches!(keys.get(Uuid::from_u128(5001)).await, Err(KeyError::RateLimited)));

    // Five minutes of unknown ids: the known key is still there.
    for id in 0..300 {
        clock.advance(Duration::from_secs(1));
        assert!(keys.get(Uuid::from_u128(9000 + id)).await.unwrap().is_none());
    }
    let before = server.requests().len();
    verify(&keys, &key.headers(BODY), BODY).await.unwrap();
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn a_key_for_each_webhook_still_lets_five_a_second_through() {
    let (server, keys, clock) = start().await;
    for number in 0..100 {
        let key = TestKey::new(number);
        server.replies([key.reply("ECDSA_SHA_256")]);
        verify(&keys, &key.headers(BODY), BODY).await.unwrap();
        clock.advance(Duration::from_millis(200));
    }
    assert_eq!(server.requests().len(), 100);
}

#[tokio::test]
async fn concurrent_misses_of_a_key_share_one_fetch() {
    let (server, keys, _) = start().await;
    let key = TestKey::new(1);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (keys, id) = (keys.clone(), key.id);
            tokio::spawn(async move { keys.get(id).await })
        })
        .collect();
    // Once every task has been polled, the fetch gets its one reply.
    server.replies([key.reply("ECDSA_SHA_256")]);
    for task in waiting {
        assert!(task.await.unwrap().unwrap().is_some());
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn abandoned_fetch_is_started_again() {
    let (server, keys, _) = start().await;
    let key = TestKey::new(1);
    let leaving = tokio::spawn({
        let (keys, id) = (keys.clone(), key.id);
        async move { keys.get(id).await }
    });
    server.requests_reach(1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    server.replies([key.reply("ECDSA_SHA_256")]);
    assert!(keys.get(key.id).await.unwrap().is_some());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn fetch_takes_at_most_two_seconds_and_can_be_retried() {
    let (server, keys, clock) = start().await;
    let key = TestKey::new(1);
    let asking = tokio::spawn({
        let (keys, id) = (keys.clone(), key.id);
        async move { keys.get(id).await }
    });
    server.requests_reach(1).await;
    clock.advance(Duration::from_millis(1999));
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    clock.advance(Duration::from_millis(1));
    let error = asking.await.unwrap().err().unwrap();
    assert!(matches!(error, KeyError::Circle(_)), "{error}");
    server.replies([key.reply("ECDSA_SHA_256")]);
    assert!(keys.get(key.id).await.unwrap().is_some());
}
