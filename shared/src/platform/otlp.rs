//! The export of traces: OTLP over HTTP, in protobuf, to a collector
//! (`https://opentelemetry.io/docs/specs/otlp/#otlphttp`).

use std::time::Duration;

use http::header::CONTENT_TYPE;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use reqwest::{Method, Url};

use super::Platform;
use crate::clock::{SystemClock, timeout};
use crate::config::{self, SettingError};
use crate::http_client::HttpClient;
use crate::telemetry::{Chain, trace};

/// How long an invocation waits for the collector before its response. It is a part of the time that every invocation
/// reserves for its response.
const EXPORT_TIMEOUT: Duration = Duration::from_millis(250);

/// Starts traces of `service`, for the life of the process. A subscriber that is made later takes part.
///
/// # Errors
/// If the collector's address or the share of traces is invalid.
///
/// # Panics
/// If traces were started before.
pub fn start_traces(platform: &Platform, service: &str) -> Result<(), SettingError> {
    let url = config::collector_url(&platform.environment)?;
    let ratio = config::trace_ratio(&platform.environment)?;
    let http = platform.http.for_another_server();
    let names = [("service.namespace", "circle-pin-reset"), ("service.name", service)];
    let attributes = names.map(|(name, value)| KeyValue::new(name, value.to_owned()));
    let resource = Resource::builder_empty().with_attributes(attributes).build();
    let resource = ResourceAttributesWithSchema::from(&resource);
    let export = move |spans| {
        let (http, url, body) = (http.clone(), url.clone(), encode(spans, &resource));
        let sent = async move { timeout(&SystemClock, EXPORT_TIMEOUT, send(&http, url, body)).await };
        let exported = async {
            match sent.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = error.without_url();
                    tracing::warn!(error = %Chain(&error), "the collector did not take the traces");
                }
                Err(error) => tracing::warn!(%error, "the collector did not take the traces in time"),
            }
        };
        Box::pin(exported) as _
    };
    trace::start(ratio, Box::new(export));
    Ok(())
}

fn encode(spans: Vec<SpanData>, resource: &ResourceAttributesWithSchema) -> Vec<u8> {
    let resource_spans = group_spans_by_resource_and_scope(spans, resource);
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

async fn send(http: &HttpClient, url: Url, body: Vec<u8>) -> Result<(), reqwest::Error> {
    let request = http.request(Method::POST, url).header(CONTENT_TYPE, "application/x-protobuf").body(body);
    let response = http.send(request.build()?).await?.error_for_status()?;
    // The connection can be used again once the body has been read.
    response.bytes().await?;
    Ok(())
}
