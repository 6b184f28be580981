//! The HTTP server: it receives every request, applies the fault if there is one, and responds.

use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use shared::clock::Clock;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::CircleSimulator;
use super::api_error::ApiError;
use super::calls::{Call, NoCall};
use super::connection::{Handle, SimulatorListener};
use super::faults::Fault;
use super::knobs::ConnectionEnd;

const BODY_LIMIT: usize = 1024 * 1024;

/// Serves until the simulator stops.
pub(super) async fn serve(tcp: TcpListener, simulator: CircleSimulator) {
    let mut stopped = simulator.core.stopped.subscribe();
    let listener = SimulatorListener { tcp, simulator: simulator.clone() };
    let app = Router::new().fallback(handle).with_state(simulator);
    let served = axum::serve(listener, app.into_make_service_with_connect_info::<Handle>())
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
    ConnectInfo(connection): ConnectInfo<Handle>,
    request: Request,
) -> Response {
    let (send, receive) = oneshot::channel();
    let worker = simulator.clone();
    simulator.spawn(async move {
        let (parts, body) = request.into_parts();
        let requests = connection.request_arrived();
        let response = match to_bytes(body, BODY_LIMIT).await {
            _ if worker.is_beyond_the_last(requests) => {
                connection.reset();
                StatusCode::BAD_GATEWAY.into_response()
            }
            Ok(body) => worker.respond(&parts, body, &connection).await,
            Err(_) => ApiError::unreadable_body().into_response(),
        };
        connection.response_ready();
        // Sending fails if the caller is gone.
        let _ = send.send(response);
    });
    receive.await.unwrap_or_else(|_| ApiError::something_went_wrong().into_response())
}

impl CircleSimulator {
    /// Whether a connection with this many requests is reset instead of getting a response.
    fn is_beyond_the_last(&self, requests: u32) -> bool {
        let knobs = &self.state().knobs;
        let limit = knobs.requests_per_connection;
        limit > 0 && requests > limit && knobs.connection_end == ConnectionEnd::Reset
    }

    async fn respond(&self, parts: &Parts, body: Bytes, connection: &Handle) -> Response {
        let path = parts.uri.path();
        if path == "/control" || path.starts_with("/control/") {
            return self.control(&parts.method, path, &parts.headers, &body);
        }
        let call = Call::find(&parts.method, path);
        let fault = {
            let mut state = self.state();
            let name = call.as_ref().map_or("unknown", |call| call.name());
            *state.calls.entry(name).or_default() += 1;
            state.faults.take(parts.method.as_str(), path)
        };
        let from_circle = fault.as_ref().is_none_or(|fault| fault.body.is_none());
        let mut response = match fault {
            None => self.perform(call, parts, &body, connection).await,
            Some(fault) => self.apply_fault(&fault, call, parts, &body, connection).await,
        };
        // A page of a gateway in front of Circle has no request id of Circle's.
        if from_circle && !response.headers().contains_key("X-Request-Id") {
            let request_id = parts.headers.get("X-Request-Id").cloned();
            let given = request_id.filter(|id| id.to_str().is_ok_and(|id| Uuid::parse_str(id).is_ok()));
            let new = || {
                HeaderValue::try_from(self.core.random.uuid().to_string()).expect("a UUID is a header value")
            };
            response.headers_mut().insert("X-Request-Id", given.unwrap_or_else(new));
        }
        response
    }

    async fn perform(
        &self,
        call: Result<Call, NoCall>,
        parts: &Parts,
        body: &[u8],
        connection: &Handle,
    ) -> Response {
        match call {
            Ok(call) => self.call(call, connection.peer(), parts, body).await.into_response(),
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
        connection: &Handle,
    ) -> Response {
        let early_response = match fault.after_effect {
            true => Some(self.perform(call.clone(), parts, body, connection).await),
            false => None,
        };
        self.core.clock.sleep(Duration::from_millis(fault.delay_ms)).await;
        if fault.drop || fault.reset {
            if fault.reset {
                connection.reset();
            } else {
                connection.cut_after(0);
            }
            return StatusCode::BAD_GATEWAY.into_response();
        }
        if let Some(bytes) = fault.cut_after_bytes {
            connection.cut_after(bytes);
        }
        if let Some(status) = fault.status {
            return fault.response(status);
        }
        match early_response {
            Some(response) => response,
            None => self.perform(call, parts, body, connection).await,
        }
    }
}
