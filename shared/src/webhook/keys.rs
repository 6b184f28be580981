//! The public keys that verify Circle's webhook signatures, fetched on demand.
//!
//! The key behind an id never changes, so a known key is kept for a day. Then it is fetched again, so that a key that Circle
//! has withdrawn is no longer trusted. Ids that Circle does not know are remembered separately and briefly: a flood of forged
//! ids can neither evict a known key nor become a flood of calls to Circle. Nor can it keep an instance from a key that has
//! verified a webhook before ([`ConfirmedIds`]). No table holds the keys: the root of trust is Circle's response over TLS.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::ParsedPublicKey;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared, join_all};
use uuid::Uuid;

use super::confirmed::ConfirmedIds;
use crate::circle::{Circle, CircleError};
use crate::clock::{Clock, Deadline, Moment, timeout};
use crate::platform::Platform;

/// How many known keys are kept, of some 600 bytes each. Circle does not document how many keys it signs with. The oldest is
/// evicted first.
const KNOWN_LIMIT: usize = 1024;

/// How long a known key is trusted.
const KNOWN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How many unknown ids are remembered. The rate of fetches keeps their number well below this.
const UNKNOWN_LIMIT: usize = 512;

/// How long an id that Circle does not know is remembered.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);

/// The longest that fetching a key from Circle may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an instance may take for its start, of the 10 seconds that Lambda gives
/// (`https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html`).
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The most keys that an instance fetches when it starts.
const PREFETCH_LIMIT: usize = 4;

/// How many fetches may start at once, and how long it takes until another may, for confirmed ids and for all others alike.
/// A sister product of Circle's signs each webhook with another key; five of them a second must get through.
const FETCH_BURST: u32 = 20;
const FETCH_INTERVAL: Duration = Duration::from_millis(200);

/// Circle's public keys, fetched when a webhook first names them.
#[derive(Clone)]
pub struct PublicKeys {
    circle: Arc<Circle>,
    clock: Arc<dyn Clock>,
    confirmed: Arc<ConfirmedIds>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Oldest first.
    known: VecDeque<KnownKey>,
    /// Ids that Circle does not know, each with the moment when it said so.
    unknown: VecDeque<(Uuid, Moment)>,
    /// One fetch for all requests that miss the same key at the same time. It ends when the last of them does.
    fetches: HashMap<Uuid, WeakShared<Fetch>>,
    /// For any id.
    budget: FetchBudget,
    /// For ids that are confirmed, once `budget` is used up.
    confirmed_budget: FetchBudget,
}

struct KnownKey {
    id: Uuid,
    key: ParsedPublicKey,
    since: Moment,
    /// Whether a webhook has been verified with it here.
    is_confirmed: bool,
}

/// A token bucket: fetches that may start now, and since when more have been earned.
struct FetchBudget {
    left: u32,
    since: Moment,
}

enum Found {
    Remembered(Option<ParsedPublicKey>),
    Fetching(Shared<Fetch>),
}

type Fetch = BoxFuture<'static, Result<Option<ParsedPublicKey>, KeyError>>;

/// Why a key is unavailable, so that it is not known yet whether the id is Circle's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The call to Circle failed.
    #[error("Circle did not return the key")]
    Circle(#[source] Arc<CircleError>),
    /// Too many keys have been fetched from Circle within a short time.
    #[error("too many unknown keys at once")]
    RateLimited,
    /// Circle returned a key that is not ECDSA_SHA_256 on P-256, or that has another encoding than Circle's keys.
    #[error("the key is not ECDSA_SHA_256 on P-256, or has another encoding than Circle's keys")]
    Unsupported,
}

impl PublicKeys {
    /// Keys of this Circle. Nothing is fetched yet. `table` is the table of rate limits.
    pub fn new(platform: &Platform, circle: Circle, table: String) -> Self {
        let clock = Arc::clone(&platform.clock);
        let budget = || FetchBudget { left: FETCH_BURST, since: Moment::now(&*clock) };
        let state = State {
            known: VecDeque::new(),
            unknown: VecDeque::new(),
            fetches: HashMap::new(),
            budget: budget(),
            confirmed_budget: budget(),
        };
        Self {
            circle: Arc::new(circle),
            confirmed: Arc::new(ConfirmedIds::new(platform, table)),
            state: Arc::new(Mutex::new(state)),
            clock,
        }
    }

    /// Opens the connections before the first webhook, and fetches the keys that have verified a webhook elsewhere. They are
    /// not fetched if there are many, because then the next webhook probably names none of them.
    pub async fn warm_up(&self) {
        let warm_up = async {
            let ((), confirmed) = tokio::join!(self.circle.warm_up(), self.confirmed.load());
            if confirmed.ids.len() <= PREFETCH_LIMIT {
                join_all(confirmed.ids.iter().map(|id| self.prefetch(*id, confirmed.is_ageing))).await;
            }
        };
        if timeout(&*self.clock, WARM_UP_TIMEOUT, warm_up).await.is_err() {
            tracing::warn!("start-up took too long; the first webhook does the rest");
        }
    }

    async fn prefetch(&self, id: Uuid, is_ageing: bool) {
        // A failure does not matter: the first webhook that names the key fetches it again.
        if !matches!(self.get(id).await, Ok(Some(_))) {
            return;
        }
        if is_ageing {
            self.confirm(id).await;
        } else {
            self.state().known.iter_mut().filter(|key| key.id == id).for_each(|key| key.is_confirmed = true);
        }
    }

    /// The key with that id; `None` if Circle responds that there is none.
    ///
    /// # Errors
    /// If the key is unavailable.
    pub async fn get(&self, id: Uuid) -> Result<Option<ParsedPublicKey>, KeyError> {
        let mut found = self.find(id, |state| &mut state.budget);
        if found.is_err() && self.confirmed.contains(id).await {
            found = self.find(id, |state| &mut state.confirmed_budget);
        }
        match found? {
            Found::Remembered(key) => Ok(key),
            Found::Fetching(fetch) => fetch.await,
        }
    }

    /// Confirms a key that has just verified a webhook, so that other instances can rely on its id. The first time after a
    /// fetch of the key this takes one call, otherwise none.
    pub async fn confirm(&self, id: Uuid) {
        let is_new = |key: &mut KnownKey| key.id == id && !mem::replace(&mut key.is_confirmed, true);
        let is_new = self.state().known.iter_mut().any(is_new);
        if is_new {
            self.confirmed.add(id).await;
        }
    }

    /// What is remembered about the id, or a fetch that `budget` pays for unless it has begun already.
    fn find(&self, id: Uuid, budget: impl FnOnce(&mut State) -> &mut FetchBudget) -> Result<Found, KeyError> {
        let mut state = self.state();
        let clock = &*self.clock;
        state.known.retain(|key| key.id != id || key.since.age(clock) < KNOWN_LIFETIME);
        if let Some(known) = state.known.iter().find(|known| known.id == id) {
            return Ok(Found::Remembered(Some(known.key.clone())));
        }
        state.unknown.retain(|(_, since)| since.age(clock) < UNKNOWN_LIFETIME);
        if state.unknown.iter().any(|(unknown, _)| *unknown == id) {
            return Ok(Found::Remembered(None));
        }
        if let Some(fetch) = state.fetches.get(&id).and_then(WeakShared::upgrade) {
            return Ok(Found::Fetching(fetch));
        }
        budget(&mut state).take(clock)?;
        let fetch: Shared<Fetch> = self.clone().fetch(id).boxed().shared();
        state.fetches.retain(|_, fetch| fetch.upgrade().is_some());
        state.fetches.extend(fetch.downgrade().map(|weak| (id, weak)));
        Ok(Found::Fetching(fetch))
    }

    async fn fetch(self, id: Uuid) -> Result<Option<ParsedPublicKey>, KeyError> {
        // The first read of the API key has its own timeout. If it counted against that of the fetch, it could be cut
        // off, and the next webhook would start it again.
        let fetched = match self.circle.read_api_key().await {
            Ok(()) => {
                let deadline = Deadline::after(&*self.clock, FETCH_TIMEOUT);
                self.circle.public_key(id, deadline).await
            }
            Err(error) => Err(error),
        };
        let mut state = self.state();
        state.fetches.remove(&id);
        match fetched {
            Ok(Some(key)) => {
                let key = super::parse_key(&key).ok_or(KeyError::Unsupported)?;
                let since = Moment::now(&*self.clock);
                let known = KnownKey { id, key: key.clone(), since, is_confirmed: false };
                keep(&mut state.known, KNOWN_LIMIT, known);
                Ok(Some(key))
            }
            Ok(None) => {
                keep(&mut state.unknown, UNKNOWN_LIMIT, (id, Moment::now(&*self.clock)));
                Ok(None)
            }
            Err(error) => Err(KeyError::Circle(Arc::new(error))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FetchBudget {
    fn take(&mut self, clock: &dyn Clock) -> Result<(), KeyError> {
        let earned = self.since.age(clock).as_millis() / FETCH_INTERVAL.as_millis();
        if earned > 0 {
            let left = u128::from(self.left).saturating_add(earned).min(FETCH_BURST.into());
            *self = Self { left: left as u32, since: Moment::now(clock) };
        }
        self.left = self.left.checked_sub(1).ok_or(KeyError::RateLimited)?;
        Ok(())
    }
}

/// Adds an item. If there are `limit` items already, the oldest one goes.
fn keep<T>(items: &mut VecDeque<T>, limit: usize, item: T) {
    if items.len() == limit {
        items.pop_front();
    }
    items.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_items_is_bounded() {
        let mut items = VecDeque::new();
        for item in 1..=UNKNOWN_LIMIT + 2 {
            keep(&mut items, UNKNOWN_LIMIT, item);
        }
        assert_eq!(items.len(), UNKNOWN_LIMIT);
        assert_eq!((items[0], items[UNKNOWN_LIMIT - 1]), (3, UNKNOWN_LIMIT + 2), "the oldest go first");
    }
}
