//! `GET /challenges/{challengeId}`: the status of one of the caller's challenges.

use std::convert::Infallible;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, RequestExt, Response};
use shared::api::Api;
use shared::challenge::{Challenge, ChallengeView, ReportSource};
use shared::challenge_store::{ChallengeStore, PollClaim};
use shared::clock::{Deadline, timeout};
use shared::config::{self, SettingError};
use shared::platform::Platform;
use shared::problem::{Cause, Problem};
use shared::secrets::UserToken;
use shared::{identity, response};
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

    /// Reads the API key ahead of the first request.
    pub async fn warm_up(&self) {
        self.api.warm_up().await;
    }
}

/// Responds to a request.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn handle(function: &GetChallenge, request: Request) -> Result<Response<Body>, Infallible> {
    function.api.respond(&request, |deadline| get_challenge(function, &request, deadline)).await
}

async fn get_challenge(
    function: &GetChallenge,
    request: &Request,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let user = function.api.caller(request)?;
    let challenge_id = challenge_id(request)?;
    let token = identity::user_token(request, &user)?;

    let record = function.challenges.get(challenge_id).await?;
    let record = record
        .filter(|record| record.is_visible_to(&user))
        .ok_or_else(|| Problem::new(Cause::ChallengeNotFound))?;
    let record = match token {
        Some(token) if !record.status.is_final() => poll(function, record, &token, deadline).await,
        _ => record,
    };
    Ok(response::json(StatusCode::OK, &ChallengeView::from(&record)))
}

fn challenge_id(request: &Request) -> Result<Uuid, Problem> {
    let parameters = request.path_parameters_ref();
    let id = parameters.and_then(|parameters| parameters.first("challengeId"));
    id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| Problem::new(Cause::InvalidChallengeId))
}

/// Asks Circle, unless another caller has just done so, and stores what it says. If that fails, the caller still gets the
/// record.
async fn poll(
    function: &GetChallenge,
    record: Challenge,
    token: &UserToken,
    deadline: Deadline,
) -> Challenge {
    let clock = &*function.api.clock;
    // An expired token would only use up the claim, and so keep other callers from asking.
    if token.expires_at().is_some_and(|at| at <= clock.now()) {
        return record;
    }
    let asked = timeout(clock, POLL_TIMEOUT, ask_circle(function, &record, token, deadline)).await;
    match asked.unwrap_or_else(|late| Err(late.into())) {
        Ok(newer) => newer.unwrap_or(record),
        Err(problem) => {
            problem.log();
            record
        }
    }
}

async fn ask_circle(
    function: &GetChallenge,
    record: &Challenge,
    token: &UserToken,
    deadline: Deadline,
) -> Result<Option<Challenge>, Problem> {
    if let PollClaim::Denied(record) = function.challenges.claim_poll(record.id).await? {
        return Ok(record);
    }
    let report = function.api.circle.challenge(record, token, ReportSource::Poll, deadline).await?;
    let Some(report) = report.filter(|report| report.status.rank() > record.status.rank()) else {
        return Ok(None);
    };
    Ok(Some(function.challenges.apply(&report).await?.record))
}
