//! What a run returns and logs.

use serde::Serialize;
use shared::problem::Code;

/// What a run did, in numbers of challenges unless stated otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Due challenges that the run read from the index.
    pub due: u32,
    /// Deferred, because the user has a session that may be in use.
    pub deferred: u32,
    /// Checked.
    pub checks: u32,
    /// Settled by Circle, and stored.
    pub settled: u32,
    /// Not settled by Circle yet.
    pub open: u32,
    /// Unknown to Circle.
    pub not_found: u32,
    /// Errors, of a check or of a step on the way to one. Each has a log line.
    pub failed: u32,
    /// No longer checked from now on.
    pub abandoned: u32,
    /// Calls to Circle, retries not included.
    pub circle_calls: u32,
    /// Why the run stopped before every due challenge was checked.
    pub stopped: Option<StopReason>,
}

/// Why a run stopped early. The next run continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The time of the invocation is used up, or there is too little left for another check.
    Time,
    /// Circle accepts no more calls from the account for now.
    RateLimited,
    /// Circle is down.
    CircleUnavailable,
    /// There is no usable API key, or Circle rejects it.
    ApiKey,
    /// Secrets Manager does not return the API key for now.
    ApiKeyUnavailable,
    /// The table is down.
    TableUnavailable,
}

impl StopReason {
    /// The metric that counts the runs stopped by an error: the code of the same error in the API.
    pub(crate) fn metric(self) -> Option<&'static str> {
        let code = match self {
            Self::RateLimited => Code::CircleRateLimited,
            Self::CircleUnavailable => Code::CircleUnavailable,
            Self::ApiKey => Code::Misconfigured,
            Self::ApiKeyUnavailable => Code::ApiKeyUnavailable,
            Self::TableUnavailable => Code::StorageUnavailable,
            Self::Time => return None,
        };
        Some(code.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_that_an_error_stops_counts_under_the_code_of_the_error() {
        for (reason, metric) in [
            (StopReason::Time, None),
            (StopReason::RateLimited, Some("circle_rate_limited")),
            (StopReason::CircleUnavailable, Some("circle_unavailable")),
            (StopReason::ApiKey, Some("misconfigured")),
            (StopReason::ApiKeyUnavailable, Some("api_key_unavailable")),
            (StopReason::TableUnavailable, Some("storage_unavailable")),
        ] {
            assert_eq!(reason.metric(), metric, "{reason:?}");
        }
    }
}
