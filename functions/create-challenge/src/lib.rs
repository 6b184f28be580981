//! `POST /challenges`: a challenge with which the caller changes or restores the PIN.

mod pin_state;
mod user_session;

use std::convert::Infallible;
use std::sync::Arc;

use lambda_http::http::StatusCode;
use lambda_http::http::header::CONTENT_TYPE;
use lambda_http::{Body, Request, Response};
use serde::{Deserialize, Serialize};
use shared::challenge::{ChallengeType, ChallengeView};
use shared::challenge_store::ChallengeStore;
use shared::circle::{self, Circle, Session};
use shared::clock::{Clock, Deadline};
use shared::config::{self, CircleSettings, SettingError};
use shared::identity::UserId;
use shared::platform::Platform;
use shared::problem::{self, Code, Problem};
use shared::random::Random;
use shared::rate_limit::{RateLimit, RateLimits};
use shared::{identity, request, response};
use time::Duration;
use uuid::Uuid;

use crate::user_session::UserSession;

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 16 * 1024;

/// What the function keeps between requests.
#[derive(Debug)]
pub struct CreateChallenge {
    circle: Circle,
    challenges: ChallengeStore,
    requests: RateLimits,
    challenges_per_hour: u32,
    clock: Arc<dyn Clock>,
    request_timeout: std::time::Duration,
    random: Arc<Random>,
    retention: Duration,
    user_id_claim: String,
}

impl CreateChallenge {
    /// The function, set up as the environment says.
    ///
    /// # Errors
    /// When a setting is missing or bad.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let table = config::challenges_table(&platform.environment)?;
        let requests_table = config::rate_limits_table(&platform.environment)?;
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(&platform.environment)?),
            challenges: ChallengeStore::new(platform, table),
            requests: RateLimits::new(platform, requests_table),
            challenges_per_hour: config::challenges_per_hour(&platform.environment)?,
            clock: Arc::clone(&platform.clock),
            request_timeout: config::request_timeout(&platform.environment)?,
            random: Arc::clone(&platform.random),
            retention: config::challenge_retention(&platform.environment)?,
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
pub async fn handle(function: &CreateChallenge, request: Request) -> Result<Response<Body>, Infallible> {
    Ok(response::answer(&request, function.request_timeout, &*function.clock, |deadline| {
        create_challenge(function, &request, deadline)
    })
    .await)
}

async fn create_challenge(
    function: &CreateChallenge,
    request: &Request,
    deadline: Deadline,
) -> Result<Response<Body>, Problem> {
    let user = identity::caller(request, &function.user_id_claim)?;
    let challenge_type = challenge_type(request)?;
    let callers_key = idempotency_key(request)?;
    let callers_token = identity::user_token(request, &user)?;

    let key = callers_key.map_or_else(
        || function.random.uuid(),
        |callers| circle::idempotency_key(&user, challenge_type, callers),
    );
    let allowed = count(function, &user, key);
    let (mut session, end_user) =
        UserSession::open(&function.circle, &user, callers_token, allowed, deadline).await?;
    pin_state::check(&end_user, challenge_type, function.clock.now())?;

    let created = session.create_challenge(challenge_type, key).await?;
    let record = function.challenges.create(created.id, &user, challenge_type, function.retention).await?;

    #[derive(Serialize)]
    struct Created<'a> {
        #[serde(flatten)]
        challenge: ChallengeView<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<Session>,
    }
    // Without a key of the caller's own, only our own repeat can have used it before.
    let status = if created.repeated && callers_key.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let body = Created { challenge: ChallengeView::from(&record), session: session.into_new() };
    Ok(response::json(status, &body))
}

/// Counts the request against what one user may ask for in an hour.
async fn count(function: &CreateChallenge, user: &UserId, key: Uuid) -> Result<(), Problem> {
    match function.requests.count(user, key, function.challenges_per_hour).await? {
        RateLimit::Allowed => Ok(()),
        RateLimit::Exceeded { until } => Err(problem::too_many_challenges(until, function.clock.now())),
    }
}

/// The type that the body asks for; CHANGE_PIN where there is no body or no `type`.
fn challenge_type(request: &Request) -> Result<ChallengeType, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(default = "change_pin")]
        r#type: serde_json::Value,
    }

    fn change_pin() -> serde_json::Value {
        ChallengeType::ChangePin.as_str().into()
    }

    let body: &[u8] = request.body().as_ref();
    if body.is_empty() {
        return Ok(ChallengeType::ChangePin);
    }
    if body.len() > BODY_LIMIT {
        return Err(Problem::new(Code::BodyTooLarge, "The body may have 16 KiB at most."));
    }
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "Send the body as JSON, with the header Content-Type: application/json.",
        ));
    }
    let invalid = || {
        Problem::new(
            Code::InvalidBody,
            "The body has to be a JSON object with no other member than type, like {\"type\": \"CHANGE_PIN\"}.",
        )
    };
    // serde reads a struct from an array too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid());
    }
    let body: Body = serde_json::from_slice(body).map_err(|_| invalid())?;
    body.r#type.as_str().and_then(ChallengeType::parse).ok_or_else(|| {
        Problem::new(Code::InvalidChallengeType, "The member type has to be CHANGE_PIN or RESTORE_PIN.")
    })
}

/// The caller's own key, if one was sent.
fn idempotency_key(request: &Request) -> Result<Option<Uuid>, Problem> {
    let key = request::header(request, "idempotency-key", Code::InvalidIdempotencyKey)?;
    key.map(|key| {
        Uuid::try_parse(key).map_err(|_| {
            Problem::new(
                Code::InvalidIdempotencyKey,
                "The header Idempotency-Key has to be a UUID: a new one for each intended challenge, the same for its repeats.",
            )
        })
    })
    .transpose()
}
