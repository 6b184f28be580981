use std::time::Duration;

use lambda_http::{Body, Response};
use local::stack::AUDIENCE;
use serde_json::{Value, json};
use shared::clock::Clock;
use uuid::Uuid;

use crate::support::{Answer, App, USER, send};
use crate::user_messages::user_message;

const HOUR: Duration = Duration::from_secs(3600);

/// What API Gateway answers by itself.
#[track_caller]
fn is_of_the_gateway(answer: &Answer, status: u16, message: &str) {
    assert_eq!((answer.status, &answer.body), (status, &json!({ "message": message })));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers.contains_key("apigw-requestid"));
}

#[tokio::test]
async fn without_a_good_token_nothing_is_answered() {
    let app = App::start().await;
    let issuer = &app.stack.issuer;
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = issuer.claims(USER, AUDIENCE, HOUR);
        change(&mut claims);
        claims
    };
    let now = app.stack.clock.now().unix_timestamp();
    let invalid =
        |why: &str| format!("Bearer scope=\"\" error=\"invalid_token\" error_description=\"{why}\"");
    let with = |name: &str, value: Value| issuer.sign(&claims(&|claims| claims[name] = value.clone()));
    for (token, why) in [
        ("".to_owned(), "Bearer".to_owned()),
        ("not-a-token".to_owned(), invalid("the token is malformed")),
        (issuer.forge(&claims(&|_| {})), invalid("the token has an invalid signature")),
        (with("iss", "https://issuer.example.com".into()), invalid("the token has an invalid issuer")),
        (with("aud", "another-app".into()), invalid("the token does not have a valid audience")),
        (with("exp", now.into()), invalid("the token has expired")),
        (with("nbf", (now + 60).into()), invalid("the token is not valid yet")),
    ] {
        let id = Uuid::from_u128(1);
        for call in ["POST /session-tokens", "POST /challenges", "GET /pin", &format!("GET /challenges/{id}")]
        {
            let answer = send(app.anonymous(call).header("authorization", format!("Bearer {token}"))).await;
            is_of_the_gateway(&answer, 401, "Unauthorized");
            assert_eq!(answer.headers["www-authenticate"], why, "{call}");
        }
    }
    is_of_the_gateway(&send(app.anonymous("POST /challenges")).await, 401, "Unauthorized");
    assert!(app.stack.circle.call_counts().keys().all(|call| !call.contains("/v1/w3s/")));
}

#[tokio::test]
async fn unknown_routes_and_bodies_too_large_are_the_gateways() {
    let app = App::start().await;
    for call in
        ["GET /session-tokens", "DELETE /challenges", "GET /", "GET /challenges/1/2", "GET /webhooks/circle"]
    {
        is_of_the_gateway(&send(app.request(call)).await, 404, "Not Found");
    }
    let large = app.request("POST /challenges").body(vec![b' '; 10 * 1024 * 1024 + 1]);
    is_of_the_gateway(&send(large).await, 413, "Request Entity Too Large");
}

#[tokio::test]
async fn a_claim_that_cannot_be_a_circle_user_id_is_refused() {
    let app = App::with_settings([("USER_ID_CLAIM", "wallet_user")]).await;
    let expected = json!({
        "title": "Invalid user id",
        "status": 403,
        "detail": "The token's claim wallet_user has to be the Circle user id, 5 to 50 characters.",
        "code": "invalid_user_id",
    });
    for claim in
        [Value::Null, json!(""), json!("four"), json!("x".repeat(51)), json!(7), json!(true), json!("a\nbcd")]
    {
        let mut claims = app.stack.issuer.claims(USER, AUDIENCE, HOUR);
        if !claim.is_null() {
            claims["wallet_user"] = claim;
        }
        let token = app.stack.issuer.sign(&claims);
        let id = Uuid::from_u128(1);
        for call in ["POST /session-tokens", "POST /challenges", "GET /pin", &format!("GET /challenges/{id}")]
        {
            send(app.anonymous(call).bearer_auth(&token)).await.is_problem(expected.clone());
        }
    }
}

#[tokio::test]
async fn the_user_is_the_configured_claim_as_the_gateway_writes_it() {
    let app = App::with_settings([("USER_ID_CLAIM", "wallet_user")]).await;
    app.stack.add_user("1234567", "112233");
    let session_for = async |claim: Value| {
        let mut claims = app.stack.issuer.claims("somebody-else", AUDIENCE, HOUR);
        claims["wallet_user"] = claim;
        send(app.anonymous("POST /session-tokens").bearer_auth(app.stack.issuer.sign(&claims))).await
    };
    session_for(USER.into()).await.is(201);
    session_for(1_234_567.into()).await.is(201);
    // A list of one name is not that name: it comes as `[alice]`, whom Circle does not know.
    session_for(json!([USER])).await.is_problem(json!({
        "title": "User not found",
        "status": 404,
        "detail": "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
        "code": "user_not_found",
        "circleCode": 155_102,
    }));
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let app = App::at_noon().await;
    let token = app.stack.issuer.token(USER, AUDIENCE, HOUR);
    let call = || send(app.anonymous("POST /session-tokens").bearer_auth(&token));
    app.advance(HOUR - Duration::from_secs(1));
    call().await.is(201);
    app.advance(Duration::from_secs(1));
    is_of_the_gateway(&call().await, 401, "Unauthorized");
}

/// An event as it would be without API Gateway's JWT authorizer in front.
fn event(method: &str, path: &str, authorizer: &Value) -> lambda_http::Request {
    let event = json!({
        "version": "2.0",
        "routeKey": format!("{method} {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": {},
        "requestContext": {
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "" },
            "authorizer": authorizer,
            "requestId": "request-1",
            "stage": "$default",
            "timeEpoch": 0,
        },
        "isBase64Encoded": false,
    });
    lambda_http::request::from_str(&event.to_string()).unwrap()
}

#[track_caller]
fn is_problem(response: &Response<Body>, status: u16, title: &str, code: &str, detail: &str) {
    let mut expected = json!({
        "type": format!("urn:circle-pin-reset:problem:{code}"),
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "requestId": "request-1",
    });
    if let Some(message) = user_message(code) {
        expected["userMessage"] = json!(message);
    }
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((response.status().as_u16(), body), (status, expected));
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn past_the_authorizer_nobody_is_signed_in() {
    let app = App::start().await;
    let platform = &app.stack.platform;
    let create_token = shared::api::Api::new(platform).unwrap();
    let create_challenge = create_challenge::CreateChallenge::new(platform).unwrap();
    let get_challenge = get_challenge::GetChallenge::new(platform).unwrap();
    let get_pin = shared::api::Api::new(platform).unwrap();
    let iam = json!({
        "accessKey": "", "accountId": "000000000000", "callerId": USER, "cognitoIdentity": null,
        "principalOrgId": null, "userArn": USER, "userId": USER,
    });
    for other in [Value::Null, json!({}), json!({ "lambda": { "sub": USER } }), json!({ "iam": iam })] {
        let event = |method, path| event(method, path, &other);
        let Ok(session) = create_token::handle(&create_token, event("POST", "/session-tokens")).await;
        let Ok(created) = create_challenge::handle(&create_challenge, event("POST", "/challenges")).await;
        let Ok(found) = get_challenge::handle(&get_challenge, event("GET", "/challenges/1")).await;
        let Ok(pin) = get_pin::handle(&get_pin, event("GET", "/pin")).await;
        for response in [session, created, found, pin] {
            is_problem(
                &response,
                401,
                "Not signed in",
                "unauthenticated",
                "The request carries no verified claims. Call this route through the HTTP API and its JWT authorizer.",
            );
        }
    }
}

#[tokio::test]
async fn webhooks_come_by_post() {
    let app = App::start().await;
    let function = receive_webhook::ReceiveWebhook::new(&app.stack.platform).unwrap();
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let event = event(method, "/webhooks/circle", &Value::Null);
        let Ok(response) = receive_webhook::handle(&function, event).await;
        let detail = "Webhooks come by POST, Circle's check by HEAD.";
        is_problem(&response, 405, "Method not allowed", "method_not_allowed", detail);
    }
}
