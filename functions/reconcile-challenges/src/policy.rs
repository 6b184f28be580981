//! The decisions about one challenge: when it is checked, deferred, rescheduled and abandoned. No I/O.
//!
//! The age of a challenge is the time since its record was created.

use std::time::Duration;

use shared::challenge_store::{AbandonReason, FIRST_CHECK};
use time::OffsetDateTime;

use crate::error::ErrorKind;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The longest time between two checks of a challenge, without jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// How soon a rescheduled check is due again. Long enough for other challenges to be checked first.
pub(crate) const RESCHEDULE_WAIT: Duration = Duration::from_secs(5 * 60);

/// How long a session may be in use. Circle's user tokens are valid for 60 minutes.
const SESSION_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The longest that a due check is deferred. A session in use then costs a check little more than an hour, and a user who
/// starts one session after another cannot keep a check away.
const LONGEST_DEFERRAL: Duration = Duration::from_secs(65 * 60);

/// Extra time before abandoning a challenge whose checks keep failing.
const GRACE: Duration = DAY;

/// No challenge is abandoned unless Circle has said something about it within this time.
const CHECK_LIFETIME: Duration = DAY;

/// How often Circle has to say that it does not know a challenge, and over how long, before the challenge is abandoned.
const NOT_FOUND_TIMES: usize = 3;
const NOT_FOUND_PERIOD: Duration = DAY;

/// The rules, with their setting.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The age at which an open challenge is abandoned.
    pub abandon_after: Duration,
}

impl Policy {
    /// Until when the due checks of a user are deferred; `None` if they are not. A check needs a session, and a new session
    /// might end the one in which the user is entering a PIN. `due_at` is when the first of the checks was due.
    pub(crate) fn deferred_until(
        last_session: Option<OffsetDateTime>,
        due_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        let until = (last_session? + SESSION_LIFETIME).min(due_at + LONGEST_DEFERRAL);
        (until > now).then_some(until)
    }

    /// The wait before the next check, and the longest jitter to add to it. The wait grows with the age, from 10
    /// minutes to 6 hours.
    pub(crate) fn next_wait(age: Duration) -> (Duration, Duration) {
        let wait = age.clamp(FIRST_CHECK, LONGEST_WAIT);
        (wait, wait / 10)
    }

    /// Whether the run's own end cut a call short. Such an error says nothing about Circle.
    pub(crate) fn is_cut_short(error: ErrorKind, is_out_of_time: bool) -> bool {
        error == ErrorKind::Outage && is_out_of_time
    }

    /// Whether a check is rescheduled after an error. Otherwise the next check stays due when the claim said. An old
    /// challenge is not rescheduled after an outage, so that one that Circle cannot return is checked less often, unless
    /// the run has stopped: then the outage is probably not about the challenge.
    pub fn reschedules(&self, error: ErrorKind, run_has_stopped: bool, age: Duration) -> bool {
        match error {
            ErrorKind::Fatal(_) | ErrorKind::TableUnavailable | ErrorKind::UnreadableItem => true,
            ErrorKind::Outage => run_has_stopped || age < self.abandon_after + GRACE,
            ErrorKind::NotFound | ErrorKind::TokenRejected | ErrorKind::Other => false,
        }
    }

    /// Whether to abandon a challenge that Circle has just called open.
    pub fn abandon_open(&self, age: Duration) -> Option<AbandonReason> {
        (age >= self.abandon_after).then_some(AbandonReason::StillOpen)
    }

    /// Whether to abandon a challenge whose check has failed. `since_checked` is the time since Circle last said which
    /// status the challenge has.
    pub fn abandon_failed(
        &self,
        error: ErrorKind,
        age: Duration,
        since_checked: Duration,
    ) -> Option<AbandonReason> {
        // Any other error than these is Circle's response to this check.
        let has_responded = matches!(error, ErrorKind::NotFound | ErrorKind::Other);
        let is_checked = has_responded || since_checked <= CHECK_LIFETIME;
        (is_checked && age >= self.abandon_after + GRACE).then_some(AbandonReason::ChecksFailed)
    }

    /// Whether to abandon a challenge that Circle does not know. `times` are when Circle has said so.
    pub fn abandon_not_found(&self, times: &[OffsetDateTime], age: Duration) -> Option<AbandonReason> {
        let period = times.iter().max().zip(times.iter().min()).map(|(last, first)| *last - *first);
        let is_lost =
            times.len() >= NOT_FOUND_TIMES && period.is_some_and(|period| period >= NOT_FOUND_PERIOD);
        let is_old = age >= self.abandon_after;
        (is_lost || is_old).then_some(AbandonReason::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::summary::StopReason;

    const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    const POLICY: Policy = Policy { abandon_after: WEEK };

    #[test]
    fn check_is_deferred_while_a_session_may_be_in_use() {
        let deferred = |session: Option<OffsetDateTime>| Policy::deferred_until(session, NOON, NOON);
        assert_eq!(deferred(None), None);
        assert_eq!(deferred(Some(NOON - HOUR)), None, "the session has expired");
        assert_eq!(deferred(Some(NOON - HOUR + SECOND)), Some(NOON + SECOND));
        assert_eq!(deferred(Some(NOON)), Some(NOON + HOUR));
    }

    #[test]
    fn check_is_deferred_for_65_minutes_at_most() {
        let deferred = |session, now| Policy::deferred_until(Some(session), NOON, now);
        let limit = NOON + 65 * MINUTE;
        assert_eq!(deferred(NOON + 5 * MINUTE, NOON + 5 * MINUTE), Some(limit));
        assert_eq!(deferred(NOON + 30 * MINUTE, NOON + 30 * MINUTE), Some(limit), "and not until 13:30");
        assert_eq!(deferred(limit - SECOND, limit - SECOND), Some(limit));
        assert_eq!(deferred(limit, limit), None);
        assert_eq!(deferred(NOON + 30 * DAY, NOON), Some(limit), "a clock was ahead");
    }

    #[test]
    fn time_between_checks_grows_with_the_age_of_the_challenge() {
        for (age, expected) in [
            (Duration::ZERO, 10 * MINUTE),
            (10 * MINUTE, 10 * MINUTE),
            (11 * MINUTE, 11 * MINUTE),
            (6 * HOUR, 6 * HOUR),
            (WEEK, 6 * HOUR),
        ] {
            let (wait, jitter) = Policy::next_wait(age);
            assert_eq!(wait, expected, "{age:?}");
            assert_eq!(jitter, expected / 10, "{age:?}");
        }
    }

    #[test]
    fn open_challenge_is_abandoned_at_the_configured_age() {
        assert_eq!(POLICY.abandon_open(WEEK - SECOND), None);
        assert_eq!(POLICY.abandon_open(WEEK), Some(AbandonReason::StillOpen));
    }

    #[test]
    fn challenge_whose_checks_fail_gets_an_extra_day() {
        for error in [ErrorKind::Other, ErrorKind::TokenRejected, ErrorKind::Outage] {
            assert_eq!(POLICY.abandon_failed(error, WEEK + DAY - SECOND, HOUR), None, "{error:?}");
            assert_eq!(
                POLICY.abandon_failed(error, WEEK + DAY, HOUR),
                Some(AbandonReason::ChecksFailed),
                "{error:?}"
            );
        }
    }

    #[test]
    fn challenge_that_was_not_checked_for_a_day_is_not_abandoned() {
        let abandon = |error, since_checked| POLICY.abandon_failed(error, 2 * WEEK, since_checked);
        for error in [ErrorKind::TokenRejected, ErrorKind::Outage] {
            assert_eq!(abandon(error, DAY), Some(AbandonReason::ChecksFailed), "{error:?}");
            assert_eq!(abandon(error, DAY + SECOND), None, "{error:?}");
        }
        assert_eq!(
            abandon(ErrorKind::Other, WEEK),
            Some(AbandonReason::ChecksFailed),
            "Circle has just responded"
        );
    }

    #[test]
    fn unknown_challenge_is_abandoned_after_three_responses_over_a_day() {
        let abandon = |ages: &[Duration]| {
            let times: Vec<_> = ages.iter().map(|age| NOON + *age).collect();
            POLICY.abandon_not_found(&times, DAY)
        };
        assert_eq!(abandon(&[]), None);
        assert_eq!(abandon(&[Duration::ZERO, DAY]), None, "two responses");
        assert_eq!(abandon(&[Duration::ZERO, HOUR, DAY - SECOND]), None, "less than a day");
        assert_eq!(abandon(&[Duration::ZERO, HOUR, DAY]), Some(AbandonReason::NotFound));
        assert_eq!(abandon(&[DAY, HOUR, Duration::ZERO]), Some(AbandonReason::NotFound), "in any order");
    }

    #[test]
    fn unknown_challenge_is_abandoned_at_the_configured_age_like_an_open_one() {
        assert_eq!(POLICY.abandon_not_found(&[], WEEK - SECOND), None);
        assert_eq!(POLICY.abandon_not_found(&[NOON], WEEK), Some(AbandonReason::NotFound));
    }

    #[test]
    fn outage_after_the_end_of_the_run_is_a_call_cut_short() {
        assert!(Policy::is_cut_short(ErrorKind::Outage, true));
        assert!(!Policy::is_cut_short(ErrorKind::Outage, false));
        assert!(!Policy::is_cut_short(ErrorKind::Fatal(StopReason::RateLimited), true));
    }

    #[test]
    fn check_is_rescheduled_after_an_error_that_is_not_about_the_challenge() {
        for error in [
            ErrorKind::Fatal(StopReason::RateLimited),
            ErrorKind::TableUnavailable,
            ErrorKind::UnreadableItem,
        ] {
            for age in [HOUR, 2 * WEEK] {
                assert!(POLICY.reschedules(error, false, age), "{error:?} at {age:?}");
            }
        }
    }

    #[test]
    fn old_challenge_is_rescheduled_after_an_outage_only_if_the_run_has_stopped() {
        let reschedules = |has_stopped, age| POLICY.reschedules(ErrorKind::Outage, has_stopped, age);
        assert!(reschedules(false, WEEK + DAY - SECOND));
        assert!(!reschedules(false, WEEK + DAY));
        assert!(reschedules(true, WEEK + DAY));
    }

    #[test]
    fn check_is_not_rescheduled_after_an_error_about_the_challenge_or_its_user() {
        for error in [ErrorKind::NotFound, ErrorKind::TokenRejected, ErrorKind::Other] {
            assert!(!POLICY.reschedules(error, true, HOUR), "{error:?}");
        }
    }
}
