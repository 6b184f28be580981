//! What the upstreams respond. Every conditional write succeeds.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::http::request::Parts;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::upstreams::Upstream;

pub(crate) const USER: &str = "demo-user-0001";
pub(crate) const CHALLENGE: &str = "5e4ae8f1-8d2b-4a3c-9f60-2b7d1c9e4a55";
pub(crate) const KEY_ID: &str = "6f1d0c5e-3b7a-4c2e-8a94-d0e5b1f7c362";
const API_KEY: &str = "TEST_API_KEY:0123456789abcdef0123456789abcdef:fedcba9876543210fedcba9876543210";

/// DynamoDB's response to an operation with this body: status and JSON.
pub(crate) type Tables = Box<dyn Fn(&str, &[u8]) -> (u16, String) + Send + Sync>;

/// The responses, and the key that signs webhooks.
pub(crate) struct Canned {
    public_key: String,
    record: Value,
    user_token: String,
    /// Responds for DynamoDB instead, if it is set.
    pub(crate) tables: Option<Tables>,
}

/// Signs webhooks as Circle does.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key can be generated"))
    }

    pub(crate) fn sign(&self, body: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), body).expect("a P-256 key signs anything");
        signature.as_ref().to_vec()
    }

    pub(crate) fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The public key in DER: a fixed header, and the point.
    fn subject_public_key_info(&self) -> Vec<u8> {
        const HEADER: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        [&HEADER, self.public_key()].concat()
    }
}

/// A user token of a usual length.
pub(crate) fn user_token(user: &str) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let claims = json!({
        "developerEntityEnvironment": "TEST",
        "entityId": "4c1e4e5e-8f3d-4b8e-9d6b-0e9c1a7f5b21",
        "exp": now + 3600,
        "iat": now,
        "internalUserId": "a0b1c2d3-e4f5-5678-9abc-def012345678",
        "iss": "https://programmablewallet.circle.com",
        "jti": "0f1e2d3c-4b5a-4678-8796-a5b4c3d2e1f0",
        "sub": user,
    });
    let part = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    format!(
        "{}.{}.{}",
        part(br#"{"alg":"RS256","typ":"JWT"}"#),
        part(claims.to_string().as_bytes()),
        part(&[7; 256])
    )
}

impl Canned {
    pub(crate) fn new(signer: &Signer) -> Self {
        let now = OffsetDateTime::now_utc();
        let second = now.unix_timestamp();
        let text = json!({ "S": now.truncate_to_millisecond().format(&Rfc3339).expect("a date of now") });
        let number = |number: i64| json!({ "N": number.to_string() });
        let record = json!({
            "challengeId": { "S": CHALLENGE },
            "checkedAt": text,
            "createdAt": text,
            "expiresAt": number(second + 90 * 86400),
            "nextCheckAt": number(second + 600),
            "openShard": number(5),
            "rank": number(0),
            "requestedAt": text,
            "requestedAtMs": number(second * 1000),
            "retentionSeconds": number(90 * 86400),
            "status": { "S": "PENDING" },
            "type": { "S": "CHANGE_PIN" },
            "updatedAt": text,
            "userId": { "S": USER },
        });
        Self {
            public_key: STANDARD.encode(signer.subject_public_key_info()),
            record,
            user_token: user_token(USER),
            tables: None,
        }
    }

    /// Status, content type and body.
    pub(crate) fn respond(
        &self,
        upstream: Upstream,
        head: &Parts,
        body: &[u8],
    ) -> (u16, &'static str, String) {
        match upstream {
            Upstream::Circle => {
                let (status, data) = self.circle(head);
                (status, "application/json", json!({ "data": data }).to_string())
            }
            Upstream::Dynamodb => {
                let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
                let operation = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default();
                let (status, text) = match &self.tables {
                    Some(tables) => tables(operation, body),
                    None => (200, self.dynamodb(operation, body).to_string()),
                };
                (status, "application/x-amz-json-1.0", text)
            }
            Upstream::SecretsManager => {
                let secret = json!({
                    "ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:circle-api-key-AbCdEf",
                    "CreatedDate": 1_767_225_600.123,
                    "Name": "circle-api-key",
                    "SecretString": API_KEY,
                    "VersionId": "8c1a0e57-4b1f-4f0e-9f6c-2b7d1c9e4a55",
                    "VersionStages": ["AWSCURRENT"],
                });
                (200, "application/x-amz-json-1.1", secret.to_string())
            }
        }
    }

    fn circle(&self, head: &Parts) -> (u16, Value) {
        let user = json!({
            "authMode": "PIN",
            "createDate": "2026-01-01T12:00:00Z",
            "id": USER,
            "pinDetails": { "failedAttempts": 0 },
            "pinStatus": "ENABLED",
            "securityQuestionDetails": { "failedAttempts": 0 },
            "securityQuestionStatus": "ENABLED",
            "status": "ENABLED",
        });
        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        match (head.method.as_str(), path.as_slice()) {
            ("POST", ["v1", "w3s", "users", "token"]) => {
                let encryption_key = STANDARD.encode([7; 32]);
                (200, json!({ "userToken": self.user_token, "encryptionKey": encryption_key }))
            }
            ("GET", ["v1", "w3s", "user"]) => (200, user),
            ("GET", ["v1", "w3s", "users", _]) => (200, json!({ "user": user })),
            ("PUT", ["v1", "w3s", "user", "pin"]) => {
                (201, json!({ "challengeId": Uuid::new_v4().to_string() }))
            }
            ("GET", ["v1", "w3s", "user", "challenges", id]) => {
                let challenge =
                    json!({ "id": id, "type": "CHANGE_PIN", "status": "PENDING", "correlationIds": [] });
                (200, json!({ "challenge": challenge }))
            }
            ("GET", ["v2", "notifications", "publicKey", id]) => (
                200,
                json!({
                    "algorithm": "ECDSA_SHA_256",
                    "createDate": "2026-01-01T12:00:00Z",
                    "id": id,
                    "publicKey": self.public_key,
                }),
            ),
            ("GET", ["ping"]) => (200, json!({ "message": "pong" })),
            _ => (404, json!(null)),
        }
    }

    fn dynamodb(&self, operation: &str, body: &[u8]) -> Value {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_record = body["TableName"] == "challenges";
        match operation {
            "GetItem" if is_record => json!({ "Item": self.record }),
            // Other instances have verified webhooks before.
            "GetItem" if body["Key"]["limitKey"]["S"] == "public-keys" => json!({ "Item": {
                "limitKey": { "S": "public-keys" },
                "keyIds": { "SS": [KEY_ID] },
                "expiresAt": { "N": "1767283200" },
            }}),
            "UpdateItem" if body["ReturnValues"] != "ALL_NEW" => json!({}),
            "UpdateItem" if is_record => json!({ "Attributes": self.record }),
            "UpdateItem" => json!({ "Attributes": {
                "limitKey": body["Key"]["limitKey"],
                "callsTat": { "N": "1767268805000" },
                "expiresAt": { "N": "1767283200" },
            }}),
            _ => json!({}),
        }
    }
}
