//! The HTTP responses of the simulator.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::api_error::ApiError;

/// A successful response of Circle's API.
pub(super) struct Success {
    status: StatusCode,
    body: Option<Value>,
}

impl Success {
    pub(super) fn ok(data: Value) -> Self {
        Self::unwrapped(json!({ "data": data }))
    }

    pub(super) fn created(data: Value) -> Self {
        Self { status: StatusCode::CREATED, ..Self::ok(data) }
    }

    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }

    /// A body that is not wrapped in `data`.
    pub(super) fn unwrapped(body: Value) -> Self {
        Self { status: StatusCode::OK, body: Some(body) }
    }
}

impl IntoResponse for Success {
    fn into_response(self) -> Response {
        match self.body {
            Some(body) => (self.status, Json(body)).into_response(),
            None => self.status.into_response(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.body());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// # Panics
/// If `status` is not between 100 and 999.
pub(super) fn json_response(status: u16, body: &Value) -> Response {
    (status_code(status), Json(body)).into_response()
}

/// # Panics
/// If `status` is not between 100 and 999.
pub(super) fn response(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    (status_code(status), [(header::CONTENT_TYPE, content_type)], body.into()).into_response()
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("the status was checked before")
}
