//! Keyed hashes of user ids, for places that must not name users: log lines, and the keys of the table of rate limits.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};

use crate::user_id::UserId;

/// The shortest key, in bytes: as long as the hash (RFC 2104, section 3).
const MIN_KEY_LENGTH: usize = 32;

/// How many bytes of the hash a log line has. The chance that two of a billion users have the same is below 1 in 10^20.
const LOG_LENGTH: usize = 16;

/// The key of the hashes. It must never change: a hash in an old log line would no longer lead to its user, and the
/// limits of all users would start again.
#[derive(Clone)]
pub struct UserHashKey(Arc<Key>);

impl fmt::Debug for UserHashKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UserHashKey")
    }
}

impl UserHashKey {
    /// A key of at least 32 bytes; `None` if it is shorter.
    pub fn new(key: &str) -> Option<Self> {
        (key.len() >= MIN_KEY_LENGTH).then(|| Self(Arc::new(Key::new(HMAC_SHA256, key.as_bytes()))))
    }

    /// HMAC-SHA-256 over a domain tag and length-prefixed parts, in hexadecimal digits.
    pub(crate) fn digest(&self, domain: &str, parts: &[&[u8]]) -> String {
        hex::encode(self.hash(domain, parts))
    }

    /// The user in a log line: 32 hexadecimal digits.
    pub fn of_log(&self, user: &UserId) -> String {
        let hash = self.hash("circle-pin-reset/user/1", &[user.as_str().as_bytes()]);
        hex::encode(&hash.as_ref()[..LOG_LENGTH])
    }

    fn hash(&self, domain: &str, parts: &[&[u8]]) -> aws_lc_rs::hmac::Tag {
        let mut context = Context::with_key(&self.0);
        context.update(domain.as_bytes());
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

/// How log lines name users.
#[derive(Debug, Clone)]
pub enum UserNames {
    /// By a keyed hash.
    Hashed(UserHashKey),
    /// By the user id itself.
    Plain,
}

impl UserNames {
    /// The user in a log line.
    pub fn of(&self, user: &UserId) -> String {
        match self {
            Self::Hashed(key) => key.of_log(user),
            Self::Plain => user.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "test key of 32 characters or more";

    #[test]
    fn hash_depends_on_key_domain_and_each_part() {
        let key = UserHashKey::new(KEY).unwrap();
        let hash = key.digest("domain", &[b"ab", b"c"]);
        assert_eq!(hash, "b51a808861bb169e7bea25675e0314ca4ee3e7ddd5ca6738102c5c746f3e0dae");
        assert_ne!(hash, key.digest("domain", &[b"a", b"bc"]));
        assert_ne!(hash, key.digest("other", &[b"ab", b"c"]));
        let other = UserHashKey::new(&KEY.replace("test", "best")).unwrap();
        assert_ne!(hash, other.digest("domain", &[b"ab", b"c"]));
    }

    #[test]
    fn log_names_a_user_by_hash_unless_told_otherwise() {
        let user = "alice".parse().unwrap();
        let hashed = UserNames::Hashed(UserHashKey::new(KEY).unwrap());
        assert_eq!(hashed.of(&user), "71c1e7766dc50decdb48bed67e02a99d");
        assert_eq!(UserNames::Plain.of(&user), "alice");
    }

    #[test]
    fn key_has_at_least_32_bytes_and_does_not_print() {
        assert!(UserHashKey::new(&"x".repeat(31)).is_none());
        let key = UserHashKey::new(&"x".repeat(32)).unwrap();
        assert_eq!(
            format!("{key:?} {:?}", UserNames::Hashed(key.clone())),
            "UserHashKey Hashed(UserHashKey)"
        );
    }
}
