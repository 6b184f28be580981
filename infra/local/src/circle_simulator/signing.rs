//! The keys that sign webhooks: ECDSA on P-256. Receivers get the public half at
//! `/v2/notifications/publicKey/{id}`.

use std::collections::VecDeque;
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
use super::dates::date;
use crate::secrets;

#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) id: Uuid,
    created_at: OffsetDateTime,
    pair: Arc<EcdsaKeyPair>,
}

impl SigningKey {
    fn generate(id: Uuid, now: OffsetDateTime) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Self { id, created_at: now, pair: Arc::new(pair.expect("the system provides randomness")) }
    }

    /// The public key in Circle's form: the DER of its `SubjectPublicKeyInfo`, in base64.
    pub(super) fn resource(&self) -> Value {
        let der = self.pair.public_key().as_der().expect("a P-256 key can be encoded");
        json!({
            "id": self.id,
            "algorithm": "ECDSA_SHA_256",
            "publicKey": STANDARD.encode(der.as_ref()),
            "createDate": date(self.created_at),
        })
    }

    /// The value of `X-Circle-Signature`.
    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).expect("a P-256 key signs any message");
        let signature = STANDARD.encode(signature.as_ref());
        secrets::issued("signature", &signature);
        signature
    }
}

/// How many keys are kept. The oldest ones are forgotten.
const MAX_KEYS: usize = 10_000;

/// The latest keys. The last one signs; the public half of each can be fetched.
pub(super) struct SigningKeys(VecDeque<SigningKey>);

impl SigningKeys {
    /// One new key with this id.
    pub(super) fn new(id: Uuid, now: OffsetDateTime) -> Self {
        Self([SigningKey::generate(id, now)].into())
    }

    pub(super) fn current(&self) -> &SigningKey {
        self.0.back().expect("there is a key from the start")
    }

    pub(super) fn find(&self, id: Uuid) -> Option<&SigningKey> {
        // A key that is asked for is usually a recent one.
        self.0.iter().rev().find(|key| key.id == id)
    }

    /// Adds the key that signs from now on.
    pub(super) fn add(&mut self, id: Uuid, now: OffsetDateTime) {
        if self.0.len() == MAX_KEYS {
            self.0.pop_front();
        }
        self.0.push_back(SigningKey::generate(id, now));
    }
}

impl CircleSimulator {
    /// Signs webhooks with a new key from now on, and returns its id. The public halves of older keys stay
    /// available.
    pub fn rotate_signing_key(&self) -> Uuid {
        let id = self.core.random.uuid();
        self.state().signing_keys.add(id, self.now());
        id
    }

    /// Signs any bytes as Circle would. Returns the values of `X-Circle-Key-Id` and `X-Circle-Signature`.
    pub fn sign(&self, bytes: &[u8]) -> (Uuid, String) {
        let key = self.state().signing_keys.current().clone();
        (key.id, key.sign(bytes))
    }
}
