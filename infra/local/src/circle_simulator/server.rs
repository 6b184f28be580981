//! HTTP: every request comes in here, meets its fault if it has one, and is answered.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, header};
use serde_json::Value;
use shared::clock::Clock;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::CircleSimulator;
use super::calls::{Call, NoCall};
use super::connection::{Cut, CuttingListener};
use super::control;
use super::faults::Fault;
use super::refusal::Refusal;

const BODY_LIMIT: usize = 1024 * 1024;

/// A successful answer of Circle's.
pub(super) struct Answer {
    pub(super) status: u16,
    /// None for 204.
    pub(super) body: Option<Value>,
}

/// Serves until the simulator stops.
pub(super) async fn serve(tcp: TcpListener, simulator: CircleSimulator) {
    let mut stopped = simulator.core.stopped.subscribe();
    let listener = CuttingListener { tcp, stopped: stopped.clone() };
    let app = Router::new().fallback(answer).with_state(simulator);
    let served = axum::serve(listener, app.into_make_service_with_connect_info::<Cut>())
        .with_graceful_shutdown(async move {
            // An error says that the simulator is gone altogether.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the Circle simulator stopped serving");
    }
}

/// Works on a request in a task of its own: what it does happens even if the caller hangs up meanwhile.
async fn answer(
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
            Err(_) => refused(&Refusal::unreadable_body()),
        };
        // Nobody is left to answer when this fails.
        let _ = send.send(response);
    });
    receive.await.unwrap_or_else(|_| refused(&Refusal::something_went_wrong()))
}

impl CircleSimulator {
    async fn respond(&self, parts: &Parts, body: Bytes, connection: &Cut) -> Response {
        let path = parts.uri.path();
        if path == "/control" || path.starts_with("/control/") {
            return control::answer(self, &parts.method, path, &body);
        }
        let call = Call::find(&parts.method, path);
        let fault = {
            let mut state = self.state();
            let name = call.as_ref().map_or("unknown", |call| call.name());
            *state.calls.entry(name).or_default() += 1;
            state.take_fault(parts.method.as_str(), path)
        };
        let mut response = match fault {
            None => self.perform(call, parts, &body).await,
            Some(fault) => self.apply_fault(&fault, call, parts, &body, connection).await,
        };
        let request_id = parts.headers.get("X-Request-Id").cloned();
        let made =
            || HeaderValue::try_from(self.core.random.uuid().to_string()).expect("a UUID is a header value");
        let known = request_id.filter(|id| id.to_str().is_ok_and(|id| Uuid::parse_str(id).is_ok()));
        response.headers_mut().insert("X-Request-Id", known.unwrap_or_else(made));
        response
    }

    async fn perform(&self, call: Result<Call, NoCall>, parts: &Parts, body: &[u8]) -> Response {
        let answered = match call {
            Ok(call) => self.call(call, parts, body).await,
            Err(NoCall::UnknownPath) => Err(Refusal::no_such_resource()),
            Err(NoCall::WrongMethod) => Err(Refusal::method_not_allowed()),
        };
        match answered {
            Ok(Answer { status, body: Some(body) }) => json_response(status, &body),
            Ok(Answer { status, body: None }) => response(status, "", Body::empty()),
            Err(refusal) => refused(&refusal),
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
        let early = if fault.after_effect { None } else { Some(call.clone()) };
        let real = if fault.after_effect { Some(self.perform(call, parts, body).await) } else { None };
        self.core.clock.sleep(Duration::from_millis(fault.delay_ms)).await;
        if fault.drop {
            connection.cut();
            return response(502, "", Body::empty());
        }
        if let Some(status) = fault.status {
            let mut answer = match &fault.body {
                Some(text) => response(status, "text/html", text.clone().into()),
                None => json_response(status, &fault.error_body()),
            };
            if let Some(value) = fault.retry_after.as_ref().and_then(|text| HeaderValue::from_str(text).ok())
            {
                answer.headers_mut().insert(header::RETRY_AFTER, value);
            }
            return answer;
        }
        match (real, early) {
            (Some(real), _) => real,
            (None, Some(call)) => self.perform(call, parts, body).await,
            (None, None) => refused(&Refusal::something_went_wrong()),
        }
    }
}

fn refused(refusal: &Refusal) -> Response {
    json_response(refusal.status, &refusal.body())
}

pub(super) fn json_response(status: u16, body: &Value) -> Response {
    response(status, "application/json", body.to_string().into())
}

pub(super) fn response(status: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a checked status");
    if !content_type.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
