//! The subscription at Circle: found or created, and deleted, with retries.

use std::cmp::Reverse;
use std::time::Duration;

use reqwest::Url;
use shared::api_key::ApiKeyError;
use shared::circle::{Circle, CircleError, Subscription};
use shared::clock::{Clock, Deadline};
use shared::random::Random;
use shared::retry::Retries;
use uuid::Uuid;

/// The backoff before the first retry. It is longer than the client's own retries take: Circle may not reach a new API
/// yet, and a creation whose response was lost may still be in progress.
const BACKOFF: Duration = Duration::from_secs(2);

/// The longest backoff. It can take a minute until a new API responds to Circle's `HEAD` everywhere.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What the work on a subscription needs.
pub(crate) struct Work<'a> {
    pub(crate) circle: &'a Circle,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a Random,
    pub(crate) deadline: Deadline,
}

impl Work<'_> {
    /// Subscribes the endpoint to the notifications of all challenges, and returns the subscription's id. An existing
    /// subscription is used, `own` before others, so the work can be retried even if the response to a creation was lost.
    pub(crate) async fn subscribe(&self, endpoint: &Url, own: Option<Uuid>) -> Result<Uuid, CircleError> {
        self.retry(async || {
            let all = self.circle.subscriptions(self.deadline).await?;
            let Some(found) = choose(all, endpoint, own) else {
                let created = self.circle.create_subscription(endpoint, self.deadline).await?;
                tracing::info!(subscription_id = %created.id, "subscription created");
                return Ok(created.id);
            };
            if found.enabled != Some(true) {
                self.circle.enable_subscription(&found, self.deadline).await?;
                tracing::info!(subscription_id = %found.id, "subscription enabled");
            }
            Ok(found.id)
        })
        .await
    }

    /// Deletes the subscription.
    pub(crate) async fn unsubscribe(&self, id: Uuid) -> Result<(), CircleError> {
        self.retry(async || self.circle.delete_subscription(id, self.deadline).await).await
    }

    /// The ids of all subscriptions of the endpoint, for any notifications.
    pub(crate) async fn subscribed(&self, endpoint: &Url) -> Result<Vec<Uuid>, CircleError> {
        let all = self.circle.subscriptions(self.deadline).await?;
        Ok(all.into_iter().filter(|one| one.is_for(endpoint)).map(|one| one.id).collect())
    }

    async fn retry<T>(&self, attempt: impl AsyncFn() -> Result<T, CircleError>) -> Result<T, CircleError> {
        let mut retries =
            Retries::until_deadline(self.clock, self.random, self.deadline, BACKOFF, MAX_BACKOFF);
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !is_worth_retrying(&error) {
                return Err(error);
            }
            let Some(wait) = retries.next_wait(error.retry_after()) else { return Err(error) };
            tracing::info!(%error, "retrying the work on the subscription");
            self.clock.sleep(wait).await;
        }
    }
}

/// A subscription of the endpoint that covers all challenges. A narrower one for the same endpoint cannot be widened,
/// because Circle allows changes to its name and to whether it is enabled only. It is left alone: someone created it by
/// hand, and duplicate deliveries are harmless.
fn choose(all: Vec<Subscription>, endpoint: &Url, own: Option<Uuid>) -> Option<Subscription> {
    let of_endpoint = all.into_iter().filter(|one| one.is_for(endpoint));
    let (fitting, narrow): (Vec<_>, Vec<_>) = of_endpoint.partition(Subscription::covers_challenges);
    for one in narrow {
        tracing::warn!(subscription_id = %one.id, "a narrower subscription of the same endpoint exists; you can delete it manually");
    }
    fitting.into_iter().max_by_key(|one| (Some(one.id) == own, one.enabled, Reverse(one.id)))
}

/// Whether a retry can help. It cannot if the API key itself is the problem. If Secrets Manager rejects the call, it can:
/// the permission is as new as the stack and may not have reached every server yet.
fn is_worth_retrying(error: &CircleError) -> bool {
    match error {
        CircleError::ApiKey(error) => {
            matches!(error, ApiKeyError::Rejected { .. } | ApiKeyError::Unavailable { .. })
        }
        CircleError::Response { status, .. } => !matches!(status, 401 | 403),
        _ => true,
    }
}
