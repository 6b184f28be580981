//! What operators read in the stack's events if a deployment fails.

use lambda_runtime::Context;
use shared::api_key::ApiKeyError;
use shared::circle::CircleError;
use shared::circle_code::CircleCode;

use crate::WorkError;

/// What is wrong, what to do, and where the details are, in our words and Circle's codes. What Circle and AWS said is in
/// the log.
pub(crate) fn of(error: &WorkError, context: &Context) -> String {
    let (log_group, log_stream) = (&context.env_config.log_group, &context.env_config.log_stream);
    format!(
        "{} Details: CloudWatch log group {log_group}, stream {log_stream}, request {}.",
        advice(error),
        context.request_id
    )
}

fn advice(error: &WorkError) -> String {
    match error {
        WorkError::RequestType => "RequestType must be Create, Update or Delete.".into(),
        WorkError::Endpoint(webhook) => format!(
            "The property Endpoint must be the URL in the function's setting WEBHOOK_URL, {webhook}. The function manages only that one."
        ),
        WorkError::Setting(error) => format!("The function's setting {error}. Set it and deploy again."),
        WorkError::OutOfTime(_) => "Circle took too long. Deploy again.".into(),
        WorkError::Circle(CircleError::ApiKey(error)) => {
            let fix = match error {
                ApiKeyError::Unavailable { .. } => "Deploy again later.",
                ApiKeyError::Rejected { .. } => "Make sure that the secret exists, then deploy again.",
                ApiKeyError::Malformed { .. } | ApiKeyError::WrongEnvironment { .. } => {
                    "Correct the secret, then deploy again."
                }
            };
            format!("There is no usable Circle API key: {error}. {fix}")
        }
        WorkError::Circle(CircleError::Response { status: status @ (401 | 403), code, .. }) => format!(
            "Circle rejects the API key ({}). Put a key into the secret that may manage webhook subscriptions, then deploy again.",
            numbers(*status, *code)
        ),
        WorkError::Circle(CircleError::Response { status: status @ (429 | 500..), code, .. }) => {
            format!("Circle is unavailable ({}). Deploy again later.", numbers(*status, *code))
        }
        WorkError::Circle(CircleError::Response { status, code, .. }) => format!(
            "Circle rejects the subscription ({}). It must be able to reach the Endpoint, which responds to HEAD with 200.",
            numbers(*status, *code)
        ),
        WorkError::Circle(CircleError::Unreachable { .. }) => {
            "Circle cannot be reached. Deploy again once it can.".into()
        }
        WorkError::Circle(CircleError::TimedOut { .. }) => {
            "Circle did not respond in time. Deploy again later.".into()
        }
        WorkError::Circle(CircleError::Unreadable { status, .. }) => {
            format!(
                "Circle's response ({status}) cannot be read. Deploy again, and report it if it keeps happening."
            )
        }
    }
}

fn numbers(status: u16, code: Option<CircleCode>) -> String {
    match code {
        Some(code) => format!("status {status}, code {code}"),
        None => format!("status {status}"),
    }
}
