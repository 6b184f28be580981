use std::time::Duration;

use local::circle_simulator::Fault;
use local::stack::API_KEY_SECRET;
use serde_json::json;
use shared::clock::Clock;

use crate::deployment::Deployment;

/// A call that Circle refuses for its API key.
fn key_refused(times: u32) -> Fault {
    Fault {
        status: Some(401),
        code: Some(4),
        message: Some("Unauthorized".into()),
        times,
        ..Fault::default()
    }
}

#[tokio::test]
async fn a_deployment_that_fails_says_what_to_do() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    for (method, fault, reason) in [
        (
            "GET",
            Fault { drop: true, times: 100, ..Fault::default() },
            "Circle could not be reached. Deploy again once it can.",
        ),
        (
            "GET",
            Fault { delay_ms: 60_000, times: 100, ..Fault::default() },
            "Circle did not answer in time. Deploy again later.",
        ),
        (
            "POST",
            Fault { status: Some(503), code: Some(-1), times: 100, ..Fault::default() },
            "Circle cannot take the call just now (status 503, code -1). Deploy again later.",
        ),
        (
            "GET",
            key_refused(100),
            "Circle refuses the API key (status 401, code 4). Put one into the secret that may manage webhook subscriptions, then deploy again.",
        ),
        (
            "POST",
            Fault { status: Some(403), code: Some(3), times: 100, ..Fault::default() },
            "Circle refuses the API key (status 403, code 3). Put one into the secret that may manage webhook subscriptions, then deploy again.",
        ),
        (
            "GET",
            Fault { status: Some(200), body: Some("<html>".into()), times: 100, ..Fault::default() },
            "Circle's answer (200) could not be read. Deploy again, and report it if it stays.",
        ),
    ] {
        stack.fault(method, fault);
        assert_eq!(stack.fail("Create", None, &webhook).await, reason);
        stack.app.stack.circle.clear_faults();
        // What the process allows itself in repeats is used up.
        stack.restart_with(&[]);
    }
    assert_eq!(stack.subscribed(&webhook), [""; 0]);
    let id = stack.succeed("Create", None, &webhook).await;
    stack.fault("GET", key_refused(100));
    stack.fail("Update", Some(&id), &webhook).await;
    assert_eq!(stack.log.text().matches("the endpoint could not be subscribed").count(), 7, "each once");
}

#[tokio::test]
async fn a_stack_that_is_not_set_up_is_told_how() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    for (name, value, reason) in [
        (
            "CIRCLE_API_KEY_SECRET_ID",
            "no-such-secret",
            "There is no Circle API key: the secret no-such-secret could not be read from Secrets Manager (request id REQUEST-ID). Make sure that the secret exists, then deploy again.",
        ),
        (
            "CIRCLE_ENVIRONMENT",
            "LIVE",
            "There is no usable Circle API key: the secret circle-api-key holds a TEST Circle API key, and CIRCLE_ENVIRONMENT asks for a LIVE one. Correct the secret, then deploy again.",
        ),
        (
            "CIRCLE_API_KEY_SECRET_ID",
            "",
            "The function's setting CIRCLE_API_KEY_SECRET_ID is not set: give the name or ARN of the Secrets Manager secret that holds the Circle API key. Set it and deploy again.",
        ),
    ] {
        stack.restart_with(&[(name, value)]);
        let told = stack.fail("Create", None, &webhook).await;
        let request_id = told.split("(request id ").nth(1).and_then(|rest| rest.split(')').next());
        assert_eq!(told.replace(request_id.unwrap_or("none of its own"), "REQUEST-ID"), reason);
        stack.succeed("Delete", Some("not-created"), &webhook).await;
    }
    stack.restart_with(&[]);
    stack.app.stack.secrets_manager.put(API_KEY_SECRET, "malformed");
    let reason = stack.fail("Create", None, &webhook).await;
    assert!(reason.contains("the secret circle-api-key must hold a Circle API key"), "{reason}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_one_is_refused() {
    let stack = Deployment::start().await;
    for endpoint in ["http://api.example.com/webhooks/circle", "api.example.com", ""] {
        let reason = stack.fail("Create", None, endpoint).await;
        assert_eq!(reason, "The property Endpoint must be the webhook's https URL.");
    }
    assert_eq!(stack.calls("GET"), 0);
    // There, but not what Circle asks for.
    let elsewhere = format!("{}/pin", stack.app.stack.api.url());
    assert_eq!(
        stack.fail("Create", None, &elsewhere).await,
        "Circle refuses the subscription (status 400, code 2). It has to be able to reach the Endpoint, which answers HEAD with 200."
    );
    assert_eq!(stack.fail("Upsert", None, &elsewhere).await, "RequestType must be Create, Update or Delete.");
}

#[tokio::test]
async fn nothing_keeps_a_stack_from_being_deleted() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let id = stack.succeed("Create", None, &webhook).await;
    let circle_down = Fault { drop: true, times: 1000, ..Fault::default() };
    let no_answer = Fault { delay_ms: 3_600_000, times: 1000, ..Fault::default() };
    let forbidden = Fault { status: Some(403), code: Some(3), times: 1000, ..Fault::default() };
    for fault in [circle_down, no_answer, key_refused(1000), forbidden] {
        stack.fault("DELETE", fault);
        stack.succeed("Delete", Some(&id), &webhook).await;
        stack.app.stack.circle.clear_faults();
    }
    for (name, value) in [
        ("CIRCLE_API_KEY_SECRET_ID", "no-such-secret"),
        ("CIRCLE_API_KEY_SECRET_ID", ""),
        ("CIRCLE_ENVIRONMENT", "LIVE"),
        ("CIRCLE_BASE_URL", "http://127.0.0.1:1"),
    ] {
        stack.restart_with(&[(name, value)]);
        stack.succeed("Delete", Some(&id), &webhook).await;
    }
    stack.restart_with(&[]);
    stack.app.stack.secrets_manager.put(API_KEY_SECRET, "malformed");
    stack.succeed("Delete", Some(&id), &webhook).await;
    assert_eq!(stack.subscribed(&webhook), [id.as_str()]);

    let log = stack.log.text();
    let left: Vec<&str> = log.lines().filter(|line| line.contains("remove it there by hand")).collect();
    assert_eq!(left.len(), 9, "{log}");
    for part in [id.as_str(), "invocation-1", r#""metric":"subscription_left_behind""#] {
        assert!(left.iter().all(|line| line.contains(part)), "{part}: {left:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_sent_again_and_then_left_to_lambda() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    stack.answer_puts([500, 0, 503]);
    let id = stack.succeed("Create", None, &webhook).await;
    assert_eq!(stack.puts().len(), 4);

    stack.answer_puts([403]);
    let refused = stack.run(stack.event("Update", Some(&id), &webhook)).await.unwrap_err();
    assert!(refused.starts_with("CloudFormation's answer to the result was 403 Forbidden"), "{refused}");
    assert_eq!(stack.puts().len(), 5);

    stack.answer_puts([0; 4]);
    let before = stack.app.stack.clock.now();
    let late = stack.run(stack.event("Update", Some(&id), &webhook)).await.unwrap_err();
    assert!(late.starts_with("CloudFormation did not take the result in time"), "{late}");
    assert!(stack.app.stack.clock.now() - before < Duration::from_secs(15));

    // Lambda runs the event again.
    assert_eq!(stack.succeed("Update", Some(&id), &webhook).await, id);
    assert_eq!(stack.subscribed(&webhook), [id]);
}

#[tokio::test]
async fn an_answer_comes_before_lambda_ends_the_function() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    stack.fault("POST", Fault { delay_ms: 600_000, times: 100, ..Fault::default() });
    // With 5 seconds there is time for the answer alone.
    for (timeout, answered) in [(60, 52), (20, 12), (5, 0)] {
        stack.timeout = Duration::from_secs(timeout);
        let before = stack.app.stack.clock.now();
        let reason = stack.fail("Create", None, &webhook).await;
        assert_eq!(reason, "Circle did not answer in time. Deploy again later.");
        assert!(stack.app.stack.clock.now() - before <= Duration::from_secs(answered), "with {timeout} s");
    }
    stack.succeed("Delete", Some("b04046ff-3aac-4ae1-ac07-7eb0d7892520"), &webhook).await;
}

#[tokio::test]
async fn nobody_learns_a_pre_signed_url_that_leads_nowhere() {
    let stack = Deployment::start().await;
    for url in ["http://127.0.0.1:1/?X-Amz-Signature=0123456789abcdef-pre-signed", "http://example.com/", "?"]
    {
        let mut event = stack.event("Delete", None, "");
        event["ResponseURL"] = url.into();
        let error = stack.run(event).await.unwrap_err();
        assert!(error.contains("CloudFormation") && !error.contains("pre-signed"), "{error}");
    }
    assert_eq!(stack.log.text().matches("the answer could not be delivered").count(), 3);
}

#[tokio::test]
async fn a_call_by_hand_is_answered_at_once() {
    let stack = Deployment::start().await;
    let event = json!({ "RequestType": "Create", "ResourceProperties": { "Endpoint": stack.webhook() } });
    let [id] = &stack.subscribed(&stack.webhook())[..] else { panic!() };
    let answer = stack.run(event).await.unwrap();
    assert_eq!(answer, json!({ "Status": "SUCCESS", "PhysicalResourceId": id }));
    assert!(stack.puts().is_empty());
}
