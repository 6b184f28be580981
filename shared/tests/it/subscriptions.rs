use reqwest::Url;
use serde_json::json;
use shared::circle::CircleError;
use shared::circle_code::CircleCode;
use shared::clock::AdjustableClock;
use uuid::Uuid;

use crate::support::Reply::{Drop, Json, Raw};
use crate::support::{FakeServer, deadline};

const ID: &str = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";
const SUBSCRIPTIONS: &str = "/v2/notifications/subscriptions";

/// The calls that a server got: method, path and body.
fn calls(server: &FakeServer) -> Vec<(String, String, String)> {
    let call = |request: crate::support::Request| {
        (request.method.to_string(), request.uri.path().to_owned(), request.body)
    };
    server.requests().into_iter().map(call).collect()
}

#[tokio::test]
async fn subscriptions_are_read_if_members_are_missing_or_unknown() {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::running();
    let circle = server.circle(&clock).await;
    let full = json!({
        "id": ID, "name": "one", "endpoint": "https://api.example.com/", "enabled": true,
        "notificationTypes": ["*"], "restricted": false, "createDate": "2026-01-01T12:00:00Z", "owner": "new",
    });
    server.replies([Json(200, json!({ "data": [full, { "id": ID, "name": null }] }))]);
    let [full, bare] = &circle.subscriptions(deadline(&clock)).await.unwrap()[..] else { panic!() };
    assert_eq!(
        (full.id.to_string().as_str(), full.name.as_deref(), full.enabled),
        (ID, Some("one"), Some(true))
    );
    assert!(full.is_for(&Url::parse("https://api.example.com").unwrap()) && full.covers_challenges());
    assert_eq!(
        (bare.id.to_string().as_str(), &bare.name, &bare.endpoint, bare.enabled),
        (ID, &None, &None, None)
    );
    assert_eq!(calls(&server), [("GET".into(), SUBSCRIPTIONS.into(), String::new())]);
}

#[tokio::test]
async fn creation_that_may_have_taken_effect_is_not_retried() {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::running();
    let circle = server.circle(&clock).await;
    let endpoint = Url::parse("https://api.example.com/webhooks/circle").unwrap();
    let body =
        r#"{"endpoint":"https://api.example.com/webhooks/circle","notificationTypes":["challenges.*"]}"#;
    server.replies([Drop]);
    let error = circle.create_subscription(&endpoint, deadline(&clock)).await.unwrap_err();
    assert!(matches!(error, CircleError::Unreachable { .. }), "{error:?}");
    server.replies([Json(503, json!({ "code": -1 }))]);
    circle.create_subscription(&endpoint, deadline(&clock)).await.unwrap_err();
    // A creation that Circle rejects because of its key has had no effect.
    server.replies([Json(401, json!({ "code": 4 })), Json(200, json!({ "data": { "id": ID } }))]);
    server.set_secret("TEST_API_KEY:test-id:second");
    let made = circle.create_subscription(&endpoint, deadline(&clock)).await.unwrap();
    assert_eq!(made.id.to_string(), ID);
    assert_eq!(calls(&server), vec![("POST".to_owned(), SUBSCRIPTIONS.to_owned(), body.to_owned()); 4]);
}

#[tokio::test]
async fn subscription_is_enabled_with_its_name_and_deleted_without_a_body() {
    let server = FakeServer::start().await;
    let clock = AdjustableClock::running();
    let circle = server.circle(&clock).await;
    let (one, path) = (json!({ "id": ID, "name": "" }), format!("{SUBSCRIPTIONS}/{ID}"));
    server.replies([Json(200, json!({ "data": [one, { "id": ID, "name": "its own" }] }))]);
    let all = circle.subscriptions(deadline(&clock)).await.unwrap();
    for one in &all {
        server.replies([Drop, Json(200, json!({ "data": { "id": ID } }))]);
        circle.enable_subscription(one, deadline(&clock)).await.unwrap();
    }
    let id = Uuid::parse_str(ID).unwrap();
    server.replies([Raw(204, vec![], String::new()), Json(404, json!({ "code": 2 }))]);
    circle.delete_subscription(id, deadline(&clock)).await.unwrap();
    circle.delete_subscription(id, deadline(&clock)).await.unwrap();
    server.replies([Json(403, json!({ "code": 3 }))]);
    let rejected = circle.delete_subscription(id, deadline(&clock)).await.unwrap_err();
    assert!(
        matches!(
            rejected,
            CircleError::Response { status: 403, code: Some(CircleCode::API_KEY_NOT_ALLOWED), .. }
        ),
        "{rejected:?}"
    );

    let patch = |name| ("PATCH".into(), path.clone(), format!(r#"{{"enabled":true,"name":"{name}"}}"#));
    let delete = ("DELETE".to_owned(), path.clone(), String::new());
    assert_eq!(
        calls(&server)[1..],
        [
            patch("circle-pin-reset"),
            patch("circle-pin-reset"),
            patch("its own"),
            patch("its own"),
            delete.clone(),
            delete.clone(),
            delete
        ]
    );
}
