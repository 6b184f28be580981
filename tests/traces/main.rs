//! Traces, with the feature `otel`: what a collector receives while the service runs.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use announce_challenges::{AnnounceChallenges, handle};
use lambda_http::{Context, LambdaEvent};
use local::circle_simulator::{Fault, PinEntry};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use shared::config::{Environment, collector_url, trace_ratio};
use tokio::sync::{Mutex, MutexGuard};

use self::collector::{Collector, attribute, hex};
use self::support::{App, CREATE_CHANGE_PIN, CREATE_SESSION, GET_USER_BY_ID, KEY, Log, PIN, USER};
use self::support::{challenge_id, fault_of, in_time, text};

mod collector;
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
#[path = "../end_to_end/support/mod.rs"]
mod support;

/// A trace of the app, whose flag asks to be recorded.
const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Every attribute that a span may have. A new one must say nothing about a user and be no text that a caller chose.
const ATTRIBUTES: [&str; 13] = [
    "challenge_id",
    "circle_request_id",
    "faas.invocation_id",
    "http.request.resend_count",
    "http.response.status_code",
    "http.route",
    "messaging.system",
    "operation",
    "outcome",
    "request_id",
    "rpc.method",
    "rpc.service",
    "rpc.system",
];

/// The tests take turns, because they share the collector.
async fn turn() -> (MutexGuard<'static, ()>, &'static Collector, Log) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = in_time(TURN.lock()).await;
    // The subscriber has to come after the start of traces.
    let collector = Collector::start();
    (turn, collector, Log::start())
}

#[tokio::test]
async fn changed_pin_is_one_trace_from_the_request_to_its_events() {
    let (_turn, collector, log) = turn().await;
    let app = App::start().await;
    let caller = format!("00-{CALLERS_TRACE}-00f067aa0ba902b7-01");
    let created = app.post_challenge().key(KEY).header("traceparent", &*caller).send().await;
    let id = challenge_id(created.is(201));
    app.circle.enter_pin(id, PinEntry::typed("000000")).unwrap();
    app.circle.enter_pin(id, PinEntry { new_pin: Some("445566".into()), ..PinEntry::typed(PIN) }).unwrap();
    app.wait_for_webhook(id, "COMPLETE", 200).await;
    assert_eq!(app.events().await.len(), 2);

    let all = collector.spans();
    let request = only(&all, |span| span.name == "POST /challenges");
    assert_eq!(attribute(request, "challenge_id"), Some(id.to_string()));
    assert_eq!(attribute(request, "request_id"), Some(header(&created, "apigw-requestid")));
    assert_eq!(attribute(request, "http.response.status_code"), Some("201".to_owned()));
    assert_eq!((request.kind(), request.parent_span_id.as_slice()), (SpanKind::Server, &[] as &[u8]));
    // The trace is one of the service's own. The caller's is linked.
    assert_ne!(hex(&request.trace_id), CALLERS_TRACE);
    assert_eq!(hex(&request.links[0].trace_id), CALLERS_TRACE);

    let trace: Vec<&Span> = all.iter().filter(|span| span.trace_id == request.trace_id).collect();
    let names: BTreeSet<&str> = trace.iter().map(|span| &*span.name).collect();
    let (requested, settled) = ("publish PIN Change Requested", "publish PIN Challenge Settled");
    let calls =
        [CREATE_CHANGE_PIN, CREATE_SESSION, GET_USER_BY_ID, "DynamoDB.GetItem", "DynamoDB.UpdateItem"];
    let secret = "Secrets Manager.GetSecretValue";
    assert_eq!(
        names,
        [&calls[..], &["POST /challenges", secret, requested, settled]].concat().into_iter().collect()
    );
    for call in &trace {
        match &*call.name {
            "POST /challenges" => {}
            "publish PIN Change Requested" | "publish PIN Challenge Settled" => {
                assert_eq!((call.kind(), &call.parent_span_id), (SpanKind::Producer, &request.span_id));
            }
            name => {
                // The first call to Circle reads the API key.
                let is_in = |parent: &&&Span| parent.span_id == call.parent_span_id;
                let parent = trace.iter().find(is_in).unwrap();
                assert!(parent.span_id == request.span_id || name == secret, "{call:?}");
                assert_eq!(call.kind(), SpanKind::Client, "{call:?}");
            }
        }
    }
    let create = only(&all, |span| span.name == CREATE_CHANGE_PIN);
    for (name, value) in
        [("operation", "create_challenge"), ("outcome", "ok"), ("http.request.resend_count", "0")]
    {
        assert_eq!(attribute(create, name).as_deref(), Some(value));
    }

    // The record carries the trace to the events, and the events carry it to their targets.
    let trace_id = hex(&request.trace_id);
    assert_eq!(app.record(id).await["traceparent"], format!("00-{trace_id}-{}-01", hex(&request.span_id)));
    let expected = [requested, settled].map(|name| {
        let event = hex(&only(&all, |span| span.name == name).span_id);
        Some(format!("Root=1-{}-{};Parent={event};Sampled=1", &trace_id[..8], &trace_id[8..]))
    });
    assert_eq!(in_time(app.stack.event_bus.trace_headers()).await, expected);

    let names: BTreeSet<&str> = all.iter().flat_map(|span| &span.attributes).map(|one| &*one.key).collect();
    assert!(names.iter().all(|name| ATTRIBUTES.contains(name)), "{names:?}");
    assert!(all.iter().all(|span| span.events.is_empty() && span.trace_state.is_empty()));
    let session = &created.body["session"];
    let (token, encryption_key) = (text(session, "userToken"), text(session, "encryptionKey"));
    let (api_key, access_token) = (app.circle.api_key(), &app.access_token);
    let exported = collector.bytes();
    for private in [USER, PIN, "445566", KEY, "127.0.0.1", token, encryption_key, &api_key, access_token] {
        let found = exported.windows(private.len()).any(|part| part == private.as_bytes());
        assert!(!found, "a span contains {private}");
    }

    // Log lines have the span of the request, also within a call.
    let lines = log.text();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<Value> = lines.filter(|line| line["operation"] == "create_challenge").collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let span = &lines[0]["span"];
    assert_eq!(span["name"], "request");
    assert_eq!(span["circle_request_id"].as_str().map(str::to_owned), attribute(create, "circle_request_id"));
}

#[tokio::test]
async fn failed_call_is_marked_and_its_retries_are_counted() {
    let (_turn, collector, log) = turn().await;
    let app = App::start().await;
    app.circle.add_fault(Fault { status: Some(500), times: 3, ..fault_of(GET_USER_BY_ID) });
    let failed = app.get_pin().send().await;
    assert_eq!(failed.status, 503);
    let request_id = Some(header(&failed, "apigw-requestid"));
    let spans = collector.spans();
    let request = only(&spans, |span| attribute(span, "request_id") == request_id);
    let call = only(&spans, |span| span.parent_span_id == request.span_id && span.name == GET_USER_BY_ID);
    for span in [request, call] {
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error, "{span:?}");
    }
    assert_eq!(attribute(call, "outcome").as_deref(), Some("unavailable"));
    assert_eq!(attribute(call, "http.request.resend_count").as_deref(), Some("2"));
    // A line that is logged within the call has the request's span too.
    let lines = log.text();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let retries: Vec<Value> = lines.filter(|line| line["message"] == "retrying Circle call").collect();
    assert_eq!(retries.len(), 2);
    assert!(retries.iter().all(|line| line["span"]["name"] == "request"), "{retries:?}");
}

#[tokio::test]
async fn recorded_trace_of_lambda_is_linked() {
    let (_turn, collector, _log) = turn().await;
    let app = App::start().await;
    let function = AnnounceChallenges::new(&app.stack.platform).unwrap();
    let (root, parent) = ("1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8");
    for (number, sampled, links) in [(1, "1", 1), (2, "0", 0)] {
        let mut context = Context::default();
        context.request_id = format!("invocation-{number}");
        context.xray_trace_id = Some(format!("Root={root};Parent={parent};Sampled={sampled};Lineage=1:a:0"));
        in_time(handle(&function, LambdaEvent::new(json!({ "Records": [] }), context))).await.unwrap();
        let spans = collector.spans();
        let invocation = format!("invocation-{number}");
        let invocation =
            only(&spans, |span| attribute(span, "faas.invocation_id").as_ref() == Some(&invocation));
        let linked: Vec<_> =
            invocation.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
        assert_eq!(linked, vec![("5759e988bd862e3fe1be46a994272793".to_owned(), parent.to_owned()); links]);
    }
}

/// Without a limit, the request would wait for ever.
#[tokio::test]
async fn collector_that_does_not_respond_is_not_waited_for() {
    let (_turn, collector, log) = turn().await;
    let app = App::start().await;
    // The stack's own subscription causes the first webhook.
    app.wait_for_webhooks(1).await;
    collector.is_hanging.store(true, Ordering::Relaxed);
    let response = app.get_pin().send().await;
    collector.is_hanging.store(false, Ordering::Relaxed);
    response.is(200);
    assert_eq!(log.count(&["the collector did not take the traces in time"]), 1);
}

#[test]
fn collector_is_on_loopback_or_behind_tls() {
    let url = |endpoint| {
        collector_url(&Environment::from([("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)])).map(String::from)
    };
    assert_eq!(url("").unwrap(), "http://localhost:4318/v1/traces");
    assert_eq!(url("https://collector.example.com/a/").unwrap(), "https://collector.example.com/a/v1/traces");
    for wrong in ["http://collector.example.com", "collector"] {
        assert_eq!(
            url(wrong).unwrap_err().to_string(),
            "OTEL_EXPORTER_OTLP_ENDPOINT must be the https URL of a collector (http only for a loopback address)"
        );
    }
}

#[test]
fn share_of_recorded_traces_is_from_0_to_1() {
    let ratio = |text| trace_ratio(&Environment::from([("OTEL_TRACES_SAMPLER_ARG", text)]));
    assert_eq!([ratio("").unwrap(), ratio("1").unwrap(), ratio("0").unwrap()], [0.05, 1.0, 0.0]);
    for wrong in ["-0.1", "1.1", "NaN", "5%"] {
        assert_eq!(
            ratio(wrong).unwrap_err().to_string(),
            "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, the share of traces that are recorded"
        );
    }
}

/// The one span for which this holds.
#[track_caller]
fn only(spans: &[Span], holds: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<&Span> = spans.iter().filter(|span| holds(span)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

fn header(response: &support::Response, name: &str) -> String {
    response.headers[name].to_str().unwrap().to_owned()
}
