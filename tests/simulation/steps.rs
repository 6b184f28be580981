//! The scheduler: what happens next.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::invocations::{Invocation, Purpose};
use crate::network::{Call, Sender, Service};
use crate::outsiders::webhook_event;
use crate::plan::Trouble;
use crate::sandbox::{Function, Outcome};
use crate::world::{Held, World};

/// After so many steps nothing new begins.
pub(crate) const MAX_STEPS: usize = 700;

/// With so many invocations under way, no person and no schedule begins another one.
const MAX_AT_ONCE: usize = 4;

/// What the scheduler can do instead of the next ordinary thing, with how likely it is.
#[derive(Debug, Clone, Copy, strum::VariantArray)]
enum Step {
    Progress,
    Person,
    Device,
    OtherCall,
    CallFails,
    TimerFirst,
    Kill,
    Freeze,
    ClockJumps,
    ApiKeyRotated,
    SigningKeyRotated,
    TimePasses,
    Reconcile,
    Forgery,
    Elsewhere,
    AnotherAccount,
    Contradiction,
    Resume,
    Flood,
}

/// How long a process does not read the API key again after it has read it because Circle rejected it.
const KEY_REREAD: Duration = Duration::from_secs(30);

pub(crate) const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// Everything that people and troubles do.
    pub(crate) async fn live(&mut self) {
        for _ in 0..MAX_STEPS {
            self.wait_until_quiet().await;
            if !self.step().await {
                return;
            }
        }
    }

    /// One step. Returns whether there was anything left to do.
    async fn step(&mut self) -> bool {
        let steps = <Step as strum::VariantArray>::VARIANTS;
        let weights: Vec<u32> = steps.iter().map(|step| self.weight(*step)).collect();
        match steps[self.choices.weighted(&weights)] {
            Step::Progress => return self.progress().await || self.next_request().await,
            Step::Person => {
                self.next_request().await;
            }
            Step::Device => self.device_acts(),
            Step::OtherCall => {
                let ready = self.ready_calls();
                let position = ready[self.choices.below(ready.len())];
                self.serve(position).await;
            }
            Step::CallFails => self.call_fails().await,
            Step::TimerFirst => {
                self.trouble("call at its time limit");
                for invocation in &mut self.invocations {
                    invocation.is_disturbed = true;
                }
                self.fire_next_timer();
            }
            Step::Kill => {
                self.trouble("process killed");
                let position = self.choices.below(self.invocations.len());
                self.kill(position);
            }
            Step::Freeze => self.freeze(),
            Step::ClockJumps => {
                self.trouble("wall clock jumped");
                let live: Vec<usize> =
                    (0..self.sandboxes.len()).filter(|sandbox| self.sandboxes[*sandbox].is_some()).collect();
                let sandbox = live[self.choices.below(live.len())];
                let by = [10, -10, 600, -600, 5, -70][self.choices.below(6)];
                self.log(format!("the wall clock of {} jumps by {by} s", self.name_of(sandbox)));
                self.time.jump(sandbox, time::Duration::seconds(by));
                self.disturb(Sender::Sandbox(sandbox), false);
            }
            Step::ApiKeyRotated => {
                self.trouble("API key replaced");
                self.circle.rotate_api_key();
                self.log("the API key is replaced");
                // A process that has just read the secret again does not read it once more.
                let now = self.time.elapsed();
                if self.key_reads.values().any(|(reads, last)| *reads > 1 && now - *last < KEY_REREAD) {
                    self.key_missing_until = now + KEY_REREAD;
                }
            }
            Step::SigningKeyRotated => {
                self.trouble("signing key replaced");
                self.circle.rotate_signing_key();
                self.log("Circle signs with a new key");
            }
            Step::TimePasses => {
                let by = [60, 10, 600, 3700, 6 * 3600, 26 * 3600][self.choices.below(6)] * SECOND;
                self.log(format!("{} s pass", by.as_secs()));
                self.pass(by);
            }
            Step::Reconcile => self.reconcile().await,
            Step::Forgery => {
                self.trouble("webhook forged");
                self.forge().await;
            }
            Step::Elsewhere => {
                self.trouble("challenge of another app");
                let person = self.choices.below(self.people.len());
                self.create_elsewhere(person).await;
            }
            Step::AnotherAccount => {
                self.trouble("webhook of another Circle account");
                self.send_from_another_account().await;
            }
            Step::Contradiction => self.contradict().await,
            Step::Resume => self.resume().await,
            Step::Flood => {
                self.trouble("API flooded");
                self.flood().await;
            }
        }
        true
    }

    fn weight(&self, step: Step) -> u32 {
        let when = |is_possible: bool, weight: u32| if is_possible { weight } else { 0 };
        let may = |trouble: Trouble| self.plan.allows(trouble);
        let is_idle = self.invocations.is_empty();
        let calls = self.ready_calls().len();
        match step {
            Step::Progress => 100,
            Step::Person => when(self.plan.requests > 0 && self.invocations.len() < MAX_AT_ONCE, 12),
            Step::Device => when(!self.open_at_circle().is_empty(), 14),
            Step::OtherCall => when(calls > 1, 20),
            Step::CallFails => when(self.failable().is_some(), if self.outage > 0 { 400 } else { 14 }),
            Step::TimerFirst => when(
                may(Trouble::Slowness)
                    && calls > 0
                    && self.time.next_timer(|sandbox| self.runs(sandbox)).is_some(),
                4,
            ),
            Step::Kill => when(may(Trouble::Kills) && !is_idle, 4),
            Step::Freeze => when(
                may(Trouble::Freezes)
                    && self.sandboxes.iter().flatten().any(|sandbox| sandbox.frozen_until.is_none()),
                2,
            ),
            Step::ClockJumps => {
                when(may(Trouble::Clocks) && self.sandboxes.iter().flatten().next().is_some(), 2)
            }
            Step::ApiKeyRotated | Step::SigningKeyRotated => when(may(Trouble::Rotations), 2),
            Step::TimePasses => when(is_idle, 12),
            Step::Reconcile => when(self.invocations.len() < MAX_AT_ONCE, 2),
            Step::Forgery | Step::Elsewhere | Step::AnotherAccount => when(may(Trouble::Attacks), 3),
            Step::Contradiction => when(may(Trouble::Webhooks), 2),
            Step::Resume => when(is_idle && self.has_abandoned, 8),
            Step::Flood => when(may(Trouble::Attacks) && is_idle, 1),
        }
    }

    pub(crate) fn trouble(&mut self, what: &'static str) {
        self.plan.troubles = self.plan.troubles.saturating_sub(1);
        self.count(what);
    }

    async fn next_request(&mut self) -> bool {
        let Some(left) = self.plan.requests.checked_sub(1) else { return false };
        self.plan.requests = left;
        self.person_acts().await;
        true
    }

    /// The ordinary next thing among what is under way. Returns whether there was any.
    pub(crate) async fn progress(&mut self) -> bool {
        let now = self.time.elapsed();
        let timer = self.time.next_timer(|sandbox| self.runs(sandbox));
        if timer.is_some_and(|(_, at)| at <= now) {
            self.fire_next_timer();
        } else if let Some(position) = self.ready_calls().first() {
            self.serve(*position).await;
        } else if timer.is_some() {
            self.fire_next_timer();
        } else if let Some(until) =
            self.sandboxes.iter().flatten().filter_map(|sandbox| sandbox.frozen_until).min()
        {
            self.pass(until.saturating_sub(now));
        } else if self.announce().await {
        } else if self.take_reconcile_due() {
            self.reconcile().await;
        } else {
            return false;
        }
        true
    }

    /// The positions of the calls that can get a response: those of sandboxes that run.
    fn ready_calls(&self) -> Vec<usize> {
        let is_ready = |held: &Held| match held.call.sender {
            Sender::Circle => true,
            Sender::Sandbox(sandbox) => self.sandboxes[sandbox].is_none() || self.runs(sandbox),
        };
        self.held
            .iter()
            .enumerate()
            .filter(|(_, held)| is_ready(held))
            .map(|(position, _)| position)
            .collect()
    }

    fn fire_next_timer(&mut self) {
        let Some((number, at)) = self.time.next_timer(|sandbox| self.runs(sandbox)) else { return };
        let wait = at.saturating_sub(self.time.elapsed());
        if !wait.is_zero() {
            self.pass(wait);
        }
        if let Some(sandbox) = self.time.fire(number) {
            self.log(format!("{} wakes", self.name_of(sandbox)));
        }
    }

    /// Responds to a call as its service does.
    async fn serve(&mut self, position: usize) {
        let Held { number, call } = self.held.remove(position);
        if call.sender == Sender::Circle {
            return self.deliver(number, call).await;
        }
        if call.has_no_receiver() && !self.choices.chance(50) {
            return self.log(format!("call {number} never arrived"));
        }
        let response = self.perform(&call).await;
        self.log(format!("call {number} gets {}", response.status().as_u16()));
        match response.status() {
            StatusCode::OK => self.note_response(&call),
            StatusCode::TOO_MANY_REQUESTS => {
                self.count("Circle's own 429");
                self.disturb(call.sender, false);
            }
            // The user has got another session meanwhile.
            StatusCode::UNAUTHORIZED if self.plan.new_token_ends_old && self.has_user_token(&call) => {
                self.disturb(call.sender, false);
            }
            _ => {}
        }
        call.respond(response);
    }

    /// Whether a call has Circle's API key and a user token.
    fn has_user_token(&self, call: &Call) -> bool {
        let header = |name: &str| call.head.headers.get(name).and_then(|value| value.to_str().ok());
        let api_key = format!("Bearer {}", self.circle.api_key());
        header("authorization") == Some(&api_key) && header("x-user-token").is_some()
    }

    /// Circle's webhook arrives at the function.
    pub(crate) async fn deliver(&mut self, number: u64, call: Call) {
        if call.head.method != http::Method::POST {
            return call.respond_with(200, "application/json", "");
        }
        self.log(format!("webhook {number} arrives: {}", webhook_text(&call.body)));
        let event = self.event_of(&call);
        let body = call.body.to_vec();
        self.invoke(Function::ReceiveWebhook, event, Purpose::Webhook { call: Some(Box::new(call)), body })
            .await;
    }

    pub(crate) fn event_of(&self, call: &Call) -> Value {
        let headers = call
            .head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), json!(value.to_str().ok()?))));
        let body = String::from_utf8_lossy(&call.body);
        webhook_event(&Value::Object(headers.collect()), &body, self.random.uuid())
    }

    /// The first call that can fail.
    fn failable(&self) -> Option<usize> {
        let ready = self.ready_calls();
        ready.into_iter().find(|position| {
            let call = &self.held[*position].call;
            let troubles: &[Trouble] = match (call.sender, call.service()) {
                (Sender::Circle, _) => &[Trouble::Webhooks],
                (_, Service::Circle) => {
                    &[Trouble::CircleErrors, Trouble::CircleConnections, Trouble::CircleGarbage]
                }
                (_, Service::DynamoDb) => &[Trouble::DynamoDb],
                (_, Service::SecretsManager) => &[Trouble::Secrets],
                (_, Service::EventBus) => &[Trouble::Bus],
            };
            !call.has_no_receiver() && troubles.iter().any(|trouble| self.plan.allows(*trouble))
        })
    }

    async fn call_fails(&mut self) {
        let Some(position) = self.failable() else { return };
        // Some errors last until a client stops retrying.
        self.outage = match self.outage {
            0 => [0, 5][usize::from(self.choices.chance(15))],
            left => left - 1,
        };
        let Held { number, call } = self.held.remove(position);
        match (call.sender, call.service()) {
            (Sender::Circle, _) => self.webhook_fails(number, call).await,
            (_, Service::Circle) => self.circle_fails(number, call).await,
            (_, Service::DynamoDb) => self.dynamodb_fails(number, call).await,
            (_, Service::SecretsManager) => self.secrets_fail(number, call),
            (_, Service::EventBus) => self.bus_fails(number, call).await,
        }
    }

    pub(crate) async fn reconcile(&mut self) {
        if self.invocations.iter().any(|invocation| matches!(invocation.purpose, Purpose::Reconcile)) {
            self.count("runs of reconciliation overlapped");
        }
        self.invoke(Function::ReconcileChallenges, json!({}), Purpose::Reconcile).await;
    }

    /// An operator resumes what was abandoned.
    pub(crate) async fn resume(&mut self) {
        let records = self.records();
        let abandoned: Vec<Uuid> = records
            .iter()
            .filter(|(_, record)| record.get("abandonedAt").is_some())
            .map(|(id, _)| *id)
            .collect();
        if abandoned.is_empty() {
            return;
        }
        self.count("challenges resumed");
        self.log(format!("an operator resumes {} challenges", abandoned.len()));
        self.invoke(Function::ReconcileChallenges, json!({ "challengeIds": abandoned }), Purpose::Resume)
            .await;
    }

    /// Lambda passes the next changes to the function that announces them, unless it is busy. Returns whether there are any.
    async fn announce(&mut self) -> bool {
        if self.invocations.iter().any(|invocation| matches!(invocation.purpose, Purpose::Announce(_))) {
            return false;
        }
        let limit = 10 - self.choices.below(10);
        let batch = self.stream.read(limit).expect("the stream can be read");
        if batch.records.len() == limit {
            self.count("batch of the stream split");
        }
        if batch.records.is_empty() {
            return false;
        }
        self.log(format!("{} changes are passed on", batch.records.len()));
        let event = json!({ "Records": batch.records });
        self.invoke(Function::AnnounceChallenges, event, Purpose::Announce(batch)).await;
        true
    }

    /// An invocation has ended.
    pub(crate) async fn ended(&mut self, invocation: Invocation, outcome: Outcome) {
        self.log(format!("invocation {} {outcome}", invocation.number));
        self.check_outcome(&invocation, &outcome);
        let Invocation { purpose, began_at, .. } = invocation;
        let now = self.time.elapsed();
        match (purpose, outcome) {
            (Purpose::Person { person, request }, Outcome::Response(status, body)) => {
                self.person_got(person, &request, status, &body, now - began_at)
            }
            (Purpose::Webhook { call, body }, Outcome::Response(status, _)) => {
                self.check_webhook(&body, status);
                if let Some(call) = call {
                    call.respond_with(status, "application/json", "{}");
                }
            }
            (Purpose::Announce(batch), Outcome::Output(Ok(response))) => {
                if self.plan.allows(Trouble::Bus) && self.choices.chance(10) {
                    self.trouble("batch of the stream repeated");
                    return self.log("the batch will be repeated");
                }
                if let Err(error) = self.stream.respond(batch, &response) {
                    self.violation(format!("the response of announce-challenges: {error}"));
                }
            }
            _ => {}
        }
    }
}

fn webhook_text(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let notification = &body["notification"];
    let status = notification.get("status").or(notification.get("state"));
    format!("{} {}", notification["id"], status.unwrap_or(&Value::Null))
}
