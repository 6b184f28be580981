//! The story of one challenge: everything that the stack knows about it, in the order of time.

use std::collections::BTreeSet;

use dynoxide::actions::get_item::GetItemRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::activity::{image, webhook};
use crate::dynamodb::CHALLENGES_TABLE;
use crate::http_api::ACCESS_LOG;
use crate::log::Line;
use crate::row::Row;
use crate::sources::Sources;

/// What is known about a challenge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Its record, without DynamoDB's types; null if there is none.
    pub record: Value,
    /// What happened, in the order of time.
    pub entries: Vec<Entry>,
}

/// Something that happened to the challenge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened, on the stack's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What it was.
    #[serde(flatten)]
    pub row: Row,
    /// The whole request, log line, webhook, stage of the record, or event.
    pub data: Value,
}

/// The story of a challenge; `None` if the stack does not know it.
///
/// # Errors
/// If the table cannot be read.
pub(crate) fn story(sources: &Sources, id: Uuid) -> dynoxide::Result<Option<Story>> {
    let key = json!({ "TableName": CHALLENGES_TABLE, "Key": { "challengeId": { "S": id } } });
    let request: GetItemRequest = serde_json::from_value(key).expect("the request is valid");
    let record = image(&json!(sources.database.get_item(request)?.item));

    let deliveries = sources.circle.deliveries();
    let id = json!(id);
    let webhooks = deliveries.iter().map(|delivery| (delivery.at, webhook(delivery)));
    let webhooks = webhooks
        .filter(|(_, webhook)| webhook["body"]["notification"]["id"] == id)
        .map(|(at, data)| Entry { at, row: Row::of_webhook(&data), data });
    let events =
        sources.events.after(0).into_iter().filter(|(_, event)| event["detail"]["challengeId"] == id);
    let events = events.map(|(at, data)| Entry { at, row: Row::of_event(&data), data });

    let lines = lines(&sources.log.after(0), id.as_str().unwrap_or_default());
    let mut entries: Vec<Entry> =
        lines.into_iter().chain(stages(&record)).chain(webhooks).chain(events).collect();
    entries.sort_by_key(|entry| entry.at);
    Ok((!record.is_null() || !entries.is_empty()).then_some(Story { record, entries }))
}

/// The record's audit trail: its maps.
fn stages(record: &Value) -> impl Iterator<Item = Entry> {
    record.as_object().into_iter().flatten().filter_map(|(name, stage)| of_stage(name, stage))
}

fn of_stage(name: &str, stage: &Value) -> Option<Entry> {
    let at = OffsetDateTime::parse(stage["at"].as_str()?, &Rfc3339).ok()?;
    let status = stage["status"].as_str().unwrap_or(name);
    Some(Entry { at, row: Row::of_stage(status, stage), data: stage.clone() })
}

/// The lines that name the challenge, and those of the same requests.
fn lines(all: &[Line], id: &str) -> Vec<Entry> {
    let all = all.iter().filter(|line| is_of_service(&line.json));
    let all: Vec<(&Line, bool)> = all.map(|line| (line, line.json.to_string().contains(id))).collect();
    let named = all.iter().filter(|(_, names_it)| *names_it);
    let requests: BTreeSet<&str> = named.filter_map(|(line, _)| request_id(&line.json)).collect();
    let is_about = |line: &Line| request_id(&line.json).is_some_and(|request| requests.contains(request));
    let about = all.into_iter().filter(|(line, names_it)| *names_it || is_about(line));
    about
        .map(|(line, _)| {
            let is_request = line.json["target"] == ACCESS_LOG;
            let row = if is_request { Row::of_request(&line.json) } else { Row::of_log(&line.json) };
            Entry { at: line.at, row, data: line.json.clone() }
        })
        .collect()
}

/// Whether a line is of a function or of the access log. What the parts of the stack log themselves is shown otherwise.
fn is_of_service(line: &Value) -> bool {
    !line["target"].as_str().is_some_and(|target| target.starts_with("local::"))
}

/// API Gateway's id of the request that a line belongs to.
fn request_id(line: &Value) -> Option<&str> {
    line["request_id"].as_str().or(line["span"]["request_id"].as_str()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_map_of_a_record_is_a_stage() {
        let at = "2026-01-01T12:00:00Z";
        let by_webhook = |status: &str| json!({ "at": at, "status": status, "by": "webhook", "id": "n-1" });
        let record = json!({
            "status": "COMPLETE",
            "correlationIds": ["a"],
            "arrival": by_webhook("PENDING"),
            "creation": { "at": at, "requestId": "r-1" },
            "completion": by_webhook("COMPLETE"),
        });
        let mut found: Vec<_> = stages(&record).map(|entry| entry.row.what).collect();
        found.sort();
        assert_eq!(found, ["COMPLETE", "PENDING", "creation"]);
    }
}
