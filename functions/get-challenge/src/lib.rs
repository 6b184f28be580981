//! `GET /challenges/{challengeId}` and `GET /challenges`: one of the caller's challenges, and all of them.

mod list;

use std::convert::Infallible;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::api::Api;
use shared::challenge::{Challenge, ReportSource};
use shared::challenge_store::{ChallengeStore, PollClaim};
use shared::challenge_view::{self, ChallengeView};
use shared::clock::{Deadline, timeout};
use shared::config::{self, SettingError};
use shared::platform::Platform;
use shared::problem::{Cause, Problem};
use shared::secrets::UserToken;
use shared::{identity, request, response};
use time::OffsetDateTime;
use tracing::Span;
use uuid::Uuid;

/// How long a caller whose record has been read waits for Circle to report something newer.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);

/// What the function keeps between requests.
#[derive(Debug)]
pub struct GetChallenge {
    api: Api,
    challenges: ChallengeStore,
}

impl GetChallenge {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a setting is missing or invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let table = config::challenges_table(&platform.environment)?;
        Ok(Self { api: Api::new(platform)?, challenges: ChallengeStore::new(platform, table) })
    }

    /// Reads the API key and opens the connections before the first request.
    pub async fn warm_up(&self) {
        self.api.warm_up().await;
    }
}

/// Responds to a request.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn handle(function: &GetChallenge, request: Request) -> Result<Response<Body>, Infallible> {
    function
        .api
        .boundary
        .respond(&request, async |deadline| match request::path_parameter(&request, "challengeId") {
            Some(challenge_id) => get_challenge(function, &request, challenge_id, deadline).await,
            None => list::challenges(function, &request).await,
        })
        .await
}

async fn get_challenge(
    function: &GetChallenge,
    request: &Request,
    challenge_id: &str,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let user = function.api.caller(request)?;
    let challenge_id = Uuid::try_parse(challenge_id).map_err(|_| Problem::new(Cause::InvalidChallengeId))?;
    Span::current().record("challenge_id", tracing::field::display(challenge_id));
    let token = identity::user_token(request, &user)?;

    let record = function.challenges.get(challenge_id).await?;
    let record = record
        .filter(|record| record.is_visible_to(&user))
        .ok_or_else(|| Problem::new(Cause::ChallengeNotFound))?;
    let now = function.api.clock.now();
    let mut next_poll = None;
    let (record, problem) = match token.filter(|_| !record.status.is_final()) {
        None => (record, None),
        // An expired token would only use up the user's limit, and the claim that lets other callers ask.
        Some(token) if token.expires_at().is_some_and(|at| at <= now) => {
            (record, Some(Problem::new(Cause::UserTokenExpired)))
        }
        Some(token) => match function.api.admit_poll(&user).await {
            Ok(None) => poll(function, record, &token, request::id(request), deadline).await,
            Ok(at) => {
                next_poll = at;
                (record, None)
            }
            Err(problem) => {
                problem.log();
                (record, Some(problem))
            }
        },
    };

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Found<'a> {
        #[serde(flatten)]
        challenge: ChallengeView<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        check_error: Option<CheckError>,
    }
    let check_error = problem.map(|problem| CheckError::new(&problem, now));
    let mut response =
        response::json(StatusCode::OK, &Found { challenge: ChallengeView::from(&record), check_error });
    if let Some(interval) = challenge_view::poll_interval(&record, now) {
        let wait = next_poll.and_then(|at| Duration::try_from(at - now).ok()).unwrap_or_default();
        response::set_retry_after(&mut response, interval.max(wait));
    }
    Ok(response)
}

/// Why Circle could not be asked, so that the status may be out of date.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckError {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_message: Option<String>,
}

impl CheckError {
    fn new(problem: &Problem, now: OffsetDateTime) -> Self {
        Self { code: problem.code().as_str(), user_message: problem.user_message(now) }
    }
}

/// Asks Circle, unless another caller has just done so, and stores what it says. If that fails, the caller gets the record
/// and the problem.
async fn poll(
    function: &GetChallenge,
    record: Challenge,
    token: &UserToken,
    request_id: &str,
    deadline: Deadline,
) -> (Challenge, Option<Problem>) {
    let clock = &*function.api.clock;
    let deadline = deadline.min(Deadline::after(clock, POLL_TIMEOUT));
    let asked =
        timeout(clock, POLL_TIMEOUT, ask_circle(function, &record, token, request_id, deadline)).await;
    match asked.unwrap_or_else(|late| Err(late.into())) {
        Ok(newer) => (newer.unwrap_or(record), None),
        Err(problem) => {
            problem.log();
            (record, Some(problem))
        }
    }
}

async fn ask_circle(
    function: &GetChallenge,
    record: &Challenge,
    token: &UserToken,
    request_id: &str,
    deadline: Deadline,
) -> Result<Option<Challenge>, Problem> {
    if let PollClaim::Denied(record) = function.challenges.claim_poll(record.id).await? {
        return Ok(record);
    }
    let source = ReportSource::Poll { request_id: request_id.to_owned() };
    let report = function.api.circle.challenge(record, token, source, deadline).await?;
    let report = report.ok_or_else(|| Problem::new(Cause::CircleUnreadable))?;
    let newer = if report.status.replaces(Some(&record.status)) {
        function.challenges.apply(&report).await?.record
    } else {
        function.challenges.confirm(record.id).await?
    };
    Ok(Some(newer))
}
