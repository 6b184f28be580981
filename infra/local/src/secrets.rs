//! The secrets that the stack issues or is given, told to a test that looks for them where they must not be.

use std::sync::OnceLock;

/// Called with the kind of a secret, such as `user token`, and with the secret.
pub type Observer = fn(&'static str, &str);

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Lets `observer` see each secret of all stacks of this process, on the thread that issues it, before anything else can
/// see it. Without an observer nothing is kept.
///
/// # Panics
/// If the process has an observer.
pub fn observe(observer: Observer) {
    assert!(OBSERVER.set(observer).is_ok(), "the secrets have one observer");
}

/// Tells the observer, if there is one.
pub(crate) fn issued(kind: &'static str, secret: &str) {
    if let Some(observer) = OBSERVER.get() {
        observer(kind, secret);
    }
}
