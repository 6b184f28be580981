//! The module `trace` without the feature `otel`: there are no traces.

use http::HeaderMap;
use lambda_http::Context;
use tracing::Span;

/// Does nothing.
pub fn link(_: &Span, _: Option<&Context>, _: Option<&HeaderMap>) {}

/// Does nothing.
pub fn responded(_status: u16) {}

/// No span.
pub fn circle_call(_operation: &'static str, _name: &'static str) -> Span {
    Span::none()
}

/// The work alone.
pub fn within<F: Future>(_: &Span, work: F) -> F {
    work
}

/// Does nothing.
pub fn circle_responded(_: &Span, _outcome: &'static str, _retries: u32, _request_id: Option<&str>) {}

/// `None`.
pub fn traceparent() -> Option<String> {
    None
}

/// No span.
pub fn event(_detail_type: &'static str, _traceparent: Option<&str>) -> Span {
    Span::none()
}

/// `None`.
pub fn xray_header(_: &Span) -> Option<String> {
    None
}

/// The work alone.
pub(super) fn exported<F: Future>(work: F) -> F {
    work
}
