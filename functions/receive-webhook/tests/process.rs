//! The binary itself, against a stand-in for Lambda's Runtime API.

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What the function posted: `response` or `error`, and its body.
type Posted = (String, Value);

#[derive(Clone)]
struct RuntimeApi {
    events: Arc<Mutex<VecDeque<Value>>>,
    posted: mpsc::UnboundedSender<Posted>,
}

async fn next(State(api): State<RuntimeApi>) -> Response {
    let event = api.events.lock().unwrap().pop_front();
    match event {
        Some(event) => {
            let headers = [
                ("lambda-runtime-aws-request-id", "00000000-0000-4000-8000-000000000000"),
                ("lambda-runtime-deadline-ms", "9999999999999"),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:eu-central-1:000000000000:function:receive-webhook",
                ),
            ];
            (headers, event.to_string()).into_response()
        }
        None => std::future::pending().await,
    }
}

async fn take(State(api): State<RuntimeApi>, Path((_id, kind)): Path<(String, String)>, body: String) {
    api.posted.send((kind, serde_json::from_str(&body).unwrap())).unwrap();
}

fn event(method: &str, body: Value, is_base64_encoded: bool) -> Value {
    json!({
        "version": "2.0",
        "routeKey": format!("{method} /webhooks/circle"),
        "rawPath": "/webhooks/circle",
        "rawQueryString": "",
        "headers": { "host": "api.example.com" },
        "requestContext": {
            "http": { "method": method, "path": "/webhooks/circle", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test" },
            "requestId": "request-1",
            "routeKey": format!("{method} /webhooks/circle"),
            "stage": "$default",
            "timeEpoch": 0
        },
        "body": body,
        "isBase64Encoded": is_base64_encoded,
    })
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_receive-webhook"));
    // Nothing listens at the endpoint.
    command
        .env_clear()
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    command
}

#[tokio::test]
async fn an_odd_event_gets_a_response_and_the_process_goes_on() {
    let (sender, mut posted) = mpsc::unbounded_channel();
    let mut odd = event("POST", "!!! not base64 !!!".into(), true);
    odd["rawQueryString"] = "a=b c".into();
    let events = [odd, event("HEAD", Value::Null, false)];
    let api = RuntimeApi { events: Arc::new(Mutex::new(events.into())), posted: sender };
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(take))
        .with_state(api);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });

    let mut command = tokio::process::Command::from(binary());
    command
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "receive-webhook")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("CHALLENGES_TABLE", "challenges")
        .env("CIRCLE_API_KEY_SECRET_ID", "circle-api-key")
        .env("CIRCLE_BASE_URL", "http://127.0.0.1:9")
        .env("CIRCLE_SOURCE_IPS", "")
        .env("RATE_LIMITS_TABLE", "rate-limits")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut process = command.spawn().unwrap();

    let (kind, rejected) = posted.recv().await.unwrap();
    assert_eq!((kind.as_str(), &rejected["statusCode"]), ("response", &json!(401)));
    let (kind, response) = posted.recv().await.unwrap();
    assert_eq!((kind.as_str(), &response["statusCode"]), ("response", &json!(200)));
    assert_eq!(process.try_wait().unwrap(), None, "the process goes on");
    process.kill().await.unwrap();
}

#[test]
fn missing_setting_is_named_when_the_process_stops() {
    let output = binary().output().unwrap();
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "Error: CIRCLE_API_KEY_SECRET_ID is not set: give the name or ARN of the Secrets Manager secret that holds the Circle API key\n"
    );
}

#[test]
fn invalid_setting_is_named_without_its_value() {
    let output = binary()
        .env("CHALLENGES_TABLE", "challenges")
        .env("CIRCLE_API_KEY_SECRET_ID", "circle-api-key")
        .env("CIRCLE_BASE_URL", "http://user:value@example.com")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("Error: CIRCLE_BASE_URL must be an https URL"), "{text}");
    assert!(!text.contains("value@"), "{text}");
}
