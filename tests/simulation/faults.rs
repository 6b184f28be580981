//! What goes wrong with calls and processes.

use std::time::Duration;

use local::event_bus::BusFault;

use crate::invocations::Purpose;
use crate::network::Call;
use crate::plan::Trouble;
use crate::sandbox::Function;
use crate::steps::SECOND;
use crate::world::{Held, World};

impl World {
    pub(crate) async fn webhook_fails(&mut self, number: u64, call: Call) {
        match self.choices.below(5) {
            0 => {
                self.trouble("webhook lost");
                self.log(format!("webhook {number} is lost"));
                call.reset();
            }
            1 => {
                self.trouble("webhook repeated");
                self.log(format!("webhook {number} arrives twice"));
                let (event, body) = (self.event_of(&call), call.body.to_vec());
                self.invoke(Function::ReceiveWebhook, event, Purpose::Webhook { call: None, body }).await;
                self.deliver(number, call).await;
            }
            2 => {
                self.trouble("response to a webhook lost");
                let (event, body) = (self.event_of(&call), call.body.to_vec());
                self.log(format!("webhook {number} arrives, and its response is lost"));
                self.invoke(Function::ReceiveWebhook, event, Purpose::Webhook { call: None, body }).await;
                call.reset();
            }
            3 => {
                self.trouble("webhook lost for ever");
                self.log(format!("webhook {number} is lost for ever, and so is the next one"));
                // Circle believes that it was delivered.
                call.respond_with(200, "application/json", "{}");
                self.circle.set_knobs(|knobs| knobs.lose_webhooks += 1);
            }
            _ if self.invocations.is_empty() => {
                self.trouble("webhook late");
                let by = [20, 600, 7200][self.choices.below(3)] * SECOND;
                self.log(format!("webhook {number} is {} s late", by.as_secs()));
                self.held.push(Held { number, call });
                self.pass(by);
            }
            _ => {
                self.trouble("webhook overtaken");
                self.log(format!("webhook {number} waits until others have arrived"));
                self.held.push(Held { number, call });
            }
        }
    }

    pub(crate) async fn circle_fails(&mut self, number: u64, call: Call) {
        let may = |trouble| u32::from(self.plan.allows(trouble));
        let (errors, connections, garbage) =
            (may(Trouble::CircleErrors), may(Trouble::CircleConnections), may(Trouble::CircleGarbage));
        let weights =
            [3 * errors, 2 * errors, 2 * errors, 2 * errors, 3 * connections, 3 * connections, 2 * garbage];
        let kind = self.choices.weighted(&weights);
        self.disturb(call.sender, matches!(kind, 0 | 1 | 4 | 5));
        match kind {
            0 => {
                let status = [500, 502, 503, 504][self.choices.below(4)];
                self.trouble("Circle: 5xx without effect");
                self.log(format!("call {number} gets {status} without effect"));
                call.respond_with(
                    status,
                    "application/json",
                    r#"{"code":-1,"message":"Something went wrong"}"#,
                );
            }
            1 => {
                self.trouble("Circle: 5xx after the effect");
                self.perform(&call).await;
                self.log(format!("call {number} takes effect and gets 504"));
                call.respond_with(504, "text/html", "<html>504 Gateway Time-out</html>");
            }
            2 => {
                let status = [400, 403, 409][self.choices.below(3)];
                self.trouble("Circle: 4xx");
                self.note_rejection(&call);
                self.log(format!("call {number} gets {status}"));
                call.respond_with(
                    status,
                    "application/json",
                    r#"{"code":2,"message":"API parameter invalid"}"#,
                );
            }
            3 => {
                self.trouble("Circle: 429");
                self.log(format!("call {number} gets 429"));
                call.respond_with(429, "application/json", r#"{"code":429,"message":"Too many requests"}"#);
            }
            4 => {
                self.trouble("Circle: connection reset without effect");
                self.log(format!("call {number} is reset without effect"));
                call.reset();
            }
            5 => {
                self.trouble("Circle: connection reset after the effect");
                self.perform(&call).await;
                self.log(format!("call {number} takes effect and is reset"));
                call.reset();
            }
            _ => {
                self.trouble("Circle: garbage");
                self.perform(&call).await;
                let garbage = [
                    "",
                    "null",
                    "<html></html>",
                    "{",
                    r#"{"data":[]}"#,
                    r#"{"data":{"challenge":{"id":7,"status":null}}}"#,
                ];
                let garbage = garbage[self.choices.below(garbage.len())];
                self.log(format!("call {number} takes effect and gets {garbage:?}"));
                call.respond_with(200, "application/json", garbage);
            }
        }
    }

    pub(crate) async fn dynamodb_fails(&mut self, number: u64, call: Call) {
        const JSON: &str = "application/x-amz-json-1.0";
        const ERROR: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"Internal server error"}"#;
        const THROTTLED: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"Too fast"}"#;
        self.disturb(call.sender, true);
        match self.choices.below(5) {
            0 => {
                self.trouble("DynamoDB: throttled");
                self.log(format!("call {number} is throttled"));
                call.respond_with(400, JSON, THROTTLED);
            }
            1 => {
                self.trouble("DynamoDB: failed before the effect");
                self.log(format!("call {number} gets 500 without effect"));
                call.respond_with(500, JSON, ERROR);
            }
            2 => {
                self.trouble("DynamoDB: failed after the effect");
                self.perform(&call).await;
                self.log(format!("call {number} takes effect and gets 500"));
                call.respond_with(500, JSON, ERROR);
            }
            3 => {
                self.trouble("DynamoDB: connection reset before the effect");
                self.log(format!("call {number} is reset without effect"));
                call.reset();
            }
            _ => {
                self.trouble("DynamoDB: connection reset after the effect");
                self.perform(&call).await;
                self.log(format!("call {number} takes effect and is reset"));
                call.reset();
            }
        }
    }

    pub(crate) fn secrets_fail(&mut self, number: u64, call: Call) {
        self.disturb(call.sender, true);
        self.trouble("Secrets Manager failed");
        self.log(format!("call {number} fails"));
        match self.choices.below(3) {
            0 => call.respond_with(500, "application/x-amz-json-1.1", r#"{"__type":"InternalServiceError"}"#),
            1 => call.respond_with(400, "application/x-amz-json-1.1", r#"{"__type":"ThrottlingException"}"#),
            _ => call.reset(),
        }
    }

    pub(crate) async fn bus_fails(&mut self, number: u64, call: Call) {
        let fault = match self.choices.below(4) {
            0 => BusFault::Unavailable,
            1 => BusFault::ResponseLost,
            2 => BusFault::EntriesFail(vec![0]),
            _ => BusFault::AccessDenied,
        };
        self.disturb(call.sender, matches!(fault, BusFault::Unavailable | BusFault::ResponseLost));
        if matches!(fault, BusFault::EntriesFail(_)) {
            self.count("events accepted in part");
        }
        self.trouble("event bus failed");
        self.log(format!("call {number} meets {fault:?}"));
        self.bus.fail_next([fault]);
        let response = self.perform(&call).await;
        call.respond(response);
    }

    pub(crate) fn freeze(&mut self) {
        self.trouble("process frozen");
        let running: Vec<usize> = (0..self.sandboxes.len()).filter(|sandbox| self.runs(*sandbox)).collect();
        let number = running[self.choices.below(running.len())];
        let lasting = [90, 600, 5][self.choices.below(3)] * SECOND;
        let until = self.time.elapsed() + lasting;
        let stops_clock = self.choices.chance(50);
        self.log(format!(
            "{} is frozen for {} s, its monotonic clock stops: {stops_clock}",
            self.name_of(number),
            lasting.as_secs()
        ));
        for invocation in self.invocations.iter_mut().filter(|invocation| invocation.sandbox == number) {
            invocation.is_disturbed = true;
            // Lambda freezes processes between invocations. This is harsher, so its time limit does not count here.
            invocation.ends_at += lasting;
        }
        if let Some(sandbox) = &mut self.sandboxes[number] {
            sandbox.frozen_until = Some(until);
            sandbox.stopped_for = if stops_clock { lasting } else { Duration::ZERO };
        }
    }
}
