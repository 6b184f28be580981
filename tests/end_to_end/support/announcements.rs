//! The events that were published, and the function that publishes them.

use std::time::Duration;

use announce_challenges::{AnnounceChallenges, handle};
use lambda_http::LambdaEvent;
use local::invocation;
use serde_json::{Value, json};
use shared::clock::Clock;
use uuid::Uuid;

use super::{App, in_time, text};

pub(crate) const CHANGE_REQUESTED: &str = "PIN Change Requested";
pub(crate) const RECOVERY_REQUESTED: &str = "PIN Recovery Requested";
pub(crate) const SETTLED: &str = "PIN Challenge Settled";

impl App {
    /// The events of everything that has happened so far.
    pub(crate) async fn events(&self) -> Vec<Value> {
        in_time(self.stack.event_bus.events()).await
    }

    /// What was announced about a challenge so far: the detail-type of each event, and the status if it has one.
    pub(crate) async fn announced(&self, id: Uuid) -> Vec<String> {
        let events =
            self.events().await.into_iter().filter(|event| event["detail"]["challengeId"] == json!(id));
        let described = events.map(|event| match event["detail"]["status"].as_str() {
            Some(status) => format!("{} {status}", text(&event, "detail-type")),
            None => text(&event, "detail-type").to_owned(),
        });
        described.collect()
    }

    /// The records on the queue of records that cannot be read.
    pub(crate) async fn unreadable_records(&self) -> Vec<Value> {
        in_time(self.stack.event_bus.unreadable_records()).await
    }

    /// Invokes a further process of `announce-challenges`, for which Lambda has so much time. Returns its response or its
    /// error.
    pub(crate) async fn announce(&self, event: Value, limit: Duration) -> Result<Value, String> {
        let function = AnnounceChallenges::new(&self.stack.platform).unwrap();
        let context = invocation::context(self.clock.now() + limit);
        let response = in_time(handle(&function, LambdaEvent::new(event, context))).await;
        response.map(|response| json!(response)).map_err(|error| error.to_string())
    }
}
