use local::circle_simulator::Fault;
use local::secrets_manager::InjectedError;
use serde_json::{Value, json};
use shared::clock::Clock;

use crate::support::{Deployment, SECOND, STACK_ID, in_time};

/// The subscription with this id, as Circle has it.
fn subscription(stack: &Deployment, id: &str) -> Value {
    stack.app.circle.subscriptions().into_iter().find(|one| one["id"] == id).unwrap()
}

#[tokio::test]
async fn created_stack_subscribes_its_webhook() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    let created = subscription(&stack, &id);
    let values = ["endpoint", "notificationTypes", "enabled"].map(|name| &created[name]);
    assert_eq!(json!(values), json!([stack.new_webhook(), ["challenges.*"], true]));
    stack.app.wait_for_webhooks(2).await;
    assert_eq!(stack.app.circle.deliveries()[1].status, Some(200), "Circle's test message is accepted");

    // A pre-signed URL demands these headers.
    let [put] = &stack.puts()[..] else { panic!("{:?}", stack.puts()) };
    assert_eq!(put.headers["content-type"], "");
    assert!(put.headers.contains_key("content-length") && !put.headers.contains_key("transfer-encoding"));
    assert_eq!(put.uri.to_string(), "/response?X-Amz-Signature=0123456789abcdef-pre-signed");
    assert_eq!(put.body["StackId"], STACK_ID);
}

#[tokio::test]
async fn repeated_event_changes_nothing() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let id = stack.succeed("Create", None, &webhook).await;
    for _ in 0..2 {
        assert_eq!(stack.succeed("Create", None, &webhook).await, id);
        assert_eq!(stack.succeed("Update", Some(&id), &webhook).await, id);
    }
    assert_eq!(stack.subscribed(&webhook), [id]);
    assert_eq!((stack.calls("POST"), stack.calls("PATCH")), (1, 0));
}

#[tokio::test]
async fn existing_subscription_is_used() {
    let mut stack = Deployment::start().await;
    stack.manage(&stack.webhook());
    let [id] = &stack.subscribed(&stack.webhook())[..] else { panic!() };
    assert_eq!(stack.succeed("Create", None, &stack.webhook()).await, *id);
    assert_eq!((stack.calls("GET"), stack.calls("POST"), stack.calls("PATCH")), (1, 0, 0));
}

#[tokio::test]
async fn resources_own_subscription_is_preferred_and_then_an_enabled_one() {
    let stack = Deployment::start().await;
    let circle = &stack.app.circle;
    let webhook = stack.new_webhook();
    for _ in 0..3 {
        in_time(circle.subscribe(&webhook, &["*"])).await.unwrap();
    }
    let all = stack.subscribed(&webhook);
    for id in &all {
        assert_eq!(stack.succeed("Update", Some(id), &webhook).await, *id);
    }
    stack.change_at_circle(&all[0], json!({ "name": "one", "enabled": false })).await;
    stack.change_at_circle(&all[1], json!({ "name": "two", "enabled": false })).await;
    circle.reset_call_counts();
    assert_eq!(stack.succeed("Create", None, &webhook).await, all[2]);
    assert_eq!(stack.calls("PATCH"), 0);
}

#[tokio::test]
async fn disabled_subscription_is_enabled_and_keeps_its_name() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    stack.change_at_circle(&id, json!({ "name": "the app's own", "enabled": false })).await;
    assert_eq!(stack.succeed("Update", Some(&id), &stack.new_webhook()).await, id);
    let enabled = subscription(&stack, &id);
    assert_eq!((&enabled["name"], &enabled["enabled"]), (&json!("the app's own"), &json!(true)));
    assert_eq!(stack.calls("POST"), 1);
}

#[tokio::test]
async fn narrower_subscription_is_left_alone_and_logged() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    in_time(stack.app.circle.subscribe(&webhook, &["challenges.changePin"])).await.unwrap();
    let [narrower] = &stack.subscribed(&webhook)[..] else { panic!() };
    let id = stack.succeed("Create", None, &webhook).await;
    assert_eq!(stack.subscribed(&webhook), [narrower.clone(), id.clone()]);
    let field = format!(r#""subscription_id":"{narrower}""#);
    assert!(stack.log.count(&[&field]) > 0, "{}", stack.log.text());
    assert_eq!(stack.succeed("Update", Some(&id), &webhook).await, id);
}

#[tokio::test]
async fn new_endpoint_is_subscribed_before_the_old_subscription_is_deleted() {
    let mut stack = Deployment::start().await;
    let (old_url, new_url) = (stack.new_webhook(), format!("{}&er", stack.new_webhook()));
    let old = stack.succeed("Create", None, &old_url).await;
    // The update of the API and that of the function come before the update of the subscription.
    let [old_api, new_api] = ["a1b2", "c3d4"].map(api_gateway);
    stack.manage(&new_url);
    let new = stack.succeed("Update", Some(&old), &new_url).await;
    assert_ne!(new, old);
    delete_at_api_gateway(&mut stack, &new_api, &old, &old_api).await;
    assert_eq!((stack.subscribed(&old_url), stack.subscribed(&new_url)), (vec![], vec![new.clone()]));
    // A rollback after the deletion has to subscribe the old endpoint again.
    stack.manage(&old_url);
    let back = stack.succeed("Update", Some(&new), &old_url).await;
    delete_at_api_gateway(&mut stack, &old_api, &new, &new_api).await;
    assert_eq!((stack.subscribed(&old_url), stack.subscribed(&new_url)), (vec![back], vec![]));
    assert_eq!(stack.log.count(&["subscription_left_behind"]), 0, "{}", stack.log.text());
}

#[tokio::test]
async fn only_the_functions_own_webhook_is_subscribed() {
    let stack = Deployment::start().await;
    let (webhook, foreign) = (stack.new_webhook(), format!("{}&er", stack.new_webhook()));
    let expected = format!(
        "The property Endpoint must be the URL in the function's setting WEBHOOK_URL, {webhook}. The function manages only that one."
    );
    for endpoint in [foreign.as_str(), "https://attacker.example.com/webhooks/circle", "nonsense", ""] {
        assert_eq!(stack.fail("Create", None, endpoint).await, expected);
        assert_eq!(stack.fail("Update", Some("some-id"), endpoint).await, expected);
    }
    assert_eq!((stack.calls("GET"), stack.calls("POST")), (0, 0));
}

#[tokio::test]
async fn only_a_subscription_of_an_own_webhook_is_deleted() {
    let mut stack = Deployment::start().await;
    let foreign_url = format!("{}&er", stack.new_webhook());
    in_time(stack.app.circle.subscribe(&foreign_url, &["*"])).await.unwrap();
    let [foreign] = &stack.subscribed(&foreign_url)[..] else { panic!() };
    // The event is not believed, whatever endpoint it names.
    for endpoint in [&foreign_url, &stack.new_webhook()] {
        stack.succeed("Delete", Some(foreign), endpoint).await;
    }
    let other_region = "https://a1b2.execute-api.us-east-1.amazonaws.com/webhooks/circle";
    delete_at_api_gateway(&mut stack, &api_gateway("c3d4"), foreign, other_region).await;
    assert_eq!(stack.calls("DELETE"), 0);
    assert_eq!(stack.subscribed(&foreign_url), [foreign.as_str()]);
    assert_eq!(stack.log.count(&["subscription_left_behind", foreign]), 3, "{}", stack.log.text());
}

#[tokio::test]
async fn subscription_of_another_account_is_reported_as_left_behind() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let id = stack.succeed("Create", None, &webhook).await;
    // After an update to another account's key, CloudFormation deletes the old subscription with the new key.
    let other_account = "9f0c3f3e-3aac-4ae1-ac07-7eb0d7892520";
    stack.succeed("Delete", Some(other_account), &webhook).await;
    assert_eq!(stack.subscribed(&webhook), [id]);
    let warning = [r#""metric":"subscription_left_behind""#, other_account, "another account"];
    assert_eq!(stack.log.count(&warning), 1, "{}", stack.log.text());
}

#[tokio::test]
async fn subscription_is_created_once_the_head_gets_through() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let rejected = Fault { status: Some(400), code: Some(2), times: 1000, ..Fault::default() };
    stack.add_fault("POST", rejected);
    let (clock, circle) = (stack.app.clock.clone(), stack.app.circle.clone());
    tokio::spawn(async move {
        clock.sleep(75 * SECOND).await;
        circle.clear_faults();
    });
    let (id, took) = stack.timed(stack.succeed("Create", None, &webhook)).await;
    assert_eq!(stack.subscribed(&webhook), [id]);
    assert!(took >= 75 * SECOND && took < 90 * SECOND, "{took:?}");
}

#[tokio::test]
async fn subscription_that_is_gone_is_deleted_or_created_again() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let id = stack.succeed("Create", None, &webhook).await;
    stack.succeed("Delete", Some(&id), &webhook).await;
    stack.succeed("Delete", Some(&id), &webhook).await;
    assert_eq!(stack.subscribed(&webhook), [""; 0]);
    let new = stack.succeed("Update", Some(&id), &webhook).await;
    assert_ne!(new, id);
    assert_eq!(stack.subscribed(&webhook), [new]);
}

#[tokio::test]
async fn subscription_of_an_unknown_resource_is_kept_and_logged() {
    let mut stack = Deployment::start().await;
    assert_eq!(stack.succeed("Delete", Some("not-created"), &stack.new_webhook()).await, "not-created");
    assert_eq!(stack.succeed("Delete", None, &stack.new_webhook()).await, "not-created");
    assert_eq!(stack.log.count(&["subscription_left_behind"]), 0, "{}", stack.log.text());

    // CloudFormation makes up an id if the result of a creation did not reach it.
    stack.manage(&stack.webhook());
    let made_up = "stack-CircleSubscription-1ABCDEFGHIJKL";
    assert_eq!(stack.succeed("Delete", Some(made_up), &stack.webhook()).await, made_up);
    let [id] = &stack.subscribed(&stack.webhook())[..] else { panic!() };
    assert_eq!(stack.log.count(&["subscription_left_behind"]), 1, "{}", stack.log.text());
    assert_eq!(stack.log.count(&["subscription_left_behind", id]), 1, "{}", stack.log.text());
    assert_eq!((stack.calls("GET"), stack.calls("DELETE")), (3, 0));
}

#[tokio::test]
async fn creation_whose_response_is_lost_is_not_retried() {
    let mut stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    let lost = Fault { after_effect: true, ..Fault::default() };
    for (lost, suffix) in [
        (Fault { drop: true, ..lost.clone() }, "&dropped"),
        (Fault { delay_ms: 30_000, ..lost.clone() }, "&late"),
        (Fault { status: Some(502), body: Some("".into()), ..lost.clone() }, "&failed"),
        (Fault { status: Some(200), body: Some("{".into()), ..lost }, "&unreadable"),
    ] {
        let webhook = format!("{webhook}{suffix}");
        stack.manage(&webhook);
        stack.app.circle.reset_call_counts();
        stack.add_fault("POST", lost);
        let id = stack.succeed("Create", None, &webhook).await;
        assert_eq!(stack.subscribed(&webhook), [id], "{suffix}");
        assert_eq!((stack.calls("POST"), stack.calls("GET")), (1, 2), "{suffix}");
    }
}

#[tokio::test]
async fn deletion_whose_response_is_lost_succeeds() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    stack.add_fault("DELETE", Fault { drop: true, after_effect: true, ..Fault::default() });
    stack.succeed("Delete", Some(&id), &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [""; 0]);
    assert_eq!(stack.log.count(&["subscription_left_behind"]), 0, "{}", stack.log.text());
}

#[tokio::test]
async fn failed_call_to_circle_is_retried() {
    let mut stack = Deployment::start().await;
    stack.add_fault("GET", Fault { drop: true, times: 4, ..Fault::default() });
    stack.add_fault("POST", Fault { status: Some(429), ..Fault::default() });
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [id.as_str()]);
    // The webhook of a new API may not be reachable yet.
    stack.add_fault("POST", Fault { status: Some(400), code: Some(2), times: 2, ..Fault::default() });
    let newer = stack.new_webhook().replace("new", "newer");
    stack.manage(&newer);
    stack.succeed("Update", Some(&id), &newer).await;
}

#[tokio::test]
async fn new_permission_is_waited_for() {
    let stack = Deployment::start().await;
    stack.app.stack.secrets_manager.fail_next(3, InjectedError::AccessDenied);
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [id]);
}

#[tokio::test]
async fn rotated_api_key_fails_no_deployment() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    stack.app.circle.rotate_api_key();
    stack.succeed("Delete", Some(&id), &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [""; 0]);
}

/// The webhook URL of an API at API Gateway.
fn api_gateway(id: &str) -> String {
    format!("https://{id}.execute-api.eu-central-1.amazonaws.com/webhooks/circle")
}

/// Lets the function of this webhook delete a subscription. Circle says that the subscription has this endpoint, which the
/// simulator cannot reach. The event is sent by hand, because a function in the cloud does not respond to a loopback address.
async fn delete_at_api_gateway(stack: &mut Deployment, webhook: &str, id: &str, endpoint: &str) {
    stack.manage(webhook);
    let body = json!({ "data": { "id": id, "endpoint": endpoint, "enabled": true } }).to_string();
    stack.add_fault("GET", Fault { status: Some(200), body: Some(body), ..Fault::default() });
    let mut event = stack.event("Delete", Some(id), endpoint);
    event["ResponseURL"] = Value::Null;
    assert_eq!(stack.run(event).await.unwrap()["Status"], "SUCCESS");
}
