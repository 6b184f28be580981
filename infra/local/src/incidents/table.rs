//! The incidents, and the alarms without one.

use super::{Incident, Raised, at_circle, deployment, events, reconciliation, webhooks};

/// An incident that raises one metric of the list `metrics` of `cargo local facts`, or one error code.
macro_rules! incident {
    ($name:literal, $title:literal, $play:path, $alarm:literal, $logged:literal) => {
        incident!($name, $title, $play, [(Some($alarm), "Logged", [("metric", $logged)])])
    };
    ($name:literal, $title:literal, $play:path, [$(($alarm:expr, $metric:literal, $dimensions:expr)),+]) => {
        Incident {
            name: $name,
            title: $title,
            raises: &[$(Raised { alarm: $alarm, metric: $metric, dimensions: &$dimensions }),+],
            play: |scene| Box::pin($play(scene)),
        }
    };
}

/// All incidents.
pub const INCIDENTS: &[Incident] = &[
    incident!(
        "circle-down",
        "Circle is down.",
        at_circle::down,
        "CircleUnavailableAlarm",
        "circle_unavailable"
    ),
    incident!("circle-slow", "Circle is slow.", at_circle::slow, "TimeoutAlarm", "timeout"),
    incident!(
        "circle-rate-limit",
        "The account has reached its rate limit at Circle.",
        at_circle::rate_limit,
        "CircleRateLimitedAlarm",
        "circle_rate_limited"
    ),
    incident!(
        "circle-error",
        "Circle responds with an error that this service does not know.",
        at_circle::unknown_error,
        "CircleErrorAlarm",
        "circle_error"
    ),
    incident!(
        "wrong-api-key",
        "Circle rejects the API key.",
        at_circle::wrong_api_key,
        "MisconfiguredAlarm",
        "misconfigured"
    ),
    incident!(
        "secret-unavailable",
        "The API key cannot be read from Secrets Manager.",
        deployment::secret_unavailable,
        "ApiKeyUnavailableAlarm",
        "api_key_unavailable"
    ),
    incident!(
        "table-down",
        "The tables cannot be reached.",
        deployment::table_down,
        "StorageUnavailableAlarm",
        "storage_unavailable"
    ),
    incident!(
        "unreadable-record",
        "A challenge record has an attribute that this service does not write.",
        deployment::unreadable_record,
        "InternalAlarm",
        "internal"
    ),
    incident!(
        "user-flood",
        "An app repeats the request of one user in a loop.",
        at_circle::user_flood,
        "TooManyRequestsAlarm",
        "too_many_requests"
    ),
    incident!(
        "unreadable-notification",
        "Circle sends a webhook that cannot be read as a challenge.",
        webhooks::unreadable,
        "UnreadableNotificationAlarm",
        "unreadable_notification"
    ),
    incident!(
        "forged-webhooks",
        "Somebody sends webhooks with a signature that is not Circle's.",
        webhooks::forged,
        "InvalidSignatureAlarm",
        "invalid_signature"
    ),
    incident!(
        "other-address",
        "Webhooks come from an address that is not in CircleSourceIps.",
        webhooks::other_address,
        "SourceNotAllowedAlarm",
        "source_not_allowed"
    ),
    incident!(
        "unknown-key-ids",
        "Somebody sends webhooks with invented key ids.",
        webhooks::unknown_key_ids,
        "PublicKeyUnavailableAlarm",
        "public_key_unavailable"
    ),
    incident!(
        "another-users-report",
        "Circle names another user for a challenge than the one who requested it.",
        webhooks::another_user,
        "ReportOfAnotherUserAlarm",
        "report_of_another_user"
    ),
    incident!(
        "unrequested-challenges",
        "Circle sends webhooks about challenges that nobody requested here.",
        webhooks::unrequested,
        "UnrequestedChallengeAlarm",
        "unrequested_challenge"
    ),
    incident!(
        "ignored-webhooks",
        "Circle sends webhooks about something else than a PIN challenge.",
        webhooks::ignored,
        "WebhookIgnoredAlarm",
        "webhook_ignored"
    ),
    incident!(
        "complete-after-failure",
        "Circle reports COMPLETE for a challenge that it had reported as failed.",
        webhooks::complete_after_failure,
        "CompleteAfterFailureAlarm",
        "complete_after_failure"
    ),
    incident!(
        "conflicting-final-status",
        "Circle reports a failure for a challenge that it had reported as complete.",
        webhooks::conflicting_final_status,
        "ConflictingFinalStatusAlarm",
        "conflicting_final_status"
    ),
    incident!(
        "lost-webhooks",
        "Circle's webhooks are lost, so that reconciliation settles the challenges.",
        reconciliation::lost_webhooks,
        [
            (
                Some("SettledByReconciliationAlarm"),
                "ChallengesSettled",
                [("type", "CHANGE_PIN"), ("status", "COMPLETE"), ("settled_by", "reconcile")]
            ),
            (Some("SettledFastBurnAlarm"), "SettledLate", []),
            (Some("SettledSlowBurnAlarm"), "SettledLate", [])
        ]
    ),
    incident!(
        "checks-fail",
        "Circle cannot return a challenge, and its checks fail.",
        reconciliation::checks_fail,
        "CheckFailedAlarm",
        "check_failed"
    ),
    incident!(
        "abandoned-after-failed-checks",
        "A challenge whose checks all fail is abandoned.",
        reconciliation::abandoned_after_failed_checks,
        [(Some("ChallengeAbandonedAlarm"), "ChallengesAbandoned", [("reason", "checks_failed")])]
    ),
    incident!(
        "abandoned-as-not-found",
        "Circle does not know a challenge, which is abandoned.",
        reconciliation::abandoned_as_not_found,
        [(Some("ChallengeAbandonedAlarm"), "ChallengesAbandoned", [("reason", "not_found")])]
    ),
    incident!(
        "abandoned-by-the-user",
        "A user walks away, and the challenge is abandoned. No alarm watches this.",
        reconciliation::abandoned_by_the_user,
        [(None, "ChallengesAbandoned", [("reason", "still_open")])]
    ),
    incident!(
        "most-challenges-not-found",
        "Circle does not know most challenges, as with an API key of another account.",
        reconciliation::most_not_found,
        "MostChallengesNotFoundAlarm",
        "most_challenges_not_found"
    ),
    incident!(
        "subscription-disabled",
        "The webhook's subscription at Circle is disabled.",
        deployment::subscription_disabled,
        "SubscriptionNotEnabledAlarm",
        "subscription_not_enabled"
    ),
    incident!(
        "subscription-not-checked",
        "The API key may not read the webhook's subscription.",
        deployment::subscription_not_checked,
        "SubscriptionNotCheckedAlarm",
        "subscription_not_checked"
    ),
    incident!(
        "subscription-left-behind",
        "A stack is deleted, and its subscription remains at Circle.",
        deployment::subscription_left_behind,
        "SubscriptionLeftBehindAlarm",
        "subscription_left_behind"
    ),
    incident!(
        "events-not-published",
        "Events cannot be published. In the cloud, Lambda retries, and the alarms watch Lambda's metrics.",
        events::not_published,
        [
            (Some("EventsDelayedAlarm"), "Logged", [("metric", "publish_failed")]),
            (Some("EventsNotPublishedAlarm"), "Logged", [("metric", "publish_failed")])
        ]
    ),
    incident!(
        "unreadable-change",
        "A change in the table's stream cannot be read. In the cloud, the alarm watches the queue that it goes to.",
        events::unreadable_change,
        "UnreadableRecordsAlarm",
        "unreadable_record"
    ),
];

/// The alarms that watch metrics of AWS alone, each with the reason why it has no incident here.
pub const ONLY_ON_AWS: &[(&str, &str)] = &[
    (
        "ApiFastBurnAlarm",
        "counts failed requests in API Gateway's access log; circle-down makes such requests",
    ),
    (
        "ApiSlowBurnAlarm",
        "counts failed requests in API Gateway's access log; circle-down makes such requests",
    ),
    (
        "RejectedWebhooksAlarm",
        "counts webhooks in API Gateway's access log; other-address makes such webhooks",
    ),
    ("ThrottledRequestsAlarm", "counts requests that API Gateway itself rejects, in its access log"),
    ("ThrottledWebhooksAlarm", "counts webhooks that API Gateway itself rejects, in its access log"),
    ("ClientErrorsAlarm", "watches a metric of API Gateway"),
    ("FunctionErrorsAlarm", "watches a metric of Lambda: functions that crash, time out or do not start"),
    ("FunctionThrottlesAlarm", "watches a metric of Lambda: functions that it has no capacity for"),
    ("ReconcileMissingAlarm", "watches a metric of Lambda: how often the schedule invokes the function"),
    ("TableThrottlesAlarm", "watches a metric of DynamoDB: tables that are throttled"),
    ("TableSystemErrorsAlarm", "watches a metric of DynamoDB: its own errors"),
    ("UndeliveredAlertsAlarm", "watches a metric of SQS: the queue of the example consumer"),
];
