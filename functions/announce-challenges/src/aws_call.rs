//! Calls to AWS before the deadline of the invocation.

use std::error::Error;

use aws_sdk_eventbridge::error::SdkError;
use aws_sdk_eventbridge::operation::RequestId;
use shared::clock::{Clock, Deadline, timeout};

/// A call to AWS failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// AWS could not be reached, or rejected the call. The SDK has retried it.
    #[error("{operation} failed (request id {request_id})")]
    Failed {
        /// The service and the operation, by AWS's names.
        operation: &'static str,
        /// The id that AWS support asks for; `none` if there was no response.
        request_id: String,
        /// The error of the AWS SDK.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The deadline has passed. The call may have taken effect.
    #[error("there was no time left for {0}")]
    Late(&'static str),
}

/// Makes a call, unless the deadline has passed. Stops waiting for it at the deadline.
pub(crate) async fn call<T, E, F>(
    operation: &'static str,
    clock: &dyn Clock,
    deadline: Deadline,
    sent: F,
) -> Result<T, CallError>
where
    E: Error + Send + Sync + 'static,
    SdkError<E>: RequestId,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    let remaining = deadline.remaining(clock);
    if remaining.is_zero() {
        return Err(CallError::Late(operation));
    }
    // Boxed, because the SDK's futures are nested more deeply than the compiler allows.
    let result = timeout(clock, remaining, Box::pin(sent)).await;
    let result = result.map_err(|_elapsed| CallError::Late(operation))?;
    result.map_err(|error| CallError::Failed {
        operation,
        request_id: error.request_id().unwrap_or("none").to_owned(),
        source: Box::new(error),
    })
}
