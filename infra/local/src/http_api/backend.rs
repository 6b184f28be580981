//! What runs the functions: this process, or a running `cargo lambda watch`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, StatusCode, header};
use lambda_http::{Context, RequestExt};
use serde::Deserialize;
use serde_json::Value;
use shared::clock::{AdjustableClock, Clock, timeout};
use shared::random::Random;

use super::{ACCOUNT_ID, GatewayError};

/// How long a function may take. Lambda ends it then, which API Gateway tells as a failed function; its own 503 is for
/// an integration that takes 30 s.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long `cargo lambda watch` may take, which compiles a function when it is first called.
const WATCH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A function's handler, mounted in this process.
pub type Handler = Arc<
    dyn Fn(lambda_http::Request) -> BoxFuture<'static, lambda_http::http::Response<lambda_http::Body>>
        + Send
        + Sync,
>;

/// What runs the functions.
pub enum Backend {
    /// This process. A handler by the name of its function.
    InProcess(HashMap<&'static str, Handler>),
    /// An endpoint that has Lambda's `Invoke`, such as that of `cargo lambda watch`, without a slash at the end.
    LambdaInvokeEndpoint(String),
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InProcess(handlers) => formatter.debug_set().entries(handlers.keys()).finish(),
            Self::LambdaInvokeEndpoint(url) => formatter.write_str(url),
        }
    }
}

/// Calls functions as Lambda does.
#[derive(Debug)]
pub(super) struct Invoker {
    pub(super) backend: Backend,
    pub(super) clock: AdjustableClock,
    pub(super) random: Arc<Random>,
    pub(super) client: reqwest::Client,
}

impl Invoker {
    /// The function's answer to the event.
    pub(super) async fn invoke(
        &self,
        function: &'static str,
        event: String,
    ) -> Result<Response, GatewayError> {
        match &self.backend {
            Backend::InProcess(handlers) => match handlers.get(function) {
                Some(handler) => self.run(function, handler.clone(), event).await,
                None => {
                    tracing::error!(function, "there is no handler of this name");
                    Err(GatewayError::FunctionFailed)
                }
            },
            Backend::LambdaInvokeEndpoint(url) => {
                let url = format!("{url}/2015-03-31/functions/{function}/invocations");
                timeout(&self.clock, WATCH_TIMEOUT, self.post(&url, event))
                    .await
                    .unwrap_or(Err(GatewayError::Unavailable))
            }
        }
    }

    /// Runs the handler in a task of its own: it goes on when the caller hangs up, and its crash is its own.
    async fn run(
        &self,
        function: &'static str,
        handler: Handler,
        event: String,
    ) -> Result<Response, GatewayError> {
        let (clock, context) = (self.clock.clone(), self.context(function));
        let invocation = tokio::spawn(async move {
            // Parsing panics for a body that is not the base64 it is said to be, here as on AWS.
            let request = lambda_http::request::from_str(&event)?.with_lambda_context(context);
            Ok::<_, serde_json::Error>(timeout(&clock, FUNCTION_TIMEOUT, handler(request)).await)
        });
        match invocation.await {
            Ok(Ok(Ok(response))) => {
                let (parts, body) = response.into_parts();
                Ok(finished(Response::from_parts(parts, Body::from(body.to_vec()))))
            }
            Ok(Ok(Err(_elapsed))) => {
                tracing::warn!(function, "the function took too long");
                Err(GatewayError::FunctionFailed)
            }
            Ok(Err(error)) => {
                tracing::error!(function, %error, "the function cannot read the event");
                Err(GatewayError::FunctionFailed)
            }
            Err(error) => {
                tracing::error!(function, %error, "the function crashed");
                Err(GatewayError::FunctionFailed)
            }
        }
    }

    fn context(&self, function: &str) -> Context {
        let deadline = self.clock.now() + FUNCTION_TIMEOUT;
        let mut context = Context::default();
        context.request_id = self.random.uuid().to_string();
        context.deadline = u64::try_from(deadline.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        context.invoked_function_arn = format!("arn:aws:lambda:us-east-1:{ACCOUNT_ID}:function:{function}");
        context
    }

    async fn post(&self, url: &str, event: String) -> Result<Response, GatewayError> {
        let answer = async {
            let response = self.client.post(url).body(event).send().await?;
            let failed =
                !response.status().is_success() || response.headers().contains_key("x-amz-function-error");
            Ok::<_, reqwest::Error>((failed, response.bytes().await?))
        };
        let (failed, body) = answer.await.map_err(|error| {
            tracing::error!(%error, "the functions cannot be reached");
            GatewayError::Unavailable
        })?;
        if failed {
            tracing::error!(url, error = %String::from_utf8_lossy(&body), "the function failed");
            return Err(GatewayError::FunctionFailed);
        }
        proxy_response(&body).ok_or_else(|| {
            tracing::error!(url, "the function's answer is no response for API Gateway");
            GatewayError::FunctionFailed
        })
    }
}

/// A function's answer in JSON.
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

/// What API Gateway makes of a function's answer: a response where there is a `statusCode`, and otherwise a 200 with the
/// JSON as it is.
///
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
fn proxy_response(json: &[u8]) -> Option<Response> {
    let answer: Value = serde_json::from_slice(json).ok()?;
    if answer.get("statusCode").is_none() {
        // How cargo-lambda tells of a function that ended while it started; Lambda tells it in a header.
        if answer.get("errorType").is_some() && answer.get("errorMessage").is_some() {
            return None;
        }
        let mut response = Response::new(Body::from(json.to_vec()));
        let content_type = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        return Some(response);
    }
    let proxy: ProxyResponse = serde_json::from_value(answer).ok()?;
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
    Some(finished(response))
}

/// Adds the content type that API Gateway gives to a body without one.
fn finished(mut response: Response) -> Response {
    let has_body = http_body_is_not_empty(response.body());
    if has_body && !response.headers().contains_key(header::CONTENT_TYPE) {
        let plain = HeaderValue::from_static("text/plain;charset=UTF-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    response
}

fn http_body_is_not_empty(body: &Body) -> bool {
    use axum::body::HttpBody;
    !body.is_end_stream()
}
