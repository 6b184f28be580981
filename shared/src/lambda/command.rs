//! Operators' commands: events that name challenges.

use serde_json::Value;
use uuid::Uuid;

/// The most challenges in one command.
const MAX_CHALLENGES: usize = 100;

/// `challengeIds` is not a list of ids, or it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("challengeIds must be a list of 1 to {MAX_CHALLENGES} UUIDs")]
pub struct InvalidChallengeIds;

/// The ids of a command, `{"challengeIds": ["..."]}`. `None` if the event is not such a command.
pub fn challenge_ids(event: &Value) -> Option<Result<Vec<Uuid>, InvalidChallengeIds>> {
    let ids = event.get("challengeIds")?.as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Option<Vec<Uuid>> = ids.iter().map(|id| id.as_str()?.parse().ok()).collect();
    Some(ids.filter(|ids| (1..=MAX_CHALLENGES).contains(&ids.len())).ok_or(InvalidChallengeIds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn command_has_a_list_of_ids() {
        let id = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";
        let ids = |count: usize| challenge_ids(&json!({ "challengeIds": vec![id; count] }));
        assert_eq!(ids(1), Some(Ok(vec![id.parse().unwrap()])));
        assert_eq!(ids(100).unwrap().unwrap().len(), 100);
        assert_eq!((ids(0), ids(101)), (Some(Err(InvalidChallengeIds)), Some(Err(InvalidChallengeIds))));
        for bad in [json!(id), json!([1]), json!([id, "no UUID"]), json!(null), json!({})] {
            assert_eq!(challenge_ids(&json!({ "challengeIds": bad })), Some(Err(InvalidChallengeIds)));
        }
        assert_eq!(InvalidChallengeIds.to_string(), "challengeIds must be a list of 1 to 100 UUIDs");
        for foreign in [json!({}), json!(null), json!([]), json!({ "challengeId": id })] {
            assert_eq!(challenge_ids(&foreign), None);
        }
    }
}
