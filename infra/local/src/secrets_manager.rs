//! Secrets Manager on one machine: `GetSecretValue` by name, in AWS JSON 1.1, for the real AWS SDK.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::random::Random;
use tokio::net::TcpListener;

use crate::aws_json::{self, AwsError};
use crate::secrets;
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
        secrets::issued("stored secret", value);
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

async fn handle(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    aws_json::response(perform(&store, &headers, &body).await, aws_json::CONTENT_TYPE, &store.random)
}

async fn perform(store: &Store, headers: &HeaderMap, body: &[u8]) -> Result<Value, AwsError> {
    let operation = aws_json::operation(headers)?;
    let is_read = operation == "secretsmanager.GetSecretValue";
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
        Some(InjectedError::InternalServiceError) => return Err(AwsError::internal("InternalServiceError")),
    }
    if !is_read {
        return Err(aws_json::unknown_operation());
    }
    get_secret_value(&store.content(), aws_json::request(body)?)
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
