//! What the functions count in their logs.
//!
//! A log line with a `metric` field counts one: a metric filter of the template turns it into a CloudWatch metric. A
//! failed request counts under its error code ([`problem::Code`](crate::problem::Code)); everything else is listed here.

/// A metric beside the error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Metric {
    /// Circle named another user for a challenge than the record has.
    ReportOfAnotherUser,
    /// A webhook was not about a challenge of a type that this service creates.
    WebhookIgnored,
    /// A webhook was about a challenge that nobody has requested through this service.
    UnrequestedChallenge,
    /// Circle reported COMPLETE for a challenge that it had reported as failed or expired. The record says COMPLETE now.
    CompleteAfterFailure,
    /// Circle reported a second final status that differs from the first, and the record keeps the first.
    ConflictingFinalStatus,
    /// Reconciliation no longer checks a challenge.
    ChallengeAbandoned,
    /// A reconciliation check failed.
    CheckFailed,
    /// Circle does not know the challenges of most users of a reconciliation run.
    MostChallengesNotFound,
    /// A webhook subscription may remain at Circle without a stack that removes it.
    SubscriptionLeftBehind,
    /// An event could not be published. Lambda retries its record, unless an operator wanted to publish it again.
    PublishFailed,
    /// A record of the table's stream cannot be read.
    UnreadableRecord,
    /// The webhook's subscription at Circle is disabled, or there is none.
    SubscriptionNotEnabled,
    /// Circle did not say whether the webhook's subscription is enabled.
    SubscriptionNotChecked,
}

impl Metric {
    /// The value of the log field `metric`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
