//! A simulator of Circle's API for user-controlled wallets.
//!
//! It is an independent implementation of Circle's documentation. It shares no wire type with the functions
//! that it tests, so that a misreading on one side does not hide the same misreading on the other. Circle's
//! own server SDKs work with it unchanged.
//!
//! It has four parts:
//! - Circle's API (`/v1/w3s/..`, `/v2/notifications/..`): `calls` finds the call, `api` performs it.
//! - Signed webhooks to the subscribers: `notifications` builds and signs the messages, `deliveries` sends
//!   them.
//! - A control API under `/control`: `control`. It acts as a user on the device or as an operator of Circle,
//!   and it makes Circle misbehave. Each operation is also a method of [`CircleSimulator`].
//! - The page in which the user enters the PIN, for Circle's Web SDK: `pin_page`.
//!
//! All state is in one `state::State` behind one lock, which is never held across an `await`.

mod api;
mod api_error;
mod calls;
mod challenges;
mod connection;
mod control;
mod control_error;
mod dates;
mod deliveries;
mod device;
mod faults;
mod knobs;
mod notifications;
mod outbox;
mod pin_page;
mod rate_limits;
mod responses;
mod server;
mod signing;
mod state;
mod subscriptions;
mod user_tokens;
mod users;
mod webhook_json;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, Method};
use shared::clock::{AdjustableClock, Clock};
use shared::random::Random;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use uuid::{Builder, Uuid};

pub use challenges::{ChallengeType, ChallengeView};
pub use control_error::ControlError;
pub use device::{Expiry, PinEntry};
pub use faults::Fault;
pub use knobs::{Access, ConnectionEnd, Knobs, StatusField};
pub use outbox::{Delivery, ReleaseOrder};
pub use rate_limits::RateLimits;
pub use user_tokens::UserTokenKey;
pub use users::{AuthMode, FactorStatus, UserChange, UserStatus};

use state::State;

/// Called with a new API key.
pub type OnApiKeyChange = Arc<dyn Fn(&str) + Send + Sync>;

/// The options of a simulator.
pub struct CircleOptions {
    /// The listener of the HTTP server.
    pub listener: TcpListener,
    /// The clock for token expiry, locks and webhook retries.
    pub clock: AdjustableClock,
    /// The source of ids, API keys and encryption keys. None of them protects anything real.
    pub random: Arc<Random>,
    /// The key of user tokens. A process that starts many simulators can give all of them the same.
    pub user_token_key: UserTokenKey,
    /// Called with the new API key after a rotation, when the old key no longer works.
    pub on_api_key_change: Option<OnApiKeyChange>,
}

/// A running simulator. Clones are handles to the same simulator, which stops when the last handle is
/// dropped.
#[derive(Clone)]
pub struct CircleSimulator {
    core: Arc<Core>,
    /// `None` in the handles of the simulator's own tasks, so that they do not keep it running.
    running: Option<Arc<Running>>,
}

struct Core {
    url: String,
    clock: AdjustableClock,
    random: Arc<Random>,
    on_api_key_change: Option<OnApiKeyChange>,
    state: Mutex<State>,
    user_token_key: UserTokenKey,
    /// For endpoints on this machine.
    http: reqwest::Client,
    /// For other endpoints. To read the system's certificates takes as long as many requests.
    https: OnceLock<reqwest::Client>,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
    /// How many webhook attempts have been made or lost.
    delivered: watch::Sender<usize>,
    stopped: watch::Sender<bool>,
}

struct Running {
    core: Arc<Core>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl CircleSimulator {
    /// Starts the simulator in the background.
    ///
    /// # Panics
    /// If the listener has no address, or the system cannot provide a key or an HTTP client.
    pub async fn start(options: CircleOptions) -> Self {
        let address = options.listener.local_addr().expect("a bound listener has an address");
        let now = options.clock.now();
        let core = Arc::new(Core {
            url: format!("http://{address}"),
            state: Mutex::new(State::new(&options.random, now)),
            user_token_key: options.user_token_key,
            clock: options.clock,
            random: options.random,
            on_api_key_change: options.on_api_key_change,
            http: client().tls_certs_only([]).build().expect("an HTTP client can be built"),
            https: OnceLock::new(),
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

    /// The current API key: `TEST_API_KEY:<id>:<secret>`.
    pub fn api_key(&self) -> String {
        self.state().api_key.clone()
    }

    /// Replaces the API key and returns the new one. From now on Circle rejects the old key (401, code 4).
    pub fn rotate_api_key(&self) -> String {
        let key = state::new_api_key(&self.core.random);
        self.state().api_key.clone_from(&key);
        if let Some(on_api_key_change) = &self.core.on_api_key_change {
            on_api_key_change(&key);
        }
        key
    }

    /// How often each call was made, by method and path template, such as `PUT /v1/w3s/user/pin`.
    ///
    /// Calls that Circle rejected and calls with a fault count too.
    pub fn call_counts(&self) -> BTreeMap<String, u64> {
        self.state().calls.iter().map(|(call, count)| ((*call).to_owned(), *count)).collect()
    }

    /// How often the call with this method and path template was made.
    pub fn call_count(&self, call: &str) -> u64 {
        self.state().calls.get(call).copied().unwrap_or(0)
    }

    /// Sets all call counts to zero.
    pub fn reset_call_counts(&self) {
        self.state().calls.clear();
    }

    /// Moves the clock forward, so that tokens and locks expire and webhook retries become due.
    pub fn advance_clock(&self, by: Duration) {
        self.core.clock.advance(by);
    }

    /// Stops the server and all deliveries, and returns when every background task has ended.
    pub async fn stop(self) {
        self.core.stopped.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.core.tasks));
        tasks.shutdown().await;
        let server = self.running.as_ref().and_then(|running| lock(&running.server).take());
        if let Some(server) = server {
            // An error means that the server panicked, which is printed when it happens.
            let _ = server.await;
        }
    }

    /// An id of a user or a challenge. In a response that was printed in public, these are UUIDs of version 5.
    fn new_resource_id(&self) -> Uuid {
        Builder::from_sha1_bytes(self.core.random.uuid().into_bytes()).into_uuid()
    }

    /// The client that can call this URL.
    fn client_for(&self, url: &str) -> &reqwest::Client {
        if url.starts_with("http:") {
            return &self.core.http;
        }
        self.core.https.get_or_init(|| client().build().expect("an HTTP client can be built"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.core.state)
    }

    fn now(&self) -> OffsetDateTime {
        self.core.clock.now()
    }

    /// Runs `task` in the background until it ends or the simulator stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.core.tasks);
        while tasks.try_join_next().is_some() {}
        if !*self.core.stopped.borrow() {
            tasks.spawn_on(task, &self.core.runtime);
        }
    }

    /// Responds to a request of the control API under `/control`, for servers that pass it on.
    pub(crate) fn control(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
        control::respond(self, method, path, headers, body)
    }

    /// A handle for a background task. It does not keep the simulator running.
    pub(crate) fn for_task(&self) -> Self {
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

/// A client without redirects and proxies.
fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
