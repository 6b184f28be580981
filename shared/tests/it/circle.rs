use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use shared::challenge::{Challenge, ChallengeType, ReportSource, Status};
use shared::circle::{Circle, CircleError, CircleIdempotencyKey, PinStatus};
use shared::circle_code::CircleCode;
use shared::clock::{AdjustableClock, Clock, Deadline};
use shared::problem::{Code, Problem};
use shared::random::Random;
use shared::secrets::UserToken;
use shared::telemetry::Chain;
use shared::user_id::UserId;
use uuid::Uuid;

use crate::support::Reply::{Drop, Json, Raw};
use crate::support::{FakeServer, NOON, deadline};

const CHALLENGE: &str = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";

async fn start() -> (FakeServer, Circle, AdjustableClock) {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::running();
    let circle = server.circle(&clock).await;
    (server, circle, clock)
}

fn user() -> UserId {
    "user/1 ?".parse().unwrap()
}

fn token() -> UserToken {
    UserToken::parse("the-user-token").unwrap()
}

#[tokio::test]
async fn a_session_is_created_with_the_api_key_and_a_request_id() {
    let (server, circle, clock) = start().await;
    server.replies([Json(200, json!({ "data": { "userToken": "token", "encryptionKey": "key" } }))]);
    let session = circle.create_session(&user(), deadline(&clock)).await.unwrap();
    let whole = serde_json::to_value(&session).unwrap();
    assert_eq!((&whole["userToken"], &whole["encryptionKey"]), (&json!("token"), &json!("key")));
    let lifetime = session.expires_at - clock.now();
    assert!(lifetime > time::Duration::minutes(59) && lifetime <= time::Duration::minutes(60));

    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.uri.path()), ("POST", "/v1/w3s/users/token"));
    assert_eq!(request.body, r#"{"userId":"user/1 ?"}"#);
    assert_eq!(request.headers["authorization"], "Bearer TEST_API_KEY:test-id:first");
    assert_eq!(request.headers["content-type"], "application/json");
    let id = request.headers["x-request-id"].to_str().unwrap();
    assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 4);
    assert_eq!(server.secret_reads(), 1);
}

#[tokio::test]
async fn a_session_expires_with_its_token_unless_that_has_expired() {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::frozen(NOON);
    let circle = server.circle(&clock).await;
    for (after, lifetime) in [(600, 600), (1, 1), (0, 3600), (-1, 3600)] {
        let claims = json!({ "sub": "user-1", "exp": NOON.unix_timestamp() + after });
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        server.replies([Json(200, json!({ "data": { "userToken": token, "encryptionKey": "key" } }))]);
        let session = circle.create_session(&user(), deadline(&clock)).await.unwrap();
        assert_eq!((session.expires_at - NOON).whole_seconds(), lifetime, "{after}");
    }
}

#[tokio::test]
async fn a_response_may_have_256_kib() {
    let (server, circle, clock) = start().await;
    let body = |padding: &str| format!(r#"{{"data":{{"user":{{}}}},"padding":"{padding}"}}"#);
    let padding = "a".repeat(256 * 1024 - body("").len());
    server.replies([Raw(200, vec![], body(&padding)), Raw(200, vec![], body(&(padding + "a")))]);
    circle.user(&user(), deadline(&clock)).await.unwrap();
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert!(matches!(error, CircleError::Unreadable { .. }), "{error}");
}

#[tokio::test]
async fn a_user_id_stays_one_segment_of_the_path() {
    let (server, circle, clock) = start().await;
    server.replies([Json(200, json!({ "data": { "user": { "pinStatus": "LOCKED" } } }))]);
    let found = circle.user(&user(), deadline(&clock)).await.unwrap();
    assert_eq!(found.pin_status, Some(PinStatus::Locked));
    assert_eq!(server.requests()[0].uri.path(), "/v1/w3s/users/user%2F1%20%3F");
}

#[tokio::test]
async fn each_type_of_challenge_has_its_own_call() {
    let (server, circle, clock) = start().await;
    server.replies([
        Json(201, json!({ "data": { "challengeId": CHALLENGE } })),
        Json(200, json!({ "data": { "challengeId": CHALLENGE } })),
    ]);
    let key = CircleIdempotencyKey::random(&Random::from_seed(9));
    let change =
        circle.create_challenge(ChallengeType::ChangePin, &token(), &key, deadline(&clock)).await.unwrap();
    let restore =
        circle.create_challenge(ChallengeType::RestorePin, &token(), &key, deadline(&clock)).await.unwrap();
    assert_eq!((change.id.to_string().as_str(), change.is_replay), (CHALLENGE, false));
    assert!(restore.is_replay);
    let requests = server.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].uri.path()), ("PUT", "/v1/w3s/user/pin"));
    assert_eq!((requests[1].method.as_str(), requests[1].uri.path()), ("POST", "/v1/w3s/user/pin/restore"));
    assert_eq!(requests[0].body, format!(r#"{{"idempotencyKey":"{}"}}"#, key.as_uuid()));
    assert_eq!(requests[0].headers["x-user-token"], "the-user-token");
}

fn poll() -> ReportSource {
    ReportSource::Poll { request_id: "request".into() }
}

fn reconcile() -> ReportSource {
    ReportSource::Reconcile { request_id: "run".into() }
}

fn record() -> Challenge {
    Challenge {
        id: CHALLENGE.parse().unwrap(),
        user_id: Some("alice".parse().unwrap()),
        challenge_type: ChallengeType::RestorePin,
        status: Status::Pending,
        created_at: NOON,
        requested_at: Some(NOON),
        updated_at: NOON,
        checked_at: NOON,
        previous_status: None,
        error_code: None,
        notification_id: None,
    }
}

#[tokio::test]
async fn a_challenge_is_read_as_a_report() {
    let (server, circle, clock) = start().await;
    let challenge = |challenge| Json(200, json!({ "data": { "challenge": challenge } }));
    server.replies([
        challenge(json!({ "id": CHALLENGE, "type": "CHANGE_PIN", "status": "FAILED", "errorCode": 155119,
                          "errorMessage": "locked", "correlationIds": ["a"] })),
        challenge(json!({ "id": CHALLENGE, "type": "CREATE_WALLET", "status": "COMPLETE" })),
        challenge(json!({ "id": CHALLENGE, "type": "", "status": "COMPLETE" })),
    ]);
    let record = record();
    let report = circle.challenge(&record, &token(), poll(), deadline(&clock)).await.unwrap().unwrap();
    assert_eq!((report.challenge_id, report.status), (record.id, Status::Failed));
    assert_eq!(
        (report.error_code, report.error_message.as_deref()),
        (Some(CircleCode::PIN_LOCKED), Some("locked"))
    );
    assert_eq!(report.correlation_ids, ["a"]);
    assert_eq!(circle.challenge(&record, &token(), poll(), deadline(&clock)).await.unwrap(), None);
    let report = circle.challenge(&record, &token(), poll(), deadline(&clock)).await.unwrap().unwrap();
    assert_eq!((report.challenge_type, report.status), (ChallengeType::RestorePin, Status::Complete));
}

#[tokio::test]
async fn the_error_code_of_an_expired_challenge_is_a_report_whatever_the_status() {
    let (server, circle, clock) = start().await;
    for status in [400, 403, 404, 410, 422] {
        server.replies([Json(status, json!({ "code": 155_121, "message": "too late" }))]);
        let asked = circle.challenge(&record(), &token(), reconcile(), deadline(&clock)).await;
        let report = asked.unwrap().unwrap();
        assert_eq!((report.status, report.source), (Status::Expired, reconcile()), "{status}");
        assert_eq!(report.challenge_type, ChallengeType::RestorePin);
        assert_eq!(report.error_code, Some(CircleCode::CHALLENGE_EXPIRED));
        assert_eq!(report.error_message.as_deref(), Some("too late"));
    }
}

#[tokio::test]
async fn a_challenge_is_unknown_to_circle_by_either_code() {
    let (server, circle, clock) = start().await;
    for (status, code) in [(404, 155_116), (400, 155_116), (400, 155_122), (404, 155_122), (404, 2)] {
        server.replies([Json(status, json!({ "code": code, "message": "which?" }))]);
        let asked = circle.challenge(&record(), &token(), poll(), deadline(&clock)).await;
        assert!(asked.unwrap_err().is_not_found(), "{status} {code}");
    }
}

#[tokio::test]
async fn a_paced_client_spaces_calls_and_retries_alike() {
    let (server, circle, clock) = start().await;
    let circle = circle.paced(10);
    let found = || Json(200, json!({ "data": { "user": {} } }));
    server.replies([Json(503, json!({})), found(), found(), found()]);
    let (user, deadline) = (user(), deadline(&clock));
    let before = clock.monotonic();
    let calls = tokio::join!(
        circle.user(&user, deadline),
        circle.user(&user, deadline),
        circle.user(&user, deadline),
    );
    assert!(calls.0.is_ok() && calls.1.is_ok() && calls.2.is_ok());
    assert_eq!(server.requests().len(), 4);
    assert!(clock.monotonic() - before >= Duration::from_millis(300), "three tenths between four requests");
}

#[tokio::test]
async fn a_call_whose_turn_is_after_its_deadline_is_not_sent() {
    let (server, circle, clock) = start().await;
    let circle = circle.paced(1);
    server.replies([Json(200, json!({ "data": { "user": {} } }))]);
    circle.user(&user(), deadline(&clock)).await.unwrap();
    let soon = Deadline::after(&clock, Duration::from_millis(50));
    let error = circle.user(&user(), soon).await.unwrap_err();
    assert!(matches!(error, CircleError::TimedOut { .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_missing_public_key_is_not_an_error() {
    let (server, circle, clock) = start().await;
    server.replies([
        Json(404, json!({ "code": 2, "message": "no such key" })),
        Json(200, json!({ "data": { "id": CHALLENGE, "algorithm": "ECDSA_SHA_256", "publicKey": "a2V5" } })),
    ]);
    let id = CHALLENGE.parse().unwrap();
    assert_eq!(circle.public_key(id, deadline(&clock)).await.unwrap(), None);
    let key = circle.public_key(id, deadline(&clock)).await.unwrap().unwrap();
    assert_eq!((key.algorithm.as_str(), key.public_key.as_str()), ("ECDSA_SHA_256", "a2V5"));
    assert_eq!(server.requests()[0].uri.path(), format!("/v2/notifications/publicKey/{CHALLENGE}"));
}

/// Every code of Circle's error table that a caller can receive, with the status that Circle documents, if any.
#[tokio::test]
async fn each_circle_code_has_its_problem() {
    let (server, circle, clock) = start().await;
    for (status, code, expected) in [
        (400, Some(-1), Code::CircleError),
        (400, Some(1), Code::CircleError),
        (400, Some(2), Code::CircleError),
        (403, Some(3), Code::Misconfigured),
        (401, Some(4), Code::Misconfigured),
        (401, Some(401), Code::Misconfigured),
        (409, Some(155_101), Code::CircleError),
        (404, Some(155_102), Code::UserNotFound),
        (401, Some(155_103), Code::InvalidUserToken),
        (403, Some(155_105), Code::InvalidUserToken),
        (409, Some(155_106), Code::CircleError),
        (403, Some(155_109), Code::UserDisabled),
        (418, Some(155_110), Code::PinNotSet),
        (418, Some(155_111), Code::SecurityQuestionsNotSet),
        (418, Some(155_119), Code::PinLocked),
        (418, Some(155_120), Code::SecurityAnswersLocked),
        (418, Some(999_999), Code::CircleError),
        (418, Some(155_108), Code::CircleError),
        (418, Some(155_113), Code::CircleError),
        (418, Some(155_117), Code::CircleError),
        (418, Some(155_122), Code::CircleError),
        (418, Some(155_124), Code::CircleError),
        (418, Some(155_137), Code::CircleError),
        (404, None, Code::CircleError),
        (403, None, Code::Misconfigured),
        (302, None, Code::CircleError),
    ] {
        server.replies([Json(status, json!({ "code": code, "message": "theirs" }))]);
        let error = circle.user_of_token(&token(), deadline(&clock)).await.unwrap_err();
        assert_eq!(error.code(), code.map(CircleCode));
        assert_eq!(Problem::from(error).code(), expected, "{status} {code:?}");
    }
}

#[tokio::test]
async fn an_error_keeps_what_support_asks_for_and_no_secret() {
    let (server, circle, clock) = start().await;
    let body =
        r#"{"code":155105,"message":"the-user-token is invalid for TEST_API_KEY:test-id:first","errors":[]}"#;
    server.replies([Raw(403, vec![("x-request-id", "circles-own-id")], body.into())]);
    let error = circle.user_of_token(&token(), deadline(&clock)).await.unwrap_err();
    assert_eq!(
        Chain(&error).to_string(),
        "GET /v1/w3s/user: Circle responded 403 with code 155105: [user token] is invalid for [API key] (request id circles-own-id)"
    );
}

#[tokio::test]
async fn an_unreadable_response_is_not_quoted() {
    let (server, circle, clock) = start().await;
    server.replies([
        Json(200, json!({ "data": { "userToken": ["the-secret"], "encryptionKey": "key" } })),
        Json(200, json!({ "data": { "userToken": "the-secret" } })),
        Raw(200, vec![], "the-secret".into()),
        Raw(200, vec![], "x".repeat(256 * 1024 + 1)),
        Json(200, json!({ "data": { "userToken": "the secret\n", "encryptionKey": "key" } })),
    ]);
    for problem in [
        "is not as documented",
        "is not as documented",
        "is not as documented",
        "is larger than",
        "is not as",
    ] {
        let error = circle.create_session(&user(), deadline(&clock)).await.unwrap_err();
        let text = format!("{} {error:?}", Chain(&error));
        assert!(text.contains(problem) && !text.contains("secret"), "{text}");
        assert_eq!(Problem::from(error).code(), Code::CircleError);
    }
    assert_eq!(server.requests().len(), 5, "an unreadable response is not retried");
}

#[tokio::test]
async fn transient_errors_are_retried_under_the_same_request_id() {
    let (server, circle, clock) = start().await;
    let found = || Json(200, json!({ "data": { "user": {} } }));
    for trouble in [Drop, Json(500, json!({})), Json(502, json!([])), Json(503, json!("?"))] {
        server.replies([trouble, found()]);
        circle.user(&user(), deadline(&clock)).await.unwrap();
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 8);
    for pair in requests.chunks(2) {
        assert_eq!(pair[0].headers["x-request-id"], pair[1].headers["x-request-id"]);
    }
}

#[tokio::test]
async fn after_three_attempts_the_last_error_is_returned() {
    let (server, circle, clock) = start().await;
    server.replies([Drop, Json(502, json!({})), Json(500, json!({ "code": -1 }))]);
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert!(matches!(error, CircleError::Response { status: 500, .. }), "{error}");
    assert_eq!(Problem::from(error).code(), Code::CircleUnavailable);
    server.replies([Drop, Drop, Drop]);
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert!(matches!(error, CircleError::Unreachable { .. }), "{error}");
    let text = format!("{} {error:?}", Chain(&error));
    assert!(!text.contains("user/1") && !text.contains("user%2F1"), "no URL: {text}");
    assert_eq!(Problem::from(error).code(), Code::CircleUnavailable);
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn retry_after_is_honoured_or_passed_on() {
    let (server, circle, clock) = start().await;
    let limited = |seconds| Raw(429, vec![("retry-after", seconds)], "{}".into());

    server.replies([limited("1"), Json(200, json!({ "data": { "user": {} } }))]);
    let before = clock.now();
    circle.user(&user(), deadline(&clock)).await.unwrap();
    assert!(clock.now() - before >= Duration::from_secs(1));

    server.replies([Json(429, json!({ "code": 429 }))]);
    circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert_eq!(server.requests().len(), 3, "without a Retry-After there is no retry");

    server.replies([limited("3600")]);
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(Problem::from(error).code(), Code::CircleRateLimited);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn no_call_outlives_its_deadline() {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::frozen(NOON);
    let circle = server.circle(&clock).await;
    let asking = tokio::spawn({
        let (user, deadline) = (user(), deadline(&clock));
        async move { circle.user(&user, deadline).await }
    });
    server.requests_reach(1).await;
    while !asking.is_finished() {
        clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, CircleError::TimedOut { .. }), "{error}");
    assert_eq!(Problem::from(error).code(), Code::Timeout);
    assert!(clock.now() - NOON <= Duration::from_millis(8100), "8 s and one step of the clock");
    assert!(server.requests().len() >= 2, "an attempt ends early enough for another");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, circle, clock) = start().await;
    server.replies([Raw(307, vec![("location", "/elsewhere")], String::new())]);
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert!(matches!(error, CircleError::Response { status: 307, code: None, .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_rejected_key_is_read_again_at_most_once_in_30_seconds() {
    let (server, circle, clock) = start().await;
    let rejected = || Json(401, json!({ "code": 4, "message": "wrong key" }));
    let found = || Json(200, json!({ "data": { "user": {} } }));

    server.replies([found(), rejected(), found()]);
    circle.user(&user(), deadline(&clock)).await.unwrap();
    server.set_secret("TEST_API_KEY:test-id:second");
    circle.user(&user(), deadline(&clock)).await.unwrap();
    assert_eq!(server.requests()[2].headers["authorization"], "Bearer TEST_API_KEY:test-id:second");
    assert_eq!(server.secret_reads(), 2);

    server.replies([rejected()]);
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert_eq!(Problem::from(error).code(), Code::Misconfigured);
    assert_eq!((server.secret_reads(), server.requests().len()), (2, 4), "read again too soon");

    clock.advance(Duration::from_secs(30));
    server.replies([rejected()]);
    circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert_eq!((server.secret_reads(), server.requests().len()), (3, 5), "the same key is not used again");
}

#[tokio::test]
async fn a_call_without_time_to_read_the_new_key_leaves_that_to_the_next_one() {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::frozen(NOON);
    let circle = Arc::new(server.circle(&clock).await);
    let rejected = || Json(401, json!({ "code": 4, "message": "wrong key" }));
    let found = || Json(200, json!({ "data": { "user": {} } }));
    server.replies([found(), rejected()]);
    circle.user(&user(), deadline(&clock)).await.unwrap();

    server.withhold_secret();
    let limit = Duration::from_millis(500);
    let asking = tokio::spawn({
        let (circle, deadline) = (Arc::clone(&circle), Deadline::after(&clock, limit));
        async move { circle.user(&user(), deadline).await }
    });
    while server.secret_reads() < 2 {
        tokio::task::yield_now().await;
    }
    clock.advance(limit);
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, CircleError::TimedOut { .. }), "{error}");

    server.set_secret("TEST_API_KEY:test-id:second");
    server.replies([rejected(), found()]);
    circle.user(&user(), deadline(&clock)).await.unwrap();
    assert_eq!(server.secret_reads(), 3);
}

#[tokio::test]
async fn an_unknown_user_token_does_not_make_the_key_be_read_again() {
    let (server, circle, clock) = start().await;
    server.replies([Json(401, json!({ "code": 155103, "message": "user token not found" }))]);
    circle.user_of_token(&token(), deadline(&clock)).await.unwrap_err();
    assert_eq!(server.secret_reads(), 1);
}

#[tokio::test]
async fn a_bad_user_token_never_reads_as_a_rejected_api_key() {
    let (server, circle, clock) = start().await;
    server.replies([Raw(401, vec![], String::new()), Raw(401, vec![], String::new())]);
    let error = circle.user_of_token(&token(), deadline(&clock)).await.unwrap_err();
    assert_eq!((server.secret_reads(), server.requests().len()), (1, 1), "the key is not read again");
    assert_eq!(Problem::from(error).code(), Code::InvalidUserToken);
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    assert_eq!(server.secret_reads(), 2, "without a user token, it can only be the key");
    assert_eq!(Problem::from(error).code(), Code::Misconfigured);
}

#[tokio::test]
async fn a_malformed_secret_is_named_and_not_quoted() {
    let (server, circle, clock) = start().await;
    server.set_secret("not-a-key-but-secret");
    let error = circle.user(&user(), deadline(&clock)).await.unwrap_err();
    let text = format!("{} {error:?}", Chain(&error));
    assert!(text.contains("circle-api-key") && !text.contains("not-a-key"), "{text}");
    assert_eq!(Problem::from(error).code(), Code::Misconfigured);
    server.set_secret(r#"{"apiKey":"TEST_API_KEY:test-id:first"}"#);
    server.replies([Json(200, json!({ "data": { "user": {} } }))]);
    circle.user(&user(), deadline(&clock)).await.unwrap();
}
