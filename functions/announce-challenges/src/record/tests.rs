use std::iter;

use serde_json::json;
use time::macros::datetime;

use super::*;

const ID: &str = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5";

/// The statuses in which a record can be, with Circle's code and the reason in the event.
const STATUSES: [(&str, Option<i64>, Option<&str>); 7] = [
    ("PENDING", None, None),
    ("IN_PROGRESS", None, None),
    ("SOMETHING_NEW", None, None),
    ("FAILED", Some(155_112), Some("incorrect_pin")),
    ("FAILED", None, Some("other")),
    ("EXPIRED", None, Some("expired")),
    ("COMPLETE", None, None),
];

/// A state of a record: whether it was requested, and which of the statuses it has.
#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    requested: bool,
    status: usize,
}

impl State {
    fn all() -> impl Iterator<Item = Self> {
        [false, true]
            .into_iter()
            .flat_map(|requested| (0..STATUSES.len()).map(move |status| Self { requested, status }))
    }

    fn name(self) -> &'static str {
        STATUSES[self.status].0
    }

    /// The image of the record, with the attributes that the events use and some that they do not.
    fn image(self, challenge_type: &str) -> Value {
        let (status, code, _) = STATUSES[self.status];
        let mut image = json!({
            "challengeId": { "S": ID },
            "userId": { "S": "user \"1\"" },
            "type": { "S": challenge_type },
            "status": { "S": status },
            "rank": { "N": "9" },
            "createdAt": { "S": "2026-01-01T12:00:00.123Z" },
            "updatedAt": { "S": "2026-01-01T12:01:30.5Z" },
            "checkedAt": { "S": "2026-01-01T12:01:31Z" },
            "correlationIds": { "L": [{ "S": "a" }] },
            "notFoundAt": { "NS": ["1"] },
        });
        if self.requested {
            image["requestedAt"] = json!({ "S": "2026-01-01T12:00:00Z" });
        }
        if let Some(code) = code {
            image["circleCode"] = json!({ "N": code.to_string() });
        }
        image
    }
}

fn record(name: &str, old: Option<Value>, new: Option<Value>) -> Value {
    let mut change = json!({ "Keys": { "challengeId": { "S": ID } }, "SequenceNumber": "111" });
    if let Some(old) = old {
        change["OldImage"] = old;
    }
    if let Some(new) = new {
        change["NewImage"] = new;
    }
    json!({ "eventID": "1", "eventName": name, "eventSource": "aws:dynamodb", "dynamodb": change })
}

/// The rule in plain words, as detail-types: a request is announced when the record first says that there is one; a final
/// status is announced when a requested record first has it, which it may have had before the request; a complete
/// challenge is announced even if it had failed or expired.
fn expected(old: Option<State>, new: State, challenge_type: &str) -> Vec<&'static str> {
    let mut expected = Vec::new();
    if !new.requested {
        return expected;
    }
    let is_new = old.is_none_or(|old| !old.requested);
    if is_new {
        expected.push(match challenge_type {
            "CHANGE_PIN" => "PIN Change Requested",
            _ => "PIN Recovery Requested",
        });
    }
    let is_open = |name: &str| !["FAILED", "EXPIRED", "COMPLETE"].contains(&name);
    let was_open = is_new || old.is_some_and(|old| is_open(old.name()));
    let is_complete_after_all = !is_new
        && new.name() == "COMPLETE"
        && old.is_some_and(|old| ["FAILED", "EXPIRED"].contains(&old.name()));
    if (was_open && !is_open(new.name())) || is_complete_after_all {
        expected.push("PIN Challenge Settled");
    }
    expected
}

fn detail(state: State, challenge_type: &str, detail_type: &str) -> Value {
    let (status, code, reason) = STATUSES[state.status];
    if detail_type == "PIN Challenge Settled" {
        json!({
            "version": 1, "challengeId": ID, "userId": "user \"1\"", "type": challenge_type,
            "status": status, "reason": reason, "circleCode": code, "updatedAt": "2026-01-01T12:01:30.5Z",
        })
    } else {
        json!({
            "version": 1, "challengeId": ID, "userId": "user \"1\"", "type": challenge_type,
            "requestedAt": "2026-01-01T12:00:00Z",
        })
    }
}

#[test]
fn every_change_of_a_record_causes_the_events_of_the_rule() {
    let (mut changes, mut announced) = (0, 0);
    for challenge_type in ["CHANGE_PIN", "RESTORE_PIN"] {
        for new in State::all() {
            for old in State::all().map(Some).chain(iter::once(None)) {
                let name = if old.is_some() { "MODIFY" } else { "INSERT" };
                let images = (old.map(|old| old.image(challenge_type)), Some(new.image(challenge_type)));
                let events = events(&record(name, images.0, images.1)).unwrap();
                let detail_types: Vec<_> = events.iter().map(|event| event.detail_type).collect();
                assert_eq!(
                    detail_types,
                    expected(old, new, challenge_type),
                    "{challenge_type} {old:?} {new:?}"
                );
                for event in &events {
                    let found: Value = serde_json::from_str(&event.detail).unwrap();
                    assert_eq!(found, detail(new, challenge_type, event.detail_type));
                    assert_eq!(event.challenge_id.to_string(), ID);
                    assert!(event.detail.len() < 1024);
                }
                changes += 1;
                announced += events.len();
            }
            let removed = record("REMOVE", Some(new.image(challenge_type)), None);
            assert_eq!(events(&removed).unwrap(), [], "{new:?}");
        }
    }
    assert_eq!((changes, announced), (2 * 14 * 15, 2 * (7 * 8 + 4 * (8 + 3) + 3)));
}

#[test]
fn delay_of_an_event_starts_when_the_record_becomes_one_of_this_service() {
    let state = State { requested: true, status: 6 };
    let changed_at = |requested_at: &str| -> Vec<_> {
        let mut image = state.image("CHANGE_PIN");
        image["requestedAt"] = json!({ "S": requested_at });
        let events = events(&record("INSERT", None, Some(image))).unwrap();
        events.into_iter().map(|event| event.changed_at.unwrap()).collect()
    };
    let (settled_at, an_hour_later) = (datetime!(2026-01-01 12:01:30.5 UTC), datetime!(2026-01-01 13:00 UTC));
    assert_eq!(changed_at("2026-01-01T12:00:00Z"), [settled_at; 2]);
    assert_eq!(changed_at("2026-01-01T13:00:00Z"), [an_hour_later; 2], "the webhook came before the request");
}

#[test]
fn record_of_another_app_causes_no_events_whatever_it_holds() {
    let unrequested = |image: Value| events(&record("MODIFY", Some(image.clone()), Some(image)));
    assert_eq!(unrequested(json!({})).unwrap(), []);
    assert_eq!(unrequested(json!({ "type": { "S": "SET_PIN" }, "status": { "N": "1" } })).unwrap(), []);
}

#[test]
fn unreadable_attribute_or_member_is_named_by_the_error() {
    let state = State { requested: true, status: 6 };
    let error = |record: Value| events(&record).unwrap_err().to_string();
    let inserted = |attribute: &str, value: Value| {
        let mut image = state.image("CHANGE_PIN");
        image[attribute] = value;
        record("INSERT", None, Some(image))
    };
    for (attribute, values) in [
        ("challengeId", [json!({ "S": "no UUID" }), json!({ "N": "1" }), json!("c4d1da72")]),
        ("userId", [json!({ "S": "1234" }), json!({ "NULL": true }), json!(null)]),
        ("type", [json!({ "S": "SET_PIN" }), json!({ "S": "" }), json!({})]),
        ("status", [json!({ "BOOL": true }), json!({ "L": [] }), json!({ "M": {} })]),
        ("requestedAt", [json!({ "S": "yesterday" }), json!({ "N": "1767268800" }), json!(7)]),
        ("updatedAt", [json!({ "S": "" }), json!({ "SS": ["2026-01-01T12:00:00Z"] }), json!([])]),
    ] {
        for value in values {
            let error = error(inserted(attribute, value.clone()));
            assert_eq!(error, format!("the item has no readable {attribute}"), "{value}");
        }
    }
    let image = || Some(state.image("CHANGE_PIN"));
    for (record, member) in [
        (record("INSERT", None, None), "NewImage"),
        (record("MODIFY", None, image()), "OldImage"),
        (record("TRUNCATE", image(), image()), "eventName"),
        (json!({ "eventName": "INSERT" }), "NewImage"),
        (json!({}), "eventName"),
        (json!("record"), "eventName"),
        (json!(null), "eventName"),
    ] {
        assert_eq!(error(record), format!("the record has no readable {member}"));
    }
}
