//! Why a challenge failed, as callers and consumers of events see it.

use serde::Serialize;

use crate::circle_code::CircleCode;

/// Why a challenge failed: a stable reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureReason {
    /// The user entered a wrong PIN.
    IncorrectPin,
    /// The user gave wrong answers to the security questions.
    IncorrectAnswers,
    /// PIN entry was locked.
    PinLocked,
    /// Answering the security questions was locked.
    SecurityAnswersLocked,
    /// The challenge was not finished in time.
    Expired,
    /// The user cancelled.
    Cancelled,
    /// Anything else; Circle's code says more.
    Other,
}

impl FailureReason {
    /// The value that is stored and returned.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What the app shows to its user, like `userMessage` of a problem. It may be read long after the failure, and the
    /// record does not know when a lock opens: `GET /pin` asks Circle.
    pub fn message(self) -> &'static str {
        match self {
            Self::IncorrectPin => "That PIN was incorrect. Please try again.",
            Self::IncorrectAnswers => "Those answers were incorrect. Please try again.",
            Self::PinLocked => {
                "Too many incorrect PINs locked PIN entry for 30 minutes. You can wait, or reset your PIN with your security questions if you set them up."
            }
            Self::SecurityAnswersLocked => {
                "Too many incorrect answers locked PIN recovery. Please try again later."
            }
            Self::Expired => "This request expired. Please start again.",
            Self::Cancelled => "You cancelled this request. You can start again at any time.",
            Self::Other => {
                "Something went wrong. Please start again. If it keeps happening, contact support."
            }
        }
    }
}

impl From<Option<CircleCode>> for FailureReason {
    fn from(code: Option<CircleCode>) -> Self {
        match code {
            Some(CircleCode::INCORRECT_PIN) => Self::IncorrectPin,
            Some(CircleCode::INCORRECT_ANSWERS) => Self::IncorrectAnswers,
            Some(CircleCode::PIN_LOCKED) => Self::PinLocked,
            Some(CircleCode::SECURITY_ANSWERS_LOCKED) => Self::SecurityAnswersLocked,
            Some(CircleCode::CHALLENGE_EXPIRED) => Self::Expired,
            Some(CircleCode::CANCELLED) => Self::Cancelled,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_has_a_stable_reason() {
        let reason = |code| FailureReason::from(code).as_str();
        assert_eq!(reason(Some(CircleCode(155_112))), "incorrect_pin");
        assert_eq!(reason(Some(CircleCode(155_115))), "incorrect_answers");
        assert_eq!(reason(Some(CircleCode(155_119))), "pin_locked");
        assert_eq!(reason(Some(CircleCode(155_120))), "security_answers_locked");
        assert_eq!(reason(Some(CircleCode(155_121))), "expired");
        assert_eq!(reason(Some(CircleCode(155_701))), "cancelled");
        assert_eq!(reason(Some(CircleCode(999_999))), "other");
        assert_eq!(reason(None), "other");
    }

    #[test]
    fn serialized_reason_is_the_stored_one() {
        use strum::IntoEnumIterator;
        for reason in FailureReason::iter() {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
