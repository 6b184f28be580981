//! Traces in the form of OpenTelemetry: spans of requests, of calls to Circle and AWS, and of events. Only with the feature
//! `otel`; without it, `no_trace.rs` takes the place of this module and does nothing.
//!
//! The spans are those of `tracing`: the request's span, which log lines have too, the spans that the AWS SDK makes of its
//! calls, and those of [`TARGET`], which are made here and which log lines do not have. A span leaves the process with the
//! [`ATTRIBUTES`] only, whatever fields it has.
//!
//! Which traces are recorded is decided here, never by a caller: a trace that a caller or Lambda names is linked and not
//! continued. Only the events of a challenge continue a trace, the one of the request that created it.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span as RecordedSpan, SpanData, SpanProcessor};
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The target of the spans that are part of traces but not of log lines. Log lines have the spans of this project's crates,
/// and this is the name of none.
const TARGET: &str = "trace";

/// The fields that a span keeps when it leaves the process, and their names there. There is none for a user, an address, a
/// token, or a text that a caller chose. The only text of Circle's is the id of its request, which `circle` keeps only if it
/// looks like an id.
const ATTRIBUTES: [(&str, &str); 13] = [
    ("request_id", "request_id"),
    ("invocation_id", "faas.invocation_id"),
    ("route", "http.route"),
    ("status", "http.response.status_code"),
    ("challenge_id", "challenge_id"),
    ("circle_request_id", "circle_request_id"),
    ("operation", "operation"),
    ("outcome", "outcome"),
    ("retries", "http.request.resend_count"),
    // The AWS SDK's.
    ("rpc.system", "rpc.system"),
    ("rpc.service", "rpc.service"),
    ("rpc.method", "rpc.method"),
    // An event's.
    ("messaging.system", "messaging.system"),
];

/// Sends spans away, and waits for that within a limit of its own.
pub type Export = Box<dyn Fn(Vec<SpanData>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the process needs for its traces.
struct Traces {
    provider: SdkTracerProvider,
    export: Export,
}

static TRACES: OnceLock<Traces> = OnceLock::new();

/// The spans that have ended and were not exported yet.
static ENDED: Mutex<Vec<SpanData>> = Mutex::new(Vec::new());

fn ended() -> MutexGuard<'static, Vec<SpanData>> {
    ENDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects the spans that end, without what must not leave the process.
#[derive(Debug)]
struct Collector;

impl SpanProcessor for Collector {
    fn on_start(&self, _: &mut RecordedSpan, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        let name_of = |attribute: &KeyValue| {
            ATTRIBUTES.iter().find(|(field, _)| *field == attribute.key.as_str()).map(|(_, name)| *name)
        };
        span.attributes = mem::take(&mut span.attributes)
            .into_iter()
            .filter_map(|attribute| Some(KeyValue::new(name_of(&attribute)?, attribute.value)))
            .collect();
        span.events = Default::default();
        for attribute in &span.attributes {
            match attribute.key.as_str() {
                "http.route" => {
                    span.span_kind = SpanKind::Server;
                    span.name = attribute.value.to_string().into();
                }
                "rpc.system" => span.span_kind = SpanKind::Client,
                _ => {}
            }
        }
        ended().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Starts traces for the life of the process: of each trace that begins here, the share `ratio` is recorded and given to
/// `export`. Subscribers that are made later take part.
///
/// # Panics
/// If traces were started before.
pub fn start(ratio: f64, export: Export) {
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        // Reading the resource from the environment is not needed: whoever exports adds it.
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(Collector)
        .build();
    let is_first = TRACES.set(Traces { provider, export }).is_ok();
    assert!(is_first, "traces were started before");
}

/// The part of a subscriber that makes traces of spans, if traces were started. `is_own` tells the targets of this project.
pub(super) fn layer<S>(is_own: impl Fn(&str) -> bool + Send + Sync + 'static) -> Option<impl Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_part = move |metadata: &Metadata<'_>| {
        let target = metadata.target();
        metadata.is_span() && (target == TARGET || target.starts_with("aws_sdk_") || is_own(target))
    };
    TRACES.get().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.provider.tracer("circle-pin-reset"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            // The AWS SDK's spans have the level DEBUG.
            .with_filter(filter_fn(is_part).with_max_level_hint(LevelFilter::DEBUG))
    })
}

/// The same work, after which the spans that have ended are exported.
pub(super) fn exported<F: Future>(work: F) -> impl Future<Output = F::Output> {
    // On the heap, because it is large, and each future around it would copy it.
    let work = Box::pin(work);
    async move {
        let output = work.await;
        let spans = mem::take(&mut *ended());
        if let Some(traces) = TRACES.get()
            && !spans.is_empty()
        {
            (traces.export)(spans).await;
        }
        output
    }
}

/// Links a span to the trace that Lambda records of the invocation, if it records one, and to the trace that the caller
/// names in the header `traceparent`. Neither has a say in what is recorded: both could come from the caller.
pub fn link(span: &Span, invocation: Option<&lambda_http::Context>, headers: Option<&HeaderMap>) {
    let xray_trace_id = invocation.and_then(|invocation| invocation.xray_trace_id.as_deref());
    let traceparent = headers.and_then(|headers| headers.get("traceparent")?.to_str().ok());
    let (lambda, caller) = (xray_trace_id.and_then(from_xray), traceparent.and_then(from_traceparent));
    for context in [lambda, caller].into_iter().flatten() {
        span.add_link(context);
    }
}

/// Adds the status of the response to the request's span, which is the current one.
pub fn responded(status: u16) {
    let span = Span::current();
    span.set_attribute("status", i64::from(status));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
}

/// The span of a call to Circle. `name` has the method and the template of the path.
pub fn circle_call(operation: &'static str, name: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET, "circle", otel.name = name, otel.kind = "client", operation,
        outcome = Empty, retries = Empty, circle_request_id = Empty,
    )
}

/// The same work, with a span around it.
pub fn within<F: Future>(span: &Span, work: F) -> impl Future<Output = F::Output> {
    // On the heap for the same reason as in `exported`.
    Box::pin(work).instrument(span.clone())
}

/// Adds what became of a call to Circle to its span.
pub fn circle_responded(span: &Span, outcome: &'static str, retries: u32, request_id: Option<&str>) {
    span.record("outcome", outcome).record("retries", retries).record("circle_request_id", request_id);
    if outcome != "ok" {
        span.set_status(Status::error(outcome));
    }
}

/// The trace of the current span and the span itself, as W3C Trace Context writes them. `None` if it is not recorded.
pub fn traceparent() -> Option<String> {
    recorded(&Span::current()).map(|context| {
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
    })
}

/// The span of an event that is published, in the trace of the request that created its challenge. It is linked to the
/// current span. Nothing is recorded of an event whose record has no `traceparent`.
pub fn event(detail_type: &'static str, traceparent: Option<&str>) -> Span {
    let Some(request) = traceparent.and_then(from_traceparent) else { return Span::none() };
    let span = tracing::info_span!(
        target: TARGET, parent: None, "publish", otel.name = format!("publish {detail_type}"),
        otel.kind = "producer", messaging.system = "aws.eventbridge",
    );
    // This fails only without the layer, and then there is nothing to record.
    let _ = span.set_parent(Context::new().with_remote_span_context(request));
    if let Some(invocation) = recorded(&Span::current()) {
        span.add_link(invocation);
    }
    span
}

/// A span as X-Ray's header names it. `None` if it is not recorded.
pub fn xray_header(span: &Span) -> Option<String> {
    recorded(span).map(|context| {
        let trace_id = context.trace_id().to_string();
        let (time, rest) = trace_id.split_at(8);
        format!("Root=1-{time}-{rest};Parent={};Sampled=1", context.span_id())
    })
}

/// The context of a span that is recorded.
fn recorded(span: &Span) -> Option<SpanContext> {
    let context = span.context().span().span_context().clone();
    context.is_sampled().then_some(context)
}

fn from_traceparent(text: &str) -> Option<SpanContext> {
    let header = HashMap::from([("traceparent".to_owned(), text.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &header);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// Reads `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`. `None` if it is not sampled.
fn from_xray(header: &str) -> Option<SpanContext> {
    let field = |name: &str| header.split(';').find_map(|field| field.trim().strip_prefix(name));
    let (root, parent) = (field("Root=1-")?.replace('-', ""), field("Parent=")?);
    let context = from_traceparent(&format!("00-{root}-{parent}-01"));
    context.filter(|_| field("Sampled=") == Some("1"))
}
