//! Forged webhooks at scale, against the signature check and against a second implementation of it.

/// Every way in which a webhook is changed.
mod changes;
/// Encodings of keys.
mod key_encodings;
/// A server for keys, and webhooks that are signed with them.
pub(crate) mod signer;
/// The public test vectors of project Wycheproof.
mod wycheproof;

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use data_encoding::BASE64;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::{Clock, SystemClock};
use shared::webhook::{KeyError, VerifyError, verify};
use uuid::Uuid;

use self::changes::{CHANGES, Forgery};
use self::signer::{KeyServer, PublishedKey, signers};

/// How many webhooks are tried, unless the variable `FORGERIES` says otherwise.
const FORGERIES: usize = 6_000;

/// The seed, unless the variable `FORGERY_SEED` has another.
const SEED: u64 = 20_261_126;

/// What is accepted of a kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// Nothing.
    None,
    /// Everything, because the change leaves the signed bytes, the two numbers of the signature (or s as n - s) and the key
    /// as they are.
    All,
    /// Some, because some changes of the kind have no effect.
    Some,
}

fn number(variable: &str, otherwise: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "an option of the test")]
    let value = std::env::var(variable);
    value.map_or(otherwise, |value| value.parse().expect("the variable is a number"))
}

#[tokio::test]
async fn no_forged_webhook_is_accepted_and_a_second_implementation_agrees() {
    let count = number("FORGERIES", FORGERIES as u64) as usize;
    let seed = number("FORGERY_SEED", SEED);
    let mut random = StdRng::seed_from_u64(seed);
    let server = KeyServer::start().await;
    let (keys, clock) = server.instance();
    let webhooks = signers(&mut random);
    for webhook in &webhooks {
        server.publish(webhook.key_id, webhook.published());
    }
    let started = SystemClock.monotonic();
    let mut results = vec![(0, 0); CHANGES.len()];
    for attempt in 0..count.max(2 * CHANGES.len()) {
        let index = attempt % CHANGES.len();
        let (name, rule, change) = CHANGES[index];
        let genuine = &webhooks[random.random_range(0..webhooks.len())];
        let mut forgery = Forgery::of(genuine, &webhooks);
        change(&mut forgery, &mut random);
        if let Some(key) = &forgery.key {
            let id = Uuid::from_u128(random.random());
            server.publish(id, key.clone());
            forgery.key_ids = vec![id.to_string().into()];
        }

        let headers = forgery.headers();
        let expected = is_genuine(&server, &headers, &forgery.body);
        let result = verify(&keys, &headers, &forgery.body).await;
        let replay = || format!("{name}, attempt {attempt} of seed {seed}: {headers:?} {forgery:?}");
        let is_fetched =
            !matches!(result, Err(VerifyError::Key(KeyError::Circle(_) | KeyError::RateLimited)));
        assert!(is_fetched, "the key was not fetched: {}", replay());
        assert_eq!(result.is_ok(), expected, "the two disagree ({result:?}): {}", replay());
        assert!(!expected || forgery.means_the_same(), "something else is accepted: {}", replay());
        assert!(rule != Accepted::All || expected, "rejected: {}", replay());
        assert!(rule != Accepted::None || !expected, "accepted: {}", replay());
        results[index].0 += 1;
        results[index].1 += usize::from(expected);
        if forgery.key.is_some() {
            server.withdraw(&forgery.key_ids[0]);
        }
        // Another fetch of a key is allowed, and known keys are fetched again after a day.
        clock.advance(Duration::from_millis(200));
    }
    println!("{:>9} {:>9}  change", "tried", "accepted");
    for ((name, rule, _), (tried, accepted)) in CHANGES.iter().zip(&results) {
        println!("{tried:>9} {accepted:>9}  {name}");
        assert!(*rule == Accepted::All || accepted < tried, "every change was without effect: {name}");
    }
    let (tried, accepted) = results.iter().fold((0, 0), |sum, result| (sum.0 + result.0, sum.1 + result.1));
    let seconds = (SystemClock.monotonic() - started).as_secs_f64();
    println!("{tried:>9} {accepted:>9}  in all, in {seconds:.1} s, seed {seed}");
}

/// The headers of a webhook. A value that HTTP cannot carry is left out.
fn headers(key_ids: &[Vec<u8>], signatures: &[Vec<u8>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in [("x-circle-key-id", key_ids), ("x-circle-signature", signatures)] {
        for value in values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The signature check, written anew on other crates: the first header of each name counts.
fn is_genuine(server: &KeyServer, headers: &HeaderMap, body: &[u8]) -> bool {
    let first =
        |name| headers.get_all(HeaderName::from_static(name)).iter().next().map(HeaderValue::as_bytes);
    let genuine = || {
        let id = read_uuid(first("x-circle-key-id")?)?;
        let signature = BASE64.decode(first("x-circle-signature")?).ok()?;
        let signature = Signature::from_der(&signature).ok()?;
        let key = read_key(&server.published(id)?)?;
        key.verify(body, &signature).ok()
    };
    genuine().is_some()
}

/// A key on P-256 in the one encoding that is accepted: the one that the crate itself writes.
fn read_key(published: &PublishedKey) -> Option<VerifyingKey> {
    let der = BASE64.decode(published.public_key.as_bytes()).ok()?;
    let key = p256::PublicKey::from_public_key_der(&der).ok()?;
    let is_canonical = key.to_public_key_der().is_ok_and(|canonical| canonical.as_bytes() == der);
    (is_canonical && published.algorithm == "ECDSA_SHA_256").then(|| key.into())
}

/// A UUID with hyphens or without, in braces or as a URN, in any case.
fn read_uuid(text: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(text).ok()?;
    let hyphenated = |text: &str| {
        let parts: Vec<_> = text.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        (lengths == [8, 4, 4, 4, 12]).then(|| parts.concat())
    };
    let inner = text.strip_prefix("urn:uuid:").map(hyphenated);
    let inner = inner.or(text.strip_prefix('{').map(|text| text.strip_suffix('}').and_then(hyphenated)));
    let digits =
        inner.unwrap_or_else(|| if text.len() == 32 { Some(text.to_owned()) } else { hyphenated(text) })?;
    let is_hex = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| Uuid::from_u128(u128::from_str_radix(&digits, 16).expect("32 hexadecimal digits")))
}
