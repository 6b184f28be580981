//! Items of the table: how one is written in a single call, and how one is read.

use std::collections::HashMap;
use std::error::Error;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::RequestId;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::StoreError;
use crate::challenge::{Challenge, ChallengeType};

/// An `UpdateItem` under construction: its clauses, and the values and reserved names that they use.
pub(crate) struct Update {
    call: UpdateItemFluentBuilder,
    set: Vec<&'static str>,
    others: Vec<&'static str>,
}

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Whether the condition held; the new item if it did, the old one (empty if there is none) if not.
pub(crate) enum Written {
    Yes(Item),
    No(Item),
}

impl Update {
    pub(crate) fn new(call: UpdateItemFluentBuilder) -> Self {
        Self { call, set: Vec::new(), others: Vec::new() }
    }

    /// Adds a SET clause and the value that it uses.
    pub(crate) fn set(self, clause: &'static str, placeholder: &str, value: AttributeValue) -> Self {
        self.set_again(clause).value(placeholder, value)
    }

    /// Adds a SET clause that uses a value given before.
    pub(crate) fn set_again(mut self, clause: &'static str) -> Self {
        self.set.push(clause);
        // DynamoDB reserves these words, and refuses a declared name that no expression uses.
        ["#status", "#rank", "#type"]
            .into_iter()
            .filter(|name| clause.starts_with(name))
            .fold(self, |update, name| update.name(name))
    }

    pub(crate) fn name(mut self, placeholder: &str) -> Self {
        self.call = self.call.expression_attribute_names(placeholder, placeholder.trim_start_matches('#'));
        self
    }

    pub(crate) fn value(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.call = self.call.expression_attribute_values(placeholder, value);
        self
    }

    /// Adds a clause of another kind, with its word: REMOVE or ADD.
    pub(crate) fn clause(mut self, clause: &'static str) -> Self {
        self.others.push(clause);
        self
    }

    pub(crate) fn condition(mut self, condition: &str) -> Self {
        self.call = self.call.condition_expression(condition);
        self
    }

    pub(crate) async fn send(self) -> Result<Written, StoreError> {
        let set = (!self.set.is_empty()).then(|| format!("SET {}", self.set.join(", ")));
        let others = self.others.into_iter().map(str::to_owned);
        let expression = set.into_iter().chain(others).collect::<Vec<_>>().join(" ");
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

/// A time for a comparison within the table.
pub(crate) fn milliseconds(instant: OffsetDateTime) -> i128 {
    instant.unix_timestamp_nanos() / 1_000_000
}

pub(crate) fn timestamp(instant: OffsetDateTime) -> AttributeValue {
    let milliseconds = instant.truncate_to_millisecond();
    AttributeValue::S(milliseconds.format(&Rfc3339).expect("years of four digits can be written"))
}

/// Reads a record.
pub(crate) fn challenge(item: &Item) -> Result<Challenge, StoreError> {
    let text = |attribute| item.get(attribute).and_then(|value| value.as_s().ok()).map(String::as_str);
    let error_code = item.get("errorCode").and_then(|value| value.as_n().ok());
    Ok(Challenge {
        id: text("challengeId").and_then(|id| id.parse().ok()).ok_or(unreadable("challengeId"))?,
        user_id: text("userId").map(str::to_owned),
        challenge_type: text("type").and_then(ChallengeType::parse).ok_or(unreadable("type"))?,
        status: text("status").map(str::to_owned).ok_or(unreadable("status"))?.into(),
        created_at: instant(item, "createdAt")?,
        requested_at: instant(item, "requestedAt").ok(),
        updated_at: instant(item, "updatedAt")?,
        error_code: error_code.and_then(|code| code.parse().ok()),
        notification_id: text("notificationId").map(str::to_owned),
    })
}

/// Reads a time, as [`timestamp`] writes it.
pub(crate) fn instant(item: &Item, attribute: &'static str) -> Result<OffsetDateTime, StoreError> {
    let text = item.get(attribute).and_then(|value| value.as_s().ok());
    text.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).ok_or(unreadable(attribute))
}

pub(crate) fn unreadable(attribute: &'static str) -> StoreError {
    StoreError::Unreadable { attribute }
}
