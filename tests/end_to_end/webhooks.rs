use futures_util::future::join_all;
use local::circle_simulator::{PinEntry, StatusField};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::observed::Log;
use crate::support::{Answer, App, MINUTE, USER, send};

#[tokio::test]
async fn a_notification_that_comes_twenty_times_at_once_is_applied_once() {
    let app = without_circles_own(App::at_noon().await);
    for id in [app.challenge().await, Uuid::from_u128(1)] {
        let message = app.message(id, "COMPLETE");
        let answers = join_all((0..20).map(|_| app.post(&message))).await;
        let outcomes: Vec<_> = answers.iter().map(outcome).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == "applied").count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == "duplicate").count(), 19, "{outcomes:?}");
        let item = app.item(id).await;
        assert_eq!(
            (&item["status"], &item["notificationId"]),
            (&json!("COMPLETE"), &message["notificationId"])
        );
    }
}

#[tokio::test]
async fn in_every_order_the_furthest_status_stays() {
    const ORDERS: [[&str; 3]; 6] = [
        ["PENDING", "IN_PROGRESS", "COMPLETE"],
        ["PENDING", "COMPLETE", "IN_PROGRESS"],
        ["IN_PROGRESS", "PENDING", "COMPLETE"],
        ["IN_PROGRESS", "COMPLETE", "PENDING"],
        ["COMPLETE", "PENDING", "IN_PROGRESS"],
        ["COMPLETE", "IN_PROGRESS", "PENDING"],
    ];
    let rank = |status: &str| ["PENDING", "IN_PROGRESS", "COMPLETE"].iter().position(|one| *one == status);
    let app = without_circles_own(App::at_noon().await);
    for (number, order) in (1..).zip(ORDERS) {
        for (id, mut reached) in [(app.challenge().await, rank("PENDING")), (Uuid::from_u128(number), None)] {
            for status in order {
                let expected = if rank(status) > reached { "applied" } else { "stale" };
                reached = reached.max(rank(status));
                let answer = app.post(&app.message(id, status)).await;
                assert_eq!(outcome(&answer), expected, "{status} in {order:?}");
                assert_eq!(json!(rank(app.item(id).await["status"].as_str().unwrap())), json!(reached));
            }
            assert_eq!(app.item(id).await["settledBy"], "webhook");
        }
    }
}

#[tokio::test]
async fn a_final_status_never_changes() {
    let log = Log::start();
    const FINAL: [&str; 3] = ["COMPLETE", "FAILED", "EXPIRED"];
    let app = without_circles_own(App::at_noon().await);
    for first in FINAL {
        let id = app.challenge().await;
        assert_eq!(outcome(&app.post(&app.message(id, first)).await), "applied");
        let item = app.item(id).await;
        app.advance(MINUTE);
        for second in FINAL.into_iter().chain(["PENDING", "IN_PROGRESS", "SOMETHING_NEW"]) {
            let mut message = app.message(id, second);
            message["notification"]["errorCode"] = json!(155_112);
            assert_eq!(outcome(&app.post(&message).await), "stale", "{second} after {first}");
            assert_eq!(app.item(id).await, item, "{second} after {first}");
        }
        let counted =
            |line: &&str| line.contains("conflicting_final_status") && line.contains(&id.to_string());
        assert_eq!(log.text().lines().filter(counted).count(), 2, "the two other final statuses");
    }
}

#[tokio::test]
async fn every_way_that_circle_documents_a_message_is_understood() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    circle.set_knobs(|knobs| {
        knobs.change_pin_notification_type = "challenges.initialize".into();
        knobs.notifications_name_user = false;
        knobs.status_field = StatusField::State;
        knobs.complete_status = "COMPLETED".into();
    });
    let id = app.challenge().await;
    circle.start_challenge(id).unwrap();
    app.webhook_answered(id, "IN_PROGRESS", 200).await;
    assert_eq!(app.status(id).await["status"], "IN_PROGRESS");
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETED", 200).await;
    assert_eq!(app.status(id).await["status"], "COMPLETE");
    let item = app.item(id).await;
    assert_eq!(json!([item["status"], item["userId"]]), json!(["COMPLETE", USER]));
}

#[tokio::test]
async fn webhooks_that_are_repeated_and_reversed_settle_the_challenge_too() {
    let app = App::at_noon().await;
    let circle = &app.stack.circle;
    circle.wait_for_deliveries(1).await;
    circle.set_knobs(|knobs| {
        knobs.repeat_webhooks = 2;
        knobs.reorder_webhooks = 9;
    });
    let id = app.challenge().await;
    circle.start_challenge(id).unwrap();
    assert_eq!(circle.held_webhooks(), 6);
    circle.enter_pin(id, PinEntry::right()).unwrap();
    circle.wait_for_deliveries(10).await;
    assert!(circle.deliveries().iter().all(|delivery| delivery.status == Some(200)));
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn a_status_never_seen_before_is_kept_as_it_is() {
    let app = without_circles_own(App::at_noon().await);
    let id = app.challenge().await;
    assert_eq!(outcome(&app.post(&app.message(id, "PAUSED")).await), "applied");
    assert_eq!(app.status(id).await["status"], "PAUSED");
    let item = app.item(id).await;
    let marks = ["status", "rank", "settledBy", "nextCheckAt"].map(|name| &item[name]);
    assert_eq!(json!(marks), json!(["PAUSED", 1, null, 1_767_268_800 + 600]));
    assert_eq!(outcome(&app.post(&app.message(id, "IN_PROGRESS")).await), "stale");
    assert_eq!(app.status(id).await["status"], "PAUSED");
    assert_eq!(outcome(&app.post(&app.message(id, "COMPLETE")).await), "applied");
    assert_eq!(app.status(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn what_is_not_about_a_pin_challenge_is_ignored() {
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
        assert_eq!(outcome(&app.post(&message).await), "ignored", "{notification_type}");
    }
    assert_eq!(app.items().await, 0);
    app.stack.circle.wait_for_deliveries(1).await;
    let greeting = &app.stack.circle.deliveries()[0];
    assert_eq!((greeting.notification_type.as_str(), greeting.status), ("webhooks.test", Some(200)));
}

#[tokio::test]
async fn a_challenge_that_cannot_be_read_is_no_loss_to_be_silent_about() {
    let app = App::at_noon().await;
    let id = Uuid::from_u128(1);
    let without = |member: &str| {
        let mut message = app.message(id, "COMPLETE");
        message["notification"].as_object_mut().unwrap().remove(member);
        message.to_string()
    };
    let mut nameless = app.message(id, "COMPLETE");
    nameless.as_object_mut().unwrap().remove("notificationType");
    let mut no_uuid = app.message(id, "COMPLETE");
    no_uuid["notification"]["id"] = json!("one");
    let mut untyped = app.message(id, "COMPLETE");
    untyped["notificationType"] = json!("challenges.initialize");
    untyped["notification"].as_object_mut().unwrap().remove("type");
    for body in [
        without("id"),
        without("status"),
        nameless.to_string(),
        no_uuid.to_string(),
        untyped.to_string(),
        "not JSON".to_owned(),
        "[]".to_owned(),
        "\u{feff}{}".to_owned(),
    ] {
        app.post_bytes(body.as_bytes()).await.is_problem(json!({
            "title": "Unreadable notification",
            "status": 422,
            "detail": "The notification is Circle's, but cannot be read as a challenge. It has to be sent again once this service can read it.",
            "code": "unreadable_notification",
        }));
    }
    assert_eq!(app.items().await, 0);
    assert_eq!(outcome(&app.post_bytes(without("type").as_bytes()).await), "applied", "by notificationType");
}

#[tokio::test]
async fn an_old_genuine_notification_played_again_changes_nothing() {
    let app = App::at_noon().await;
    let id = app.challenge().await;
    app.webhook_answered(id, "PENDING", 200).await;
    app.stack.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.webhook_answered(id, "COMPLETE", 200).await;
    let item = app.item(id).await;
    app.advance(60 * MINUTE);
    let deliveries = app.stack.circle.deliveries();
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(outcome(&app.post_bytes(&delivery.body).await).to_owned());
    }
    assert_eq!(outcomes, ["ignored", "stale", "stale", "duplicate"]);
    assert_eq!(app.item(id).await, item);
}

#[tokio::test]
async fn a_notification_that_names_another_user_is_applied_by_its_id() {
    let app = without_circles_own(App::at_noon().await);
    let id = app.challenge().await;
    let mut message = app.message(id, "COMPLETE");
    message["notification"]["userId"] = json!("mallory");
    let log = Log::start();
    assert_eq!(outcome(&app.post(&message).await), "applied");
    let counted = |line: &&str| line.contains("report_of_another_user") && line.contains(&id.to_string());
    assert_eq!(log.text().lines().filter(counted).count(), 1);
    assert_eq!(app.status(id).await["status"], "COMPLETE");
    assert_eq!(app.item(id).await["userId"], USER);
    let mallory = app.stack.sign_in("mallory");
    let theirs = app.anonymous(&format!("GET /challenges/{id}")).bearer_auth(mallory);
    assert_eq!(send(theirs).await.status, 404);
}

/// From now on Circle's own webhooks are lost; those that a test posts are not.
fn without_circles_own(app: App) -> App {
    app.stack.circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    app
}

/// The outcome, the one member of the answer.
fn outcome(answer: &Answer) -> &str {
    let body = answer.is(200).as_object().unwrap();
    assert_eq!(body.len(), 1);
    body["outcome"].as_str().unwrap()
}
