//! What an app may show to its user as it is: what happened, and what the user can do.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use super::Code;

/// The sentences for the user of the app; `None` for what only a sender of webhooks meets. `when` says when it
/// makes sense to try again, in words like those of [`format_utc`], where that is known.
pub(super) fn user_message(code: Code, when: Option<&str>) -> Option<String> {
    let try_again = |otherwise| when.unwrap_or(otherwise);
    let sentences = match code {
        Code::InvalidBody
        | Code::BodyTooLarge
        | Code::UnsupportedMediaType
        | Code::InvalidChallengeType
        | Code::InvalidChallengeId
        | Code::InvalidIdempotencyKey => {
            "The app has made a mistake. Update it and start again, and contact support if it happens again.".into()
        }
        Code::InvalidUserToken => "Your session has ended. Start again.".into(),
        Code::UserTokenMismatch => {
            "Your session belongs to another account. Sign out, sign in again and start again.".into()
        }
        Code::Unauthenticated => "You are not signed in. Sign in and start again.".into(),
        Code::InvalidUserId => "Your account cannot be used with a wallet. Contact support.".into(),
        Code::UserDisabled => "Your wallet is disabled. Contact support.".into(),
        Code::UserNotFound => {
            "You have no wallet yet. Set up your wallet first, or contact support if you have one.".into()
        }
        Code::ChallengeNotFound => "What you have started cannot be found. Start again.".into(),
        Code::PinNotSet => "You have no PIN yet. Set one first.".into(),
        // Nobody can help a user who has neither the PIN nor the answers, support included.
        Code::SecurityQuestionsNotSet => {
            "You have set no security questions, so your PIN cannot be recovered. If you know your PIN, you can change it.".into()
        }
        // By Circle's documentation a lock lasts 30 minutes. Recovery is said with an "if", because what Circle
        // answers with a lock does not tell whether there are questions.
        Code::PinLocked => format!(
            "PIN entry is locked after too many wrong PINs. It opens {}. Wait until then, or recover your PIN now if you have set security questions.",
            try_again("within 30 minutes")
        ),
        Code::SecurityAnswersLocked => format!(
            "Recovery is locked after too many wrong answers to your security questions. Try again {}.",
            try_again("later")
        ),
        Code::TooManyChallenges => format!(
            "You have asked to change or recover your PIN too often. Try again {}.",
            try_again("in an hour")
        ),
        Code::CircleRateLimited => {
            format!("The wallet service is very busy. Try again {}.", try_again("in a moment"))
        }
        Code::CircleUnavailable | Code::StorageUnavailable | Code::ApiKeyUnavailable | Code::Timeout => {
            format!("The wallet service cannot be reached. Try again {}.", try_again("in a moment"))
        }
        Code::CircleError => format!(
            "Something unexpected went wrong at the wallet service. Try again {}, and contact support if it happens again.",
            try_again("later")
        ),
        Code::Misconfigured | Code::Internal => {
            "The wallet service is out of order. Try again later, and contact support if it stays so.".into()
        }
        Code::MethodNotAllowed
        | Code::SourceNotAllowed
        | Code::InvalidSignature
        | Code::UnreadableNotification
        | Code::PublicKeyUnavailable => return None,
    };
    Some(sentences)
}

/// The first full minute from which on `instant` has passed, in UTC: "at 12:30 UTC", with the date if that is
/// not today.
pub(super) fn format_utc(instant: OffsetDateTime, now: OffsetDateTime) -> String {
    const TIME: &[BorrowedFormatItem<'_>] = format_description!("at [hour]:[minute] UTC");
    const DATE_AND_TIME: &[BorrowedFormatItem<'_>] =
        format_description!("on [day padding:none] [month repr:long] [year] at [hour]:[minute] UTC");
    let minute = instant.truncate_to_minute();
    let minute = if minute < instant { minute.saturating_add(Duration::MINUTE) } else { minute }.to_utc();
    let format = if minute.date() == now.to_utc().date() { TIME } else { DATE_AND_TIME };
    minute.format(format).expect("a date and a time of day can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_moment_is_in_utc_to_the_minute_and_dated_unless_it_is_today() {
        let now = datetime!(2026-01-01 23:15 UTC);
        for (instant, words) in [
            (datetime!(2026-01-01 23:45 UTC), "at 23:45 UTC"),
            (datetime!(2026-01-01 23:44:00.001 UTC), "at 23:45 UTC"),
            (datetime!(2026-01-02 00:45 +1), "at 23:45 UTC"),
            (datetime!(2026-01-01 23:59:59 UTC), "on 2 January 2026 at 00:00 UTC"),
            (datetime!(9999-12-31 23:59:59 UTC), "on 31 December 9999 at 23:59 UTC"),
        ] {
            assert_eq!(format_utc(instant, now), words);
        }
    }

    #[test]
    fn every_code_that_a_user_can_meet_has_whole_sentences() {
        for code in Code::ALL {
            for when in [None, Some("at 12:30 UTC")] {
                let Some(message) = user_message(code, when) else { continue };
                assert!(message.ends_with('.') && message.contains(". "), "{code:?}: {message}");
            }
        }
    }
}
