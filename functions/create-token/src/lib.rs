//! `POST /session-tokens`: a session for the caller, to hand to Circle's client SDK.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use shared::circle::Circle;
use shared::clock::{Clock, Deadline};
use shared::config::{self, CircleSettings, SettingError};
use shared::platform::Platform;
use shared::problem::Problem;
use shared::{identity, response};

/// What the function keeps between requests.
#[derive(Debug)]
pub struct CreateToken {
    circle: Circle,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    user_id_claim: String,
}

impl CreateToken {
    /// The function, set up as the environment says.
    ///
    /// # Errors
    /// When a setting is missing or bad.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(&platform.environment)?),
            clock: Arc::clone(&platform.clock),
            request_timeout: config::request_timeout(&platform.environment)?,
            user_id_claim: config::user_id_claim(&platform.environment),
        })
    }

    /// Reads the API key ahead of the first request.
    pub async fn warm_up(&self) {
        self.circle.warm_up().await;
    }
}

/// Answers a request.
///
/// # Errors
/// Never: a failure is an answer too.
pub async fn handle(function: &CreateToken, request: Request) -> Result<Response<Body>, Infallible> {
    Ok(response::answer(&request, function.request_timeout, &*function.clock, |deadline| {
        create_token(function, &request, deadline)
    })
    .await)
}

async fn create_token(
    function: &CreateToken,
    request: &Request,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let user = identity::caller(request, &function.user_id_claim)?;
    let session = function.circle.create_session(&user, deadline).await?;
    Ok(response::json(StatusCode::CREATED, &session))
}
