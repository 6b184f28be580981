//! The signature check, against a second one on other crates.
//!
//! An input has a line for the key's id, one for the signature, one for the key that Circle publishes and its algorithm, and
//! then the body.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::Corpus;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use serde_json::json;
use shared::circle::Circle;
use shared::config::CircleSettings;
use shared::webhook::{self, PublicKeys};
use uuid::Uuid;

use crate::script::{Replies, Reply, Service};
use crate::world::World;

/// A test key: the scalar 1.
const PRIVATE: [u8; 32] = {
    let mut key = [0; 32];
    key[31] = 1;
    key
};

static KEY: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let secret = p256::SecretKey::from_slice(&PRIVATE).expect("a private key");
    let point = secret.public_key().to_sec1_bytes();
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, &PRIVATE, &point)
        .expect("a key")
});

/// Circle's public key, as it publishes it.
pub(crate) static PUBLIC_KEY: LazyLock<String> = LazyLock::new(|| {
    let key = p256::PublicKey::from_sec1_bytes(KEY.public_key().as_ref()).expect("a point");
    STANDARD.encode(key.to_public_key_der().expect("a key has a form in DER"))
});

/// Circle's signature of a body, as it sends it.
pub(crate) fn sign(body: &[u8]) -> String {
    STANDARD.encode(KEY.sign(&SystemRandom::new(), body).expect("a signature"))
}

pub(crate) fn verify(world: &World, input: &[u8]) -> Corpus {
    let mut parts = input.splitn(4, |&byte| byte == b'\n');
    let (Some(id), Some(signature), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Corpus::Reject;
    };
    let body = parts.next().unwrap_or_default();
    let Ok(key) = std::str::from_utf8(key) else { return Corpus::Reject };
    let (key, algorithm) = key.split_once(' ').unwrap_or((key, "ECDSA_SHA_256"));
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-circle-key-id", id), ("x-circle-signature", signature)] {
        let Ok(value) = HeaderValue::from_bytes(value) else { return Corpus::Reject };
        headers.insert(name, value);
    }

    let published = json!({ "data": { "publicKey": key, "algorithm": algorithm } });
    let body_of_key = published.to_string().into_bytes();
    let reply = Reply::Respond { status: 200, retry_after: None, body: body_of_key };
    let outcome = world.run(Replies::from([(Service::Circle, [reply].into())]), async |platform| {
        let settings = CircleSettings::read(&platform.environment).expect("complete settings");
        let keys = PublicKeys::new(&platform, Circle::new(&platform, settings), "rate-limits".to_owned());
        webhook::verify(&keys, &headers, body).await
    });
    let is_genuine = is_genuine(id, signature, key, algorithm, body);
    assert_eq!(outcome.output.is_ok(), is_genuine, "the two disagree: {:?}", outcome.output);
    if let Ok(id_of_key) = outcome.output {
        let path = format!("/v2/notifications/publicKey/{id_of_key}");
        assert!(outcome.calls.iter().any(|call| call.path == path), "another key than the header's");
    }
    Corpus::Keep
}

/// The signature check, written anew.
pub(crate) fn is_genuine(id: &[u8], signature: &[u8], key: &str, algorithm: &str, body: &[u8]) -> bool {
    let genuine = || {
        let id = std::str::from_utf8(id).ok()?;
        Uuid::try_parse(id).ok()?;
        let signature = data_encoding::BASE64.decode(signature).ok()?;
        let signature = Signature::from_der(&signature).ok()?;
        let der = data_encoding::BASE64.decode(key.as_bytes()).ok()?;
        let key = p256::PublicKey::from_public_key_der(&der).ok()?;
        let is_canonical = key.to_public_key_der().is_ok_and(|canonical| canonical.as_bytes() == der);
        let key = (is_canonical && algorithm == "ECDSA_SHA_256").then(|| VerifyingKey::from(key))?;
        key.verify(body, &signature).ok()
    };
    genuine().is_some()
}
