use futures_util::future::join_all;
use local::circle_simulator::{PinEntry, StatusField};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{App, Log, MINUTE, NOON, SECOND, USER, text, with};

#[tokio::test]
async fn webhook_received_twenty_times_at_once_is_applied_once() {
    let app = App::at_noon().await.without_webhooks().await;
    for id in [app.create_challenge().await, Uuid::from_u128(1)] {
        let message = app.message(id, "COMPLETE");
        let responses = join_all((0..20).map(|_| app.post_webhook(&message))).await;
        let count = |outcome| responses.iter().filter(|response| response.outcome() == outcome).count();
        assert_eq!((count("applied"), count("duplicate")), (1, 19));
        let record = app.record(id).await;
        assert_eq!(record["status"], "COMPLETE");
        assert_eq!(record["notificationId"], message["notificationId"]);
    }
}

#[tokio::test]
async fn most_advanced_status_is_kept_in_any_order() {
    const STATUSES: [&str; 3] = ["PENDING", "IN_PROGRESS", "COMPLETE"];
    let rank = |status: &str| STATUSES.iter().position(|one| *one == status);
    let app = App::at_noon().await.without_webhooks().await;
    for (number, order) in (1..).zip([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]) {
        for (id, mut reached) in
            [(app.create_challenge().await, rank("PENDING")), (Uuid::from_u128(number), None)]
        {
            for status in order.map(|index| STATUSES[index]) {
                let expected = if rank(status) > reached { "applied" } else { "stale" };
                reached = reached.max(rank(status));
                let response = app.post_webhook(&app.message(id, status)).await;
                assert_eq!(response.outcome(), expected, "{status} in {order:?}");
                assert_eq!(rank(text(&app.record(id).await, "status")), reached);
            }
            assert_eq!(app.record(id).await["settledBy"], "webhook");
        }
    }
}

#[tokio::test]
async fn only_complete_replaces_a_final_status() {
    const FINAL: [&str; 3] = ["COMPLETE", "FAILED", "EXPIRED"];
    let log = Log::start();
    let app = App::at_noon().await.without_webhooks().await;
    for first in FINAL {
        let id = app.create_challenge().await;
        assert_eq!(app.post_webhook(&app.message(id, first)).await.outcome(), "applied");
        let record = app.record(id).await;
        app.advance(MINUTE);
        for second in ["FAILED", "EXPIRED", "PENDING", "IN_PROGRESS", "SOMETHING_NEW"] {
            let error = json!({ "notification": { "errorCode": 155_112 } });
            let message = with(app.message(id, second), error);
            assert_eq!(app.post_webhook(&message).await.outcome(), "stale", "{second} after {first}");
            assert_eq!(app.record(id).await, record, "{second} after {first}");
        }
        let conflicts = FINAL[1..].iter().filter(|second| **second != first).count();
        assert_eq!(log.count(&["conflicting_final_status", &id.to_string()]), conflicts, "{first}");
        let outcome = if first == "COMPLETE" { "stale" } else { "applied" };
        assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), outcome);
        assert_eq!(app.record(id).await["status"], "COMPLETE");
    }
}

#[tokio::test]
async fn every_documented_form_of_a_webhook_is_understood() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    circle.set_knobs(|knobs| {
        knobs.change_pin_notification_type = "challenges.initialize".into();
        knobs.notifications_name_user = false;
        knobs.status_field = StatusField::State;
        knobs.complete_status = "COMPLETED".into();
    });
    let id = app.create_challenge().await;
    circle.start_challenge(id).unwrap();
    app.wait_for_webhook(id, "IN_PROGRESS", 200).await;
    assert_eq!(app.challenge(id).await["status"], "IN_PROGRESS");
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETED", 200).await;
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
    let record = app.record(id).await;
    assert_eq!((&record["status"], &record["userId"]), (&json!("COMPLETE"), &json!(USER)));
}

#[tokio::test]
async fn duplicated_and_reversed_webhooks_settle_the_challenge() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    app.wait_for_webhooks(1).await;
    circle.set_knobs(|knobs| {
        knobs.repeat_webhooks = 2;
        knobs.reorder_webhooks = 9;
    });
    let id = app.create_challenge().await;
    circle.start_challenge(id).unwrap();
    assert_eq!(circle.held_webhooks(), 6);
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhooks(10).await;
    assert!(circle.deliveries().iter().all(|delivery| delivery.status == Some(200)));
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn unknown_status_is_stored_unchanged() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = app.create_challenge().await;
    let report = async |status| app.post_webhook(&app.message(id, status)).await.outcome().to_owned();
    assert_eq!(report("PAUSED").await, "applied");
    assert_eq!(app.challenge(id).await["status"], "PAUSED");
    let record = app.record(id).await;
    let values = ["status", "rank", "settledBy", "nextCheckAt"].map(|name| &record[name]);
    assert_eq!(json!(values), json!(["PAUSED", 1, null, NOON.unix_timestamp() + 600]));
    assert_eq!(report("IN_PROGRESS").await, "stale");
    assert_eq!(app.challenge(id).await["status"], "PAUSED");
    assert_eq!(report("COMPLETE").await, "applied");
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn webhook_about_something_else_is_ignored() {
    let app = App::at_noon().await;
    let id = Uuid::from_u128(1);
    let of_type = |name: &str| json!({ "id": id, "userId": USER, "type": name, "status": "COMPLETE" });
    for (notification_type, notification) in [
        ("webhooks.test", json!({ "hello": "world" })),
        ("challenges.createWallet", of_type("CREATE_WALLET")),
        ("challenges.setPin", of_type("SET_PIN")),
        ("challenges.initialize", of_type("INITIALIZE")),
        ("transactions.outbound", json!({ "id": id, "state": "COMPLETE" })),
        ("somethingNew", Value::Null),
    ] {
        let mut message = app.message(id, "COMPLETE");
        message["notificationType"] = json!(notification_type);
        message["notification"] = notification;
        assert_eq!(app.post_webhook(&message).await.outcome(), "ignored", "{notification_type}");
    }
    assert_eq!(app.record_count().await, 0);
    app.wait_for_webhooks(1).await;
    let test_message = &app.circle.deliveries()[0];
    assert_eq!((test_message.notification_type.as_str(), test_message.status), ("webhooks.test", Some(200)));
}

#[tokio::test]
async fn unreadable_challenge_is_not_ignored() {
    let app = App::at_noon().await;
    let changed = |changes: Value| with(app.message(Uuid::from_u128(1), "COMPLETE"), changes).to_string();
    let untyped = json!({ "notification": { "type": null } });
    for body in [
        changed(json!({ "notification": { "id": null } })),
        changed(json!({ "notification": { "status": null } })),
        changed(json!({ "notificationType": null })),
        changed(json!({ "notification": { "id": "one" } })),
        changed(with(untyped.clone(), json!({ "notificationType": "challenges.initialize" }))),
        "not JSON".to_owned(),
        "[]".to_owned(),
        "\u{feff}{}".to_owned(),
    ] {
        app.post_signed(body.as_bytes()).await.is_problem(422, "unreadable_notification");
    }
    assert_eq!(app.record_count().await, 0);
    let response = app.post_signed(changed(untyped).as_bytes()).await;
    assert_eq!(response.outcome(), "applied", "the notificationType says what it is");
}

#[tokio::test]
async fn replayed_webhook_changes_nothing() {
    let app = App::at_noon().await;
    let id = app.create_challenge().await;
    app.wait_for_webhook(id, "PENDING", 200).await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    let record = app.record(id).await;
    app.advance(60 * MINUTE);
    let mut outcomes = Vec::new();
    for delivery in app.circle.deliveries() {
        let log = Log::start();
        let outcome = app.post_signed(&delivery.body).await.outcome().to_owned();
        let counted = log.count(&["WebhooksAccepted", &format!(r#""outcome":"{outcome}""#)]);
        assert_eq!(counted, 1, "{}", log.text());
        outcomes.push(outcome);
    }
    assert_eq!(outcomes, ["ignored", "stale", "stale", "duplicate"]);
    assert_eq!(app.record(id).await, record);
}

#[tokio::test]
async fn webhook_that_names_another_user_is_applied_by_its_id() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = app.create_challenge().await;
    let message = with(app.message(id, "COMPLETE"), json!({ "notification": { "userId": "mallory" } }));
    let log = Log::start();
    assert_eq!(app.post_webhook(&message).await.outcome(), "applied");
    assert_eq!(log.count(&["report_of_another_user", &id.to_string()]), 1);
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
    assert_eq!(app.record(id).await["userId"], USER);
    let mallory = app.stack.sign_in("mallory");
    app.get_challenge(id).bearer(&mallory).send().await.is_problem(404, "challenge_not_found");
}

#[tokio::test]
async fn ending_is_logged_once_and_its_age_counts_unless_it_expired() {
    let app = App::at_noon().await.without_webhooks().await;
    for (ending, age) in [("COMPLETE", Some(30)), ("FAILED", Some(30)), ("EXPIRED", None)] {
        let id = app.create_challenge().await;
        app.advance(30 * SECOND);
        let log = Log::start();
        let settled = || -> Vec<Value> {
            let text = log.text();
            let lines = text.lines().filter(|line| line.contains("challenge settled"));
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        app.post_webhook(&app.message(id, "IN_PROGRESS")).await.is(200);
        assert_eq!(settled().len(), 0);
        for _ in 0..2 {
            app.post_webhook(&app.message(id, ending)).await.is(200);
            let [line] = &settled()[..] else { panic!("not one line: {}", log.text()) };
            assert_eq!((&line["status"], &line["TimeToSettle"]), (&json!(ending), &json!(age)));
        }
    }
}
