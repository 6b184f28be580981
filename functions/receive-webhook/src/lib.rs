//! `HEAD` and `POST /webhooks/circle`: receives what Circle reports about challenges.
//!
//! The response is 200 only if the effect of the webhook is stored, or it provably has none. After any other response
//! Circle sends the webhook again.

use std::convert::Infallible;
use std::net::IpAddr;

use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::boundary::Boundary;
use shared::challenge_store::{ApplyOutcome, ChallengeStore};
use shared::circle::Circle;
use shared::config::{self, CircleSettings, SettingError};
use shared::metric::{self, Metric};
use shared::platform::Platform;
use shared::problem::{Cause, Problem};
use shared::webhook::{self, Notification, PublicKeys};
use shared::{request, response};
use tracing::Span;

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 256 * 1024;

/// What the function keeps between requests.
pub struct ReceiveWebhook {
    boundary: Boundary,
    challenges: ChallengeStore,
    public_keys: PublicKeys,
    source_ips: Option<Vec<IpAddr>>,
}

impl ReceiveWebhook {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a setting is missing or invalid.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let environment = &platform.environment;
        let circle = Circle::new(platform, CircleSettings::read(environment)?);
        Ok(Self {
            boundary: Boundary::new(platform)?,
            challenges: ChallengeStore::new(platform, config::challenges_table(environment)?),
            public_keys: PublicKeys::new(platform, circle, config::rate_limits_table(environment)?),
            source_ips: config::circle_source_ips(environment)?,
        })
    }

    /// Opens the connections, and fetches the keys that are in use, before the first webhook.
    pub async fn warm_up(&self) {
        self.public_keys.warm_up().await;
    }
}

/// What a webhook did.
#[derive(Debug, Clone, Copy, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
enum Outcome {
    /// It changed the record.
    Applied,
    /// It was applied before.
    Duplicate,
    /// The record is as far along, or further.
    Stale,
    /// It is not about a challenge of a type that this service creates.
    Ignored,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<ApplyOutcome> for Outcome {
    fn from(outcome: ApplyOutcome) -> Self {
        match outcome {
            ApplyOutcome::Applied => Self::Applied,
            ApplyOutcome::Duplicate => Self::Duplicate,
            ApplyOutcome::Stale => Self::Stale,
        }
    }
}

/// Responds to a request.
///
/// # Errors
/// Never: a failure is a response too.
pub async fn handle(function: &ReceiveWebhook, request: Request) -> Result<Response<Body>, Infallible> {
    function.boundary.respond(&request, |_| receive_webhook(function, &request)).await
}

async fn receive_webhook(function: &ReceiveWebhook, request: &Request) -> Result<Response<Body>, Problem> {
    match *request.method() {
        Method::HEAD => return Ok(Response::new(Body::Empty)),
        Method::POST => {}
        _ => return Err(Problem::new(Cause::MethodNotAllowed)),
    }
    check_source(function, request)?;
    let body: &[u8] = request.body().as_ref();
    if body.len() > BODY_LIMIT {
        return Err(Problem::new(Cause::WebhookBodyTooLarge));
    }
    let key_id = webhook::verify(&function.public_keys, request.headers(), body).await?;
    let (outcome, ()) = tokio::join!(process(function, body), function.public_keys.confirm(key_id));
    let outcome = outcome?;

    #[derive(Serialize)]
    struct Received {
        outcome: Outcome,
    }
    Ok(response::json(StatusCode::OK, &Received { outcome }))
}

/// Rejects floods from other addresses cheaply. The signature, not this check, is what authenticates a webhook.
fn check_source(function: &ReceiveWebhook, request: &Request) -> Result<(), Problem> {
    let Some(allowed) = &function.source_ips else { return Ok(()) };
    if request::source_ip(request).is_some_and(|source| allowed.contains(&source)) {
        return Ok(());
    }
    Err(Problem::new(Cause::SourceNotAllowed))
}

/// Reads and applies a body that Circle signed.
async fn process(function: &ReceiveWebhook, body: &[u8]) -> Result<Outcome, Problem> {
    let notification = Notification::parse(body)
        .map_err(|error| Problem::new(Cause::UnreadableNotification).because(error))?;
    let Notification { report, subscription_id } = notification;
    // Whose webhook it is, if it is about something that nobody asked for here: other apps of the Circle account cause such
    // webhooks, and so can anybody who subscribes the endpoint at Circle.
    let subscription = subscription_id.map(tracing::field::display);
    let Some(report) = report else {
        let metric = Metric::WebhookIgnored.as_str();
        tracing::info!(metric, subscription_id = subscription, "webhook about something else");
        metric::webhook_accepted(Outcome::Ignored.as_str(), None, None, subscription_id);
        return Ok(Outcome::Ignored);
    };
    Span::current().record("challenge_id", tracing::field::display(report.challenge_id));
    let applied = function.challenges.apply(&report).await?;
    if applied.record.requested_at.is_none() {
        let metric = Metric::UnrequestedChallenge.as_str();
        tracing::info!(
            metric,
            subscription_id = subscription,
            "webhook about a challenge that nobody requested here"
        );
    }
    let outcome = Outcome::from(applied.outcome);
    let (status, notification_id) = (report.status.as_str(), report.source.notification_id());
    metric::webhook_accepted(outcome.as_str(), Some(status), notification_id, subscription_id);
    Ok(outcome)
}
