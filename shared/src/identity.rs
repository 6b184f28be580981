//! Who is calling: from the verified claim to the Circle user id.

use lambda_http::Request;

use crate::problem::{Cause, Problem};
use crate::request;
use crate::secrets::UserToken;
use crate::user_id::UserId;

/// The caller's Circle user id: the claim `claim` of the token that API Gateway's JWT authorizer verified. There is no
/// other way to name a user.
///
/// # Errors
/// `unauthenticated` if the event has no verified claims, `invalid_user_id` if the claim is missing or cannot be a Circle
/// user id.
pub fn caller(request: &Request, claim: &str) -> Result<UserId, Problem> {
    let authorizer = request::context(request).and_then(|context| context.authorizer.as_ref());
    let jwt = authorizer.and_then(|authorizer| authorizer.jwt.as_ref());
    let jwt = jwt.ok_or_else(|| Problem::new(Cause::Unauthenticated))?;
    // API Gateway writes a claim that is a list as `[a b]`, which names no single user.
    let is_list = |value: &&String| value.starts_with('[') && value.ends_with(']');
    let value = jwt.claims.get(claim).filter(|value| !is_list(value));
    let user_id = value.and_then(|value| value.parse().ok());
    user_id.ok_or_else(|| Problem::new(Cause::InvalidUserId))
}

/// The caller's own `X-User-Token`, if one was sent.
///
/// Comparing the token's user with the caller is only an early check: Circle verifies the token itself.
///
/// # Errors
/// `invalid_user_token` if it does not have the shape of a Circle user token, `user_token_mismatch` if it belongs to
/// another user.
pub fn user_token(request: &Request, caller: &UserId) -> Result<Option<UserToken>, Problem> {
    let Some(text) = request::header(request, "x-user-token", Cause::InvalidUserToken)? else {
        return Ok(None);
    };
    let token = UserToken::parse(text);
    let Some((token, claims)) = token.and_then(|token| token.claims().map(|claims| (token, claims))) else {
        return Err(Problem::new(Cause::InvalidUserToken));
    };
    if claims.sub != caller.as_str() {
        return Err(Problem::new(Cause::UserTokenMismatch));
    }
    Ok(Some(token))
}
