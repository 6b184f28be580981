//! Errors as callers see them.
//!
//! The texts that callers read are ours. What Circle or AWS said travels beside them as the source of the error, for the
//! log only.

mod cause;
mod code;
mod from_errors;
mod user_message;

use std::error::Error;
use std::time::Duration;

use time::OffsetDateTime;

pub use self::cause::Cause;
pub use self::code::Code;
pub use self::user_message::user_message;
use crate::circle_code::CircleCode;
use crate::telemetry::Chain;

/// An error as a caller sees it, and its source for the log.
#[derive(Debug)]
pub struct Problem {
    cause: Cause,
    circle_code: Option<CircleCode>,
    retry_after: Option<Duration>,
    retry_at: Option<OffsetDateTime>,
    locked_until: Option<OffsetDateTime>,
    max_sign_in_age: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with this cause.
    pub fn new(cause: Cause) -> Self {
        Self {
            cause,
            circle_code: None,
            retry_after: cause.retry_after(),
            retry_at: None,
            locked_until: None,
            max_sign_in_age: None,
            source: None,
        }
    }

    /// The time after which a retry makes sense.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The instant from which a retry makes sense.
    pub fn retry_at(mut self, instant: OffsetDateTime, now: OffsetDateTime) -> Self {
        self.retry_at = Some(instant);
        self.retry_after(Duration::try_from(instant - now).unwrap_or_default())
    }

    /// When a lock opens, which is also when a retry makes sense.
    pub fn locked_until(mut self, until: OffsetDateTime, now: OffsetDateTime) -> Self {
        self.locked_until = Some(until);
        self.retry_at(until, now)
    }

    /// How long ago the user may have signed in.
    pub fn max_sign_in_age(mut self, age: Duration) -> Self {
        self.max_sign_in_age = Some(age);
        self
    }

    /// The source of the problem, for the log.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The cause.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.cause.code()
    }

    /// Circle's code, if Circle sent one.
    pub(crate) fn circle_code(&self) -> Option<CircleCode> {
        self.circle_code
    }

    /// The number of seconds after which a retry makes sense: at least 1.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let seconds = |wait: Duration| wait.as_millis().div_ceil(1000).max(1);
        self.retry_after.map(|wait| seconds(wait).try_into().unwrap_or(u64::MAX))
    }

    /// When a lock opens.
    pub(crate) fn lock_opens_at(&self) -> Option<OffsetDateTime> {
        self.locked_until
    }

    /// The value of the header `WWW-Authenticate`, if the user has to sign in again (RFC 9470, section 3).
    pub(crate) fn www_authenticate(&self) -> Option<String> {
        self.max_sign_in_age.map(|age| {
            format!(r#"Bearer error="insufficient_user_authentication", max_age="{}""#, age.as_secs())
        })
    }

    /// What the app shows to its user, at `now`; `None` for errors that only webhook senders receive.
    pub fn user_message(&self, now: OffsetDateTime) -> Option<String> {
        let after = |wait: Duration| now.saturating_add(wait.try_into().unwrap_or(time::Duration::MAX));
        // A shorter wait than a minute needs no time of day.
        let retry_after = self.retry_after.filter(|wait| *wait >= Duration::from_secs(60));
        user_message(self.code(), self.retry_at.or(retry_after.map(after)), now)
    }

    /// Writes the one log line of a failure: at ERROR if this service or a third party failed, else at INFO. That the
    /// operator has stopped new challenges is not a failure.
    pub fn log(&self) {
        let (code, status) = (self.code().as_str(), self.code().status());
        let circle_code = self.circle_code.map(|code| code.0);
        let source = self.source.as_deref().map(|source| Chain(source).to_string());
        let detail = self.cause.detail();
        let is_intended = self.code() == Code::ChallengesStopped;
        if status.is_server_error() && !is_intended || self.code() == Code::UnreadableNotification {
            tracing::error!(metric = code, status = status.as_u16(), circle_code, source, "{detail}");
        } else {
            tracing::info!(metric = code, status = status.as_u16(), circle_code, source, "{detail}");
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::telemetry::tests::lines;

    #[test]
    fn only_failures_of_this_service_and_of_third_parties_are_logged_as_errors() {
        for (cause, level) in [
            (Cause::StorageUnavailable, "ERROR"),
            // Circle sends what this service cannot read.
            (Cause::UnreadableNotification, "ERROR"),
            (Cause::ChallengesStopped, "INFO"),
            (Cause::PinNotSet, "INFO"),
        ] {
            let logged = lines(LevelFilter::INFO, || Problem::new(cause).log());
            let levels: Vec<_> = logged.iter().map(|line| &line["level"]).collect();
            assert_eq!(levels, [level], "{cause:?}");
        }
    }

    #[test]
    fn every_temporary_failure_says_when_to_retry() {
        for (cause, seconds) in [
            (Cause::StorageUnavailable, Some(2)),
            (Cause::PublicKeyUnavailable, Some(10)),
            (Cause::ChallengesStopped, Some(60)),
            (Cause::CircleUnexpectedCode, None),
            (Cause::RecordUnreadable, None),
            (Cause::PinNotSet, None),
        ] {
            assert_eq!(Problem::new(cause).retry_after_seconds(), seconds, "{cause:?}");
        }
    }

    #[test]
    fn user_reads_the_time_of_day_if_the_wait_is_a_minute_or_longer() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let limit = Problem::new(Cause::TooManyRequests);
        let minute = Duration::from_secs(60);
        let short = limit.retry_after(minute - Duration::from_millis(1));
        assert_eq!(short.user_message(now), user_message(Code::TooManyRequests, None, now));
        let long = short.retry_after(minute);
        assert_eq!(long.user_message(now), user_message(Code::TooManyRequests, Some(now + minute), now));
        assert_ne!(long.user_message(now), user_message(Code::TooManyRequests, None, now));
    }
}
