use local::circle_simulator::{Fault, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{App, DAY, HOUR, MINUTE, Reconciler, SECOND, challenge_id, not_found_at_circle};

#[tokio::test]
async fn abandoned_challenge_is_checked_by_the_next_run() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(8 * DAY);
    assert_eq!(reconciler.run().await.abandoned, 1);
    let abandoned = app.record(id).await;
    app.circle.enter_pin(id, PinEntry::right()).unwrap();

    assert_eq!(resume(&reconciler, &[id]).await, json!([{ "challengeId": id, "outcome": "resumed" }]));
    let resumed = app.record(id).await;
    let changed = |record: &Value| {
        let mut record = record.as_object().unwrap().clone();
        for name in ["abandonedAt", "abandonedReason", "claimedBy", "nextCheckAt", "openShard"] {
            record.remove(name);
        }
        record
    };
    assert_eq!(changed(&resumed), changed(&abandoned));
    assert_eq!((&resumed["abandonedAt"], &resumed["abandonedReason"]), (&Value::Null, &Value::Null));
    assert_eq!(reconciler.run().await.settled, 1);
    assert_eq!(app.record(id).await["status"], "COMPLETE");
}

#[tokio::test]
async fn challenge_that_is_still_open_is_checked_once_and_abandoned_again() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(8 * DAY);
    assert_eq!(reconciler.run().await.abandoned, 1);
    resume(&reconciler, &[id]).await;
    let summary = reconciler.run().await;
    assert_eq!((summary.open, summary.abandoned), (1, 1));
    assert!(app.record(id).await.get("nextCheckAt").is_none());
}

#[tokio::test]
async fn challenge_that_circle_did_not_know_gets_its_full_time_again() {
    let (app, reconciler) = Reconciler::start([]).await;
    let lost = app.create_challenge_of("user-of-the-lost").await;
    app.create_challenges(2).await;
    app.circle.add_fault(Fault { times: 3, ..not_found_at_circle(lost) });
    for _ in 0..3 {
        app.advance(13 * HOUR);
        assert_eq!(reconciler.run().await.not_found, 1);
    }
    assert_eq!(app.record(lost).await["abandonedReason"], "not_found");
    resume(&reconciler, &[lost]).await;
    assert_eq!(app.record(lost).await.get("notFoundAt"), None);
    assert_eq!(reconciler.run().await.abandoned, 0);
    assert!(app.record(lost).await["nextCheckAt"].is_number());
}

#[tokio::test]
async fn only_abandoned_challenges_are_resumed() {
    let (app, reconciler) = Reconciler::start([]).await;
    let open = app.create_challenge().await;
    let settled = challenge_id(app.post_challenge().restore().send().await.is(201));
    app.post_webhook(&app.message(settled, "FAILED")).await.is(200);
    let (unknown, of_another_app) = (Uuid::from_u128(7), Uuid::from_u128(8));
    app.post_webhook(&app.message(of_another_app, "PENDING")).await.is(200);
    let records =
        async || [app.record(open).await, app.record(settled).await, app.record(of_another_app).await];
    let before = records().await;

    assert_eq!(
        resume(&reconciler, &[open, settled, unknown, of_another_app]).await,
        json!([
            { "challengeId": open, "outcome": "not_abandoned" },
            { "challengeId": settled, "outcome": "settled" },
            { "challengeId": unknown, "outcome": "not_found" },
            { "challengeId": of_another_app, "outcome": "not_found" },
        ])
    );
    assert_eq!(records().await, before);
    assert_eq!(app.record(unknown).await, Value::Null);
}

#[tokio::test]
async fn abandoned_challenge_that_a_webhook_has_settled_stays_settled() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    app.advance(8 * DAY);
    assert_eq!(reconciler.run().await.abandoned, 1);
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    assert_eq!(resume(&reconciler, &[id]).await, json!([{ "challengeId": id, "outcome": "settled" }]));
    assert!(app.record(id).await.get("nextCheckAt").is_none());
}

#[tokio::test]
async fn command_says_what_was_not_done() {
    let (app, reconciler) = Reconciler::start([]).await;
    let id = app.create_challenge().await;
    let response = reconciler.invoke(json!({ "challengeIds": [id] }), SECOND / 2).await.unwrap();
    let error = "there was no time left; send this id again";
    assert_eq!(response, json!({ "challenges": [{ "challengeId": id, "error": error }] }));

    let error = reconciler.invoke(json!({ "challengeIds": ["alice"] }), MINUTE).await.unwrap_err();
    assert_eq!(error, "challengeIds must be a list of 1 to 100 UUIDs");

    let app = App::with_settings([("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")]).await;
    let challenges = resume(&Reconciler::of(&app), &[id]).await;
    let error = challenges[0]["error"].as_str().unwrap();
    assert!(error.starts_with("DynamoDB UpdateItem failed (request id none)"), "{error}");
}

/// Invokes `reconcile-challenges` as an operator does.
async fn resume(reconciler: &Reconciler, ids: &[Uuid]) -> Value {
    let response = reconciler.invoke(json!({ "challengeIds": ids }), MINUTE).await.unwrap();
    assert_eq!(response.as_object().unwrap().len(), 1, "{response}");
    response["challenges"].clone()
}
