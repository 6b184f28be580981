//! RS256: the signature of the issuer's tokens and of the simulator's user tokens.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::secrets;

/// An RSA key of 2048 bits that is generated on first use. Clones share the key.
#[derive(Clone, Default)]
pub(crate) struct Rs256Key(Arc<OnceLock<KeyPair>>);

impl Rs256Key {
    /// Starts to generate the key on a thread of its own, because that often takes a fifth of a second. Needs
    /// a tokio runtime.
    pub(crate) fn generate_in_background() -> Self {
        let key = Self::default();
        let background = key.clone();
        tokio::task::spawn_blocking(move || {
            background.pair();
        });
        key
    }

    /// Waits for the key without blocking the runtime. [`Self::sign`] and [`Self::public_key`] are quick
    /// afterwards.
    pub(crate) async fn ready(&self) {
        if self.0.get().is_none() {
            let key = self.clone();
            let generation = tokio::task::spawn_blocking(move || {
                key.pair();
            });
            generation.await.expect("the generation of a key does not panic");
        }
    }

    /// A JWT with exactly this header and these claims. Blocks until the key exists.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let pair = self.pair();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .expect("an RSA key signs any message");
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        secrets::issued("token", &token);
        token
    }

    /// The public half. Blocks until the key exists.
    pub(crate) fn public_key(&self) -> &PublicKey {
        self.pair().public_key()
    }

    fn pair(&self) -> &KeyPair {
        self.0.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).expect("the system provides randomness"))
    }
}
