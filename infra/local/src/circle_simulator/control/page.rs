//! The control page: what there is now, and how to change it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::circle_simulator::CircleSimulator;
use crate::circle_simulator::text::timestamp;

/// One operation: method, path below `/control`, example body, and what it does.
type Operation = (&'static str, &'static str, &'static str, &'static str);

const OPERATIONS: [Operation; 31] = [
    ("GET", "/users", "", "all users"),
    ("GET", "/users/USER", "", "one user"),
    (
        "PUT",
        "/users/USER",
        r#"{"pin":"135790","securityQuestionStatus":"ENABLED"}"#,
        "create or change a user; also pinStatus ENABLED, UNSET or LOCKED, and status ENABLED or DISABLED (155109)",
    ),
    ("PATCH", "/users/USER", r#"{"pinStatus":"LOCKED"}"#, "change a user who exists"),
    ("POST", "/users/USER/forget-tokens", "", "the user's tokens are unknown from now on (155103)"),
    ("GET", "/challenges", "", "all challenges"),
    ("GET", "/challenges/ID", "", "one challenge"),
    ("POST", "/challenges/ID/start", "", "the user opens it: IN_PROGRESS"),
    (
        "POST",
        "/challenges/ID/pin",
        r#"{"correct":false}"#,
        "the user enters the PIN, or {\"pin\":\"135790\",\"newPin\":\"246801\"}; the third wrong one locks it",
    ),
    (
        "POST",
        "/challenges/ID/security-questions",
        r#"{"correct":true,"newPin":"246801"}"#,
        "the user answers the security questions of a RESTORE_PIN; the third wrong answers lock them (155120)",
    ),
    ("POST", "/challenges/ID/cancel", "", "the user turns away: FAILED 155701"),
    ("POST", "/challenges/ID/expire", r#"{"as":"EXPIRED"}"#, "it expires; {\"as\":\"FAILED\"} for 155121"),
    ("POST", "/challenges/ID/fail", r#"{"code":155706,"message":"Network error"}"#, "it fails with any code"),
    ("GET", "/knobs", "", "all knobs"),
    ("PATCH", "/knobs", r#"{"retryFactor":0.001}"#, "turn knobs, see below"),
    ("GET", "/faults", "", "the faults to come"),
    (
        "POST",
        "/faults",
        r#"{"method":"PUT","path":"/v1/w3s/user/pin","times":2,"status":429,"retryAfter":"1"}"#,
        "the next matching calls go wrong: status, code, message, body, retryAfter, delayMs, drop, afterEffect",
    ),
    (
        "POST",
        "/faults",
        r#"{"drop":true,"afterEffect":true}"#,
        "the next call takes effect, its answer is lost",
    ),
    ("DELETE", "/faults", "", "no more faults"),
    ("GET", "/calls", "", "how often each call was made"),
    ("DELETE", "/calls", "", "count from zero"),
    ("GET", "/subscriptions", "", "who receives webhooks"),
    ("GET", "/deliveries", "", "every attempt to deliver a webhook; attempt 0 was lost"),
    (
        "POST",
        "/deliveries/release",
        r#"{"order":"reversed"}"#,
        "send what is held and end the pause, in the order made or reversed",
    ),
    (
        "POST",
        "/webhooks",
        r#"{"notificationType":"challenges.changePin","notification":{"id":"00000000-0000-4000-8000-000000000000"}}"#,
        "send any notification, truly signed; notificationId repeats one",
    ),
    ("POST", "/webhooks", r#"{"raw":"not even JSON"}"#, "send any body, truly signed"),
    ("POST", "/signing-key/rotate", "", "sign with a new key; old ones can still be looked up"),
    ("POST", "/api-key/rotate", "", "a new API key; the old one is refused (401, code 4)"),
    ("GET", "/clock", "", "the time here"),
    ("POST", "/clock/advance", r#"{"seconds":1800}"#, "let time pass"),
    ("GET", "", "", "this page"),
];

pub(super) fn text(simulator: &CircleSimulator) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, simulator);
    page
}

fn write_page(page: &mut String, simulator: &CircleSimulator) -> std::fmt::Result {
    let url = simulator.url();
    writeln!(page, "Circle simulator at {url}, where it is {}\n", timestamp(simulator.now()))?;
    section(page, "Users", simulator.users())?;
    section(page, "Challenges", simulator.challenges().into_iter().map(|one| json!(one)))?;
    section(page, "Subscriptions", simulator.subscriptions())?;
    section(page, "Faults to come", simulator.faults().into_iter().map(|one| json!(one)))?;
    section(page, "Calls", simulator.call_counts().into_iter().map(|(call, count)| json!({call: count})))?;
    let attempts = simulator.deliveries();
    let latest = attempts.iter().rev().take(50).map(|one| {
        json!({
            "notificationType": one.notification_type, "notificationId": one.notification_id,
            "endpoint": one.endpoint, "attempt": one.attempt, "status": one.status, "error": one.error,
        })
    });
    section(
        page,
        &format!("Webhook attempts, latest first ({} held back)", simulator.held_webhooks()),
        latest,
    )?;
    let knobs = json!(simulator.knobs());
    let knobs = knobs.as_object().into_iter().flatten().map(|(name, value)| format!("  {name}: {value}\n"));
    writeln!(page, "Knobs\n{}", knobs.collect::<String>())?;
    writeln!(page, "What you can do")?;
    for (method, path, body, meaning) in OPERATIONS {
        let method = if method == "GET" { String::new() } else { format!("-X {method} ") };
        let body = if body.is_empty() { String::new() } else { format!(" -d '{body}'") };
        writeln!(page, "  # {meaning}\n  curl -s {method}{url}/control{path}{body}")?;
    }
    Ok(())
}

fn section(page: &mut String, title: &str, lines: impl IntoIterator<Item = Value>) -> std::fmt::Result {
    writeln!(page, "{title}")?;
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        writeln!(page, "  none")?;
    }
    for line in lines {
        writeln!(page, "  {line}")?;
    }
    writeln!(page)
}
