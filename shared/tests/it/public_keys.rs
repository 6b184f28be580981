use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair,
};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use shared::clock::AdjustableClock;
use shared::platform::Platform;
use shared::webhook::{KeyError, PublicKeys, VerifyError, verify};
use uuid::Uuid;

use crate::support::Reply::{self, Json};
use crate::support::{FakeServer, NOON, table};

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

const TABLE: &str = "rate-limits";
const HOUR: Duration = Duration::from_secs(3600);

async fn start() -> (FakeServer, PublicKeys, AdjustableClock) {
    let (instances, server, clock) = Instances::start().await;
    let keys = instances.cold(&server, &clock).await;
    (server, keys, clock)
}

/// What all instances of the function share.
struct Instances {
    platform: Platform,
    client: Client,
}

impl Instances {
    async fn start() -> (Self, FakeServer, AdjustableClock) {
        let clock = AdjustableClock::frozen(NOON);
        let (platform, client) = table(TABLE, "limitKey", &clock).await;
        (Self { platform, client }, FakeServer::start().await, clock)
    }

    /// The keys of an instance that has just started.
    async fn cold(&self, server: &FakeServer, clock: &AdjustableClock) -> PublicKeys {
        PublicKeys::new(&self.platform, server.circle(clock).await, TABLE.into())
    }

    /// The ids that the instances share, and when the item expires.
    async fn confirmed(&self) -> Option<(Vec<String>, i64)> {
        let key = AttributeValue::S("public-keys".into());
        let get = self.client.get_item().table_name(TABLE).key("limitKey", key).consistent_read(true);
        let item = get.send().await.unwrap().item?;
        let mut ids = item["keyIds"].as_ss().unwrap().clone();
        ids.sort();
        Some((ids, item["expiresAt"].as_n().unwrap().parse().unwrap()))
    }
}

/// Uses up the fetches for ids that are not confirmed.
async fn use_up_fetches(server: &FakeServer, keys: &PublicKeys) {
    server.replies((0..20).map(|_| unknown()));
    for id in 1_000..1_020 {
        assert!(keys.get(Uuid::from_u128(id)).await.unwrap().is_none());
    }
    is_rate_limited(keys, Uuid::from_u128(1_020)).await;
}

async fn is_rate_limited(keys: &PublicKeys, id: Uuid) {
    assert!(matches!(keys.get(id).await, Err(KeyError::RateLimited)));
}

/// The key in Circle's guide (`https://developers.circle.com/api-reference/verify-webhook-signatures`).
#[tokio::test]
async fn key_in_circles_guide_is_accepted() {
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESl76SZPBJemW0mJNN4KTvYkLT8bOT4UGhFhzNk3fJqf6iuPlLQLq533FelXwczJbjg2U1PHTvQTK7qOQnDL2Tg==";
    let (server, keys, _) = start().await;
    let id = Uuid::from_u128(1);
    let key = json!({ "id": id, "algorithm": "ECDSA_SHA_256", "publicKey": KEY });
    server.replies([Json(200, json!({ "data": key }))]);
    assert!(keys.get(id).await.unwrap().is_some());
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
    for not_a_signature in [
        "",
        "AAAA",
        // A sequence of one number, of three, and of numbers that are negative, too long, or not a number.
        "MAMCAQE=",
        "MAkCAQECAQECAQE=",
        "MAYCAf8CAQE=",
        "MCYCIQF/////////////////////////////////////////AgEB",
        "MAYEAQECAQE=",
        // Two numbers, and another byte.
        "MAYCAQECAQEA",
    ] {
        let error = verify(&keys, &headers(&id, not_a_signature), BODY).await.unwrap_err();
        assert!(matches!(error, VerifyError::Header("x-circle-signature")), "{not_a_signature}: {error}");
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
    let signed = p256.headers(BODY);
    for key in [p256, p384] {
        let forged = headers(&key.id.to_string(), signed["x-circle-signature"].to_str().unwrap());
        let error = verify(&keys, &forged, BODY).await.unwrap_err();
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
    // A rejected fetch does not delay the next one.
    clock.advance(Duration::from_millis(150));
    is_rate_limited(&keys, Uuid::from_u128(5000)).await;
    clock.advance(Duration::from_millis(50));
    keys.get(Uuid::from_u128(5000)).await.unwrap();
    is_rate_limited(&keys, Uuid::from_u128(5001)).await;

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

#[tokio::test]
async fn withdrawn_key_is_trusted_for_24_hours_at_most() {
    let (server, keys, clock) = start().await;
    let key = TestKey::new(1);
    server.replies([key.reply("ECDSA_SHA_256"), key.reply("ECDSA_SHA_256"), unknown()]);
    for requests in 1..=2 {
        verify(&keys, &key.headers(BODY), BODY).await.unwrap();
        clock.advance(24 * HOUR - Duration::from_millis(1));
        verify(&keys, &key.headers(BODY), BODY).await.unwrap();
        assert_eq!(server.requests().len(), requests);
        clock.advance(Duration::from_millis(1));
    }
    let error = verify(&keys, &key.headers(BODY), BODY).await.unwrap_err();
    assert!(matches!(error, VerifyError::UnknownKey(id) if id == key.id), "{error}");
}

#[tokio::test]
async fn forged_ids_do_not_starve_an_instance_that_has_just_started() {
    let (instances, server, clock) = Instances::start().await;
    let (old, new) = (TestKey::new(1), TestKey::new(2));
    let warm = instances.cold(&server, &clock).await;
    server.replies([old.reply("ECDSA_SHA_256")]);
    let id = verify(&warm, &old.headers(BODY), BODY).await.unwrap();
    assert_eq!(instances.confirmed().await, None, "nothing is stored before it is confirmed");
    warm.confirm(id).await;

    let cold = instances.cold(&server, &clock).await;
    use_up_fetches(&server, &cold).await;
    server.replies([old.reply("ECDSA_SHA_256")]);
    verify(&cold, &old.headers(BODY), BODY).await.unwrap();
    // Circle has begun to sign with another key, and another instance was the first to notice.
    let error = verify(&cold, &new.headers(BODY), BODY).await.unwrap_err();
    assert!(matches!(error, VerifyError::Key(KeyError::RateLimited)), "{error}");
    server.replies([new.reply("ECDSA_SHA_256")]);
    let id = verify(&warm, &new.headers(BODY), BODY).await.unwrap();
    warm.confirm(id).await;
    is_rate_limited(&cold, new.id).await;
    clock.advance(Duration::from_secs(1));
    for id in 2_000..2_005 {
        server.replies([unknown()]);
        assert!(cold.get(Uuid::from_u128(id)).await.unwrap().is_none());
    }
    is_rate_limited(&cold, Uuid::from_u128(2_005)).await;
    server.replies([new.reply("ECDSA_SHA_256")]);
    verify(&cold, &new.headers(BODY), BODY).await.unwrap();
}

#[tokio::test]
async fn only_a_key_that_verified_a_signature_is_confirmed_and_only_once() {
    let (instances, server, clock) = Instances::start().await;
    let keys = instances.cold(&server, &clock).await;
    let key = TestKey::new(1);
    server.replies([key.reply("ECDSA_SHA_256"), unknown()]);
    assert!(keys.get(Uuid::from_u128(1)).await.unwrap().is_some());
    assert!(keys.get(Uuid::from_u128(2)).await.unwrap().is_none());
    for unverified in [2, 3] {
        keys.confirm(Uuid::from_u128(unverified)).await;
    }
    assert_eq!(instances.confirmed().await, None);

    let week = 7 * 24 * 3600;
    for _ in 0..2 {
        keys.confirm(key.id).await;
        let expected = (vec![key.id.to_string()], NOON.unix_timestamp() + week);
        assert_eq!(instances.confirmed().await, Some(expected), "a second write would renew the expiry");
        clock.advance(HOUR);
    }
    // The key is fetched again after a day, and confirmed again.
    clock.advance(24 * HOUR);
    server.replies([key.reply("ECDSA_SHA_256")]);
    keys.confirm(verify(&keys, &key.headers(BODY), BODY).await.unwrap()).await;
    let (ids, expires_at) = instances.confirmed().await.unwrap();
    assert_eq!((ids.len(), expires_at), (1, NOON.unix_timestamp() + 26 * 3600 + week));
}

#[tokio::test]
async fn instance_that_starts_fetches_the_keys_that_have_verified_a_webhook() {
    let (instances, server, clock) = Instances::start().await;
    let key = TestKey::new(1);
    let first = instances.cold(&server, &clock).await;
    server.replies([key.reply("ECDSA_SHA_256")]);
    first.confirm(verify(&first, &key.headers(BODY), BODY).await.unwrap()).await;
    let (ids, expires_at) = instances.confirmed().await.unwrap();

    let pong = || Json(200, json!({ "message": "pong" }));
    // The item is written again if its last write was more than a day ago.
    for (hours, expires_at) in [(24, expires_at), (1, expires_at + 25 * 3600)] {
        clock.advance(hours * HOUR);
        let before = server.requests().len();
        let next = instances.cold(&server, &clock).await;
        server.replies([pong(), key.reply("ECDSA_SHA_256")]);
        next.warm_up().await;
        let requests = server.requests();
        let paths: Vec<_> = requests[before..].iter().map(|request| request.uri.path()).collect();
        assert_eq!(paths, ["/ping", &format!("/v2/notifications/publicKey/{}", key.id)]);
        next.confirm(verify(&next, &key.headers(BODY), BODY).await.unwrap()).await;
        assert_eq!(server.requests().len(), before + 2, "the first webhook fetches nothing");
        assert_eq!(instances.confirmed().await.unwrap(), (ids.clone(), expires_at));
    }
}

#[tokio::test]
async fn instance_that_starts_fetches_no_keys_if_there_are_many() {
    let (instances, server, clock) = Instances::start().await;
    let first = instances.cold(&server, &clock).await;
    for key in (1..=5).map(TestKey::new) {
        server.replies([key.reply("ECDSA_SHA_256")]);
        first.confirm(verify(&first, &key.headers(BODY), BODY).await.unwrap()).await;
    }
    server.replies([Json(200, json!({ "message": "pong" }))]);
    instances.cold(&server, &clock).await.warm_up().await;
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn at_most_64_ids_are_shared_and_a_full_item_expires() {
    let (instances, server, clock) = Instances::start().await;
    let keys = instances.cold(&server, &clock).await;
    for number in 0..70 {
        let key = TestKey::new(number);
        server.replies([key.reply("ECDSA_SHA_256")]);
        keys.confirm(verify(&keys, &key.headers(BODY), BODY).await.unwrap()).await;
        clock.advance(Duration::from_secs(1));
    }
    let (ids, expires_at) = instances.confirmed().await.unwrap();
    let first: Vec<_> = (0..64).map(|number| Uuid::from_u128(number).to_string()).collect();
    assert_eq!((ids, expires_at), (first, NOON.unix_timestamp() + 63 + 7 * 24 * 3600));
}

#[tokio::test]
async fn without_the_table_webhooks_are_verified_within_the_fetches_for_any_id() {
    let (instances, server, clock) = Instances::start().await;
    let keys = PublicKeys::new(&instances.platform, server.circle(&clock).await, "no-such-table".into());
    let (key, other) = (TestKey::new(1), TestKey::new(2));
    server.replies([key.reply("ECDSA_SHA_256")]);
    keys.confirm(verify(&keys, &key.headers(BODY), BODY).await.unwrap()).await;
    server.replies((0..19).map(|_| unknown()));
    for id in 1_000..1_019 {
        assert!(keys.get(Uuid::from_u128(id)).await.unwrap().is_none());
    }
    is_rate_limited(&keys, other.id).await;
    verify(&keys, &key.headers(BODY), BODY).await.unwrap();
}
