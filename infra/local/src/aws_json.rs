//! What the stand-ins for AWS services have in common: the JSON protocol, in which the header `X-Amz-Target` names the
//! operation.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::random::Random;

/// The content type of version 1.1 of the protocol, which EventBridge and Secrets Manager use.
pub(crate) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// An error in AWS's form.
#[derive(Debug)]
pub(crate) struct AwsError {
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
}

impl AwsError {
    /// An error of the caller.
    pub(crate) const fn bad_request(kind: &'static str, message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind, message }
    }

    /// An error of the service, which the AWS SDK retries.
    pub(crate) const fn internal(kind: &'static str) -> Self {
        let message = "An error occurred on the server side.";
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind, message }
    }
}

impl IntoResponse for AwsError {
    fn into_response(self) -> Response {
        let body = json!({ "__type": self.kind, "message": self.message });
        (self.status, [("x-amzn-errortype", self.kind)], body.to_string()).into_response()
    }
}

/// The operation that a call names. A call without a signature is rejected, but the signature is not verified.
pub(crate) fn operation(headers: &HeaderMap) -> Result<&str, AwsError> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(AwsError::bad_request(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ));
    }
    Ok(headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default())
}

/// The error of a call to an operation that the stand-in does not have.
pub(crate) const fn unknown_operation() -> AwsError {
    AwsError::bad_request("UnknownOperationException", "")
}

/// Reads the body of a call.
pub(crate) fn request<R: DeserializeOwned>(body: &[u8]) -> Result<R, AwsError> {
    let malformed = |_| AwsError::bad_request("SerializationException", "Bad request body.");
    serde_json::from_slice(body).map_err(malformed)
}

/// The response to a call, with an id of its own.
pub(crate) fn response(result: Result<Value, AwsError>, version: &'static str, random: &Random) -> Response {
    let mut response =
        result.map_or_else(IntoResponse::into_response, |value| value.to_string().into_response());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(version));
    let request_id = random.uuid().to_string();
    headers.insert("x-amzn-requestid", request_id.parse().expect("a UUID is a header value"));
    response
}
