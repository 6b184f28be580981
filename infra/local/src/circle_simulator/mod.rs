//! Circle's side of user-controlled wallets, on one machine.
//!
//! An independent reading of Circle's documentation: it shares no wire type with the functions it is used to
//! test, so that a misreading on one side does not hide the same misreading on the other. Circle's own server
//! SDKs work against it unchanged.
//!
//! What it serves under one address:
//! - Circle's calls (`/v1/w3s/..`, `/v2/notifications/..`): `calls` finds the call, `api` answers it;
//! - signed webhooks to whoever subscribed: `notifications`, `deliveries`;
//! - a control API under `/control` that does what a user or Circle's operators would do, and that makes
//!   Circle misbehave: `control`. Everything there is also a method of [`CircleSimulator`].
//!
//! All state is in one `state::State` behind one lock, which is never held across an `await`.

mod api;
mod calls;
mod challenges;
mod connection;
mod control;
mod deliveries;
mod device;
mod faults;
mod knobs;
mod notifications;
mod refusal;
mod server;
mod signing;
mod state;
mod subscriptions;
mod text;
mod user_tokens;
mod users;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::clock::{AdjustableClock, Clock};
use shared::random::Random;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use challenges::{ChallengeType, ChallengeView};
pub use control::ControlError;
pub use deliveries::{Delivery, ReleaseOrder};
pub use device::{Expiry, PinEntry};
pub use faults::Fault;
pub use knobs::{Knobs, StatusField};
pub use users::{FactorStatus, UserChange, UserStatus};

use state::State;
use user_tokens::UserTokens;

/// What happens with a new API key.
pub type OnApiKeyChange = Arc<dyn Fn(&str) + Send + Sync>;

/// What the simulator is given by whoever starts it.
pub struct CircleOptions {
    /// Where it listens; a port of 0 lets the system choose.
    pub listener: TcpListener,
    /// Its time: of token expiry, of locks, of webhook retries. Advancing it moves all of them.
    pub clock: AdjustableClock,
    /// Its ids, API keys and encryption keys. None of them protects anything real.
    pub random: Arc<Random>,
    /// Called with the new API key each time one replaces another, after the old one has stopped working.
    pub on_api_key_change: Option<OnApiKeyChange>,
}

/// A running simulator. Clones are handles on the same one; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct CircleSimulator {
    core: Arc<Core>,
    /// Absent in the handles that the simulator's own tasks hold, so that they do not keep it alive.
    running: Option<Arc<Running>>,
}

struct Core {
    url: String,
    clock: AdjustableClock,
    random: Arc<Random>,
    on_api_key_change: Option<OnApiKeyChange>,
    state: Mutex<State>,
    user_tokens: UserTokens,
    http: reqwest::Client,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
    /// How many webhook attempts have been made or lost so far.
    delivered: watch::Sender<usize>,
    stopped: watch::Sender<bool>,
}

struct Running {
    core: Arc<Core>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl CircleSimulator {
    /// Starts serving in the background.
    ///
    /// # Panics
    /// When the listener has no address, or the system refuses a key or an HTTP client.
    pub async fn start(options: CircleOptions) -> Self {
        let address = options.listener.local_addr().expect("a bound listener has an address");
        let now = options.clock.now();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("an HTTP client can be built");
        let core = Arc::new(Core {
            url: format!("http://{address}"),
            state: Mutex::new(State::new(&options.random, now)),
            user_tokens: UserTokens::new(),
            clock: options.clock,
            random: options.random,
            on_api_key_change: options.on_api_key_change,
            http,
            runtime: Handle::current(),
            tasks: Mutex::new(JoinSet::new()),
            delivered: watch::Sender::new(0),
            stopped: watch::Sender::new(false),
        });
        let inner = Self { core: core.clone(), running: None };
        let server = tokio::spawn(server::serve(options.listener, inner));
        let running = Running { core: core.clone(), server: Mutex::new(Some(server)) };
        Self { core, running: Some(Arc::new(running)) }
    }

    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        self.core.url.clone()
    }

    /// The API key that is valid now: `TEST_API_KEY:<id>:<secret>`.
    pub fn api_key(&self) -> String {
        self.state().api_key.clone()
    }

    /// Replaces the API key. The old one is refused from now on (401, code 4).
    pub fn rotate_api_key(&self) -> String {
        let key = state::new_api_key(&self.core.random);
        self.state().api_key.clone_from(&key);
        if let Some(changed) = &self.core.on_api_key_change {
            changed(&key);
        }
        key
    }

    /// How often each call was made, by method and path template, such as `PUT /v1/w3s/user/pin`.
    ///
    /// Refused, failed and dropped calls count too.
    pub fn call_counts(&self) -> BTreeMap<String, u64> {
        self.state().calls.iter().map(|(call, count)| ((*call).to_owned(), *count)).collect()
    }

    /// How often the call with this method and path template was made.
    pub fn call_count(&self, call: &str) -> u64 {
        self.state().calls.get(call).copied().unwrap_or(0)
    }

    /// Starts counting calls from zero again.
    pub fn reset_call_counts(&self) {
        self.state().calls.clear();
    }

    /// Moves the clock forward: tokens and locks run out, and webhook retries fall due.
    pub fn advance_clock(&self, by: Duration) {
        self.core.clock.advance(by);
    }

    /// Stops serving and delivering, and returns once every background task has ended.
    pub async fn stop(self) {
        self.core.stopped.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.core.tasks));
        tasks.shutdown().await;
        let server = self.running.as_ref().and_then(|running| lock(&running.server).take());
        if let Some(server) = server {
            // It ends by itself; that it was aborted or panicked would have been logged by the runtime.
            let _ = server.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.core.state)
    }

    fn now(&self) -> OffsetDateTime {
        self.core.clock.now()
    }

    /// Runs `task` until it is done or the simulator stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.core.tasks);
        while tasks.try_join_next().is_some() {}
        if !*self.core.stopped.borrow() {
            tasks.spawn_on(task, &self.core.runtime);
        }
    }

    /// A handle for a background task, which does not keep the simulator running.
    fn for_task(&self) -> Self {
        Self { core: self.core.clone(), running: None }
    }
}

impl fmt::Debug for CircleSimulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CircleSimulator").field("url", &self.core.url).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.stopped.send_replace(true);
        lock(&self.core.tasks).abort_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
