//! Invocations of the functions, in sandboxes.

use std::time::Duration;

use local::invocation;
use local::stream::Batch;
use serde_json::Value;
use shared::random::Random;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::network::{Call, Sender};
use crate::sandbox::{Function, Outcome, Sandbox};
use crate::world::World;

/// An invocation that has not ended yet.
pub(crate) struct Invocation {
    pub(crate) number: u64,
    pub(crate) sandbox: usize,
    pub(crate) purpose: Purpose,
    pub(crate) task: JoinHandle<Outcome>,
    pub(crate) began_at: Duration,
    pub(crate) ends_at: Duration,
    /// Whether something went wrong that explains an error.
    pub(crate) is_disturbed: bool,
    /// How often something went wrong that one more attempt repairs.
    faults: u32,
    /// When the request sent the write that counts it.
    pub(crate) admitted_at: Option<Duration>,
    /// Whether it made a call to Circle about the user.
    pub(crate) called_circle: bool,
}

/// Why a function was invoked.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// A person's request.
    Person {
        person: usize,
        request: Request,
    },
    /// Circle sent a webhook. It waits for the response, unless this is a copy.
    Webhook {
        call: Option<Box<Call>>,
        body: Vec<u8>,
    },
    /// Somebody else sent a webhook.
    Forgery,
    Reconcile,
    Resume,
    Announce(Batch),
}

/// What a person asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Token,
    Challenge { kind: &'static str, key: Option<Uuid>, is_stale_sign_in: bool },
    Get { id: Uuid },
    List,
    Pin,
}

impl World {
    /// Invokes a function, in a process that waits or in a new one.
    pub(crate) async fn invoke(&mut self, function: Function, event: Value, purpose: Purpose) {
        let is_idle = |sandbox: &Option<Sandbox>| {
            let sandbox = sandbox.as_ref();
            sandbox.is_some_and(|sandbox| {
                sandbox.function == function && !sandbox.is_busy && sandbox.frozen_until.is_none()
            })
        };
        let idle = self.sandboxes.iter().position(is_idle);
        let number = match idle {
            Some(number) if !self.choices.chance(5) => number,
            _ => self.start_sandbox(function).await,
        };
        let mut context = invocation::context(self.time.now() + function.limit());
        context.request_id = self.random.uuid().to_string();
        let sandbox = self.sandboxes[number].as_mut().expect("it runs");
        sandbox.is_busy = true;
        let task = sandbox.invoke(event, context);
        let invocation = self.next_invocation;
        self.next_invocation += 1;
        self.log(format!("invocation {invocation} of {} begins", self.name_of(number)));
        let now = self.time.elapsed();
        let ends_at = now + function.limit();
        self.invocations.push(Invocation {
            number: invocation,
            sandbox: number,
            purpose,
            task,
            began_at: now,
            ends_at,
            is_disturbed: false,
            faults: 0,
            admitted_at: None,
            called_circle: false,
        });
    }

    async fn start_sandbox(&mut self, function: Function) -> usize {
        let number = self.sandboxes.len();
        let listen = async || self.network.listen(Sender::Sandbox(number)).await;
        let ports = [listen().await, listen().await].map(|port| port.expect("loopback has a free port"));
        let random = Random::from_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let clock = self.time.of_sandbox(number);
        self.sandboxes.push(Some(Sandbox::start(function, ports, clock, random, self.plan.warms_up)));
        number
    }

    /// Ends an invocation and its process.
    pub(crate) fn kill(&mut self, position: usize) {
        let invocation = self.invocations.remove(position);
        self.log(format!(
            "invocation {} of {} is killed",
            invocation.number,
            self.name_of(invocation.sandbox)
        ));
        invocation.task.abort();
        self.sandboxes[invocation.sandbox] = None;
        if let Purpose::Webhook { call: Some(call), .. } = invocation.purpose {
            call.respond_with(500, "application/json", r#"{"message":"Internal Server Error"}"#);
        }
    }

    /// Notes that something goes wrong for a sender. It explains an error of the invocation unless one more attempt repairs
    /// it. Two such things explain one, too.
    pub(crate) fn disturb(&mut self, sender: Sender, is_repairable: bool) {
        let is_senders = |invocation: &&mut Invocation| Sender::Sandbox(invocation.sandbox) == sender;
        for invocation in self.invocations.iter_mut().filter(is_senders) {
            invocation.faults += 1;
            invocation.is_disturbed |= !is_repairable || invocation.faults > 1;
        }
    }
}
