//! The subscription at Circle: found or created, and deleted, with retries.

use std::cell::Cell;
use std::cmp::Reverse;
use std::time::Duration;

use reqwest::Url;
use serde::Serialize;
use shared::api_key::ApiKeyError;
use shared::circle::{Circle, CircleError, Subscription};
use shared::clock::{Clock, Deadline};
use shared::metric::Metric;
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
    /// The URL of this stack's webhook.
    pub(crate) webhook: &'a Url,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a Random,
    pub(crate) deadline: Deadline,
}

/// How the deletion of a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// It is deleted.
    Deleted,
    /// The API key's account does not have it.
    Unknown,
    /// It was left alone, because its endpoint is not a webhook of this service.
    Foreign,
}

/// Whether Circle sends webhooks to the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SubscriptionState {
    /// Circle sends webhooks.
    Enabled,
    /// The subscription is disabled.
    Disabled,
    /// The API key's account has no subscription of the endpoint that covers all challenges.
    Missing,
    /// The check failed.
    Unknown,
}

impl Work<'_> {
    /// Whether the webhook is subscribed to the notifications of all challenges.
    pub(crate) async fn state(&self) -> Result<SubscriptionState, CircleError> {
        let all = self.circle.subscriptions(self.deadline).await?;
        Ok(match choose(all, self.webhook, None) {
            Some(Subscription { enabled: Some(true), .. }) => SubscriptionState::Enabled,
            Some(_) => SubscriptionState::Disabled,
            None => SubscriptionState::Missing,
        })
    }

    /// Subscribes the webhook to the notifications of all challenges, and returns the subscription's id. An existing
    /// subscription is used, `own` before others, so the work can be retried even if the response to a creation was lost.
    pub(crate) async fn subscribe(&self, own: Option<Uuid>) -> Result<Uuid, CircleError> {
        // Whether a creation may have taken effect although it has failed.
        let is_in_doubt = Cell::new(false);
        let subscribed = self
            .retry(async || {
                let all = self.circle.subscriptions(self.deadline).await?;
                let Some(found) = choose(all, self.webhook, own) else {
                    let created = self.circle.create_subscription(self.webhook, self.deadline).await;
                    let is_certain = matches!(
                        created,
                        Ok(_) | Err(CircleError::ApiKey(_) | CircleError::Response { status: ..500, .. })
                    );
                    is_in_doubt.set(is_in_doubt.get() || !is_certain);
                    let id = created?.id;
                    tracing::info!(subscription_id = %id, "subscription created");
                    return Ok(id);
                };
                if found.enabled != Some(true) {
                    self.circle.enable_subscription(&found, self.deadline).await?;
                    tracing::info!(subscription_id = %found.id, "subscription enabled");
                }
                Ok(found.id)
            })
            .await;
        if subscribed.is_err() && is_in_doubt.get() {
            tracing::warn!(
                metric = Metric::SubscriptionLeftBehind.as_str(),
                endpoint = %self.webhook,
                "a subscription may have been created all the same; delete it at Circle manually unless a later deployment uses it"
            );
        }
        subscribed
    }

    /// Deletes a subscription of this stack's webhook, or of the webhook of an API that it replaced.
    pub(crate) async fn unsubscribe(&self, id: Uuid) -> Result<Deletion, CircleError> {
        // If the response to a deletion is lost, the next attempt does not find the subscription.
        let is_known = Cell::new(false);
        self.retry(async || {
            let Some(found) = self.circle.subscription(id, self.deadline).await? else {
                return Ok(if is_known.get() { Deletion::Deleted } else { Deletion::Unknown });
            };
            let endpoint = found.endpoint.as_deref().and_then(|endpoint| Url::parse(endpoint).ok());
            if !endpoint.is_some_and(|endpoint| is_own(&endpoint, self.webhook)) {
                return Ok(Deletion::Foreign);
            }
            is_known.set(true);
            self.circle.delete_subscription(id, self.deadline).await?;
            Ok(Deletion::Deleted)
        })
        .await
    }

    /// The ids of all subscriptions of the webhook, for any notifications.
    pub(crate) async fn subscribed(&self) -> Result<Vec<Uuid>, CircleError> {
        let all = self.circle.subscriptions(self.deadline).await?;
        Ok(all.into_iter().filter(|one| one.is_for(self.webhook)).map(|one| one.id).collect())
    }

    async fn retry<T>(&self, attempt: impl AsyncFn() -> Result<T, CircleError>) -> Result<T, CircleError> {
        retry(self.clock, self.random, self.deadline, attempt).await
    }
}

/// Retries an attempt until it succeeds, a retry cannot help, or the deadline has come. If the deadline cuts an attempt
/// short, the error is that of the attempt before it, because it says more.
pub(crate) async fn retry<T>(
    clock: &dyn Clock,
    random: &Random,
    deadline: Deadline,
    attempt: impl AsyncFn() -> Result<T, CircleError>,
) -> Result<T, CircleError> {
    let mut retries = Retries::until_deadline(clock, random, deadline, BACKOFF, MAX_BACKOFF);
    let mut earlier = None;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if matches!(error, CircleError::TimedOut { .. }) && deadline.remaining(clock).is_zero() {
            return Err(earlier.unwrap_or(error));
        }
        if !is_worth_retrying(&error) {
            return Err(error);
        }
        let Some(wait) = retries.next_wait(error.retry_after()) else { return Err(error) };
        tracing::info!(%error, "retrying the work at Circle");
        earlier = Some(error);
        clock.sleep(wait).await;
    }
}

/// Whether an endpoint is the webhook's URL, or that of another API Gateway API in the same region. The latter has to be
/// deletable: if an update replaces the API, CloudFormation deletes the old subscription after the function has the new
/// URL. The event has the old URL, but it could name any.
fn is_own(endpoint: &Url, webhook: &Url) -> bool {
    let domain = |url: &Url| {
        let (_, domain) = url.host_str()?.split_once('.')?;
        domain.starts_with("execute-api.").then(|| domain.to_owned())
    };
    let is_sibling = || {
        let mut sibling = endpoint.clone();
        domain(endpoint).is_some()
            && domain(endpoint) == domain(webhook)
            && sibling.set_host(webhook.host_str()).is_ok()
            && sibling == *webhook
    };
    endpoint == webhook || is_sibling()
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use shared::clock::AdjustableClock;

    use super::*;

    #[tokio::test]
    async fn attempt_that_the_deadline_cuts_short_does_not_hide_the_error_before_it() {
        let clock = AdjustableClock::running();
        let deadline = Deadline::after(&clock, 10 * BACKOFF);
        let (call, attempts) = ("GET /v1/w3s/users/{userId}", Cell::new(0));
        let attempt = async || -> Result<(), CircleError> {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 1 {
                return Err(CircleError::Unreadable {
                    call,
                    status: 200,
                    problem: "is odd".to_owned(),
                    request_id: "first".to_owned(),
                });
            }
            clock.advance(10 * BACKOFF);
            Err(CircleError::TimedOut { call, request_id: "second".to_owned() })
        };
        let random = Random::from_seed(1);
        let (result, ()) =
            tokio::join!(retry(&clock, &random, deadline, attempt), async { clock.advance(BACKOFF) });
        assert_eq!(attempts.get(), 2);
        assert!(matches!(result, Err(CircleError::Unreadable { .. })), "{result:?}");
    }

    #[test]
    fn retry_does_not_help_if_the_api_key_is_the_problem() {
        let (call, request_id) = ("GET /v1/w3s/users/{userId}", || "a".to_owned());
        let response = |status| CircleError::Response {
            call,
            status,
            code: None,
            had_user_token: false,
            message: None,
            request_id: request_id(),
            retry_after: None,
        };
        for status in [401, 403] {
            assert!(!is_worth_retrying(&response(status)), "{status}");
        }
        for status in [400, 404, 429, 500] {
            assert!(is_worth_retrying(&response(status)), "{status}");
        }
        let malformed = ApiKeyError::Malformed { secret_id: "circle".to_owned() };
        assert!(!is_worth_retrying(&CircleError::ApiKey(malformed)));
        assert!(is_worth_retrying(&CircleError::TimedOut { call, request_id: request_id() }));
    }

    #[test]
    fn only_a_webhook_of_this_service_in_the_same_region_is_own() {
        let webhook = "https://a1b2.execute-api.eu-central-1.amazonaws.com/webhooks/circle";
        let is_own = |endpoint: &str, webhook: &str| {
            is_own(&Url::parse(endpoint).unwrap(), &Url::parse(webhook).unwrap())
        };
        for own in [webhook, "https://c3d4.execute-api.eu-central-1.amazonaws.com/webhooks/circle"] {
            assert!(is_own(own, webhook), "{own}");
        }
        for foreign in [
            "https://c3d4.execute-api.us-east-1.amazonaws.com/webhooks/circle",
            "https://c3d4.execute-api.eu-central-1.amazonaws.com/webhooks/other",
            "https://c3d4.execute-api.eu-central-1.amazonaws.com/webhooks/circle?a",
            "http://c3d4.execute-api.eu-central-1.amazonaws.com/webhooks/circle",
            "https://c3d4.execute-api.eu-central-1.amazonaws.com:8443/webhooks/circle",
            "https://execute-api.eu-central-1.amazonaws.com/webhooks/circle",
            "https://c3d4.execute-api.eu-central-1.amazonaws.com.example.com/webhooks/circle",
            "https://api.example.com/webhooks/circle",
        ] {
            assert!(!is_own(foreign, webhook), "{foreign}");
        }
        let own_domain = "https://pin.example.com/webhooks/circle";
        assert!(is_own(own_domain, own_domain));
        assert!(!is_own("https://api.example.com/webhooks/circle", own_domain));
    }
}
