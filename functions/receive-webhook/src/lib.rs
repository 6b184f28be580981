//! `HEAD` and `POST /webhooks/circle`: takes in what Circle says about challenges.
//!
//! A webhook is answered 200 only when its effect is stored or it provably has none; anything else makes
//! Circle send it again.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::challenge::Report;
use shared::challenge_store::{ChallengeStore, Settlement};
use shared::circle::Circle;
use shared::clock::Clock;
use shared::config::{self, CircleSettings, SettingError};
use shared::platform::Platform;
use shared::problem::{Code, Problem};
use shared::webhook::{self, Notification, PublicKeys, VerifyError};
use shared::{request, response};

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 256 * 1024;

/// What the function keeps between requests.
pub struct ReceiveWebhook {
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    challenges: ChallengeStore,
    public_keys: PublicKeys,
    source_ips: Option<Vec<IpAddr>>,
}

impl ReceiveWebhook {
    /// The function, set up as the environment says. The API key is read with the first key that is not
    /// known yet.
    ///
    /// # Errors
    /// When a setting is missing or bad.
    pub fn new(platform: &Platform) -> Result<Self, SettingError> {
        let table = config::challenges_table(&platform.environment)?;
        let circle = Circle::new(platform, CircleSettings::read(&platform.environment)?);
        Ok(Self {
            clock: Arc::clone(&platform.clock),
            request_timeout: config::request_timeout(&platform.environment)?,
            challenges: ChallengeStore::new(platform, table),
            public_keys: PublicKeys::new(Arc::new(circle), Arc::clone(&platform.clock)),
            source_ips: config::circle_source_ips(&platform.environment)?,
        })
    }
}

/// What a webhook came to.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// It changed the record.
    Applied,
    /// It was taken in before.
    Duplicate,
    /// The record is as far along, or further.
    Stale,
    /// It is not about a challenge of a type that this service makes.
    Ignored,
}

/// Answers a request.
///
/// # Errors
/// Never: a failure is an answer too.
pub async fn handle(function: &ReceiveWebhook, request: Request) -> Result<Response<Body>, Infallible> {
    Ok(response::answer(&request, function.request_timeout, &*function.clock, |_| {
        receive_webhook(function, &request)
    })
    .await)
}

async fn receive_webhook(function: &ReceiveWebhook, request: &Request) -> Result<Response<Body>, Problem> {
    match *request.method() {
        Method::HEAD => return Ok(Response::new(Body::Empty)),
        Method::POST => {}
        _ => {
            return Err(Problem::new(
                Code::MethodNotAllowed,
                "Webhooks come by POST, Circle's check by HEAD.",
            ));
        }
    }
    check_source(function, request)?;
    let body: &[u8] = request.body().as_ref();
    if body.len() > BODY_LIMIT {
        return Err(Problem::new(Code::BodyTooLarge, "A webhook may have 256 KiB at most."));
    }
    webhook::verify(&function.public_keys, request.headers(), body).await.map_err(not_verified)?;

    let notification = Notification::parse(body).map_err(|error| {
        Problem::new(
            Code::UnreadableNotification,
            "The notification is Circle's, but cannot be read as a challenge. It has to be sent again once this service can read it.",
        )
        .because(error)
    })?;
    let outcome = match notification {
        Notification::Challenge(report) => settle(function, &report).await?,
        Notification::Other => Outcome::Ignored,
    };

    #[derive(Serialize)]
    struct Received {
        outcome: Outcome,
    }
    Ok(response::json(StatusCode::OK, &Received { outcome }))
}

/// A shield against floods; the security is the signature.
fn check_source(function: &ReceiveWebhook, request: &Request) -> Result<(), Problem> {
    let Some(allowed) = &function.source_ips else { return Ok(()) };
    if request::source_ip(request).is_some_and(|source| allowed.contains(&source)) {
        return Ok(());
    }
    Err(Problem::new(
        Code::SourceNotAllowed,
        "Webhooks are taken from Circle's addresses only (setting CIRCLE_SOURCE_IPS).",
    ))
}

fn not_verified(error: VerifyError) -> Problem {
    match &error {
        VerifyError::Header(_) | VerifyError::UnknownKey(_) | VerifyError::WrongSignature => Problem::new(
            Code::InvalidSignature,
            "The request has to carry Circle's signature over its exact bytes, in X-Circle-Key-Id and X-Circle-Signature.",
        ),
        VerifyError::Key(_) => Problem::new(
            Code::PublicKeyUnavailable,
            "Circle's public key for the signature cannot be had just now. Send the webhook again.",
        )
        .retry_after(std::time::Duration::from_secs(10)),
    }
    .because(error)
}

async fn settle(function: &ReceiveWebhook, report: &Report) -> Result<Outcome, Problem> {
    let outcome = match function.challenges.settle(report).await? {
        Settlement::Applied(_) => Outcome::Applied,
        Settlement::Duplicate(_) => Outcome::Duplicate,
        Settlement::Stale(_) => Outcome::Stale,
    };
    let challenge_id = report.challenge_id;
    tracing::info!(%challenge_id, status = report.status.as_str(), ?outcome, "webhook taken in");
    Ok(outcome)
}
