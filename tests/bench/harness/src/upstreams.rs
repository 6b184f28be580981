//! Circle, DynamoDB and Secrets Manager: TLS servers on the loopback interface with canned responses.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::canned::Canned;

/// The roots that a system trusts.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Upstream {
    Circle,
    Dynamodb,
    SecretsManager,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Connected,
    /// A full handshake is complete.
    Handshake,
    /// A resumed handshake is complete.
    Resumption,
    /// A request has arrived.
    Call,
}

/// What the upstreams saw, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sightings(Arc<Mutex<Vec<(Instant, Upstream, Event)>>>);

impl Sightings {
    fn add(&self, upstream: Upstream, event: Event) {
        self.0.lock().unwrap().push((Instant::now(), upstream, event));
    }

    /// Takes everything seen since the last time.
    pub(crate) fn take(&self) -> Vec<(Instant, Upstream, Event)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The running servers.
pub(crate) struct Upstreams {
    pub(crate) circle_url: String,
    pub(crate) dynamodb_url: String,
    pub(crate) secrets_manager_url: String,
    /// The root certificate in PEM.
    pub(crate) root: PathBuf,
    /// The same behind the roots that the system trusts.
    pub(crate) roots: PathBuf,
    pub(crate) root_der: Vec<u8>,
    pub(crate) sightings: Sightings,
    delay: Arc<Mutex<Duration>>,
}

impl Upstreams {
    /// Starts the servers. Their certificates are signed by a new root, which is written to `folder`.
    pub(crate) async fn start(folder: &Path, canned: Canned) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, "Root of the benchmark");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(["localhost".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let leaf = params.signed_by(&key, &issuer)?;

        let root = folder.join("root.pem");
        std::fs::write(&root, issuer.pem())?;
        let system = SYSTEM_ROOTS.into_iter().find(|path| Path::new(path).exists());
        let mut bundle = match system {
            Some(path) => std::fs::read_to_string(path)?,
            None => String::new(),
        };
        bundle.push_str(&issuer.pem());
        let roots = folder.join("roots.pem");
        std::fs::write(&roots, bundle)?;

        let config = |protocols: &[&str]| -> Result<Arc<ServerConfig>> {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let mut config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)?;
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            Ok(Arc::new(config))
        };
        let sightings = Sightings::default();
        let delay = Arc::new(Mutex::new(Duration::ZERO));
        let canned = Arc::new(canned);
        let start = async |upstream, protocols: &[&str]| -> Result<String> {
            let server = Server {
                upstream,
                canned: Arc::clone(&canned),
                sightings: sightings.clone(),
                delay: Arc::clone(&delay),
            };
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let url = format!("https://localhost:{}", listener.local_addr()?.port());
            tokio::spawn(server.run(listener, TlsAcceptor::from(config(protocols)?)));
            Ok(url)
        };
        Ok(Self {
            // As api.circle.com, which offers HTTP/2, and the two AWS services, which do not.
            circle_url: start(Upstream::Circle, &["h2", "http/1.1"]).await?,
            dynamodb_url: start(Upstream::Dynamodb, &["http/1.1"]).await?,
            secrets_manager_url: start(Upstream::SecretsManager, &["http/1.1"]).await?,
            root,
            roots,
            root_der: issuer.der().to_vec(),
            sightings,
            delay,
        })
    }

    /// Sets how long every response waits from now on.
    pub(crate) fn set_delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }
}

#[derive(Clone)]
struct Server {
    upstream: Upstream,
    canned: Arc<Canned>,
    sightings: Sightings,
    delay: Arc<Mutex<Duration>>,
}

impl Server {
    async fn run(self, listener: TcpListener, tls: TlsAcceptor) {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                // A client that goes away in the middle is not a failure of the server.
                let _ = server.serve(stream, tls).await;
            });
        }
    }

    async fn serve(self, stream: TcpStream, tls: TlsAcceptor) -> Result<()> {
        self.sightings.add(self.upstream, Event::Connected);
        stream.set_nodelay(true)?;
        let stream = tls.accept(stream).await.context("TLS handshake")?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        self.sightings.add(self.upstream, if resumed { Event::Resumption } else { Event::Handshake });
        let service = service_fn(move |request| self.clone().respond(request));
        let http = auto::Builder::new(TokioExecutor::new());
        http.serve_connection(TokioIo::new(stream), service).await.map_err(anyhow::Error::from_boxed)
    }

    async fn respond(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.sightings.add(self.upstream, Event::Call);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (status, content_type, text) = self.canned.respond(self.upstream, &head, &body);
        let delay = *self.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let response = Response::builder()
            .status(status)
            .header("content-type", content_type)
            .header("x-amzn-requestid", "7K4RHTNVLPRW0JQ8FQ3TB3N4ZVVV4KQNSO5AEMVJF66Q9ASUAAJG")
            .body(Full::new(text.into()));
        Ok(response.expect("the parts of a canned response are valid"))
    }
}
