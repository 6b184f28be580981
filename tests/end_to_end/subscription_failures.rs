use std::time::Duration;

use local::circle_simulator::Fault;
use local::environment::API_KEY_SECRET;
use serde_json::json;

use crate::support::{Deployment, SECOND};

/// Circle's response to the next calls.
fn error(status: u16, code: i32) -> Fault {
    Fault { status: Some(status), code: Some(code), times: 1000, ..Fault::default() }
}

#[tokio::test]
async fn failed_deployment_says_what_to_do() {
    let mut stack = Deployment::start().await;
    stack.timeout = 40 * SECOND;
    let webhook = stack.new_webhook();
    for (method, fault, reason) in [
        (
            "GET",
            Fault { drop: true, times: 100, ..Fault::default() },
            "Circle cannot be reached. Deploy again once it can.",
        ),
        (
            "GET",
            Fault { delay_ms: 60_000, times: 100, ..Fault::default() },
            "Circle did not respond in time. Deploy again later.",
        ),
        ("POST", error(503, -1), "Circle is unavailable (status 503, code -1). Deploy again later."),
        (
            "GET",
            error(401, 4),
            "Circle rejects the API key (status 401, code 4). Put a key into the secret that may manage webhook subscriptions, then deploy again.",
        ),
        (
            "POST",
            error(403, 3),
            "Circle rejects the API key (status 403, code 3). Put a key into the secret that may manage webhook subscriptions, then deploy again.",
        ),
        (
            "GET",
            Fault { status: Some(200), body: Some("<html>".into()), times: 100, ..Fault::default() },
            "Circle's response (200) cannot be read. Deploy again, and report it if it keeps happening.",
        ),
    ] {
        stack.add_fault(method, fault);
        assert_eq!(stack.fail("Create", None, &webhook).await, reason);
        stack.app.circle.clear_faults();
        // The process has used up its retries.
        stack.restart_with(&[]);
    }
    assert_eq!(stack.subscribed(&webhook), [""; 0]);
    let id = stack.succeed("Create", None, &webhook).await;
    stack.add_fault("GET", error(401, 4));
    stack.fail("Update", Some(&id), &webhook).await;
    assert_eq!(stack.log.count(&[r#""level":"ERROR""#]), 7, "each failure is logged once");
}

#[tokio::test]
async fn creation_that_may_have_taken_effect_is_reported_as_left_behind() {
    let mut stack = Deployment::start().await;
    stack.timeout = 40 * SECOND;
    let webhook = stack.new_webhook();
    let left_behind = [r#""metric":"subscription_left_behind""#, webhook.as_str()];
    // A rejected creation has no effect.
    stack.add_fault("POST", error(400, 2));
    stack.fail("Update", Some("old"), &webhook).await;
    assert_eq!(stack.log.count(&left_behind), 0, "{}", stack.log.text());
    stack.app.circle.clear_faults();

    // The response to the creation comes when the function has no time left.
    stack.timeout = 25 * SECOND;
    stack.add_fault("POST", Fault { delay_ms: 600_000, after_effect: true, ..Fault::default() });
    stack.fail("Update", Some("old"), &webhook).await;
    assert_eq!(stack.subscribed(&webhook).len(), 1);
    assert_eq!(stack.log.count(&left_behind), 1, "{}", stack.log.text());
}

#[tokio::test]
async fn unusable_setup_is_explained() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    for (name, value, reason) in [
        (
            "CIRCLE_API_KEY_SECRET_ID",
            "no-such-secret",
            "There is no usable Circle API key: the secret no-such-secret could not be read from Secrets Manager (request id REQUEST-ID). Make sure that the secret exists, then deploy again.",
        ),
        (
            "CIRCLE_ENVIRONMENT",
            "LIVE",
            "There is no usable Circle API key: the secret circle-api-key holds a TEST Circle API key, but CIRCLE_ENVIRONMENT is LIVE. Correct the secret, then deploy again.",
        ),
        (
            "CIRCLE_API_KEY_SECRET_ID",
            "",
            "The function's setting CIRCLE_API_KEY_SECRET_ID is not set: give the name or ARN of the Secrets Manager secret that holds the Circle API key. Set it and deploy again.",
        ),
    ] {
        stack.timeout = 40 * SECOND;
        stack.restart_with(&[(name, value)]);
        let actual = stack.fail("Create", None, &webhook).await;
        let request_id = actual.split("(request id ").nth(1).and_then(|rest| rest.split(')').next());
        assert_eq!(actual.replace(request_id.unwrap_or("no request id"), "REQUEST-ID"), reason);
        stack.succeed("Delete", Some("not-created"), &webhook).await;
    }
    // A function whose Circle is elsewhere does not run on one machine, and sends nothing to a loopback address.
    stack.restart_with(&[("CIRCLE_BASE_URL", "https://circle.example.com"), ("WEBHOOK_URL", "")]);
    let unsent = stack.run(stack.event("Create", None, &webhook)).await.unwrap_err();
    assert!(unsent.contains("ResponseURL is not a URL of CloudFormation"), "{unsent}");
    stack.restart_with(&[("WEBHOOK_URL", "")]);
    let reason = stack.fail("Create", None, &webhook).await;
    assert!(reason.starts_with("The function's setting WEBHOOK_URL is not set"), "{reason}");
    let result = stack.run(json!({ "RequestType": "Create" })).await.unwrap();
    assert!(result["Reason"].as_str().unwrap().starts_with(&reason), "{result}");

    stack.restart_with(&[]);
    stack.app.stack.secrets_manager.put(API_KEY_SECRET, "malformed");
    let reason = stack.fail("Create", None, &webhook).await;
    assert!(reason.contains(API_KEY_SECRET), "{reason}");
}

#[tokio::test]
async fn endpoint_that_circle_cannot_use_is_rejected() {
    let mut stack = Deployment::start().await;
    // This route exists, but does not respond to HEAD, as Circle demands.
    let elsewhere = format!("{}/pin", stack.app.stack.api.url());
    stack.manage(&elsewhere);
    stack.timeout = 40 * SECOND;
    assert_eq!(
        stack.fail("Create", None, &elsewhere).await,
        "Circle rejects the subscription (status 400, code 2). It must be able to reach the Endpoint, which responds to HEAD with 200."
    );
    assert_eq!(stack.fail("Upsert", None, &elsewhere).await, "RequestType must be Create, Update or Delete.");
}

#[tokio::test]
async fn stack_can_be_deleted_despite_any_failure() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let id = stack.succeed("Create", None, &webhook).await;
    let unreachable = Fault { drop: true, times: 1000, ..Fault::default() };
    stack.timeout = 40 * SECOND;
    let hanging = Fault { delay_ms: 3_600_000, times: 1000, ..Fault::default() };
    for fault in [unreachable, hanging, error(401, 4), error(403, 3)] {
        stack.add_fault("DELETE", fault);
        stack.succeed("Delete", Some(&id), &webhook).await;
        stack.app.circle.clear_faults();
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

    let left_behind = r#""metric":"subscription_left_behind""#;
    assert_eq!(stack.log.count(&[left_behind]), 9, "{}", stack.log.text());
    assert_eq!(
        stack.log.count(&[left_behind, &id, r#""invocation_id":"invocation-1""#]),
        9,
        "{}",
        stack.log.text()
    );
}

#[tokio::test]
async fn result_that_cloudformation_does_not_accept_is_sent_again_and_then_left_to_lambda() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    stack.respond_to_puts([500, 0, 503]);
    let id = stack.succeed("Create", None, &webhook).await;
    assert_eq!(stack.puts().len(), 4);

    stack.respond_to_puts([403]);
    let rejected = stack.run(stack.event("Update", Some(&id), &webhook)).await.unwrap_err();
    assert!(rejected.contains("403 Forbidden"), "{rejected}");
    assert_eq!(stack.puts().len(), 5);

    stack.respond_to_puts([0; 4]);
    let event = stack.event("Update", Some(&id), &webhook);
    let (late, took) = stack.timed(stack.run(event)).await;
    assert!(late.unwrap_err().contains("in time"));
    assert!(took < 15 * SECOND, "{took:?}");

    // Lambda runs the event again.
    assert_eq!(stack.succeed("Update", Some(&id), &webhook).await, id);
    assert_eq!(stack.subscribed(&webhook), [id]);
}

#[tokio::test]
async fn result_is_sent_before_lambda_ends_the_function() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    stack.add_fault("POST", Fault { delay_ms: 600_000, times: 100, ..Fault::default() });
    // Five seconds leave time only for sending the result.
    for (timeout, limit) in [(120, 112), (20, 12), (5, 0)] {
        stack.timeout = Duration::from_secs(timeout);
        let (reason, took) = stack.timed(stack.fail("Create", None, &webhook)).await;
        assert!(reason.contains("in time"), "{reason}");
        assert!(took <= limit * SECOND, "{took:?} with a timeout of {timeout} s");
    }
    stack.succeed("Delete", Some("b04046ff-3aac-4ae1-ac07-7eb0d7892520"), &webhook).await;
}

#[tokio::test]
async fn error_about_a_pre_signed_url_does_not_contain_it() {
    let stack = Deployment::start().await;
    for url in [
        "http://127.0.0.1:1/?X-Amz-Signature=0123456789abcdef-pre-signed",
        "https://example.com/?X-Amz-Signature=0123456789abcdef-pre-signed",
        "http://example.com/",
        "?",
    ] {
        let mut event = stack.event("Delete", None, "");
        event["ResponseURL"] = url.into();
        let error = stack.run(event).await.unwrap_err();
        assert!(error.contains("CloudFormation") && !error.contains("pre-signed"), "{error}");
    }
    assert_eq!(stack.log.count(&[r#""level":"ERROR""#]), 4, "{}", stack.log.text());
}

#[tokio::test]
async fn response_is_sent_to_cloudformation_only() {
    let mut stack = Deployment::start().await;
    // On one machine a response may go to a loopback address. In the cloud it may not.
    stack.restart_with(&[("CIRCLE_BASE_URL", "https://circle.example.com")]);
    let error = stack.run(stack.event("Delete", None, "")).await.unwrap_err();
    assert!(error.contains("ResponseURL is not a URL of CloudFormation in this region"), "{error}");
    assert!(stack.puts().is_empty());
}

#[tokio::test]
async fn manual_invocation_returns_the_result() {
    let mut stack = Deployment::start().await;
    stack.manage(&stack.webhook());
    let event = json!({ "RequestType": "Create", "ResourceProperties": { "Endpoint": stack.webhook() } });
    let [id] = &stack.subscribed(&stack.webhook())[..] else { panic!() };
    let result = stack.run(event).await.unwrap();
    assert_eq!(result, json!({ "Status": "SUCCESS", "PhysicalResourceId": id }));
    assert!(stack.puts().is_empty());
}
