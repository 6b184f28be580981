//! Secrets Manager on one machine: `GetSecretValue`, and `PutSecretValue` to rotate a secret, in AWS JSON 1.1 as the
//! real AWS SDK speaks it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::{AdjustableClock, Clock};
use shared::random::Random;
use tokio::net::TcpListener;

use crate::server::Server;

const ARN_PREFIX: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:";

/// A running Secrets Manager. Its secrets are in memory.
#[derive(Debug)]
pub struct SecretsManager {
    server: Server,
    state: Arc<Store>,
}

/// How a call fails on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// 500 `InternalServiceError`, which the AWS SDK tries again.
    InternalServiceError,
    /// 400 `ThrottlingException`, which the AWS SDK tries again more slowly.
    Throttled,
    /// 400 `AccessDeniedException`, as where a new role's permissions are not known everywhere yet.
    AccessDenied,
    /// No answer at all, until the caller gives up.
    NoAnswer,
}

impl SecretsManager {
    /// Serves an empty store on `listener`. Needs a tokio runtime to run in.
    pub fn start(listener: TcpListener, clock: AdjustableClock, random: Arc<Random>) -> io::Result<Self> {
        let state = Arc::new(Store { clock, random, content: Mutex::default() });
        let router = Router::new().route("/", post(call)).with_state(state.clone());
        Ok(Self { server: Server::start(listener, router)?, state })
    }

    /// The endpoint, for the AWS SDK's `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Makes the secret `name`, or rotates it; gives the ARN.
    pub fn put(&self, name: &str, value: &str) -> String {
        let version = self.state.version(value);
        let arn = format!("{ARN_PREFIX}{name}-{}", &version.id[..6]);
        let mut content = self.state.content();
        let secret = content.secrets.entry(name.to_owned()).or_insert(Secret { arn, versions: Vec::new() });
        secret.versions.push(version);
        secret.arn.clone()
    }

    /// How many times a secret's value was asked for, answered or not.
    pub fn reads(&self) -> usize {
        self.state.content().reads
    }

    /// Makes the next `calls` calls fail.
    pub fn fail_next(&self, calls: usize, failure: Failure) {
        self.state.content().failures = vec![failure; calls];
    }

    /// Frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

#[derive(Debug)]
struct Store {
    clock: AdjustableClock,
    random: Arc<Random>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    /// By name.
    secrets: BTreeMap<String, Secret>,
    reads: usize,
    failures: Vec<Failure>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Content").field("reads", &self.reads).finish_non_exhaustive()
    }
}

struct Secret {
    arn: String,
    /// Oldest first: the last is `AWSCURRENT`, the one before it `AWSPREVIOUS`.
    versions: Vec<Version>,
}

#[derive(Clone)]
struct Version {
    id: String,
    value: String,
    /// Epoch seconds.
    created: f64,
}

impl Store {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self, value: &str) -> Version {
        Version {
            id: self.random.uuid().to_string(),
            value: value.to_owned(),
            created: (self.clock.now().unix_timestamp_nanos() / 1_000_000) as f64 / 1e3,
        }
    }
}

impl Content {
    /// By name, by ARN, or by ARN without the six characters that AWS adds to the name.
    fn secret(&mut self, id: &str) -> Result<(&String, &mut Secret), Error> {
        self.secrets
            .iter_mut()
            .find(|(name, secret)| {
                *name == id || secret.arn == id || id.strip_prefix(ARN_PREFIX) == Some(name.as_str())
            })
            .ok_or(Error::NOT_FOUND)
    }
}

impl Secret {
    fn stages(&self, index: usize) -> Vec<&'static str> {
        match self.versions.len() - index {
            1 => vec!["AWSCURRENT"],
            2 => vec!["AWSPREVIOUS"],
            _ => Vec::new(),
        }
    }
}

/// An error in AWS's shape.
struct Error {
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
}

impl Error {
    const NOT_FOUND: Self = Self {
        status: StatusCode::BAD_REQUEST,
        kind: "ResourceNotFoundException",
        message: "Secrets Manager can't find the specified secret.",
    };

    const fn bad_request(kind: &'static str, message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind, message }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = json!({ "__type": self.kind, "message": self.message });
        (self.status, [("x-amzn-errortype", self.kind)], body.to_string()).into_response()
    }
}

async fn call(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = answer(&store, &headers, &body).await;
    let mut response =
        answer.map_or_else(IntoResponse::into_response, |value| value.to_string().into_response());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-amz-json-1.1"));
    let request_id = store.random.uuid().to_string();
    headers.insert("x-amzn-requestid", request_id.parse().expect("a UUID fits a header"));
    response
}

async fn answer(store: &Store, headers: &HeaderMap, body: &[u8]) -> Result<Value, Error> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let failure = {
        let mut content = store.content();
        content.reads += usize::from(target == "secretsmanager.GetSecretValue");
        content.failures.pop()
    };
    match failure {
        None => {}
        Some(Failure::NoAnswer) => std::future::pending().await,
        Some(Failure::Throttled) => {
            return Err(Error::bad_request("ThrottlingException", "Rate exceeded"));
        }
        Some(Failure::AccessDenied) => {
            return Err(Error::bad_request(
                "AccessDeniedException",
                "User is not authorized to perform: secretsmanager:GetSecretValue",
            ));
        }
        Some(Failure::InternalServiceError) => {
            return Err(Error {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                kind: "InternalServiceError",
                message: "An error occurred on the server side.",
            });
        }
    }
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(Error::bad_request(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ));
    }
    match target {
        "secretsmanager.GetSecretValue" => get_secret_value(&mut store.content(), parse(body)?),
        "secretsmanager.PutSecretValue" => put_secret_value(store, parse(body)?),
        _ => Err(Error::bad_request("UnknownOperationException", "")),
    }
}

fn parse<'a, R: Deserialize<'a>>(body: &'a [u8]) -> Result<R, Error> {
    serde_json::from_slice(body)
        .map_err(|_| Error::bad_request("SerializationException", "Bad request body."))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

fn get_secret_value(content: &mut Content, request: GetSecretValue) -> Result<Value, Error> {
    let (name, secret) = content.secret(&request.secret_id)?;
    let stage = match &request.version_id {
        None => Some(request.version_stage.as_deref().unwrap_or("AWSCURRENT")),
        Some(_) => request.version_stage.as_deref(),
    };
    let (index, version) = secret
        .versions
        .iter()
        .enumerate()
        .find(|(index, version)| {
            request.version_id.as_ref().is_none_or(|id| *id == version.id)
                && stage.is_none_or(|stage| secret.stages(*index).contains(&stage))
        })
        .ok_or(Error::NOT_FOUND)?;
    Ok(json!({
        "ARN": secret.arn,
        "Name": name,
        "VersionId": version.id,
        "SecretString": version.value,
        "VersionStages": secret.stages(index),
        "CreatedDate": version.created,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutSecretValue {
    secret_id: String,
    secret_string: String,
    client_request_token: Option<String>,
}

fn put_secret_value(store: &Store, request: PutSecretValue) -> Result<Value, Error> {
    let mut version = store.version(&request.secret_string);
    version.id = request.client_request_token.unwrap_or(version.id);
    let mut content = store.content();
    let (name, secret) = content.secret(&request.secret_id)?;
    let index = match secret.versions.iter().position(|known| known.id == version.id) {
        Some(index) if secret.versions[index].value == version.value => index,
        Some(_) => {
            return Err(Error::bad_request(
                "ResourceExistsException",
                "A resource with the ID you requested already exists.",
            ));
        }
        None => {
            secret.versions.push(version.clone());
            secret.versions.len() - 1
        }
    };
    Ok(json!({
        "ARN": secret.arn,
        "Name": name,
        "VersionId": version.id,
        "VersionStages": secret.stages(index),
    }))
}

#[cfg(test)]
mod tests;
