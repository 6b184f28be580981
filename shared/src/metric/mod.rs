//! What the functions count and measure in their logs.
//!
//! A log line with a field `metric` is a metric in CloudWatch's embedded metric format
//! (`https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html`).
//! The value of the field says which: a failed request counts under its error code
//! ([`problem::Code`](crate::problem::Code)), the problems of [`Metric`] under their names, both as [`LOGGED`]. The other
//! lines are written here, one function for each, with the names of their measurements as fields.

use std::time::Duration;

use serde::Serialize;
use serde::ser::SerializeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// A metric beside the error codes that counts lines: a value of the dimension `metric` of [`LOGGED`].
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
    /// A poll was beyond the user's limit and got the stored record.
    PollLimited,
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

/// Measurements of one line that have the same dimensions.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Measurements {
    /// The sets of dimensions under which CloudWatch keeps each value. A dimension is a field of the line.
    pub dimensions: &'static [&'static [&'static str]],
    /// The measurements. Their names are fields of the line too.
    pub metrics: &'static [Measurement],
}

/// A measurement: its name in CloudWatch, and its unit.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Measurement {
    /// The name.
    pub name: &'static str,
    /// The unit, by CloudWatch's name.
    pub unit: &'static str,
}

const fn count(name: &'static str) -> Measurement {
    Measurement { name, unit: "Count" }
}

/// How many lines say that this problem, or a request with this error code, occurred.
pub const LOGGED: &[Measurements] =
    &[Measurements { dimensions: &[&["metric"]], metrics: &[count(LOGGED_NAME)] }];

const LOGGED_NAME: &str = "Logged";

const CIRCLE_CALL: &str = "circle_call";
const CHALLENGE_CREATED: &str = "challenge_created";
const CHALLENGE_ENDED: &str = "challenge_ended";
const CHALLENGE_EXPIRED: &str = "challenge_expired";
const CHALLENGE_ABANDONED: &str = "challenge_abandoned";
const WEBHOOK_ACCEPTED: &str = "webhook_accepted";
const RECONCILIATION_RUN: &str = "reconciliation_run";
const EVENT_PUBLISHED: &str = "event_published";
const EVENT_PUBLISHED_AGAIN: &str = "event_published_again";
const COLD_START: &str = "cold_start";

const SETTLED: Measurements = Measurements {
    dimensions: &[&["type", "status", "settled_by"], &["settled_by"]],
    metrics: &[count("ChallengesSettled")],
};

const PUBLISHED: Measurements =
    Measurements { dimensions: &[&["detail_type"]], metrics: &[count("EventsPublished")] };

/// What each line measures, by the value of its field `metric`. Every other value counts as [`LOGGED`].
pub const LINES: &[(&str, &[Measurements])] = &[
    (
        CIRCLE_CALL,
        &[Measurements {
            dimensions: &[&["operation", "outcome"]],
            metrics: &[Measurement { name: "CircleLatency", unit: "Milliseconds" }, count("CircleRetries")],
        }],
    ),
    (CHALLENGE_CREATED, &[Measurements { dimensions: &[&["type"]], metrics: &[count("ChallengesCreated")] }]),
    (
        CHALLENGE_ENDED,
        &[
            SETTLED,
            Measurements {
                dimensions: &[&["settled_by"], &[]],
                metrics: &[Measurement { name: "TimeToSettle", unit: "Seconds" }],
            },
            Measurements { dimensions: &[&[]], metrics: &[count("SettledLate")] },
        ],
    ),
    (CHALLENGE_EXPIRED, &[SETTLED]),
    (
        CHALLENGE_ABANDONED,
        &[Measurements { dimensions: &[&["reason"]], metrics: &[count("ChallengesAbandoned")] }],
    ),
    (
        WEBHOOK_ACCEPTED,
        &[Measurements { dimensions: &[&["outcome"]], metrics: &[count("WebhooksAccepted")] }],
    ),
    (
        RECONCILIATION_RUN,
        &[Measurements {
            dimensions: &[&[]],
            metrics: &[
                count("ReconcileDue"),
                count("ReconcileChecked"),
                count("ReconcileSettled"),
                count("ReconcileDeferred"),
                count("ReconcileFailed"),
                Measurement { name: "OldestDueChallenge", unit: "Seconds" },
            ],
        }],
    ),
    (
        EVENT_PUBLISHED,
        &[
            PUBLISHED,
            Measurements {
                dimensions: &[&[]],
                metrics: &[Measurement { name: "EventDelay", unit: "Milliseconds" }],
            },
        ],
    ),
    (EVENT_PUBLISHED_AGAIN, &[PUBLISHED]),
    (COLD_START, &[Measurements { dimensions: &[&["function"]], metrics: &[count("ColdStarts")] }]),
];

/// Adds the members of the embedded metric format to a line whose field `metric` has this value.
pub(crate) fn embed<M: SerializeMap>(
    metric: &str,
    namespace: &str,
    now: OffsetDateTime,
    line: &mut M,
) -> Result<(), M::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Metadata<'a> {
        timestamp: i128,
        cloud_watch_metrics: Vec<Directive<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Directive<'a> {
        namespace: &'a str,
        #[serde(flatten)]
        measurements: &'a Measurements,
    }
    let measured = LINES.iter().find(|(name, _)| *name == metric).map(|(_, measured)| *measured);
    if measured.is_none() {
        line.serialize_entry(LOGGED_NAME, &1)?;
    }
    let directives = measured.unwrap_or(LOGGED).iter();
    let directives = directives.map(|measurements| Directive { namespace, measurements });
    let metadata = Metadata {
        timestamp: now.unix_timestamp_nanos() / 1_000_000,
        cloud_watch_metrics: directives.collect(),
    };
    line.serialize_entry("_aws", &metadata)
}

/// A call to Circle has ended. `operation` names the call and `outcome` says how it ended. `latency` is the time of all its
/// attempts with the waits between them.
pub(crate) fn circle_call(
    operation: &'static str,
    outcome: &'static str,
    latency: Duration,
    retries: u32,
    circle_request_id: Option<&str>,
) {
    tracing::info!(
        metric = CIRCLE_CALL,
        operation,
        outcome,
        circle_request_id,
        "CircleLatency" = milliseconds(latency),
        "CircleRetries" = retries,
        "Circle call ended"
    );
}

/// A caller's challenge has been recorded for the first time.
pub(crate) fn challenge_created(challenge_id: Uuid, challenge_type: &str) {
    tracing::info!(
        metric = CHALLENGE_CREATED, %challenge_id, "type" = challenge_type, "ChallengesCreated" = 1,
        "challenge created"
    );
}

/// After how long a challenge has been settled late, by the objective for the time to settle.
pub const LATE: Duration = Duration::from_secs(15 * 60);

/// A requested challenge has a new final status. `age` is the time since its request, or `None` if the challenge has
/// expired: the user did not end it then, so the time says nothing about this service.
pub(crate) fn challenge_settled(
    challenge_id: Uuid,
    challenge_type: &str,
    status: &str,
    settled_by: &str,
    age: Option<Duration>,
) {
    match age {
        Some(age) => tracing::info!(
            metric = CHALLENGE_ENDED, %challenge_id, "type" = challenge_type, status, settled_by,
            "ChallengesSettled" = 1, "TimeToSettle" = age.as_secs(), "SettledLate" = u8::from(age > LATE),
            "challenge settled"
        ),
        None => tracing::info!(
            metric = CHALLENGE_EXPIRED, %challenge_id, "type" = challenge_type, status, settled_by,
            "ChallengesSettled" = 1,
            "challenge settled"
        ),
    }
}

/// Reconciliation no longer checks a challenge.
pub fn challenge_abandoned(challenge_id: Uuid, reason: &'static str) {
    tracing::warn!(
        metric = CHALLENGE_ABANDONED, %challenge_id, reason, "ChallengesAbandoned" = 1,
        "challenge abandoned"
    );
}

/// A webhook has been accepted. `outcome` says what it did, `status` what it reported.
pub fn webhook_accepted(
    outcome: &'static str,
    status: Option<&str>,
    notification_id: Option<&str>,
    subscription_id: Option<Uuid>,
) {
    let subscription_id = subscription_id.map(tracing::field::display);
    tracing::info!(
        metric = WEBHOOK_ACCEPTED,
        outcome,
        status,
        notification_id,
        subscription_id,
        "WebhooksAccepted" = 1,
        "webhook accepted"
    );
}

/// What a reconciliation run did, in numbers of challenges.
#[derive(Debug, Clone, Copy)]
pub struct ReconciliationRun {
    /// Due challenges that it read.
    pub due: u32,
    /// Those that it checked.
    pub checked: u32,
    /// Those that Circle had settled.
    pub settled: u32,
    /// Those that it left for a later run.
    pub deferred: u32,
    /// Errors.
    pub failed: u32,
    /// The age of the oldest due challenge; zero if there was none.
    pub oldest_due: Duration,
}

impl ReconciliationRun {
    /// Logs the run. `summary` has more about it, in JSON.
    pub fn log(self, summary: &str) {
        tracing::info!(
            metric = RECONCILIATION_RUN,
            summary,
            "ReconcileDue" = self.due,
            "ReconcileChecked" = self.checked,
            "ReconcileSettled" = self.settled,
            "ReconcileDeferred" = self.deferred,
            "ReconcileFailed" = self.failed,
            "OldestDueChallenge" = self.oldest_due.as_secs(),
            "reconciliation run ended"
        );
    }
}

/// An event has been published. `delay` is the time since the change of the record that it tells of, or `None` if an
/// operator wanted to publish it again.
pub fn event_published(
    challenge_id: Uuid,
    detail_type: &'static str,
    event_id: &str,
    delay: Option<Duration>,
) {
    match delay {
        Some(delay) => tracing::info!(
            metric = EVENT_PUBLISHED, %challenge_id, detail_type, event_id,
            "EventsPublished" = 1, "EventDelay" = milliseconds(delay),
            "event published"
        ),
        None => tracing::info!(
            metric = EVENT_PUBLISHED_AGAIN, %challenge_id, detail_type, event_id, "EventsPublished" = 1,
            "event published again"
        ),
    }
}

/// A process of the function has started.
pub(crate) fn cold_start(function: &str) {
    tracing::info!(metric = COLD_START, function, "ColdStarts" = 1, "function started");
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
