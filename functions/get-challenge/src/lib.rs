//! `GET /challenges/{challengeId}`: how a challenge of the caller stands.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, RequestExt, Response};
use shared::challenge::{Challenge, ChallengeView, ReportSource};
use shared::challenge_store::{ChallengeStore, PollClaim, Settlement};
use shared::circle::Circle;
use shared::clock::{Clock, Deadline, timeout};
use shared::config::{self, CircleSettings, SettingError};
use shared::platform::Platform;
use shared::problem::{self, Code, Problem};
use shared::secrets::UserToken;
use shared::{identity, response};
use uuid::Uuid;

/// How long a caller whose record has been read waits for Circle to say something newer.
const POLL_LIMIT: Duration = Duration::from_secs(3);

/// What the function keeps between requests.
#[derive(Debug)]
pub struct GetChallenge {
    circle: Circle,
    challenges: ChallengeStore,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    user_id_claim: String,
}

impl GetChallenge {
    /// The function, set up as the environment says.
    ///
    /// # Errors
    /// When a setting is missing or bad.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let table = config::challenges_table(&platform.environment)?;
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(&platform.environment)?),
            challenges: ChallengeStore::new(platform, table),
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
pub async fn handle(function: &GetChallenge, request: Request) -> Result<Response<Body>, Infallible> {
    Ok(response::answer(&request, function.request_timeout, &*function.clock, |deadline| {
        get_challenge(function, &request, deadline)
    })
    .await)
}

async fn get_challenge(
    function: &GetChallenge,
    request: &Request,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let user = identity::caller(request, &function.user_id_claim)?;
    let challenge_id = challenge_id(request)?;
    let token = identity::user_token(request, &user)?;

    let record = function.challenges.get(challenge_id).await?;
    let record = record
        .filter(|record| record.is_visible_to(&user))
        .ok_or_else(|| Problem::new(Code::ChallengeNotFound, "The signed-in user has no such challenge."))?;
    let record = match token {
        Some(token) if !record.status.is_final() => poll(function, record, &token, deadline).await,
        _ => record,
    };
    Ok(response::json(StatusCode::OK, &ChallengeView::from(&record)))
}

fn challenge_id(request: &Request) -> Result<Uuid, Problem> {
    let parameters = request.path_parameters_ref();
    let id = parameters.and_then(|parameters| parameters.first("challengeId"));
    id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
        Problem::new(
            Code::InvalidChallengeId,
            "The challenge id in the path has to be a UUID, as POST /challenges returned it.",
        )
    })
}

/// Asks Circle, if nobody has just done so, and keeps the answer. What is on record stands wherever that
/// fails: a caller who can be told something is told it.
async fn poll(
    function: &GetChallenge,
    record: Challenge,
    token: &UserToken,
    deadline: Deadline,
) -> Challenge {
    // An expired token would only keep others from asking.
    if token.expires_at().is_some_and(|at| at <= function.clock.now()) {
        return record;
    }
    let asked = timeout(&*function.clock, POLL_LIMIT, ask_circle(function, &record, token, deadline)).await;
    match asked.unwrap_or_else(|elapsed| Err(problem::timeout().because(elapsed))) {
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
    let report = function.circle.challenge(record, token, ReportSource::Poll, deadline).await?;
    let Some(report) = report.filter(|report| report.status.rank() > record.status.rank()) else {
        return Ok(None);
    };
    match function.challenges.settle(&report).await? {
        Settlement::Applied(newer) | Settlement::Duplicate(newer) | Settlement::Stale(newer) => {
            Ok(Some(newer))
        }
    }
}
