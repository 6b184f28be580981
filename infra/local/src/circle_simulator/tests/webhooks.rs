use super::*;
use crate::circle_simulator::{Expiry, PinEntry, ReleaseOrder, StatusField};

#[tokio::test]
async fn status_change_sends_one_signed_webhook_in_circles_form() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let id = stage.challenge().await;
    stage.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    stage.circle.enter_pin(id, PinEntry::right()).unwrap();
    let messages = receiver.wait_for(4).await;
    wait_briefly().await;
    assert_eq!(receiver.statuses(), ["PENDING", "IN_PROGRESS", "COMPLETE"]);
    let subscription = &stage.circle.subscriptions()[0];
    let message = &messages[3];
    let notification_id = message["notificationId"].as_str().unwrap();
    assert!(Uuid::parse_str(notification_id).is_ok());
    assert_eq!(
        *message,
        json!({
            "subscriptionId": subscription["id"], "notificationId": notification_id,
            "notificationType": "challenges.changePin", "timestamp": "2026-01-01T12:00:00.000000000Z", "version": 2,
            "notification": {
                "id": id, "userId": USER, "type": "CHANGE_PIN", "status": "COMPLETE", "correlationIds": [],
                "errorCode": 0, "errorMessage": "",
            },
        })
    );
    assert_eq!(receiver.last().headers["Content-Type"], "application/json");
    assert_signed(&stage, &receiver.last()).await;
}

#[tokio::test]
async fn failed_challenge_sends_its_error() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.expire_challenge(stage.challenge().await, Expiry::Failed).unwrap();
    let notification = receiver.wait_for(3).await[2]["notification"].clone();
    assert_eq!((&notification["status"], &notification["errorCode"]), (&json!("FAILED"), &json!(155_121)));
    assert_eq!(notification["errorMessage"], "The challenge has expired");
}

#[tokio::test]
async fn knobs_choose_between_variants_of_circles_documentation() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| {
        knobs.change_pin_notification_type = "challenges.initialize".to_owned();
        knobs.notifications_name_user = false;
        knobs.status_field = StatusField::State;
        knobs.complete_status = "COMPLETED".to_owned();
    });
    let id = stage.challenge().await;
    stage.circle.enter_pin(id, PinEntry::right()).unwrap();
    let message = receiver.wait_for(4).await[3].clone();
    assert_eq!(message["notificationType"], "challenges.initialize");
    let notification = message["notification"].as_object().unwrap();
    assert_eq!(notification["state"], "COMPLETED");
    assert!(!notification.contains_key("status") && !notification.contains_key("userId"));
}

#[tokio::test]
async fn webhook_goes_to_enabled_matching_subscriptions_only() {
    let stage = Stage::with_user().await;
    let receivers =
        [Receiver::start().await, Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let filters = ["challenges.*", "challenges.changePin", "challenges.restorePin", "transactions.*"];
    for (receiver, filter) in receivers.iter().zip(filters) {
        stage.circle.subscribe(&receiver.url, &[filter]).await.unwrap();
        receiver.wait_for(1).await;
    }
    stage.challenge().await;
    challenge_id(&stage.restore_pin(&stage.token(USER).await).await);
    stage.circle.wait_for_deliveries(8).await;
    wait_briefly().await;
    let counts = receivers.each_ref().map(|receiver| receiver.messages().len() - 1);
    assert_eq!(counts, [2, 1, 1, 0]);
    let id = stage.circle.subscriptions()[0]["id"].as_str().unwrap().to_owned();
    let off = json!({"name": "x", "enabled": false});
    stage.call(&format!("PATCH /v2/notifications/subscriptions/{id}"), None, Some(&off)).await;
    stage.challenge().await;
    receivers[1].wait_for(3).await;
    wait_briefly().await;
    assert_eq!(receivers[0].messages().len(), 3);
}

#[tokio::test]
async fn webhook_without_a_2xx_is_retried_on_schedule_with_the_same_id() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    receiver.respond_with(301);
    stage.challenge().await;
    receiver.wait_for(2).await;
    stage.circle.wait_for_deliveries(2).await;
    let schedule = [1, 10, 30, 60, 15 * 60, 3600, 3 * 3600, 5 * 3600, 6 * 3600, 10 * 3600, 11 * 3600];
    for (index, seconds) in schedule.into_iter().enumerate() {
        stage.circle.advance_clock(Duration::from_secs(seconds - 1));
        wait_briefly().await;
        assert_eq!(receiver.messages().len(), index + 2, "not before {seconds} s");
        stage.circle.advance_clock(Duration::from_secs(1));
        receiver.wait_for(index + 3).await;
        stage.circle.wait_for_deliveries(index + 3).await;
    }
    stage.circle.advance_clock(Duration::from_secs(100 * 3600));
    wait_briefly().await;
    let messages = receiver.messages();
    assert_eq!(messages.len(), 13);
    assert!(messages[1..].iter().all(|message| message == &messages[1]), "each attempt sends the same bytes");
    let deliveries = stage.circle.deliveries();
    assert_eq!((deliveries[12].attempt, deliveries[12].status), (12, Some(301)));
    assert_eq!(deliveries[1].endpoint, receiver.url);
    assert_eq!(deliveries[1].notification_id.to_string(), messages[1]["notificationId"]);
}

#[tokio::test]
async fn any_2xx_counts_as_delivered() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    for (number, status) in [201, 202, 204, 299].into_iter().enumerate() {
        receiver.respond_with(status);
        stage.challenge().await;
        stage.circle.wait_for_deliveries(number + 2).await;
    }
    stage.circle.advance_clock(Duration::from_secs(48 * 3600));
    wait_briefly().await;
    assert_eq!(receiver.messages().len(), 5);
}

#[tokio::test]
async fn successful_retry_is_the_last_and_its_signature_survives_a_key_rotation() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    receiver.respond_with(503);
    stage.challenge().await;
    stage.circle.wait_for_deliveries(2).await;
    stage.circle.rotate_signing_key();
    receiver.respond_with(200);
    stage.circle.advance_clock(Duration::from_secs(1));
    stage.circle.wait_for_deliveries(3).await;
    assert_signed(&stage, &receiver.last()).await;
    stage.circle.advance_clock(Duration::from_secs(48 * 3600));
    wait_briefly().await;
    assert_eq!(receiver.messages().len(), 3);
    let statuses: Vec<_> = stage.circle.deliveries().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [Some(200), Some(503), Some(200)]);
}

#[tokio::test]
async fn retry_factor_shortens_the_schedule() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.retry_factor = 0.001);
    receiver.respond_with(500);
    stage.challenge().await;
    stage.circle.wait_for_deliveries(2).await;
    stage.circle.advance_clock(Duration::from_millis(1));
    receiver.wait_for(3).await;
    stage.circle.wait_for_deliveries(3).await;
    stage.circle.advance_clock(Duration::from_millis(10));
    receiver.wait_for(4).await;
}

#[tokio::test]
async fn deleted_subscription_ends_retries_and_an_unreachable_endpoint_is_logged() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    receiver.server.abort();
    wait_briefly().await;
    stage.challenge().await;
    stage.circle.wait_for_deliveries(2).await;
    let failed = stage.circle.deliveries()[1].clone();
    assert_eq!((failed.status, failed.error), (None, Some("no response")));
    let id = failed.subscription_id;
    stage.call(&format!("DELETE /v2/notifications/subscriptions/{id}"), None, None).await;
    stage.circle.advance_clock(Duration::from_secs(3600));
    wait_briefly().await;
    assert_eq!(stage.circle.deliveries().len(), 2, "a deleted subscription receives nothing");
}

#[tokio::test]
async fn webhooks_can_be_lost_and_repeated() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.lose_webhooks = 1);
    let id = stage.challenge().await;
    let lost = stage.circle.deliveries()[1].clone();
    assert_eq!((lost.attempt, lost.status, lost.error), (0, None, Some("lost")));
    assert_eq!(stage.circle.knobs().lose_webhooks, 0);
    stage.circle.set_knobs(|knobs| knobs.repeat_webhooks = 2);
    stage.circle.start_challenge(id).unwrap();
    let messages = receiver.wait_for(4).await;
    wait_briefly().await;
    assert_eq!(receiver.statuses(), ["IN_PROGRESS", "IN_PROGRESS", "IN_PROGRESS"]);
    assert!(messages[1..].iter().all(|message| message == &messages[1]));
}

#[tokio::test]
async fn webhooks_can_be_delayed_and_overtaken() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.delay_webhooks_ms = 5000);
    let id = stage.challenge().await;
    stage.circle.set_knobs(|knobs| knobs.delay_webhooks_ms = 0);
    stage.circle.cancel_challenge(id).unwrap();
    receiver.wait_for(2).await;
    stage.circle.advance_clock(Duration::from_millis(4999));
    wait_briefly().await;
    assert_eq!(receiver.statuses(), ["FAILED"]);
    stage.circle.advance_clock(Duration::from_millis(1));
    receiver.wait_for(3).await;
    assert_eq!(receiver.statuses(), ["FAILED", "PENDING"]);
}

#[tokio::test]
async fn webhooks_can_be_reordered() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.reorder_webhooks = 3);
    let id = stage.challenge().await;
    stage.circle.start_challenge(id).unwrap();
    assert_eq!(stage.circle.held_webhooks(), 2);
    stage.circle.cancel_challenge(id).unwrap();
    receiver.wait_for(4).await;
    assert_eq!(receiver.statuses(), ["FAILED", "IN_PROGRESS", "PENDING"]);
    stage.challenge().await;
    assert_eq!(stage.circle.held_webhooks(), 1);
    stage.circle.set_knobs(|knobs| knobs.reorder_webhooks = 0);
    receiver.wait_for(5).await;
}

#[tokio::test]
async fn webhooks_can_be_paused_and_released_in_either_order() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    for (order, expected) in
        [(ReleaseOrder::Made, ["PENDING", "FAILED"]), (ReleaseOrder::Reversed, ["FAILED", "PENDING"])]
    {
        let before = receiver.statuses().len();
        stage.circle.set_knobs(|knobs| knobs.webhooks_paused = true);
        stage.circle.cancel_challenge(stage.challenge().await).unwrap();
        wait_briefly().await;
        assert_eq!(receiver.statuses().len(), before);
        assert_eq!(stage.circle.release_webhooks(order), 2);
        receiver.wait_for(before + 3).await;
        assert_eq!(receiver.statuses()[before..], expected);
    }
    assert!(!stage.circle.knobs().webhooks_paused);
}

#[tokio::test]
async fn custom_notifications_are_signed() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let (foreign, id) = (json!({"id": new_id(), "anything": [1]}), new_id());
    for _ in 0..2 {
        assert_eq!(stage.circle.send_notification("challenges.changePin", &foreign, Some(id)), 1);
    }
    let messages = receiver.wait_for(3).await;
    assert_eq!(messages[1]["notification"], foreign);
    assert_eq!(messages[1]["notificationId"], json!(id));
    assert_eq!(messages[2], messages[1]);
    assert_signed(&stage, &receiver.last()).await;
    assert_eq!(stage.circle.send_raw(b"not even JSON"), 1);
    receiver.wait_for(4).await;
    assert_eq!(receiver.last().body, "not even JSON");
    assert_signed(&stage, &receiver.last()).await;
}

#[tokio::test]
async fn silent_endpoint_times_out() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let id = receiver.messages()[0]["subscriptionId"].as_str().unwrap().parse().unwrap();
    stage.circle.state().subscriptions.find_mut(id).unwrap().endpoint = url;
    stage.challenge().await;
    let _connection = silent.accept().await.unwrap();
    wait_briefly().await;
    stage.circle.advance_clock(Duration::from_secs(10));
    stage.circle.wait_for_deliveries(2).await;
    assert_eq!(stage.circle.deliveries()[1].error, Some("timed out"));
    assert_eq!(receiver.messages().len(), 1);
}

#[tokio::test]
async fn remembered_deliveries_hold_a_bounded_number_of_bytes() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.lose_webhooks = 40);
    for _ in 0..40 {
        stage.circle.send_raw(&vec![b'x'; 1024 * 1024]);
    }
    let deliveries = stage.circle.deliveries();
    assert_eq!(deliveries.len(), 16);
    assert!(deliveries.iter().all(|delivery| delivery.body.len() == 1024 * 1024));
    assert_eq!(receiver.messages().len(), 1);
}

#[tokio::test]
async fn body_has_circles_order_and_can_be_unusual_json() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let id = stage.challenge().await;
    receiver.wait_for(2).await;
    let plain = receiver.last();
    let message: Value = serde_json::from_slice(&plain.body).unwrap();
    assert_eq!(
        plain.body,
        format!(
            concat!(
                r#"{{"subscriptionId":{},"notificationId":{},"notificationType":"challenges.changePin","#,
                r#""notification":{{"id":"{}","userId":"user-1","type":"CHANGE_PIN","status":"PENDING","#,
                r#""correlationIds":[],"errorCode":0,"errorMessage":""}},"#,
                r#""timestamp":"2026-01-01T12:00:00.000000000Z","version":2}}"#
            ),
            message["subscriptionId"], message["notificationId"], id
        )
    );
    stage.circle.set_knobs(|knobs| knobs.unusual_webhook_json = true);
    stage.circle.start_challenge(id).unwrap();
    receiver.wait_for(3).await;
    let unusual = receiver.last();
    let text = String::from_utf8(unusual.body.to_vec()).unwrap();
    assert!(
        text.contains(r#""notificationType": "challenges\u002echangePin", "notification": {"id": "#),
        "{text}"
    );
    assert_eq!(receiver.statuses(), ["PENDING", "IN_PROGRESS"]);
    assert_signed(&stage, &plain).await;
    assert_signed(&stage, &unusual).await;
}

#[tokio::test]
async fn each_webhook_can_have_a_key_of_its_own() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.new_key_for_each_webhook = true);
    let mut keys = Vec::new();
    for number in 0..3 {
        stage.challenge().await;
        receiver.wait_for(number + 2).await;
        assert_signed(&stage, &receiver.last()).await;
        keys.push(receiver.last().headers["X-Circle-Key-Id"].clone());
    }
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[tokio::test]
async fn webhooks_of_a_subscription_can_be_sent_at_the_same_time() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let id = receiver.messages()[0]["subscriptionId"].as_str().unwrap().parse().unwrap();
    stage.circle.state().subscriptions.find_mut(id).unwrap().endpoint = url;
    stage.circle.set_knobs(|knobs| knobs.concurrent_webhooks = true);
    stage.circle.start_challenge(stage.challenge().await).unwrap();
    let two = async { (silent.accept().await.unwrap(), silent.accept().await.unwrap()) };
    let limit = Duration::from_secs(10);
    shared::clock::timeout(&SystemClock, limit, two).await.expect("two requests at the same time");
}
