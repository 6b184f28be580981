use announce_challenges::AnnounceChallenges;
use local::event_bus::BusFault::{AccessDenied, EntriesFail, ResponseLost, Unavailable};
use serde_json::{Value, json};
use shared::config::Environment;
use shared::platform::Platform;
use uuid::Uuid;

use crate::support::{App, CHANGE_REQUESTED, Log, MINUTE, SECOND, USER, with};

/// How often the AWS SDK makes a call that fails.
const SDK_ATTEMPTS: usize = 3;

/// How often the function sends an event that EventBridge does not accept.
const ATTEMPTS: usize = 3;

#[tokio::test]
async fn event_is_published_once_if_a_retry_helps() {
    let (app, log) = start().await;
    for fault in [Unavailable, EntriesFail(vec![0])] {
        app.stack.event_bus.fail_next([fault.clone(), fault.clone()]);
        let id = app.create_challenge().await;
        assert_eq!(app.announced(id).await, [CHANGE_REQUESTED], "{fault:?}");
    }
    assert_eq!(log.metrics(), [] as [String; 0]);
}

#[tokio::test]
async fn event_that_cannot_be_published_is_published_when_lambda_repeats_its_record() {
    let (app, log) = start().await;
    let faults = [
        vec![Unavailable; SDK_ATTEMPTS * 2],
        vec![AccessDenied; 2],
        vec![EntriesFail(vec![0]); ATTEMPTS * 2],
    ];
    for fault in faults {
        app.stack.event_bus.fail_next(fault.clone());
        let id = app.create_challenge().await;
        assert_eq!(app.announced(id).await, [CHANGE_REQUESTED], "{fault:?}");
        assert_eq!(log.count(&["publish_failed", &id.to_string()]), 2, "{}", log.text());
    }
    assert_eq!(log.metrics(), ["publish_failed"; 6]);
}

/// EventBridge has accepted the events, and nobody learns of it.
#[tokio::test]
async fn event_is_published_again_if_the_response_is_lost() {
    let app = App::start().await.without_webhooks().await;
    app.stack.event_bus.fail_next([ResponseLost]);
    let id = app.create_challenge().await;
    assert_eq!(app.announced(id).await, [CHANGE_REQUESTED; 2]);
}

#[tokio::test]
async fn last_event_of_a_challenge_is_about_its_newest_status_despite_failures() {
    let app = App::start().await.without_webhooks().await;
    for failures in 0..3 {
        let id = app.create_challenge().await;
        let _ = app.events().await;
        app.stack.event_bus.fail_next(vec![EntriesFail(vec![0]); ATTEMPTS * failures]);
        for status in ["FAILED", "COMPLETE"] {
            app.post_webhook(&app.message(id, status)).await.is(200);
        }
        let announced = app.announced(id).await;
        assert!(announced.iter().any(|one| one.ends_with("FAILED")), "{announced:?}");
        assert!(announced.last().unwrap().ends_with("COMPLETE"), "{announced:?}");
    }
}

/// EventBridge accepts or rejects each event of a call on its own.
#[tokio::test]
async fn events_of_a_challenge_stay_in_order_if_some_are_accepted_at_the_second_attempt() {
    let app = App::start().await.without_webhooks().await;
    for rejected in 0..16_u8 {
        let id = u128::from(rejected);
        let records = [
            requested(id),
            changed(requested(id), "PENDING", "FAILED"),
            changed(requested(id), "FAILED", "COMPLETE"),
            requested(100 + id),
        ];
        let positions = (0..records.len()).filter(|position| rejected >> position & 1 == 1).collect();
        app.stack.event_bus.fail_next([EntriesFail(positions)]);
        let response = app.announce(json!({ "Records": records }), MINUTE).await.unwrap();
        assert_eq!(response, json!({ "batchItemFailures": [] }));

        let announced = app.announced(Uuid::from_u128(id)).await;
        let changes = [CHANGE_REQUESTED, "PIN Challenge Settled FAILED", "PIN Challenge Settled COMPLETE"];
        let last_sent = changes.map(|change| announced.iter().rposition(|one| one == change));
        assert!(last_sent[0].is_some() && last_sent.is_sorted(), "{rejected:04b} {announced:?}");
        let other = app.announced(Uuid::from_u128(100 + id)).await;
        assert_eq!(other, [CHANGE_REQUESTED], "{rejected:04b}");
    }
}

/// Somebody wrote it, or a version of the service that this one does not know.
#[tokio::test]
async fn unreadable_record_between_two_good_ones_goes_to_the_queue_as_a_whole() {
    let (app, log) = start().await;
    let before = app.create_challenge().await;
    let poison = json!({
        "challengeId": Uuid::from_u128(7), "type": "SET_PIN", "status": "COMPLETE", "rank": 3, "userId": USER,
        "requestedAt": "2026-01-01T12:00:00Z", "updatedAt": "2026-01-01T12:00:00Z", "note": "\u{0}\u{ffff}",
    });
    app.put_record(poison).await;
    let after = app.create_challenge().await;
    for id in [before, after] {
        assert_eq!(app.announced(id).await, [CHANGE_REQUESTED]);
    }
    let [record] = &app.unreadable_records().await[..] else { panic!("one record is unreadable") };
    let image = &record["dynamodb"]["NewImage"];
    assert_eq!((&record["eventName"], &image["type"]["S"]), (&json!("INSERT"), &json!("SET_PIN")));
    assert_eq!((image.as_object().unwrap().len(), &image["note"]["S"]), (8, &json!("\u{0}\u{ffff}")));
    assert_eq!(log.metrics(), ["unreadable_record"]);
    assert_eq!(log.count(&["unreadable_record", "no readable type", "is in the queue"]), 1, "{}", log.text());
}

#[tokio::test]
async fn only_records_that_failed_are_batch_item_failures() {
    let app = App::start().await.without_webhooks().await;
    let failures = async |records: Vec<Value>| {
        let response = app.announce(json!({ "Records": records }), MINUTE).await.unwrap();
        let failures = response["batchItemFailures"].as_array().unwrap();
        assert_eq!(response.as_object().unwrap().len(), 1, "{response}");
        failures
            .iter()
            .map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let bus = &app.stack.event_bus;
    assert_eq!(failures(Vec::new()).await, [] as [&str; 0]);
    assert_eq!(failures((0..25).map(requested).collect()).await, [] as [&str; 0]);
    assert_eq!(app.events().await.len(), 25);

    // The second of three calls fails for good.
    bus.fail_next([EntriesFail(vec![]), AccessDenied]);
    let second_ten: Vec<_> = (10..20).map(sequence_number).collect();
    assert_eq!(failures((0..25).map(requested).collect()).await, second_ten);

    bus.fail_next(vec![EntriesFail(vec![1, 3]), EntriesFail(vec![1]), EntriesFail(vec![0])]);
    let accepted_at_last = [sequence_number(3)];
    assert_eq!(failures((0..5).map(requested).collect()).await, accepted_at_last);

    // A request that is recorded after the final webhook causes two events, and fails once.
    let mut both = requested(7);
    both["dynamodb"]["NewImage"]["status"]["S"] = json!("COMPLETE");
    bus.fail_next(vec![EntriesFail(vec![0, 1]); ATTEMPTS]);
    assert_eq!(failures(vec![both]).await, [sequence_number(7)]);

    let poisoned = || vec![requested(0), with(requested(1), json!({ "eventName": "RENAME" })), requested(2)];
    assert_eq!(failures(poisoned()).await, [] as [&str; 0]);
    assert_eq!(app.unreadable_records().await, poisoned()[1..2]);
    let before = app.events().await.len();
    bus.set_queue_available(false);
    assert_eq!(failures(poisoned()).await, [sequence_number(1)]);
    assert_eq!(app.events().await.len(), before + 2, "the records around it are announced");
    assert_eq!(failures(vec![json!("no record")]).await, [""], "Lambda repeats the whole batch");
    bus.set_queue_available(true);
    assert_eq!(failures(poisoned()).await, [] as [&str; 0]);
    assert_eq!(app.unreadable_records().await.len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_when_no_time_is_left() {
    let (app, log) = (App::at_noon().await.without_webhooks().await, Log::start());
    let poison = with(requested(1), json!({ "eventName": null }));
    let batch = json!({ "Records": [requested(0), poison] });
    let response = app.announce(batch, SECOND / 2).await.unwrap();
    let failed = json!([{ "itemIdentifier": sequence_number(0) }, { "itemIdentifier": sequence_number(1) }]);
    assert_eq!(response, json!({ "batchItemFailures": failed }));
    assert_eq!((app.events().await.len(), app.unreadable_records().await.len()), (0, 0));
    assert_eq!(log.metrics(), ["publish_failed", "unreadable_record"]);
}

/// A bus that accepts connections and never responds.
#[tokio::test]
async fn bus_that_does_not_respond_ends_the_invocation_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let app = App::at_noon_with([("AWS_ENDPOINT_URL_EVENTBRIDGE", &url)]).await;
    let batch = json!({ "Records": (0..100).map(requested).collect::<Vec<_>>() });
    let (response, waited) = app.timed(app.announce(batch, 10 * SECOND)).await;
    assert_eq!(response.unwrap()["batchItemFailures"].as_array().unwrap().len(), 100);
    assert!(waited < 10 * SECOND && waited > 9 * SECOND, "{waited:?}");
}

#[tokio::test]
async fn settings_are_required_and_an_api_key_is_not() {
    let app = App::start().await;
    let environment = |without: &[&str]| -> Environment {
        let all = app.stack.function_environment().clone().into_iter();
        all.filter(|(name, _)| !without.contains(&name.as_str())).collect()
    };
    let start =
        |environment| AnnounceChallenges::new(&Platform { environment, ..app.stack.platform.clone() });
    for required in ["CHALLENGES_TABLE", "EVENT_BUS_NAME", "UNREADABLE_RECORDS_QUEUE_URL"] {
        let error = start(environment(&[required])).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{required} is not set: give the ")), "{error}");
    }
    start(environment(&["CIRCLE_API_KEY_SECRET_ID", "CIRCLE_BASE_URL", "RATE_LIMITS_TABLE"])).unwrap();
}

/// An app whose webhooks are lost from now on, and what is logged from now on.
async fn start() -> (App, Log) {
    (App::start().await.without_webhooks().await, Log::start())
}

/// The record of a new challenge with this number, as Lambda hands it over.
fn requested(number: u128) -> Value {
    json!({
        "eventID": "c4ca4238a0b923820dcc509a6f75849b",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "SequenceNumber": sequence_number(number),
            "NewImage": {
                "challengeId": { "S": Uuid::from_u128(number) },
                "userId": { "S": USER },
                "type": { "S": "CHANGE_PIN" },
                "status": { "S": "PENDING" },
                "createdAt": { "S": "2026-01-01T12:00:00Z" },
                "requestedAt": { "S": "2026-01-01T12:00:00Z" },
                "updatedAt": { "S": "2026-01-01T12:00:00Z" },
                "checkedAt": { "S": "2026-01-01T12:00:00Z" },
            },
        },
    })
}

/// The record of a challenge whose status has changed.
fn changed(requested: Value, old: &str, new: &str) -> Value {
    let mut record = with(requested, json!({ "eventName": "MODIFY" }));
    record["dynamodb"]["OldImage"] = record["dynamodb"]["NewImage"].clone();
    for (image, status) in [("OldImage", old), ("NewImage", new)] {
        record["dynamodb"][image]["status"]["S"] = json!(status);
    }
    record
}

fn sequence_number(number: u128) -> String {
    format!("{:021}", 100_000_000_000_000_000_000 + number)
}
