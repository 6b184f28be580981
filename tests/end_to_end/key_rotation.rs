use local::circle_simulator::{Fault, PinEntry};
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, CREATE_SESSION, GET_CHALLENGE, GET_PUBLIC_KEY, GET_USER_BY_ID, GET_USER_BY_TOKEN,
    SECOND, fault_of, wait_until,
};

/// The calls to Circle of every function, with the number of calls that the test delays. A fault applies to each
/// path that starts with its own, so a longer path comes before a shorter one.
const DELAYED: [(&str, u32); 5] = [
    (CREATE_SESSION, 5),
    (GET_CHALLENGE, 1),
    (GET_USER_BY_ID, 1),
    (GET_USER_BY_TOKEN, 1),
    (GET_PUBLIC_KEY, 1),
];

#[tokio::test]
async fn no_request_fails_during_a_rotation_of_the_api_key() {
    let app = App::at_noon().await.without_webhooks().await;
    let circle = &app.circle;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    circle.start_challenge(id).unwrap();
    app.challenge(id).await;
    circle.rotate_signing_key();
    let reads = app.stack.secrets_manager.reads();
    circle.reset_call_counts();

    // Each call leaves with the old key, and is still under way when the new key replaces it.
    for (call, times) in DELAYED {
        circle.add_fault(Fault { delay_ms: 1000, times, ..fault_of(call) });
    }
    let sessions = async {
        tokio::join!(app.user_token(), app.user_token(), app.user_token(), app.user_token(), app.user_token())
    };
    let creation = async {
        let created = app.post_challenge().token(&token).send().await;
        assert_eq!(created.is(201)["status"], "PENDING");
    };
    let poll = async {
        let polled = app.get_challenge(id).token(&token).send().await;
        assert_eq!(polled.is(200)["status"], "IN_PROGRESS");
    };
    let pin = async { assert_eq!(app.get_pin().send().await.is(200)["pinStatus"], "ENABLED") };
    let webhook = async {
        let response = app.post_webhook(&app.message(Uuid::from_u128(1), "COMPLETE")).await;
        assert_eq!(response.outcome(), "applied");
    };
    let rotation = async {
        wait_until(|| DELAYED.iter().map(|(call, _)| circle.call_count(call)).sum::<u64>() == 9).await;
        circle.rotate_api_key();
        app.advance(SECOND);
    };
    tokio::join!(sessions, creation, poll, pin, webhook, rotation);
    let calls = DELAYED.map(|(call, _)| circle.call_count(call));
    assert_eq!(calls, [10, 2, 2, 2, 2], "each call was made again with the new key");
    assert_eq!(circle.call_count(CREATE_CHANGE_PIN), 1);
    let rereads = app.stack.secrets_manager.reads() - reads;
    assert_eq!(rereads, 5 + 2, "each function read the secret once, and two had not read it before");
}

#[tokio::test]
async fn open_challenge_survives_the_rotation_of_every_key() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    let (id, token) = (app.create_challenge().await, app.user_token().await);
    circle.start_challenge(id).unwrap();
    app.wait_for_webhook(id, "IN_PROGRESS", 200).await;
    circle.rotate_api_key();
    circle.rotate_signing_key();
    let polled = app.get_challenge(id).token(&token).send().await;
    assert_eq!(polled.is(200)["status"], "IN_PROGRESS");
    circle.enter_pin(id, PinEntry::right()).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    assert_eq!(app.challenge(id).await["status"], "COMPLETE");
    let mut deliveries = circle.deliveries().into_iter();
    assert!(deliveries.all(|delivery| delivery.status == Some(200)), "no webhook was retried");
}
