//! The public keys that Circle signs webhooks with, as far as they are needed.
//!
//! A key id's key never changes, so a known key is kept for the life of the process. Ids that Circle does
//! not know are remembered apart and briefly: a flood of invented ids can neither push out a known key nor
//! become a flood of calls to Circle. The keys live in no table: the trust root is Circle's answer over TLS.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::ParsedPublicKey;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::circle::{Circle, CircleError};
use crate::clock::{Clock, Deadline};

/// How many known keys are kept; Circle has a handful. Exceeded it the oldest goes.
const KNOWN_LIMIT: usize = 32;

/// How many unknown ids are remembered; the rate of fetches keeps it well below that. Exceeded it the oldest goes.
const UNKNOWN_LIMIT: usize = 256;

/// How long an id that Circle does not know is remembered.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);

/// The longest that a question to Circle for a key may take.
const FETCH_LIMIT: Duration = Duration::from_secs(2);

/// Fetches that may be made at once, and how long it takes until there is room for another.
const FETCH_BURST: u32 = 10;
const FETCH_INTERVAL: Duration = Duration::from_secs(1);

/// Circle's public keys, fetched when first met.
#[derive(Clone)]
pub struct PublicKeys {
    circle: Arc<Circle>,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

struct State {
    known: HashMap<Uuid, ParsedPublicKey>,
    known_order: VecDeque<Uuid>,
    unknown: VecDeque<(Uuid, OffsetDateTime)>,
    /// One fetch for all who miss the same key at once. It is theirs alone: when all of them have gone, so has it.
    fetches: HashMap<Uuid, WeakShared<Fetch>>,
    /// When the next fetch would be due if fetches came evenly (a leaky bucket in one instant).
    fetches_due: OffsetDateTime,
}

type Fetch = BoxFuture<'static, Result<Option<ParsedPublicKey>, KeyError>>;

/// Why a key could not be had: it is not known yet whether it is Circle's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// Circle gave no answer.
    #[error("Circle did not give the key")]
    Circle(#[source] Arc<CircleError>),
    /// Circle was asked for too many keys just now.
    #[error("too many unknown keys at once")]
    RateLimited,
    /// Circle gave a key that is not ECDSA_SHA_256 on P-256.
    #[error("the key is not ECDSA_SHA_256 on P-256")]
    Unsupported,
}

impl PublicKeys {
    /// Keys as `circle` gives them. Nothing is fetched yet.
    pub fn new(circle: Arc<Circle>, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            known: HashMap::new(),
            known_order: VecDeque::new(),
            unknown: VecDeque::new(),
            fetches: HashMap::new(),
            fetches_due: clock.now(),
        };
        Self { circle, clock, state: Arc::new(Mutex::new(state)) }
    }

    /// The key of that id; `None` where Circle says that there is none.
    ///
    /// # Errors
    /// When it could not be found out.
    pub async fn get(&self, id: Uuid) -> Result<Option<ParsedPublicKey>, KeyError> {
        let fetch = {
            let mut state = self.state();
            let now = self.clock.now();
            if let Some(key) = state.known.get(&id) {
                return Ok(Some(key.clone()));
            }
            state.unknown.retain(|(_, until)| *until > now);
            if state.unknown.iter().any(|(unknown, _)| *unknown == id) {
                return Ok(None);
            }
            match state.fetches.get(&id).and_then(WeakShared::upgrade) {
                Some(fetch) => fetch,
                None => {
                    state.take_fetch(now)?;
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
        // The API key's first read has a time limit of its own: within Circle's it would be cut off, and begun anew by
        // the next webhook.
        let answer = match self.circle.read_api_key().await {
            Ok(()) => {
                let deadline = Deadline::after(&*self.clock, FETCH_LIMIT);
                self.circle.public_key(id, deadline).await
            }
            Err(error) => Err(error),
        };
        let mut state = self.state();
        state.fetches.remove(&id);
        match answer {
            Ok(Some(key)) => {
                let key = super::parse_key(&key).ok_or(KeyError::Unsupported)?;
                state.keep_known(id, key.clone());
                Ok(Some(key))
            }
            Ok(None) => {
                state.keep_unknown(id, self.clock.now() + UNKNOWN_LIFETIME);
                Ok(None)
            }
            Err(error) => Err(KeyError::Circle(Arc::new(error))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_fetch(&mut self, now: OffsetDateTime) -> Result<(), KeyError> {
        // A clock that was set back must not keep fetches away for as long.
        let due = self.fetches_due.clamp(now, now + FETCH_INTERVAL * FETCH_BURST);
        if due - now > FETCH_INTERVAL * (FETCH_BURST - 1) {
            return Err(KeyError::RateLimited);
        }
        self.fetches_due = due + FETCH_INTERVAL;
        Ok(())
    }

    fn keep_known(&mut self, id: Uuid, key: ParsedPublicKey) {
        if self.known_order.len() == KNOWN_LIMIT
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        if self.known.insert(id, key).is_none() {
            self.known_order.push_back(id);
        }
    }

    fn keep_unknown(&mut self, id: Uuid, until: OffsetDateTime) {
        if self.unknown.len() == UNKNOWN_LIMIT {
            self.unknown.pop_front();
        }
        self.unknown.push_back((id, until));
    }
}
