//! From Lambda's events to requests: every event gets a response.

mod event;

use std::convert::Infallible;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use lambda_http::lambda_runtime::{self, LambdaEvent};
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, Error, Request, Response, Service, service_fn};
use serde::Serialize;
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
/// If the event has no shape that a request can be made of, which no event of API Gateway has.
pub async fn respond<H, F>(
    handler: &H,
    event: LambdaEvent<Value>,
) -> Result<impl Serialize + use<H, F>, Error>
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send,
{
    let LambdaEvent { payload, context } = event;
    let request: ApiGatewayV2httpRequest = serde_json::from_value(event::readable(&payload))?;
    let mut adapter = Adapter::from(service_fn(handler));
    let Ok(response) = adapter.call(LambdaEvent::new(LambdaRequest::ApiGatewayV2(request), context)).await;
    Ok(response)
}
