//! The webhook's subscription at Circle, as a part of the deployment: a CloudFormation custom resource that subscribes
//! the endpoint when the stack is made or changed, and removes the subscription with it.
//!
//! The resource's physical id is the subscription's id. A new endpoint gets a new subscription, whose id makes
//! CloudFormation delete the old one. CloudFormation waits for an answer, up to an hour, so there always is one; and a
//! deletion is always done, because a stack must not get stuck on a subscription.

mod delivery;
mod event;
mod reason;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::{Context, Error, LambdaEvent};
use shared::circle::{Circle, CircleError};
use shared::clock::{Clock, Deadline, Elapsed, timeout};
use shared::config::{CircleSettings, SettingError};
use shared::platform::{Platform, http_client};
use shared::random::Random;
use shared::request::invocation_deadline;
use shared::telemetry::Chain;
use tracing::Instrument;
use uuid::Uuid;

pub use self::event::{Answer, Event};

use self::subscription::Work;

/// The longest that an invocation takes, unless Lambda's own limit is nearer.
const INVOCATION_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of an invocation's time to deliver the answer in.
const DELIVERY_PART: Duration = Duration::from_secs(8);

/// The metric that counts what may be at Circle without a stack that removes it.
const LEFT_BEHIND: &str = "subscription_left_behind";

/// What the function keeps between invocations.
#[derive(Debug)]
pub struct ManageSubscription {
    circle: Result<Circle, SettingError>,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl ManageSubscription {
    /// The function, set up as the environment says. A setting that is missing or bad is an answer, not an end: the
    /// deployment would wait for a function that does not start.
    pub fn new(platform: &Platform) -> Self {
        Self {
            circle: CircleSettings::read(&platform.environment)
                .map(|settings| Circle::new(platform, settings)),
            http: http_client(),
            clock: Arc::clone(&platform.clock),
            random: Arc::clone(&platform.random),
        }
    }
}

/// Why the subscription is not as it should be.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("RequestType is none of Create, Update and Delete")]
    RequestType,
    #[error("the property Endpoint is no https URL")]
    Endpoint,
    #[error("a setting is missing or bad")]
    Setting(#[from] SettingError),
    #[error("Circle's part failed")]
    Circle(#[from] CircleError),
    #[error("it was not done in time")]
    OutOfTime(#[from] Elapsed),
}

/// Works on an event, and delivers the answer to where the event says.
///
/// # Errors
/// When the answer could not be delivered: Lambda then runs the event again, and everything is found as it was left.
pub async fn handle(function: &ManageSubscription, event: LambdaEvent<Event>) -> Result<Answer, Error> {
    let (event, context) = event.into_parts();
    let span = tracing::info_span!("request", request_id = context.request_id);
    answer(function, event, &context).instrument(span).await
}

async fn answer(function: &ManageSubscription, mut event: Event, context: &Context) -> Result<Answer, Error> {
    let clock = &*function.clock;
    let end = invocation_deadline(Some(context), INVOCATION_LIMIT, clock);
    let deadline = end.earlier(DELIVERY_PART);
    let response_url = event.response_url.take();
    // Boxed, because the whole of it is nested too deep for the compiler.
    let work = Box::pin(perform(function, &event, deadline));
    let work = timeout(clock, deadline.remaining(clock), work).await;
    let answer = match work.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(new_id) => event.success(new_id.map(|id| id.to_string())),
        Err(failure) if event.request_type == "Delete" => {
            let subscription_id = event.physical_resource_id.as_deref().unwrap_or("none");
            tracing::error!(
                metric = LEFT_BEHIND,
                subscription_id,
                error = %Chain(&failure),
                "the subscription may still be at Circle: remove it there by hand; the stack goes on without"
            );
            event.success(None)
        }
        Err(failure) => {
            tracing::error!(error = %Chain(&failure), "the endpoint could not be subscribed");
            event.failure(reason::of(&failure, context))
        }
    };
    if let Some(url) = response_url {
        let body = serde_json::to_string(&answer).expect("our own types can be written as JSON");
        let delivered = delivery::deliver(&function.http, (clock, &function.random), &url, body, end).await;
        if let Err(error) = delivered {
            tracing::error!(error = %Chain(&error), "the answer could not be delivered");
            return Err(error.into());
        }
    }
    tracing::info!(status = ?answer.status, "answered");
    Ok(answer)
}

/// Does what the event asks; gives the id of the subscription where there is to be one.
async fn perform(
    function: &ManageSubscription,
    event: &Event,
    deadline: Deadline,
) -> Result<Option<Uuid>, Failure> {
    let own = event.physical_resource_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
    let work = || -> Result<Work<'_>, Failure> {
        let circle = function.circle.as_ref().map_err(|error| *error)?;
        Ok(Work { circle, clock: &*function.clock, random: &function.random, deadline })
    };
    match event.request_type.as_str() {
        "Create" | "Update" => {
            let endpoint = event.endpoint().ok_or(Failure::Endpoint)?;
            Ok(Some(work()?.subscribe(&endpoint, own).await?))
        }
        "Delete" => {
            match own {
                Some(id) => work()?.unsubscribe(id).await?,
                // Nothing was created, or the answer to the creation was lost.
                None => {
                    if let Err(failure) = look_for_others(work, event).await {
                        tracing::warn!(error = %Chain(&failure), "not known whether the endpoint is subscribed");
                    }
                }
            }
            Ok(None)
        }
        _ => Err(Failure::RequestType),
    }
}

/// Says which subscriptions there are for the endpoint of a resource without an id of Circle's. They are left, because
/// nothing says that they are the resource's own.
async fn look_for_others<'a>(
    work: impl FnOnce() -> Result<Work<'a>, Failure>,
    event: &Event,
) -> Result<(), Failure> {
    let Some(endpoint) = event.endpoint() else { return Ok(()) };
    for subscription_id in work()?.subscribed(&endpoint).await? {
        tracing::warn!(
            metric = LEFT_BEHIND,
            %subscription_id,
            "the endpoint of what is deleted is subscribed: remove it at Circle by hand if nothing else uses it"
        );
    }
    Ok(())
}
