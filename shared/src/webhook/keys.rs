//! The public keys that verify Circle's webhook signatures, fetched on demand.
//!
//! The key behind an id never changes, so a known key is kept for the life of the process. Ids that Circle does not know
//! are remembered separately and briefly: a flood of forged ids can neither evict a known key nor become a flood of calls
//! to Circle. No table holds the keys: the root of trust is Circle's response over TLS.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::ParsedPublicKey;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use uuid::Uuid;

use crate::circle::{Circle, CircleError};
use crate::clock::{Clock, Deadline, Moment};

/// How many known keys are kept; Circle has a handful. The oldest is evicted first.
const KNOWN_LIMIT: usize = 32;

/// How many unknown ids are remembered. The rate of fetches keeps their number well below this.
const UNKNOWN_LIMIT: usize = 512;

/// How long an id that Circle does not know is remembered.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);

/// The longest that fetching a key from Circle may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// How many fetches may start at once, and how long it takes until another may. A sister product of Circle's signs each
/// webhook with another key; five of them a second must get through.
const FETCH_BURST: u32 = 20;
const FETCH_INTERVAL: Duration = Duration::from_millis(200);

/// Circle's public keys, fetched when a webhook first names them.
#[derive(Clone)]
pub struct PublicKeys {
    circle: Arc<Circle>,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Oldest first.
    known: VecDeque<(Uuid, ParsedPublicKey)>,
    /// Ids that Circle does not know, each with the moment when it said so.
    unknown: VecDeque<(Uuid, Moment)>,
    /// One fetch for all requests that miss the same key at the same time. It ends when the last of them does.
    fetches: HashMap<Uuid, WeakShared<Fetch>>,
    fetch_budget: FetchBudget,
}

/// A token bucket: fetches that may start now, and since when more have been earned.
struct FetchBudget {
    left: u32,
    since: Moment,
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
    /// Circle returned a key that is not ECDSA_SHA_256 on P-256.
    #[error("the key is not ECDSA_SHA_256 on P-256")]
    Unsupported,
}

impl PublicKeys {
    /// Keys of this Circle. Nothing is fetched yet.
    pub fn new(circle: Arc<Circle>, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            known: VecDeque::new(),
            unknown: VecDeque::new(),
            fetches: HashMap::new(),
            fetch_budget: FetchBudget { left: FETCH_BURST, since: Moment::now(&*clock) },
        };
        Self { circle, clock, state: Arc::new(Mutex::new(state)) }
    }

    /// The key with that id; `None` if Circle responds that there is none.
    ///
    /// # Errors
    /// If the key is unavailable.
    pub async fn get(&self, id: Uuid) -> Result<Option<ParsedPublicKey>, KeyError> {
        let fetch = {
            let mut state = self.state();
            let clock = &*self.clock;
            if let Some((_, key)) = state.known.iter().find(|(known, _)| *known == id) {
                return Ok(Some(key.clone()));
            }
            state.unknown.retain(|(_, since)| since.age(clock) < UNKNOWN_LIFETIME);
            if state.unknown.iter().any(|(unknown, _)| *unknown == id) {
                return Ok(None);
            }
            match state.fetches.get(&id).and_then(WeakShared::upgrade) {
                Some(fetch) => fetch,
                None => {
                    state.fetch_budget.take(clock)?;
                    let fetch: Shared<Fetch> = self.clone().fetch(id).boxed().shared();
                    state.fetches.retain(|_, fetch| fetch.upgrade().is_some());
                    state.fetches.extend(fetch.downgrade().map(|weak| (id, weak)));
                    fetch
                }
            }
        };
        fetch.await
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
                state.keep_known(id, key.clone());
                Ok(Some(key))
            }
            Ok(None) => {
                state.keep_unknown(id, Moment::now(&*self.clock));
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

impl State {
    fn keep_known(&mut self, id: Uuid, key: ParsedPublicKey) {
        if self.known.len() == KNOWN_LIMIT {
            self.known.pop_front();
        }
        self.known.push_back((id, key));
    }

    fn keep_unknown(&mut self, id: Uuid, since: Moment) {
        if self.unknown.len() == UNKNOWN_LIMIT {
            self.unknown.pop_front();
        }
        self.unknown.push_back((id, since));
    }
}
