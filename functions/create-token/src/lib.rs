//! `POST /session-tokens`: a session for the caller, to hand to Circle's client SDK.

use std::convert::Infallible;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use shared::api::{Api, Sessions};
use shared::clock::Deadline;
use shared::problem::Problem;
use shared::response;

/// Responds to a request.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn handle(api: &Api, request: Request) -> Result<Response<Body>, Infallible> {
    api.boundary.respond(&request, |deadline| create_token(api, &request, deadline)).await
}

async fn create_token(api: &Api, request: &Request, deadline: Deadline) -> Result<Response<Body>, Problem> {
    let user = api.caller(request)?;
    api.admit(&user, Sessions::HandedOut).await?;
    let session = api.circle.create_session(&user, deadline).await?;
    Ok(response::json(StatusCode::CREATED, &session))
}
