//! Tests of the HTTP API over real HTTP, with handlers in this process and with an `Invoke` endpoint.

mod access_log; // the line of each request
mod authorizer; // valid and invalid tokens
mod events; // the events that functions receive
mod responses; // the responses of functions, the gateway's own errors, CORS

use std::sync::{Arc, Mutex};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::post;
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::issuer::Issuer;

const AUDIENCE: &str = "circle-pin-reset";
const HOUR: Duration = Duration::from_secs(3600);

/// An HTTP API with its issuer and a frozen clock.
struct Fixture {
    api: HttpApi,
    issuer: Issuer,
    clock: AdjustableClock,
    log: Log,
    client: reqwest::Client,
}

impl Fixture {
    async fn new(backend: Backend) -> Self {
        Self::with_origins(backend, &["https://app.example.com"]).await
    }

    async fn with_origins(backend: Backend, allowed_origins: &[&str]) -> Self {
        let clock = AdjustableClock::frozen(datetime!(2026-01-01 12:00:00.25 UTC));
        let log = Log::new(clock.clone());
        let issuer = Issuer::start(listener().await, clock.clone()).await.unwrap();
        let api = HttpApi::start(HttpApiOptions {
            listener: listener().await,
            clock: clock.clone(),
            random: Arc::new(Random::from_seed(1)),
            issuer: issuer.url().to_owned(),
            audience: AUDIENCE.to_owned(),
            allowed_origins: allowed_origins.iter().copied().map(str::to_owned).collect(),
            throttled: true,
            backend,
            log: log.clone(),
        })
        .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { api, issuer, clock, log, client }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.api.url()))
    }

    fn token(&self) -> String {
        self.issuer.token("user-12345", AUDIENCE, HOUR)
    }

    /// A request of a signed-in user.
    fn signed_in(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path).bearer_auth(self.token())
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The same handler for every function.
fn in_process<F, R>(handler: F) -> Backend
where
    F: Fn(lambda_http::Request) -> R + Send + Sync + 'static,
    R: Future<Output = lambda_http::http::Response<lambda_http::Body>> + Send + 'static,
{
    let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
    Backend::InProcess(ROUTES.iter().map(|route| (route.function, handler.clone())).collect())
}

fn ok(body: &str) -> lambda_http::http::Response<lambda_http::Body> {
    lambda_http::http::Response::new(body.to_owned().into())
}

/// Lambda's `Invoke` endpoint. It records the events and always sends the same response.
struct Lambda {
    url: String,
    invocations: Arc<Mutex<Vec<(String, Value)>>>,
    _server: Server,
}

impl Lambda {
    async fn with_response(status: u16, body: Value) -> Self {
        type Shared = (Arc<Mutex<Vec<(String, Value)>>>, u16, Value);
        async fn invoke(
            State((invocations, status, body)): State<Shared>,
            Path(function): Path<String>,
            event: String,
        ) -> Response {
            invocations.lock().unwrap().push((function, serde_json::from_str(&event).unwrap()));
            (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
        }
        let invocations = Arc::<Mutex<Vec<_>>>::default();
        let router = Router::new()
            .route("/2015-03-31/functions/{function}/invocations", post(invoke))
            .layer(DefaultBodyLimit::disable())
            .with_state((invocations.clone(), status, body));
        let server = Server::start(listener().await, router).unwrap();
        Self { url: server.url().to_owned(), invocations, _server: server }
    }

    fn backend(&self) -> Backend {
        Backend::LambdaEndpoint(LambdaEndpoint::new(self.url.clone()))
    }

    /// The function name and the event of the only invocation since the last call.
    fn invocation(&self) -> (String, Value) {
        let mut invocations = std::mem::take(&mut *self.invocations.lock().unwrap());
        assert_eq!(invocations.len(), 1);
        invocations.remove(0)
    }
}

/// The status, the headers without those of the connection, in the order of their names, and the body.
async fn parts_of(response: reqwest::Response) -> (u16, Vec<(String, String)>, String) {
    let status = response.status().as_u16();
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "content-length", "apigw-requestid"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let request_id = response.headers()["apigw-requestid"].to_str().unwrap();
    assert_eq!(request_id.len(), 16, "{request_id}");
    (status, headers, response.text().await.unwrap())
}

/// What [`parts_of`] returns for an error of the gateway.
fn gateway_error(
    status: u16,
    headers: &[(&str, &str)],
    message: &str,
) -> (u16, Vec<(String, String)>, String) {
    let content_type = ("content-type", "application/json");
    let headers = [&[content_type], headers].concat();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    (status, headers, json!({ "message": message }).to_string())
}
