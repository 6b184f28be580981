//! `POST /challenges`: a challenge with which the caller changes or restores the PIN.

mod body;
mod pin_state;
mod user_session;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::header::LOCATION;
use lambda_http::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::api::{Api, Sessions};
use shared::challenge::{Challenge, ChallengeType};
use shared::challenge_store::{ChallengeStore, Origin};
use shared::challenge_view::{self, ChallengeView};
use shared::circle::{CircleIdempotencyKey, IdempotencyKey, Session};
use shared::clock::Deadline;
use shared::config::{self, SettingError};
use shared::platform::Platform;
use shared::problem::{Cause, Problem};
use shared::random::Random;
use shared::rate_limit::{ChallengeLimit, Switch};
use shared::telemetry::Chain;
use shared::user_id::UserId;
use shared::{identity, request, response};
use tracing::Span;

use crate::user_session::UserSession;

/// What the function keeps between requests.
#[derive(Debug)]
pub struct CreateChallenge {
    api: Api,
    challenges: ChallengeStore,
    switch: Switch,
    challenges_per_hour: u32,
    retention: Duration,
    restore_max_sign_in_age: Option<Duration>,
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
            switch: Switch::default(),
            challenges_per_hour: config::challenges_per_hour(environment)?,
            retention: config::challenge_retention(environment)?,
            restore_max_sign_in_age: config::restore_max_sign_in_age(environment)?,
            random: Arc::clone(&platform.random),
        })
    }

    /// Reads the API key and opens the connections before the first request. A request makes up to two calls at once to
    /// Circle and to the tables, so it needs two connections to each.
    pub async fn warm_up(&self) {
        tokio::join!(self.api.warm_up(), self.api.connect());
    }
}

/// Responds to a request.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn handle(function: &CreateChallenge, request: Request) -> Result<Response<Body>, Infallible> {
    function.api.boundary.respond(&request, |deadline| create_challenge(function, &request, deadline)).await
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
    if let (ChallengeType::RestorePin, Some(max_age)) = (challenge_type, function.restore_max_sign_in_age) {
        identity::check_sign_in(request, max_age, function.api.clock.now())?;
    }

    let key = match callers_key {
        Some(callers_key) => CircleIdempotencyKey::derive(&user, challenge_type, callers_key),
        None => CircleIdempotencyKey::random(&function.random),
    };
    let (admitted, is_stopped) = tokio::join!(
        function.api.admit(&user, Sessions::HandedOut),
        function.switch.is_stopped(&function.api.rate_limits, &*function.api.clock)
    );
    admitted?;
    if is_stopped? {
        return Err(Problem::new(Cause::ChallengesStopped));
    }
    if let Some(settled) = count_challenge(function, &user, &key).await? {
        Span::current().record("challenge_id", tracing::field::display(settled.id));
        return Ok(respond(function, StatusCode::OK, &settled, None));
    }
    let (mut session, end_user) =
        UserSession::open(&function.api.circle, &user, callers_token, deadline).await?;
    pin_state::check(&end_user, challenge_type, function.api.clock.now())?;

    let created = session.create_challenge(challenge_type, &key).await?;
    Span::current().record("challenge_id", tracing::field::display(created.id));
    let origin = Origin { request_id: request::id(request), source_ip: request::source_ip(request) };
    let (record, remembered) = tokio::join!(
        function.challenges.create(created.id, &user, challenge_type, function.retention, origin),
        async {
            match callers_key {
                Some(_) => function.api.rate_limits.remember_challenge(&user, &key, created.id).await,
                None => Ok(()),
            }
        }
    );
    if let Err(error) = remembered {
        // A replay of the key then asks Circle, which returns the same challenge.
        tracing::warn!(error = %Chain(&error), "the challenge could not be stored beside its idempotency key");
    }
    // Without a caller's key, only a retry of our own can have used the key before.
    let is_replay = created.is_replay && callers_key.is_some();
    let status = if is_replay { StatusCode::OK } else { StatusCode::CREATED };
    Ok(respond(function, status, &record?, session.into_new()))
}

/// Counts the challenge against the user's limit. Returns the challenge if it replays one that is known and settled: that
/// needs neither a session nor Circle.
async fn count_challenge(
    function: &CreateChallenge,
    user: &UserId,
    key: &CircleIdempotencyKey,
) -> Result<Option<Challenge>, Problem> {
    match function.api.rate_limits.count_challenge(user, key, function.challenges_per_hour).await? {
        ChallengeLimit::Allowed { known: None } => Ok(None),
        ChallengeLimit::Allowed { known: Some(challenge_id) } => {
            let record = function.challenges.get(challenge_id).await?;
            Ok(record.filter(|record| record.status.is_final() && record.is_visible_to(user)))
        }
        ChallengeLimit::Exceeded { until } => {
            Err(Problem::new(Cause::TooManyChallenges).retry_at(until, function.api.clock.now()))
        }
    }
}

fn respond(
    function: &CreateChallenge,
    status: StatusCode,
    record: &Challenge,
    session: Option<Session>,
) -> Response<Body> {
    #[derive(Serialize)]
    struct Created<'a> {
        #[serde(flatten)]
        challenge: ChallengeView<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<Session>,
    }
    let mut response = response::json(status, &Created { challenge: ChallengeView::from(record), session });
    if status == StatusCode::CREATED {
        let location = format!("/challenges/{}", record.id);
        let location = HeaderValue::try_from(location).expect("a UUID is printable ASCII");
        response.headers_mut().insert(LOCATION, location);
    }
    if let Some(interval) = challenge_view::poll_interval(record, function.api.clock.now()) {
        response::set_retry_after(&mut response, interval);
    }
    response
}

/// The caller's own idempotency key, if one was sent.
fn idempotency_key(request: &Request) -> Result<Option<IdempotencyKey>, Problem> {
    let key = request::header(request, "idempotency-key", Cause::InvalidIdempotencyKey)?;
    key.map(|key| key.parse().map_err(|_| Problem::new(Cause::InvalidIdempotencyKey))).transpose()
}
