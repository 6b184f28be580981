//! The body of the request.

use lambda_http::Request;
use lambda_http::http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use shared::challenge::ChallengeType;
use shared::problem::{Cause, Problem};

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default = "change_pin")]
    r#type: Value,
}

fn change_pin() -> Value {
    ChallengeType::ChangePin.as_str().into()
}

/// The challenge type that the body asks for; CHANGE_PIN if there is no body or no `type`.
///
/// # Errors
/// `body_too_large`, `unsupported_media_type`, `invalid_body`, `invalid_challenge_type`.
pub(crate) fn challenge_type(request: &Request) -> Result<ChallengeType, Problem> {
    let body: &[u8] = request.body().as_ref();
    if body.is_empty() {
        return Ok(ChallengeType::ChangePin);
    }
    if body.len() > BODY_LIMIT {
        return Err(Problem::new(Cause::ChallengeBodyTooLarge));
    }
    if !is_json(request) {
        return Err(Problem::new(Cause::UnsupportedMediaType));
    }
    // serde would read a struct from an array too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::new(Cause::InvalidBody));
    }
    let body: Body = serde_json::from_slice(body).map_err(|_| Problem::new(Cause::InvalidBody))?;
    let challenge_type = body.r#type.as_str().and_then(|name| name.parse().ok());
    challenge_type.ok_or_else(|| Problem::new(Cause::InvalidChallengeType))
}

fn is_json(request: &Request) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}
