//! The id of an end user.

use std::fmt;
use std::str::FromStr;

/// The id of an end user at Circle, chosen by the app (Circle calls it the external user id): 5 to 50 characters, without
/// control characters and without white space around it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(String);

/// The text cannot be a Circle user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Circle user id has 5 to 50 characters")]
pub struct InvalidUserId;

impl UserId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        let length_fits = (5..=50).contains(&text.chars().count());
        if length_fits && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUserId)
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_id_has_5_to_50_characters() {
        for good in ["12345", &"x".repeat(50), "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "auth0|abc/def"] {
            assert_eq!(good.parse::<UserId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "1234",
            &"x".repeat(51),
            "\u{e9}\u{e9}\u{e9}\u{e9}",
            "12345\n",
            "1234\u{0}",
            " 12345",
            "12345\u{a0}",
        ] {
            assert_eq!(bad.parse::<UserId>(), Err(InvalidUserId), "{bad}");
        }
    }
}
