//! Why a control operation failed.

use uuid::Uuid;

/// Why a control operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The user, challenge or operation does not exist (404).
    #[error("{0}")]
    NotFound(String),
    /// The input is invalid (400).
    #[error("{0}")]
    Invalid(String),
    /// The challenge already has a final status (409).
    #[error("{0}")]
    Final(String),
}

impl ControlError {
    pub(super) fn no_user(user_id: &str) -> Self {
        Self::NotFound(format!("there is no user {user_id}"))
    }

    pub(super) fn no_challenge(id: Uuid) -> Self {
        Self::NotFound(format!("there is no challenge {id}"))
    }

    pub(super) fn invalid(problem: &str) -> Self {
        Self::Invalid(problem.to_owned())
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::NotFound(_) => 404,
            Self::Invalid(_) => 400,
            Self::Final(_) => 409,
        }
    }
}
