//! The HTTP API on one machine: it stands between the callers and the functions, as API Gateway does in the
//! cloud.
//!
//! Its routes and their throttles, its JWT authorizer, CORS, the events for the functions and its own errors are as on AWS, over
//! real HTTP.

mod access_log;
mod authorizer;
mod backend;
mod cors;
mod event;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, StatusCode, header};
use shared::clock::{AdjustableClock, Clock};
use shared::random::Random;
use tokio::net::TcpListener;

pub use self::backend::{Backend, FUNCTION_TIMEOUT, Handler};
pub use crate::lambda_endpoint::LambdaEndpoint;

use self::access_log::Access;
pub(crate) use self::access_log::TARGET as ACCESS_LOG;
use self::authorizer::{Authorizer, TokenError};
use self::backend::Invoker;
use self::cors::Cors;
pub(crate) use self::cors::cors_configuration;
use self::event::{Accepted, event};
use crate::log::Log;
use crate::server::Server;
use crate::token_bucket::TokenBucket;

const ACCOUNT_ID: &str = "000000000000";

/// API Gateway's limit for the body of a request: 10 MB.
const BODY_LIMIT: usize = 10 * 1024 * 1024;

/// Lambda's limit for an event, which is JSON and contains the body: 6 MB.
const EVENT_LIMIT: usize = 6 * 1024 * 1024;

/// How many requests a route accepts, from all callers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Requests per second.
    pub rate: u32,
    /// Requests at once.
    pub burst: u32,
}

/// The template's default for the routes of callers: `RouteThrottleRate` and `RouteThrottleBurst`.
const CALLERS: Throttle = Throttle { rate: 50, burst: 100 };

/// The template's default for webhooks, and for the HEAD requests that Circle sends when a subscription is created or
/// changed: `WebhookThrottleRate` and `WebhookThrottleBurst`.
const WEBHOOKS: Throttle = Throttle { rate: 100, burst: 200 };

/// A route of the API.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path. A segment in braces stands for any one segment.
    pub path: &'static str,
    /// The name of the function that handles the requests.
    pub function: &'static str,
    /// Whether a caller needs a token.
    pub authorized: bool,
    /// The throttle.
    pub throttle: Throttle,
}

/// The routes of the API.
pub const ROUTES: &[Route] = &[
    for_callers(Method::POST, "/session-tokens", "create-token"),
    for_callers(Method::POST, "/challenges", "create-challenge"),
    for_callers(Method::GET, "/challenges", "get-challenge"),
    for_callers(Method::GET, "/challenges/{challengeId}", "get-challenge"),
    for_callers(Method::GET, "/pin", "get-pin"),
    for_circle(Method::HEAD),
    for_circle(Method::POST),
];

const fn for_callers(method: Method, path: &'static str, function: &'static str) -> Route {
    Route { method, path, function, authorized: true, throttle: CALLERS }
}

const fn for_circle(method: Method) -> Route {
    Route {
        method,
        path: "/webhooks/circle",
        function: "receive-webhook",
        authorized: false,
        throttle: WEBHOOKS,
    }
}

/// The options of an HTTP API.
#[derive(Debug)]
pub struct HttpApiOptions {
    /// The listener of the HTTP server.
    pub listener: TcpListener,
    /// The clock for the expiry of tokens, the timeouts of functions and the throttles of routes.
    pub clock: AdjustableClock,
    /// The source of request ids.
    pub random: Arc<Random>,
    /// The URL of the issuer whose tokens are accepted, with `http` or `https`.
    pub issuer: String,
    /// The required audience of tokens.
    pub audience: String,
    /// The origins whose pages may call the API, such as `https://app.example.com` or `*`. If empty, CORS is
    /// off.
    pub allowed_origins: Vec<String>,
    /// Whether the routes' throttles are enforced.
    pub throttled: bool,
    /// Runs the functions.
    pub backend: Backend,
    /// Where each request leaves a line.
    pub log: Log,
}

/// A running HTTP API.
#[derive(Debug)]
pub struct HttpApi {
    server: Server,
}

impl HttpApi {
    /// Serves the [`ROUTES`]. Needs a tokio runtime.
    pub fn start(options: HttpApiOptions) -> io::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(io::Error::other)?;
        let HttpApiOptions {
            listener,
            clock,
            random,
            issuer,
            audience,
            allowed_origins,
            throttled,
            backend,
            log,
        } = options;
        let gateway = Gateway {
            authorizer: Authorizer::new(issuer, audience, clock.clone(), client),
            cors: Cors::new(allowed_origins),
            throttles: throttled.then(Throttles::new),
            invoker: Invoker { backend, clock: clock.clone(), random: random.clone() },
            clock,
            random,
            log,
        };
        let router = Router::new().fallback(handle).with_state(Arc::new(gateway));
        Ok(Self { server: Server::start(listener, router)? })
    }

    /// The base URL, without a trailing slash.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Gives requests in progress a moment to finish, and frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

#[derive(Debug)]
struct Gateway {
    authorizer: Authorizer,
    cors: Cors,
    /// `None` if the throttles are not enforced.
    throttles: Option<Throttles>,
    invoker: Invoker,
    clock: AdjustableClock,
    random: Arc<Random>,
    log: Log,
}

/// A bucket of requests for each of the [`ROUTES`], in their order.
#[derive(Debug)]
struct Throttles(Vec<Mutex<TokenBucket>>);

impl Throttles {
    fn new() -> Self {
        let bucket = |Route { throttle, .. }: &Route| TokenBucket::new(throttle.rate, throttle.burst);
        Self(ROUTES.iter().map(bucket).map(Mutex::new).collect())
    }

    /// Whether the route accepts another request at this point of monotonic time.
    fn admit(&self, route: &Route, now: Duration) -> bool {
        let index = ROUTES.iter().position(|one| std::ptr::eq(one, route)).expect("the route is in the list");
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner).take(now).is_ok()
    }
}

/// An error response of the gateway itself.
#[derive(Debug)]
enum GatewayError {
    Unauthorized(TokenError),
    NotFound,
    /// The throttle of the route is exceeded.
    Throttled,
    /// The body exceeds [`BODY_LIMIT`].
    TooLarge,
    /// The event exceeds [`EVENT_LIMIT`].
    TooLong,
    FunctionFailed,
    Unavailable,
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        let (status, message) = match &self {
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not Found"),
            Self::Throttled => (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long"),
            Self::FunctionFailed => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        };
        let body = format!(r#"{{"message":"{message}"}}"#);
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Self::Unauthorized(error) = self {
            let reason = HeaderValue::try_from(error.www_authenticate()).expect("the reasons are ASCII");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, reason);
        }
        response
    }
}

async fn handle(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let method = request.method().clone();
    let cors = gateway.cors.headers(&method, request.headers());
    let request_id = gateway.request_id();
    let mut response = if gateway.cors.handles(&method) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let mut access = Access::begin(peer, &request_id);
        let forwarded = gateway.forward(peer, request, &request_id, &mut access).await;
        let response = forwarded.unwrap_or_else(IntoResponse::into_response);
        gateway.log.add(access.end(response.status()));
        response
    };
    gateway.cors.apply(cors, response.headers_mut());
    let request_id = HeaderValue::try_from(request_id).expect("base64 is a header value");
    response.headers_mut().insert("apigw-requestid", request_id);
    response
}

impl Gateway {
    /// Authorizes the request and passes it to the function of its route.
    async fn forward(
        &self,
        peer: SocketAddr,
        request: Request,
        request_id: &str,
        access: &mut Access,
    ) -> Result<Response, GatewayError> {
        let (parts, body) = request.into_parts();
        let found = find_route(&parts.method, parts.uri.path());
        access.request(&parts, found.as_ref().map(|(route, _)| *route));
        let (route, path_parameters) = found.ok_or(GatewayError::NotFound)?;
        // AWS does not document whether its authorizer comes first. This order is the harsher one: requests without a
        // valid token use up the throttle too.
        let admitted =
            self.throttles.as_ref().is_none_or(|throttles| throttles.admit(route, self.clock.monotonic()));
        if !admitted {
            return Err(GatewayError::Throttled);
        }
        let claims = if route.authorized {
            Some(self.authorizer.claims(&parts.headers).await.map_err(GatewayError::Unauthorized)?)
        } else {
            None
        };
        if let Some(claims) = &claims {
            access.user(claims.get("sub"));
        }
        let body = read(body).await?;
        let event = event(Accepted {
            parts: &parts,
            body: &body,
            peer,
            route,
            path_parameters,
            claims,
            request_id,
            trace_id: self.trace_id(),
            time: self.clock.now(),
        });
        let event = event.to_string();
        if event.len() > EVENT_LIMIT {
            return Err(GatewayError::TooLong);
        }
        self.invoker.invoke(route.function, event).await
    }

    /// An id in API Gateway's form: sixteen characters of base64.
    fn request_id(&self) -> String {
        STANDARD.encode(&self.random.uuid().as_bytes()[..11])
    }

    fn trace_id(&self) -> String {
        let id = self.random.uuid().simple().to_string();
        format!("Root=1-{:08x}-{}", self.clock.now().unix_timestamp(), &id[8..])
    }
}

/// Reads the body up to [`BODY_LIMIT`].
async fn read(body: Body) -> Result<Vec<u8>, GatewayError> {
    // This reads more than the limit, because a caller does not see the response if it is cut off while it
    // sends.
    match axum::body::to_bytes(body, 2 * BODY_LIMIT).await {
        Ok(body) if body.len() <= BODY_LIMIT => Ok(body.into()),
        _ => Err(GatewayError::TooLarge),
    }
}

/// The route for a method and a path, and the path parameters.
fn find_route<'p>(method: &Method, path: &'p str) -> Option<(&'static Route, Vec<(&'static str, &'p str)>)> {
    ROUTES.iter().filter(|route| route.method == *method).find_map(|route| {
        let mut parameters = Vec::new();
        let (mut wanted, mut given) = (route.path.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return Some((route, parameters)),
                (Some(wanted), Some(given)) => {
                    let parameter = wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                    match parameter {
                        Some(name) if !given.is_empty() => parameters.push((name, given)),
                        None if wanted == given => {}
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests;
