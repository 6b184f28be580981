//! From a challenge to the request, the address and the login that made it, and to what changed it.

use local::circle_simulator::{Expiry, PinEntry};
use local::stack::AUDIENCE;
use serde_json::{Value, json};

use crate::support::{App, FIRST_CHECK, HOUR, Log, PIN, Reconciler, SECOND, USER, challenge_id, text, with};

/// The log lines that end requests of a route.
fn requests<'a>(lines: &'a [Value], route: &str) -> Vec<&'a Value> {
    let is_end = |line: &&Value| line["span"]["route"] == route && line["span"].get("duration_ms").is_some();
    lines.iter().filter(is_end).collect()
}

fn lines(log: &Log) -> Vec<Value> {
    log.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn challenge_leads_to_the_request_the_address_and_the_login_that_made_it() {
    let log = Log::start();
    let app = App::at_noon().await.without_webhooks().await;
    let response = app.post_challenge().send().await;
    let id = challenge_id(response.is(201));
    let request_id = response.headers["apigw-requestid"].to_str().unwrap();
    let creation = json!({ "at": "2026-01-01T12:00:00Z", "requestId": request_id, "sourceIp": "127.0.0.1" });
    assert_eq!(app.audit_trail(id).await, json!({ "creation": creation }));

    let lines = lines(&log);
    let [line] = requests(&lines, "POST /challenges")[..] else { panic!("not one line for one request") };
    let span = &line["span"];
    assert_eq!((&line["message"], &line["status"]), (&json!("request completed"), &json!(201)));
    assert_eq!((&span["request_id"], &span["source_ip"]), (&json!(request_id), &json!("127.0.0.1")));
    assert_eq!(span["challenge_id"], json!(id));
    let is_hash = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash(text(span, "user")), "{span}");
    for member in ["invocation_id", "circle_request_id"] {
        assert!(!text(span, member).is_empty(), "{member} in {span}");
    }
    assert!(span["duration_ms"].is_u64(), "{span}");
    // The calls to Circle of this request have its ids too.
    let calls = lines.iter().filter(|line| line["metric"] == "circle_call");
    let calls: Vec<_> = calls.filter(|line| line["span"]["request_id"] == *request_id).collect();
    assert_eq!(calls.len(), 3, "a session, the state of the PIN and the challenge");
    assert!(calls.iter().any(|call| call["circle_request_id"] == span["circle_request_id"]));
}

#[tokio::test]
async fn session_that_is_handed_out_is_logged_with_its_user() {
    let log = Log::start();
    let app = App::at_noon().await;
    app.post_session_token().send().await.is(201);
    app.post_challenge().send().await.is(201);
    let lines = lines(&log);
    let [session] = requests(&lines, "POST /session-tokens")[..] else { panic!("not one line") };
    let [challenge] = requests(&lines, "POST /challenges")[..] else { panic!("not one line") };
    assert_eq!(session["span"]["user"], challenge["span"]["user"]);
    assert!(session["span"].get("challenge_id").is_none());
}

#[tokio::test]
async fn login_is_logged_as_far_as_its_claims_are_ids_and_times() {
    let app = App::at_noon().await.without_webhooks().await;
    let (issuer, longest) = (&app.stack.issuer, "a".repeat(64));
    for (claims, logged) in [
        (json!({ "jti": "t-1", "sid": "s_1", "auth_time": 1_767_268_700 }), ["t-1", "s_1", "1767268700"]),
        (json!({ "jti": longest, "origin_jti": "o.1" }), [&longest, "o.1", "1767268800"]),
        (json!({ "jti": "a".repeat(65), "sid": "a@example.com" }), ["", "", "1767268800"]),
        (json!({ "jti": "", "sid": "a b" }), ["", "", "1767268800"]),
    ] {
        let log = Log::start();
        let token = issuer.sign(&with(issuer.claims(USER, AUDIENCE, HOUR), claims));
        app.post_session_token().bearer(&token).send().await.is(201);
        let lines = lines(&log);
        let [session] = requests(&lines, "POST /session-tokens")[..] else { panic!("not one line") };
        let login = ["token_id", "session_id", "signed_in_at"].map(|field| session["span"][field].as_str());
        assert_eq!(login.map(Option::unwrap_or_default), logged, "{session}");
    }
}

#[tokio::test]
async fn user_can_be_logged_by_id() {
    let log = Log::start();
    let app = App::with_settings([("LOG_USER_IDS", "plain")]).await;
    app.post_session_token().send().await.is(201);
    let lines = lines(&log);
    let [session] = requests(&lines, "POST /session-tokens")[..] else { panic!("not one line") };
    assert_eq!(session["span"]["user"], "alice");
}

#[tokio::test]
async fn each_rank_remembers_what_gave_it() {
    let app = App::at_noon().await;
    let polled = app.create_challenge().await;
    app.wait_for_webhook(polled, "PENDING", 200).await;
    let arrived = app.audit_trail(polled).await;
    assert_eq!(arrived.as_object().unwrap().len(), 1, "the webhook tells nothing new: {arrived}");

    // A wrong PIN, told by a webhook; then the right one, told to a poll.
    app.circle.enter_pin(polled, PinEntry::typed("000000")).unwrap();
    app.wait_for_webhook(polled, "IN_PROGRESS", 200).await;
    let notification = app.last_notification();
    let token = app.user_token().await;
    app.lose_webhooks();
    app.advance(SECOND);
    app.circle
        .enter_pin(polled, PinEntry { new_pin: Some("445566".into()), ..PinEntry::typed(PIN) })
        .unwrap();
    let response = app.get_challenge(polled).token(&token).send().await;
    assert_eq!(response.is(200)["status"], "COMPLETE");
    let request_id = response.headers["apigw-requestid"].to_str().unwrap();
    let trail = app.audit_trail(polled).await;
    assert_eq!(
        trail["progress"],
        json!({ "at": "2026-01-01T12:00:00Z", "status": "IN_PROGRESS", "by": "webhook", "id": notification })
    );
    assert_eq!(
        trail["completion"],
        json!({ "at": "2026-01-01T12:00:01Z", "status": "COMPLETE", "by": "poll", "id": request_id })
    );
}

#[tokio::test]
async fn ending_that_reconciliation_finds_names_its_invocation() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.circle.expire_challenge(id, Expiry::Expired).unwrap();
    app.advance(HOUR + FIRST_CHECK);
    assert_eq!(reconciler.run().await.settled, 1);
    let ending = app.audit_trail(id).await["ending"].take();
    let members = ["by", "status", "id"].map(|name| text(&ending, name));
    assert_eq!(members, ["reconcile", "EXPIRED", "run"]);
}
