use local::circle_simulator::{Expiry, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    App, CHANGE_REQUESTED, FIRST_CHECK, MINUTE, RECOVERY_REQUESTED, Reconciler, SETTLED, USER, challenge_id,
    with,
};

/// The statuses that Circle reports in these tests, and the request, which may be recorded at any time between them.
const STEPS: [&str; 4] = ["request", "IN_PROGRESS", "FAILED", "COMPLETE"];

#[tokio::test]
async fn changed_pin_is_announced_when_it_is_requested_and_when_it_is_changed() {
    let app = App::at_noon().await;
    let id = app.create_challenge().await;
    app.advance(MINUTE);
    app.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    assert_eq!(app.post_webhook(&app.message(id, "COMPLETE")).await.outcome(), "stale");
    let detail = json!({ "version": 1, "challengeId": id, "userId": USER, "type": "CHANGE_PIN" });
    let requested = json!({ "requestedAt": "2026-01-01T12:00:00Z" });
    let settled = json!({ "status": "COMPLETE", "updatedAt": "2026-01-01T12:01:00Z" });
    let mut settled = with(detail.clone(), settled);
    settled["reason"] = Value::Null;
    settled["circleCode"] = Value::Null;
    let events = app.events().await;
    assert_eq!(details(&events), [(CHANGE_REQUESTED, &with(detail, requested)), (SETTLED, &settled)]);
    assert!(events.iter().all(|event| event["source"] == "circle-pin-reset"), "{events:?}");
}

#[tokio::test]
async fn recovery_is_announced_with_the_reason_why_it_failed() {
    let app = App::at_noon().await;
    let id = challenge_id(app.post_challenge().restore().send().await.is(201));
    app.circle.fail_challenge(id, 155_115, "The answers are wrong").unwrap();
    app.wait_for_webhook(id, "FAILED", 200).await;
    let detail = json!({ "version": 1, "challengeId": id, "userId": USER, "type": "RESTORE_PIN" });
    let requested = json!({ "requestedAt": "2026-01-01T12:00:00Z" });
    let settled = json!({
        "status": "FAILED", "reason": "incorrect_answers", "circleCode": 155_115,
        "updatedAt": "2026-01-01T12:00:00Z",
    });
    assert_eq!(
        details(&app.events().await),
        [(RECOVERY_REQUESTED, &with(detail.clone(), requested)), (SETTLED, &with(detail, settled))]
    );
}

/// The final webhook can come before the record of the request, and reports can come in any order and repeatedly.
#[tokio::test]
async fn each_ending_is_announced_once_in_every_order_of_request_and_webhooks() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1000"), ("CALL_BURST", "1000")]).await;
    let app = app.without_webhooks().await;
    let orders = orders();
    assert_eq!(orders.len(), 24);
    let mut expected = Vec::new();
    for (number, order) in orders.into_iter().enumerate() {
        let key = Uuid::from_u128(number as u128 + 1).to_string();
        let id = app.create_at_circle(&key).await;
        for step in order.iter().flat_map(|step| [step, step]) {
            if *step == "request" {
                assert_eq!(challenge_id(&app.post_challenge().key(&key).send().await.body), id);
            } else {
                app.post_webhook(&app.message(id, step)).await.is(200);
            }
        }
        expected.push((id, announcements(&order), order));
    }
    for (id, announcements, order) in expected {
        assert_eq!(app.announced(id).await, announcements, "{order:?}");
    }
}

/// The announcements of a challenge whose steps come in this order.
fn announcements(order: &[&str]) -> Vec<String> {
    let (mut requested, mut latest, mut announced) = (false, "", Vec::new());
    for step in order {
        let mut settled = false;
        match *step {
            "request" => {
                announced.push(CHANGE_REQUESTED.to_owned());
                requested = true;
                settled = !latest.is_empty();
            }
            // COMPLETE replaces a failure, and nothing replaces COMPLETE.
            "FAILED" | "COMPLETE" if latest != "COMPLETE" => {
                settled = requested;
                latest = step;
            }
            _ => {}
        }
        if settled {
            announced.push(format!("{SETTLED} {latest}"));
        }
    }
    announced
}

/// Every order of the steps.
fn orders() -> Vec<Vec<&'static str>> {
    let mut orders = vec![Vec::new()];
    for _ in STEPS {
        let longer = |order: Vec<&'static str>| {
            let rest = STEPS.into_iter().filter(|step| !order.contains(step)).collect::<Vec<_>>();
            rest.into_iter().map(move |step| [&order[..], &[step]].concat())
        };
        orders = orders.into_iter().flat_map(longer).collect();
    }
    orders
}

#[tokio::test]
async fn ending_that_a_poll_finds_is_announced() {
    let app = App::at_noon().await.without_webhooks().await;
    let token = app.user_token().await;
    let id = app.create_challenge().await;
    app.circle.expire_challenge(id, Expiry::Expired).unwrap();
    assert_eq!(app.announced(id).await, [CHANGE_REQUESTED]);
    for _ in 0..2 {
        app.get_challenge(id).token(&token).send().await.is(200);
        app.advance(MINUTE);
    }
    assert_eq!(app.announced(id).await, [CHANGE_REQUESTED, "PIN Challenge Settled EXPIRED"]);
}

#[tokio::test]
async fn ending_that_reconciliation_finds_is_announced() {
    let (app, reconciler) = Reconciler::start([]).await;
    let ids = app.create_challenges(12).await;
    for &id in &ids {
        app.circle.enter_pin(id, PinEntry::typed("112233")).unwrap();
    }
    app.advance(FIRST_CHECK);
    for settled in [12, 0] {
        assert_eq!(reconciler.run().await.settled, settled);
    }
    for id in ids {
        assert_eq!(app.announced(id).await, [CHANGE_REQUESTED, "PIN Challenge Settled COMPLETE"]);
    }
}

#[tokio::test]
async fn challenge_of_another_app_and_a_removed_record_are_not_announced() {
    let app = App::at_noon().await.without_webhooks().await;
    for status in ["IN_PROGRESS", "COMPLETE"] {
        app.post_webhook(&app.message(Uuid::from_u128(7), status)).await.is(200);
    }
    app.delete_record(Uuid::from_u128(7)).await;
    assert_eq!(app.events().await, [] as [Value; 0]);
    let id = app.create_challenge().await;
    app.delete_record(id).await;
    assert_eq!(app.announced(id).await, [CHANGE_REQUESTED]);
    assert_eq!(app.unreadable_records().await, [] as [Value; 0]);
}

/// The detail-type and the detail of each event.
fn details(events: &[Value]) -> Vec<(&str, &Value)> {
    events.iter().map(|event| (event["detail-type"].as_str().unwrap(), &event["detail"])).collect()
}
