//! The control page: the state of the simulator, and the operations that change it. It is text for `curl`, and a page
//! with buttons for a browser.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::circle_simulator::CircleSimulator;
use crate::circle_simulator::dates::timestamp;

/// Method, path below `/control`, example body, and effect.
type Operation = (&'static str, &'static str, &'static str, &'static str);

/// How many challenges and webhooks a browser shows, and how many webhooks a terminal.
const LATEST: usize = 50;

const OPERATIONS: [Operation; 39] = [
    ("GET", "/users", "", "all users"),
    ("GET", "/users/USER", "", "one user"),
    (
        "PUT",
        "/users/USER",
        r#"{"pin":"135790","securityQuestionStatus":"ENABLED"}"#,
        "create or change a user; pinStatus is ENABLED, UNSET or LOCKED, status is ENABLED or DISABLED (155109); authMode is PIN, EMAIL or SOCIAL",
    ),
    ("PATCH", "/users/USER", r#"{"pinStatus":"LOCKED"}"#, "change a user"),
    ("POST", "/users/USER/forget-tokens", "", "forget all tokens of the user (155103)"),
    ("GET", "/challenges", "", "all challenges"),
    ("GET", "/challenges/ID", "", "one challenge"),
    ("POST", "/challenges/ID/start", "", "the user opens the challenge: IN_PROGRESS"),
    (
        "POST",
        "/challenges/ID/pin",
        r#"{"correct":false}"#,
        "the user enters a PIN, or {\"pin\":\"135790\",\"newPin\":\"246801\"}; the third wrong PIN locks it (155119)",
    ),
    (
        "POST",
        "/challenges/ID/security-questions",
        r#"{"correct":true,"newPin":"246801"}"#,
        "the user answers the security questions of a RESTORE_PIN challenge; the third wrong answers lock them (155120)",
    ),
    ("POST", "/challenges/ID/cancel", "", "the user cancels: FAILED with 155701"),
    (
        "POST",
        "/challenges/ID/expire",
        r#"{"as":"EXPIRED"}"#,
        "the challenge expires; FAILED stands for FAILED with 155121, MIXED for EXPIRED in responses and FAILED with 155121 in the webhook, ERROR for an API error 155121",
    ),
    (
        "POST",
        "/challenges/ID/fail",
        r#"{"code":155706,"message":"Network error"}"#,
        "the challenge fails with any code",
    ),
    ("GET", "/knobs", "", "all knobs"),
    ("PATCH", "/knobs", r#"{"retryFactor":0.001}"#, "change knobs; the list above shows all"),
    (
        "PATCH",
        "/knobs",
        r#"{"loseWebhooks":50}"#,
        "lose the next webhooks; a challenge sends one when it is created and one for each change of its status",
    ),
    (
        "PATCH",
        "/knobs",
        r#"{"rateLimits":"SHARED","rateLimitsRetryAfter":true}"#,
        "reject calls beyond Circle's published rate limits (429); PER_CALL counts each call by itself, OFF ends it",
    ),
    (
        "PATCH",
        "/knobs",
        r#"{"apiKeyWallets":"READ","apiKeyWebhooks":"NONE","apiKeyAddresses":["192.0.2.1"]}"#,
        "restrict the API key: 403 with the code 3, and 403 without a code from other addresses",
    ),
    ("GET", "/rate-limited", "", "how often each call was rejected because of its rate limit"),
    ("GET", "/faults", "", "the faults that have not happened yet"),
    (
        "POST",
        "/faults",
        r#"{"method":"PUT","path":"/v1/w3s/user/pin","times":2,"status":429,"retryAfter":"1"}"#,
        "a fault for the next matching calls: status, code, message, body, headers, retryAfter, delayMs, drop, reset, cutAfterBytes, afterEffect",
    ),
    (
        "POST",
        "/faults",
        r#"{"status":503,"times":1000}"#,
        "Circle is down until the faults are removed; without a path and a method, a fault matches every call",
    ),
    (
        "POST",
        "/faults",
        r#"{"drop":true,"afterEffect":true}"#,
        "the next call takes effect, but its response is lost",
    ),
    (
        "POST",
        "/faults",
        r#"{"status":502,"body":"<h1>Bad gateway</h1>","headers":{"server":"cloudflare"}}"#,
        "the next call gets the page of a gateway in front of Circle",
    ),
    (
        "PATCH",
        "/knobs",
        r#"{"requestsPerConnection":1,"connectionEnd":"RESET"}"#,
        "connections serve one request and are reset at the next; CLOSE closes them; closeIdleAfterMs closes idle ones",
    ),
    ("DELETE", "/faults", "", "remove all faults"),
    ("GET", "/calls", "", "how often each call was made"),
    ("DELETE", "/calls", "", "set all call counts to zero"),
    ("GET", "/subscriptions", "", "all subscriptions"),
    ("GET", "/deliveries", "", "every attempt to deliver a webhook; attempt 0 means lost"),
    (
        "POST",
        "/deliveries/release",
        r#"{"order":"reversed"}"#,
        "send the held webhooks and end the pause; order is made or reversed",
    ),
    (
        "POST",
        "/webhooks",
        r#"{"notificationType":"challenges.changePin","notification":{"id":"00000000-0000-4000-8000-000000000000"}}"#,
        "send any notification, signed; a notificationId repeats an earlier one",
    ),
    ("POST", "/webhooks", r#"{"raw":"not even JSON"}"#, "send any body, signed"),
    (
        "POST",
        "/signing-key/rotate",
        "",
        "sign webhooks with a new key; the public keys of old ones stay available",
    ),
    ("POST", "/api-key/rotate", "", "replace the API key; Circle rejects the old one (401, code 4)"),
    ("GET", "/clock", "", "the simulator's time"),
    (
        "POST",
        "/clock/advance",
        r#"{"seconds":1800}"#,
        "move the clock of the whole stack forward; countdowns in a browser still go by the browser's clock; reconciliation checks a challenge whose webhook was lost once the user's last session is an hour old",
    ),
    ("GET", "/state", "", "everything that this page shows, as JSON"),
    ("GET", "", "", "this page"),
];

/// The page for a browser.
pub(super) const HTML: &str = include_str!("../../../web/control/index.html");

const CSS: &str = "text/css; charset=utf-8";

/// The files that the page for a browser loads, with their content types.
pub(super) fn asset(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "control.js" => {
            Some(("text/javascript; charset=utf-8", include_str!("../../../web/control/control.js")))
        }
        "base.css" => Some((CSS, include_str!("../../../web/base.css"))),
        "control.css" => Some((CSS, include_str!("../../../web/control/control.css"))),
        _ => None,
    }
}

/// Everything that the page shows, without secrets.
pub(super) fn state(simulator: &CircleSimulator) -> Value {
    let mut challenges = simulator.challenges();
    challenges.reverse();
    challenges.truncate(LATEST);
    let deliveries = simulator.deliveries();
    let operations = OPERATIONS
        .iter()
        .map(|operation| json!({ "command": command(&simulator.url(), operation), "effect": operation.3 }));
    json!({
        "now": timestamp(simulator.now()),
        "users": simulator.users(),
        "challenges": challenges,
        "subscriptions": simulator.subscriptions(),
        "faults": simulator.faults(),
        "calls": simulator.call_counts(),
        "deliveries": deliveries.iter().rev().take(LATEST).collect::<Vec<_>>(),
        "heldWebhooks": simulator.held_webhooks(),
        "knobs": simulator.knobs(),
        "operations": operations.collect::<Vec<_>>(),
    })
}

/// The page for a terminal.
pub(super) fn text(simulator: &CircleSimulator) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, simulator);
    page
}

fn write_page(page: &mut String, simulator: &CircleSimulator) -> std::fmt::Result {
    let url = simulator.url();
    writeln!(page, "Circle simulator at {url}\nTime: {}\n", timestamp(simulator.now()))?;
    section(page, "Users", simulator.users())?;
    section(page, "Challenges", simulator.challenges().into_iter().map(|one| json!(one)))?;
    section(page, "Subscriptions", simulator.subscriptions())?;
    section(page, "Faults that have not happened yet", simulator.faults().into_iter().map(|one| json!(one)))?;
    section(page, "Calls", simulator.call_counts().into_iter().map(|(call, count)| json!({call: count})))?;
    let attempts = simulator.deliveries();
    let latest = attempts.iter().rev().take(LATEST).map(|one| {
        json!({
            "notificationType": one.notification_type, "notificationId": one.notification_id,
            "endpoint": one.endpoint, "attempt": one.attempt, "status": one.status, "error": one.error,
        })
    });
    section(
        page,
        &format!("Webhook attempts, the latest first ({} messages held)", simulator.held_webhooks()),
        latest,
    )?;
    let knobs = json!(simulator.knobs());
    let knobs = knobs.as_object().into_iter().flatten().map(|(name, value)| format!("  {name}: {value}\n"));
    writeln!(page, "Knobs\n{}", knobs.collect::<String>())?;
    writeln!(page, "Operations")?;
    for operation in &OPERATIONS {
        writeln!(page, "  # {}\n  {}", operation.3, command(&url, operation))?;
    }
    Ok(())
}

/// The operation as a command for a terminal.
fn command(url: &str, (method, path, body, _): &Operation) -> String {
    let method = if *method == "GET" { String::new() } else { format!("-X {method} ") };
    let body = if body.is_empty() { String::new() } else { format!(" -d '{body}'") };
    format!("curl -s {method}{url}/control{path}{body}")
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
