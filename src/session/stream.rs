//! Sockets with or without TLS behind one type, on both legs. Knows no protocol.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls;

/// Pause between keepalive probes once they have begun.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connected socket, before TLS.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// One leg of a session. TLS state is boxed: plain connections must stay small.
#[derive(Debug)]
pub enum Stream {
    /// TCP, in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS in which we are the server: the client's leg.
    TlsServer(Box<tokio_rustls::server::TlsStream<Socket>>),
    /// TLS in which we are the client: the backend's leg.
    TlsClient(Box<tokio_rustls::client::TlsStream<Socket>>),
}

/// The other end of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix,
}

impl Peer {
    /// The address rules may match.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            // An IPv4 client of a dual-stack listener is an IPv4 client to the rules.
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Socket {
    /// Sets what every leg wants: no delay for small messages, and probes that notice a peer that vanished.
    ///
    /// # Errors
    /// What the system says, for instance because the peer is gone already.
    pub fn tune(&self, keepalive: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                let probes = TcpKeepalive::new().with_time(keepalive).with_interval(KEEPALIVE_INTERVAL.min(keepalive));
                SockRef::from(stream).set_tcp_keepalive(&probes)
            }
            Self::Unix(_) => Ok(()),
        }
    }

    /// The first byte the peer sends, left in place. `None` at end of stream; Unix sockets, which never speak TLS here,
    /// are not looked at and yield `Some(0)`.
    ///
    /// # Cancellation safety
    /// Nothing is consumed.
    pub(super) async fn peek_first(&self) -> io::Result<Option<u8>> {
        match self {
            Self::Tcp(stream) => {
                let mut byte = [0_u8];
                let count = stream.peek(&mut byte).await?;
                let [first] = byte;
                Ok((count > 0).then_some(first))
            }
            Self::Unix(_) => Ok(Some(0)),
        }
    }
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(stream) => Self::Tcp(stream),
            Socket::Unix(stream) => Self::Unix(stream),
        }
    }
}

impl Stream {
    /// Gives the bare socket back, if there is no TLS on it.
    pub(super) fn into_plain(self) -> Option<Socket> {
        match self {
            Self::Tcp(stream) => Some(Socket::Tcp(stream)),
            Self::Unix(stream) => Some(Socket::Unix(stream)),
            Self::TlsServer(_) | Self::TlsClient(_) => None,
        }
    }

    /// Whether bytes on this leg are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::TlsServer(_) | Self::TlsClient(_) => true,
        }
    }

    /// Common name of the certificate the client proved itself with. rustls has checked it against the authorities.
    pub(super) fn certificate_name(&self) -> Option<Box<str>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::TlsClient(_) => None,
            Self::TlsServer(stream) => tls::common_name(stream.get_ref().1.peer_certificates()?.first()?),
        }
    }
}

/// Calls the same poll function on whatever is inside.
macro_rules! forward {
    ($self:expr, $kind:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            $($kind::$variant($stream) => { let $stream = Pin::new($stream); $call })+
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, Socket { Tcp, Unix }, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, Socket { Tcp, Unix }, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, Socket { Tcp, Unix }, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Socket { Tcp, Unix }, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Socket { Tcp, Unix }, stream => stream.poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, Stream { Tcp, Unix, TlsServer, TlsClient }, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, Stream { Tcp, Unix, TlsServer, TlsClient }, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, Stream { Tcp, Unix, TlsServer, TlsClient }, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// TLS keeps encrypted bytes back until it is flushed; plain sockets have nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Stream { Tcp, Unix, TlsServer, TlsClient }, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Stream { Tcp, Unix, TlsServer, TlsClient }, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_stream_is_small_because_tls_is_boxed() {
        assert!(size_of::<Stream>() <= 48, "{}", size_of::<Stream>());
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_listener_is_shown_as_ipv4() {
        let peer = Peer::Tcp("[::ffff:192.0.2.7]:5000".parse().unwrap());
        assert_eq!(peer.to_string(), "192.0.2.7:5000");
        assert_eq!(peer.ip(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(Peer::Unix.to_string(), "unix");
    }
}
