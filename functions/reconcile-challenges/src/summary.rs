//! What a run did.

use serde::Serialize;
use shared::problem::Code;

/// What a run did, in numbers of challenges unless said otherwise. It is the invocation's answer and its log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Items read from the index: those that were due.
    pub due: u32,
    /// Left alone because their user asked for a challenge just now: a new user token might end a PIN entry.
    pub deferred: u32,
    /// Looks that were taken.
    pub checks: u32,
    /// Found settled, and recorded.
    pub settled: u32,
    /// Not settled yet, says Circle.
    pub open: u32,
    /// Not known to Circle.
    pub not_found: u32,
    /// Looks, users and pages that came to nothing; each has a line in the log.
    pub failed: u32,
    /// Not looked at again from now on.
    pub abandoned: u32,
    /// Calls to Circle, without repeats of a call that failed.
    pub circle_calls: u32,
    /// Why the run ended before all that was due had its check.
    pub stopped: Option<StopReason>,
}

/// Why a run ended early. The next one takes up the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The invocation's time is up.
    Time,
    /// The run has made the calls to Circle that it may make (`CIRCLE_CALLS_PER_RUN`).
    Calls,
    /// Circle takes no more calls from the account just now.
    RateLimited,
    /// Circle does not answer.
    CircleUnavailable,
    /// There is no usable API key, or Circle refuses it.
    ApiKey,
    /// Secrets Manager does not give the API key just now.
    ApiKeyUnavailable,
    /// The table does not answer.
    TableUnavailable,
}

impl StopReason {
    /// What is counted in the log: the word that stands for the same in the answers to callers.
    pub(crate) fn metric(self) -> &'static str {
        let code = match self {
            Self::RateLimited => Code::CircleRateLimited,
            Self::CircleUnavailable => Code::CircleUnavailable,
            Self::ApiKey => Code::Misconfigured,
            Self::ApiKeyUnavailable => Code::ApiKeyUnavailable,
            Self::TableUnavailable => Code::StorageUnavailable,
            Self::Time | Self::Calls => return "reconcile_stopped",
        };
        code.as_str()
    }
}
