//! An HTTP server that runs in a task of its own. Each endpoint of the local stack is one.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use shared::clock::{SystemClock, timeout};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long requests in progress may take when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A file for a browser, which never keeps it, with its content security policy.
pub(crate) fn file(content_type: &str, policy: &str, content: impl IntoResponse) -> Response {
    let headers =
        [(CONTENT_TYPE, content_type), (CONTENT_SECURITY_POLICY, policy), (CACHE_CONTROL, "no-store")];
    (headers, content).into_response()
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    /// The server stops when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `router` on `listener`. Needs a tokio runtime.
    pub(crate) fn start(listener: TcpListener, router: Router) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let listener = listener.tap_io(|stream| {
            // With Nagle's algorithm, a small response on loopback can wait 40 ms for an acknowledgement.
            let _ = stream.set_nodelay(true);
        });
        Ok(Self::spawn(address, |stopped| async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(stopped)
                .await
                .unwrap_or_else(|error| tracing::error!(%address, %error, "the server failed"));
        }))
    }

    /// Runs the server that `serve` creates. `serve` receives a future that completes when the server has to
    /// stop.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(Stopped) -> F,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(Box::pin(async {
            let _ = stopped.await;
        })));
        Self { url: format!("http://{address}"), stop: Some(stop), task }
    }

    /// The base URL, without a trailing slash.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Accepts no new connections, gives requests in progress a moment to finish, and frees the port.
    pub(crate) async fn stop(&mut self) {
        self.stop = None;
        // The machine's clock, because a stack with a frozen clock has to stop too.
        let _ = timeout(&SystemClock, SHUTDOWN_TIMEOUT, &mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Completes when the server has to stop.
pub(crate) type Stopped = futures_util::future::BoxFuture<'static, ()>;
