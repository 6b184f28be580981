//! The caller and the parts of a request, from the claims and headers of a raw event.

use std::time::Duration;

use lambda_http::Context;
use libfuzzer_sys::Corpus;
use serde_json::Value;
use shared::identity;
use shared::lambda::request;
use shared::problem::Code;

use crate::api;
use crate::clock::NOON;
use crate::world::World;

/// How old a sign-in may be.
const MAX_AGE: Duration = Duration::from_secs(600);

pub(crate) fn claims(_: &World, input: &[u8]) -> Corpus {
    let Ok(event) = serde_json::from_slice::<Value>(input) else { return Corpus::Reject };
    let request = request(&event, Context::default());
    let claims = &event["requestContext"]["authorizer"]["jwt"]["claims"];
    let caller = identity::caller(&request, "sub");
    match &caller {
        Ok(user) => {
            let claim = api::claim(&event).expect("a user without a claim");
            assert_eq!(user.as_str(), claim, "another user than the claim's");
            assert!((5..=50).contains(&claim.chars().count()));
            assert!(!claim.chars().any(char::is_control) && claim.trim() == claim);
            assert!(!(claim.starts_with('[') && claim.ends_with(']')), "a list names no single user");
        }
        Err(problem) if claims.is_object() => assert_eq!(problem.code(), Code::InvalidUserId),
        Err(problem) => assert_eq!(problem.code(), Code::Unauthenticated),
    }
    if let Value::Number(number) = &claims["sub"]
        && number.as_f64().is_some_and(|number| number.abs() >= 9_007_199_254_740_992.0)
        && number.is_f64()
    {
        assert!(caller.is_err(), "a number that is not exact names a user");
    }

    let is_recent = identity::check_sign_in(&request, MAX_AGE, NOON).is_ok();
    let signed_in_at = match &claims["auth_time"] {
        Value::String(text) => text.parse::<f64>().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    if is_recent {
        let age = NOON.unix_timestamp() as f64 - signed_in_at.expect("a sign-in without a time");
        assert!((-31.0..=631.0).contains(&age), "{age}");
    }
    if let Ok(user) = &caller
        && let Ok(Some(token)) = identity::user_token(&request, user)
    {
        assert_eq!(
            token.claims().map(|claims| claims.sub).as_deref(),
            Some(user.as_str()),
            "another user's token"
        );
        let text = api::header(&event, "x-user-token").expect("a token without a header");
        assert!(!format!("{token:?}").contains(text) || text.len() < 8, "the token can be printed");
    }
    identity::log_login(&request);
    Corpus::Keep
}
