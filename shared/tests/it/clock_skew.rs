//! AWS rejects a signature whose time is too far from its own.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::extract::State;
use axum::http::header::DATE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;
use shared::clock::{AdjustableClock, Clock, SystemClock};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, PrimitiveDateTime};
use tokio::net::TcpListener;

use crate::support::platform;

/// The form of `x-amz-date`.
const SIGNED_AT: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// By how much a signature's time may differ from the time of AWS
/// (`https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html`).
const TOLERANCE: Duration = Duration::minutes(5);

/// An AWS service whose clock is right: the error code of its rejections, and whether it accepted each request.
#[derive(Clone)]
struct Service {
    error: &'static str,
    accepted: Arc<Mutex<Vec<bool>>>,
}

impl Service {
    async fn start(error: &'static str) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = Self { error, accepted: Arc::default() };
        let router = Router::new().fallback(respond).with_state(service.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        (service, url)
    }

    /// Whether each request since the last call was accepted.
    fn take_accepted(&self) -> Vec<bool> {
        std::mem::take(&mut *self.accepted.lock().unwrap())
    }
}

async fn respond(State(service): State<Service>, headers: HeaderMap) -> impl IntoResponse {
    let now = SystemClock.now();
    let signed_at = PrimitiveDateTime::parse(headers["x-amz-date"].to_str().unwrap(), SIGNED_AT).unwrap();
    let is_accepted = (now - signed_at.assume_utc()).abs() <= TOLERANCE;
    service.accepted.lock().unwrap().push(is_accepted);
    let date = [(DATE, httpdate::fmt_http_date(now.into()))];
    if is_accepted {
        return (StatusCode::OK, date, "{}".to_owned());
    }
    let message = match service.error {
        "RequestTimeTooSkewed" => {
            "The difference between the request time and the current time is too large."
        }
        _ if signed_at.assume_utc() < now => "Signature expired: it is now earlier than allowed",
        _ => "Signature not yet current: it is still later than allowed",
    };
    let error =
        json!({ "__type": format!("com.amazon.coral.service#{}", service.error), "message": message });
    (StatusCode::BAD_REQUEST, date, error.to_string())
}

/// A running clock that is this many hours ahead.
fn wrong_clock(hours: i64) -> AdjustableClock {
    let clock = AdjustableClock::running();
    clock.jump_wall_clock(Duration::hours(hours));
    clock
}

#[tokio::test]
async fn a_call_to_dynamodb_that_is_rejected_for_its_time_is_retried_with_the_right_one() {
    for (error, hours) in
        [("InvalidSignatureException", -1), ("InvalidSignatureException", 1), ("RequestTimeTooSkewed", 1)]
    {
        let ((service, url), clock) = (Service::start(error).await, wrong_clock(hours));
        let client = platform(&url, clock.clone()).dynamodb;
        let get = || client.get_item().table_name("challenges").key("id", AttributeValue::S("1".into()));
        get().send().await.unwrap();
        assert_eq!(service.take_accepted(), [false, true], "{error}, {hours}");
        get().send().await.unwrap();
        assert_eq!(service.take_accepted(), [true], "the client remembers how wrong its clock is");
        // The clock is set right.
        clock.jump_wall_clock(Duration::hours(-hours));
        get().send().await.unwrap();
        assert_eq!(service.take_accepted(), [false, true], "{error}, {hours}");
    }
}

#[tokio::test]
async fn a_call_to_secrets_manager_that_is_rejected_for_its_time_is_retried_with_the_right_one() {
    for hours in [-1, 1] {
        let ((service, url), clock) = (Service::start("InvalidSignatureException").await, wrong_clock(hours));
        let client = platform(&url, clock.clone()).secrets_manager;
        let get = || client.get_secret_value().secret_id("circle-api-key");
        get().send().await.unwrap();
        assert_eq!(service.take_accepted(), [false, true]);
        get().send().await.unwrap();
        assert_eq!(service.take_accepted(), [true], "the client remembers how wrong its clock is");
        // The clock is set right.
        clock.jump_wall_clock(Duration::hours(-hours));
        get().send().await.unwrap();
        assert_eq!(service.take_accepted(), [false, true]);
    }
}
