//! What every function of the API shares.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::{Body, Request, Response};
use tracing::Instrument;

use crate::circle::Circle;
use crate::clock::{Clock, Deadline, timeout};
use crate::config::{self, CircleSettings, SettingError};
use crate::identity;
use crate::platform::Platform;
use crate::problem::Problem;
use crate::user_id::UserId;
use crate::{request, response};

/// Time reserved for the final DynamoDB write, after the last call to Circle.
const WRITE_TIME: Duration = Duration::from_secs(1);

/// What a function of the API keeps between requests: Circle, the clock, and the settings that all of them have.
#[derive(Debug)]
pub struct Api {
    /// Circle's API.
    pub circle: Arc<Circle>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    request_timeout: Duration,
    user_id_claim: String,
}

impl Api {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a setting is missing or invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        Ok(Self {
            circle: Arc::new(Circle::new(platform, CircleSettings::read(environment)?)),
            clock: Arc::clone(&platform.clock),
            request_timeout: config::request_timeout(environment)?,
            user_id_claim: config::user_id_claim(environment),
        })
    }

    /// Reads the API key ahead of the first request.
    pub async fn warm_up(&self) {
        self.circle.warm_up().await;
    }

    /// The signed-in user who sent the request.
    ///
    /// # Errors
    /// `unauthenticated` or `invalid_user_id`, as [`identity::caller`] says.
    pub fn caller(&self, request: &Request) -> Result<UserId, Problem> {
        identity::caller(request, &self.user_id_claim)
    }

    /// The boundary of a function: runs `work` within the request's time and a log span with its id, and turns a problem
    /// into a response and one log line. `work` receives the deadline for its calls to Circle.
    ///
    /// # Errors
    /// Never: a failure is a response too.
    pub async fn respond<W>(
        &self,
        request: &Request,
        work: impl FnOnce(Deadline) -> W,
    ) -> Result<Response<Body>, Infallible>
    where
        W: Future<Output = Result<Response<Body>, Problem>>,
    {
        let request_id = request::id(request);
        let span = tracing::info_span!("request", request_id);
        let clock = &*self.clock;
        let deadline = request::deadline(request, self.request_timeout, clock);
        let responding = async {
            let work = work(deadline.earlier(WRITE_TIME));
            match timeout(clock, deadline.remaining(clock), work)
                .await
                .unwrap_or_else(|late| Err(late.into()))
            {
                Ok(response) => {
                    tracing::info!(status = response.status().as_u16(), "request completed");
                    response
                }
                Err(problem) => {
                    problem.log();
                    response::problem(&problem, request_id, clock.now())
                }
            }
        };
        Ok(responding.instrument(span).await)
    }
}
