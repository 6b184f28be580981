//! Where an incident happens: a running stack, further copies of its functions, and users.

use std::sync::Arc;
use std::time::Duration;

use announce_challenges::AnnounceChallenges;
use lambda_http::{Context, LambdaEvent};
use manage_subscription::ManageSubscription;
use reconcile_challenges::ReconcileChallenges;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::platform::Platform;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::PlayError;
use crate::circle_simulator::{CircleSimulator, Fault, Knobs, UserChange};
use crate::handlers::handlers;
use crate::http_api::{Backend, HttpApi, HttpApiOptions};
use crate::invocation;
use crate::issuer::AUDIENCE;
use crate::log::Line;
use crate::sources::Sources;

/// An address at which nothing listens.
pub(super) const DEAD_END: &str = "http://127.0.0.1:1";

/// After this time the first check of a new challenge is due, and its user's session has expired, so that the check is not
/// deferred.
pub(super) const FIRST_CHECK: Duration = Duration::from_secs(61 * 60);

/// The PIN of the users.
const PIN: &str = "112233";

/// A stack on which an incident happens.
pub(super) struct Scene {
    pub(super) sources: Sources,
    steps: UnboundedSender<Value>,
    http: reqwest::Client,
    /// How the simulator was before.
    before: (Knobs, Vec<Fault>),
}

/// A copy of the functions that has just started, with settings of its own, behind an HTTP API of its own.
pub(super) struct Functions {
    api: HttpApi,
    platform: Platform,
}

/// A user at Circle who is signed in.
pub(super) struct User {
    pub(super) id: String,
    bearer: String,
}

impl Scene {
    pub(super) fn new(sources: Sources, steps: UnboundedSender<Value>) -> Result<Self, PlayError> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let before = (sources.circle.knobs(), sources.circle.faults());
        Ok(Self { sources, steps, http, before })
    }

    /// Makes Circle behave as before.
    pub(super) fn end(&self) {
        let (knobs, faults) = &self.before;
        self.circle().set_knobs(|now| *now = knobs.clone());
        self.circle().clear_faults();
        faults.iter().cloned().for_each(|fault| self.circle().add_fault(fault));
    }

    /// Says what happens.
    pub(super) fn say(&self, step: impl Into<String>) {
        // An error means that nobody reads any more.
        let _ = self.steps.send(json!({ "step": step.into() }));
    }

    pub(super) fn circle(&self) -> &CircleSimulator {
        &self.sources.circle
    }

    /// Adds a fault to Circle's calls, as often as they are made.
    pub(super) fn break_circle(&self, fault: Fault) {
        self.circle().add_fault(Fault { times: u32::MAX, ..fault });
    }

    /// Lets time pass on the stack's clock, and reconciliation run afterwards: on its schedule, or once if the stack has
    /// none.
    pub(super) async fn reconcile_after(&self, by: Duration, functions: &Functions) -> Result<(), PlayError> {
        let minutes = by.as_secs() / 60;
        let (amount, unit) = if minutes < 3 * 60 { (minutes, "minutes") } else { (minutes / 60, "hours") };
        self.say(format!("{amount} {unit} pass on the stack's clock."));
        let before = self.sources.log.count();
        self.sources.clock.advance(by);
        if !self.sources.reconciles {
            functions.reconcile(self).await?;
        }
        let is_run = |line: &&Line| line.json["ReconcileDue"].is_number();
        let run = self.sources.log.wait_for(before, |lines| lines.iter().find(is_run).cloned()).await?;
        let count = |name: &str| &run.json[format!("Reconcile{name}")];
        self.say(format!(
            "Reconciliation runs: {} due, {} checked, {} settled, {} failed.",
            count("Due"),
            count("Checked"),
            count("Settled"),
            count("Failed")
        ));
        Ok(())
    }

    pub(super) async fn functions(&self) -> Result<Functions, PlayError> {
        self.functions_with(&[]).await
    }

    /// Starts the functions with settings in addition to those of the stack.
    pub(super) async fn functions_with(&self, settings: &[(&str, &str)]) -> Result<Functions, PlayError> {
        let clock = self.sources.clock.clone();
        let random = Arc::clone(&self.sources.platform.random);
        let mut environment = self.sources.environment.clone();
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let environment = environment.into_iter().collect();
        let platform = Platform::new(environment, Arc::new(clock.clone()), Arc::clone(&random))?;
        let api = HttpApi::start(HttpApiOptions {
            listener: TcpListener::bind("127.0.0.1:0").await?,
            clock,
            random,
            issuer: self.sources.issuer_url.clone(),
            audience: AUDIENCE.to_owned(),
            allowed_origins: Vec::new(),
            throttled: false,
            backend: Backend::InProcess(handlers(&platform)?),
            log: self.sources.log.clone(),
        })?;
        Ok(Functions { api, platform })
    }

    /// Creates a user at Circle with a PIN, and signs the user in.
    pub(super) async fn user(&self) -> Result<User, PlayError> {
        let id = format!("incident-{}", &self.sources.platform.random.uuid().simple().to_string()[..8]);
        self.circle().put_user(&id, UserChange::with_pin(PIN)).map_err(|error| error.to_string())?;
        let url = format!("{}/token?sub={id}", self.sources.issuer_url);
        let bearer = self.http.get(url).send().await?.text().await?;
        Ok(User { id, bearer })
    }

    /// Calls the API as the user, and says how it responds.
    pub(super) async fn call(
        &self,
        functions: &Functions,
        user: &User,
        route: &str,
    ) -> Result<Value, PlayError> {
        let (result, body) = self.request(functions, user, route).await?;
        self.say(result);
        Ok(body)
    }

    /// Calls the API as the user. Returns the call with its result, and the body of the response.
    pub(super) async fn request(
        &self,
        functions: &Functions,
        user: &User,
        route: &str,
    ) -> Result<(String, Value), PlayError> {
        let (method, path) = route.split_once(' ').unwrap_or(("GET", route));
        let url = format!("{}{path}", functions.api.url());
        let response = self.http.request(method.parse()?, url).bearer_auth(&user.bearer).send().await?;
        read(&format!("{method} {}", template(path)), response).await
    }

    /// Creates a challenge of the user.
    pub(super) async fn challenge(&self, functions: &Functions, user: &User) -> Result<Uuid, PlayError> {
        let created = self.call(functions, user, "POST /challenges").await?;
        let id = created["challengeId"].as_str().ok_or("no challenge was created")?;
        Ok(id.parse()?)
    }

    /// A message as Circle sends it, that reports this status of a challenge.
    pub(super) fn message(&self, id: Uuid, user_id: &str, status: &str, code: i32) -> Value {
        json!({
            "subscriptionId": self.sources.platform.random.uuid(),
            "notificationId": self.sources.platform.random.uuid(),
            "notificationType": "challenges.changePin",
            "notification": {
                "id": id, "userId": user_id, "type": "CHANGE_PIN", "status": status, "correlationIds": [],
                "errorCode": code, "errorMessage": "",
            },
            "timestamp": "2026-01-01T12:00:00.000000000Z",
            "version": 2,
        })
    }

    /// Sends a message, signed with Circle's key, and says how the API responds.
    pub(super) async fn webhook(&self, functions: &Functions, message: &Value) -> Result<(), PlayError> {
        let body = message.to_string();
        let (key_id, signature) = self.circle().sign(body.as_bytes());
        self.say(self.post(functions, key_id, &signature, &body).await?);
        Ok(())
    }

    /// Sends any message with any signature. Returns the call with its result.
    pub(super) async fn post(
        &self,
        functions: &Functions,
        key_id: Uuid,
        signature: &str,
        body: &str,
    ) -> Result<String, PlayError> {
        let url = format!("{}/webhooks/circle", functions.api.url());
        let request = self.http.post(url).header("content-type", "application/json");
        let request = request.header("x-circle-key-id", key_id.to_string());
        let response = request.header("x-circle-signature", signature).body(body.to_owned()).send().await?;
        Ok(read("POST /webhooks/circle", response).await?.0)
    }

    /// Says how often a call had each result.
    pub(super) fn say_how_often(&self, results: &[String]) {
        for results in results.chunk_by(|one, next| one == next) {
            self.say(format!("{} ({} times)", results[0], results.len()));
        }
    }

    /// Changes the stack's subscription at Circle.
    pub(super) async fn set_subscription_enabled(&self, is_enabled: bool) -> Result<(), PlayError> {
        let webhook_url = self.sources.environment.get("WEBHOOK_URL");
        let all = self.circle().subscriptions();
        let own = all.iter().find(|one| one["endpoint"].as_str() == webhook_url.map(String::as_str));
        let id = own.and_then(|one| one["id"].as_str()).ok_or("the stack has no subscription")?;
        let url = format!("{}/v2/notifications/subscriptions/{id}", self.circle().url());
        let change = json!({ "name": "incident", "enabled": is_enabled }).to_string();
        let request = self.http.patch(url).bearer_auth(self.circle().api_key());
        request.header("content-type", "application/json").body(change).send().await?.error_for_status()?;
        Ok(())
    }

    /// Does the work. Once Circle has received such a call, the stack's clock runs at many times its pace.
    pub(super) async fn hurry_after<T>(&self, call: &str, work: impl Future<Output = T>) -> T {
        const STEP: Duration = Duration::from_millis(100);
        const WAIT: Duration = Duration::from_millis(10);
        let before = self.circle().call_count(call);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                () = SystemClock.sleep(WAIT) => {
                    if self.circle().call_count(call) > before {
                        self.sources.clock.advance(STEP);
                    }
                }
            }
        }
    }
}

impl Functions {
    /// One run of reconciliation.
    async fn reconcile(&self, scene: &Scene) -> Result<(), PlayError> {
        let function = ReconcileChallenges::new(&self.platform)?;
        let event = LambdaEvent::new(json!({}), self.context(scene));
        reconcile_challenges::handle(&function, event).await?;
        Ok(())
    }

    /// Invokes `announce-challenges` with records of the stream. Returns how many of them failed.
    pub(super) async fn announce(&self, scene: &Scene, records: Vec<Value>) -> Result<usize, PlayError> {
        let function = AnnounceChallenges::new(&self.platform)?;
        let event = LambdaEvent::new(json!({ "Records": records }), self.context(scene));
        let response = json!(announce_challenges::handle(&function, event).await?);
        Ok(response["batchItemFailures"].as_array().map_or(0, Vec::len))
    }

    /// Invokes `manage-subscription`. Returns its response.
    pub(super) async fn manage_subscription(&self, scene: &Scene, event: Value) -> Result<Value, PlayError> {
        let function = ManageSubscription::new(&self.platform);
        let event = LambdaEvent::new(serde_json::from_value(event)?, self.context(scene));
        // It has a thread of its own, because its future cannot move between threads.
        let runtime = Handle::current();
        let handled = spawn_blocking(move || runtime.block_on(manage_subscription::handle(&function, event)));
        Ok(json!(handled.await??))
    }

    fn context(&self, scene: &Scene) -> Context {
        let mut context = invocation::context(scene.sources.clock.now() + Duration::from_secs(30));
        context.request_id = self.platform.random.uuid().to_string();
        context
    }
}

/// The call with the status and the code of the response, and its body.
async fn read(call: &str, response: reqwest::Response) -> Result<(String, Value), PlayError> {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    let result = [&body["code"], &body["status"], &body["outcome"]];
    let result = result.iter().find_map(|member| member.as_str()).unwrap_or_default();
    Ok((format!("{call} -> {status} {result}").trim_end().to_owned(), body))
}

/// A path without the id in it.
fn template(path: &str) -> &str {
    if path.starts_with("/challenges/") { "/challenges/{challengeId}" } else { path }
}
