//! Starts all parts of the service on one machine.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use announce_challenges::AnnounceChallenges;
use reconcile_challenges::ReconcileChallenges;
use shared::clock::{AdjustableClock, Clock};
use shared::config::SettingError;
use shared::platform::Platform;
use shared::random::Random;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::activity::Activity;
use crate::circle_simulator::{CircleOptions, CircleSimulator, UserChange, UserTokenKey};
use crate::dynamodb::{self, DynamoDb, DynamoDbError};
use crate::environment::{
    API_KEY_SECRET, CIRCLE_PORT, DYNAMODB_PORT, EVENT_BUS_PORT, ISSUER_PORT, PIN_PAGE_PORT,
    SECRETS_MANAGER_PORT, Urls, WEB_PORT, function_environment,
};
use crate::event_bus::EventBus;
use crate::handlers::handlers;
use crate::http_api::{Backend, HttpApi, HttpApiOptions, LambdaEndpoint};
pub use crate::issuer::AUDIENCE;
use crate::issuer::{Issuer, TOKEN_LIFETIME};
use crate::log::Log;
use crate::scheduler::Scheduler;
use crate::secrets_manager::SecretsManager;
use crate::server::Server;
use crate::sources::Sources;
use crate::stream::{Announcer, announce};
use crate::web;

/// The wait before the webhook route is subscribed again, if another process runs the functions.
const SUBSCRIBE_RETRY_WAIT: Duration = Duration::from_secs(1);

/// The options of a stack.
#[derive(Debug)]
pub struct StackOptions {
    /// The port of the HTTP API. The other parts use the next seven ports. 0 lets the system choose all of
    /// them.
    pub port: u16,
    /// The file for DynamoDB's tables. If absent, they are in memory.
    pub data: Option<PathBuf>,
    /// An endpoint that runs the functions, such as that of `cargo lambda watch`. If absent, this process
    /// runs them.
    pub functions: Option<String>,
    /// The origins whose pages may call the API.
    pub allowed_origins: Vec<String>,
    /// The clock of all parts.
    pub clock: AdjustableClock,
    /// The source of ids and keys.
    pub random: Arc<Random>,
    /// Settings of the functions, as environment variables. They replace the defaults.
    pub settings: BTreeMap<String, String>,
    /// Whether `reconcile-challenges` runs on its schedule.
    pub scheduled: bool,
    /// Whether the HTTP API enforces the routes' throttles.
    pub throttled: bool,
    /// Where the stack's process logs, if it keeps its log. The requests to the HTTP API are added.
    pub log: Option<Log>,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            port: 0,
            data: None,
            functions: None,
            allowed_origins: vec!["*".to_owned()],
            clock: AdjustableClock::running(),
            random: Arc::new(Random::from_system()),
            settings: BTreeMap::new(),
            scheduled: true,
            throttled: true,
            log: None,
        }
    }
}

/// The running service and its surroundings.
pub struct Stack {
    /// The clock of all parts.
    pub clock: AdjustableClock,
    /// The simulator of Circle.
    pub circle: CircleSimulator,
    /// DynamoDB with the tables.
    pub dynamodb: DynamoDb,
    /// Secrets Manager with Circle's API key.
    pub secrets_manager: Arc<SecretsManager>,
    /// The event bus, and the queue of records that cannot be announced.
    pub event_bus: EventBus,
    /// The issuer of the callers' tokens.
    pub issuer: Issuer,
    /// The page in which users enter the PIN.
    pin_page: Server,
    /// The demo app.
    web: Server,
    /// The HTTP API.
    pub api: HttpApi,
    /// The platform of the functions that this process runs.
    pub platform: Platform,
    function_environment: BTreeMap<String, String>,
    pub(crate) sources: Sources,
    background: JoinSet<()>,
}

/// Why a stack did not start.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A port is in use.
    #[error("port {port} for {what} is in use; choose another with --port PORT (0 lets the system choose)")]
    PortTaken {
        /// The port.
        port: u16,
        /// The part of the stack that needs it.
        what: &'static str,
    },
    /// A port cannot be used for another reason, or its server did not start.
    #[error("cannot serve {what} on port {port}")]
    Serve {
        /// The port.
        port: u16,
        /// The part of the stack that needs it.
        what: &'static str,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// DynamoDB did not start.
    #[error("DynamoDB did not start")]
    DynamoDb(#[from] DynamoDbError),
    /// A setting of a function is invalid.
    #[error("a setting of a function is invalid")]
    Setting(#[from] SettingError),
    /// The simulator of Circle could not subscribe the webhook route.
    #[error("the webhook route could not be subscribed: {0}")]
    Subscribe(String),
}

impl Stack {
    /// Starts all parts and subscribes the webhook route at the simulator of Circle.
    ///
    /// # Errors
    /// If a port is in use, the data file cannot be used, or a setting is invalid.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let StackOptions {
            port,
            data,
            functions,
            allowed_origins,
            clock,
            random,
            settings,
            scheduled,
            throttled,
            log,
        } = options;
        let log = log.unwrap_or_else(|| Log::new(clock.clone()));
        let (
            api_listener,
            circle_listener,
            dynamodb_listener,
            secrets_listener,
            issuer_listener,
            event_bus_listener,
            pin_page_listener,
            web_listener,
        ) = (
            listen(port, 0, "the HTTP API").await?,
            listen(port, CIRCLE_PORT, "Circle").await?,
            listen(port, DYNAMODB_PORT, "DynamoDB").await?,
            listen(port, SECRETS_MANAGER_PORT, "Secrets Manager").await?,
            listen(port, ISSUER_PORT, "the issuer").await?,
            listen(port, EVENT_BUS_PORT, "the event bus").await?,
            listen(port, PIN_PAGE_PORT, "the page for the PIN").await?,
            listen(port, WEB_PORT, "the demo app").await?,
        );
        let serve = |what: &'static str| move |source| StackError::Serve { port, what, source };
        let api_url = format!("http://{}", api_listener.local_addr().map_err(serve("the HTTP API"))?);

        let secrets_manager = SecretsManager::start(secrets_listener, random.clone());
        let secrets_manager = Arc::new(secrets_manager.map_err(serve("Secrets Manager"))?);
        let (catch_up, requests_to_catch_up) = mpsc::unbounded_channel();
        let event_bus = EventBus::start(event_bus_listener, clock.clone(), random.clone(), catch_up);
        let event_bus = event_bus.map_err(serve("the event bus"))?;
        let secret_store = Arc::downgrade(&secrets_manager);
        let (circle, issuer, dynamodb) = tokio::join!(
            CircleSimulator::start(CircleOptions {
                listener: circle_listener,
                clock: clock.clone(),
                random: random.clone(),
                user_token_key: UserTokenKey::generate_in_background(),
                on_api_key_change: Some(Arc::new(move |key| {
                    if let Some(secrets_manager) = secret_store.upgrade() {
                        secrets_manager.put(API_KEY_SECRET, key);
                    }
                })),
            }),
            Issuer::start(issuer_listener, clock.clone()),
            dynamodb::start(dynamodb_listener, data.as_deref(), clock.clone()),
        );
        let (issuer, dynamodb) = (issuer.map_err(serve("the issuer"))?, dynamodb?);
        secrets_manager.put(API_KEY_SECRET, &circle.api_key());

        let mut function_environment = function_environment(&Urls {
            api: &api_url,
            circle: &circle.url(),
            dynamodb: dynamodb.url(),
            secrets_manager: secrets_manager.url(),
            event_bus: event_bus.url(),
        });
        function_environment.extend(settings);
        // A developer's own environment and profiles do not affect it.
        let platform = Platform::new(
            function_environment.clone().into_iter().collect(),
            Arc::new(clock.clone()),
            Arc::clone(&random),
        )?;
        let in_process = functions.is_none();
        let (backend, scheduler, announcer) = match functions {
            None => (
                Backend::InProcess(handlers(&platform)?),
                Scheduler::InProcess(Box::new(ReconcileChallenges::new(&platform)?)),
                Announcer::InProcess(Box::new(AnnounceChallenges::new(&platform)?)),
            ),
            Some(url) => {
                let endpoint = LambdaEndpoint::new(url.trim_end_matches('/').to_owned());
                (
                    Backend::LambdaEndpoint(endpoint.clone()),
                    Scheduler::LambdaEndpoint(endpoint.clone()),
                    Announcer::LambdaEndpoint(endpoint),
                )
            }
        };
        let api = HttpApi::start(HttpApiOptions {
            listener: api_listener,
            clock: clock.clone(),
            random,
            issuer: issuer.url().to_owned(),
            audience: AUDIENCE.to_owned(),
            allowed_origins,
            throttled,
            backend,
            log: log.clone(),
        })
        .map_err(serve("the HTTP API"))?;
        let pin_page = circle.serve_pin_page(pin_page_listener).map_err(serve("the page for the PIN"))?;
        let sources = Sources {
            clock: clock.clone(),
            circle: circle.for_task(),
            database: dynamodb.database(),
            events: event_bus.reader(),
            log,
            reconciles: scheduled && in_process,
            platform: platform.clone(),
            environment: function_environment.clone(),
            api_url: api.url().to_owned(),
            issuer_url: issuer.url().to_owned(),
            pin_page_url: pin_page.url().to_owned(),
        };
        let web = web::serve(web_listener, sources.clone()).map_err(serve("the demo app"))?;
        let mut background = subscribe(&circle, &api, &clock, in_process).await?;
        let stream = dynamodb.stream().map_err(DynamoDbError::Stream)?;
        background.spawn(announce(stream, announcer, clock.clone(), requests_to_catch_up));
        if scheduled {
            background.spawn(scheduler.run(clock.clone()));
        }
        Ok(Self {
            clock,
            circle,
            dynamodb,
            secrets_manager,
            event_bus,
            issuer,
            pin_page,
            web,
            api,
            platform,
            function_environment,
            sources,
            background,
        })
    }

    /// The URL of the page in which users enter the PIN.
    pub fn pin_page_url(&self) -> &str {
        self.pin_page.url()
    }

    /// The URL of the demo app.
    pub fn app_url(&self) -> &str {
        self.web.url()
    }

    /// What happens from now on.
    pub fn activity(&self) -> Activity {
        Activity::of(self.sources.clone())
    }

    /// A bearer token of a user. It is valid for a week of the stack's clock.
    pub fn sign_in(&self, user_id: &str) -> String {
        self.issuer.token(user_id, AUDIENCE, TOKEN_LIFETIME)
    }

    /// Creates a user at Circle, who has this PIN and security questions.
    ///
    /// # Panics
    /// If the id does not have 5 to 50 characters.
    pub fn add_user(&self, user_id: &str, pin: &str) {
        self.circle.put_user(user_id, UserChange::with_pin(pin)).expect("a user id has 5 to 50 characters");
    }

    /// The environment variables of functions that run in another process.
    pub fn function_environment(&self) -> &BTreeMap<String, String> {
        &self.function_environment
    }

    /// Stops all parts, the callers first. The data file is complete afterwards.
    pub async fn stop(mut self) {
        self.background.shutdown().await;
        self.web.stop().await;
        self.pin_page.stop().await;
        self.circle.stop().await;
        self.api.stop().await;
        self.issuer.stop().await;
        self.event_bus.stop().await;
        if let Some(secrets_manager) = Arc::into_inner(self.secrets_manager) {
            secrets_manager.stop().await;
        }
        drop(self.sources);
        self.dynamodb.stop().await;
    }
}

async fn listen(base: u16, offset: u16, what: &'static str) -> Result<TcpListener, StackError> {
    let port = if base == 0 { 0 } else { base + offset };
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StackError::PortTaken { port, what },
        _ => StackError::Serve { port, what, source },
    })
}

/// Subscribes the webhook route. If another process runs the functions, it may not have started yet, so a
/// background task retries until it succeeds.
async fn subscribe(
    circle: &CircleSimulator,
    api: &HttpApi,
    clock: &AdjustableClock,
    in_process: bool,
) -> Result<JoinSet<()>, StackError> {
    let endpoint = format!("{}/webhooks/circle", api.url());
    if in_process {
        let subscribed = circle.subscribe(&endpoint, &["*"]).await;
        subscribed.map_err(|error| StackError::Subscribe(error.to_string()))?;
        return Ok(JoinSet::new());
    }
    let (circle, clock) = (circle.clone(), clock.clone());
    let mut subscriber = JoinSet::new();
    subscriber.spawn(async move {
        while let Err(error) = circle.subscribe(&endpoint, &["*"]).await {
            tracing::info!(%error, "subscription of the webhook route failed, retrying");
            clock.sleep(SUBSCRIBE_RETRY_WAIT).await;
        }
    });
    Ok(subscriber)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::function_environment_on;

    #[tokio::test]
    async fn environment_of_functions_elsewhere_is_that_of_the_stack() {
        let probe = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        // Another process may take one of the ports at any time.
        if let Ok(stack) = Stack::start(StackOptions { port, ..StackOptions::default() }).await {
            assert_eq!(stack.function_environment(), &function_environment_on(port));
            stack.stop().await;
        }
    }
}
