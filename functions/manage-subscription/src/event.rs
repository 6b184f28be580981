//! CloudFormation's events, the responses to them, and the event of the schedule.
//!
//! Facts are from the CloudFormation user guide, "Custom resource request objects" and "Custom resource response
//! objects".

use reqwest::Url;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event of the function.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// `{"action": "check-subscription"}`, from the schedule or an operator. An event with any other member is a change, so
    /// no event of CloudFormation can be mistaken for an action.
    Action(Action),
    /// Anything else is a change of a custom resource.
    Change(Box<Change>),
}

/// A task without a custom resource.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Find out whether the subscription exists and is enabled.
    CheckSubscription {},
}

/// The custom resources that the function has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ResourceType {
    /// The check of the API keys, before anything else is created.
    #[serde(rename = "Custom::CircleApiKeyCheck")]
    ApiKeyCheck,
    /// The webhook's subscription.
    #[default]
    #[serde(other)]
    Subscription,
}

/// A change of a custom resource. An event with missing or unexpected members needs a response too, so parsing is
/// lenient.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    #[serde(default)]
    pub(crate) resource_type: ResourceType,
    /// `Create`, `Update` or `Delete`.
    #[serde(default)]
    pub(crate) request_type: String,
    /// The pre-signed URL that the response goes to. It is a secret, because anybody who knows it can respond. The event
    /// of a manual invocation has no URL; the response is then only the result of the invocation.
    #[serde(rename = "ResponseURL")]
    pub(crate) response_url: Option<SecretString>,
    /// The id that an earlier response gave the resource. `Create` has none.
    pub(crate) physical_resource_id: Option<String>,
    #[serde(default)]
    resource_properties: Value,
    stack_id: Option<String>,
    request_id: Option<String>,
    logical_resource_id: Option<String>,
}

/// The response, at most 4096 bytes long.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Response {
    pub(crate) status: Status,
    /// What to do about a failure, shown in the stack's events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    physical_resource_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logical_resource_id: Option<String>,
}

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    Success,
    Failed,
}

/// The id of a resource that was not created. A failed response needs one too, and the `Delete` that follows carries it.
const NOT_CREATED: &str = "not-created";

impl Change {
    /// A text of the resource's properties; `None` if it is missing or empty.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.resource_properties[name].as_str().filter(|text| !text.is_empty())
    }

    /// The URL to subscribe, `ResourceProperties.Endpoint`.
    pub(crate) fn endpoint(&self) -> Option<Url> {
        Url::parse(self.property("Endpoint")?).ok()
    }

    /// The work is done. The resource gets the given id, or keeps its own.
    pub(crate) fn success(self, physical_resource_id: Option<String>) -> Response {
        self.response(Status::Success, physical_resource_id, None)
    }

    /// The work failed, and the resource is as before.
    pub(crate) fn failure(self, reason: String) -> Response {
        self.response(Status::Failed, None, Some(reason))
    }

    fn response(self, status: Status, new_id: Option<String>, reason: Option<String>) -> Response {
        let physical_resource_id = new_id
            .or(self.physical_resource_id)
            .filter(|id| !id.is_empty())
            .unwrap_or(NOT_CREATED.to_owned());
        Response {
            status,
            reason,
            physical_resource_id,
            stack_id: self.stack_id,
            request_id: self.request_id,
            logical_resource_id: self.logical_resource_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(members: &Value) -> Change {
        match serde_json::from_value(members.clone()).unwrap() {
            Event::Change(change) => *change,
            other => panic!("{other:?}"),
        }
    }

    fn cloudformation() -> Value {
        json!({
            "RequestType": "Update",
            "ResponseURL": "https://cloudformation-custom-resource-response.s3.amazonaws.com/a?X-Amz-Signature=pre-signed",
            "StackId": "arn:aws:cloudformation:eu-central-1:123456789012:stack/pin/guid",
            "RequestId": "request-1",
            "ResourceType": "Custom::CircleSubscription",
            "LogicalResourceId": "CircleSubscription",
            "PhysicalResourceId": "b04046ff-3aac-4ae1-ac07-7eb0d7892520",
            "ServiceToken": "arn:aws:lambda:eu-central-1:123456789012:function:manage-subscription",
            "ResourceProperties": { "ServiceToken": "arn", "Endpoint": "https://api.example.com/webhooks/circle" },
            "OldResourceProperties": {},
        })
    }

    #[test]
    fn response_has_the_ids_of_its_event() {
        let event = event(&cloudformation());
        assert_eq!(event.endpoint().unwrap().as_str(), "https://api.example.com/webhooks/circle");
        assert_eq!(
            serde_json::to_value(event.failure("because".into())).unwrap(),
            json!({
                "Status": "FAILED",
                "Reason": "because",
                "PhysicalResourceId": "b04046ff-3aac-4ae1-ac07-7eb0d7892520",
                "StackId": "arn:aws:cloudformation:eu-central-1:123456789012:stack/pin/guid",
                "RequestId": "request-1",
                "LogicalResourceId": "CircleSubscription",
            })
        );
    }

    #[test]
    fn event_of_the_schedule_is_not_mistaken_for_a_change() {
        let action = json!({ "action": "check-subscription" });
        assert!(matches!(
            serde_json::from_value(action.clone()).unwrap(),
            Event::Action(Action::CheckSubscription {})
        ));
        for (name, value) in cloudformation().as_object().unwrap() {
            let mut mixed = action.clone();
            mixed[name] = value.clone();
            event(&mixed);
        }
        for other in
            [json!({ "action": "delete-subscription" }), json!({ "Action": "check-subscription" }), json!({})]
        {
            assert_eq!(event(&other).request_type, "");
        }
    }

    #[test]
    fn resource_is_told_by_its_type() {
        for (name, expected) in [
            ("Custom::CircleApiKeyCheck", ResourceType::ApiKeyCheck),
            ("Custom::CircleSubscription", ResourceType::Subscription),
            ("Custom::Other", ResourceType::Subscription),
        ] {
            assert_eq!(event(&json!({ "ResourceType": name })).resource_type, expected);
        }
        assert_eq!(event(&json!({})).resource_type, ResourceType::Subscription);
    }

    #[test]
    fn pre_signed_url_is_not_printed() {
        let printed = format!("{:?}", event(&cloudformation()));
        assert!(printed.contains("CircleSubscription") && !printed.contains("pre-signed"), "{printed}");
    }

    #[test]
    fn empty_event_gets_a_response() {
        let empty = event(&json!({ "ResponseURL": null, "ResourceProperties": ["Endpoint"] }));
        assert!(empty.response_url.is_none() && empty.endpoint().is_none());
        assert_eq!(
            serde_json::to_value(empty.success(None)).unwrap(),
            json!({ "Status": "SUCCESS", "PhysicalResourceId": "not-created" })
        );
    }
}
