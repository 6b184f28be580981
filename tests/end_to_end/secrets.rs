use local::circle_simulator::{Fault, PinEntry};
use local::dynamodb::{CHALLENGES_TABLE, RATE_LIMITS_TABLE};
use local::environment::API_KEY_SECRET;
use serde_json::json;
use shared::api::Api;

use crate::support::{
    App, FIRST_CHECK, Log, MINUTE, PIN, Reconciler, SECOND, assert_no_secret, challenge_id, in_time, text,
    with,
};

/// The log has level TRACE, and the errors include some in which Circle quotes secrets.
#[tokio::test]
async fn no_secret_reaches_a_log_a_record_or_an_error() {
    let log = Log::start();
    let app = App::start().await;
    let circle = &app.circle;
    app.wait_for_webhooks(1).await;
    let mut problems = String::new();

    // A PIN is changed. One session is requested, and another one comes with the challenge.
    let session = app.post_session_token().send().await.is(201).clone();
    let token = text(&session, "userToken").to_owned();
    let created = app.post_challenge().send().await;
    let id = challenge_id(created.is(201));
    circle.enter_pin(id, PinEntry::typed("000000")).unwrap();
    circle.enter_pin(id, PinEntry { new_pin: Some("445566".into()), ..PinEntry::typed(PIN) }).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    app.get_challenge(id).token(&token).send().await.is(200);

    // Circle quotes what it received in its errors, and its responses have secrets in unexpected places.
    let open = app.create_challenge().await;
    let (key, encryption_key) = (circle.api_key(), text(&session, "encryptionKey"));
    let key_secret = key.rsplit(':').next().unwrap();
    let quoting =
        format!("bad call with {token} and {key}, 'Bearer {key}', key={key_secret} or \"{encryption_key}\"");
    let message = || Some(quoting.clone());
    let unexpected = Some(json!({ "data": { "userToken": [&token] } }).to_string());
    for fault in [
        Fault { status: Some(403), code: Some(155_105), message: message(), ..Fault::default() },
        Fault { status: Some(400), code: Some(2), message: message(), ..Fault::default() },
        Fault { status: Some(500), times: 3, message: message(), ..Fault::default() },
        Fault { status: Some(200), body: unexpected, ..Fault::default() },
        Fault { status: Some(200), body: Some(token.clone()), ..Fault::default() },
        Fault { drop: true, times: 3, ..Fault::default() },
    ] {
        for request in [app.post_challenge(), app.get_challenge(open), app.post_session_token()] {
            circle.clear_faults();
            circle.add_fault(fault.clone());
            let response = request.token(&token).send().await;
            if response.status >= 400 {
                problems += &response.body.to_string();
            }
            app.advance(3 * SECOND);
        }
    }
    circle.clear_faults();
    circle.fail_challenge(open, 155_112, &quoting).unwrap();
    app.wait_for_webhook(open, "FAILED", 200).await;
    let notification = json!({ "id": token, "type": key, "status": encryption_key });
    let unreadable = with(app.message(open, "FAILED"), json!({ "notification": notification }));
    problems += &app.post_webhook(&unreadable).await.body.to_string();
    problems += &app.post_signed(quoting.as_bytes()).await.body.to_string();

    // Circle quotes the same secrets to reconciliation.
    app.create_challenge().await;
    app.advance(FIRST_CHECK);
    let path = Some("/v1/w3s/user".into());
    circle.add_fault(Fault { path, status: Some(400), message: message(), times: 4, ..Fault::default() });
    let summary = Reconciler::of(&app).run().await;
    assert!(summary.failed > 0, "{summary:?}");
    circle.clear_faults();

    // Sessions expire and end, a token is another user's, a key is rotated, another one is malformed, and a webhook
    // is forged.
    app.advance(61 * MINUTE);
    app.post_challenge().token(&token).send().await.is(201);
    let bobby = app.add_user("bobby");
    problems += &app.post_challenge().bearer(&bobby).token(&token).send().await.body.to_string();
    circle.rotate_api_key();
    app.post_session_token().send().await.is(201);
    app.stack.secrets_manager.put(API_KEY_SECRET, "MALFORMED_KEY:without-a-third-part-xyz");
    circle.rotate_signing_key();
    app.advance(MINUTE);
    circle.add_fault(Fault { status: Some(401), code: Some(4), ..Fault::default() });
    problems += &app.get_pin().send().await.body.to_string();
    let body = app.message(id, "FAILED").to_string();
    let (key_id, signature) = circle.sign(body.as_bytes());
    let forged = app.webhook(key_id, &signature, body.replace("FAILED", "failed").as_bytes());
    problems += &forged.send().await.body.to_string();

    let log = log.text();
    // Accepted webhooks, retries, rejected secrets and redacted tokens must have been logged.
    for part in [r#""outcome":"#, r#""call":"#, API_KEY_SECRET, "[user token]"] {
        assert!(log.contains(part), "the log does not contain {part}: was it captured? {log}");
    }
    for code in ["invalid_user_token", "user_token_mismatch", "misconfigured"] {
        assert!(problems.contains(code), "{problems}");
    }
    assert_no_secret("a problem", &problems);
    for table in [CHALLENGES_TABLE, RATE_LIMITS_TABLE] {
        let items = app.table_items(table).await;
        assert!(!items.is_empty());
        assert_no_secret(table, &json!(items).to_string());
    }
    let events = app.events().await;
    assert!(events.iter().any(|event| event["detail"]["status"] == "FAILED"), "{events:?}");
    assert_no_secret("an event", &json!(events).to_string());
    let platform = &app.stack.platform;
    app.stack.secrets_manager.put(API_KEY_SECRET, &circle.api_key());
    let create_token = Api::new(platform).unwrap();
    let create_challenge = create_challenge::CreateChallenge::new(platform).unwrap();
    let get_challenge = get_challenge::GetChallenge::new(platform).unwrap();
    let get_pin = Api::new(platform).unwrap();
    let reads = app.stack.secrets_manager.reads();
    in_time(async {
        tokio::join!(
            create_token.warm_up(),
            create_challenge.warm_up(),
            get_challenge.warm_up(),
            get_pin.warm_up()
        )
    })
    .await;
    assert_eq!(app.stack.secrets_manager.reads() - reads, 4, "each function holds the key now");
    let functions = format!("{create_token:?} {create_challenge:?} {get_challenge:?} {get_pin:?}");
    assert_no_secret("a function", &functions);
}
