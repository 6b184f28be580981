//! The webhook's subscription at Circle as a part of the deployment: a CloudFormation custom resource that subscribes the
//! endpoint when the stack is created or changed, and deletes the subscription with the stack.
//!
//! The resource's physical id is the subscription's id. A new endpoint gets a new subscription, whose id makes
//! CloudFormation delete the old one. CloudFormation waits for a response for up to an hour, so every event gets one. A
//! deletion always succeeds, because a stack must not get stuck on a subscription.
//!
//! The function believes as little as possible of its event. It subscribes only the webhook of its own stack, deletes only
//! subscriptions of such webhooks, and responds only to CloudFormation.

mod delivery;
mod event;
mod reason;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::{Context, Error, LambdaEvent};
use reqwest::Url;
use shared::circle::{Circle, CircleError};
use shared::clock::{Clock, Deadline, Elapsed, timeout};
use shared::config::{CircleSettings, SettingError, aws_region, webhook_url};
use shared::http_client::HttpClient;
use shared::metric::Metric;
use shared::platform::Platform;
use shared::random::Random;
use shared::request::invocation_deadline;
use shared::telemetry::Chain;
use tracing::Instrument;
use uuid::Uuid;

pub use self::event::{Event, Response};

use self::delivery::Sender;
use self::subscription::{Deletion, Work};

/// The longest that an invocation takes, unless Lambda ends it earlier.
const INVOCATION_TIMEOUT: Duration = Duration::from_secs(120);

/// Time reserved for delivering the response.
const DELIVERY_TIME: Duration = Duration::from_secs(8);

/// What the function keeps between invocations.
#[derive(Debug)]
pub struct ManageSubscription {
    circle: Result<Circle, SettingError>,
    webhook_url: Result<Url, SettingError>,
    region: Option<String>,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl ManageSubscription {
    /// Reads the settings. A missing or invalid setting becomes a response, because the deployment would wait for a function
    /// that does not start.
    pub fn new(platform: &Platform) -> Self {
        Self {
            circle: CircleSettings::read(&platform.environment)
                .map(|settings| Circle::new(platform, settings)),
            webhook_url: webhook_url(&platform.environment),
            region: aws_region(&platform.environment).ok(),
            http: platform.http.clone(),
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
        }
    }
}

/// Why the work on the subscription failed.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("RequestType is not Create, Update or Delete")]
    RequestType,
    #[error("the property Endpoint is not {0}")]
    Endpoint(Url),
    #[error("a setting is missing or invalid")]
    Setting(#[from] SettingError),
    #[error("the work at Circle failed")]
    Circle(#[from] CircleError),
    #[error("the work took too long")]
    OutOfTime(#[from] Elapsed),
}

/// Handles an event, and delivers the response to the URL in the event.
///
/// # Errors
/// If the response cannot be delivered. Lambda then retries the event, and the retry finds the work done.
pub async fn handle(function: &ManageSubscription, event: LambdaEvent<Event>) -> Result<Response, Error> {
    let (event, context) = event.into_parts();
    let span = tracing::info_span!("request", request_id = context.request_id);
    respond(function, event, &context).instrument(span).await
}

async fn respond(
    function: &ManageSubscription,
    mut event: Event,
    context: &Context,
) -> Result<Response, Error> {
    let clock = &*function.clock;
    let end = invocation_deadline(Some(context), INVOCATION_TIMEOUT, clock);
    let deadline = end.earlier(DELIVERY_TIME);
    let response_url = event.response_url.take();
    // Boxed, because the whole future is nested too deeply for the compiler.
    let work = Box::pin(perform(function, &event, deadline));
    let work = timeout(clock, deadline.remaining(clock), work).await;
    let response = match work.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(new_id) => event.success(new_id.map(|id| id.to_string())),
        Err(error) if event.request_type == "Delete" => {
            let subscription_id = event.physical_resource_id.as_deref().unwrap_or("none");
            tracing::error!(
                metric = Metric::SubscriptionLeftBehind.as_str(),
                subscription_id,
                error = %Chain(&error),
                "the subscription may remain at Circle; delete it there manually"
            );
            event.success(None)
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the endpoint could not be subscribed");
            event.failure(reason::of(&error, context))
        }
    };
    if let Some(url) = response_url {
        let body = serde_json::to_string(&response).expect("our own types can be serialized");
        let sender = Sender {
            http: &function.http,
            clock,
            random: &function.random,
            region: function.region.as_deref(),
            is_local: function.webhook_url.as_ref().is_ok_and(|url| url.scheme() == "http"),
        };
        if let Err(error) = sender.deliver(&url, body, end).await {
            tracing::error!(error = %Chain(&error), "the response could not be delivered");
            return Err(error.into());
        }
    }
    tracing::info!(status = ?response.status, "request completed");
    Ok(response)
}

/// Does what the event asks for, and returns the id of the subscription if there is one afterwards.
async fn perform(
    function: &ManageSubscription,
    event: &Event,
    deadline: Deadline,
) -> Result<Option<Uuid>, WorkError> {
    let own = event.physical_resource_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
    let work = || -> Result<Work<'_>, WorkError> {
        let circle = function.circle.as_ref().map_err(SettingError::clone)?;
        let webhook = function.webhook_url.as_ref().map_err(SettingError::clone)?;
        Ok(Work { circle, webhook, clock: &*function.clock, random: &function.random, deadline })
    };
    match event.request_type.as_str() {
        "Create" | "Update" => {
            let work = work()?;
            if event.endpoint().as_ref() != Some(work.webhook) {
                return Err(WorkError::Endpoint(work.webhook.clone()));
            }
            Ok(Some(work.subscribe(own).await?))
        }
        "Delete" => {
            match own {
                Some(id) => log_deletion(id, work()?.unsubscribe(id).await?),
                // Nothing was created, or the response to the creation was lost.
                None => {
                    if let Err(error) = log_subscriptions(work).await {
                        tracing::warn!(error = %Chain(&error), "the subscriptions of the webhook could not be listed");
                    }
                }
            }
            Ok(None)
        }
        _ => Err(WorkError::RequestType),
    }
}

/// Logs a subscription that was not deleted.
fn log_deletion(subscription_id: Uuid, deletion: Deletion) {
    let metric = Metric::SubscriptionLeftBehind.as_str();
    match deletion {
        Deletion::Deleted => tracing::info!(%subscription_id, "subscription deleted"),
        Deletion::Unknown => tracing::warn!(
            metric,
            %subscription_id,
            "this API key's Circle account does not have the subscription; it may be deleted already; if another account has it, delete it there manually"
        ),
        Deletion::Foreign => tracing::warn!(
            metric,
            %subscription_id,
            "the subscription is not for a webhook of this service and was left alone; delete it at Circle manually if nothing else uses it"
        ),
    }
}

/// Logs the subscriptions of the webhook for a resource that has no subscription id. They are left alone, because nothing
/// shows that the resource created them.
async fn log_subscriptions<'a>(work: impl FnOnce() -> Result<Work<'a>, WorkError>) -> Result<(), WorkError> {
    for subscription_id in work()?.subscribed().await? {
        tracing::warn!(
            metric = Metric::SubscriptionLeftBehind.as_str(),
            %subscription_id,
            "the deleted webhook is still subscribed; delete the subscription at Circle manually if nothing else uses it"
        );
    }
    Ok(())
}
