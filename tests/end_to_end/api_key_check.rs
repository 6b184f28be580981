use local::circle_simulator::{Access, Fault};
use local::environment::API_KEY_SECRET;
use serde_json::{Value, json};

use crate::support::{Deployment, Log, SECOND, SUBSCRIPTIONS, text, with};

const DETAILS: &str = " Details: CloudWatch log group ";

/// An event of the resource, with these properties beside those that every stack has.
fn event(stack: &Deployment, request_type: &str, properties: Value) -> Value {
    let usual = json!({
        "ServiceToken": "arn:aws:lambda:...",
        "CircleApiKeySecretArn": API_KEY_SECRET,
        "WebhookApiKeySecretArn": "",
        "SubscriptionApiKeySecretArn": "",
        "ManageSubscription": "true",
    });
    with(
        stack.event(request_type, None, ""),
        json!({
            "ResourceType": "Custom::CircleApiKeyCheck",
            "LogicalResourceId": "CircleApiKeyCheck",
            "ResourceProperties": with(usual, properties),
        }),
    )
}

/// A stack whose function has the timeout and the settings of the check. It has no `WEBHOOK_URL`.
async fn start() -> Deployment {
    let mut stack = Deployment::start().await;
    stack.timeout = 60 * SECOND;
    stack.restart_with(&[("WEBHOOK_URL", "")]);
    stack
}

async fn succeed(stack: &Deployment, request_type: &str, properties: Value) {
    let result = stack.run(event(stack, request_type, properties)).await.unwrap();
    assert_eq!((&result["Status"], &result["Reason"]), (&json!("SUCCESS"), &Value::Null), "{result}");
    if request_type != "Delete" {
        assert_eq!(result["PhysicalResourceId"], "circle-api-keys");
    }
}

/// Why a deployment with these properties fails, without the place of the log and with a fixed request id.
async fn fail(stack: &Deployment, properties: Value) -> String {
    let result = stack.run(event(stack, "Create", properties)).await.unwrap();
    assert_eq!((text(&result, "Status"), text(&result, "PhysicalResourceId")), ("FAILED", "not-created"));
    let reason = text(&result, "Reason").split(DETAILS).next().unwrap();
    let request_id = reason.split("(request id ").nth(1).and_then(|rest| rest.split(')').next());
    reason.replace(request_id.unwrap_or("no request id"), "ID")
}

#[tokio::test]
async fn one_key_for_everything_is_tried_for_each_purpose_without_a_write() {
    let stack = start().await;
    let before = stack.app.circle.subscriptions();
    succeed(&stack, "Create", json!({})).await;
    succeed(&stack, "Update", json!({})).await;
    let count = |call: &str| stack.app.circle.call_count(call);
    assert_eq!(count("GET /v1/w3s/users/{userId}"), 2);
    assert_eq!(count(&format!("GET {SUBSCRIPTIONS}")), 2);
    for call in ["POST /v1/w3s/users/token", "POST /v1/w3s/users", &format!("POST {SUBSCRIPTIONS}")] {
        assert_eq!(count(call), 0, "{call}");
    }
    assert_eq!(stack.app.circle.subscriptions(), before);
    assert_eq!(stack.log.count(&["Circle accepts the API key", "CircleApiKeySecretArn"]), 6);
}

#[tokio::test]
async fn deletion_does_nothing() {
    let mut stack = start().await;
    stack.restart_with(&[("CIRCLE_API_KEY_SECRET_ID", ""), ("WEBHOOK_URL", "")]);
    let before = stack.app.circle.call_count("GET /v1/w3s/users/{userId}");
    let log = Log::start();
    succeed(&stack, "Delete", json!({ "CircleApiKeySecretArn": "no-such-secret" })).await;
    assert_eq!(log.metrics(), [] as [&str; 0], "nothing was left behind");
    assert_eq!(stack.app.circle.call_count("GET /v1/w3s/users/{userId}"), before);
}

#[tokio::test]
async fn each_unusable_key_is_named_by_its_parameter() {
    let stack = start().await;
    let put = |name: &str, secret: &str| stack.app.stack.secrets_manager.put(name, secret);
    put("malformed", "malformed-and-secret");
    put("live", "LIVE_API_KEY:a:b");
    put("revoked", "TEST_API_KEY:a:b");
    let missing = "the secret no-such-secret could not be read from Secrets Manager (request id ID). The parameter PARAMETER must be the ARN of a secret that exists in this account and region. If a customer managed key encrypts it, CircleApiKeySecretKmsKeyArn must be the ARN of that key. Correct the parameters, then deploy again.";
    let malformed = r#"the secret malformed must hold a Circle API key, PREFIX:ID:SECRET, as text or as JSON {"apiKey": ...}. Correct the secret of the parameter PARAMETER, then deploy again."#;
    let live = "the secret live holds a LIVE Circle API key, but CIRCLE_ENVIRONMENT is TEST. Set the parameter CircleEnvironment to the environment of the key, or store another key in the secret of PARAMETER. Then deploy again.";
    let revoked = r#"Circle rejects the API key in the secret of PARAMETER (status 401, code 4). Store a valid key with the permission "PERMISSION" there, then deploy again."#;
    let mut stack = stack;
    stack.restart_with(&[("WEBHOOK_URL", ""), ("CIRCLE_ENVIRONMENT", "TEST")]);
    for (parameter, permission) in [
        ("CircleApiKeySecretArn", "Wallets: read and write"),
        ("WebhookApiKeySecretArn", "Webhooks: read"),
        ("SubscriptionApiKeySecretArn", "Webhooks: read and write"),
    ] {
        for (secret, expected) in
            [("no-such-secret", missing), ("malformed", malformed), ("live", live), ("revoked", revoked)]
        {
            let reason = fail(&stack, json!({ (parameter): secret })).await;
            let expected = expected.replace("PARAMETER", parameter).replace("PERMISSION", permission);
            assert_eq!(reason, expected);
        }
    }
    // Nothing uses this key.
    let unused = json!({ "SubscriptionApiKeySecretArn": "revoked", "ManageSubscription": "false" });
    succeed(&stack, "Create", unused).await;
}

#[tokio::test]
async fn missing_permission_is_named() {
    let stack = start().await;
    let restrict = |wallets, webhooks| {
        stack
            .app
            .circle
            .set_knobs(|knobs| (knobs.api_key_wallets, knobs.api_key_webhooks) = (wallets, webhooks));
    };
    restrict(Access::None, Access::ReadWrite);
    assert_eq!(
        fail(&stack, json!({})).await,
        r#"The API key in the secret of CircleApiKeySecretArn has no permission for users and challenges (status 403, code 3). Give it the permission "Wallets: read and write" at Circle, then deploy again."#
    );
    restrict(Access::ReadWrite, Access::None);
    assert_eq!(
        fail(&stack, json!({})).await,
        r#"The API key in the secret of CircleApiKeySecretArn has no permission for the public keys of webhooks (status 403, code 3). Give it the permission "Webhooks: read" at Circle, then deploy again."#
    );
    restrict(Access::Read, Access::Read);
    succeed(&stack, "Create", json!({ "ManageSubscription": "false" })).await;

    stack.app.circle.set_knobs(|knobs| knobs.api_key_addresses.push("192.0.2.1".parse().unwrap()));
    assert_eq!(
        fail(&stack, json!({})).await,
        "Circle rejects the API key in the secret of CircleApiKeySecretArn for users and challenges (status 403). If the key has a list of allowed addresses, remove the list. Then deploy again."
    );
}

#[tokio::test]
async fn outage_of_circle_is_waited_for() {
    let stack = start().await;
    let fault = |times| Fault { status: Some(503), times, ..Fault::default() };
    stack.app.circle.add_fault(fault(5));
    succeed(&stack, "Create", json!({})).await;
    stack.app.circle.add_fault(fault(1000));
    let unavailable = "Circle is unavailable (status 503, code -1). Deploy again later.";
    assert_eq!(fail(&stack, json!({})).await, unavailable);
    stack.app.circle.clear_faults();
    let page = Fault { status: Some(404), body: Some("<html>".to_owned()), times: 1000, ..Fault::default() };
    stack.app.circle.add_fault(page);
    assert_eq!(
        fail(&stack, json!({})).await,
        "Circle's response to a check of the API key in the secret of CircleApiKeySecretArn is unexpected (status 404). Deploy again, and report it if it keeps happening."
    );
    stack.app.circle.clear_faults();
    stack.app.circle.add_fault(Fault { drop: true, times: 1000, ..Fault::default() });
    assert_eq!(fail(&stack, json!({})).await, "Circle cannot be reached. Deploy again once it can.");
}

#[tokio::test]
async fn invalid_setting_is_named() {
    let mut stack = start().await;
    for (name, value, expected) in [
        ("CIRCLE_SOURCE_IPS", "192.0.2.999", "The function's setting CIRCLE_SOURCE_IPS must be"),
        ("CIRCLE_ENVIRONMENT", "PROD", "The function's setting CIRCLE_ENVIRONMENT must be TEST or LIVE"),
    ] {
        stack.restart_with(&[(name, value), ("WEBHOOK_URL", "")]);
        let reason = fail(&stack, json!({})).await;
        assert!(reason.starts_with(expected), "{reason}");
    }
}
