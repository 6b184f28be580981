//! What a function reads off its event.

use std::net::IpAddr;
use std::time::Duration;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::request::RequestContext;
use lambda_http::{Context, Request, RequestExt};
use time::OffsetDateTime;

use crate::clock::{Clock, Deadline};
use crate::problem::{Code, Problem};

/// What is kept of Lambda's own time limit to write the answer in.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// API Gateway's context of the request: who called, from where, and under which id.
pub fn context(request: &Request) -> Option<&ApiGatewayV2httpRequestContext> {
    // A match would be irrefutable with one event type enabled, and break where another crate enables more.
    #[allow(irrefutable_let_patterns)]
    if let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() {
        Some(context)
    } else {
        None
    }
}

/// The id of the request that API Gateway gave it and returns as `apigw-requestid`.
pub fn id(request: &Request) -> &str {
    context(request).and_then(|context| context.request_id.as_deref()).unwrap_or("unknown")
}

/// The address that the request came from, as API Gateway saw it. A header would be the sender's word.
pub fn source_ip(request: &Request) -> Option<IpAddr> {
    context(request)?.http.source_ip.as_deref()?.parse().ok()
}

/// When the answer has to be there: `limit` from now, or half a second before Lambda ends the
/// invocation if that is sooner.
pub fn deadline(request: &Request, limit: Duration, clock: &dyn Clock) -> Deadline {
    invocation_deadline(request.lambda_context_ref(), limit, clock)
}

/// When an invocation has to be done: `limit` from now, or half a second before Lambda ends it if that is sooner. A
/// time limit of Lambda's in the past is none: cargo-lambda sends one.
pub fn invocation_deadline(context: Option<&Context>, limit: Duration, clock: &dyn Clock) -> Deadline {
    let own = Deadline::after(clock, limit);
    let lambda = context.and_then(|context| {
        let nanoseconds = i128::from(context.deadline) * 1_000_000;
        let instant = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
        (instant > clock.now()).then(|| Deadline::at(instant - ANSWER_MARGIN))
    });
    lambda.map_or(own, |lambda| own.min(lambda))
}

/// A header's text, if the header is there.
///
/// # Errors
/// With `code` where it is there but is not printable ASCII.
pub fn header<'a>(request: &'a Request, name: &str, code: Code) -> Result<Option<&'a str>, Problem> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Problem::new(code, format!("The header {name} has to be printable ASCII."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::AdjustableClock;
    use lambda_http::Body;
    use time::macros::datetime;

    const LIMIT: Duration = Duration::from_secs(8);

    #[test]
    fn the_nearer_limit_counts_and_one_in_the_past_does_not() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let clock = AdjustableClock::frozen(now);
        let remaining = |lambda: Option<OffsetDateTime>| {
            let mut context = Context::default();
            context.deadline = lambda.map_or(0, |at| (at.unix_timestamp_nanos() / 1_000_000) as u64);
            let request = Request::new(Body::Empty).with_lambda_context(context);
            deadline(&request, LIMIT, &clock).remaining(&clock)
        };
        assert_eq!(remaining(None), Duration::from_secs(8));
        assert_eq!(remaining(Some(now + Duration::from_secs(30))), Duration::from_secs(8));
        assert_eq!(remaining(Some(now + Duration::from_secs(3))), Duration::from_millis(2500));
        assert_eq!(remaining(Some(now - Duration::from_secs(3))), Duration::from_secs(8));
        assert_eq!(
            deadline(&Request::new(Body::Empty), LIMIT, &clock).remaining(&clock),
            Duration::from_secs(8)
        );
    }
}
