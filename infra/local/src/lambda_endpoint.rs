//! Functions in another process: an endpoint with Lambda's `Invoke`, such as that of `cargo lambda watch`.

use std::time::Duration;

use shared::clock::{AdjustableClock, timeout};

/// The endpoint.
#[derive(Debug, Clone)]
pub struct LambdaEndpoint {
    url: String,
    http: reqwest::Client,
}

/// Why an invocation has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    #[error("the function cannot be reached")]
    Unreachable(#[from] reqwest::Error),
    #[error("the function failed: {0}")]
    Failed(String),
    #[error("the function timed out")]
    TimedOut,
}

impl LambdaEndpoint {
    /// The endpoint at this URL, which has no trailing slash.
    pub fn new(url: String) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client can be built");
        Self { url, http }
    }

    /// Invokes a function with a JSON event. Returns the JSON of its result.
    pub(crate) async fn invoke(
        &self,
        function: &str,
        event: String,
        limit: Duration,
        clock: &AdjustableClock,
    ) -> Result<Vec<u8>, InvokeError> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.url);
        let invocation = async {
            let response = self.http.post(url).body(event).send().await?;
            // Lambda reports a failed function with a header, cargo-lambda with a status.
            let has_failed =
                !response.status().is_success() || response.headers().contains_key("x-amz-function-error");
            let body = response.bytes().await?;
            if has_failed {
                return Err(InvokeError::Failed(String::from_utf8_lossy(&body).into_owned()));
            }
            Ok(body.into())
        };
        timeout(clock, limit, invocation).await.unwrap_or(Err(InvokeError::TimedOut))
    }
}
