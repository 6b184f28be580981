//! What every function that callers reach shares.

use std::sync::Arc;
use std::time::Duration;

use lambda_http::Request;
use time::OffsetDateTime;
use tracing::Span;

use crate::boundary::Boundary;
use crate::circle::Circle;
use crate::clock::Clock;
use crate::config::{self, CircleSettings, SettingError};
use crate::identity;
use crate::metric::Metric;
use crate::platform::Platform;
use crate::problem::{Cause, Problem};
use crate::rate_limit::{Bucket, RateLimit, RateLimits};
use crate::user_hash::UserNames;
use crate::user_id::UserId;

/// What a function of the API keeps between requests: Circle, the clock, the limits per user, and the settings that all of
/// them have.
#[derive(Debug)]
pub struct Api {
    /// Circle's API.
    pub circle: Circle,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The limits per user.
    pub rate_limits: RateLimits,
    /// Turns the work on a request into a response.
    pub boundary: Boundary,
    user_id_claim: String,
    user_names: UserNames,
    calls: Bucket,
}

/// What a request does to the user's session at Circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// It may hand out a session.
    HandedOut,
    /// It hands out none.
    Untouched,
}

impl Api {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a setting is missing or invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        Ok(Self {
            circle: Circle::new(platform, CircleSettings::read(environment)?),
            clock: Arc::clone(&platform.clock),
            rate_limits: RateLimits::new(
                platform,
                config::rate_limits_table(environment)?,
                config::user_hash_key(environment)?,
            ),
            boundary: Boundary::new(platform)?,
            user_id_claim: config::user_id_claim(environment),
            user_names: config::user_names(environment)?,
            calls: Bucket::calls(config::call_burst(environment)?, config::call_interval(environment)?),
        })
    }

    /// Reads the API key and opens the connections before the first request.
    pub async fn warm_up(&self) {
        tokio::join!(self.circle.warm_up(), self.rate_limits.connect());
    }

    /// Opens one more connection to Circle and to the table.
    pub async fn connect(&self) {
        tokio::join!(self.circle.connect(), self.rate_limits.connect());
    }

    /// The signed-in user who sent the request. Adds the user and the login to the request's log line.
    ///
    /// # Errors
    /// `unauthenticated` or `invalid_user_id`, as [`identity::caller`] says.
    pub fn caller(&self, request: &Request) -> Result<UserId, Problem> {
        let user = identity::caller(request, &self.user_id_claim)?;
        Span::current().record("user", self.user_names.of(&user));
        identity::log_login(request);
        Ok(user)
    }

    /// Counts a request of the user that will call Circle. It has to come before the first call.
    ///
    /// # Errors
    /// `too_many_requests` if the user's limit is exceeded, `user_blocked` if the operator has blocked the user.
    pub async fn admit(&self, user: &UserId, sessions: Sessions) -> Result<(), Problem> {
        let hands_out_session = sessions == Sessions::HandedOut;
        match self.rate_limits.count_call(user, self.calls, hands_out_session).await? {
            RateLimit::Allowed => Ok(()),
            RateLimit::Exceeded { until } => {
                let wait = Duration::try_from(until - self.clock.now()).unwrap_or_default();
                Err(Problem::new(Cause::TooManyRequests).retry_after(wait))
            }
            RateLimit::Blocked => Err(Problem::new(Cause::UserBlocked)),
        }
    }

    /// Counts a poll of the user that will call Circle. Returns `None` if the poll is allowed, else the time of the next
    /// one.
    ///
    /// # Errors
    /// `user_blocked`, or if the table cannot be reached.
    pub async fn admit_poll(&self, user: &UserId) -> Result<Option<OffsetDateTime>, Problem> {
        match self.rate_limits.count_call(user, Bucket::POLLS, false).await? {
            RateLimit::Allowed => Ok(None),
            RateLimit::Exceeded { until } => {
                tracing::info!(metric = Metric::PollLimited.as_str(), "poll beyond the user's limit");
                Ok(Some(until))
            }
            RateLimit::Blocked => Err(Problem::new(Cause::UserBlocked)),
        }
    }
}
