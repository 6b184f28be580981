//! `POST /challenges`: a challenge with which the caller changes or restores the PIN.

mod body;
mod pin_state;
mod user_session;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::api::Api;
use shared::challenge::ChallengeView;
use shared::challenge_store::ChallengeStore;
use shared::circle::{CircleIdempotencyKey, IdempotencyKey, Session};
use shared::clock::Deadline;
use shared::config::{self, SettingError};
use shared::platform::Platform;
use shared::problem::{Cause, Problem};
use shared::random::Random;
use shared::rate_limit::{RateLimit, RateLimits};
use shared::user_id::UserId;
use shared::{identity, request, response};

use crate::user_session::UserSession;

/// What the function keeps between requests.
#[derive(Debug)]
pub struct CreateChallenge {
    api: Api,
    challenges: ChallengeStore,
    rate_limits: RateLimits,
    challenges_per_hour: u32,
    retention: Duration,
    random: Arc<Random>,
}

impl CreateChallenge {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a setting is missing or invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        Ok(Self {
            api: Api::new(platform)?,
            challenges: ChallengeStore::new(platform, config::challenges_table(environment)?),
            rate_limits: RateLimits::new(platform, config::rate_limits_table(environment)?),
            challenges_per_hour: config::challenges_per_hour(environment)?,
            retention: config::challenge_retention(environment)?,
            random: Arc::clone(&platform.random),
        })
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
pub async fn handle(function: &CreateChallenge, request: Request) -> Result<Response<Body>, Infallible> {
    function.api.respond(&request, |deadline| create_challenge(function, &request, deadline)).await
}

async fn create_challenge(
    function: &CreateChallenge,
    request: &Request,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let user = function.api.caller(request)?;
    let challenge_type = body::challenge_type(request)?;
    let callers_key = idempotency_key(request)?;
    let callers_token = identity::user_token(request, &user)?;

    let key = match callers_key {
        Some(callers_key) => CircleIdempotencyKey::derive(&user, challenge_type, callers_key),
        None => CircleIdempotencyKey::random(&function.random),
    };
    let rate_limit = check_rate_limit(function, &user, &key);
    let (mut session, end_user) =
        UserSession::open(&function.api.circle, &user, callers_token, rate_limit, deadline).await?;
    pin_state::check(&end_user, challenge_type, function.api.clock.now())?;

    let created = session.create_challenge(challenge_type, &key).await?;
    let record = function.challenges.create(created.id, &user, challenge_type, function.retention).await?;

    #[derive(Serialize)]
    struct Created<'a> {
        #[serde(flatten)]
        challenge: ChallengeView<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<Session>,
    }
    // Without a caller's key, only a retry of our own can have used the key before.
    let is_replay = created.is_replay && callers_key.is_some();
    let status = if is_replay { StatusCode::OK } else { StatusCode::CREATED };
    let body = Created { challenge: ChallengeView::from(&record), session: session.into_new() };
    Ok(response::json(status, &body))
}

/// Counts the request against the user's limit.
async fn check_rate_limit(
    function: &CreateChallenge,
    user: &UserId,
    key: &CircleIdempotencyKey,
) -> Result<(), Problem> {
    match function.rate_limits.check(user, key, function.challenges_per_hour).await? {
        RateLimit::Allowed => Ok(()),
        RateLimit::Exceeded { until } => {
            Err(Problem::new(Cause::TooManyChallenges).retry_at(until, function.api.clock.now()))
        }
    }
}

/// The caller's own idempotency key, if one was sent.
fn idempotency_key(request: &Request) -> Result<Option<IdempotencyKey>, Problem> {
    let key = request::header(request, "idempotency-key", Cause::InvalidIdempotencyKey)?;
    key.map(|key| key.parse().map_err(|_| Problem::new(Cause::InvalidIdempotencyKey))).transpose()
}
