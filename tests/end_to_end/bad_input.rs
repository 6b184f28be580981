use local::circle_simulator::FactorStatus;
use local::circle_simulator::UserChange;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, App, USER, send};

const JSON: &str = "application/json";

async fn create(app: &App, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = app.request("POST /challenges");
    let request =
        if content_type.is_empty() { request } else { request.header("content-type", content_type) };
    send(request.body(body)).await
}

/// Nothing was asked of Circle on behalf of a request that was refused at once.
#[track_caller]
fn circle_heard_nothing(app: &App) {
    let calls = app.stack.circle.call_counts();
    assert!(!calls.keys().any(|call| call.contains("/v1/w3s/")), "{calls:?}");
}

fn invalid_body() -> Value {
    json!({
        "status": 400,
        "code": "invalid_body",
        "title": "Invalid body",
        "detail": "The body has to be a JSON object with no other member than type, like {\"type\": \"CHANGE_PIN\"}.",
    })
}

#[tokio::test]
async fn a_body_that_is_no_object_of_the_known_member_is_refused() {
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
        create(&app, JSON, body).await.is_problem(invalid_body());
    }
    create(&app, JSON, &b"{\"type\": \"\xff\"}"[..]).await.is_problem(invalid_body());
    circle_heard_nothing(&app);
}

#[tokio::test]
async fn a_type_that_this_service_does_not_make_is_refused() {
    let app = App::start().await;
    for kind in [
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
        create(&app, JSON, json!({ "type": kind }).to_string()).await.is_problem(json!({
            "status": 400,
            "code": "invalid_challenge_type",
            "title": "Invalid challenge type",
            "detail": "The member type has to be CHANGE_PIN or RESTORE_PIN.",
        }));
    }
    circle_heard_nothing(&app);
}

#[tokio::test]
async fn no_body_and_an_empty_object_mean_change_pin() {
    let app = App::start().await;
    let plain = send(app.request("POST /challenges")).await;
    // Without a body there is nothing that a content type could be wrong about.
    let typed = create(&app, "text/plain", "").await;
    let empty_object = create(&app, "Application/JSON; charset=utf-8", "{}").await;
    let asked = create(&app, JSON, "{\"type\": \"CHANGE_PIN\"}").await;
    for answer in [plain, typed, empty_object, asked] {
        assert_eq!((answer.status, &answer.body["type"]), (201, &json!("CHANGE_PIN")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_of_16_kib_is_read_and_a_larger_one_is_not() {
    let app = App::start().await;
    let body = |length: usize| format!("{{\"type\": \"RESTORE_PIN\"{}}}", " ".repeat(length - 23));
    let answer = create(&app, JSON, body(16 * 1024)).await;
    assert_eq!((answer.status, &answer.body["type"]), (201, &json!("RESTORE_PIN")));
    let too_large = json!({
        "status": 413,
        "code": "body_too_large",
        "title": "Body too large",
        "detail": "The body may have 16 KiB at most.",
    });
    create(&app, JSON, body(16 * 1024 + 1)).await.is_problem(too_large.clone());
    create(&app, "", vec![b'x'; 1024 * 1024]).await.is_problem(too_large);
}

#[tokio::test]
async fn a_body_of_another_type_than_json_is_refused() {
    let app = App::start().await;
    for content_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/problem+json",
        "application/jsonp",
        "json",
        ";application/json",
    ] {
        create(&app, content_type, "{\"type\": \"CHANGE_PIN\"}").await.is_problem(json!({
            "status": 415,
            "code": "unsupported_media_type",
            "title": "Unsupported media type",
            "detail": "Send the body as JSON, with the header Content-Type: application/json.",
        }));
    }
    circle_heard_nothing(&app);
}

fn invalid_user_token() -> Value {
    json!({
        "status": 400,
        "code": "invalid_user_token",
        "title": "Invalid user token",
        "detail": "The header X-User-Token has to be a userToken as POST /session-tokens returned it.",
    })
}

#[tokio::test]
async fn a_user_token_that_cannot_be_one_is_refused() {
    let app = App::start().await;
    let id = Uuid::from_u128(1);
    for token in
        ["", "token", "a.b.c", "a.%%.c", "e30.e30.e30", "e30.eyJzdWIiOjd9.e30", "two words", "a.b.c.d"]
    {
        for call in ["POST /challenges", &format!("GET /challenges/{id}")] {
            send(app.request(call).header("x-user-token", token)).await.is_problem(invalid_user_token());
        }
    }
    let mut not_ascii = invalid_user_token();
    not_ascii["detail"] = "The header x-user-token has to be printable ASCII.".into();
    for token in [&b"t\xc3\xb6ken"[..], b"t\xf6ken"] {
        let request = app.request("POST /challenges").header("x-user-token", token);
        send(request).await.is_problem(not_ascii.clone());
    }
    circle_heard_nothing(&app);
}

#[tokio::test]
async fn the_session_of_another_user_is_refused() {
    let app = App::start().await;
    app.stack.add_user("bobby", "778899");
    let bearer = app.stack.sign_in("bobby");
    let session = send(app.anonymous("POST /session-tokens").bearer_auth(bearer)).await;
    let bobbys = session.body["userToken"].as_str().unwrap();
    app.stack.circle.reset_call_counts();
    for call in ["POST /challenges", &format!("GET /challenges/{}", Uuid::from_u128(1))] {
        send(app.request(call).header("x-user-token", bobbys)).await.is_problem(json!({
            "status": 403,
            "code": "user_token_mismatch",
            "title": "User token of another user",
            "detail": "The user token belongs to another user. Ask POST /session-tokens for one of the signed-in user.",
        }));
    }
    circle_heard_nothing(&app);
}

#[tokio::test]
async fn a_user_token_that_circle_does_not_take_is_refused() {
    let app = App::start().await;
    let session = send(app.request("POST /session-tokens")).await;
    let token = session.body["userToken"].as_str().unwrap();
    let refused = |circle_code: i64| {
        let mut expected = invalid_user_token();
        expected["detail"] =
            "Circle does not accept the user token. Ask POST /session-tokens for a new one.".into();
        expected["circleCode"] = circle_code.into();
        expected
    };
    // Signed by somebody else: the claims are Alice's, the signature is not Circle's.
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(342));
    send(app.request("POST /challenges").header("x-user-token", forged)).await.is_problem(refused(155_105));
    app.stack.circle.forget_user_tokens(USER);
    send(app.request("POST /challenges").header("x-user-token", token)).await.is_problem(refused(155_103));
}

#[tokio::test]
async fn an_idempotency_key_has_to_be_one_uuid() {
    let app = App::start().await;
    let invalid = json!({
        "status": 400,
        "code": "invalid_idempotency_key",
        "title": "Invalid idempotency key",
        "detail": "The header Idempotency-Key has to be a UUID: a new one for each intended challenge, the same for its repeats.",
    });
    for key in
        ["", "1", "not-a-uuid", "b04046ff-3aac-4ae1-ac07-7eb0d789252", "b04046ff 3aac 4ae1 ac07 7eb0d7892520"]
    {
        send(app.request("POST /challenges").header("idempotency-key", key))
            .await
            .is_problem(invalid.clone());
    }
    let key = Uuid::from_u128(1).to_string();
    let twice =
        app.request("POST /challenges").header("idempotency-key", &key).header("idempotency-key", &key);
    send(twice).await.is_problem(invalid.clone());
    let mut not_ascii = invalid;
    not_ascii["detail"] = "The header idempotency-key has to be printable ASCII.".into();
    let request = app.request("POST /challenges").header("idempotency-key", "schl\u{fc}ssel".as_bytes());
    send(request).await.is_problem(not_ascii);
    circle_heard_nothing(&app);
}

#[tokio::test]
async fn a_challenge_id_has_to_be_a_uuid_of_the_callers_own() {
    let app = App::start().await;
    for id in ["1", "not-a-uuid", "%20", "%ff", "b04046ff-3aac-4ae1-ac07-7eb0d789252", "..;"] {
        send(app.request(&format!("GET /challenges/{id}"))).await.is_problem(json!({
            "status": 400,
            "code": "invalid_challenge_id",
            "title": "Invalid challenge id",
            "detail": "The challenge id in the path has to be a UUID, as POST /challenges returned it.",
        }));
    }
    let not_found = json!({
        "status": 404,
        "code": "challenge_not_found",
        "title": "Challenge not found",
        "detail": "The signed-in user has no such challenge.",
    });
    send(app.request(&format!("GET /challenges/{}", Uuid::from_u128(1)))).await.is_problem(not_found.clone());

    let made = send(app.request("POST /challenges")).await;
    let id = made.body["challengeId"].as_str().unwrap();
    app.stack.add_user("bobby", "778899");
    let bobby = app.anonymous(&format!("GET /challenges/{id}")).bearer_auth(app.stack.sign_in("bobby"));
    send(bobby).await.is_problem(not_found);
    let upper = send(app.request(&format!("GET /challenges/{}", id.to_uppercase()))).await;
    assert_eq!((upper.status, &upper.body["challengeId"]), (200, &json!(id)));
}

#[tokio::test]
async fn a_user_whose_state_rules_a_challenge_out_is_told_so() {
    let app = App::start().await;
    let set = |change: UserChange| app.stack.circle.put_user(USER, change).unwrap();
    set(UserChange { pin_status: Some(FactorStatus::Unset), ..UserChange::default() });
    let no_pin = json!({
        "status": 409,
        "code": "pin_not_set",
        "title": "PIN not set",
        "detail": "The user has no PIN yet. Have the user set one with Circle's SDK first.",
    });
    create(&app, JSON, "{}").await.is_problem(no_pin);

    set(UserChange { security_question_status: Some(FactorStatus::Unset), ..UserChange::with_pin("112233") });
    create(&app, JSON, "{\"type\": \"RESTORE_PIN\"}").await.is_problem(json!({
        "status": 409,
        "code": "security_questions_not_set",
        "title": "Security questions not set",
        "detail": "The user has set no security questions, so the PIN can be changed but not restored.",
    }));
    assert_eq!(app.stack.circle.challenges(), []);
}
