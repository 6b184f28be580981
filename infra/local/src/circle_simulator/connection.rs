//! Connections that end as those of servers and networks do: because of a fault, a keep-alive limit, or because the
//! simulator stops.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::future::BoxFuture;
use shared::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::knobs::ConnectionEnd;
use super::{CircleSimulator, lock};

/// Accepts the connections of a simulator.
pub(super) struct SimulatorListener {
    pub(super) tcp: TcpListener,
    pub(super) simulator: CircleSimulator,
}

/// A connection of a simulator.
pub(super) struct Connection {
    tcp: TcpStream,
    handle: Handle,
    simulator: CircleSimulator,
    stopped: BoxFuture<'static, ()>,
    /// Completes when the connection has been idle for too long; `None` while it is not idle or may be idle for ever.
    idle_limit: Option<BoxFuture<'static, ()>>,
}

/// A handle of one connection, for the code that responds to its requests.
#[derive(Clone)]
pub(super) struct Handle {
    peer: IpAddr,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    /// How many requests have arrived.
    requests: u32,
    phase: Phase,
    /// How many more bytes are sent. Then the connection ends.
    bytes_left: Option<usize>,
    /// The connection ends with a reset.
    reset: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// No request is in progress.
    #[default]
    Idle,
    /// A request is being handled.
    Handling,
    /// The response is ready, and not written yet.
    Responding,
}

impl Handle {
    /// The address of the caller.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// A request has arrived. Returns how many there have been on this connection.
    pub(super) fn request_arrived(&self) -> u32 {
        let mut progress = self.progress();
        progress.phase = Phase::Handling;
        progress.requests += 1;
        progress.requests
    }

    /// The response to the request is ready.
    pub(super) fn response_ready(&self) {
        self.progress().phase = Phase::Responding;
    }

    /// Ends the connection after this many more bytes.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.progress().bytes_left = Some(bytes);
    }

    /// Ends the connection with a reset (RST). Nothing that is written afterwards arrives.
    pub(super) fn reset(&self) {
        let mut progress = self.progress();
        progress.bytes_left = Some(0);
        progress.reset = true;
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }
}

impl Listener for SimulatorListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (tcp, address) = Listener::accept(&mut self.tcp).await;
        // With Nagle's algorithm, a small response on loopback can wait 40 ms for an acknowledgement.
        let _ = tcp.set_nodelay(true);
        let mut stopped = self.simulator.core.stopped.subscribe();
        let stopped = Box::pin(async move {
            // An error means that the simulator has been dropped.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        let handle = Handle { peer: address.ip(), progress: Arc::default() };
        (Connection { tcp, handle, simulator: self.simulator.clone(), stopped, idle_limit: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, SimulatorListener>> for Handle {
    fn connect_info(stream: IncomingStream<'_, SimulatorListener>) -> Self {
        stream.io().handle.clone()
    }
}

impl Connection {
    /// How many of `length` bytes may be written.
    fn check(&self, length: usize) -> io::Result<usize> {
        let progress = self.handle.progress();
        match progress.bytes_left {
            None => Ok(length),
            Some(0) => {
                if progress.reset {
                    self.tcp.set_zero_linger()?;
                }
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Some(left) => Ok(left.min(length)),
        }
    }

    /// Whether the server closes the connection now, because of its keep-alive limits.
    fn poll_closed(&mut self, context: &mut Context<'_>) -> bool {
        let requests = {
            let progress = self.handle.progress();
            if progress.phase != Phase::Idle || progress.requests == 0 {
                return false;
            }
            progress.requests
        };
        let (limit, end, idle_ms) = {
            let knobs = &self.simulator.state().knobs;
            (knobs.requests_per_connection, knobs.connection_end, knobs.close_idle_after_ms)
        };
        if limit > 0 && requests >= limit && end == ConnectionEnd::Close {
            return true;
        }
        let clock = &self.simulator.core.clock;
        if self.idle_limit.is_none() && idle_ms > 0 {
            self.idle_limit = Some(clock.sleep(Duration::from_millis(idle_ms)));
        }
        self.idle_limit.as_mut().is_some_and(|limit| limit.as_mut().poll(context).is_ready())
    }

    /// Notes that bytes of a response have been written.
    fn written(&mut self, context: &Context<'_>, bytes: usize) {
        self.idle_limit = None;
        let mut progress = self.handle.progress();
        if let Some(left) = &mut progress.bytes_left {
            *left -= bytes;
        }
        if progress.phase == Phase::Responding {
            progress.phase = Phase::Idle;
            // The server reads again only when it is woken, and `poll_read` may have to end the connection.
            context.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.check(0).is_ok() && self.stopped.as_mut().poll(context).is_ready() {
            self.handle.cut_after(0);
        }
        self.check(0)?;
        if self.poll_closed(context) {
            // No bytes: the end of the stream, as if the caller had closed it. The HTTP server then closes it too.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = self.check(bytes.len())?;
        let written = ready!(Pin::new(&mut self.tcp).poll_write(context, &bytes[..allowed]))?;
        self.written(context, written);
        Poll::Ready(Ok(written))
    }

    /// Writes the first slice. The server calls it again for the others.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| &**slice);
        self.poll_write(context, first)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
