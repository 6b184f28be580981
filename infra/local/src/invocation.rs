//! Lambda's context of an invocation.

use lambda_http::Context;
use time::OffsetDateTime;

/// The context of an invocation that Lambda would end at this time.
pub fn context(end: OffsetDateTime) -> Context {
    let mut context = Context::default();
    context.deadline = u64::try_from(end.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    context
}
