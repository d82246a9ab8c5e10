//! The listening socket: accepts connections and hands them out. Knows nothing of what they say.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

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
    /// Binds `address`; port 0 takes any free one.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted gate must not wait for connections of the old one to be forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts for ever, giving each connection (non-blocking) to `hand_out`, which may wait.
    ///
    /// # Cancellation safety
    /// A dropped future stops listening; a connection on its way to `hand_out` is closed.
    pub(super) async fn run(self, mut hand_out: impl AsyncFnMut(TcpStream, SocketAddr)) -> io::Error {
        // Readiness only, so that the stream can be registered with the runtime of the thread that gets it.
        let socket = match AsyncFd::new(self.socket) {
            Ok(socket) => socket,
            Err(error) => return error,
        };
        let mut complained = false;
        loop {
            let mut ready = match socket.readable().await {
                Ok(ready) => ready,
                Err(error) => return error,
            };
            match ready.try_io(|socket| socket.get_ref().accept()) {
                Ok(Ok((stream, peer))) => {
                    complained = false;
                    if stream.set_nonblocking(true).is_ok() {
                        hand_out(stream, peer).await;
                    }
                }
                Ok(Err(error)) if is_the_connections(&error) => {}
                Ok(Err(error)) => {
                    if !complained {
                        tracing::error!("cannot accept connections: {error}");
                        complained = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_would_block) => {}
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
