use p256::pkcs8::EncodePublicKey;
use rand::RngExt;
use rand::rngs::StdRng;

use super::changes::{ORDER, hex};
use super::signer::Webhook;

/// The prime of P-256's field.
pub(crate) const PRIME: [u8; 32] = hex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");

const A: [u8; 32] = hex("ffffffff00000001000000000000000000000000fffffffffffffffffffffffc");
const B: [u8; 32] = hex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b");
const BASE_X: [u8; 32] = hex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296");
const BASE_Y: [u8; 32] = hex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5");

/// The content of object identifiers.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const EC_DH: &[u8] = &[0x2b, 0x81, 4, 1, 12];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const PRIME_FIELD: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 1, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P192: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1];
const P224: &[u8] = &[0x2b, 0x81, 4, 0, 33];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
const K256: &[u8] = &[0x2b, 0x81, 4, 0, 10];

/// A tag, a minimal length and a content in DER.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [header, content.to_vec()].concat()
}

/// The key as Circle publishes it.
pub(crate) fn spki(webhook: &Webhook) -> Vec<u8> {
    webhook.key.to_public_key_der().unwrap().as_bytes().to_vec()
}

fn key_info(algorithm: &[u8], parameters: &[u8], point: &[u8]) -> Vec<u8> {
    let algorithm = tlv(0x30, &[tlv(6, algorithm), parameters.to_vec()].concat());
    tlv(0x30, &[algorithm, tlv(3, &[&[0], point].concat())].concat())
}

fn point(webhook: &Webhook) -> Vec<u8> {
    webhook.key.to_sec1_point(false).as_bytes().to_vec()
}

/// The first byte and the coordinates: compressed, hybrid, compact, at infinity, exchanged, or with an odd first byte.
fn form(webhook: &Webhook, random: &mut StdRng) -> Vec<u8> {
    let point = point(webhook);
    let (x, y) = (&point[1..33], &point[33..]);
    let is_odd = y[31] & 1;
    match random.random_range(0..8) {
        0 => [&[2 + is_odd], x].concat(),
        1 => [&[3 - is_odd], x].concat(),
        2 => [&[6 + is_odd], x, y].concat(),
        3 => [&[7 - is_odd], x, y].concat(),
        4 => [&[5], x].concat(),
        5 => vec![0],
        6 => [&[4], y, x].concat(),
        _ => [&[random.random_range(8..=255)], x, y].concat(),
    }
}

pub(crate) fn other_point(webhook: &Webhook, random: &mut StdRng) -> Vec<u8> {
    key_info(EC_PUBLIC_KEY, &tlv(6, P256), &form(webhook, random))
}

pub(crate) fn point_alone(webhook: &Webhook, random: &mut StdRng) -> Vec<u8> {
    if random.random() { point(webhook) } else { form(webhook, random) }
}

pub(crate) fn other_curve(webhook: &Webhook, random: &mut StdRng) -> Vec<u8> {
    let point = point(webhook);
    let curves = [P192, P224, P384, P521, K256];
    let curve = tlv(6, curves[random.random_range(0..curves.len())]);
    let (p256, null) = (tlv(6, P256), tlv(5, &[]));
    match random.random_range(0..6) {
        0 => key_info(EC_PUBLIC_KEY, &curve, &point),
        1 => key_info(EC_PUBLIC_KEY, &null, &point),
        2 => key_info(EC_PUBLIC_KEY, &[], &point),
        3 => key_info(EC_DH, &p256, &point),
        4 => key_info(RSA, &null, &point),
        _ => key_info(P256, &p256, &point),
    }
}

/// The curve's parameters instead of its name: the right ones, or with a base point that a forger could choose.
pub(crate) fn explicit(webhook: &Webhook, random: &mut StdRng) -> Vec<u8> {
    let integer = |number: &[u8]| tlv(2, &[&[0], number].concat());
    let point = point(webhook);
    let standard = [&[4], &BASE_X[..], &BASE_Y].concat();
    let base = if random.random() { standard } else { point.clone() };
    let field = tlv(0x30, &[tlv(6, PRIME_FIELD), integer(&PRIME)].concat());
    let curve = tlv(0x30, &[tlv(4, &A), tlv(4, &B)].concat());
    let cofactor = if random.random() { tlv(2, &[1]) } else { Vec::new() };
    let parts = [tlv(2, &[1]), field, curve, tlv(4, &base), integer(&ORDER), cofactor];
    key_info(EC_PUBLIC_KEY, &tlv(0x30, &parts.concat()), &point)
}

/// One of the lengths takes more bytes than it needs.
pub(crate) fn long_length(webhook: &Webhook, random: &mut StdRng) -> Vec<u8> {
    let mut der = spki(webhook);
    // The lengths of the key, the algorithm, its two identifiers, and the point.
    let at = [1, 3, 5, 14, 24][random.random_range(0..5)];
    der.splice(at..at, [0x81]);
    if at > 1 {
        der[1] += 1;
    }
    if (4..20).contains(&at) {
        der[3] += 1;
    }
    der
}
