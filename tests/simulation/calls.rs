//! What the functions call: it takes effect here, and calls that must never be made are found.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::Value;

use crate::invocations::{Purpose, Request};
use crate::network::{Call, Sender, Service, response};
use crate::sandbox::Function;
use crate::world::World;

impl World {
    /// Passes a call on to its service. The call takes effect.
    pub(crate) async fn perform(&mut self, call: &Call) -> Response<Full<Bytes>> {
        let url = match call.service() {
            Service::Circle => self.circle.url(),
            Service::DynamoDb => self.dynamodb_url.clone(),
            Service::SecretsManager => self.secrets.url().to_owned(),
            Service::EventBus => self.bus.url().to_owned(),
        };
        if let (Sender::Sandbox(sandbox), "GetSecretValue") = (call.sender, &*call.name()) {
            let (reads, last) = self.key_reads.entry(sandbox).or_default();
            (*reads, *last) = (*reads + 1, self.time.elapsed());
        }
        let path = call.head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = call.head.headers.clone();
        headers.remove(http::header::HOST);
        let request = self.http.request(call.head.method.clone(), format!("{url}{path}")).headers(headers);
        let performed = request.body(call.body.clone()).send().await.expect("the service responds");
        let (status, headers) = (performed.status(), performed.headers().clone());
        let body = performed.bytes().await.expect("the response is complete");
        self.note_statuses();
        if call.service() == Service::DynamoDb {
            self.check_changes();
        }
        response(status, headers, body)
    }

    /// Notes that a response of Circle's has reached a function.
    pub(crate) fn note_response(&mut self, call: &Call) {
        let id = call.head.uri.path().strip_prefix("/v1/w3s/user/challenges/");
        let asked = id.and_then(|id| id.parse().ok()).and_then(|id| self.circle.challenge(id).ok());
        if let Some(view) = asked {
            self.last_response.insert(view.id, view.status);
            self.last_word.insert(view.id, self.time.elapsed());
        }
    }

    /// Notes that Circle rejects a call: that is word from Circle, too.
    pub(crate) fn note_rejection(&mut self, call: &Call) {
        let Sender::Sandbox(sandbox) = call.sender else { return };
        let function = self.sandboxes[sandbox].as_ref().map(|sandbox| sandbox.function);
        let (path, now) = (call.head.uri.path(), self.time.elapsed());
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        // A check that fails at its session is about each of the user's challenges.
        let is_session = path == "/v1/w3s/users/token" && function == Some(Function::ReconcileChallenges);
        let records = self.records().into_iter();
        let about = records.filter(|(id, record)| {
            (is_session && record["userId"] == body["userId"]) || path.ends_with(&id.to_string())
        });
        self.last_word.extend(about.map(|(id, _)| (id, now)));
    }

    /// Notes what statuses Circle's challenges have now.
    pub(crate) fn note_statuses(&mut self) {
        for view in self.circle.challenges() {
            self.history.entry(view.id).or_default().insert(view.status);
        }
    }

    /// Looks for calls that must never be made, and notes those that a limit is about.
    pub(crate) fn check_call(&mut self, call: &Call) {
        let Sender::Sandbox(sandbox) = call.sender else { return };
        let (name, now) = (call.name(), self.time.elapsed());
        let function = self.sandboxes[sandbox].as_ref().map(|sandbox| sandbox.function);
        if name.starts_with("GET /v2/notifications/publicKey/") {
            self.key_fetches.entry(sandbox).or_default().push(now);
        }
        if name == "SendMessage" {
            self.violation("a change could not be read".to_owned());
        }
        if name == "POST /v1/w3s/users/token" && function == Some(Function::GetChallenge) {
            self.violation("get-challenge asked for a session".to_owned());
        }
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let key = body["idempotencyKey"].as_str().unwrap_or_default();
        if self.callers_keys.contains(key) {
            self.violation(format!("Circle was given the app's own key {key}"));
        }
        let invocation = self.invocations.iter_mut().find(|invocation| invocation.sandbox == sandbox);
        let Some(invocation) = invocation else { return };
        let Purpose::Person { person, request: Request::Token | Request::Challenge { .. } | Request::Pin } =
            invocation.purpose
        else {
            return;
        };
        if name == "UpdateItem rate-limits" && body["UpdateExpression"].to_string().contains("callsTat") {
            invocation.admitted_at.get_or_insert(now);
        }
        let is_first = call.service() == Service::Circle
            && call.head.uri.path().starts_with("/v1/w3s/")
            && !std::mem::replace(&mut invocation.called_circle, true);
        if !is_first {
            return;
        }
        match invocation.admitted_at {
            Some(admitted_at) => self.reached.entry(person).or_default().push(admitted_at),
            None => self.violation(format!("{name} reached Circle before the user's limit")),
        }
    }
}
