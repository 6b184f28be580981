//! The one HTTP client, for Circle and for AWS: TLS, connections, and what happens if a connection has gone stale.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient as AwsHttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::Method;
use reqwest::redirect::Policy;
use reqwest::{Request, RequestBuilder, Response, Url};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{self, Environment, SettingError};

/// How long an idle connection is kept: less than the 60 seconds that AWS load balancers keep theirs by default
/// (`https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many requests may be sent again on a new connection before one more succeeds. It is more than the connections that a
/// process uses at the same time.
const MAX_RECONNECTIONS: u32 = 20;

/// An HTTP client without redirects, retries and proxies. Timeouts and retries are the caller's, on the project's clock.
///
/// The one thing that it repeats is a request that met a stale connection: a server closes an idle connection at any time,
/// above all while a Lambda sandbox is frozen, and that is not a sign of an outage.
///
/// Clones share their connections. They also share the count of reconnections, unless [`for_another_server`] made them.
///
/// [`for_another_server`]: Self::for_another_server
#[derive(Debug, Clone)]
pub struct HttpClient {
    connections: Arc<Connections>,
    /// How many reconnections are left. Each response earns one: its connection goes back to the pool and may be stale when
    /// the next request takes it. A server error earns none, so that an outage does not multiply the load.
    reconnections: Arc<Mutex<u32>>,
}

#[derive(Debug)]
struct Connections {
    tls: ClientConfig,
    pooled: reqwest::Client,
    /// A new connection for each request. Few processes need it.
    unpooled: OnceLock<reqwest::Client>,
}

impl HttpClient {
    /// A client that trusts Mozilla's list of certificate authorities, as compiled in, or only those that `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name. It opens no connection yet.
    ///
    /// # Errors
    /// If one of these variables is set and no certificate can be read.
    ///
    /// # Panics
    /// If the client cannot be built, which these settings always can.
    pub fn new(environment: &Environment) -> Result<Self, SettingError> {
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("AWS-LC has every protocol version")
                .with_root_certificates(roots(environment)?)
                .with_no_client_auth();
        let pooled = client(&tls, usize::MAX);
        let connections = Arc::new(Connections { tls, pooled, unpooled: OnceLock::new() });
        Ok(Self { connections, reconnections: Arc::default() })
    }

    /// The same client with a count of reconnections of its own: a server's responses say nothing about another server.
    pub fn for_another_server(&self) -> Self {
        Self { connections: Arc::clone(&self.connections), reconnections: Arc::default() }
    }

    /// Starts to build a request.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.connections.pooled.request(method, url)
    }

    /// Sends a request that is safe to repeat. If its connection breaks, which may have gone stale in the pool, the request is
    /// sent again on a new one.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send(&self, request: Request) -> Result<Response, reqwest::Error> {
        let Some(copy) = request.try_clone() else { return self.send_once(request).await };
        match self.connections.pooled.execute(request).await {
            Err(error) if !error.is_connect() && self.take_reconnection() => {
                self.unpooled().execute(copy).await
            }
            Ok(response) if !response.status().is_server_error() => {
                let mut left = self.reconnections();
                *left = MAX_RECONNECTIONS.min(*left + 1);
                drop(left);
                Ok(response)
            }
            result => result,
        }
    }

    /// Sends a request that is not safe to repeat, on a new connection.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send_once(&self, request: Request) -> Result<Response, reqwest::Error> {
        self.unpooled().execute(request).await
    }

    fn unpooled(&self) -> &reqwest::Client {
        self.connections.unpooled.get_or_init(|| client(&self.connections.tls, 0))
    }

    fn take_reconnection(&self) -> bool {
        let mut left = self.reconnections();
        let rest = left.checked_sub(1);
        *left = rest.unwrap_or(0);
        rest.is_some()
    }

    fn reconnections(&self) -> MutexGuard<'_, u32> {
        self.reconnections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(tls: &ClientConfig, max_idle_per_host: usize) -> reqwest::Client {
    reqwest::Client::builder()
        .user_agent(concat!("circle-pin-reset/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_idle_per_host)
        .tls_backend_preconfigured(tls.clone())
        .build()
        .expect("an HTTP client can be built from these settings")
}

/// The certificate authorities that the client trusts. Reading those of the system would make the start longer.
fn roots(environment: &Environment) -> Result<RootCertStore, SettingError> {
    let named = config::certificates(environment)?;
    Ok(named.unwrap_or_else(|| webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()))
}

impl AwsHttpClient for HttpClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("reqwest", None))
    }
}

/// A call of the AWS SDK, which has its own timeouts around this. The SDK repeats every call whose response was lost, so each
/// call of this project has to be safe to repeat.
impl HttpConnector for HttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let (parts, body) = request.into_parts();
            let body = body.bytes().map(Bytes::copy_from_slice);
            let body = body.ok_or_else(|| ConnectorError::user("the body is not in memory".into()))?;
            let request = Request::try_from(http::Request::from_parts(parts, body))
                .map_err(|error| ConnectorError::user(error.into()))?;
            let unreachable = |error: reqwest::Error| ConnectorError::io(error.without_url().into());
            let mut response = client.send(request).await.map_err(unreachable)?;
            let mut head = http::Response::new(());
            *head.status_mut() = response.status();
            *head.headers_mut() = std::mem::take(response.headers_mut());
            let body = response.bytes().await.map_err(unreachable)?;
            let response = head.map(|()| SdkBody::from(body));
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
