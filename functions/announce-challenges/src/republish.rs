//! The operator's command: publishes the events of challenges again, as their records are now.

use serde::Serialize;
use shared::challenge::Challenge;
use shared::clock::Deadline;
use shared::dynamodb::StoreError;
use shared::telemetry::Chain;
use uuid::Uuid;

use crate::event;
use crate::{AnnounceChallenges, bus::Bus};

/// The event is neither a batch of the stream nor a command: it has no `Records` and no `challengeIds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(r#"the event is neither a batch of a DynamoDB stream nor {{"challengeIds": ["..."]}}"#)]
pub(crate) struct UnknownEvent;

/// What was published about a challenge.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Republished {
    challenge_id: Uuid,
    /// The detail-types of the events that were published.
    published: Vec<&'static str>,
    /// Why some or all events were not published.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Publishes the events of challenges again, one challenge after the other.
pub(crate) async fn republish(
    function: &AnnounceChallenges,
    ids: Vec<Uuid>,
    deadline: Deadline,
) -> Vec<Republished> {
    let mut challenges = Vec::with_capacity(ids.len());
    for id in ids {
        challenges.push(republish_one(function, id, deadline).await);
    }
    challenges
}

async fn republish_one(function: &AnnounceChallenges, id: Uuid, deadline: Deadline) -> Republished {
    let failed = |error: String| Republished { challenge_id: id, published: Vec::new(), error: Some(error) };
    if deadline.remaining(&*function.clock).is_zero() {
        return failed("there was no time left; send this id again".to_owned());
    }
    let events = match function.challenges.get(id).await {
        Ok(record) => record.map_or(Ok(Vec::new()), |record| again(&record)),
        Err(error) => Err(error),
    };
    match events {
        Ok(events) if events.is_empty() => failed("there is no requested challenge with this id".to_owned()),
        Ok(events) => publish(&function.bus, id, &events, deadline).await,
        Err(error) => failed(Chain(&error).to_string()),
    }
}

/// The events of a record, as if it had just been created.
fn again(record: &Challenge) -> Result<Vec<event::Event>, StoreError> {
    let mut events = event::events(None, record)?;
    events.iter_mut().for_each(|event| event.changed_at = None);
    Ok(events)
}

async fn publish(bus: &Bus, challenge_id: Uuid, events: &[event::Event], deadline: Deadline) -> Republished {
    let published = bus.publish(events, deadline).await;
    let is_complete = published.iter().all(|&is_published| is_published);
    let published = events.iter().zip(published).filter(|(_, is_published)| *is_published);
    Republished {
        challenge_id,
        published: published.map(|(event, _)| event.detail_type).collect(),
        error: (!is_complete).then(|| "an event could not be published; the log says why".to_owned()),
    }
}
