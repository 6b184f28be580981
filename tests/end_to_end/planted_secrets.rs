use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use local::environment::USER_HASH_KEY;
use shared::telemetry::Chain;

use crate::support::{App, PIN, USER, text, violations};

const E_MAIL: &str = "carol@example.com";

/// An error whose cause has a message.
#[derive(Debug)]
struct CausedBy(io::Error);

impl fmt::Display for CausedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the call failed")
    }
}

impl Error for CausedBy {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The message of the check that fails when the app of a test ends.
fn failed_check(app: App) -> String {
    let failed = catch_unwind(AssertUnwindSafe(|| drop(app))).unwrap_err();
    *failed.downcast().unwrap()
}

/// Each is logged in each place where a line can have it. The check of the log finds every one, and says where it was
/// without repeating it.
#[tokio::test]
async fn each_planted_secret_is_found() {
    let app = App::start().await;
    let session = app.post_session_token().send().await.is(201).clone();
    let (api_key, (_, signature)) = (app.circle.api_key(), app.circle.sign(b"any"));
    let user_token = text(&session, "userToken");
    let secrets = [
        ("API key", &*api_key),
        ("API key", api_key.rsplit(':').next().unwrap()),
        ("token", user_token),
        ("token", user_token.rsplit('.').next().unwrap()),
        ("token", app.access_token.split('.').nth(1).unwrap()),
        ("encryption key", text(&session, "encryptionKey")),
        ("signature", &signature),
        ("key of the user hash", USER_HASH_KEY),
        ("PIN", PIN),
        ("user id", USER),
        ("e-mail address", E_MAIL),
        ("e-mail address", "carol%40example.com"),
    ];
    assert_eq!(violations(), [""; 0]);
    let mut before = 0;
    for (kind, secret) in secrets {
        let error = CausedBy(io::Error::other(format!("the response was \"{secret}\"")));
        tracing::info!(target: "get_pin", "quotes '{secret}', and more");
        tracing::debug!(target: "shared::circle", value = secret, "planted");
        tracing::trace!(target: "create_token", value = ?Some(format!("\"{secret}\"")), "planted");
        tracing::warn!(target: "aws_config", error = %Chain(&error), "planted");
        tracing::info_span!(target: "shared::boundary", "request", value = secret).in_scope(|| {
            tracing::trace!(target: "shared::boundary", "planted");
        });
        let all = violations();
        let found = &all[before..];
        before = all.len();
        assert_eq!(found.len(), 5, "{kind}: {found:?}");
        assert!(found.iter().all(|violation| violation.contains(kind)), "{found:?}");
        assert!(!found.iter().any(|violation| violation.contains(secret)), "{found:?}");
    }
    failed_check(app);
}

#[tokio::test]
async fn log_with_a_secret_fails_its_test() {
    let app = App::start().await;
    tracing::info!(target: "get_pin", pin = PIN, "planted");
    let message = failed_check(app);
    assert!(message.contains("\"PIN\"") && !message.contains(PIN), "{message}");
}

/// What stands for a user, numbers that contain a PIN, and lines of the local stack for developers.
#[tokio::test]
async fn harmless_lines_pass() {
    let _app = App::start().await;
    tracing::info!(target: "get_pin", user = "6384e2b2184bcbf58eccf10ca7a6563c", at = 1_790_112_233_000_u64, "planted");
    tracing::info!(target: "get_pin", "malice@ aliceand @home 9112233 {PIN}4");
    tracing::info!(target: "local::event_bus", user = USER, e_mail = E_MAIL, "event received");
}

#[tokio::test]
async fn plain_user_id_is_allowed_in_its_place_only() {
    let app = App::with_settings([("LOG_USER_IDS", "plain")]).await;
    tracing::info_span!(target: "shared::boundary", "request", user = USER).in_scope(|| {
        tracing::info!(target: "shared::boundary", "planted");
    });
    assert_eq!(violations(), [""; 0]);
    tracing::info_span!(target: "shared::boundary", "request", caller = USER).in_scope(|| {
        tracing::info!(target: "shared::boundary", "planted");
    });
    assert_eq!(violations().len(), 1);
    failed_check(app);
}
