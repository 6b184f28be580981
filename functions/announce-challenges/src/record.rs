//! Records of the table's stream, in Lambda's JSON. Each record is read on its own, so that an unreadable one does not
//! affect the others.

use serde_json::Value;
use shared::challenge_store::requested_in_image;
use shared::dynamodb::StoreError;

use crate::event::{self, Event};

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// It is not a record of a stream with old and new images.
    #[error("the record has no readable {0}")]
    Member(&'static str),
    /// An image is not as this service writes it.
    #[error(transparent)]
    Image(#[from] StoreError),
}

/// The events that a record causes. A removal causes none: DynamoDB removes records that have expired.
pub(crate) fn events(record: &Value) -> Result<Vec<Event>, RecordError> {
    let image = |name: &'static str| {
        let image = &record["dynamodb"][name];
        if image.is_object() { Ok(requested_in_image(image)?) } else { Err(RecordError::Member(name)) }
    };
    let has_old_image = match record["eventName"].as_str() {
        Some("INSERT") => false,
        Some("MODIFY") => true,
        Some("REMOVE") => return Ok(Vec::new()),
        _ => return Err(RecordError::Member("eventName")),
    };
    let Some(new) = image("NewImage")? else { return Ok(Vec::new()) };
    let old = if has_old_image { image("OldImage")? } else { None };
    let mut events = event::events(old.as_ref(), &new)?;
    let traceparent = record["dynamodb"]["NewImage"]["traceparent"]["S"].as_str();
    events.iter_mut().for_each(|event| event.traceparent = traceparent.map(str::to_owned));
    Ok(events)
}

/// The position in the stream; empty if the record has none.
pub(crate) fn sequence_number(record: &Value) -> &str {
    record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
