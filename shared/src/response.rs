//! Answers: what every function does around its own work.

use std::time::Duration;

use lambda_http::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use lambda_http::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use tracing::Instrument;

use crate::clock::{Clock, Deadline, timeout};
use crate::problem::{self, Problem};
use crate::request;

/// A JSON answer, which no cache may keep: it is one user's, and may carry tokens.
///
/// # Panics
/// When `body` cannot be written as JSON, which our own types always can.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_string(body).expect("our own types can be written as JSON");
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is kept of a request's time for the table, once Circle has had its part.
const TABLE_PART: Duration = Duration::from_secs(1);

/// The boundary of a function: runs its work under the request's id and within the request's time, and turns a
/// problem into its answer and its one log line. The work is told by when Circle has to have answered.
pub async fn answer<W>(
    request: &Request,
    limit: Duration,
    clock: &dyn Clock,
    work: impl FnOnce(Deadline) -> W,
) -> Response<Body>
where
    W: Future<Output = Result<Response<Body>, Problem>>,
{
    let request_id = request::id(request);
    let span = tracing::info_span!("request", request_id);
    let deadline = request::deadline(request, limit, clock);
    async {
        let work = work(deadline.earlier(TABLE_PART));
        let done = timeout(clock, deadline.remaining(clock), work).await;
        match done.unwrap_or_else(|elapsed| Err(problem::timeout().because(elapsed))) {
            Ok(response) => {
                tracing::info!(status = response.status().as_u16(), "answered");
                response
            }
            Err(problem) => {
                problem.log();
                problem.into_response(request_id, clock.now())
            }
        }
    }
    .instrument(span)
    .await
}
