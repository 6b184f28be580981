use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    App, CREATE_CHANGE_PIN, KEY, MINUTE, SECOND, challenge_id, expected_challenge, fault_of, text, with,
};
use local::circle_simulator::{Fault, PinEntry};

/// The challenges of a page, and its cursor.
async fn page(app: &App, access_token: &str, query: &str) -> (Vec<Value>, Option<String>) {
    let response = app.get_challenges(query).bearer(access_token).send().await;
    let mut body = response.is(200).clone();
    let challenges = body["challenges"].as_array().unwrap().clone();
    let cursor = body.as_object_mut().unwrap().remove("nextCursor");
    assert_eq!(body, json!({ "challenges": challenges }), "nothing else is returned");
    (challenges, cursor.map(|cursor| cursor.as_str().unwrap().to_owned()))
}

/// The ids on every page of this size.
async fn all_ids(app: &App, access_token: &str, limit: usize) -> Vec<Vec<Uuid>> {
    let mut pages = Vec::new();
    let mut query = format!("?limit={limit}");
    loop {
        let (challenges, cursor) = page(app, access_token, &query).await;
        pages.push(challenges.iter().map(challenge_id).collect());
        let Some(cursor) = cursor else { return pages };
        query = format!("?limit={limit}&cursor={cursor}");
    }
}

#[tokio::test]
async fn challenges_are_listed_newest_first_page_by_page() {
    let app = App::at_noon().await.without_webhooks().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, app.create_challenge().await);
        app.advance(SECOND);
    }
    app.circle.reset_call_counts();
    let alice = &app.access_token;
    let (challenges, cursor) = page(&app, alice, "").await;
    assert_eq!(cursor, None);
    assert_eq!(challenges.iter().map(challenge_id).collect::<Vec<_>>(), ids);
    for (challenge, id) in challenges.iter().zip(&ids) {
        assert_eq!(challenge, &app.challenge(*id).await);
    }
    for limit in [1, 2, 3, 4, 100] {
        let pages = all_ids(&app, alice, limit).await;
        assert!(pages.iter().all(|page| page.len() <= limit), "{pages:?}");
        assert_eq!(pages.concat(), ids, "pages of {limit}");
    }
    assert_eq!(all_ids(&app, alice, 2).await, [&ids[..2], &ids[2..4], &ids[4..]]);
    assert!(app.circle.call_counts().is_empty());
}

#[tokio::test]
async fn challenges_of_the_same_millisecond_are_each_listed_once() {
    let app = App::at_noon().await.without_webhooks().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.create_challenge().await);
    }
    let mut listed = all_ids(&app, &app.access_token, 2).await.concat();
    ids.sort();
    listed.sort();
    assert_eq!(listed, ids);
}

#[tokio::test]
async fn page_has_twenty_challenges_unless_the_caller_says_otherwise() {
    let app = App::at_noon_with([("CHALLENGES_PER_HOUR", "1000"), ("CALL_BURST", "1000")]).await;
    let app = app.without_webhooks().await;
    for _ in 0..21 {
        app.create_challenge().await;
    }
    let (challenges, cursor) = page(&app, &app.access_token, "").await;
    assert_eq!((challenges.len(), cursor.is_some()), (20, true));
    let (challenges, cursor) = page(&app, &app.access_token, "?limit=100").await;
    assert_eq!((challenges.len(), cursor), (21, None));
}

#[tokio::test]
async fn each_user_sees_only_own_challenges() {
    let app = App::at_noon().await.without_webhooks().await;
    let bobby = app.add_user("bobby");
    let mut alices = Vec::new();
    for _ in 0..3 {
        alices.insert(0, app.create_challenge().await);
        app.advance(SECOND);
    }
    assert_eq!(page(&app, &bobby, "").await, (vec![], None));
    let bobbys = challenge_id(app.post_challenge().bearer(&bobby).send().await.is(201));
    app.advance(SECOND);
    alices.insert(0, app.create_challenge().await);
    let (_, cursor) = page(&app, &app.access_token, "?limit=1").await;
    let cursor = cursor.unwrap();
    assert!(!cursor.contains("alice"), "{cursor}");
    let with_alices_cursor = page(&app, &bobby, &format!("?cursor={cursor}")).await;
    assert_eq!(with_alices_cursor.0.iter().map(challenge_id).collect::<Vec<_>>(), [bobbys]);
    assert_eq!(all_ids(&app, &bobby, 1).await.concat(), [bobbys]);
    assert_eq!(all_ids(&app, &app.access_token, 3).await.concat(), alices);
    assert_eq!(app.get_challenges("").anonymous().send().await.status, 401);
}

#[tokio::test]
async fn challenge_that_no_caller_requested_is_not_listed() {
    let app = App::at_noon().await.without_webhooks().await;
    let of_another_app = app.message(Uuid::from_u128(1), "COMPLETE");
    assert_eq!(app.post_webhook(&of_another_app).await.outcome(), "applied");
    // Circle creates a challenge, and its response is lost.
    app.circle.add_fault(Fault { status: Some(400), after_effect: true, ..fault_of(CREATE_CHANGE_PIN) });
    assert_eq!(app.post_challenge().key(KEY).send().await.status, 502);
    let id = app.circle.challenges()[0].id;
    assert_eq!(app.post_webhook(&app.message(id, "IN_PROGRESS")).await.outcome(), "applied");
    assert_eq!(page(&app, &app.access_token, "").await, (vec![], None));

    app.post_challenge().key(KEY).send().await.is(200);
    let listed = page(&app, &app.access_token, "").await.0;
    assert_eq!(listed, [expected_challenge(id, "IN_PROGRESS")]);
}

#[tokio::test]
async fn listed_challenge_shows_how_it_ended() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = app.create_challenge().await;
    let error = json!({ "notification": { "errorCode": 155_119 } });
    app.post_webhook(&with(app.message(id, "FAILED"), error)).await.is(200);
    let listed = page(&app, &app.access_token, "").await.0;
    assert_eq!(listed[0]["failure"]["reason"], "pin_locked");
    assert_eq!(listed, [app.challenge(id).await]);
}

#[tokio::test]
async fn invalid_limit_and_cursor_are_rejected() {
    let app = App::at_noon().await;
    let too_long = "A".repeat(4000);
    for (name, value) in
        ["", "0", "101", "256", "-1", "1.5", "ten", "%20"].map(|limit| ("limit", limit)).into_iter().chain(
            ["", "abc", "%00", "%25%25", "%C3%A4", &too_long, &too_long[..31], &too_long[..33]]
                .map(|cursor| ("cursor", cursor)),
        )
    {
        let response = app.get_challenges(&format!("?{name}={value}")).send().await;
        response.is_problem(400, "invalid_parameter");
        response.mentions("detail", name);
    }
    for query in ["?limit=1", "?limit=100", &format!("?cursor={}", "A".repeat(32)), "?other=1"] {
        assert_eq!(page(&app, &app.access_token, query).await, (vec![], None), "{query}");
    }
}

/// The app knows nothing of the challenge any more, as after a lost `localStorage` or on a second device.
#[tokio::test]
async fn lost_challenge_is_found_again_and_completed() {
    let app = App::at_noon().await.without_webhooks().await;
    app.post_challenge().send().await.is(201);
    app.advance(2 * MINUTE);

    let (listed, _) = page(&app, &app.access_token, "?limit=1").await;
    assert_eq!(listed[0]["status"], "PENDING");
    let id = challenge_id(&listed[0]);
    let session = app.post_session_token().send().await;
    let token = text(session.is(201), "userToken");
    let polled = app.get_challenge(id).token(token).send().await;
    assert_eq!(polled.is(200)["status"], "PENDING");

    app.circle.enter_pin(id, PinEntry::right()).unwrap();
    app.advance(3 * SECOND);
    let polled = app.get_challenge(id).token(token).send().await;
    assert_eq!(polled.is(200)["status"], "COMPLETE");
    let (listed, _) = page(&app, &app.access_token, "").await;
    assert_eq!(listed, [polled.body]);
}
