//! The HTTP server: it receives every request, applies the fault if there is one, and responds.

use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use shared::clock::Clock;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::CircleSimulator;
use super::api_error::ApiError;
use super::calls::{Call, NoCall};
use super::connection::{Cut, CuttingListener};
use super::control;
use super::faults::Fault;
use super::responses::{json_response, response};

const BODY_LIMIT: usize = 1024 * 1024;

/// Serves until the simulator stops.
pub(super) async fn serve(tcp: TcpListener, simulator: CircleSimulator) {
    let mut stopped = simulator.core.stopped.subscribe();
    let listener = CuttingListener { tcp, stopped: stopped.clone() };
    let app = Router::new().fallback(handle).with_state(simulator);
    let served = axum::serve(listener, app.into_make_service_with_connect_info::<Cut>())
        .with_graceful_shutdown(async move {
            // An error means that the simulator has been dropped.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the server of the Circle simulator failed");
    }
}

/// Handles a request in a task of its own, so that it takes effect even if the caller closes the connection.
async fn handle(
    State(simulator): State<CircleSimulator>,
    ConnectInfo(connection): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (send, receive) = oneshot::channel();
    let worker = simulator.clone();
    simulator.spawn(async move {
        let (parts, body) = request.into_parts();
        let response = match to_bytes(body, BODY_LIMIT).await {
            Ok(body) => worker.respond(&parts, body, &connection).await,
            Err(_) => ApiError::unreadable_body().into_response(),
        };
        // Sending fails if the caller is gone.
        let _ = send.send(response);
    });
    receive.await.unwrap_or_else(|_| ApiError::something_went_wrong().into_response())
}

impl CircleSimulator {
    async fn respond(&self, parts: &Parts, body: Bytes, connection: &Cut) -> Response {
        let path = parts.uri.path();
        if path == "/control" || path.starts_with("/control/") {
            return control::respond(self, &parts.method, path, &body);
        }
        let call = Call::find(&parts.method, path);
        let fault = {
            let mut state = self.state();
            let name = call.as_ref().map_or("unknown", |call| call.name());
            *state.calls.entry(name).or_default() += 1;
            state.faults.take(parts.method.as_str(), path)
        };
        let mut response = match fault {
            None => self.perform(call, parts, &body).await,
            Some(fault) => self.apply_fault(&fault, call, parts, &body, connection).await,
        };
        let request_id = parts.headers.get("X-Request-Id").cloned();
        let given = request_id.filter(|id| id.to_str().is_ok_and(|id| Uuid::parse_str(id).is_ok()));
        let new =
            || HeaderValue::try_from(self.core.random.uuid().to_string()).expect("a UUID is a header value");
        response.headers_mut().insert("X-Request-Id", given.unwrap_or_else(new));
        response
    }

    async fn perform(&self, call: Result<Call, NoCall>, parts: &Parts, body: &[u8]) -> Response {
        match call {
            Ok(call) => self.call(call, parts, body).await.into_response(),
            Err(NoCall::UnknownPath) => ApiError::no_such_resource().into_response(),
            Err(NoCall::WrongMethod) => ApiError::method_not_allowed().into_response(),
        }
    }

    async fn apply_fault(
        &self,
        fault: &Fault,
        call: Result<Call, NoCall>,
        parts: &Parts,
        body: &[u8],
        connection: &Cut,
    ) -> Response {
        let early_response = match fault.after_effect {
            true => Some(self.perform(call.clone(), parts, body).await),
            false => None,
        };
        self.core.clock.sleep(Duration::from_millis(fault.delay_ms)).await;
        if fault.drop {
            connection.cut();
            return StatusCode::BAD_GATEWAY.into_response();
        }
        if let Some(status) = fault.status {
            let mut response = match &fault.body {
                Some(text) => response(status, "text/html", text.clone()),
                None => json_response(status, &fault.error_body()),
            };
            if let Some(value) = fault.retry_after.as_ref().and_then(|text| HeaderValue::from_str(text).ok())
            {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            return response;
        }
        match early_response {
            Some(response) => response,
            None => self.perform(call, parts, body).await,
        }
    }
}
