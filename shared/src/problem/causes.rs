//! Which problem stands for which cause: Circle's errors, the table's, and the states of a user.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Code, Problem};
use crate::api_key::ApiKeyError;
use crate::challenge_store::StoreError;
use crate::circle::CircleError;

/// How long to wait where nobody said how long.
const RETRY_SOON: Duration = Duration::from_secs(2);

/// What each of Circle's errors means to a caller, in one place.
impl From<CircleError> for Problem {
    fn from(error: CircleError) -> Self {
        let circle_code = error.code();
        let retry_after = error.retry_after();
        let problem = match &error {
            CircleError::Response { status, .. } => of_refusal(*status, circle_code),
            CircleError::Unreachable { .. } => Self::new(
                Code::CircleUnavailable,
                "Circle could not be reached. Try again, with the same Idempotency-Key if there was one.",
            )
            .retry_after(RETRY_SOON),
            CircleError::TimedOut { .. } => timeout(),
            CircleError::Unreadable { .. } => Self::new(
                Code::CircleError,
                "Circle's answer could not be read. Try again, and report it if it stays.",
            )
            .retry_after(RETRY_SOON),
            CircleError::ApiKey(ApiKeyError::Unavailable { .. }) => Self::new(
                Code::ApiKeyUnavailable,
                "The service's Circle API key cannot be read just now. Try again, with the same Idempotency-Key if there was one.",
            )
            .retry_after(RETRY_SOON),
            CircleError::ApiKey(_) => Self::new(
                Code::Misconfigured,
                "The service has no usable Circle API key. Its operator finds the cause in the log.",
            ),
        };
        Self { circle_code, retry_after: retry_after.or(problem.retry_after), ..problem }.because(error)
    }
}

/// Chosen by Circle's code; by the HTTP status only where no code is known (the contract of Circle's API
/// leaves the status of many codes open).
fn of_refusal(status: u16, circle_code: Option<i64>) -> Problem {
    match (circle_code, status) {
        (Some(155_102), _) => Problem::new(
            Code::UserNotFound,
            "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
        ),
        (Some(155_103..=155_105), _) => Problem::new(
            Code::InvalidUserToken,
            "Circle does not accept the user token. Ask POST /session-tokens for a new one.",
        ),
        (Some(155_109), _) => user_disabled(),
        (Some(155_110), _) => pin_not_set(),
        (Some(155_111), _) => security_questions_not_set(),
        (Some(155_119), _) => pin_locked(),
        (Some(155_120), _) => security_answers_locked(),
        (Some(3 | 4 | 401), _) | (None, 401) => Problem::new(
            Code::Misconfigured,
            "Circle refuses the service's API key. Its operator finds the cause in the log.",
        ),
        (Some(1 | 2), _) => Problem::new(
            Code::CircleError,
            "Circle finds the request malformed, which is this service's fault. Report it with the requestId.",
        ),
        (Some(155_101 | 155_106 | 155_107), _) => Problem::new(
            Code::CircleError,
            "Circle has what the request would make already. Ask GET /pin how the user stands.",
        ),
        (Some(155_112 | 155_115 | 155_118 | 155_121), _) => Problem::new(
            Code::CircleError,
            "Circle refuses what came from the user's device. Start again with a new challenge and its session.",
        ),
        (Some(155_116), _) => {
            Problem::new(Code::CircleError, "Circle does not know the challenge. Start again with a new one.")
        }
        (_, 429) | (Some(429), _) => Problem::new(
            Code::CircleRateLimited,
            "Circle takes no more calls from this account just now. Try again later.",
        )
        .retry_after(RETRY_SOON),
        (_, 500..) => Problem::new(
            Code::CircleUnavailable,
            "Circle failed to answer. Try again, with the same Idempotency-Key if there was one.",
        )
        .retry_after(RETRY_SOON),
        // -1 is Circle's "something went wrong": nothing is known, so the next try may fare better.
        (None | Some(-1), _) => Problem::new(
            Code::CircleError,
            "Circle refused the request without a reason. Try again, and report it if it stays.",
        )
        .retry_after(RETRY_SOON),
        // What Circle refuses for a reason it refuses again, so nothing is said of when to try.
        _ => Problem::new(
            Code::CircleError,
            "Circle refused the request in a way that this service does not know; circleCode has its number.",
        ),
    }
}

/// Circle or the table did not answer in time.
pub fn timeout() -> Problem {
    Problem::new(
        Code::Timeout,
        "The request could not be answered in time. Try again, with the same Idempotency-Key if there was one.",
    )
    .retry_after(RETRY_SOON)
}

/// Circle has disabled the user.
pub fn user_disabled() -> Problem {
    Problem::new(Code::UserDisabled, "Circle has disabled the user. Only the app's operator can help.")
}

/// There is no PIN to change or to restore.
pub fn pin_not_set() -> Problem {
    Problem::new(Code::PinNotSet, "The user has no PIN yet. Have the user set one with Circle's SDK first.")
}

/// There are no security questions to restore the PIN with.
pub fn security_questions_not_set() -> Problem {
    Problem::new(
        Code::SecurityQuestionsNotSet,
        "The user has set no security questions, so the PIN can be changed but not restored.",
    )
}

/// PIN entry is locked; recovery is open.
pub fn pin_locked() -> Problem {
    Problem::new(
        Code::PinLocked,
        "PIN entry is locked after too many wrong PINs. Wait until it opens, or restore the PIN with a RESTORE_PIN challenge.",
    )
}

/// Recovery is locked.
pub fn security_answers_locked() -> Problem {
    Problem::new(
        Code::SecurityAnswersLocked,
        "Answering the security questions is locked after too many wrong answers. Wait until it opens.",
    )
}

/// The user has asked for as many challenges as one may, until the given end of the hour.
pub fn too_many_challenges(until: OffsetDateTime, now: OffsetDateTime) -> Problem {
    Problem::new(
        Code::TooManyChallenges,
        "The user has asked for as many new challenges as one user may in an hour. Wait for the next one; what was asked for can still be repeated with its Idempotency-Key.",
    )
    .retry_at(until, now)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable { .. } => Self::new(
                Code::StorageUnavailable,
                "The challenge's record could not be reached. Try again, with the same Idempotency-Key if there was one.",
            )
            .retry_after(RETRY_SOON),
            StoreError::Unreadable { .. } => Self::new(
                Code::Internal,
                "The challenge's record could not be read. The operator finds the cause in the log.",
            ),
        }
        .because(error)
    }
}
