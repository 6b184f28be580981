//! What a function reads from its event.

use std::net::IpAddr;
use std::time::Duration;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::request::RequestContext;
use lambda_http::{Context, Request, RequestExt};
use time::OffsetDateTime;

use crate::clock::{Clock, Deadline};
use crate::problem::{Cause, Problem};

/// Time reserved for the response before Lambda ends the invocation.
const RESPONSE_TIME: Duration = Duration::from_millis(500);

/// API Gateway's context of the request: who called, from where, and under which id.
pub fn context(request: &Request) -> Option<&ApiGatewayV2httpRequestContext> {
    // Only one event type is enabled here, but another crate of the build may enable more.
    #[allow(irrefutable_let_patterns)]
    if let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() {
        Some(context)
    } else {
        None
    }
}

/// The id that API Gateway gave the request, and returns as `apigw-requestid`.
pub fn id(request: &Request) -> &str {
    context(request).and_then(|context| context.request_id.as_deref()).unwrap_or("unknown")
}

/// A parameter of the path, such as `challengeId`.
pub fn path_parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.path_parameters_ref()?.first(name)
}

/// The first value of a query parameter.
pub fn query_parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.query_string_parameters_ref()?.first(name)
}

/// The source address of the request as API Gateway saw it. A header could be forged.
pub fn source_ip(request: &Request) -> Option<IpAddr> {
    context(request)?.http.source_ip.as_deref()?.parse().ok()
}

/// The deadline of the response: `timeout` from now, or half a second before Lambda ends the invocation if that is sooner.
pub fn deadline(request: &Request, timeout: Duration, clock: &dyn Clock) -> Deadline {
    invocation_deadline(request.lambda_context_ref(), timeout, clock)
}

/// The deadline of an invocation: `timeout` from now, or half a second before Lambda ends it if that is sooner. A Lambda
/// deadline in the past is ignored, because cargo-lambda sends one.
pub fn invocation_deadline(context: Option<&Context>, timeout: Duration, clock: &dyn Clock) -> Deadline {
    let own = Deadline::after(clock, timeout);
    let lambda = context.and_then(|context| {
        let nanoseconds = i128::from(context.deadline) * 1_000_000;
        let instant = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
        let remaining =
            Duration::try_from(instant - clock.now()).ok().filter(|remaining| !remaining.is_zero());
        remaining.map(|remaining| Deadline::after(clock, remaining.saturating_sub(RESPONSE_TIME)))
    });
    lambda.map_or(own, |lambda| own.min(lambda))
}

/// A header's text, if the request has the header.
///
/// # Errors
/// A problem with the given cause if the text is not printable ASCII.
pub fn header<'a>(request: &'a Request, name: &str, cause: Cause) -> Result<Option<&'a str>, Problem> {
    let text = request.headers().get(name).map(|value| value.to_str());
    text.transpose().map_err(|_| Problem::new(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::AdjustableClock;
    use lambda_http::Body;
    use time::macros::datetime;

    const TIMEOUT: Duration = Duration::from_secs(8);

    #[test]
    fn nearer_deadline_counts_and_a_past_one_is_ignored() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let clock = AdjustableClock::frozen(now);
        let remaining = |lambda: Option<OffsetDateTime>| {
            let mut context = Context::default();
            context.deadline = lambda.map_or(0, |at| (at.unix_timestamp_nanos() / 1_000_000) as u64);
            let request = Request::new(Body::Empty).with_lambda_context(context);
            deadline(&request, TIMEOUT, &clock).remaining(&clock)
        };
        assert_eq!(remaining(None), Duration::from_secs(8));
        assert_eq!(remaining(Some(now + Duration::from_secs(30))), Duration::from_secs(8));
        assert_eq!(remaining(Some(now + Duration::from_secs(3))), Duration::from_millis(2500));
        assert_eq!(remaining(Some(now - Duration::from_secs(3))), Duration::from_secs(8));
        assert_eq!(
            deadline(&Request::new(Body::Empty), TIMEOUT, &clock).remaining(&clock),
            Duration::from_secs(8)
        );
    }
}
