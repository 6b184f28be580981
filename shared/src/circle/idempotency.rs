//! Idempotency keys: the caller's, and the one that Circle gets for it.

use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use uuid::Uuid;

use crate::challenge::ChallengeType;
use crate::random::Random;
use crate::user_id::UserId;

/// The key that a caller sent in `Idempotency-Key`. It never reaches Circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey(Uuid);

impl FromStr for IdempotencyKey {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// The key that Circle gets, a version 4 UUID. Circle returns the same challenge for the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CircleIdempotencyKey(Uuid);

impl CircleIdempotencyKey {
    /// A new key, for a request without one of the caller's.
    pub fn random(random: &Random) -> Self {
        Self(random.uuid())
    }

    /// The key for a caller's key: a hash over the user, the type and the caller's key, so that one user's key never
    /// returns another user's challenge.
    pub fn derive(user: &UserId, challenge_type: ChallengeType, key: IdempotencyKey) -> Self {
        let mut input = b"circle-pin-reset/idempotency-key/1".to_vec();
        for part in [user.as_str(), challenge_type.as_str(), &key.0.to_string()] {
            input.extend((part.len() as u64).to_be_bytes());
            input.extend(part.as_bytes());
        }
        let hash = digest(&SHA256, &input);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_ref()[..16]);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The key as Circle gets it.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_key_never_changes() {
        let key = IdempotencyKey(Uuid::from_u128(7));
        let key = CircleIdempotencyKey::derive(&"alice".parse().unwrap(), ChallengeType::ChangePin, key);
        assert_eq!(key.as_uuid().to_string(), "b04046ff-3aac-4ae1-ac07-7eb0d7892520");
    }
}
