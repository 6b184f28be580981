//! The operator's command: publishes the events of challenges again, as their records are now.

use serde::Serialize;
use serde_json::Value;
use shared::challenge::Challenge;
use shared::clock::Deadline;
use shared::dynamodb::StoreError;
use shared::telemetry::Chain;
use uuid::Uuid;

use crate::event;
use crate::{AnnounceChallenges, bus::Bus};

/// The most challenges in one command.
const MAX_CHALLENGES: usize = 100;

/// The event is neither a batch of the stream nor a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// It has no `Records` and no `challengeIds`.
    #[error(r#"the event is neither a batch of a DynamoDB stream nor {{"challengeIds": ["..."]}}"#)]
    UnknownEvent,
    /// `challengeIds` is not a list of ids, or it is too long.
    #[error("challengeIds must be a list of 1 to {MAX_CHALLENGES} UUIDs")]
    ChallengeIds,
}

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

/// Reads the ids of a command.
pub(crate) fn challenge_ids(command: &Value) -> Result<Vec<Uuid>, CommandError> {
    let ids = command.get("challengeIds").ok_or(CommandError::UnknownEvent)?;
    let ids = ids.as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Option<Vec<Uuid>> = ids.iter().map(|id| id.as_str()?.parse().ok()).collect();
    ids.filter(|ids| (1..=MAX_CHALLENGES).contains(&ids.len())).ok_or(CommandError::ChallengeIds)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn command_has_a_list_of_ids() {
        let id = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";
        let ids = |count: usize| challenge_ids(&json!({ "challengeIds": vec![id; count] }));
        assert_eq!(ids(1), Ok(vec![id.parse().unwrap()]));
        assert_eq!(ids(100).unwrap().len(), 100);
        assert_eq!((ids(0), ids(101)), (Err(CommandError::ChallengeIds), Err(CommandError::ChallengeIds)));
        for bad in [json!(id), json!([1]), json!([id, "no UUID"]), json!(null), json!({})] {
            assert_eq!(challenge_ids(&json!({ "challengeIds": bad })), Err(CommandError::ChallengeIds));
        }
        assert_eq!(CommandError::ChallengeIds.to_string(), "challengeIds must be a list of 1 to 100 UUIDs");
        for foreign in [json!({}), json!(null), json!([]), json!({ "challengeId": id })] {
            let error = challenge_ids(&foreign).unwrap_err().to_string();
            assert_eq!(
                error,
                r#"the event is neither a batch of a DynamoDB stream nor {"challengeIds": ["..."]}"#
            );
        }
    }
}
