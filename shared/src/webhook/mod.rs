//! Circle's webhooks: verify, then parse. No byte of a body is parsed before its signature has been verified.
//!
//! Facts about webhooks are from Circle's documentation of webhook notifications, version 2
//! (`https://developers.circle.com/wallets/webhook-notifications`).

mod confirmed;
mod keys;
mod notification;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::Decode;
use der::asn1::UintRef;
use http::HeaderMap;
use uuid::Uuid;

pub use self::keys::{KeyError, PublicKeys};
pub use self::notification::{Notification, UnreadableNotification};

/// The header with the id of the signing key.
const KEY_ID: &str = "x-circle-key-id";

/// The header with the signature: a DER-encoded ECDSA signature (P-256, SHA-256) in base64.
const SIGNATURE: &str = "x-circle-signature";

/// Why a webhook is not accepted as Circle's.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing or malformed.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// Circle has no key with that id.
    #[error("Circle has no key {0}")]
    UnknownKey(Uuid),
    /// The signature does not match the body.
    #[error("the signature does not match the body")]
    WrongSignature,
    /// The public key is unavailable, so it is not known yet whether the webhook is Circle's.
    #[error("the public key is unavailable")]
    Key(#[from] KeyError),
}

/// Checks that Circle signed exactly these bytes. Returns the id of the key, for [`PublicKeys::confirm`].
///
/// # Errors
/// A [`VerifyError`].
pub async fn verify(keys: &PublicKeys, headers: &HeaderMap, body: &[u8]) -> Result<Uuid, VerifyError> {
    let key_id = header(headers, KEY_ID).and_then(|id| Uuid::try_parse(id).ok());
    let key_id = key_id.ok_or(VerifyError::Header(KEY_ID))?;
    let signature = header(headers, SIGNATURE).and_then(|signature| STANDARD.decode(signature).ok());
    // A key is fetched only for what can be a signature.
    let signature = signature.filter(|signature| is_der_signature(signature));
    let signature = signature.ok_or(VerifyError::Header(SIGNATURE))?;
    let key = keys.get(key_id).await?.ok_or(VerifyError::UnknownKey(key_id))?;
    key.verify_sig(body, &signature).map_err(|_| VerifyError::WrongSignature)?;
    Ok(key_id)
}

/// Whether the bytes are a sequence of two numbers of at most 256 bits.
fn is_der_signature(bytes: &[u8]) -> bool {
    Vec::<UintRef<'_>>::from_der(bytes)
        .is_ok_and(|numbers| numbers.len() == 2 && numbers.iter().all(|number| number.as_bytes().len() <= 32))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The beginning of a public key on P-256 in DER: the name of the curve, and that the point is not compressed. Its two
/// coordinates follow, of 32 bytes each. The key in Circle's guide begins like this
/// (`https://developers.circle.com/api-reference/verify-webhook-signatures`).
const P256_KEY: [u8; 27] = *b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";

/// The one kind of key that is accepted: `ECDSA_SHA_256` on P-256, in the encoding that Circle uses.
fn parse_key(key: &crate::circle::PublicKey) -> Option<ParsedPublicKey> {
    if key.algorithm != "ECDSA_SHA_256" {
        return None;
    }
    let der = STANDARD.decode(&key.public_key).ok()?;
    // AWS-LC also reads points without DER, the parameters of P-256 instead of its name, and keys with bytes after them.
    if !der.starts_with(&P256_KEY) || der.len() != P256_KEY.len() + 64 {
        return None;
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &der).ok()
}
