//! No test may log a secret, an e-mail address, or the id of a user as plain text.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::log::{self, Log};

/// How many bytes of a text select the secrets that may start there. Every secret and every user id has more.
const PREFIX: usize = 5;

/// A part of a secret that is this long would reveal it just as well. A shorter text counts only if it stands alone, because
/// its characters can be a part of a random id, of a time or of another word.
const LONG: usize = 20;

/// Not a secret, but the log must not have it either, unless a setting allows it.
const USER_ID: &str = "user id";

const E_MAIL: &str = "e-mail address";

/// What each check logs itself, so that it cannot pass because nothing was captured.
const PROBE: &str = "probe-of-the-log";

/// What a test must not reveal: each text, and what kind of secret it is.
#[derive(Default)]
struct Secrets {
    by_prefix: HashMap<[u8; PREFIX], HashMap<String, &'static str>>,
    user_ids_may_be_plain: bool,
}

thread_local! {
    /// The secrets of the test that runs on this thread.
    static SECRETS: RefCell<Secrets> = RefCell::default();
}

/// Remembers a secret of the current test, the parts that would reveal it just as well, and the user that a token names.
pub(super) fn remember(kind: &'static str, secret: &str) {
    SECRETS.with_borrow_mut(|secrets| {
        secrets.add(kind, secret);
        // The last part of an API key; the payload and the signature of a token.
        secret.split([':', '.']).filter(|part| part.len() >= LONG).for_each(|part| secrets.add(kind, part));
        let payload = secret.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims = payload.and_then(|payload| serde_json::from_slice::<Value>(&payload).ok());
        if let Some(user_id) = claims.as_ref().and_then(|claims| claims["sub"].as_str()) {
            secrets.add(USER_ID, user_id);
        }
    });
}

/// Lets the log of the current test name users as plain text, as a setting does.
pub(super) fn allow_plain_user_ids() {
    SECRETS.with_borrow_mut(|secrets| secrets.user_ids_may_be_plain = true);
}

/// Checks that this text has no secret of the current test.
#[track_caller]
pub(crate) fn assert_no_secret(name: &str, text: &str) {
    let found: Vec<_> = SECRETS.with_borrow(|secrets| {
        let kinds = secrets.find(text).into_iter().map(|(kind, _)| kind);
        kinds.filter(|kind| *kind != USER_ID).collect()
    });
    assert!(found.is_empty(), "{name} has secrets: {found:?}");
}

/// Checks the log of a test when it is dropped. It belongs to the app, so that every test has one.
pub(crate) struct LogCheck(());

impl LogCheck {
    pub(super) fn new() -> Self {
        log::capture();
        Self(())
    }
}

impl Drop for LogCheck {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let found = violations();
        assert!(found.is_empty(), "the log has what it must not have:\n{}", found.join("\n"));
    }
}

/// The lines of the current test's log that have something they must not have, each with its kind and without it.
///
/// # Panics
/// If the log was not captured.
pub(crate) fn violations() -> Vec<String> {
    let (log, probe) = (Log::of_thread(), Log::start());
    remember("probe", PROBE);
    tracing::trace!(target: "get_pin", "{PROBE}");
    let captured = probe.text();
    probe.forget();
    SECRETS.with_borrow(|secrets| {
        let mut harmless = HashSet::new();
        assert!(secrets.violation(&captured, &mut harmless).is_some(), "the log is not captured: {captured}");
        log.text().lines().filter_map(|line| secrets.violation(line, &mut harmless)).collect()
    })
}

impl Secrets {
    fn add(&mut self, kind: &'static str, secret: &str) {
        let Some(prefix) = secret.as_bytes().first_chunk() else { return };
        self.by_prefix.entry(*prefix).or_default().entry(secret.to_owned()).or_insert(kind);
    }

    /// The secrets in a text.
    fn find<'a>(&'a self, text: &str) -> Vec<(&'static str, &'a str)> {
        let candidates = text
            .as_bytes()
            .windows(PREFIX)
            .enumerate()
            .filter_map(|(at, window)| Some((at, self.by_prefix.get(window.first_chunk()?)?)));
        let found = candidates
            .flat_map(|(at, secrets)| secrets.iter().filter(move |(secret, _)| is_at(text, at, secret)));
        found.map(|(secret, kind)| (*kind, secret.as_str())).collect()
    }

    /// What is wrong with a line of the log. Texts that are `harmless` are not searched again, because most repeat.
    fn violation(&self, line: &str, harmless: &mut HashSet<String>) -> Option<String> {
        let Ok(Value::Object(mut json)) = serde_json::from_str(line) else {
            return Some(format!("not a JSON object: {line}"));
        };
        if self.user_ids_may_be_plain
            && let Some(Value::Object(span)) = json.get_mut("span")
        {
            span.remove("user");
        }
        // The parts of the local stack name users for developers.
        let target = json["target"].as_str().unwrap_or_default();
        let is_local = target.split("::").next() == Some("local");
        let mut kinds = Vec::new();
        let mut redacted = line.to_owned();
        for_each_text(&Value::Object(json), &mut |text| {
            if harmless.contains(text) {
                return;
            }
            let e_mail_addresses = e_mail_addresses(text).into_iter().map(|address| (E_MAIL, address));
            let found: Vec<_> = self.find(text).into_iter().chain(e_mail_addresses).collect();
            if found.is_empty() {
                harmless.insert(text.to_owned());
            }
            for (kind, found) in found {
                if !(is_local && [USER_ID, E_MAIL].contains(&kind)) {
                    kinds.push(kind);
                    redacted = redacted.replace(found, &format!("[{kind}]"));
                }
            }
        });
        (!kinds.is_empty()).then(|| format!("{kinds:?} in {redacted}"))
    }
}

/// Whether a secret is at this place of a text.
fn is_at(text: &str, at: usize, secret: &str) -> bool {
    let (before, from) = (&text.as_bytes()[..at], &text.as_bytes()[at..]);
    let Some(after) = from.strip_prefix(secret.as_bytes()) else { return false };
    let continues = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    secret.len() >= LONG || !(continues(before.last()) || continues(after.first()))
}

/// The e-mail addresses in a text: an `@`, also an encoded one, between two words.
fn e_mail_addresses(text: &str) -> Vec<&str> {
    let is_word = |character: char| character.is_alphanumeric() || "._+-".contains(character);
    let at_signs = ["@", "%40"].into_iter().flat_map(|at| text.match_indices(at));
    let addresses = at_signs.filter_map(|(start, at)| {
        let (before, after) = (&text[..start], &text[start + at.len()..]);
        let local_part = before.len() - before.trim_end_matches(is_word).len();
        let domain = after.len() - after.trim_start_matches(is_word).len();
        let is_address =
            (local_part > 0 || before.ends_with('"')) && after.starts_with(char::is_alphanumeric);
        is_address.then(|| &text[start - local_part..start + at.len() + domain])
    });
    addresses.collect()
}

/// Every string and every number of a JSON value, also the names of members.
fn for_each_text(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(values) => values.iter().for_each(|value| for_each_text(value, each)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            each(name);
            for_each_text(value, each);
        }),
        Value::Number(number) => each(&number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}
