//! What an app shows to its user: what happened, and what the user can do.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

use super::Code;

/// The message for the user of the app; `None` for errors that only webhook senders receive. `retry_at` is when a retry
/// makes sense, if that is known.
pub fn user_message(code: Code, retry_at: Option<OffsetDateTime>, now: OffsetDateTime) -> Option<String> {
    let retry_at = retry_at.map(|instant| format_utc(instant, now));
    let try_again = |otherwise: &str| match &retry_at {
        Some(time) => format!("Please try again after {time}."),
        None => format!("Please try again {otherwise}."),
    };
    let message = match code {
        Code::InvalidBody
        | Code::BodyTooLarge
        | Code::UnsupportedMediaType
        | Code::InvalidChallengeType
        | Code::InvalidChallengeId
        | Code::InvalidParameter
        | Code::InvalidIdempotencyKey => {
            "Something went wrong in the app. Please update it and try again. If it keeps happening, contact support.".into()
        }
        Code::InvalidUserToken => "Your session has ended. Please start again.".into(),
        Code::UserTokenMismatch => {
            "This session belongs to a different account. Please sign out, sign in again and start over.".into()
        }
        Code::Unauthenticated => "You're not signed in. Please sign in and try again.".into(),
        Code::SignInRequired => "To reset your PIN, please sign in again first.".into(),
        Code::InvalidUserId => "Your account can't be used with a wallet. Please contact support.".into(),
        Code::UserDisabled => "Your wallet is disabled. Please contact support.".into(),
        Code::UserNotFound => {
            "We can't find a wallet for your account. Please set up your wallet first. If you already have one, contact support.".into()
        }
        Code::ChallengeNotFound => "We can't find this request. Please start again.".into(),
        Code::PinNotSet => "You haven't set a PIN yet. Please set one first.".into(),
        Code::PinNotUsed => "Your wallet doesn't use a PIN, so there is nothing to change.".into(),
        // It does not mention support: nobody can help a user who has lost both the PIN and the answers.
        Code::SecurityQuestionsNotSet => {
            "You haven't set up security questions, so you can't reset your PIN. If you know your PIN, you can change it.".into()
        }
        // By Circle's documentation a lock lasts 30 minutes. Whether the user has security questions is not known here.
        Code::PinLocked => format!(
            "PIN entry is locked {}. You can wait, or reset your PIN with your security questions if you set them up.",
            retry_at.map_or("for up to 30 minutes".into(), |time| format!("until {time}"))
        ),
        Code::SecurityAnswersLocked => {
            format!("Too many incorrect answers locked PIN recovery. {}", try_again("later"))
        }
        Code::TooManyChallenges => {
            format!("You've tried to change or reset your PIN too many times. {}", try_again("in an hour"))
        }
        Code::TooManyRequests => format!("You're doing that too often. {}", try_again("in a moment")),
        Code::UserBlocked => {
            "PIN changes are blocked for your account. Please contact support.".into()
        }
        Code::ChallengesStopped => {
            "PIN changes are paused right now. Please try again later. If it's urgent, contact support.".into()
        }
        Code::CircleRateLimited => {
            format!("The wallet service is very busy. {}", try_again("in a moment"))
        }
        Code::CircleUnavailable | Code::StorageUnavailable | Code::ApiKeyUnavailable | Code::Timeout => {
            format!("We can't reach the wallet service right now. {}", try_again("in a moment"))
        }
        Code::CircleError => format!(
            "Something went wrong with the wallet service. {} If it keeps happening, contact support.",
            try_again("later")
        ),
        Code::Misconfigured | Code::Internal => {
            "The wallet service isn't working right now. Please try again later. If it keeps happening, contact support.".into()
        }
        Code::MethodNotAllowed
        | Code::SourceNotAllowed
        | Code::InvalidSignature
        | Code::UnreadableNotification
        | Code::PublicKeyUnavailable => return None,
    };
    Some(message)
}

/// The first full minute that is not before `instant`, in UTC: "12:30 UTC", with the date if it is not today.
fn format_utc(instant: OffsetDateTime, now: OffsetDateTime) -> String {
    const TIME: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute] UTC");
    const TIME_AND_DATE: &[BorrowedFormatItem<'_>] =
        format_description!("[hour]:[minute] UTC on [day padding:none] [month repr:long] [year]");
    let minute = instant.truncate_to_minute();
    let minute = if minute < instant { minute.saturating_add(Duration::MINUTE) } else { minute };
    // An instant at the end of the calendar may not exist in UTC. `LockDetails` already leaves out such a time of Circle's.
    let minute = minute.checked_to_offset(UtcOffset::UTC).unwrap_or(PrimitiveDateTime::MAX.assume_utc());
    let format = if minute.date() == now.to_utc().date() { TIME } else { TIME_AND_DATE };
    minute.format(format).expect("a time and a date can be formatted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn times_are_in_utc_to_the_minute_and_dated_unless_they_are_today() {
        let now = datetime!(2026-01-01 23:15 UTC);
        for (instant, text) in [
            (datetime!(2026-01-01 23:45 UTC), "23:45 UTC"),
            (datetime!(2026-01-01 23:44:00.001 UTC), "23:45 UTC"),
            (datetime!(2026-01-02 00:45 +1), "23:45 UTC"),
            (datetime!(2026-01-01 23:59:59 UTC), "00:00 UTC on 2 January 2026"),
            (datetime!(9999-12-31 23:59:59 UTC), "23:59 UTC on 31 December 9999"),
            (datetime!(9999-12-31 23:59:59 -0:01), "23:59 UTC on 31 December 9999"),
        ] {
            assert_eq!(format_utc(instant, now), text);
        }
    }
}
