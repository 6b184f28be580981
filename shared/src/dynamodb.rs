//! DynamoDB: an item is written with one conditional `UpdateItem`, and read attribute by attribute.

use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use std::error::Error;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::RequestId;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::telemetry::Chain;

/// Why DynamoDB did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB could not be reached, or rejected the call.
    #[error("DynamoDB {operation} failed (request id {request_id})")]
    Unavailable {
        /// The operation, by AWS's name.
        operation: &'static str,
        /// The id that AWS support asks for; `none` if there was no response.
        request_id: String,
        /// What the AWS SDK said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An item is not as this service writes it.
    #[error("the item has no readable {attribute}")]
    Unreadable {
        /// The attribute at fault.
        attribute: &'static str,
    },
}

/// An `UpdateItem` under construction: its clauses, and the values and names that they use.
pub(crate) struct Update {
    call: UpdateItemFluentBuilder,
    set: Vec<Cow<'static, str>>,
    remove: Vec<&'static str>,
    add: Option<&'static str>,
}

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Whether the condition held, with the new item if it did, else the old one (empty if there is none).
pub(crate) enum Written {
    Yes(Item),
    No(Item),
}

impl Update {
    pub(crate) fn new(call: UpdateItemFluentBuilder) -> Self {
        Self { call, set: Vec::new(), remove: Vec::new(), add: None }
    }

    /// Adds a SET clause and the value that it uses.
    pub(crate) fn set(
        self,
        clause: impl Into<Cow<'static, str>>,
        placeholder: &str,
        value: AttributeValue,
    ) -> Self {
        self.set_again(clause).value(placeholder, value)
    }

    /// Adds a SET clause that uses a value given before.
    pub(crate) fn set_again(mut self, clause: impl Into<Cow<'static, str>>) -> Self {
        self.set.push(clause.into());
        self
    }

    /// Declares the attributes whose names DynamoDB reserves, as `#name`. It rejects a declared name that no expression
    /// uses.
    pub(crate) fn reserved(mut self, placeholders: &[&str]) -> Self {
        for placeholder in placeholders {
            self.call =
                self.call.expression_attribute_names(*placeholder, placeholder.trim_start_matches('#'));
        }
        self
    }

    pub(crate) fn value(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.call = self.call.expression_attribute_values(placeholder, value);
        self
    }

    /// Removes attributes.
    pub(crate) fn remove(mut self, attributes: &[&'static str]) -> Self {
        self.remove.extend(attributes);
        self
    }

    /// Adds values to a set, or to a number: the attribute and the placeholder of the value.
    pub(crate) fn add(mut self, clause: &'static str) -> Self {
        self.add = Some(clause);
        self
    }

    pub(crate) fn condition(mut self, condition: &str) -> Self {
        self.call = self.call.condition_expression(condition);
        self
    }

    pub(crate) async fn send(self) -> Result<Written, StoreError> {
        fn list(keyword: &str, clauses: &[impl Borrow<str>]) -> String {
            if clauses.is_empty() { String::new() } else { format!("{keyword} {} ", clauses.join(", ")) }
        }
        let expression =
            list("SET", &self.set) + &list("REMOVE", &self.remove) + &list("ADD", self.add.as_slice());
        let output = self
            .call
            .update_expression(expression)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match output {
            Ok(output) => Ok(Written::Yes(output.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                    Ok(Written::No(failure.item().cloned().unwrap_or_default()))
                }
                _ => Err(unavailable("UpdateItem", error)),
            },
        }
    }
}

/// Opens a connection ahead of the first call. It calls `DescribeEndpoints`, which needs no permission at the public endpoints
/// (`https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/inter-network-traffic-privacy.html`). An error does
/// not matter: either the connection is open, or the first call says what is wrong.
pub(crate) async fn connect(client: &Client) {
    if let Err(error) = client.describe_endpoints().send().await {
        tracing::debug!(error = %Chain(&error), "DynamoDB did not describe its endpoints at start-up");
    }
}

pub(crate) fn unavailable<E: Error + Send + Sync + 'static>(
    operation: &'static str,
    error: SdkError<E>,
) -> StoreError {
    let request_id = error.request_id().unwrap_or("none").to_owned();
    StoreError::Unavailable { operation, request_id, source: Box::new(error) }
}

pub(crate) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A time that expressions compare, in milliseconds since the epoch.
pub(crate) fn milliseconds(instant: OffsetDateTime) -> i128 {
    instant.unix_timestamp_nanos() / 1_000_000
}

/// A time to read: RFC 3339 in milliseconds.
pub(crate) fn timestamp(instant: OffsetDateTime) -> AttributeValue {
    let milliseconds = instant.truncate_to_millisecond();
    AttributeValue::S(milliseconds.format(&Rfc3339).expect("years of four digits can be written"))
}

/// Reads a time, as [`timestamp`] writes it.
pub(crate) fn instant(item: &Item, attribute: &'static str) -> Result<OffsetDateTime, StoreError> {
    let text = item.get(attribute).and_then(|value| value.as_s().ok());
    text.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).ok_or(unreadable(attribute))
}

pub(crate) fn unreadable(attribute: &'static str) -> StoreError {
    StoreError::Unreadable { attribute }
}
