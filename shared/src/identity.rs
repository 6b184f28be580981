//! Who is calling: from the verified claim to the Circle user id.

use std::fmt;

use lambda_http::Request;

use crate::problem::{Code, Problem};
use crate::request;
use crate::secrets::UserToken;

/// The id of an end user at Circle, chosen by the app: 5 to 50 characters (Circle's "external user id").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(String);

impl UserId {
    /// `None` if the text cannot be a Circle user id.
    pub fn parse(text: &str) -> Option<Self> {
        let length_fits = (5..=50).contains(&text.chars().count());
        (length_fits && !text.chars().any(char::is_control)).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The caller's Circle user id: the claim `claim` of the token that API Gateway's JWT authorizer verified.
/// There is no other way to name a user.
///
/// # Errors
/// `unauthenticated` where the event carries no verified claims, `invalid_user_id` where the claim is
/// missing or cannot be a Circle user id.
pub fn caller(request: &Request, claim: &str) -> Result<UserId, Problem> {
    let authorizer = request::context(request).and_then(|context| context.authorizer.as_ref());
    let Some(jwt) = authorizer.and_then(|authorizer| authorizer.jwt.as_ref()) else {
        return Err(Problem::new(
            Code::Unauthenticated,
            "The request carries no verified claims. Call this route through the HTTP API and its JWT authorizer.",
        ));
    };
    jwt.claims.get(claim).and_then(|value| UserId::parse(value)).ok_or_else(|| {
        Problem::new(
            Code::InvalidUserId,
            format!("The token's claim {claim} has to be the Circle user id, 5 to 50 characters."),
        )
    })
}

/// The caller's own `X-User-Token`, if one was sent.
///
/// That the token names the caller is an early check only: Circle verifies the token itself.
///
/// # Errors
/// `invalid_user_token` where it has not the shape of a Circle user token, `user_token_mismatch` where it
/// is for another user.
pub fn user_token(request: &Request, caller: &UserId) -> Result<Option<UserToken>, Problem> {
    let Some(text) = request::header(request, "x-user-token", Code::InvalidUserToken)? else {
        return Ok(None);
    };
    let token = UserToken::parse(text);
    let Some((token, claims)) = token.and_then(|token| token.claims().map(|claims| (token, claims))) else {
        return Err(Problem::new(
            Code::InvalidUserToken,
            "The header X-User-Token has to be a userToken as POST /session-tokens returned it.",
        ));
    };
    if claims.sub != caller.0 {
        return Err(Problem::new(
            Code::UserTokenMismatch,
            "The user token belongs to another user. Ask POST /session-tokens for one of the signed-in user.",
        ));
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_has_5_to_50_characters() {
        for good in ["12345", &"x".repeat(50), "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "auth0|abc/def"] {
            assert_eq!(UserId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "1234", &"x".repeat(51), "\u{e9}\u{e9}", "line\nbreak"] {
            assert_eq!(UserId::parse(bad), None, "{bad:?}");
        }
    }
}
