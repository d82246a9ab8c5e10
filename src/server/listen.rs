//! The listening socket: accepts connections and hands them out. Knows nothing of what they say.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::workers::Dispatcher;

/// Connections the kernel keeps for us; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after an error that another attempt would only repeat: no file descriptors, no memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes any free one. Must be called on a runtime.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted gate must not wait for connections of the old one to be forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts for ever, giving each connection to a session thread.
    ///
    /// # Cancellation safety
    /// A dropped future stops listening; a connection on its way to a thread is closed.
    pub(super) async fn run(self, dispatcher: Dispatcher) {
        let mut complained = false;
        loop {
            // Leaves this runtime at once: the session's thread registers the socket with its own.
            match self.socket.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    complained = false;
                    dispatcher.dispatch(stream, peer).await;
                }
                Err(error) if is_the_connections(&error) => {}
                Err(error) => {
                    if !complained {
                        tracing::error!("cannot accept connections: {error}");
                        complained = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Errors of one connection that was gone before it was accepted (accept(2)); the next may be fine.
fn is_the_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::PermissionDenied
    )
}
