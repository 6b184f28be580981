use local::circle_simulator::{Fault, PinEntry};
use local::stack::AUDIENCE;
use serde_json::{Value, json};

use crate::support::{
    App, CREATE_SESSION, DAY, FIRST_CHECK, GET_CHALLENGE, Log, MINUTE, Reconciler, SECOND, challenge_id,
    fault_of, text, with,
};

const E_MAIL: &str = "carol.smith+pin@example.com";

/// An access token of the user whose id is the e-mail address. Each claim that could be logged is one too.
fn sign_in(app: &App) -> String {
    let issuer = &app.stack.issuer;
    let claims = with(
        issuer.claims(E_MAIL, AUDIENCE, DAY),
        json!({
            "jti": E_MAIL, "sid": E_MAIL, "origin_jti": E_MAIL, "auth_time": E_MAIL, "email": E_MAIL, "name": E_MAIL,
        }),
    );
    issuer.sign(&claims)
}

/// Everything that the functions receive names a user by an e-mail address. The check of the log finds none.
#[tokio::test]
async fn no_e_mail_address_reaches_the_log() {
    let (app, reconciler) = Reconciler::start([("RESTORE_MAX_SIGN_IN_AGE_MINUTES", "5")]).await;
    let (log, circle) = (Log::start(), &app.circle);
    app.add_user(E_MAIL);
    let access_token = sign_in(&app);

    // The user changes the PIN, and makes mistakes.
    let session = app.post_session_token().bearer(&access_token).send().await.is(201).clone();
    let token = text(&session, "userToken");
    let created = app.post_challenge().bearer(&access_token).token(token).send().await;
    let id = challenge_id(created.is(201));
    let mut responses = Vec::new();
    for request in [
        app.post_challenge().key(E_MAIL),
        app.post_challenge().challenge_type(E_MAIL),
        app.post_challenge().json(json!({ "type": "CHANGE_PIN", E_MAIL: E_MAIL })),
        app.post_challenge().restore(),
        app.post_challenge().token(E_MAIL),
        app.get_challenge(E_MAIL),
        app.get_challenge(E_MAIL.replace('@', "%40")),
        app.get_challenges(&format!("?limit={E_MAIL}&{E_MAIL}={E_MAIL}")),
        app.get_challenges(&format!("?cursor={E_MAIL}")),
    ] {
        let response = request.bearer(&access_token).send().await;
        assert!(response.status >= 400, "{response:?}");
        responses.push(response.body);
    }
    app.get_pin().bearer(&access_token).send().await.is(200);
    app.get_challenges("").bearer(&access_token).send().await.is(200);

    // Circle quotes the address, in the shapes in which a text can have it.
    let encoded = E_MAIL.replace('@', "%40");
    let quoting = format!(
        "no user {E_MAIL}, '{E_MAIL}', <mailto:{E_MAIL}>, \"Carol\"@example.com, user={E_MAIL} at /users/{encoded}/pin"
    );
    let fault = |status, code| Fault {
        status: Some(status),
        code,
        message: Some(quoting.clone()),
        ..Fault::default()
    };
    for fault in [fault(404, Some(155_102)), fault(400, Some(2)), fault(403, Some(155_105)), fault(400, None)]
    {
        for request in [
            app.post_session_token(),
            app.post_challenge(),
            app.get_pin(),
            app.get_challenge(id).token(token),
        ] {
            circle.clear_faults();
            circle.add_fault(fault.clone());
            responses.push(request.bearer(&access_token).send().await.body);
            app.advance(5 * SECOND);
        }
    }
    circle.clear_faults();

    // Webhooks name another user, and quote the address.
    let report =
        |status: &str, changes: Value| with(app.message(id, status), json!({ "notification": changes }));
    let other = report("IN_PROGRESS", json!({ "userId": "dave@example.com" }));
    assert_eq!(app.post_webhook(&other).await.outcome(), "applied");
    let unreadable = report("FAILED", json!({ "id": E_MAIL, "type": "CHANGE_PIN" }));
    responses.push(app.post_webhook(&unreadable).await.body);
    responses.push(app.post_signed(E_MAIL.as_bytes()).await.body);
    responses.push(app.webhook(E_MAIL, E_MAIL, E_MAIL.as_bytes()).send().await.body);
    let failed = report("FAILED", json!({ "userId": E_MAIL, "errorCode": 155_112, "errorMessage": quoting }));
    assert_eq!(app.post_webhook(&failed).await.outcome(), "applied");
    assert_eq!(app.record(id).await["circleMessage"].as_str().unwrap().matches("[redacted]").count(), 6);

    // Reconciliation fails for the user, and then settles the challenge.
    let created = app.post_challenge().bearer(&access_token).send().await;
    let id = challenge_id(created.is(201));
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(FIRST_CHECK);
    for call in [CREATE_SESSION, GET_CHALLENGE] {
        let error =
            Fault { status: Some(400), code: Some(2), message: Some(quoting.clone()), ..fault_of(call) };
        circle.add_fault(error);
        assert_eq!(reconciler.run().await.failed, 1);
        app.advance(DAY);
    }
    assert_eq!(reconciler.run().await.settled, 1);
    // An operator resumes challenges with something that is not an id, and publishes their events again.
    let event = json!({ "challengeIds": [E_MAIL] });
    let resumed = reconciler.invoke(event.clone(), MINUTE).await;
    responses.push(resumed.unwrap_or_else(Value::from));
    let published = app.announce(event, MINUTE).await;
    responses.push(published.unwrap_or_else(Value::from));

    // A record that cannot be announced names the user.
    let unreadable = json!({
        "challengeId": E_MAIL, "type": E_MAIL, "status": E_MAIL, "rank": 3, "userId": E_MAIL,
        "requestedAt": "2026-01-01T12:00:00Z", "updatedAt": E_MAIL,
    });
    app.put_record(unreadable).await;
    assert_eq!(app.unreadable_records().await.len(), 1);

    assert!(!json!(responses).to_string().contains("example.com"), "{responses:?}");
    let log = log.text();
    for part in
        ["[redacted]", "unreadable_record", "report_of_another_user", "check_failed", "sign_in_required"]
    {
        assert!(log.contains(part), "the log does not contain {part}: was it captured? {log}");
    }
}
