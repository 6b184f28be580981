//! The network: every request waits here until the scheduler responds to it, or breaks its connection.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How often in a row nothing has to happen before everything counts as waiting. Each time, the runtime first runs every
/// task that can run, and then reads every socket that can be read.
const QUIET_ROUNDS: u32 = 24;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    /// Circle, which sends webhooks.
    Circle,
    /// The function in this sandbox.
    Sandbox(usize),
}

/// A request that waits for its response.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) sender: Sender,
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    reply: oneshot::Sender<Option<Response<Full<Bytes>>>>,
}

impl Call {
    /// Responds.
    pub(crate) fn respond(self, response: Response<Full<Bytes>>) {
        let _ = self.reply.send(Some(response));
    }

    /// Responds with a status and a text.
    pub(crate) fn respond_with(self, status: u16, content_type: &'static str, body: impl Into<Bytes>) {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = StatusCode::from_u16(status).expect("the status is valid");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        self.respond(response);
    }

    /// Breaks the connection.
    pub(crate) fn reset(self) {
        let _ = self.reply.send(None);
    }

    /// Whether nobody waits for the response any more.
    pub(crate) fn has_no_receiver(&self) -> bool {
        self.reply.is_closed()
    }

    /// The service that the request is for.
    pub(crate) fn service(&self) -> Service {
        match self.target() {
            None => Service::Circle,
            Some(target) if target.starts_with("DynamoDB_") => Service::DynamoDb,
            Some(target) if target.starts_with("secretsmanager.") => Service::SecretsManager,
            Some(_) => Service::EventBus,
        }
    }

    /// What is called: for an AWS service the operation and what it is about, else the method and the path.
    pub(crate) fn name(&self) -> String {
        let Some(target) = self.target() else {
            return format!("{} {}", self.head.method, self.head.uri.path());
        };
        let operation = target.rsplit('.').next().unwrap_or_default();
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let table = body["TableName"].as_str().unwrap_or_default();
        format!("{operation} {table}").trim_end().to_owned()
    }

    fn target(&self) -> Option<&str> {
        self.head.headers.get("x-amz-target")?.to_str().ok()
    }

    /// The order of calls that arrive together. The members of a JSON object have no order of their own.
    fn order(&self) -> (Sender, String, String) {
        let body = serde_json::from_slice::<Value>(&self.body).unwrap_or_default().to_string();
        (self.sender, self.name(), body)
    }
}

/// The services that functions call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Circle,
    DynamoDb,
    SecretsManager,
    EventBus,
}

/// A port for the requests of one sender. Dropping it closes the port and its connections.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) url: String,
    /// How often idle connections have gone stale.
    age: Arc<AtomicU64>,
    _server: JoinSet<()>,
}

impl Port {
    /// From now on, each connection that is open breaks when the next request arrives on it, as one does that the server
    /// closes at that moment. The request has no effect.
    pub(crate) fn age_connections(&self) {
        self.age.fetch_add(1, Ordering::Relaxed);
    }
}

/// The listeners of a world.
#[derive(Debug, Default)]
pub(crate) struct Network {
    arrived: Arc<Mutex<Vec<Call>>>,
    activity: Arc<AtomicU64>,
}

impl Network {
    /// Opens a port.
    pub(crate) async fn listen(&self, sender: Sender) -> io::Result<Port> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let age = Arc::new(AtomicU64::new(0));
        let door = Door {
            sender,
            arrived: Arc::clone(&self.arrived),
            activity: Arc::clone(&self.activity),
            age: Arc::clone(&age),
        };
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                door.activity.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, door.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Port { url, age, _server: server })
    }

    /// Waits until every task waits: for a response from here, or for time to pass. Returns the new requests in an order
    /// that depends on nothing but their content.
    pub(crate) async fn wait_until_quiet(&self) -> Vec<Call> {
        let (mut quiet, mut seen) = (0, self.activity.load(Ordering::Relaxed));
        while quiet < QUIET_ROUNDS {
            tokio::task::yield_now().await;
            let now = self.activity.load(Ordering::Relaxed);
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        let mut calls = std::mem::take(&mut *self.arrived.lock().unwrap());
        if calls.len() > 1 {
            calls.sort_by_cached_key(Call::order);
        }
        calls
    }
}

/// What the connections of a port share.
#[derive(Debug, Clone)]
struct Door {
    sender: Sender,
    arrived: Arc<Mutex<Vec<Call>>>,
    activity: Arc<AtomicU64>,
    age: Arc<AtomicU64>,
}

async fn serve(stream: TcpStream, door: Door) {
    // With Nagle's algorithm, a small response on loopback can wait 40 ms for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let opened_at = door.age.load(Ordering::Relaxed);
    let service = service_fn(|request: http::Request<Incoming>| {
        let door = door.clone();
        async move {
            let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
            if door.age.load(Ordering::Relaxed) != opened_at {
                door.activity.fetch_add(1, Ordering::Relaxed);
                return Err(broken());
            }
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let (reply, replied) = oneshot::channel();
            door.arrived.lock().unwrap().push(Call { sender: door.sender, head, body, reply });
            door.activity.fetch_add(1, Ordering::Relaxed);
            let response = replied.await.ok().flatten();
            door.activity.fetch_add(1, Ordering::Relaxed);
            response.ok_or_else(broken)
        }
    });
    // An error is a connection that broke, by intent.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A response that a fake gave, with the headers that describe its content.
pub(crate) fn response(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
    headers.remove(http::header::TRANSFER_ENCODING);
    headers.remove(http::header::CONNECTION);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
