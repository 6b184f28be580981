use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use shared::circle::CircleError;
use shared::circle_code::CircleCode;
use shared::problem::{Cause, Problem};
use shared::response;
use strum::IntoEnumIterator;
use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, utc_datetime};
use time::{OffsetDateTime, UtcOffset};

use super::check;

/// What a third party said. It is in no response.
const SAID: &str = "what a third party said";

/// Any instant that Circle can write, with any offset.
fn instant() -> impl Strategy<Value = OffsetDateTime> {
    let first = datetime!(0000-01-01 0:00 UTC).unix_timestamp();
    let last = datetime!(9999-12-31 23:59:59 UTC).unix_timestamp();
    let now = datetime!(2026-01-01 0:00 UTC).unix_timestamp();
    let second =
        prop_oneof![4 => now - 4_000..now + 4_000, 1 => first..=last, 1 => Just(first), 1 => Just(last)];
    (second, 0..1_000_000_000i64, -1439..=1439i32).prop_map(|(second, nanosecond, offset)| {
        let local = OffsetDateTime::from_unix_timestamp(second).unwrap();
        let local = local.saturating_add(time::Duration::nanoseconds(nanosecond));
        local.replace_offset(UtcOffset::from_whole_seconds(offset * 60).unwrap())
    })
}

/// Any time that a working clock shows.
fn now() -> impl Strategy<Value = OffsetDateTime> {
    let (first, last) = (utc_datetime!(2020-01-01 0:00), utc_datetime!(2100-01-01 0:00));
    (first.unix_timestamp()..last.unix_timestamp())
        .prop_map(|at| OffsetDateTime::from_unix_timestamp(at).unwrap())
}

#[derive(Debug, Clone)]
enum Origin {
    Ours(Cause),
    Circle { status: u16, code: Option<i64>, retry_after: Option<Duration>, had_user_token: bool },
}

fn origin() -> impl Strategy<Value = Origin> {
    let code = prop_oneof![1..6i64, 155_100..155_150i64, 177_600..177_620i64, any::<i64>()];
    let wait = prop_oneof![0..5_000u64, any::<u64>()].prop_map(Duration::from_millis);
    let circle = (400..600u16, prop::option::of(code), prop::option::of(wait), any::<bool>()).prop_map(
        |(status, code, retry_after, had_user_token)| Origin::Circle {
            status,
            code,
            retry_after,
            had_user_token,
        },
    );
    let causes: Vec<_> = Cause::iter().collect();
    prop_oneof![prop::sample::select(causes).prop_map(Origin::Ours), circle]
}

fn problem(origin: Origin) -> Problem {
    match origin {
        Origin::Ours(cause) => Problem::new(cause).because(SAID),
        Origin::Circle { status, code, retry_after, had_user_token } => CircleError::Response {
            call: "GET /v1/w3s/user",
            status,
            code: code.map(CircleCode),
            had_user_token,
            message: Some(SAID.into()),
            request_id: "request".into(),
            retry_after,
        }
        .into(),
    }
}

/// The section of the document in `infra/openapi.yaml`.
fn section() -> &'static str {
    let openapi = include_str!("../../../../infra/openapi.yaml");
    let start = openapi.find("\n    Problem:\n").unwrap();
    &openapi[start..start + openapi[start..].find("\n      examples:").unwrap()]
}

fn fits(member: &str, value: &Value) -> bool {
    match member {
        "type" => {
            value.as_str().and_then(|text| text.strip_prefix("urn:circle-pin-reset:problem:")).is_some_and(
                |code| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            )
        }
        "title" | "detail" | "code" | "requestId" | "userMessage" => value.is_string(),
        "status" => value.as_u64().is_some_and(|status| (400..600).contains(&status)),
        "circleCode" => value.is_i64(),
        "retryAfterSeconds" => value.as_u64().is_some_and(|seconds| seconds >= 1),
        "lockedUntil" => value.as_str().is_some_and(|time| OffsetDateTime::parse(time, &Rfc3339).is_ok()),
        _ => false,
    }
}

#[test]
fn every_problem_gives_a_document_that_openapi_allows() {
    let required = section().split_once("required: [").unwrap().1.split(']').next().unwrap();
    let inputs = (origin(), prop::option::of(instant()), prop::option::of(instant()), now());
    check(3_000, &inputs, |(origin, locked_until, retry_at, now)| {
        let mut problem = problem(origin);
        if let Some(at) = retry_at {
            problem = problem.retry_at(at, now);
        }
        if let Some(until) = locked_until {
            problem = problem.locked_until(until, now);
        }
        let response = response::problem(&problem, "request-1", now);
        let body = std::str::from_utf8(response.body()).unwrap();
        prop_assert!(!body.contains(SAID), "{body}");
        let document: Value = serde_json::from_str(body).unwrap();
        let members = document.as_object().unwrap();
        for (member, value) in members {
            prop_assert!(section().contains(&format!("\n        {member}:")), "{member} is not in OpenAPI");
            prop_assert!(fits(member, value), "{member}: {value}");
        }
        for member in required.split(", ") {
            prop_assert!(members.contains_key(member), "{member} is missing");
        }
        prop_assert_eq!(&document["status"], response.status().as_u16());
        let header = response.headers().get("retry-after").map(|seconds| seconds.to_str().unwrap().parse());
        prop_assert_eq!(document["retryAfterSeconds"].as_u64().map(Ok), header);
        prop_assert_eq!(&response.headers()["content-type"], "application/problem+json");
        prop_assert_eq!(&response.headers()["cache-control"], "no-store");
        Ok(())
    });
}
