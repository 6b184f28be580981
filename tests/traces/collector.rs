//! A collector of OpenTelemetry on loopback, and the spans that it has received.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use shared::clock::SystemClock;
use shared::config::Environment;
use shared::platform::{Platform, start_traces};
use shared::random::Random;

/// The collector of all tests, because the process has one subscriber and one export.
#[derive(Default)]
pub(crate) struct Collector {
    exports: Mutex<Vec<Bytes>>,
    /// Whether it receives requests without ever responding.
    pub(crate) is_hanging: AtomicBool,
}

impl Collector {
    /// Starts the collector, and traces of every request.
    pub(crate) fn start() -> &'static Self {
        static COLLECTOR: OnceLock<Arc<Collector>> = OnceLock::new();
        COLLECTOR.get_or_init(|| {
            let collector = Arc::new(Self::default());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let server = Arc::clone(&collector);
            // The tests have runtimes of their own, which end before the process does.
            std::thread::spawn(|| serve(listener, server));
            let environment = Environment::from([
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "unused"),
                ("AWS_SECRET_ACCESS_KEY", "unused"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_TRACES_SAMPLER_ARG", "1"),
            ]);
            let random = Arc::new(Random::from_system());
            let platform = Platform::new(environment, Arc::new(SystemClock), random).unwrap();
            start_traces(&platform, "tests").unwrap();
            collector
        })
    }

    /// All that was received, as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.exports.lock().unwrap().concat()
    }

    /// The spans that were received. Each export names the service that sent it.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let exports = self.exports.lock().unwrap();
        let requests = exports.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|spans| {
            let attributes = &spans.resource.as_ref().unwrap().attributes;
            assert!(attributes.iter().any(|one| one.key == "service.name" && text(&one.value) == "tests"));
            spans.scope_spans
        });
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(listener: TcpListener, collector: Arc<Collector>) {
    listener.set_nonblocking(true).unwrap();
    let receive = async move |headers: HeaderMap, body: Bytes| {
        if collector.is_hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        assert_eq!(headers["content-type"], "application/x-protobuf");
        collector.exports.lock().unwrap().push(body);
    };
    let router = Router::new().route("/v1/traces", post(receive));
    axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
}

/// An attribute's value. Those that the service sends are texts and whole numbers.
fn text(value: &Option<opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The value of a span's attribute.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    span.attributes.iter().find(|one| one.key == name).map(|one| text(&one.value))
}

/// An id of a trace or a span, as W3C Trace Context writes it.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
