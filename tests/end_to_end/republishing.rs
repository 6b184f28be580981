use local::event_bus::BusFault::AccessDenied;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{App, CHANGE_REQUESTED, MINUTE, RECOVERY_REQUESTED, SECOND, SETTLED, challenge_id};

const UNKNOWN: &str = "there is no requested challenge with this id";

#[tokio::test]
async fn operator_publishes_again_what_the_records_say() {
    let app = App::start().await.without_webhooks().await;
    let open = challenge_id(app.post_challenge().restore().send().await.is(201));
    let settled = app.create_challenge().await;
    for status in ["FAILED", "COMPLETE"] {
        app.post_webhook(&app.message(settled, status)).await.is(200);
    }
    let (unknown, of_another_app) = (Uuid::from_u128(7), Uuid::from_u128(8));
    app.post_webhook(&app.message(of_another_app, "COMPLETE")).await.is(200);
    let before = app.events().await;

    let ids = [open, settled, unknown, of_another_app];
    let challenges = republish(&app, &ids).await;
    assert_eq!(
        challenges,
        json!([
            { "challengeId": open, "published": [RECOVERY_REQUESTED] },
            { "challengeId": settled, "published": [CHANGE_REQUESTED, SETTLED] },
            { "challengeId": unknown, "published": [], "error": UNKNOWN },
            { "challengeId": of_another_app, "published": [], "error": UNKNOWN },
        ])
    );
    let after = app.events().await;
    let detail = |events: &[Value]| events.iter().map(|event| event["detail"].clone()).collect::<Vec<_>>();
    // The failure that COMPLETE replaced is no longer in the record.
    let (first, repeated) = (detail(&before), detail(&after[before.len()..]));
    assert_eq!(repeated, [first[0].clone(), first[1].clone(), first[3].clone()]);
}

#[tokio::test]
async fn command_says_what_was_not_published() {
    let app = App::start().await.without_webhooks().await;
    let id = app.create_challenge().await;
    let _ = app.events().await;
    app.stack.event_bus.fail_next([AccessDenied]);
    let error = "an event could not be published; the log says why";
    assert_eq!(republish(&app, &[id]).await, json!([{ "challengeId": id, "published": [], "error": error }]));

    let record = app.record(id).await;
    app.put_record(json!({ "challengeId": id, "requestedAt": record["requestedAt"] })).await;
    let error = "the item has no readable type";
    assert_eq!(republish(&app, &[id]).await, json!([{ "challengeId": id, "published": [], "error": error }]));

    let error = "there was no time left; send this id again";
    let response = app.announce(json!({ "challengeIds": [id] }), SECOND / 2).await.unwrap();
    assert_eq!(response["challenges"], json!([{ "challengeId": id, "published": [], "error": error }]));
}

#[tokio::test]
async fn table_that_cannot_be_reached_is_named() {
    let app = App::with_settings([("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")]).await;
    let challenges = republish(&app, &[Uuid::from_u128(7)]).await;
    let error = challenges[0]["error"].as_str().unwrap();
    assert!(error.starts_with("DynamoDB GetItem failed (request id none)"), "{error}");
}

#[tokio::test]
async fn event_of_another_kind_is_an_error_that_says_what_to_send() {
    let app = App::start().await;
    let error = async |event: Value| app.announce(event, MINUTE).await.unwrap_err();
    for event in [json!({}), json!({ "Records": {} }), json!("challengeIds"), json!(null)] {
        let expected = r#"the event is neither a batch of a DynamoDB stream nor {"challengeIds": ["..."]}"#;
        assert_eq!(error(event).await, expected);
    }
    let expected = "challengeIds must be a list of 1 to 100 UUIDs";
    assert_eq!(error(json!({ "challengeIds": ["alice"] })).await, expected);
}

async fn republish(app: &App, ids: &[Uuid]) -> Value {
    let response = app.announce(json!({ "challengeIds": ids }), MINUTE).await.unwrap();
    assert_eq!(response.as_object().unwrap().len(), 1, "{response}");
    response["challenges"].clone()
}
