//! The boundary of a function that HTTP requests reach.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::{Body, Request, RequestExt, Response};
use tracing::Span;
use tracing::field::Empty;

use crate::clock::{Clock, Deadline, timeout};
use crate::config::{self, SettingError};
use crate::platform::Platform;
use crate::problem::Problem;
use crate::telemetry::{self, trace};
use crate::{request, response};

/// Time reserved for the final DynamoDB write, after the last call to Circle.
const WRITE_TIME: Duration = Duration::from_secs(1);

/// Turns the work of a function into responses: its time limit, its log lines, its problem documents.
#[derive(Debug)]
pub struct Boundary {
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
}

impl Boundary {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let request_timeout = config::request_timeout(&platform.environment)?;
        Ok(Self { clock: Arc::clone(&platform.clock), request_timeout })
    }

    /// Runs `work` within the request's time and a log span with its id, and turns a problem into a response and one log
    /// line. `work` receives the deadline for its calls to Circle.
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
        let span = request_span(request, request_id);
        let clock = &*self.clock;
        let (deadline, started) =
            (request::deadline(request, self.request_timeout, clock), clock.monotonic());
        let responding = async {
            let work = work(deadline.earlier(WRITE_TIME));
            let result = timeout(clock, deadline.remaining(clock), work).await;
            let duration = (clock.monotonic() - started).as_millis() as u64;
            Span::current().record("duration_ms", duration);
            let response = match result.unwrap_or_else(|late| Err(late.into())) {
                Ok(response) => {
                    tracing::info!(status = response.status().as_u16(), "request completed");
                    response
                }
                Err(problem) => {
                    problem.log();
                    response::problem(&problem, request_id, clock.now())
                }
            };
            trace::responded(response.status().as_u16());
            response
        };
        Ok(telemetry::run(span, responding).await)
    }
}

/// The span of a request. Its fields are part of each log line about the request. Those that are empty at first are added
/// once they are known.
fn request_span(request: &Request, request_id: &str) -> Span {
    let context = request::context(request);
    let invocation = request.lambda_context_ref();
    let span = tracing::info_span!(
        "request",
        request_id,
        invocation_id = invocation.map(|invocation| invocation.request_id.as_str()),
        route = context.and_then(|context| context.route_key.as_deref()),
        source_ip = request::source_ip(request).map(tracing::field::display),
        user = Empty,
        token_id = Empty,
        session_id = Empty,
        signed_in_at = Empty,
        challenge_id = Empty,
        circle_request_id = Empty,
        duration_ms = Empty,
    );
    trace::link(&span, invocation, Some(request.headers()));
    span
}
