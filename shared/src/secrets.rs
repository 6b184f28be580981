//! Secret values, in types that cannot print.
//!
//! Each is a [`SecretString`]: its `Debug` is redacted, its memory is wiped when it is dropped, and only
//! [`ExposeSecret::expose_secret`] reads it, which a reviewer can search for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serializer};
use time::OffsetDateTime;
use uuid::Uuid;

/// A Circle API key, `PREFIX:ID:SECRET`.
#[derive(Debug, Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Reads the content of the secret: the key as plain text, or JSON `{"apiKey": "..."}`. `None` if it holds no key of
    /// three parts in printable ASCII.
    pub fn from_secret(content: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Json {
            api_key: SecretString,
        }

        let content = content.trim();
        let key = if content.starts_with('{') {
            serde_json::from_str::<Json>(content).ok()?.api_key
        } else {
            content.into()
        };
        let parts: Vec<&str> = key.expose_secret().split(':').collect();
        // A quotation mark means JSON of another shape.
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        let well_formed =
            parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(fits));
        well_formed.then_some(Self(key))
    }
}

/// One of Circle's two environments. They share nothing, and an API key's prefix says which one it is for
/// (`https://developers.circle.com/w3s/keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum CircleEnvironment {
    /// Test networks: `TEST_API_KEY:...`.
    Test,
    /// Main networks, with money: `LIVE_API_KEY:...`.
    Live,
}

impl CircleEnvironment {
    /// Circle's name: `TEST` or `LIVE`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl ApiKey {
    /// The environment that the key is for; `None` if its prefix does not say.
    pub(crate) fn environment(&self) -> Option<CircleEnvironment> {
        let (name, _) = self.expose_secret().split(':').next()?.split_once('_')?;
        name.parse().ok()
    }
}

impl ExposeSecret<str> for ApiKey {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose_secret() == other.expose_secret()
    }
}

/// A Circle user token: half of a session, a JWT that is valid for 60 minutes. It is printable ASCII, so that it can be
/// sent in a header.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "SecretString")]
pub struct UserToken(SecretString);

/// The claims of a user token. They are not verified here: Circle verifies the token.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct UserTokenClaims {
    /// The Circle user id of the token's user.
    pub sub: String,
    /// When it expires, in seconds since the Unix epoch. Any JSON value is accepted.
    #[serde(default)]
    pub exp: serde_json::Value,
}

impl UserToken {
    /// `None` if the text is empty or not printable ASCII.
    pub fn parse(token: &str) -> Option<Self> {
        Self::try_from(SecretString::from(token)).ok()
    }

    /// Reads the claims; `None` if the token does not have the shape of a JWT with a `sub`.
    pub fn claims(&self) -> Option<UserTokenClaims> {
        let mut parts = self.expose_secret().split('.');
        let (_header, payload, _signature, None) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// When the token expires, by its own claim.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.claims()?.exp.as_f64()? as i64).ok()
    }
}

impl TryFrom<SecretString> for UserToken {
    type Error = &'static str;

    fn try_from(token: SecretString) -> Result<Self, Self::Error> {
        let text = token.expose_secret();
        let printable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        printable.then_some(Self(token)).ok_or("a user token is printable ASCII")
    }
}

impl ExposeSecret<str> for UserToken {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The encryption key of a session: the other half, used by Circle's client SDK on the user's device.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "SecretString")]
pub struct EncryptionKey(SecretString);

impl TryFrom<SecretString> for EncryptionKey {
    type Error = &'static str;

    fn try_from(key: SecretString) -> Result<Self, Self::Error> {
        let empty = key.expose_secret().is_empty();
        (!empty).then_some(Self(key)).ok_or("an encryption key is not empty")
    }
}

impl ExposeSecret<str> for EncryptionKey {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The longest token of a third party's text that is kept, in bytes. The shortest of Circle's secrets, the last part of an
/// API key, has 32.
const TOKEN_LIMIT: usize = 30;

/// The longest third-party text that is kept, in characters.
const TEXT_LIMIT: usize = 500;

/// A third party's text without any token that is as long as a secret, except for UUIDs, and without e-mail addresses.
/// White space becomes single spaces.
pub(crate) fn redact_foreign_text(text: &str) -> String {
    let is_id = |token: &str| {
        let token = token.trim_matches(|character: char| !character.is_ascii_alphanumeric());
        token.len() == 36 && Uuid::try_parse(token).is_ok()
    };
    // In a URL, an `@` can be encoded.
    let is_e_mail_address = |token: &str| token.contains('@') || token.contains("%40");
    let is_harmless = |token: &str| (token.len() <= TOKEN_LIMIT || is_id(token)) && !is_e_mail_address(token);
    let keep = |token| if is_harmless(token) { token } else { "[redacted]" };
    text.split_whitespace().map(keep).collect::<Vec<_>>().join(" ").chars().take(TEXT_LIMIT).collect()
}

/// Serializes a secret into a response that is meant to carry it (`#[serde(serialize_with)]`).
///
/// # Errors
/// The serializer's.
pub fn expose<S: Serializer>(secret: &impl ExposeSecret<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_key_is_read_from_text_or_json() {
        for content in
            ["TEST_API_KEY:id:value", " TEST_API_KEY:id:value\n", r#"{"apiKey":"TEST_API_KEY:id:value"}"#]
        {
            assert_eq!(ApiKey::from_secret(content).unwrap().expose_secret(), "TEST_API_KEY:id:value");
        }
        for content in ["", "one", "a:b", "a::c", "a:b:c:d", "a:b:c d", "{}", r#"{"apiKey":7}"#, "a:b:\u{e9}"]
        {
            assert!(ApiKey::from_secret(content).is_none(), "{content}");
        }
    }

    #[test]
    fn secret_of_another_shape_is_not_a_key() {
        for content in [
            r#"{"name":"one","other":"two"}"#,
            r#"{"apikey":"TEST_API_KEY:id:value"}"#,
            r#"["TEST_API_KEY:id:value"]"#,
            r#""TEST_API_KEY:id:value""#,
            r#"{"apiKey":"TEST_API_KEY:id"}"#,
        ] {
            assert!(ApiKey::from_secret(content).is_none(), "{content}");
        }
    }

    #[test]
    fn prefix_of_a_key_names_its_environment() {
        let environment = |key| ApiKey::from_secret(key).unwrap().environment();
        assert_eq!(environment("TEST_API_KEY:id:value"), Some(CircleEnvironment::Test));
        assert_eq!(environment("LIVE_API_KEY:id:value"), Some(CircleEnvironment::Live));
        for other in
            ["TEST:id:value", "TESTING_API_KEY:id:value", "API_KEY:LIVE_id:value", "test_api_key:id:value"]
        {
            assert_eq!(environment(other), None, "{other}");
        }
    }

    #[test]
    fn long_tokens_are_redacted_except_for_uuids() {
        let id = "b04046ff-3aac-4ae1-ac07-7eb0d7892520";
        let (short, long) = ("x".repeat(30), "x".repeat(31));
        assert_eq!(
            redact_foreign_text(&format!("no  challenge\n({id}), {short} key={long} '{long}'")),
            format!("no challenge ({id}), {short} [redacted] [redacted]")
        );
        let without_hyphens = id.replace('-', "");
        assert_eq!(redact_foreign_text(&without_hyphens), "[redacted]");
        assert_eq!(redact_foreign_text(""), "");
    }

    #[test]
    fn e_mail_addresses_are_redacted() {
        for address in
            ["a@b.cd", "<a@b.cd>,", "mailto:a@b.cd", "user='a@b.cd'", "\"a\"@b", "/users/a%40b.cd?x"]
        {
            let redacted = redact_foreign_text(&format!("no user {address} here"));
            assert_eq!(redacted, "no user [redacted] here", "{address}");
        }
    }

    #[test]
    fn no_secret_can_be_printed() {
        let key = ApiKey::from_secret("TEST_API_KEY:id:value").unwrap();
        let token = UserToken::parse("token-value").unwrap();
        let encryption_key: EncryptionKey = serde_json::from_str("\"key-value\"").unwrap();
        let printed = format!("{key:?} {token:?} {encryption_key:?}");
        assert!(!printed.contains("value"), "{printed}");
    }

    #[test]
    fn claims_are_read_without_verifying() {
        let token = |payload: &str| {
            UserToken::parse(&format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))).unwrap()
        };
        let claims = token(r#"{"sub":"user-1","exp":1767225600,"jti":"x"}"#).claims();
        assert_eq!(claims, Some(UserTokenClaims { sub: "user-1".into(), exp: 1_767_225_600.into() }));
        assert_eq!(token(r#"{"sub":"user-1"}"#).expires_at(), None);
        for payload in ["{}", "[]", "not json", r#"{"sub":7}"#] {
            assert_eq!(token(payload).claims(), None, "{payload}");
        }
        for text in ["a", "a.b", "a.b.c.d", "a.%%.c", "..", "e30.e30"] {
            assert_eq!(UserToken::parse(text).unwrap().claims(), None, "{text}");
        }
        assert!(UserToken::parse("a.b c.d").is_none() && UserToken::parse("").is_none());
        assert!(serde_json::from_str::<EncryptionKey>("\"\"").is_err());
    }
}
