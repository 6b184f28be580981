//! What operators read in the stack's events if a deployment fails.

use lambda_runtime::Context;
use shared::api_key::ApiKeyError;
use shared::circle::CircleError;
use shared::circle_code::CircleCode;

use crate::WorkError;
use crate::api_keys::UnusableKey;

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
        WorkError::ApiKey(unusable) => advice_on_key(unusable),
        WorkError::OutOfTime(_) => "Circle took too long. Deploy again.".into(),
        WorkError::Circle(error) => advice_on_circle(error),
    }
}

fn advice_on_circle(error: &CircleError) -> String {
    match error {
        CircleError::ApiKey(error) => {
            let fix = match error {
                ApiKeyError::Unavailable { .. } => "Deploy again later.",
                ApiKeyError::Rejected { .. } => "Make sure that the secret exists, then deploy again.",
                ApiKeyError::Malformed { .. } | ApiKeyError::WrongEnvironment { .. } => {
                    "Correct the secret, then deploy again."
                }
            };
            format!("There is no usable Circle API key: {error}. {fix}")
        }
        CircleError::Response { status: status @ (401 | 403), code, .. } => format!(
            "Circle rejects the API key ({}). Put a key into the secret that may manage webhook subscriptions, then deploy again.",
            numbers(*status, *code)
        ),
        CircleError::Response { status: status @ (429 | 500..), code, .. } => {
            format!("Circle is unavailable ({}). Deploy again later.", numbers(*status, *code))
        }
        CircleError::Response { status, code, .. } => format!(
            "Circle rejects the subscription ({}). It must be able to reach the Endpoint, which responds to HEAD with 200.",
            numbers(*status, *code)
        ),
        CircleError::Unreachable { .. } => "Circle cannot be reached. Deploy again once it can.".into(),
        CircleError::TimedOut { .. } => "Circle did not respond in time. Deploy again later.".into(),
        CircleError::Unreadable { status, .. } => {
            format!(
                "Circle's response ({status}) cannot be read. Deploy again, and report it if it keeps happening."
            )
        }
    }
}

fn advice_on_key(UnusableKey { parameter, purpose, error }: &UnusableKey) -> String {
    let permission = purpose.permission();
    match &**error {
        CircleError::ApiKey(error @ ApiKeyError::Rejected { .. }) => format!(
            "{error}. The parameter {parameter} must be the ARN of a secret that exists in this account and region. If a customer managed key encrypts it, CircleApiKeySecretKmsKeyArn must be the ARN of that key. Correct the parameters, then deploy again."
        ),
        CircleError::ApiKey(error @ ApiKeyError::WrongEnvironment { .. }) => format!(
            "{error}. Set the parameter CircleEnvironment to the environment of the key, or store another key in the secret of {parameter}. Then deploy again."
        ),
        CircleError::ApiKey(error @ ApiKeyError::Malformed { .. }) => {
            format!("{error}. Correct the secret of the parameter {parameter}, then deploy again.")
        }
        CircleError::Response { status: 403, code: Some(code), .. } => format!(
            "The API key in the secret of {parameter} has no permission for {purpose} (status 403, code {code}). Give it the permission \"{permission}\" at Circle, then deploy again."
        ),
        CircleError::Response { status: 403, code: None, .. } => format!(
            "Circle rejects the API key in the secret of {parameter} for {purpose} (status 403). If the key has a list of allowed addresses, remove the list. Then deploy again."
        ),
        CircleError::Response { status: 401, code, .. } => format!(
            "Circle rejects the API key in the secret of {parameter} ({}). Store a valid key with the permission \"{permission}\" there, then deploy again.",
            numbers(401, *code)
        ),
        CircleError::ApiKey(ApiKeyError::Unavailable { .. })
        | CircleError::Response { status: 429 | 500.., .. }
        | CircleError::Unreachable { .. }
        | CircleError::TimedOut { .. }
        | CircleError::Unreadable { .. } => advice_on_circle(error),
        CircleError::Response { status, code, .. } => format!(
            "Circle's response to a check of the API key in the secret of {parameter} is unexpected ({}). Deploy again, and report it if it keeps happening.",
            numbers(*status, *code)
        ),
    }
}

fn numbers(status: u16, code: Option<CircleCode>) -> String {
    match code {
        Some(code) => format!("status {status}, code {code}"),
        None => format!("status {status}"),
    }
}
