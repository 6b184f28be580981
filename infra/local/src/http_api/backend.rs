//! The backend that runs the functions: this process, or another one such as `cargo lambda watch`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, StatusCode, header};
use lambda_http::Context;
use serde::Deserialize;
use serde_json::Value;
use shared::clock::{AdjustableClock, Clock, timeout};
use shared::lambda;
use shared::random::Random;
use shared::telemetry::Chain;

use super::{ACCOUNT_ID, GatewayError};
use crate::invocation;
use crate::lambda_endpoint::{InvokeError, LambdaEndpoint};

/// How long a function may take. Lambda then ends it, and API Gateway responds with 500. API Gateway's own
/// limit for an integration, after which it responds with 503, is 30 s.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long `cargo lambda watch` may take. It compiles a function at its first call.
const WATCH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The handler of a function in this process.
pub type Handler = Arc<
    dyn Fn(lambda_http::Request) -> BoxFuture<'static, lambda_http::http::Response<lambda_http::Body>>
        + Send
        + Sync,
>;

/// Runs the functions.
pub enum Backend {
    /// This process. The handlers are listed by function name.
    InProcess(HashMap<&'static str, Handler>),
    /// Another process.
    LambdaEndpoint(LambdaEndpoint),
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InProcess(handlers) => formatter.debug_set().entries(handlers.keys()).finish(),
            Self::LambdaEndpoint(endpoint) => endpoint.fmt(formatter),
        }
    }
}

/// Invokes functions as Lambda does.
#[derive(Debug)]
pub(super) struct Invoker {
    pub(super) backend: Backend,
    pub(super) clock: AdjustableClock,
    pub(super) random: Arc<Random>,
}

impl Invoker {
    /// Invokes a function with an event, and returns its response.
    pub(super) async fn invoke(
        &self,
        function: &'static str,
        event: String,
    ) -> Result<Response, GatewayError> {
        match &self.backend {
            Backend::InProcess(handlers) => match handlers.get(function) {
                Some(handler) => self.run(function, handler.clone(), event).await,
                None => {
                    tracing::error!(function, "there is no handler for the function");
                    Err(GatewayError::FunctionFailed)
                }
            },
            Backend::LambdaEndpoint(endpoint) => {
                let invoked = endpoint.invoke(function, event, WATCH_TIMEOUT, &self.clock).await;
                let body = invoked.map_err(|error| {
                    tracing::error!(function, error = %Chain(&error), "the invocation failed");
                    match error {
                        InvokeError::Failed(_) => GatewayError::FunctionFailed,
                        InvokeError::Unreachable(_) | InvokeError::TimedOut => GatewayError::Unavailable,
                    }
                })?;
                proxy_response(&body).ok_or_else(|| {
                    tracing::error!(function, "API Gateway would not accept the function's response");
                    GatewayError::FunctionFailed
                })
            }
        }
    }

    /// Runs the handler in a task of its own. The task continues if the caller hangs up, and a panic ends
    /// only the task.
    async fn run(
        &self,
        function: &'static str,
        handler: Handler,
        event: String,
    ) -> Result<Response, GatewayError> {
        let (clock, context) = (self.clock.clone(), self.context(function));
        let invocation = tokio::spawn(async move {
            let request = lambda::request(&serde_json::from_str(&event)?, context);
            Ok::<_, serde_json::Error>(timeout(&clock, FUNCTION_TIMEOUT, handler(request)).await)
        });
        match invocation.await {
            Ok(Ok(Ok(response))) => {
                let (parts, body) = response.into_parts();
                Ok(with_content_type(Response::from_parts(parts, Body::from(body.to_vec()))))
            }
            Ok(Ok(Err(_elapsed))) => {
                tracing::warn!(function, "the function timed out");
                Err(GatewayError::FunctionFailed)
            }
            Ok(Err(error)) => {
                tracing::error!(function, %error, "the function cannot parse the event");
                Err(GatewayError::FunctionFailed)
            }
            Err(error) => {
                tracing::error!(function, %error, "the function crashed");
                Err(GatewayError::FunctionFailed)
            }
        }
    }

    fn context(&self, function: &str) -> Context {
        let mut context = invocation::context(self.clock.now() + FUNCTION_TIMEOUT);
        context.request_id = self.random.uuid().to_string();
        context.invoked_function_arn = format!("arn:aws:lambda:us-east-1:{ACCOUNT_ID}:function:{function}");
        context
    }
}

/// A function's response in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProxyResponse {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    multi_value_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// Converts a function's JSON to an HTTP response, as API Gateway does. JSON without a `statusCode` becomes
/// the body of a response with the status 200.
///
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
fn proxy_response(json: &[u8]) -> Option<Response> {
    let value: Value = serde_json::from_slice(json).ok()?;
    if value.get("statusCode").is_none() {
        // cargo-lambda reports a function that ended during its start in this way. Lambda reports it in a
        // header.
        if value.get("errorType").is_some() && value.get("errorMessage").is_some() {
            return None;
        }
        let mut response = Response::new(Body::from(json.to_vec()));
        let content_type = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        return Some(response);
    }
    let proxy: ProxyResponse = serde_json::from_value(value).ok()?;
    let body = match proxy.body {
        Some(body) if proxy.is_base64_encoded => STANDARD.decode(body).ok()?,
        body => body.unwrap_or_default().into_bytes(),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(proxy.status_code).ok()?;
    let single = proxy.headers.into_iter();
    let multiple = proxy.multi_value_headers.into_iter();
    let cookies = proxy.cookies.into_iter().map(|cookie| (header::SET_COOKIE.to_string(), cookie));
    let repeated =
        multiple.flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)));
    for (name, value) in single.chain(repeated).chain(cookies) {
        let name = HeaderName::try_from(name).ok()?;
        response.headers_mut().append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(with_content_type(response))
}

/// Adds API Gateway's default content type if the response has a body without one.
fn with_content_type(mut response: Response) -> Response {
    use axum::body::HttpBody;
    if !response.body().is_end_stream() && !response.headers().contains_key(header::CONTENT_TYPE) {
        let plain = HeaderValue::from_static("text/plain;charset=UTF-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    response
}
