//! `GET /challenges`: the caller's challenges, newest first.

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::challenge_store::Cursor;
use shared::challenge_view::ChallengeView;
use shared::problem::{Cause, Problem};
use shared::{request, response};

use crate::GetChallenge;

/// How many challenges a page has if the caller does not say.
const DEFAULT_LIMIT: u8 = 20;

/// How many challenges a page has at most.
const MAX_LIMIT: u8 = 100;

pub(crate) async fn challenges(
    function: &GetChallenge,
    request: &Request,
) -> Result<Response<Body>, Problem> {
    let user = function.api.caller(request)?;
    let limit = match request::query_parameter(request, "limit") {
        Some(limit) => limit.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)),
        None => Some(DEFAULT_LIMIT),
    };
    let limit = limit.ok_or_else(|| Problem::new(Cause::InvalidLimit))?;
    let cursor = request::query_parameter(request, "cursor").map(str::parse::<Cursor>);
    let cursor = cursor.transpose().map_err(|_| Problem::new(Cause::InvalidCursor))?;

    let page = function.challenges.requested_by(&user, cursor, limit).await?;

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed<'a> {
        challenges: Vec<ChallengeView<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_cursor: Option<String>,
    }
    let body = Listed {
        challenges: page.challenges.iter().map(ChallengeView::from).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    };
    Ok(response::json(StatusCode::OK, &body))
}
