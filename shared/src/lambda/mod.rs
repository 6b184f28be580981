//! From Lambda's events to requests: every event gets a response.

mod command;
mod event;

pub use self::command::{InvalidChallengeIds, challenge_ids};
pub use self::event::request;

use std::convert::Infallible;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_http::lambda_runtime::{self, LambdaEvent};
use lambda_http::{Body, Error, Request, Response, service_fn};
use serde_json::Value;

/// Serves a function's invocations until the sandbox ends.
///
/// # Errors
/// If the connection to Lambda's Runtime API fails.
pub async fn run<H, F>(handler: H) -> Result<(), Error>
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send,
{
    lambda_runtime::run(service_fn(|event| respond(&handler, event))).await
}

/// Responds to one event, whatever it holds.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn respond<H, F>(
    handler: &H,
    event: LambdaEvent<Value>,
) -> Result<ApiGatewayV2httpResponse, Infallible>
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send,
{
    let (parts, body) = handler(request(&event.payload, event.context)).await?.into_parts();
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = parts.status.as_u16().into();
    response.headers = parts.headers;
    response.is_base64_encoded = matches!(body, Body::Binary(_));
    response.body = Some(if matches!(body, Body::Empty) { Body::Text(String::new()) } else { body });
    Ok(response)
}
