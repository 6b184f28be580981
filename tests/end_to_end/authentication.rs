use lambda_http::{Context, Request};
use local::stack::AUDIENCE;
use serde_json::{Value, json};
use shared::api::Api;
use shared::clock::Clock;
use uuid::Uuid;

use crate::support::{App, HOUR, Response, SECOND, USER};

/// Every route that needs a signed-in user.
fn routes() -> [String; 4] {
    let get_challenge = format!("GET /challenges/{}", Uuid::from_u128(1));
    ["POST /session-tokens".into(), "POST /challenges".into(), "GET /pin".into(), get_challenge]
}

/// Checks that API Gateway responded by itself.
#[track_caller]
fn is_from_gateway(response: &Response, status: u16, message: &str) {
    assert_eq!((response.status, &response.body), (status, &json!({ "message": message })));
    assert_eq!(response.headers["content-type"], "application/json");
    assert!(response.headers.contains_key("apigw-requestid"));
}

#[tokio::test]
async fn invalid_access_tokens_are_rejected_by_the_authorizer() {
    let app = App::start().await;
    let issuer = &app.stack.issuer;
    let claims = || issuer.claims(USER, AUDIENCE, HOUR);
    let now = app.clock.now().unix_timestamp();
    let invalid =
        |why: &str| format!("Bearer scope=\"\" error=\"invalid_token\" error_description=\"{why}\"");
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issuer.sign(&claims)
    };
    for (token, challenge) in [
        ("".to_owned(), "Bearer".to_owned()),
        ("not-a-token".to_owned(), invalid("the token is malformed")),
        (issuer.forge(&claims()), invalid("the token has an invalid signature")),
        (with("iss", "https://issuer.example.com".into()), invalid("the token has an invalid issuer")),
        (with("aud", "another-app".into()), invalid("the token does not have a valid audience")),
        (with("exp", now.into()), invalid("the token has expired")),
        (with("nbf", (now + 60).into()), invalid("the token is not valid yet")),
    ] {
        for route in routes() {
            let response = app.request(&route).bearer(&token).send().await;
            is_from_gateway(&response, 401, "Unauthorized");
            assert_eq!(response.headers["www-authenticate"], challenge, "{route}");
        }
    }
    is_from_gateway(&app.post_challenge().anonymous().send().await, 401, "Unauthorized");
    assert!(app.circle.call_counts().keys().all(|call| !call.contains("/v1/w3s/")));
}

#[tokio::test]
async fn gateway_rejects_unknown_routes_and_bodies_over_10_mib() {
    let app = App::start().await;
    for route in
        ["GET /session-tokens", "DELETE /challenges", "GET /", "GET /challenges/1/2", "GET /webhooks/circle"]
    {
        is_from_gateway(&app.request(route).send().await, 404, "Not Found");
    }
    let large = app.post_challenge().body(vec![b' '; 10 * 1024 * 1024 + 1]);
    is_from_gateway(&large.send().await, 413, "Request Entity Too Large");
}

#[tokio::test]
async fn claim_that_cannot_be_a_circle_user_id_is_rejected() {
    let app = App::with_settings([("USER_ID_CLAIM", "wallet_user")]).await;
    for claim in
        [Value::Null, json!(""), json!("four"), json!("x".repeat(51)), json!(7), json!(true), json!("a\nbcd")]
    {
        let mut claims = app.stack.issuer.claims(USER, AUDIENCE, HOUR);
        if !claim.is_null() {
            claims["wallet_user"] = claim;
        }
        let token = app.stack.issuer.sign(&claims);
        for route in routes() {
            app.request(&route).bearer(&token).send().await.is_problem(403, "invalid_user_id");
        }
    }
}

#[tokio::test]
async fn user_id_is_the_configured_claim_as_the_gateway_writes_it() {
    let app = App::with_settings([("USER_ID_CLAIM", "wallet_user")]).await;
    app.add_user("1234567");
    let create_session = async |claim: Value| {
        let mut claims = app.stack.issuer.claims("somebody-else", AUDIENCE, HOUR);
        claims["wallet_user"] = claim;
        app.post_session_token().bearer(&app.stack.issuer.sign(&claims)).send().await
    };
    create_session(USER.into()).await.is(201);
    create_session(1_234_567.into()).await.is(201);
    // A list with one name is not that name. The gateway writes it as `[alice]`.
    create_session(json!([USER])).await.is_problem(403, "invalid_user_id");
}

#[tokio::test]
async fn access_token_is_valid_until_it_expires() {
    let app = App::at_noon().await;
    let token = app.stack.issuer.token(USER, AUDIENCE, HOUR);
    app.advance(HOUR - SECOND);
    app.post_session_token().bearer(&token).send().await.is(201);
    app.advance(SECOND);
    is_from_gateway(&app.post_session_token().bearer(&token).send().await, 401, "Unauthorized");
}

/// An event that did not pass API Gateway's JWT authorizer.
fn event(method: &str, path: &str, authorizer: &Value) -> Request {
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
    shared::lambda::request(&event, Context::default())
}

#[tokio::test]
async fn event_without_verified_claims_is_rejected_by_every_function() {
    let app = App::start().await;
    let platform = &app.stack.platform;
    let create_token = Api::new(platform).unwrap();
    let create_challenge = create_challenge::CreateChallenge::new(platform).unwrap();
    let get_challenge = get_challenge::GetChallenge::new(platform).unwrap();
    let get_pin = Api::new(platform).unwrap();
    let iam = json!({
        "accessKey": "", "accountId": "000000000000", "callerId": USER, "cognitoIdentity": null,
        "principalOrgId": null, "userArn": USER, "userId": USER,
    });
    for authorizer in [Value::Null, json!({}), json!({ "lambda": { "sub": USER } }), json!({ "iam": iam })] {
        let event = |method, path| event(method, path, &authorizer);
        let Ok(session) = create_token::handle(&create_token, event("POST", "/session-tokens")).await;
        let Ok(created) = create_challenge::handle(&create_challenge, event("POST", "/challenges")).await;
        let Ok(found) = get_challenge::handle(&get_challenge, event("GET", "/challenges/1")).await;
        let Ok(pin) = get_pin::handle(&get_pin, event("GET", "/pin")).await;
        for response in [session, created, found, pin] {
            Response::of_function(&response, "request-1").is_problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn webhook_function_accepts_only_post_and_head() {
    let app = App::start().await;
    let function = receive_webhook::ReceiveWebhook::new(&app.stack.platform).unwrap();
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let event = event(method, "/webhooks/circle", &Value::Null);
        let Ok(response) = receive_webhook::handle(&function, event).await;
        Response::of_function(&response, "request-1").is_problem(405, "method_not_allowed");
    }
}
