//! What the functions call: it takes effect here, and calls that must never be made are found.

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::network::{Call, Sender, Service, response};
use crate::sandbox::Function;
use crate::world::{Purpose, Request, World};

impl World {
    /// Passes a call on to its service. The call takes effect.
    pub(crate) async fn perform(&mut self, call: &Call) -> Response<Full<Bytes>> {
        let url = match call.service() {
            Service::Circle => self.circle.url(),
            Service::DynamoDb => self.dynamodb_url.clone(),
            Service::SecretsManager => self.secrets.url().to_owned(),
            Service::EventBus => self.bus.url().to_owned(),
        };
        self.check_call(call);
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
        let path = call.head.uri.path();
        let open: Vec<Uuid> = self.records().into_keys().collect();
        let now = self.time.elapsed();
        // A check that fails at its session is about each of the user's challenges.
        let about =
            open.into_iter().filter(|id| path == "/v1/w3s/users/token" || path.ends_with(&id.to_string()));
        self.last_word.extend(about.map(|id| (id, now)));
    }

    /// Notes what statuses Circle's challenges have now.
    pub(crate) fn note_statuses(&mut self) {
        for view in self.circle.challenges() {
            self.history.entry(view.id).or_default().insert(view.status);
        }
    }

    /// Looks for calls that must never be made, and notes those that a limit is about.
    fn check_call(&mut self, call: &Call) {
        let Sender::Sandbox(sandbox) = call.sender else { return };
        let (name, now) = (call.name(), self.time.elapsed());
        let function = self.sandboxes[sandbox].as_ref().map(|sandbox| sandbox.function);
        if name == "GetSecretValue" {
            let (reads, last) = self.key_reads.entry(sandbox).or_default();
            (*reads, *last) = (*reads + 1, now);
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
        if name == "UpdateItem rate-limits" {
            invocation.admitted_at.get_or_insert(now);
        }
        let is_first = call.service() == Service::Circle
            && call.head.uri.path().starts_with("/v1/w3s/")
            && !std::mem::replace(&mut invocation.called_circle, true);
        if is_first {
            let admitted_at = invocation.admitted_at.unwrap_or(now);
            self.reached.entry(person).or_default().push(admitted_at);
        }
    }

    /// Another app on the same Circle account creates a challenge.
    pub(crate) async fn create_elsewhere(&mut self, person: usize) {
        let user = self.people[person].id.clone();
        let (key, call) = (self.random.uuid(), self.random.uuid());
        let api_key = format!("Bearer {}", self.circle.api_key());
        let post = |method: Method, path: &str, body: Value| {
            let request = self.http.request(method, format!("{}{path}", self.circle.url()));
            request
                .header("Authorization", &api_key)
                .header("X-Request-Id", call.to_string())
                .header("Content-Type", "application/json")
                .body(body.to_string())
        };
        let session = post(Method::POST, "/v1/w3s/users/token", json!({ "userId": user })).send().await;
        let session: Value =
            serde_json::from_slice(&session.expect("Circle responds").bytes().await.expect("it is complete"))
                .unwrap_or_default();
        let token = session["data"]["userToken"].as_str().unwrap_or_default();
        let created = post(Method::PUT, "/v1/w3s/user/pin", json!({ "idempotencyKey": key }))
            .header("X-User-Token", token)
            .send()
            .await;
        let status = created.expect("Circle responds").status();
        self.note_statuses();
        self.log(format!("another app asks for a challenge of {user}: {status}"));
    }
}
