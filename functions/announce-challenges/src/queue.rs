//! The queue of records that cannot be read.

use std::sync::Arc;

use aws_sdk_sqs::Client;
use serde_json::Value;
use shared::clock::{Clock, Deadline};
use shared::platform::{Platform, RejectedSignature};

use crate::aws_call::{CallError, call};

/// The longest body of a message, in bytes
/// (`https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html`).
const MAX_BODY: usize = 1_048_576;

/// The queue of records that cannot be read, in Lambda's JSON.
#[derive(Debug)]
pub(crate) struct UnreadableRecords {
    client: Client,
    url: String,
    clock: Arc<dyn Clock>,
}

impl UnreadableRecords {
    pub(crate) fn new(platform: &Platform, url: String) -> Self {
        let config = aws_sdk_sqs::config::Builder::from(&platform.aws);
        Self {
            client: Client::from_conf(config.retry_classifier(RejectedSignature).build()),
            url,
            clock: Arc::clone(&platform.clock),
        }
    }

    /// Puts a record on the queue. Returns whether the message holds the whole record.
    pub(crate) async fn send(&self, record: &Value, deadline: Deadline) -> Result<bool, CallError> {
        let (body, is_whole) = body(record);
        let sent = self.client.send_message().queue_url(&self.url).message_body(body).send();
        call("SQS SendMessage", &*self.clock, deadline, sent).await?;
        Ok(is_whole)
    }
}

/// The record as the body of a message, and whether it is whole. A record that is too large goes without its images.
/// The images of this service have about 1 KB each, but an item that something else wrote may have 400 KB, and JSON
/// escapes can multiply that.
fn body(record: &Value) -> (String, bool) {
    let body = text(record);
    if body.len() <= MAX_BODY {
        return (body, true);
    }
    let mut position = record.clone();
    if let Some(change) = position.get_mut("dynamodb").and_then(Value::as_object_mut) {
        change.retain(|name, _| !["OldImage", "NewImage"].contains(&name.as_str()));
    }
    (text(&position), false)
}

/// JSON with only those characters that SQS accepts. SQS rejects or replaces others, such as U+FFFF. JSON has escapes for
/// control characters anyway.
fn text(record: &Value) -> String {
    record.to_string().replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(image: &str) -> Value {
        json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": "1", "NewImage": { "a": { "S": image } } } })
    }

    #[test]
    fn record_is_on_the_queue_as_a_whole() {
        let record = record("\u{0} \u{fffe}\u{ffff} \u{1f512}");
        let (body, is_whole) = body(&record);
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), record);
        assert!(is_whole);
        // The characters that SQS accepts, from its API reference.
        let is_accepted = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
        assert!(body.chars().all(is_accepted), "{body:?}");
    }

    #[test]
    fn record_that_is_too_large_is_on_the_queue_without_its_images() {
        let whole = record(&"x".repeat(MAX_BODY - record("").to_string().len()));
        assert_eq!(body(&whole), (whole.to_string(), true));
        let too_large = record(&"x".repeat(MAX_BODY));
        let position = json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": "1" } });
        assert_eq!(body(&too_large), (position.to_string(), false));
        for odd in [json!("x".repeat(MAX_BODY)), json!({ "dynamodb": ["x".repeat(MAX_BODY)] })] {
            assert_eq!(body(&odd), (odd.to_string(), false));
        }
    }
}
