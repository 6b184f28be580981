//! The keys that sign webhooks: ECDSA on P-256, looked up by id at `/v2/notifications/publicKey/{id}`.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::CircleSimulator;
use super::state::State;
use super::text::date;

#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) id: Uuid,
    created_at: OffsetDateTime,
    pair: Arc<EcdsaKeyPair>,
}

impl SigningKey {
    pub(super) fn generate(id: Uuid, now: OffsetDateTime) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Self { id, created_at: now, pair: Arc::new(pair.expect("the system can make a P-256 key")) }
    }

    /// The public key as Circle answers it: the DER of its `SubjectPublicKeyInfo`, in base64.
    pub(super) fn resource(&self) -> Value {
        let der = self.pair.public_key().as_der().expect("a P-256 key can be written");
        json!({
            "id": self.id,
            "algorithm": "ECDSA_SHA_256",
            "publicKey": STANDARD.encode(der.as_ref()),
            "createDate": date(self.created_at),
        })
    }

    /// The value of `X-Circle-Signature`.
    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).expect("a P-256 key can sign");
        STANDARD.encode(signature.as_ref())
    }
}

impl State {
    pub(super) fn signing_key(&self) -> &SigningKey {
        self.signing_keys.last().expect("there is a signing key from the start")
    }
}

impl CircleSimulator {
    /// Signs webhooks with a new key from now on, and gives its id. Older keys can still be looked up.
    pub fn rotate_signing_key(&self) -> Uuid {
        let key = SigningKey::generate(self.core.random.uuid(), self.now());
        let id = key.id;
        self.state().signing_keys.push(key);
        id
    }

    /// Signs any bytes as Circle would, and gives the values of `X-Circle-Key-Id` and `X-Circle-Signature`.
    pub fn sign(&self, bytes: &[u8]) -> (Uuid, String) {
        let key = self.state().signing_key().clone();
        (key.id, key.sign(bytes))
    }
}
