use std::sync::Mutex;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::circle_simulator::{Access, AuthMode, ControlError, FactorStatus, UserStatus};

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn missing_or_malformed_api_key_is_code_401_and_a_wrong_one_is_code_4() {
    let stage = Stage::with_user().await;
    let url = format!("{}/v1/w3s/users/{USER}", stage.circle.url());
    let get = |header: Option<String>| {
        let request = stage.http.get(&url);
        reply(header.map_or(stage.http.get(&url), |value| request.header("Authorization", value)))
    };
    assert_eq!(get(None).await.error(), (401, 401));
    for malformed in
        ["Basic x", "Bearer x", "Bearer A:b:c", "Bearer TEST_API_KEY:x:", "Bearer TEST_API_KEY:a:b:c"]
    {
        assert_eq!(get(Some(malformed.to_owned())).await.error(), (401, 401), "{malformed}");
    }
    assert_eq!(get(Some("Bearer TEST_API_KEY:a:b".to_owned())).await.error(), (401, 4));
    assert_eq!(get(Some(format!("Bearer {}", stage.circle.api_key()))).await.status, 200);
}

#[tokio::test]
async fn rotation_ends_the_old_api_key_at_once_and_reports_the_new_one() {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let sink = reported.clone();
    let circle = CircleSimulator::start(CircleOptions {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        clock: AdjustableClock::running(),
        random: Arc::new(Random::from_system()),
        user_token_key: UserTokenKey::generate_in_background(),
        on_api_key_change: Some(Arc::new(move |key: &str| sink.lock().unwrap().push(key.to_owned()))),
    })
    .await;
    let old = circle.api_key();
    let url = format!("{}/v2/notifications/subscriptions", circle.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(reply(http.get(&url).bearer_auth(&old)).await.status, 200);
    let new = circle.rotate_api_key();
    assert_ne!(old, new);
    assert_eq!(circle.api_key(), new);
    assert_eq!(reported.lock().unwrap().as_slice(), std::slice::from_ref(&new));
    assert_eq!(reply(http.get(&url).bearer_auth(&old)).await.error(), (401, 4));
    assert_eq!(reply(http.get(&url).bearer_auth(&new)).await.status, 200);
}

#[tokio::test]
async fn request_id_is_echoed_or_generated() {
    let stage = Stage::with_user().await;
    let id = new_id().to_string();
    let path = format!("GET /v1/w3s/users/{USER}");
    let echoed = reply(stage.request(&path, None, None).header("X-Request-Id", &id)).await;
    assert_eq!(echoed.headers["X-Request-Id"].to_str().unwrap(), id);
    let generated = stage.call(&path, None, None).await;
    assert!(Uuid::parse_str(generated.headers["X-Request-Id"].to_str().unwrap()).is_ok());
    let rejected =
        reply(stage.request("GET /v1/w3s/users/nobody", None, None).header("X-Request-Id", &id)).await;
    assert_eq!(rejected.headers["X-Request-Id"].to_str().unwrap(), id);
}

#[tokio::test]
async fn new_user_has_no_pin_and_can_be_read() {
    let stage = Stage::new().await;
    let end_user = json!({
        "id": "user-1", "createDate": "2026-01-01T12:00:00Z", "status": "ENABLED", "authMode": "PIN",
        "pinStatus": "UNSET", "pinDetails": {"failedAttempts": 0},
        "securityQuestionStatus": "UNSET", "securityQuestionDetails": {"failedAttempts": 0},
    });
    let created = stage.post("/v1/w3s/users", &json!({"userId": USER})).await;
    assert_eq!((created.status, &created.body), (201, &json!({"data": end_user})));
    let by_id = stage.get("/v1/w3s/users/user-1", None).await;
    assert_eq!((by_id.status, &by_id.body), (200, &json!({"data": {"user": end_user}})));
    let token = stage.token(USER).await;
    let by_token = stage.get("/v1/w3s/user", Some(&token)).await;
    assert_eq!((by_token.status, &by_token.body), (200, &json!({"data": end_user})));
    assert_eq!(stage.post("/v1/w3s/users", &json!({"userId": USER})).await.error(), (409, 155_101));
}

#[tokio::test]
async fn user_id_has_5_to_50_characters() {
    let stage = Stage::new().await;
    for id in ["abcd".to_owned(), "x".repeat(51)] {
        assert_eq!(stage.post("/v1/w3s/users", &json!({"userId": id})).await.error(), (400, 2));
        assert_eq!(stage.post("/v1/w3s/users/token", &json!({"userId": id})).await.error(), (400, 2));
        assert_eq!(stage.get(&format!("/v1/w3s/users/{id}"), None).await.error(), (400, 2));
    }
    for id in ["abcde".to_owned(), "é".repeat(50)] {
        assert_eq!(stage.post("/v1/w3s/users", &json!({"userId": id})).await.status, 201);
        assert_eq!(stage.get(&format!("/v1/w3s/users/{id}"), None).await.status, 200);
    }
}

#[tokio::test]
async fn invalid_body_gets_an_error_that_names_the_parameter() {
    let stage = Stage::new().await;
    let missing = stage.post("/v1/w3s/users/token", &json!({})).await;
    assert_eq!(missing.error(), (400, 1));
    assert_eq!(
        missing.body["errors"],
        json!([{
            "error": "value_must_not_be_empty", "message": "userId must not be empty", "location": "body",
            "invalidValue": null, "constraints": {"required": true},
        }])
    );
    let invalid = stage.post("/v1/w3s/users/token", &json!({"userId": 12345})).await;
    assert_eq!(invalid.error(), (400, 2));
    assert_eq!(invalid.body["errors"][0]["invalidValue"], 12345);
    assert_eq!(stage.post("/v1/w3s/users/token", &json!("text")).await.error(), (400, 2));
    assert_eq!(stage.call("POST /v1/w3s/users/token", None, None).await.error(), (400, 2));
    let huge = stage.post("/v1/w3s/users", &json!({"userId": "x".repeat(2_000_000)})).await;
    assert_eq!(huge.error(), (400, 2));
}

#[tokio::test]
async fn unknown_users_paths_and_methods_are_rejected() {
    let stage = Stage::new().await;
    assert_eq!(stage.get("/v1/w3s/users/nobody", None).await.error(), (404, 155_102));
    assert_eq!(stage.post("/v1/w3s/users/token", &json!({"userId": "nobody"})).await.error(), (404, 155_102));
    assert_eq!(stage.get("/v1/w3s/wallets", None).await.error(), (404, 2));
    assert_eq!(stage.get("/v1/w3s/%zz", None).await.error(), (404, 2));
    assert_eq!(stage.call("DELETE /v1/w3s/user", None, None).await.error(), (405, -1));
    assert_eq!(stage.circle.call_count("unknown"), 3);
}

#[tokio::test]
async fn user_token_has_the_documented_claims_and_an_encryption_key() {
    let stage = Stage::with_user().await;
    let reply = stage.post("/v1/w3s/users/token", &json!({"userId": USER})).await;
    let key = STANDARD.decode(reply.body["data"]["encryptionKey"].as_str().unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    let token = reply.body["data"]["userToken"].as_str().unwrap();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap(), json!({"alg": "RS256", "typ": "JWT"}));
    let claims = claims(token);
    assert_eq!(claims["sub"], USER);
    assert_eq!(claims["iat"], NOON.unix_timestamp());
    assert_eq!(claims["exp"], NOON.unix_timestamp() + 3600);
    assert_eq!(claims["developerEntityEnvironment"], "TEST");
    for id in ["jti", "entityId", "internalUserId"] {
        assert!(Uuid::parse_str(claims[id].as_str().unwrap()).is_ok(), "{id}");
    }
    assert!(claims["iss"].as_str().unwrap().starts_with("https://"));
}

#[tokio::test]
async fn user_token_expires_after_60_minutes_of_the_simulators_clock() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.advance_clock(Duration::from_secs(3599));
    assert_eq!(stage.get("/v1/w3s/user", Some(&token)).await.status, 200);
    stage.circle.advance_clock(Duration::from_secs(1));
    assert_eq!(stage.get("/v1/w3s/user", Some(&token)).await.error(), (403, 155_104));
    assert_eq!(stage.change_pin(&token).await.error(), (403, 155_104));
}

#[tokio::test]
async fn invalid_forgotten_and_missing_user_tokens_have_different_errors() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    assert_eq!(stage.get("/v1/w3s/user", None).await.error(), (400, 1));
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let altered = format!("{rest}.{}", signature.chars().rev().collect::<String>());
    for invalid in ["nonsense", "a.b.c", altered.as_str()] {
        assert_eq!(stage.get("/v1/w3s/user", Some(invalid)).await.error(), (403, 155_105), "{invalid}");
    }
    let elsewhere = Stage::with_user().await.token(USER).await;
    assert_eq!(stage.get("/v1/w3s/user", Some(&elsewhere)).await.error(), (403, 155_105));
    stage.circle.forget_user_tokens(USER);
    assert_eq!(stage.get("/v1/w3s/user", Some(&token)).await.error(), (401, 155_103));
}

#[tokio::test]
async fn knob_lets_a_new_token_end_the_old_one() {
    let stage = Stage::with_user().await;
    let (first, second) = (stage.token(USER).await, stage.token(USER).await);
    assert_eq!(stage.get("/v1/w3s/user", Some(&first)).await.status, 200);
    stage.circle.set_knobs(|knobs| knobs.new_token_ends_old = true);
    let third = stage.token(USER).await;
    assert_eq!(stage.get("/v1/w3s/user", Some(&first)).await.error(), (401, 155_103));
    assert_eq!(stage.get("/v1/w3s/user", Some(&second)).await.error(), (401, 155_103));
    assert_eq!(stage.get("/v1/w3s/user", Some(&third)).await.status, 200);
}

#[tokio::test]
async fn knob_omits_the_encryption_key() {
    let stage = Stage::with_user().await;
    stage.circle.set_knobs(|knobs| knobs.omit_encryption_key = true);
    let reply = stage.post("/v1/w3s/users/token", &json!({"userId": USER})).await;
    let token = reply.body["data"]["userToken"].clone();
    assert_eq!((reply.status, reply.body), (200, json!({"data": {"userToken": token}})));
    assert_eq!(stage.get("/v1/w3s/user", token.as_str()).await.status, 200);
}

#[tokio::test]
async fn disabled_user_can_be_read_but_every_other_call_is_rejected() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let key = json!({"idempotencyKey": new_id()});
    let id = challenge_id(&stage.call("PUT /v1/w3s/user/pin", Some(&token), Some(&key)).await);
    let challenge = format!("GET /v1/w3s/user/challenges/{id}");
    let as_user = json!({"userId": USER});
    let calls = [
        ("POST /v1/w3s/users/token", None, Some(&as_user)),
        ("GET /v1/w3s/user", Some(&*token), None),
        (&*challenge, Some(&*token), None),
        ("GET /v1/w3s/user/challenges", Some(&*token), None),
        // With an idempotency key that was used before.
        ("PUT /v1/w3s/user/pin", Some(&*token), Some(&key)),
        ("POST /v1/w3s/user/pin/restore", Some(&*token), Some(&key)),
    ];
    let set_status = |status| {
        stage.circle.change_user(USER, UserChange { status: Some(status), ..UserChange::default() }).unwrap()
    };
    set_status(UserStatus::Disabled);
    for (call, token, body) in calls {
        assert_eq!(stage.call(call, token, body).await.error(), (403, 155_109), "{call}");
    }
    let read = stage.get(&format!("/v1/w3s/users/{USER}"), None).await;
    assert_eq!((read.status, &read.body["data"]["user"]["status"]), (200, &json!("DISABLED")));
    set_status(UserStatus::Enabled);
    for (call, token, body) in calls {
        assert_eq!(stage.call(call, token, body).await.status, 200, "{call}");
    }
}

#[tokio::test]
async fn user_state_can_be_set_and_a_lock_ends_with_time() {
    let stage = Stage::with_user().await;
    let change = UserChange {
        pin_status: Some(FactorStatus::Locked),
        security_question_status: Some(FactorStatus::Locked),
        status: Some(UserStatus::Disabled),
        ..UserChange::default()
    };
    let locked = json!({
        "failedAttempts": 3, "lockedDate": "2026-01-01T12:00:00Z", "lockedExpiryDate": "2026-01-01T12:30:00Z",
    });
    let user = stage.circle.change_user(USER, change).unwrap();
    assert_eq!((&user["pinStatus"], &user["pinDetails"]), (&json!("LOCKED"), &locked));
    assert_eq!(
        (&user["securityQuestionStatus"], &user["securityQuestionDetails"]),
        (&json!("LOCKED"), &locked)
    );
    assert_eq!(user["status"], "DISABLED");
    assert!(!user.to_string().contains("135790"), "the PIN is not shown");

    stage.circle.advance_clock(Duration::from_secs(30 * 60 - 1));
    assert_eq!(stage.circle.user(USER).unwrap()["pinStatus"], "LOCKED");
    stage.circle.advance_clock(Duration::from_secs(1));
    let user = stage.circle.user(USER).unwrap();
    assert_eq!((&user["pinStatus"], &user["pinDetails"]["failedAttempts"]), (&json!("ENABLED"), &json!(0)));

    let relocked = UserChange { pin_status: Some(FactorStatus::Locked), ..UserChange::default() };
    stage.circle.change_user(USER, relocked).unwrap();
    let user = stage.circle.change_user(USER, UserChange::ready()).unwrap();
    assert_eq!(
        user["pinDetails"],
        json!({"failedAttempts": 0, "lastLockOverrideDate": "2026-01-01T12:30:00Z"})
    );
}

#[tokio::test]
async fn expired_tokens_do_not_pile_up() {
    let stage = Stage::with_user().await;
    let expired = stage.token(USER).await;
    stage.circle.advance_clock(Duration::from_secs(3600));
    for _ in 0..999 {
        let id = new_id().to_string();
        stage.circle.state().issue_user_token(USER, id, NOON + Duration::from_secs(3600)).unwrap();
    }
    assert_eq!(stage.circle.state().user_tokens.len(), 999);
    assert_eq!(stage.get("/v1/w3s/user", Some(&expired)).await.error(), (403, 155_104));
}

#[tokio::test]
async fn users_of_other_sign_in_methods_have_no_pin() {
    let stage = Stage::with_user().await;
    for auth_mode in [AuthMode::Email, AuthMode::Social] {
        let change = UserChange { auth_mode: Some(auth_mode), ..UserChange::default() };
        let user = stage.circle.put_user(USER, change).unwrap();
        assert_eq!((&user["authMode"], &user["pinStatus"]), (&json!(auth_mode), &json!("UNSET")));
        assert_eq!(user["securityQuestionStatus"], "UNSET");
        let token = stage.token(USER).await;
        assert_eq!(claims(&token)["authMode"], json!(auth_mode));
        assert_eq!(stage.get("/v1/w3s/user", Some(&token)).await.body["data"], user);
        assert_eq!(stage.change_pin(&token).await.error(), (403, 155_110));
        assert_eq!(stage.restore_pin(&token).await.error(), (403, 155_110));
        let rejected = stage.circle.put_user(USER, UserChange::with_pin("135790")).unwrap_err();
        assert!(matches!(rejected, ControlError::Invalid(_)));
    }
    let change = UserChange { auth_mode: Some(AuthMode::Pin), ..UserChange::with_pin("135790") };
    assert_eq!(stage.circle.put_user(USER, change).unwrap()["pinStatus"], "ENABLED");
}

#[tokio::test]
async fn api_key_can_be_restricted_by_product() {
    let stage = Stage::with_user().await;
    let body = json!({"userId": USER});
    for (wallets, webhooks, expected) in [
        (Access::Read, Access::ReadWrite, [403, 200, 200]),
        (Access::None, Access::Read, [403, 403, 200]),
        (Access::ReadWrite, Access::None, [200, 200, 403]),
    ] {
        stage.circle.set_knobs(|knobs| (knobs.api_key_wallets, knobs.api_key_webhooks) = (wallets, webhooks));
        let replies = [
            stage.post("/v1/w3s/users/token", &body).await,
            stage.get(&format!("/v1/w3s/users/{USER}"), None).await,
            stage.get("/v2/notifications/subscriptions", None).await,
        ];
        for (reply, status) in replies.into_iter().zip(expected) {
            assert_eq!(reply.status, status, "{reply:?}");
            assert!(status == 200 || reply.error() == (403, 3));
        }
    }
    let wrong = stage.http.get(format!("{}/v1/w3s/users/{USER}", stage.circle.url()));
    assert_eq!(reply(wrong.bearer_auth("TEST_API_KEY:a:b")).await.error(), (401, 4));
}

#[tokio::test]
async fn api_key_can_be_restricted_to_addresses() {
    let stage = Stage::with_user().await;
    let path = format!("/v1/w3s/users/{USER}");
    stage.circle.set_knobs(|knobs| knobs.api_key_addresses = vec!["192.0.2.1".parse().unwrap()]);
    let rejected = stage.get(&path, None).await;
    assert_eq!((rejected.status, rejected.body), (403, json!({"message": "Forbidden"})));
    stage.circle.set_knobs(|knobs| knobs.api_key_addresses.push("127.0.0.1".parse().unwrap()));
    assert_eq!(stage.get(&path, None).await.status, 200);
}

#[tokio::test]
async fn body_must_be_declared_as_json() {
    let stage = Stage::with_user().await;
    let send = |content_type: Option<&'static str>| {
        let request = stage.request("POST /v1/w3s/users/token", None, None);
        let request = request.body(json!({"userId": USER}).to_string());
        reply(match content_type {
            Some(value) => request.header("Content-Type", value),
            None => request,
        })
    };
    for accepted in ["application/json", "Application/JSON; charset=utf-8"] {
        assert_eq!(send(Some(accepted)).await.status, 200, "{accepted}");
    }
    for rejected in [None, Some("text/plain"), Some("application/problem+json"), Some("garbage")] {
        let reply = send(rejected).await;
        assert_eq!(reply.error(), (400, 2), "{rejected:?}");
        assert_eq!(reply.body["errors"][0]["location"], "header");
    }
}
