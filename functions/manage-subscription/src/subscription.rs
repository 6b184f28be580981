//! The subscription at Circle: found or made, and removed, with patience.

use std::cmp::Reverse;
use std::time::Duration;

use reqwest::Url;
use shared::api_key::ApiKeyError;
use shared::circle::{Circle, CircleError, Subscription};
use shared::clock::{Clock, Deadline};
use shared::random::Random;
use uuid::Uuid;

/// The first wait before all is done again; it doubles with each. Long beside the client's own repeats, which are over
/// by then: a new API may not be reachable for Circle yet, and an unanswered creation still be under way.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How often all is done at most.
const MAX_ROUNDS: u32 = 5;

/// What working on a subscription takes.
pub(crate) struct Work<'a> {
    pub(crate) circle: &'a Circle,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a Random,
    pub(crate) deadline: Deadline,
}

impl Work<'_> {
    /// Has Circle send everything about challenges to the endpoint, and gives the subscription's id. One that is there
    /// is used, `own` before others; so this can be repeated, and is after a creation without an answer.
    pub(crate) async fn subscribe(&self, endpoint: &Url, own: Option<Uuid>) -> Result<Uuid, CircleError> {
        self.persist(async || {
            let all = self.circle.subscriptions(self.deadline).await?;
            let Some(found) = choose(all, endpoint, own) else {
                let made = self.circle.create_subscription(endpoint, self.deadline).await?;
                tracing::info!(subscription_id = %made.id, "subscribed");
                return Ok(made.id);
            };
            if found.enabled != Some(true) {
                self.circle.enable_subscription(&found, self.deadline).await?;
                tracing::info!(subscription_id = %found.id, "enabled");
            }
            Ok(found.id)
        })
        .await
    }

    /// Has Circle forget the subscription.
    pub(crate) async fn unsubscribe(&self, id: Uuid) -> Result<(), CircleError> {
        self.persist(async || self.circle.delete_subscription(id, self.deadline).await).await
    }

    /// The ids of all subscriptions of the endpoint, whatever they are for.
    pub(crate) async fn subscribed(&self, endpoint: &Url) -> Result<Vec<Uuid>, CircleError> {
        let all = self.circle.subscriptions(self.deadline).await?;
        Ok(all.into_iter().filter(|one| one.is_for(endpoint)).map(|one| one.id).collect())
    }

    async fn persist<T>(&self, round: impl AsyncFn() -> Result<T, CircleError>) -> Result<T, CircleError> {
        let mut rounds = 0;
        loop {
            let error = match round().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let wait = FIRST_WAIT * 2u32.pow(rounds) + self.random.jitter(FIRST_WAIT);
            let wait = wait.max(error.retry_after().unwrap_or_default());
            rounds += 1;
            if !may_pass(&error) || rounds == MAX_ROUNDS || wait >= self.deadline.remaining(self.clock) {
                return Err(error);
            }
            tracing::info!(rounds, error = %error, "trying again");
            self.clock.sleep(wait).await;
        }
    }
}

/// A subscription for the endpoint that gets everything about challenges. A narrower one for the same endpoint cannot
/// be widened (Circle lets only its name and its being enabled be changed). It is left: somebody made it by hand, and
/// what comes twice is taken in once.
fn choose(all: Vec<Subscription>, endpoint: &Url, own: Option<Uuid>) -> Option<Subscription> {
    let of_endpoint = all.into_iter().filter(|one| one.is_for(endpoint));
    let (fitting, narrow): (Vec<_>, Vec<_>) = of_endpoint.partition(Subscription::covers_challenges);
    for one in narrow {
        tracing::warn!(subscription_id = %one.id, "a narrower subscription for the same endpoint can be removed by hand");
    }
    fitting.into_iter().max_by_key(|one| (Some(one.id) == own, one.enabled, Reverse(one.id)))
}

/// Whether another try can help: not where the API key itself is the trouble. That Secrets Manager refuses to give it may
/// pass, because the permission is as new as the stack and may not be known everywhere yet.
fn may_pass(error: &CircleError) -> bool {
    match error {
        CircleError::ApiKey(error) => {
            matches!(error, ApiKeyError::Rejected { .. } | ApiKeyError::Unavailable { .. })
        }
        CircleError::Response { status, .. } => !matches!(status, 401 | 403),
        _ => true,
    }
}
