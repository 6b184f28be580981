//! What others do: other apps on the same Circle account, other accounts, forgers, and Circle against its own guide.

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::invocations::Purpose;
use crate::sandbox::Function;
use crate::world::World;

impl World {
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

    /// Somebody posts a webhook that Circle did not send.
    pub(crate) async fn forge(&mut self) {
        let open = self.open_at_circle();
        let target = open.first().map_or_else(|| self.random.uuid(), |challenge| challenge.id);
        let body = self.complete_message(target);
        let other = self.complete_message(self.random.uuid());
        let (key, signature) = match self.choices.below(4) {
            // Circle's signature of another message.
            0 => self.circle.sign(b"{}"),
            3 => self.circle.sign(other.as_bytes()),
            1 => (self.circle.sign(b"{}").0, "MEUCIQ==".to_owned()),
            _ => (self.random.uuid(), self.circle.sign(body.as_bytes()).1),
        };
        self.log(format!("a forged webhook says COMPLETE of {target}"));
        self.post_webhook(key, &signature, &body, Purpose::Forgery).await;
    }

    /// Another Circle account has subscribed our endpoint, too. Its webhooks are Circle's.
    pub(crate) async fn send_from_another_account(&mut self) {
        let target = self.random.uuid();
        let body = self.complete_message(target);
        let (key, signature) = self.circle.sign(body.as_bytes());
        self.history.entry(target).or_default().insert("COMPLETE");
        self.log(format!("a webhook of another Circle account says COMPLETE of {target}"));
        let purpose = Purpose::Webhook { call: None, body: body.clone().into_bytes() };
        self.post_webhook(key, &signature, &body, purpose).await;
    }

    /// Circle says COMPLETE of a challenge after it said that it has failed, against its own guide.
    pub(crate) async fn contradict(&mut self) {
        let challenges = self.circle.challenges();
        let failed = challenges.iter().find(|challenge| matches!(challenge.status, "FAILED" | "EXPIRED"));
        let Some(target) = failed.map(|challenge| challenge.id) else { return };
        self.trouble("COMPLETE after a failure");
        let body = self.complete_message(target);
        let (key, signature) = self.circle.sign(body.as_bytes());
        self.history.entry(target).or_default().insert("COMPLETE");
        self.contradicted.insert(target);
        self.log(format!("Circle says COMPLETE of {target}, which failed"));
        let purpose = Purpose::Webhook { call: None, body: body.clone().into_bytes() };
        self.post_webhook(key, &signature, &body, purpose).await;
    }

    fn complete_message(&self, challenge: Uuid) -> String {
        let notification = json!({
            "id": challenge, "userId": "user-1", "type": "CHANGE_PIN", "status": "COMPLETE", "errorCode": 0,
        });
        let message = json!({
            "subscriptionId": Uuid::nil(),
            "notificationId": self.random.uuid(),
            "notificationType": "challenges.changePin",
            "notification": notification,
            "version": 2,
        });
        message.to_string()
    }

    async fn post_webhook(&mut self, key: Uuid, signature: &str, body: &str, purpose: Purpose) {
        let headers = json!({
            "x-circle-key-id": key, "x-circle-signature": signature, "content-type": "application/json",
        });
        let event = webhook_event(&headers, body, self.random.uuid());
        self.invoke(Function::ReceiveWebhook, event, purpose).await;
    }
}

/// API Gateway's event of a webhook.
pub(crate) fn webhook_event(headers: &Value, body: &str, request_id: Uuid) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "POST /webhooks/circle",
        "rawPath": "/webhooks/circle",
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "requestId": request_id,
            "routeKey": "POST /webhooks/circle",
            "http": { "method": "POST", "path": "/webhooks/circle", "sourceIp": "127.0.0.1" },
        },
        "body": body,
        "isBase64Encoded": false,
    })
}
