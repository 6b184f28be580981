//! Whether a challenge can succeed at all, before one is created.

use shared::challenge::ChallengeType;
use shared::circle::{EndUser, LockDetails, PinStatus};
use shared::problem::{Cause, Problem};
use time::OffsetDateTime;

/// Rejects a challenge that the user's state at Circle rules out. A missing or unknown state rejects nothing: Circle then
/// decides.
///
/// # Errors
/// `user_disabled`, `pin_not_used`, `pin_not_set`, `pin_locked`, `security_questions_not_set`, `security_answers_locked`.
pub(crate) fn check(
    user: &EndUser,
    challenge_type: ChallengeType,
    now: OffsetDateTime,
) -> Result<(), Problem> {
    if user.is_disabled() {
        return Err(Problem::new(Cause::UserDisabled));
    }
    if user.has_other_auth_mode() {
        return Err(Problem::new(Cause::PinNotUsed));
    }
    if user.pin_status == Some(PinStatus::Unset) {
        return Err(Problem::new(Cause::PinNotSet));
    }
    match challenge_type {
        ChallengeType::ChangePin => check_lock(&user.pin_status, &user.pin_details, Cause::PinLocked, now),
        // A locked PIN does not matter here, because a recovery unlocks it.
        ChallengeType::RestorePin if user.security_question_status == Some(PinStatus::Unset) => {
            Err(Problem::new(Cause::SecurityQuestionsNotSet))
        }
        ChallengeType::RestorePin => check_lock(
            &user.security_question_status,
            &user.security_question_details,
            Cause::SecurityAnswersLocked,
            now,
        ),
    }
}

fn check_lock(
    status: &Option<PinStatus>,
    details: &Option<LockDetails>,
    locked: Cause,
    now: OffsetDateTime,
) -> Result<(), Problem> {
    if *status != Some(PinStatus::Locked) {
        return Ok(());
    }
    let problem = Problem::new(locked);
    Err(match details.as_ref().and_then(|details| details.locked_expiry_date) {
        Some(until) => problem.locked_until(until, now),
        None => problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::problem::Code;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    fn user(pin: PinStatus, questions: PinStatus) -> EndUser {
        EndUser {
            status: Some("ENABLED".into()),
            pin_status: Some(pin),
            security_question_status: Some(questions),
            ..EndUser::default()
        }
    }

    fn code(user: &EndUser, challenge_type: ChallengeType) -> Option<Code> {
        check(user, challenge_type, NOW).err().map(|problem| problem.code())
    }

    #[test]
    fn each_type_depends_on_its_own_lock() {
        use ChallengeType::{ChangePin, RestorePin};
        use PinStatus::{Enabled, Locked, Unset};
        for (pin, questions, change, restore) in [
            (Enabled, Enabled, None, None),
            (Enabled, Unset, None, Some(Code::SecurityQuestionsNotSet)),
            (Enabled, Locked, None, Some(Code::SecurityAnswersLocked)),
            (Locked, Enabled, Some(Code::PinLocked), None),
            (Locked, Unset, Some(Code::PinLocked), Some(Code::SecurityQuestionsNotSet)),
            (Unset, Enabled, Some(Code::PinNotSet), Some(Code::PinNotSet)),
        ] {
            let user = user(pin, questions);
            assert_eq!(code(&user, ChangePin), change, "{user:?}");
            assert_eq!(code(&user, RestorePin), restore, "{user:?}");
        }
    }

    #[test]
    fn disabled_user_is_rejected_and_an_unknown_state_is_not() {
        let mut user = EndUser::default();
        assert_eq!(code(&user, ChallengeType::ChangePin), None);
        assert_eq!(code(&user, ChallengeType::RestorePin), None);
        user.pin_status = Some(PinStatus::Unknown("FROZEN".into()));
        assert_eq!(code(&user, ChallengeType::ChangePin), None);
        user.auth_mode = Some("EMAIL".into());
        assert_eq!(code(&user, ChallengeType::ChangePin), Some(Code::PinNotUsed));
        user.auth_mode = Some("PIN".into());
        assert_eq!(code(&user, ChallengeType::ChangePin), None);
        user.status = Some("DISABLED".into());
        assert_eq!(code(&user, ChallengeType::ChangePin), Some(Code::UserDisabled));
    }
}
