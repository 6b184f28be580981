use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use local::circle_simulator::{Fault, PinEntry};
use local::dynamodb::{CHALLENGES_TABLE, RATE_LIMITS_TABLE};
use local::stack::API_KEY_SECRET;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::observed::Log;
use crate::reconcile::{function, run};
use crate::support::{App, MINUTE, PIN, send, text};

/// Every secret of a run, and the parts that give it away as well as the whole would.
#[derive(Default)]
struct Secrets(BTreeSet<String>);

impl Secrets {
    fn add(&mut self, secret: &str) {
        assert!(secret.len() >= 6, "too short to look for: {secret}");
        self.0.insert(secret.to_owned());
        // An API key's last part, a token's payload and signature.
        self.0.extend(secret.split([':', '.']).filter(|part| part.len() >= 20).map(str::to_owned));
    }

    fn add_session(&mut self, session: &Value) -> String {
        self.add(text(session, "userToken"));
        self.add(text(session, "encryptionKey"));
        text(session, "userToken").to_owned()
    }

    #[track_caller]
    fn are_not_in(&self, what: &str, haystack: &str) {
        for secret in &self.0 {
            // A PIN is so short that a random id or a time can have its digits; alone it is nothing else.
            let is_alone = |(at, _): (usize, &str)| {
                let around =
                    [haystack[..at].chars().next_back(), haystack[at + secret.len()..].chars().next()];
                !around.into_iter().flatten().any(|neighbour| neighbour.is_ascii_alphanumeric())
            };
            let found = haystack.match_indices(secret).any(|place| secret.len() > 8 || is_alone(place));
            assert!(!found, "{what} has {secret}");
        }
    }
}

/// A whole run at TRACE, errors and Circle quoting secrets back included.
#[tokio::test]
async fn no_secret_reaches_a_log_a_record_or_an_error() {
    let log = Log::start();
    let app = App::start().await;
    let circle = &app.stack.circle;
    circle.wait_for_deliveries(1).await;
    let mut secrets = Secrets::default();
    let mut problems = String::new();
    secrets.add(PIN);
    secrets.add("445566");
    secrets.add(&app.bearer);
    secrets.add(&circle.api_key());

    // A change of PIN, with a session of its own and with one made on the way.
    let session = send(app.request("POST /session-tokens")).await.is(201).clone();
    let token = secrets.add_session(&session);
    let made = send(app.request("POST /challenges")).await;
    secrets.add_session(&made.is(201)["session"]);
    let id: Uuid = text(&made.body, "challengeId").parse().unwrap();
    circle.enter_pin(id, PinEntry { pin: Some("000000".into()), ..PinEntry::default() }).unwrap();
    let entry = PinEntry { pin: Some(PIN.into()), new_pin: Some("445566".into()), ..PinEntry::default() };
    circle.enter_pin(id, entry).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    send(app.request(&format!("GET /challenges/{id}")).header("x-user-token", &token)).await.is(200);

    // Circle refuses and quotes what it was sent; its answers have secrets where none belong.
    let open = app.challenge().await;
    let (key, encryption_key) = (circle.api_key(), text(&session, "encryptionKey"));
    let key_secret = key.rsplit(':').next().unwrap();
    let quoting =
        format!("bad call with {token} and {key}, 'Bearer {key}', key={key_secret} or \"{encryption_key}\"");
    let with_token = |call: &str| app.request(call).header("x-user-token", &token);
    for fault in [
        Fault { status: Some(403), code: Some(155_105), message: Some(quoting.clone()), ..Fault::default() },
        Fault { status: Some(400), code: Some(2), message: Some(quoting.clone()), ..Fault::default() },
        Fault { status: Some(500), times: 3, message: Some(quoting.clone()), ..Fault::default() },
        Fault {
            status: Some(200),
            body: Some(json!({ "data": { "userToken": [&token] } }).to_string()),
            ..Fault::default()
        },
        Fault { status: Some(200), body: Some(token.clone()), ..Fault::default() },
        Fault { drop: true, times: 3, ..Fault::default() },
    ] {
        for call in ["POST /challenges", &format!("GET /challenges/{open}"), "POST /session-tokens"] {
            circle.clear_faults();
            circle.add_fault(fault.clone());
            let answer = send(with_token(call)).await;
            if answer.status >= 400 {
                problems += &answer.body.to_string();
            }
            app.advance(MINUTE / 20);
        }
    }
    circle.clear_faults();
    circle.fail_challenge(open, 155_112, &quoting).unwrap();
    app.webhook_answered(open, "FAILED", 200).await;
    let mut unreadable = app.message(open, "FAILED");
    unreadable["notification"] = json!({ "id": token, "type": key, "status": encryption_key });
    problems += &app.post(&unreadable).await.body.to_string();
    problems += &app.post_bytes(quoting.as_bytes()).await.body.to_string();

    // A scheduled look, which Circle refuses with the same words.
    app.challenge().await;
    app.advance(12 * MINUTE);
    let path = Some("/v1/w3s/user".into());
    let refused =
        Fault { path, status: Some(400), message: Some(quoting.clone()), times: 4, ..Fault::default() };
    circle.add_fault(refused);
    let summary = run(&app, &function(&app)).await;
    assert!(summary.failed > 0, "{summary:?}");
    circle.clear_faults();

    // Expired and ended sessions, foreign tokens, a rotated and a malformed key, a forged webhook.
    app.advance(61 * MINUTE);
    let renewed = send(with_token("POST /challenges")).await;
    secrets.add_session(&renewed.is(201)["session"]);
    app.stack.add_user("bobby", "778899");
    let bobby = app.stack.sign_in("bobby");
    secrets.add(&bobby);
    let foreign = app.anonymous("POST /challenges").bearer_auth(bobby).header("x-user-token", &token);
    problems += &send(foreign).await.body.to_string();
    secrets.add(&circle.rotate_api_key());
    let session = send(app.request("POST /session-tokens")).await;
    secrets.add_session(session.is(201));
    secrets.add("MALFORMED_KEY:without-a-third-part-xyz");
    app.stack.secrets_manager.put(API_KEY_SECRET, "MALFORMED_KEY:without-a-third-part-xyz");
    circle.rotate_signing_key();
    app.advance(MINUTE);
    circle.add_fault(Fault { status: Some(401), code: Some(4), ..Fault::default() });
    problems += &send(app.request("GET /pin")).await.body.to_string();
    let body = app.message(id, "FAILED").to_string();
    let (key, signature) = circle.sign(body.as_bytes());
    secrets.add(&signature);
    let forged = app.webhook(&key.to_string(), &signature, body.replace("FAILED", "failed").as_bytes());
    problems += &send(forged).await.body.to_string();

    let log = log.text();
    for line in ["webhook taken in", "answered", "trying again", "must hold a Circle API key", "[user token]"]
    {
        assert!(log.contains(line), "the log has no line with {line:?}: was it captured? {log}");
    }
    secrets.are_not_in("the log", &log);
    assert!(
        ["invalid_user_token", "user_token_mismatch", "misconfigured"]
            .iter()
            .all(|code| problems.contains(code)),
        "{problems}"
    );
    secrets.are_not_in("a problem", &problems);
    for table in [CHALLENGES_TABLE, RATE_LIMITS_TABLE] {
        let scan = Client::new(&app.stack.platform.aws).scan().table_name(table);
        let items = scan.send().await.unwrap().items.unwrap();
        assert!(!items.is_empty());
        secrets.are_not_in(table, &format!("{items:?}"));
    }
    let platform = &app.stack.platform;
    app.stack.secrets_manager.put(API_KEY_SECRET, &circle.api_key());
    let create_token = shared::api::Api::new(platform).unwrap();
    let create_challenge = create_challenge::CreateChallenge::new(platform).unwrap();
    let get_challenge = get_challenge::GetChallenge::new(platform).unwrap();
    let get_pin = shared::api::Api::new(platform).unwrap();
    let reads = app.stack.secrets_manager.reads();
    tokio::join!(
        create_token.warm_up(),
        create_challenge.warm_up(),
        get_challenge.warm_up(),
        get_pin.warm_up()
    );
    assert_eq!(app.stack.secrets_manager.reads() - reads, 4, "each function holds the key now");
    let functions = format!("{create_token:?} {create_challenge:?} {get_challenge:?} {get_pin:?}");
    secrets.are_not_in("a function", &functions);
}
