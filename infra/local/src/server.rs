//! An HTTP server in a task of its own, as each endpoint of the local stack is one.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use shared::clock::{SystemClock, timeout};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long requests under way may still take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    /// Dropping it tells the server to stop.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `router` on `listener`. Needs a tokio runtime to run in.
    pub(crate) fn start(listener: TcpListener, router: Router) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let listener = listener.tap_io(|stream| {
            // Without it small answers on loopback can wait 40 ms for an acknowledgement.
            let _ = stream.set_nodelay(true);
        });
        Ok(Self::spawn(address, |stopped| async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(stopped)
                .await
                .unwrap_or_else(|error| tracing::error!(%address, %error, "a server ended"));
        }))
    }

    /// Runs the server that `serve` makes of the signal to stop.
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

    /// Where the server is, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Takes no new connections, lets requests under way finish for a moment, and frees the port.
    pub(crate) async fn stop(&mut self) {
        self.stop = None;
        // On the machine's clock: a stack whose own clock stands still has to stop too.
        let _ = timeout(&SystemClock, GRACE, &mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Completes when the server has to stop.
pub(crate) type Stopped = futures_util::future::BoxFuture<'static, ()>;
