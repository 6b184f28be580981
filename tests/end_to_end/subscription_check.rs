use local::circle_simulator::{Access, Fault};
use serde_json::{Value, json};

use crate::support::{Deployment, SECOND, SUBSCRIPTIONS};

/// What the function finds out, and how often it has logged each of the two metrics since the start.
async fn check(stack: &Deployment) -> (Value, [usize; 2]) {
    let result = stack.run(json!({ "action": "check-subscription" })).await.unwrap();
    let metrics = ["subscription_not_enabled", "subscription_not_checked"];
    (result, metrics.map(|metric| stack.log.count(&[&format!(r#""metric":"{metric}""#)])))
}

#[tokio::test]
async fn subscription_that_is_missing_or_disabled_is_counted_and_left_alone() {
    let mut stack = Deployment::start().await;
    stack.timeout = 40 * SECOND;
    let webhook = stack.new_webhook();
    assert_eq!(check(&stack).await, (json!({ "subscription": "missing" }), [1, 0]));
    let id = stack.succeed("Create", None, &webhook).await;
    assert_eq!(check(&stack).await, (json!({ "subscription": "enabled" }), [1, 0]));
    stack.change_at_circle(&id, json!({ "name": "by an operator", "enabled": false })).await;
    assert_eq!(check(&stack).await, (json!({ "subscription": "disabled" }), [2, 0]));
    assert_eq!(check(&stack).await, (json!({ "subscription": "disabled" }), [3, 0]));
    assert_eq!((stack.calls("POST"), stack.calls("PATCH"), stack.calls("DELETE")), (1, 1, 0));
    assert_eq!(stack.puts().len(), 1, "CloudFormation hears of the creation only");

    // An update, which a higher SubscriptionRevision causes, repairs it.
    assert_eq!(stack.succeed("Update", Some(&id), &webhook).await, id);
    assert_eq!(check(&stack).await, (json!({ "subscription": "enabled" }), [3, 0]));
    stack.succeed("Delete", Some(&id), &webhook).await;
    assert_eq!(check(&stack).await, (json!({ "subscription": "missing" }), [4, 0]));
    assert_ne!(stack.succeed("Update", Some(&id), &webhook).await, id);
    assert_eq!(check(&stack).await, (json!({ "subscription": "enabled" }), [4, 0]));
}

#[tokio::test]
async fn check_that_gets_no_result_is_counted() {
    let mut stack = Deployment::start().await;
    stack.timeout = 40 * SECOND;
    let unknown = json!({ "subscription": "unknown" });
    stack.add_fault("GET", Fault { drop: true, times: 100, ..Fault::default() });
    assert_eq!(check(&stack).await, (unknown.clone(), [0, 1]));
    stack.app.circle.clear_faults();
    stack.app.circle.set_knobs(|knobs| knobs.api_key_webhooks = Access::None);
    assert_eq!(check(&stack).await, (unknown.clone(), [0, 2]));
    assert_eq!(stack.log.count(&["subscription_not_checked", SUBSCRIPTIONS, "403 with code 3"]), 1);
    stack.restart_with(&[("WEBHOOK_URL", "")]);
    assert_eq!(check(&stack).await, (unknown, [0, 3]));
}
