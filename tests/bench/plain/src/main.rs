//! The functions as a Rust developer writes them first. One binary for the three operations, each of which would use the same
//! crates; Lambda's name of the function selects one.

use std::collections::HashMap;

use aws_config::BehaviorVersion;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Error, Request, RequestExt, Response, run, service_fn, tracing};
use serde_json::{Value, json};
use tokio::sync::Mutex;

struct App {
    http: reqwest::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    circle_url: String,
    api_key: String,
    table: String,
    /// Circle's public keys by id.
    keys: Mutex<HashMap<String, Vec<u8>>>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let secrets = aws_sdk_secretsmanager::Client::new(&config);
    let secret_id = std::env::var("CIRCLE_API_KEY_SECRET_ID")?;
    let secret = secrets.get_secret_value().secret_id(secret_id).send().await?;
    let app = App {
        http: reqwest::Client::new(),
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        circle_url: std::env::var("CIRCLE_BASE_URL")?,
        api_key: secret.secret_string().unwrap_or_default().to_owned(),
        table: std::env::var("CHALLENGES_TABLE")?,
        keys: Mutex::default(),
    };
    let (app, function) = (&app, std::env::var("AWS_LAMBDA_FUNCTION_NAME")?);
    match function.as_str() {
        "create-token" => run(service_fn(|request| create_token(app, request))).await,
        "create-challenge" => run(service_fn(|request| create_challenge(app, request))).await,
        _ => run(service_fn(|request| receive_webhook(app, request))).await,
    }
}

async fn create_token(app: &App, request: Request) -> Result<Response<Body>, Error> {
    let user = user(&request)?;
    let session = app.create_session(&user).await?;
    let limit = app
        .dynamodb
        .update_item()
        .table_name(&app.table)
        .key("challengeId", AttributeValue::S(format!("user#{user}")))
        .update_expression("ADD tokens :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
    limit.send().await?;
    respond(201, &session)
}

async fn create_challenge(app: &App, request: Request) -> Result<Response<Body>, Error> {
    let user = user(&request)?;
    let body: Value = serde_json::from_slice(request.body())?;
    let session = app.create_session(&user).await?;
    let found = app.circle(reqwest::Method::GET, &format!("/v1/w3s/users/{user}"), None, Value::Null).await?;
    if found["data"]["user"]["pinStatus"] != "ENABLED" {
        return respond(409, &json!({ "code": "pin_not_set" }));
    }
    let (method, path) = match body["type"].as_str() {
        Some("RESTORE_PIN") => (reqwest::Method::POST, "/v1/w3s/user/pin/restore"),
        _ => (reqwest::Method::PUT, "/v1/w3s/user/pin"),
    };
    let key = json!({ "idempotencyKey": request.lambda_context().request_id });
    let created = app.circle(method, path, session["userToken"].as_str(), key).await?;
    let challenge_id = created["data"]["challengeId"].as_str().unwrap_or_default();
    let put = app
        .dynamodb
        .put_item()
        .table_name(&app.table)
        .item("challengeId", AttributeValue::S(challenge_id.to_owned()))
        .item("userId", AttributeValue::S(user))
        .item("type", AttributeValue::S(body["type"].as_str().unwrap_or_default().to_owned()))
        .item("status", AttributeValue::S("PENDING".to_owned()));
    put.send().await?;
    respond(201, &json!({ "challengeId": challenge_id, "status": "PENDING", "session": session }))
}

async fn receive_webhook(app: &App, request: Request) -> Result<Response<Body>, Error> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (Some(key_id), Some(signature)) = (header("x-circle-key-id"), header("x-circle-signature")) else {
        return respond(401, &json!({ "code": "invalid_signature" }));
    };
    let key = app.public_key(key_id).await?;
    let signature = STANDARD.decode(signature)?;
    if UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(request.body(), &signature).is_err() {
        return respond(401, &json!({ "code": "invalid_signature" }));
    }
    let body: Value = serde_json::from_slice(request.body())?;
    let text = |name: &str| body["notification"][name].as_str().unwrap_or_default().to_owned();
    let update = app
        .dynamodb
        .update_item()
        .table_name(&app.table)
        .key("challengeId", AttributeValue::S(text("id")))
        .update_expression("SET #status = :status, userId = if_not_exists(userId, :user)")
        .condition_expression("attribute_not_exists(#status) OR #status <> :complete")
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":status", AttributeValue::S(text("status")))
        .expression_attribute_values(":user", AttributeValue::S(text("userId")))
        .expression_attribute_values(":complete", AttributeValue::S("COMPLETE".to_owned()));
    update.send().await?;
    respond(200, &json!({ "outcome": "applied" }))
}

impl App {
    async fn create_session(&self, user: &str) -> Result<Value, Error> {
        let path = "/v1/w3s/users/token";
        let created = self.circle(reqwest::Method::POST, path, None, json!({ "userId": user })).await?;
        Ok(created["data"].clone())
    }

    async fn public_key(&self, id: &str) -> Result<Vec<u8>, Error> {
        let mut keys = self.keys.lock().await;
        if let Some(key) = keys.get(id) {
            return Ok(key.clone());
        }
        let path = format!("/v2/notifications/publicKey/{id}");
        let found = self.circle(reqwest::Method::GET, &path, None, Value::Null).await?;
        let key = STANDARD.decode(found["data"]["publicKey"].as_str().unwrap_or_default())?;
        keys.insert(id.to_owned(), key.clone());
        Ok(key)
    }

    async fn circle(
        &self,
        method: reqwest::Method,
        path: &str,
        user_token: Option<&str>,
        body: Value,
    ) -> Result<Value, Error> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.circle_url)).bearer_auth(&self.api_key);
        if let Some(token) = user_token {
            request = request.header("X-User-Token", token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}

fn user(request: &Request) -> Result<String, Error> {
    let RequestContext::ApiGatewayV2(context) = request.request_context() else {
        return Err("not an event of an HTTP API".into());
    };
    let jwt = context.authorizer.and_then(|authorizer| authorizer.jwt);
    let subject = jwt.and_then(|jwt| jwt.claims.get("sub").cloned());
    subject.ok_or_else(|| "no verified claims".into())
}

fn respond(status: u16, body: &Value) -> Result<Response<Body>, Error> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(body.to_string().into())?)
}
