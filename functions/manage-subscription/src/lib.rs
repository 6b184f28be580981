//! What a deployment does at Circle: two CloudFormation custom resources, and an hourly check of the second.
//!
//! The first resource checks the API keys before the stack creates anything else (`api_keys`).
//!
//! The second is the webhook's subscription. It subscribes the endpoint when the stack is created or changed, and deletes
//! the subscription with the stack. The resource's physical id is the subscription's id. A new endpoint gets a new
//! subscription, and because the id is new, CloudFormation deletes the old one.
//!
//! CloudFormation waits for a response for up to an hour, so every event gets one. A deletion always succeeds, because a
//! stack must not get stuck on a subscription.
//!
//! The function trusts as little as possible of its event. It subscribes only the webhook of its own stack, deletes only
//! subscriptions of such webhooks, and responds only to CloudFormation.

mod api_keys;
mod delivery;
mod event;
mod reason;
mod subscription;

use std::time::Duration;

use lambda_runtime::{Context, Error, LambdaEvent};
use reqwest::Url;
use serde::Serialize;
use shared::circle::{Circle, CircleError};
use shared::clock::{Deadline, Elapsed, timeout};
use shared::config::{CircleSettings, SettingError, aws_region, is_local, webhook_url};
use shared::metric::Metric;
use shared::platform::Platform;
use shared::request::invocation_deadline;
use shared::telemetry::{self, Chain};
use uuid::Uuid;

pub use self::event::{Action, Change, Event, Response};
pub use self::subscription::SubscriptionState;

use self::api_keys::UnusableKey;
use self::delivery::Sender;
use self::event::ResourceType;
use self::subscription::{Deletion, Work};

/// The longest that an invocation takes, unless Lambda ends it earlier.
const INVOCATION_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest that a check of the subscription takes.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// Time reserved for delivering the response.
const DELIVERY_TIME: Duration = Duration::from_secs(8);

/// The id of the resource that checks the API keys. It never changes, so CloudFormation never replaces the resource.
const API_KEY_CHECK_ID: &str = "circle-api-keys";

/// What the function keeps between invocations.
#[derive(Debug)]
pub struct ManageSubscription {
    settings: Result<CircleSettings, SettingError>,
    circle: Result<Circle, SettingError>,
    webhook_url: Result<Url, SettingError>,
    region: Option<String>,
    is_local: bool,
    platform: Platform,
}

impl ManageSubscription {
    /// Reads the settings. A missing or invalid setting becomes a response, because the deployment would wait for a function
    /// that does not start.
    pub fn new(platform: &Platform) -> Self {
        let settings = CircleSettings::read(&platform.environment);
        Self {
            circle: settings.clone().map(|settings| Circle::new(platform, settings)),
            settings,
            webhook_url: webhook_url(&platform.environment),
            region: aws_region(&platform.environment).ok(),
            is_local: is_local(&platform.environment),
            platform: platform.clone(),
        }
    }
}

/// The result of an invocation.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// The response to CloudFormation.
    Response(Response),
    /// `{"subscription": ...}`.
    #[serde(rename_all = "camelCase")]
    Checked {
        /// Whether Circle sends webhooks.
        subscription: SubscriptionState,
    },
}

/// Why the work failed.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("RequestType is not Create, Update or Delete")]
    RequestType,
    #[error("the property Endpoint is not {0}")]
    Endpoint(Url),
    #[error(transparent)]
    ApiKey(#[from] UnusableKey),
    #[error("a setting is missing or invalid")]
    Setting(#[from] SettingError),
    #[error("the work at Circle failed")]
    Circle(#[from] CircleError),
    #[error("the work took too long")]
    OutOfTime(#[from] Elapsed),
}

/// Handles an event. For a change of a resource, it delivers the response to the URL in the event.
///
/// # Errors
/// If the response cannot be delivered. Lambda then retries the event, and the retry finds the work done.
pub async fn handle(function: &ManageSubscription, event: LambdaEvent<Event>) -> Result<Output, Error> {
    let (event, context) = event.into_parts();
    let span = telemetry::invocation(&context);
    match event {
        Event::Change(change) => {
            let responded = telemetry::run(span, respond(function, *change, &context)).await;
            responded.map(Output::Response)
        }
        Event::Action(Action::CheckSubscription {}) => {
            let clock = &*function.platform.clock;
            let deadline = invocation_deadline(Some(&context), CHECK_TIMEOUT, clock);
            // Boxed for the same reason as below.
            let subscription = Box::pin(check_subscription(function, deadline));
            let subscription = telemetry::run(span, subscription).await;
            Ok(Output::Checked { subscription })
        }
    }
}

/// Finds out whether Circle sends webhooks, and logs it. It repairs nothing, because an operator may have disabled the
/// subscription on purpose.
async fn check_subscription(function: &ManageSubscription, deadline: Deadline) -> SubscriptionState {
    let state = match function.work(deadline) {
        Ok(work) => work.state().await.map_err(WorkError::from),
        Err(error) => Err(error),
    };
    match state {
        Ok(state @ SubscriptionState::Enabled) => {
            tracing::info!("the webhook is subscribed");
            state
        }
        Ok(state) => {
            tracing::error!(
                metric = Metric::SubscriptionNotEnabled.as_str(),
                ?state,
                "Circle sends no webhooks; raise the parameter SubscriptionRevision to repair the subscription"
            );
            state
        }
        Err(error) => {
            tracing::error!(
                metric = Metric::SubscriptionNotChecked.as_str(),
                error = %Chain(&error),
                "the subscription could not be checked"
            );
            SubscriptionState::Unknown
        }
    }
}

async fn respond(
    function: &ManageSubscription,
    mut event: Change,
    context: &Context,
) -> Result<Response, Error> {
    let clock = &*function.platform.clock;
    let end = invocation_deadline(Some(context), INVOCATION_TIMEOUT, clock);
    let deadline = end.earlier(DELIVERY_TIME);
    let response_url = event.response_url.take();
    // Boxed, because the whole future is nested too deeply for the compiler.
    let work = Box::pin(perform(function, &event, deadline));
    let work = timeout(clock, deadline.remaining(clock), work).await;
    let response = match work.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(new_id) => event.success(new_id),
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
            tracing::error!(error = %Chain(&error), resource = ?event.resource_type, "the change of the resource failed");
            event.failure(reason::of(&error, context))
        }
    };
    if let Some(url) = response_url {
        let body = serde_json::to_string(&response).expect("our own types can be serialized");
        let sender = Sender {
            http: &function.platform.http,
            clock,
            random: &function.platform.random,
            region: function.region.as_deref(),
            is_local: function.is_local,
        };
        if let Err(error) = sender.deliver(&url, body, end).await {
            tracing::error!(error = %Chain(&error), "the response could not be delivered");
            return Err(error.into());
        }
    }
    tracing::info!(status = ?response.status, "request completed");
    Ok(response)
}

impl ManageSubscription {
    fn work(&self, deadline: Deadline) -> Result<Work<'_>, WorkError> {
        let circle = self.circle.as_ref().map_err(SettingError::clone)?;
        let webhook = self.webhook_url.as_ref().map_err(SettingError::clone)?;
        Ok(Work { circle, webhook, clock: &*self.platform.clock, random: &self.platform.random, deadline })
    }
}

/// Does what the event asks for, and returns the id of the resource if there is one afterwards.
async fn perform(
    function: &ManageSubscription,
    event: &Change,
    deadline: Deadline,
) -> Result<Option<String>, WorkError> {
    let own = event.physical_resource_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
    match (event.request_type.as_str(), event.resource_type) {
        ("Create" | "Update", ResourceType::ApiKeyCheck) => {
            api_keys::check(function, event, deadline).await?;
            Ok(Some(API_KEY_CHECK_ID.to_owned()))
        }
        ("Delete", ResourceType::ApiKeyCheck) => Ok(None),
        ("Create" | "Update", ResourceType::Subscription) => {
            let work = function.work(deadline)?;
            if event.endpoint().as_ref() != Some(work.webhook) {
                return Err(WorkError::Endpoint(work.webhook.clone()));
            }
            Ok(Some(work.subscribe(own).await?.to_string()))
        }
        ("Delete", ResourceType::Subscription) => {
            match own {
                Some(id) => log_deletion(id, function.work(deadline)?.unsubscribe(id).await?),
                // Nothing was created, or the response to the creation was lost.
                None => {
                    if let Err(error) = log_subscriptions(function, deadline).await {
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
async fn log_subscriptions(function: &ManageSubscription, deadline: Deadline) -> Result<(), WorkError> {
    for subscription_id in function.work(deadline)?.subscribed().await? {
        tracing::warn!(
            metric = Metric::SubscriptionLeftBehind.as_str(),
            %subscription_id,
            "the deleted webhook is still subscribed; delete the subscription at Circle manually if nothing else uses it"
        );
    }
    Ok(())
}
