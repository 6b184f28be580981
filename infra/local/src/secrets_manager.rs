//! Secrets Manager on one machine: `GetSecretValue` by name, in AWS JSON 1.1, for the real AWS SDK.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::random::Random;
use tokio::net::TcpListener;

use crate::server::Server;

/// A running Secrets Manager. It keeps its secrets in memory.
#[derive(Debug)]
pub struct SecretsManager {
    server: Server,
    state: Arc<Store>,
}

/// An error that the next calls get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedError {
    /// 500 `InternalServiceError`, which the AWS SDK retries.
    InternalServiceError,
    /// 400 `ThrottlingException`, which the AWS SDK retries more slowly.
    Throttled,
    /// 400 `AccessDeniedException`, as for a new role whose permissions have not reached every server yet.
    AccessDenied,
    /// No response.
    NoResponse,
}

impl SecretsManager {
    /// Serves an empty store on `listener`. Needs a tokio runtime.
    pub fn start(listener: TcpListener, random: Arc<Random>) -> io::Result<Self> {
        let state = Arc::new(Store { random, content: Mutex::default() });
        let router = Router::new().route("/", post(handle)).with_state(state.clone());
        Ok(Self { server: Server::start(listener, router)?, state })
    }

    /// The endpoint, for the AWS SDK's `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Creates a secret or replaces its value.
    pub fn put(&self, name: &str, value: &str) {
        self.state.content().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// How many `GetSecretValue` calls were received.
    pub fn reads(&self) -> usize {
        self.state.content().reads
    }

    /// Lets the next `calls` calls fail.
    pub fn fail_next(&self, calls: usize, error: InjectedError) {
        self.state.content().errors = vec![error; calls];
    }

    /// Stops the server and frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

#[derive(Debug)]
struct Store {
    random: Arc<Random>,
    content: Mutex<Content>,
}

impl Store {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Content {
    /// The values by name.
    secrets: BTreeMap<String, String>,
    reads: usize,
    /// The errors of the next calls.
    errors: Vec<InjectedError>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Content").field("reads", &self.reads).finish_non_exhaustive()
    }
}

/// An error in AWS's form.
struct AwsError {
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
}

impl AwsError {
    const fn bad_request(kind: &'static str, message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind, message }
    }
}

impl IntoResponse for AwsError {
    fn into_response(self) -> Response {
        let body = json!({ "__type": self.kind, "message": self.message });
        (self.status, [("x-amzn-errortype", self.kind)], body.to_string()).into_response()
    }
}

async fn handle(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    let result = perform(&store, &headers, &body).await;
    let mut response =
        result.map_or_else(IntoResponse::into_response, |value| value.to_string().into_response());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    let request_id = store.random.uuid().to_string();
    headers.insert("x-amzn-requestid", request_id.parse().expect("a UUID is a header value"));
    response
}

async fn perform(store: &Store, headers: &HeaderMap, body: &[u8]) -> Result<Value, AwsError> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let is_read = target == "secretsmanager.GetSecretValue";
    let error = {
        let mut content = store.content();
        content.reads += usize::from(is_read);
        content.errors.pop()
    };
    match error {
        None => {}
        Some(InjectedError::NoResponse) => std::future::pending().await,
        Some(InjectedError::Throttled) => {
            return Err(AwsError::bad_request("ThrottlingException", "Rate exceeded"));
        }
        Some(InjectedError::AccessDenied) => {
            return Err(AwsError::bad_request(
                "AccessDeniedException",
                "User is not authorized to perform: secretsmanager:GetSecretValue",
            ));
        }
        Some(InjectedError::InternalServiceError) => {
            return Err(AwsError {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                kind: "InternalServiceError",
                message: "An error occurred on the server side.",
            });
        }
    }
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(AwsError::bad_request(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ));
    }
    if !is_read {
        return Err(AwsError::bad_request("UnknownOperationException", ""));
    }
    let request = serde_json::from_slice(body)
        .map_err(|_| AwsError::bad_request("SerializationException", "Bad request body."))?;
    get_secret_value(&store.content(), request)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
}

/// The members that the functions use. AWS sends the ARN, the version and dates too.
fn get_secret_value(content: &Content, request: GetSecretValue) -> Result<Value, AwsError> {
    let value = content.secrets.get(&request.secret_id).ok_or(AwsError::bad_request(
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
    ))?;
    Ok(json!({ "Name": request.secret_id, "SecretString": value }))
}

#[cfg(test)]
mod tests;
