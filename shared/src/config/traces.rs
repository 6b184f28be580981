//! OpenTelemetry's variables, as far as they are used.

use reqwest::Url;

use super::settings::{Setting, is_https_or_loopback, text};
use super::{Environment, SettingError};

const OTEL_EXPORTER_OTLP_ENDPOINT: Setting = Setting {
    default: Some("http://localhost:4318"),
    ..text("OTEL_EXPORTER_OTLP_ENDPOINT", "the https URL of a collector (http only for a loopback address)")
};
const OTEL_TRACES_SAMPLER_ARG: Setting = Setting {
    default: Some("0.05"),
    ..text("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1, the share of traces that are recorded")
};

/// `OTEL_EXPORTER_OTLP_ENDPOINT`, by default `http://localhost:4318`: the collector that traces are sent to, with the path
/// for traces. Plain http is accepted for a loopback address only.
///
/// # Errors
/// If it is neither an https URL nor a loopback one.
pub fn collector_url(environment: &Environment) -> Result<Url, SettingError> {
    let url = Url::parse(&OTEL_EXPORTER_OTLP_ENDPOINT.required(environment)?).ok();
    let mut url = url.filter(is_https_or_loopback).ok_or_else(|| OTEL_EXPORTER_OTLP_ENDPOINT.invalid())?;
    url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(["v1", "traces"]);
    Ok(url)
}

/// `OTEL_TRACES_SAMPLER_ARG`, by default 0.05: the share of the traces that begin here that are recorded.
///
/// # Errors
/// If it is not a number from 0 to 1.
pub fn trace_ratio(environment: &Environment) -> Result<f64, SettingError> {
    let ratio = OTEL_TRACES_SAMPLER_ARG.required(environment)?.parse().ok();
    ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| OTEL_TRACES_SAMPLER_ARG.invalid())
}
