use axum::http::HeaderMap;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, HEXLOWER};
use p256::ecdsa::Signature;
use rand::RngExt;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::Accepted::{self, All, None, Some};
use super::headers;
use super::key_encodings::{self as key, tlv};
use super::signer::{PublishedKey, Webhook};

/// The order of P-256.
pub(crate) const ORDER: [u8; 32] = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");

/// A webhook that is about to be changed.
#[derive(Debug)]
pub(crate) struct Forgery<'a> {
    pub(crate) genuine: &'a Webhook,
    others: &'a [Webhook],
    pub(crate) body: Vec<u8>,
    /// The values of the header `X-Circle-Key-Id`.
    pub(crate) key_ids: Vec<Vec<u8>>,
    /// The values of the header `X-Circle-Signature`.
    pub(crate) signatures: Vec<Vec<u8>>,
    /// If it is there, this key is published under a new id, and the webhook names it.
    pub(crate) key: Option<PublishedKey>,
}

impl<'a> Forgery<'a> {
    pub(crate) fn of(genuine: &'a Webhook, others: &'a [Webhook]) -> Self {
        Self {
            genuine,
            others,
            body: genuine.body.clone(),
            key_ids: vec![genuine.key_id.to_string().into()],
            signatures: vec![BASE64.encode(&genuine.der()).into()],
            key: Option::None,
        }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        headers(&self.key_ids, &self.signatures)
    }

    /// Whether the body, the key and the numbers of the signature are those of the genuine webhook. Whoever knows a signature
    /// can replace s by n - s; both sign the same bytes.
    pub(crate) fn means_the_same(&self) -> bool {
        let signature = BASE64.decode(&self.signatures[0]).ok();
        let signature = signature.and_then(|der| Signature::from_der(&der).ok());
        let genuine = self.genuine.signature;
        let same_key = match &self.key {
            Option::Some(published) => super::read_key(published) == Option::Some(self.genuine.key),
            Option::None => super::read_uuid(&self.key_ids[0]) == Option::Some(self.genuine.key_id),
        };
        self.body == self.genuine.body
            && signature.is_some_and(|it| it == genuine || it == with_other_s(&genuine))
            && same_key
    }

    fn sign_with(&mut self, der: &[u8]) {
        self.signatures = vec![BASE64.encode(der).into()];
    }

    fn sign_with_numbers(&mut self, r: &[u8], s: &[u8]) {
        self.sign_with(&sequence(&[tlv(2, r), tlv(2, s)]));
    }

    fn name(&mut self, key_id: impl Into<Vec<u8>>) {
        self.key_ids = vec![key_id.into()];
    }

    fn publish(&mut self, der: &[u8]) {
        self.key = Option::Some(PublishedKey::of(der));
    }

    /// A webhook with another body.
    fn other(&self, random: &mut StdRng) -> &'a Webhook {
        loop {
            let other = pick(self.others, random);
            if other.body != self.genuine.body {
                return other;
            }
        }
    }

    /// A webhook of another key.
    fn stranger(&self, random: &mut StdRng) -> &'a Webhook {
        loop {
            let other = pick(self.others, random);
            if other.key_id != self.genuine.key_id {
                return other;
            }
        }
    }
}

impl Webhook {
    fn der(&self) -> Vec<u8> {
        self.signature.to_der().as_bytes().to_vec()
    }

    /// The two numbers, of 32 bytes each.
    fn numbers(&self) -> ([u8; 32], [u8; 32]) {
        let (r, s) = self.signature.split_bytes();
        (r.into(), s.into())
    }
}

type Change = fn(&mut Forgery<'_>, &mut StdRng);

/// The changes that are tried in turn, each with what is accepted of it.
pub(crate) const CHANGES: &[(&str, Accepted, Change)] = &[
    ("nothing", All, |_, _| {}),
    (
        "body: a bit",
        None,
        |it, random| {
            if it.body.is_empty() { it.body.push(0) } else { flip(&mut it.body, random) }
        },
    ),
    ("body: a byte more", None, |it, random| {
        let at = random.random_range(0..=it.body.len());
        it.body.insert(at, *pick(b" \n\0a\xff", random));
    }),
    ("body: bytes fewer or many more", None, |it, random| {
        let length = it.body.len();
        it.body.resize((length + random.random_range(1..=length + 64)) % (2 * length + 64), 0);
        if it.body.len() == length {
            it.body.push(0)
        }
    }),
    ("body: of another webhook", None, |it, random| it.body.clone_from(&it.other(random).body)),
    ("signature: of another webhook", None, |it, random| it.sign_with(&it.other(random).der())),
    ("signature: of another key", None, |it, random| it.sign_with(&it.stranger(random).der())),
    ("signature: a bit", None, |it, random| {
        let mut der = it.genuine.der();
        flip(&mut der, random);
        it.sign_with(&der);
    }),
    ("signature: random bytes", None, |it, random| {
        let length = random.random_range(0..80);
        let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        it.sign_with(&bytes);
    }),
    ("signature: random numbers", None, |it, random| {
        let (r, s): ([u8; 32], [u8; 32]) = (random.random(), random.random());
        it.sign_with_numbers(&unsigned(&r), &unsigned(&s));
    }),
    ("signature: n - s instead of s", All, |it, _| {
        it.sign_with(with_other_s(&it.genuine.signature).to_der().as_bytes());
    }),
    ("signature: n added to r or s", None, |it, random| {
        let (r, s) = it.genuine.numbers();
        match random.random_range(0..3) {
            0 => it.sign_with_numbers(&plus_order(&r), &unsigned(&s)),
            1 => it.sign_with_numbers(&unsigned(&r), &plus_order(&s)),
            _ => it.sign_with_numbers(&plus_order(&r), &plus_order(&s)),
        }
    }),
    ("signature: r and s exchanged", None, |it, _| {
        let (r, s) = it.genuine.numbers();
        it.sign_with_numbers(&unsigned(&s), &unsigned(&r));
    }),
    ("signature: zero, one, n and its neighbours", None, |it, random| {
        let (r, s) = it.genuine.numbers();
        let special = |random: &mut StdRng| match random.random_range(0..7) {
            0 => vec![0],
            1 => vec![1],
            2 => minus_one(&ORDER),
            3 => unsigned(&ORDER),
            4 => plus_one(&ORDER),
            5 => unsigned(&[0xff; 32]),
            _ => unsigned(&key::PRIME),
        };
        match random.random_range(0..3) {
            0 => it.sign_with_numbers(&special(random), &unsigned(&s)),
            1 => it.sign_with_numbers(&unsigned(&r), &special(random)),
            _ => it.sign_with_numbers(&special(random), &special(random)),
        }
    }),
    ("signature: negative r or s", None, |it, random| {
        let (r, s) = it.genuine.numbers();
        match random.random_range(0..3) {
            0 => it.sign_with_numbers(&negative(&r), &unsigned(&s)),
            1 => it.sign_with_numbers(&unsigned(&r), &negative(&s)),
            _ => it.sign_with_numbers(&negative(&r), &negative(&s)),
        }
    }),
    ("signature: needless zeros before r or s", None, |it, random| {
        let (r, s) = it.genuine.numbers();
        let zeros = vec![0; random.random_range(1..4)];
        let padded = |number: &[u8]| [&zeros[..], &unsigned(number)].concat();
        if random.random() {
            it.sign_with_numbers(&padded(&r), &unsigned(&s));
        } else {
            it.sign_with_numbers(&unsigned(&r), &padded(&s));
        }
    }),
    ("signature: empty r or s", None, |it, random| {
        let (r, s) = it.genuine.numbers();
        if random.random() {
            it.sign_with_numbers(&[], &unsigned(&s));
        } else {
            it.sign_with_numbers(&unsigned(&r), &[]);
        }
    }),
    ("signature: a length that is not minimal", None, |it, random| {
        let mut der = it.genuine.der();
        let at = *pick(&[1, 3, 5 + usize::from(der[3])], random);
        let length = der[at];
        let long =
            pick(&[vec![0x81, length], vec![0x82, 0, length], vec![0x84, 0, 0, 0, length]], random).clone();
        der.splice(at..=at, long.iter().copied());
        if at != 1 && random.random() {
            der[1] += long.len() as u8 - 1;
        }
        it.sign_with(&der);
    }),
    ("signature: a length of none", None, |it, _| {
        let mut der = it.genuine.der();
        der[1] = 0x80;
        der.extend([0, 0]);
        it.sign_with(&der);
    }),
    ("signature: a wrong length", None, |it, random| {
        let mut der = it.genuine.der();
        let at = *pick(&[1, 3, 5 + usize::from(der[3])], random);
        der[at] = der[at].wrapping_add(*pick(&[1, 2, 0x7f, 0x80, 0xfe, 0xff], random));
        it.sign_with(&der);
    }),
    ("signature: another tag", None, |it, random| {
        let mut der = it.genuine.der();
        let at = *pick(&[0, 2, 4 + usize::from(der[3])], random);
        der[at] ^= random.random_range(1..=255u8);
        it.sign_with(&der);
    }),
    ("signature: bytes after it", None, |it, random| {
        let mut der = it.genuine.der();
        der.extend((0..random.random_range(1..5)).map(|_| random.random::<u8>()));
        if random.random() {
            der[1] = der.len() as u8 - 2;
        }
        it.sign_with(&der);
    }),
    ("signature: one number, or three", None, |it, random| {
        let (r, s) = it.genuine.numbers();
        let numbers = [tlv(2, &unsigned(&r)), tlv(2, &unsigned(&s)), tlv(2, &[1])];
        it.sign_with(&sequence(if random.random() { &numbers } else { &numbers[..1] }));
    }),
    ("signature: cut off", None, |it, random| {
        let der = it.genuine.der();
        it.sign_with(&der[..random.random_range(0..der.len())]);
    }),
    ("signature: r and s without DER", None, |it, _| {
        let (r, s) = it.genuine.numbers();
        it.sign_with(&[r, s].concat());
    }),
    ("base64: without padding", Some, |it, _| {
        it.signatures = vec![BASE64_NOPAD.encode(&it.genuine.der()).into()]
    }),
    ("base64: needless padding", None, |it, random| {
        it.signatures[0].extend(vec![b'='; random.random_range(1..5)]);
    }),
    ("base64: the alphabet for URLs", Some, |it, _| {
        it.signatures = vec![BASE64URL.encode(&it.genuine.der()).into()];
    }),
    ("base64: white space", None, |it, random| {
        let at = random.random_range(0..=it.signatures[0].len());
        it.signatures[0].insert(at, *pick(b" \t", random));
    }),
    ("base64: bits after the end", Some, |it, random| {
        let text = &mut it.signatures[0];
        if let Option::Some(last) =
            text.iter().rposition(|byte| *byte != b'=').filter(|last| last + 1 < text.len())
        {
            let digits = BASE64.specification().symbols.into_bytes();
            let value = digits.iter().position(|digit| *digit == text[last]).unwrap();
            text[last] = digits[value | random.random_range(1..4)];
        }
    }),
    ("base64: another character", None, |it, random| {
        let at = random.random_range(0..it.signatures[0].len());
        let old = it.signatures[0][at];
        while it.signatures[0][at] == old {
            it.signatures[0][at] = random.random_range(0x20..=0xff);
        }
    }),
    ("base64: twice, or another encoding", None, |it, random| {
        let (der, text) = (it.genuine.der(), it.signatures[0].clone());
        it.signatures[0] = match random.random_range(0..4) {
            0 => BASE64.encode(&text).into(),
            1 => HEXLOWER.encode(&der).into(),
            2 => [b"\"", &text[..], b"\""].concat(),
            _ => [b"sha256=", &text[..]].concat(),
        };
    }),
    ("key id: in another notation", All, |it, random| {
        let id = it.genuine.key_id;
        it.name(match random.random_range(0..4) {
            0 => id.to_string().to_uppercase(),
            1 => id.simple().to_string(),
            2 => id.braced().to_string(),
            _ => id.urn().to_string(),
        });
    }),
    ("key id: of another key", None, |it, random| it.name(it.stranger(random).key_id.to_string())),
    ("key id: unknown", None, |it, random| it.name(Uuid::from_u128(random.random()).to_string())),
    ("key id: another character", Some, |it, random| {
        let at = random.random_range(0..it.key_ids[0].len());
        it.key_ids[0][at] = random.random_range(0x20..=0xff);
    }),
    ("key id: text before, after or within", None, |it, random| {
        let text = *pick(&[" ", "/", "-", "0", "\t", "../", "{", "}", "%00", "\u{a0}"], random);
        let at = *pick(&[0, 8, 36], random);
        it.key_ids[0].splice(at..at, text.bytes());
    }),
    ("headers: the genuine value first", All, |it, random| {
        let stranger = it.stranger(random);
        it.key_ids.push(stranger.key_id.to_string().into());
        it.signatures.push(BASE64.encode(&stranger.der()).into());
    }),
    ("headers: the genuine value second", None, |it, random| {
        let stranger = it.stranger(random);
        if random.random() {
            it.key_ids.insert(0, stranger.key_id.to_string().into());
        } else {
            it.signatures.insert(0, BASE64.encode(&stranger.der()).into());
        }
    }),
    ("headers: two values in one", None, |it, random| {
        let values = if random.random() { &mut it.key_ids } else { &mut it.signatures };
        values[0] = [&values[0][..], b",", &values[0][..]].concat();
    }),
    ("headers: missing or empty", None, |it, random| {
        let values = if random.random() { &mut it.key_ids } else { &mut it.signatures };
        if random.random() { values.clear() } else { values[0].clear() }
    }),
    ("headers: exchanged", None, |it, _| std::mem::swap(&mut it.key_ids, &mut it.signatures)),
    ("key: published again", All, |it, _| it.publish(&key::spki(it.genuine))),
    ("key: of another signer", None, |it, random| it.publish(&key::spki(it.stranger(random)))),
    ("key: a bit", None, |it, random| {
        let mut der = key::spki(it.genuine);
        flip(&mut der, random);
        it.publish(&der);
    }),
    ("key: another form of the point", None, |it, random| it.publish(&key::other_point(it.genuine, random))),
    ("key: the point alone", None, |it, random| it.publish(&key::point_alone(it.genuine, random))),
    ("key: other curves and algorithms", None, |it, random| {
        it.publish(&key::other_curve(it.genuine, random))
    }),
    ("key: explicit parameters", None, |it, random| it.publish(&key::explicit(it.genuine, random))),
    ("key: lengths that are not minimal", None, |it, random| {
        it.publish(&key::long_length(it.genuine, random))
    }),
    ("key: bytes after it, or fewer", None, |it, random| {
        let mut der = key::spki(it.genuine);
        if random.random() {
            der.push(random.random());
        } else {
            der.truncate(random.random_range(0..der.len()));
        }
        it.publish(&der);
    }),
    ("key: another algorithm", None, |it, random| {
        it.publish(&key::spki(it.genuine));
        let algorithm =
            *pick(&["", "ecdsa_sha_256", "ECDSA_SHA_384", "RSA_SHA_256", "none", "ECDSA_SHA_256 "], random);
        it.key.as_mut().unwrap().algorithm = algorithm.into();
    }),
    ("key: other base64, or PEM", Some, |it, random| {
        let der = key::spki(it.genuine);
        it.publish(&der);
        let text = BASE64.encode(&der);
        it.key.as_mut().unwrap().public_key = match random.random_range(0..4) {
            0 => BASE64_NOPAD.encode(&der),
            1 => BASE64URL.encode(&der),
            2 => format!("{text}\n"),
            _ => format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"),
        };
    }),
];

fn pick<'a, T>(all: &'a [T], random: &mut StdRng) -> &'a T {
    &all[random.random_range(0..all.len())]
}

fn flip(bytes: &mut [u8], random: &mut StdRng) {
    let at = random.random_range(0..bytes.len());
    bytes[at] ^= 1 << random.random_range(0..8);
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// The content of a DER integer.
fn unsigned(number: &[u8]) -> Vec<u8> {
    let digits = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    let sign = digits.first().is_none_or(|first| *first >= 0x80);
    [&[0][..usize::from(sign)], digits].concat()
}

/// The same bits as a DER integer that is negative: -number, or number - 2^k.
fn negative(number: &[u8; 32]) -> Vec<u8> {
    let digits = unsigned(number);
    if digits[0] == 0 {
        return digits[1..].to_vec();
    }
    let mut inverted: Vec<u8> = digits.iter().map(|byte| !byte).collect();
    add(&mut inverted, &[1]);
    inverted
}

fn plus_order(number: &[u8; 32]) -> Vec<u8> {
    let mut sum = [&[0][..], number].concat();
    add(&mut sum, &ORDER);
    unsigned(&sum)
}

fn plus_one(number: &[u8; 32]) -> Vec<u8> {
    let mut sum = number.to_vec();
    add(&mut sum, &[1]);
    unsigned(&sum)
}

fn minus_one(number: &[u8; 32]) -> Vec<u8> {
    let mut sum = number.to_vec();
    add(&mut sum, &[0xff; 32]);
    unsigned(&sum)
}

/// Adds two numbers, as long as the first.
fn add(sum: &mut [u8], number: &[u8]) {
    let mut carry = 0;
    for (index, digit) in sum.iter_mut().rev().enumerate() {
        let other = number.iter().rev().nth(index).copied().unwrap_or(0);
        let total = u16::from(*digit) + u16::from(other) + carry;
        (*digit, carry) = (total as u8, total >> 8);
    }
}

fn with_other_s(signature: &Signature) -> Signature {
    let (r, s) = signature.split_scalars();
    Signature::from_scalars(r, -s).unwrap()
}

/// 32 bytes in hexadecimal digits.
pub(crate) const fn hex(digits: &str) -> [u8; 32] {
    const fn value(digit: u8) -> u8 {
        if digit >= b'a' { digit - b'a' + 10 } else { digit - b'0' }
    }
    let (digits, mut bytes, mut index) = (digits.as_bytes(), [0; 32], 0);
    while index < 32 {
        bytes[index] = value(digits[2 * index]) << 4 | value(digits[2 * index + 1]);
        index += 1;
    }
    bytes
}
