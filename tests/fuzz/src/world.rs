//! What a function runs on: the platform, the services, the clock and the log.

use std::io::Write;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use shared::config::Environment;
use shared::platform::Platform;
use shared::random::Random;
use shared::telemetry;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::FuzzClock;
use crate::script::{Replies, Service};
use crate::server::{API_KEY, Call, SECRET, Server};

pub(crate) const CHALLENGES_TABLE: &str = "challenges";
pub(crate) const WEBHOOK_URL: &str = "https://api.example.com/webhooks/circle";

/// How often the runtime may find nothing to do before time passes. A loopback socket is ready as soon as it is written to.
const IDLE_ROUNDS: u32 = 64;

/// How often time may pass for one input. A run of reconciliation that uses all its time makes some hundred steps.
const MAX_STEPS: u32 = 5_000;

const CRATES: [&str; 8] = [
    "announce_challenges",
    "create_challenge",
    "create_token",
    "get_challenge",
    "get_pin",
    "manage_subscription",
    "receive_webhook",
    "reconcile_challenges",
];

pub(crate) struct World {
    runtime: Runtime,
    clock: FuzzClock,
    log: Log,
    platform: Platform,
    pub(crate) server: Arc<Server>,
    pub(crate) port: u16,
}

/// The result of one input.
pub(crate) struct Outcome<T> {
    pub(crate) output: T,
    /// Whether the input has no responses of its own: every service does what it does on a good day.
    pub(crate) is_good_day: bool,
    pub(crate) calls: Vec<Call>,
    pub(crate) log: String,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl World {
    pub(crate) fn new() -> Self {
        // Sockets are looked at after each step of a task, so that nothing is missed when there is nothing to do.
        let runtime =
            Builder::new_current_thread().enable_all().event_interval(1).build().expect("a runtime");
        let (server, clock, log) = (Arc::new(Server::default()), FuzzClock::new(), Log::default());
        let port = runtime.block_on(async { server.start() });
        let url = format!("http://127.0.0.1:{port}");
        let environment = Environment::from([
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL", &url),
            ("CHALLENGES_TABLE", CHALLENGES_TABLE),
            ("RATE_LIMITS_TABLE", "rate-limits"),
            ("EVENT_BUS_NAME", "events"),
            ("UNREADABLE_RECORDS_QUEUE_URL", &format!("{url}/queue")),
            ("CIRCLE_API_KEY_SECRET_ID", "circle"),
            ("CIRCLE_BASE_URL", &url),
            ("USER_HASH_KEY", "not-a-secret-it-hashes-users-of-the-fuzzer"),
            ("CIRCLE_SOURCE_IPS", "192.0.2.1"),
            ("WEBHOOK_URL", WEBHOOK_URL),
            ("RESTORE_MAX_SIGN_IN_AGE_MINUTES", "10"),
        ]);
        let random = Arc::new(Random::from_seed(1));
        let platform =
            Platform::new(environment, Arc::new(clock.clone()), random).expect("complete settings");
        let writer = log.clone();
        telemetry::subscriber(LevelFilter::TRACE, &CRATES, "fuzz".to_owned(), move || writer.clone()).init();
        Self { runtime, clock, log, platform, server, port }
    }

    /// Runs a function on one input. It gets a platform whose ids are the same for each input.
    ///
    /// # Panics
    /// If the function never ends, or it logs a secret.
    pub(crate) fn run<T, F: Future<Output = T>>(
        &self,
        replies: Replies,
        function: impl FnOnce(Platform) -> F,
    ) -> Outcome<T> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let is_good_day = replies.is_empty();
        self.server.begin(replies);
        self.clock.begin();
        let platform = Platform { random: Arc::new(Random::from_seed(1)), ..self.platform.clone() };
        let output = self.runtime.block_on(self.finish(function(platform)));
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let log = String::from_utf8(log.clone()).expect("log lines are UTF-8");
        assert!(!log.contains(API_KEY), "the API key is in the log: {log}");
        assert!(!log.contains(SECRET), "a secret is in the log: {log}");
        for line in log.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not a line of JSON: {line}");
        }
        Outcome { output, is_good_day, calls: self.server.take_calls(), log }
    }

    async fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let (mut seen, mut idle, mut steps) = (0, 0, 0);
        loop {
            let polled = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
            if let Poll::Ready(output) = polled {
                return output;
            }
            tokio::task::yield_now().await;
            let activity = self.server.activity.load(Ordering::Relaxed);
            idle = if activity == seen { idle + 1 } else { 0 };
            seen = activity;
            if idle == IDLE_ROUNDS {
                assert!(self.clock.wake_first(), "the function waits for nothing");
                steps += 1;
                assert!(steps < MAX_STEPS, "the function does not end");
                idle = 0;
            }
        }
    }
}

impl<T> Outcome<T> {
    pub(crate) fn map<U>(self, to: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome { output: to(self.output), is_good_day: self.is_good_day, calls: self.calls, log: self.log }
    }

    /// The requests that a service received.
    pub(crate) fn calls_to(&self, service: Service) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.service == service)
    }
}
