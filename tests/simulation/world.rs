//! The world of a run: Circle, the tables, the bus, the sandboxes, and everything that is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dynoxide::Database;
use local::circle_simulator::{ChallengeView, CircleOptions, CircleSimulator, UserChange, UserTokenKey};
use local::dynamodb::{self, CHALLENGES_TABLE};
use local::environment::API_KEY_SECRET;
use local::event_bus::{EventBus, EventReader};
use local::secrets_manager::SecretsManager;
use local::stream::Stream;
use shared::clock::AdjustableClock;
use shared::random::Random;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::choices::Choices;
use crate::invocations::Invocation;
use crate::network::{Call, Network, Port, Sender};
use crate::people::Person;
use crate::plan::Plan;
use crate::sandbox::Sandbox;
use crate::time::{START, Time};

/// How often reconciliation runs.
const RECONCILE_PERIOD: Duration = Duration::from_secs(300);

/// To generate an RSA key takes longer than a run.
static USER_TOKEN_KEY: LazyLock<UserTokenKey> = LazyLock::new(UserTokenKey::default);

/// How long a server keeps an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) choices: Choices,
    pub(crate) plan: Plan,
    pub(crate) time: Time,
    /// The clock of Circle and of DynamoDB.
    clock: AdjustableClock,
    pub(crate) circle: CircleSimulator,
    pub(crate) database: Database,
    pub(crate) secrets: Arc<SecretsManager>,
    pub(crate) bus: EventBus,
    pub(crate) events: EventReader,
    pub(crate) dynamodb_url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) network: Network,
    /// Of the ids and keys of the run.
    pub(crate) random: Arc<Random>,
    pub(crate) seed: u64,
    /// By number. `None` if the process has ended.
    pub(crate) sandboxes: Vec<Option<Sandbox>>,
    pub(crate) held: Vec<Held>,
    /// How many of the next calls probably fail.
    pub(crate) outage: u32,
    next_call: u64,
    pub(crate) invocations: Vec<Invocation>,
    pub(crate) next_invocation: u64,
    pub(crate) people: Vec<Person>,
    /// The challenges that callers were told of, with the person.
    pub(crate) known: Vec<(Uuid, usize)>,
    /// What `announce-challenges` reads.
    pub(crate) stream: Stream,
    /// What the checks read.
    pub(crate) changes: Stream,
    next_reconcile: Duration,
    /// Until when an API key may be missing, because it was replaced twice within a short time.
    pub(crate) key_missing_until: Duration,
    /// Every status that Circle's challenges have had.
    pub(crate) history: BTreeMap<Uuid, BTreeSet<&'static str>>,
    /// The challenges about which a webhook got 200, with the rank of its status.
    pub(crate) delivered: BTreeSet<(Uuid, u8)>,
    /// Whether a challenge was ever abandoned.
    pub(crate) has_abandoned: bool,
    /// When each request was admitted that reached Circle, by person.
    pub(crate) reached: BTreeMap<usize, Vec<Duration>>,
    /// The idempotency keys of the apps.
    pub(crate) callers_keys: BTreeSet<String>,
    /// What Circle last responded to a check or a poll of each challenge.
    pub(crate) last_response: BTreeMap<Uuid, &'static str>,
    /// When Circle last said something about each challenge.
    pub(crate) last_word: BTreeMap<Uuid, Duration>,
    /// The challenges of which Circle says COMPLETE after it said that they failed.
    pub(crate) contradicted: BTreeSet<Uuid>,
    /// Each ending of a requested challenge that has been recorded.
    pub(crate) endings: BTreeSet<(Uuid, String)>,
    /// When each sandbox asked Circle for keys of webhooks.
    pub(crate) key_fetches: BTreeMap<usize, Vec<Duration>>,
    /// How often each sandbox has read the API key, and when it last did.
    pub(crate) key_reads: BTreeMap<usize, (u32, Duration)>,
    /// Whether nothing goes wrong any more.
    pub(crate) is_ending: bool,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) trace: Vec<String>,
    pub(crate) violations: Vec<String>,
    /// The port for webhooks.
    _api: Port,
    _dynamodb: JoinSet<()>,
}

/// A call that has not got its response yet.
pub(crate) struct Held {
    pub(crate) number: u64,
    pub(crate) call: Call,
}

impl World {
    /// A world in which nothing has happened yet.
    pub(crate) async fn start(seed: u64, mut choices: Choices) -> Self {
        let plan = Plan::choose(&mut choices);
        USER_TOKEN_KEY.ready().await;
        let clock = AdjustableClock::frozen(START);
        let random = Arc::new(Random::from_seed(seed));
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let secrets =
            Arc::new(SecretsManager::start(listen().await, Arc::clone(&random)).expect("the port is open"));
        let secret_store = Arc::clone(&secrets);
        let circle = CircleSimulator::start(CircleOptions {
            listener: listen().await,
            clock: clock.clone(),
            random: Arc::clone(&random),
            user_token_key: USER_TOKEN_KEY.clone(),
            on_api_key_change: Some(Arc::new(move |key| secret_store.put(API_KEY_SECRET, key))),
        })
        .await;
        secrets.put(API_KEY_SECRET, &circle.api_key());
        let (catch_up, _) = mpsc::unbounded_channel();
        let bus = EventBus::start(listen().await, clock.clone(), Arc::clone(&random), catch_up)
            .expect("the port is open");
        let database = dynamodb::in_memory(clock.clone()).expect("there is memory");
        let listener = listen().await;
        let dynamodb_url = format!("http://{}", listener.local_addr().expect("the port is open"));
        let network = Network::default();
        let api = network.listen(Sender::Circle).await.expect("loopback has a free port");
        let endpoint = format!("{}/webhooks/circle", api.url);
        let (served, mut servers) = (database.clone(), JoinSet::new());
        servers.spawn(async move {
            dynoxide::server::serve_on(listener, served).await;
        });
        let people: Vec<Person> =
            (1..=plan.people).map(|number| Person::new(format!("user-{number}"))).collect();
        for person in &people {
            circle.put_user(&person.id, UserChange::ready()).expect("the user is valid");
        }
        circle.set_knobs(|knobs| plan.set(knobs));
        let stream = || Stream::of(database.clone(), CHALLENGES_TABLE).expect("the table has a stream");
        let mut world = Self {
            events: bus.reader(),
            stream: stream(),
            changes: stream(),
            choices,
            plan,
            time: Time::default(),
            clock,
            circle,
            database,
            secrets,
            bus,
            dynamodb_url,
            http: reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .build()
                .expect("a client can be built"),
            network,
            random,
            seed,
            sandboxes: Vec::new(),
            held: Vec::new(),
            outage: 0,
            next_call: 0,
            invocations: Vec::new(),
            next_invocation: 0,
            people,
            known: Vec::new(),
            next_reconcile: RECONCILE_PERIOD,
            key_missing_until: Duration::ZERO,
            history: BTreeMap::new(),
            delivered: BTreeSet::new(),
            has_abandoned: false,
            reached: BTreeMap::new(),
            callers_keys: BTreeSet::new(),
            last_response: BTreeMap::new(),
            last_word: BTreeMap::new(),
            contradicted: BTreeSet::new(),
            endings: BTreeSet::new(),
            key_fetches: BTreeMap::new(),
            key_reads: BTreeMap::new(),
            is_ending: false,
            counts: BTreeMap::new(),
            trace: Vec::new(),
            violations: Vec::new(),
            _api: api,
            _dynamodb: servers,
        };
        world.subscribe(endpoint).await;
        world
    }

    /// Subscribes the webhook route, as the deployment does. Its two requests get a response at once.
    async fn subscribe(&mut self, endpoint: String) {
        let circle = self.circle.clone();
        let mut subscribed =
            tokio::spawn(async move { circle.subscribe(&endpoint, &["challenges.*"]).await.map(|_| ()) });
        for _ in ["HEAD", "test message"] {
            for call in self.network.wait_until_quiet().await {
                call.respond_with(200, "application/json", "");
            }
        }
        self.network.wait_until_quiet().await;
        (&mut subscribed).await.expect("the task ends").expect("the endpoint responds");
    }

    /// Adds a line to the trace.
    pub(crate) fn log(&mut self, line: impl AsRef<str>) {
        let at = self.time.elapsed();
        self.trace.push(format!("{:>9}.{:03} {}", at.as_secs(), at.subsec_millis(), line.as_ref()));
    }

    /// Counts something that happened.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often it has happened.
    pub(crate) fn count_of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Notes that something is wrong.
    pub(crate) fn violation(&mut self, text: String) {
        self.log(format!("VIOLATION: {text}"));
        self.violations.push(text);
    }

    /// Waits until everything waits. Handles what has ended.
    pub(crate) async fn wait_until_quiet(&mut self) {
        loop {
            for call in self.network.wait_until_quiet().await {
                self.hold(call);
            }
            let is_finished = |invocation: &Invocation| invocation.task.is_finished();
            let Some(position) = self.invocations.iter().position(is_finished) else { return };
            let mut invocation = self.invocations.remove(position);
            if let Some(sandbox) = &mut self.sandboxes[invocation.sandbox] {
                sandbox.is_busy = false;
            }
            match (&mut invocation.task).await {
                Ok(outcome) => self.ended(invocation, outcome).await,
                Err(error) => self.violation(format!("invocation {} panicked: {error}", invocation.number)),
            }
        }
    }

    fn hold(&mut self, call: Call) {
        let number = self.next_call;
        self.next_call += 1;
        let sender = match call.sender {
            Sender::Circle => "Circle".to_owned(),
            Sender::Sandbox(sandbox) => self.name_of(sandbox),
        };
        self.log(format!("{sender} calls {} (call {number})", call.name()));
        self.check_call(&call);
        self.held.push(Held { number, call });
    }

    pub(crate) fn name_of(&self, sandbox: usize) -> String {
        let function = self.sandboxes[sandbox].as_ref().map_or("ended", |sandbox| sandbox.function.name());
        format!("{function}#{sandbox}")
    }

    /// Whether a sandbox runs: it has not ended and is not frozen.
    pub(crate) fn runs(&self, sandbox: usize) -> bool {
        self.sandboxes[sandbox].as_ref().is_some_and(|sandbox| sandbox.frozen_until.is_none())
    }

    /// Lets time pass. Lambda ends what has run for too long.
    pub(crate) fn pass(&mut self, by: Duration) {
        self.time.pass(by);
        self.clock.advance(by);
        let now = self.time.elapsed();
        for number in 0..self.sandboxes.len() {
            let Some(sandbox) = &mut self.sandboxes[number] else { continue };
            if by >= IDLE_LIMIT && !sandbox.is_busy {
                sandbox.age_connections();
            }
            if let Some(until) = sandbox.frozen_until.filter(|until| *until <= now) {
                sandbox.frozen_until = None;
                // It may have been frozen for longer, because others waited for something.
                let frozen = |invocation: &&mut Invocation| invocation.sandbox == number;
                let invocations = self.invocations.iter_mut().filter(frozen);
                invocations.for_each(|invocation| invocation.ends_at += now - until);
                let stopped = std::mem::take(&mut sandbox.stopped_for);
                self.time.stop_monotonic(number, stopped);
                self.log(format!("{} runs again", self.name_of(number)));
            }
        }
        while let Some(late) = self
            .invocations
            .iter()
            .position(|invocation| invocation.ends_at < now && self.runs(invocation.sandbox))
        {
            // A wrong clock shows a wrong rest of the time, but a function has to be ready for all else that goes wrong.
            if self.count_of("wall clock jumped") == 0 {
                let number = self.invocations[late].number;
                self.violation(format!("invocation {number} ran into Lambda's time limit"));
            }
            self.count("invocation at Lambda's limit");
            self.kill(late);
        }
    }

    /// Whether a run of reconciliation is due by its schedule. Missed runs count as one. A run that would find nothing is
    /// left out, because it takes long.
    pub(crate) fn take_reconcile_due(&mut self) -> bool {
        if self.next_reconcile > self.time.elapsed() {
            return false;
        }
        self.next_reconcile = self.time.elapsed() + RECONCILE_PERIOD;
        let now = self.time.now().unix_timestamp();
        self.next_check().is_some_and(|due| due <= now)
    }

    /// The challenges that are open at Circle.
    pub(crate) fn open_at_circle(&self) -> Vec<ChallengeView> {
        let mut open = self.circle.challenges();
        open.retain(|challenge| matches!(challenge.status, "PENDING" | "IN_PROGRESS"));
        open
    }
}
