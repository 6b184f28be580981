//! Who is calling, and when they signed in: from the verified claims.

use std::collections::HashMap;
use std::time::Duration;

use lambda_http::Request;
use time::OffsetDateTime;
use tracing::Span;

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
    let claims = claims(request).ok_or_else(|| Problem::new(Cause::Unauthenticated))?;
    // API Gateway writes a claim that is a list as `[a b]`, which names no single user.
    let is_list = |value: &&String| value.starts_with('[') && value.ends_with(']');
    let value = claims.get(claim).filter(|value| !is_list(value));
    let user_id = value.and_then(|value| value.parse().ok());
    user_id.ok_or_else(|| Problem::new(Cause::InvalidUserId))
}

/// The longest id of a token or a session that is logged, in bytes.
const ID_LIMIT: usize = 64;

/// How far the issuer's clock may be from this one.
const CLOCK_ERROR: Duration = Duration::from_secs(30);

/// Checks that the user signed in at most `max_age` ago. The claim `auth_time` says when that was, in seconds since the
/// epoch (OpenID Connect Core 1.0, section 2).
///
/// # Errors
/// `sign_in_required` if the sign-in is older or in the future, or if the claim is missing or not a number.
pub fn check_sign_in(request: &Request, max_age: Duration, now: OffsetDateTime) -> Result<(), Problem> {
    let claim = claims(request).and_then(|claims| claims.get("auth_time"));
    // It may have a fraction, like every time in a JWT (RFC 7519, section 2).
    let signed_in_at = claim.and_then(|seconds| seconds.parse::<f64>().ok());
    let age = signed_in_at.map(|at| now.unix_timestamp_nanos() as f64 / 1e9 - at);
    let allowed = -CLOCK_ERROR.as_secs_f64()..=(max_age + CLOCK_ERROR).as_secs_f64();
    if age.is_some_and(|age| allowed.contains(&age)) {
        return Ok(());
    }
    Err(Problem::new(Cause::SignInRequired).max_sign_in_age(max_age))
}

/// Adds the login to the request's log line: the token's id, the session's, and when the user signed in. Issuers differ in
/// the claims that they set. The values are ids and times; anything else is left out, because it could be about the user.
pub fn log_login(request: &Request) {
    let Some(claims) = claims(request) else { return };
    let is_id = |text: &&String| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=ID_LIMIT).contains(&text.len()) && text.bytes().all(is_plain)
    };
    for (field, names) in
        [("token_id", &["jti"][..]), ("session_id", &["sid", "origin_jti"]), ("signed_in_at", &["auth_time"])]
    {
        if let Some(value) = names.iter().find_map(|name| claims.get(*name).filter(is_id)) {
            Span::current().record(field, value.as_str());
        }
    }
}

/// The claims that API Gateway's JWT authorizer verified.
fn claims(request: &Request) -> Option<&HashMap<String, String>> {
    Some(&request::context(request)?.authorizer.as_ref()?.jwt.as_ref()?.claims)
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
