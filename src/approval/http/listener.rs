//! The admin API's connections: so many at once, each with deadlines. Knows bytes, no HTTP.
//!
//! The HTTP server above has no deadlines of its own; without these a client could keep a connection for ever by sending
//! half a request, or by never reading the answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use crate::approval::AdminSettings;

use super::seats::{Pass, Seat, Seats};

/// How long to wait when the system has no more descriptors to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A listener that finds every connection a seat.
pub(in crate::approval) struct Door {
    listener: TcpListener,
    seats: Seats,
    token_deadline: Duration,
    idle_deadline: Duration,
    request_deadline: Duration,
}

impl Door {
    pub(in crate::approval) fn new(listener: TcpListener, settings: &AdminSettings) -> Self {
        Self {
            listener,
            seats: Seats::new(settings.max_connections, settings.unproved_per_address),
            token_deadline: settings.token_deadline,
            idle_deadline: settings.idle_deadline,
            request_deadline: settings.request_deadline,
        }
    }
}

impl Listener for Door {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Small answers; failing to set it only makes them slower.
                    let _slower = stream.set_nodelay(true);
                    let seat = self.seats.take(peer.ip()).await;
                    return (self.watch(stream, seat), peer);
                }
                Err(error) if is_the_peers_fault(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "admin API cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Door {
    fn watch(&self, stream: TcpStream, seat: Seat) -> Watched {
        let now = crate::clock::now();
        Watched {
            stream,
            seat,
            accepted_at: now,
            moved_at: now,
            asked_at: None,
            token_deadline: self.token_deadline,
            idle_deadline: self.idle_deadline,
            request_deadline: self.request_deadline,
            timer: Box::pin(tokio::time::sleep(self.idle_deadline)),
        }
    }
}

fn is_the_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Where a request came from.
#[derive(Clone)]
pub(in crate::approval) struct Peer {
    pub(super) address: IpAddr,
    /// To be told when a request over the connection carries a valid token.
    pub(super) pass: Pass,
}

impl Peer {
    /// A request over the connection proved to come from who may send it.
    pub(in crate::approval) fn prove(&self) {
        self.pass.prove(None);
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self { address: stream.remote_addr().ip(), pass: stream.io().seat.pass() }
    }
}

/// A connection that fails with `TimedOut` when nothing moves for too long, when a request is not answered in time, be
/// it because it never ends, when no valid token comes in time, or when another connection needs its seat.
pub(in crate::approval) struct Watched {
    stream: TcpStream,
    seat: Seat,
    accepted_at: Instant,
    /// The last byte either way.
    moved_at: Instant,
    /// The first byte that came since the last one went.
    asked_at: Option<Instant>,
    token_deadline: Duration,
    idle_deadline: Duration,
    request_deadline: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Watched {
    /// Turns `Pending` into an error once a deadline has passed, and sees to being woken by it.
    fn or_late<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            return poll;
        }
        if self.seat.is_evicted(context.waker()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let idle = self.moved_at.checked_add(self.idle_deadline);
        let asked = self.asked_at.and_then(|at| at.checked_add(self.request_deadline));
        let token = self.accepted_at.checked_add(self.token_deadline).filter(|_| !self.seat.is_proved());
        let Some(due) = idle.into_iter().chain(asked).chain(token).min() else {
            return poll;
        };
        let due = tokio::time::Instant::from_std(due);
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn wrote(&mut self, poll: &Poll<io::Result<usize>>) {
        if matches!(poll, Poll::Ready(Ok(_))) {
            self.moved_at = crate::clock::now();
            self.asked_at = None;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let now = crate::clock::now();
            self.moved_at = now;
            self.asked_at.get_or_insert(now);
        }
        self.or_late(context, poll)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&poll);
        self.or_late(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&poll);
        self.or_late(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.or_late(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.or_late(context, poll)
    }
}
