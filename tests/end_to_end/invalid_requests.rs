use local::circle_simulator::{FactorStatus, UserChange};
use serde_json::json;
use uuid::Uuid;

use crate::support::{App, KEY, Request, USER, text};

/// A challenge id that no test creates.
const UNKNOWN: Uuid = Uuid::from_u128(1);

/// A rejected request costs no call to Circle.
#[track_caller]
fn circle_was_not_called(app: &App) {
    assert_eq!(app.caller_calls(), 0);
}

#[tokio::test]
async fn body_that_is_not_an_object_with_only_a_type_is_rejected() {
    let app = App::start().await;
    for body in [
        "{",
        "not json",
        "{\"type\": \"CHANGE_PIN\"} and more",
        "null",
        "7",
        "\"CHANGE_PIN\"",
        "[]",
        "[\"RESTORE_PIN\"]",
        "{\"userId\": \"bobby\"}",
        "{\"type\": \"CHANGE_PIN\", \"userId\": \"bobby\"}",
        "{\"Type\": \"CHANGE_PIN\"}",
        "{\"type\": \"CHANGE_PIN\", \"type\": \"RESTORE_PIN\"}",
        "{\"type\": \"CHANGE_PIN\",}",
        " ",
    ] {
        println!("{body}");
        app.post_challenge().json(body).send().await.is_problem(400, "invalid_body");
    }
    let not_utf8 = app.post_challenge().header("content-type", "application/json");
    let not_utf8 = not_utf8.body(&b"{\"type\": \"\xff\"}"[..]);
    not_utf8.send().await.is_problem(400, "invalid_body");
    circle_was_not_called(&app);
}

#[tokio::test]
async fn unsupported_challenge_type_is_rejected() {
    let app = App::start().await;
    for challenge_type in [
        json!("SET_PIN"),
        json!("change_pin"),
        json!("CHANGE_PIN "),
        json!(""),
        json!(null),
        json!(7),
        json!(true),
        json!(["CHANGE_PIN"]),
        json!({ "CHANGE_PIN": null }),
    ] {
        let request = app.post_challenge().json(json!({ "type": challenge_type }));
        request.send().await.is_problem(400, "invalid_challenge_type");
    }
    circle_was_not_called(&app);
}

#[tokio::test]
async fn missing_body_and_empty_object_mean_change_pin() {
    let app = App::start().await;
    for request in [
        app.post_challenge(),
        // The content type of an empty body does not matter.
        app.post_challenge().header("content-type", "text/plain").body(""),
        app.post_challenge().header("content-type", "Application/JSON; charset=utf-8").body("{}"),
        app.post_challenge().json("{\"type\": \"CHANGE_PIN\"}"),
    ] {
        assert_eq!(request.send().await.is(201)["type"], "CHANGE_PIN");
    }
}

#[tokio::test]
async fn body_of_16_kib_is_accepted_and_a_larger_one_rejected() {
    let app = App::start().await;
    let body = |length: usize| format!("{{\"type\": \"RESTORE_PIN\"{}}}", " ".repeat(length - 23));
    let accepted = app.post_challenge().json(body(16 * 1024)).send().await;
    assert_eq!(accepted.is(201)["type"], "RESTORE_PIN");
    for request in
        [app.post_challenge().json(body(16 * 1024 + 1)), app.post_challenge().body(vec![b'x'; 1024 * 1024])]
    {
        let response = request.send().await;
        response.is_problem(413, "body_too_large");
        response.mentions("detail", "16 KiB");
    }
}

#[tokio::test]
async fn body_with_another_content_type_than_json_is_rejected() {
    let app = App::start().await;
    let request = || app.post_challenge().body("{\"type\": \"CHANGE_PIN\"}");
    request().send().await.is_problem(415, "unsupported_media_type");
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/problem+json",
        "application/jsonp",
        "json",
        ";application/json",
    ] {
        let response = request().header("content-type", content_type).send().await;
        response.is_problem(415, "unsupported_media_type");
    }
    circle_was_not_called(&app);
}

/// The requests that take a user token.
fn with_token(app: &App, token: &str) -> [Request; 2] {
    [app.post_challenge().token(token), app.get_challenge(UNKNOWN).token(token)]
}

#[tokio::test]
async fn malformed_user_token_is_rejected() {
    let app = App::start().await;
    for token in
        ["", "token", "a.b.c", "a.%%.c", "e30.e30.e30", "e30.eyJzdWIiOjd9.e30", "two words", "a.b.c.d"]
    {
        for request in with_token(&app, token) {
            request.send().await.is_problem(400, "invalid_user_token");
        }
    }
    for token in [&b"t\xc3\xb6ken"[..], b"t\xf6ken"] {
        let not_ascii = app.post_challenge().header("x-user-token", token);
        not_ascii.send().await.is_problem(400, "invalid_user_token");
    }
    circle_was_not_called(&app);
}

#[tokio::test]
async fn user_token_of_another_user_is_rejected() {
    let app = App::start().await;
    let bobby = app.add_user("bobby");
    let session = app.post_session_token().bearer(&bobby).send().await;
    app.circle.reset_call_counts();
    for request in with_token(&app, text(session.is(201), "userToken")) {
        request.send().await.is_problem(403, "user_token_mismatch");
    }
    circle_was_not_called(&app);
}

#[tokio::test]
async fn user_token_that_circle_rejects_is_rejected() {
    let app = App::start().await;
    let token = app.user_token().await;
    // The claims are alice's, but the signature is not Circle's.
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(342));
    let response = app.post_challenge().token(&forged).send().await;
    response.is_problem_with(400, "invalid_user_token", json!({ "circleCode": 155_105 }));
    assert!(app.circle.challenges().is_empty());
    let polled = app.get_challenge(app.create_challenge().await).token(&forged).send().await;
    assert_eq!(polled.is(200)["checkError"]["code"], "invalid_user_token");
    // A token that Circle no longer knows has expired. It is replaced.
    app.circle.forget_user_tokens(USER);
    let created = app.post_challenge().token(&token).send().await;
    assert_ne!(text(&created.is(201)["session"], "userToken"), token);
}

#[tokio::test]
async fn idempotency_key_that_is_not_one_uuid_is_rejected() {
    let app = App::start().await;
    let twice = app.post_challenge().key(KEY).key(KEY);
    let not_ascii = app.post_challenge().header("idempotency-key", "schl\u{fc}ssel".as_bytes());
    let invalid = [
        "",
        "1",
        "not-a-uuid",
        "b04046ff-3aac-4ae1-ac07-7eb0d789252",
        "b04046ff 3aac 4ae1 ac07 7eb0d7892520",
    ];
    for request in invalid.map(|key| app.post_challenge().key(key)).into_iter().chain([twice, not_ascii]) {
        request.send().await.is_problem(400, "invalid_idempotency_key");
    }
    circle_was_not_called(&app);
}

#[tokio::test]
async fn challenge_id_must_be_a_uuid_of_the_callers_own_challenge() {
    let app = App::start().await;
    for id in ["1", "not-a-uuid", "%20", "%ff", "b04046ff-3aac-4ae1-ac07-7eb0d789252", "..;"] {
        app.get_challenge(id).send().await.is_problem(400, "invalid_challenge_id");
    }
    app.get_challenge(UNKNOWN).send().await.is_problem(404, "challenge_not_found");

    let id = app.create_challenge().await;
    let bobby = app.add_user("bobby");
    app.get_challenge(id).bearer(&bobby).send().await.is_problem(404, "challenge_not_found");
    let upper_case = app.get_challenge(id.to_string().to_uppercase()).send().await;
    assert_eq!(upper_case.is(200)["challengeId"], json!(id));
}

#[tokio::test]
async fn challenge_that_the_users_state_does_not_allow_is_rejected() {
    let app = App::start().await;
    app.change_user(UserChange { pin_status: Some(FactorStatus::Unset), ..UserChange::default() });
    app.post_challenge().json("{}").send().await.is_problem(409, "pin_not_set");

    let questions = Some(FactorStatus::Unset);
    app.change_user(UserChange { security_question_status: questions, ..UserChange::with_pin("112233") });
    app.post_challenge().restore().send().await.is_problem(409, "security_questions_not_set");
    assert_eq!(app.circle.challenges(), []);
}
