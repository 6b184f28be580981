//! What people read in the stack's events when a deployment fails.

use lambda_runtime::Context;
use shared::api_key::ApiKeyError;
use shared::circle::CircleError;

use crate::Failure;

/// What is wrong, what to do, and where the details are. In our words and Circle's numbers: what Circle and AWS said is
/// in the log.
pub(crate) fn of(failure: &Failure, context: &Context) -> String {
    let (log_group, log_stream) = (&context.env_config.log_group, &context.env_config.log_stream);
    format!(
        "{} Details: CloudWatch log group {log_group}, stream {log_stream}, request {}.",
        advice(failure),
        context.request_id
    )
}

fn advice(failure: &Failure) -> String {
    match failure {
        Failure::RequestType => "RequestType must be Create, Update or Delete.".into(),
        Failure::Endpoint => "The property Endpoint must be the webhook's https URL.".into(),
        Failure::Setting(error) => format!("The function's setting {error}. Set it and deploy again."),
        Failure::OutOfTime(_) => "Circle was not done in time. Deploy again.".into(),
        Failure::Circle(CircleError::ApiKey(error)) => match error {
            ApiKeyError::Unavailable { .. } => {
                format!("There is no Circle API key: {error}. Deploy again later.")
            }
            ApiKeyError::Rejected { .. } => {
                format!(
                    "There is no Circle API key: {error}. Make sure that the secret exists, then deploy again."
                )
            }
            ApiKeyError::Malformed { .. } | ApiKeyError::WrongEnvironment { .. } => {
                format!("There is no usable Circle API key: {error}. Correct the secret, then deploy again.")
            }
        },
        Failure::Circle(CircleError::Response { status: status @ (401 | 403), code, .. }) => format!(
            "Circle refuses the API key ({}). Put one into the secret that may manage webhook subscriptions, then deploy again.",
            numbers(*status, *code)
        ),
        Failure::Circle(CircleError::Response { status: status @ (429 | 500..), code, .. }) => {
            format!("Circle cannot take the call just now ({}). Deploy again later.", numbers(*status, *code))
        }
        Failure::Circle(CircleError::Response { status, code, .. }) => format!(
            "Circle refuses the subscription ({}). It has to be able to reach the Endpoint, which answers HEAD with 200.",
            numbers(*status, *code)
        ),
        Failure::Circle(CircleError::Unreachable { .. }) => {
            "Circle could not be reached. Deploy again once it can.".into()
        }
        Failure::Circle(CircleError::TimedOut { .. }) => {
            "Circle did not answer in time. Deploy again later.".into()
        }
        Failure::Circle(CircleError::Unreadable { status, .. }) => {
            format!("Circle's answer ({status}) could not be read. Deploy again, and report it if it stays.")
        }
    }
}

fn numbers(status: u16, code: Option<i64>) -> String {
    match code {
        Some(code) => format!("status {status}, code {code}"),
        None => format!("status {status}"),
    }
}
