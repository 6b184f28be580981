use local::circle_simulator::Fault;
use local::secrets_manager::InjectedError;
use serde_json::{Value, json};

use crate::deployment::{Deployment, STACK, SUBSCRIPTIONS};
use crate::support::in_time;

#[tokio::test]
async fn a_stack_that_is_created_subscribes_its_webhook() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    let all = stack.app.stack.circle.subscriptions();
    let made = all.iter().find(|one| one["id"] == json!(id)).unwrap();
    assert_eq!(
        (&made["endpoint"], &made["notificationTypes"], &made["enabled"]),
        (&json!(stack.new_webhook()), &json!(["challenges.*"]), &json!(true))
    );
    in_time(stack.app.stack.circle.wait_for_deliveries(2)).await;
    assert_eq!(stack.app.stack.circle.deliveries()[1].status, Some(200), "Circle's test is taken in");

    // As a pre-signed URL wants it.
    let [put] = &stack.puts()[..] else { panic!("{:?}", stack.puts()) };
    assert_eq!(put.headers["content-type"], "");
    assert!(put.headers.contains_key("content-length") && !put.headers.contains_key("transfer-encoding"));
    assert_eq!(put.uri.to_string(), "/response?X-Amz-Signature=0123456789abcdef-pre-signed");
    assert_eq!(put.body["StackId"], STACK);
}

#[tokio::test]
async fn what_is_repeated_changes_nothing() {
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
async fn a_subscription_that_is_there_is_used() {
    let stack = Deployment::start().await;
    let [id] = &stack.subscribed(&stack.webhook())[..] else { panic!() };
    assert_eq!(stack.succeed("Create", None, &stack.webhook()).await, *id);
    assert_eq!((stack.calls("GET"), stack.calls("POST"), stack.calls("PATCH")), (1, 0, 0));
}

#[tokio::test]
async fn of_several_the_resources_own_stays_and_then_the_one_that_is_enabled() {
    let stack = Deployment::start().await;
    let circle = &stack.app.stack.circle;
    let webhook = stack.new_webhook();
    for _ in 0..3 {
        circle.subscribe(&webhook, &["*"]).await.unwrap();
    }
    let all = stack.subscribed(&webhook);
    for id in &all {
        assert_eq!(stack.succeed("Update", Some(id), &webhook).await, *id);
    }
    change(&stack, &all[0], json!({ "name": "one", "enabled": false })).await;
    change(&stack, &all[1], json!({ "name": "two", "enabled": false })).await;
    stack.app.stack.circle.reset_call_counts();
    assert_eq!(stack.succeed("Create", None, &webhook).await, all[2]);
    assert_eq!(stack.calls("PATCH"), 0);
}

#[tokio::test]
async fn one_that_is_disabled_is_enabled_under_its_name() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    change(&stack, &id, json!({ "name": "the app's own", "enabled": false })).await;
    assert_eq!(stack.succeed("Update", Some(&id), &stack.new_webhook()).await, id);
    let all = stack.app.stack.circle.subscriptions();
    let enabled = all.iter().find(|one| one["id"] == json!(id)).unwrap();
    assert_eq!((&enabled["name"], &enabled["enabled"]), (&json!("the app's own"), &json!(true)));
    assert_eq!(stack.calls("POST"), 1);
}

#[tokio::test]
async fn a_narrower_one_is_left_beside_a_new_one() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    stack.app.stack.circle.subscribe(&webhook, &["challenges.changePin"]).await.unwrap();
    let [narrow] = &stack.subscribed(&webhook)[..] else { panic!() };
    let id = stack.succeed("Create", None, &webhook).await;
    assert_eq!(stack.subscribed(&webhook), [narrow.clone(), id.clone()]);
    let said = format!(r#""subscription_id":"{narrow}""#);
    assert!(stack.log.text().contains(&said), "{}", stack.log.text());
    assert_eq!(stack.succeed("Update", Some(&id), &webhook).await, id);
}

#[tokio::test]
async fn a_new_endpoint_gets_a_new_subscription_and_the_old_one_is_removed_after_it() {
    let stack = Deployment::start().await;
    let (old_url, new_url) = (stack.new_webhook(), format!("{}&er", stack.new_webhook()));
    let old = stack.succeed("Create", None, &old_url).await;
    let new = stack.succeed("Update", Some(&old), &new_url).await;
    assert_ne!(new, old);
    assert_eq!(stack.succeed("Delete", Some(&old), &old_url).await, old);
    assert_eq!((stack.subscribed(&old_url), stack.subscribed(&new_url)), (vec![], vec![new.clone()]));
    // Rolled back before the old one was removed, it would be the old one again: here it is made anew.
    let back = stack.succeed("Update", Some(&new), &old_url).await;
    assert_eq!(stack.succeed("Delete", Some(&new), &new_url).await, new);
    assert_eq!((stack.subscribed(&old_url), stack.subscribed(&new_url)), (vec![back], vec![]));
}

#[tokio::test]
async fn what_is_gone_at_circle_is_made_again_or_is_deleted_already() {
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
async fn what_was_not_created_is_not_deleted_and_what_there_is_is_named() {
    let stack = Deployment::start().await;
    assert_eq!(stack.succeed("Delete", Some("not-created"), &stack.new_webhook()).await, "not-created");
    assert_eq!(stack.succeed("Delete", None, &stack.new_webhook()).await, "not-created");
    assert!(!stack.log.text().contains("subscription_left_behind"), "{}", stack.log.text());

    // As after a creation whose answer did not reach CloudFormation, which then makes up an id.
    let made_up = "stack-CircleSubscription-1ABCDEFGHIJKL";
    assert_eq!(stack.succeed("Delete", Some(made_up), &stack.webhook()).await, made_up);
    let [id] = &stack.subscribed(&stack.webhook())[..] else { panic!() };
    let log = stack.log.text();
    let left: Vec<&str> = log.lines().filter(|line| line.contains("subscription_left_behind")).collect();
    assert!(left.len() == 1 && left[0].contains(id), "{log}");
    assert_eq!((stack.calls("GET"), stack.calls("DELETE")), (3, 0));
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_not_done_twice() {
    let stack = Deployment::start().await;
    let webhook = stack.new_webhook();
    for (lost, suffix) in [
        (Fault { drop: true, after_effect: true, ..Fault::default() }, "&dropped"),
        (Fault { delay_ms: 30_000, after_effect: true, ..Fault::default() }, "&late"),
        (
            Fault { status: Some(502), body: Some("".into()), after_effect: true, ..Fault::default() },
            "&failed",
        ),
        (
            Fault { status: Some(200), body: Some("{".into()), after_effect: true, ..Fault::default() },
            "&unreadable",
        ),
    ] {
        let webhook = format!("{webhook}{suffix}");
        stack.app.stack.circle.reset_call_counts();
        stack.fault("POST", lost);
        let id = stack.succeed("Create", None, &webhook).await;
        assert_eq!(stack.subscribed(&webhook), [id], "{suffix}");
        assert_eq!((stack.calls("POST"), stack.calls("GET")), (1, 2), "{suffix}");
    }
}

#[tokio::test]
async fn a_deletion_whose_answer_is_lost_is_done() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    stack.fault("DELETE", Fault { drop: true, after_effect: true, ..Fault::default() });
    stack.succeed("Delete", Some(&id), &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [""; 0]);
    assert!(!stack.log.text().contains("by hand"), "{}", stack.log.text());
}

#[tokio::test]
async fn a_circle_that_fails_for_a_while_is_asked_again() {
    let stack = Deployment::start().await;
    stack.fault("GET", Fault { drop: true, times: 4, ..Fault::default() });
    stack.fault("POST", Fault { status: Some(429), ..Fault::default() });
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [id.as_str()]);
    // A webhook that is not there yet, as a new API's may be.
    stack.fault("POST", Fault { status: Some(400), code: Some(2), times: 2, ..Fault::default() });
    stack.succeed("Update", Some(&id), &stack.new_webhook().replace("new", "newer")).await;
}

#[tokio::test]
async fn a_permission_as_new_as_the_stack_is_waited_for() {
    let stack = Deployment::start().await;
    stack.app.stack.secrets_manager.fail_next(3, InjectedError::AccessDenied);
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [id]);
}

#[tokio::test]
async fn a_rotated_key_costs_no_deployment() {
    let stack = Deployment::start().await;
    let id = stack.succeed("Create", None, &stack.new_webhook()).await;
    stack.app.stack.circle.rotate_api_key();
    stack.succeed("Delete", Some(&id), &stack.new_webhook()).await;
    assert_eq!(stack.subscribed(&stack.new_webhook()), [""; 0]);
}

/// Changes a subscription by hand.
async fn change(stack: &Deployment, id: &str, members: Value) {
    let circle = &stack.app.stack.circle;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let change = http
        .patch(format!("{}{SUBSCRIPTIONS}/{id}", circle.url()))
        .bearer_auth(circle.api_key())
        .header("content-type", "application/json")
        .body(members.to_string());
    assert_eq!(change.send().await.unwrap().status(), 200);
}
