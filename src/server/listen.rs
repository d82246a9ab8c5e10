//! The listening socket: binds it and accepts connections. Knows nothing of what they say.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel keeps for us; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after an error that another attempt would only repeat: no file descriptors, no memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound listening socket, not yet on any runtime.
#[derive(Debug)]
pub(super) struct Listener {
    socket: std::net::TcpListener,
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
        let socket = std::net::TcpListener::from(socket);
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers the socket with the runtime this is called on.
    pub(super) fn open(self) -> io::Result<Entrance> {
        Ok(Entrance { socket: TcpListener::from_std(self.socket)?, complained: false })
    }
}

/// Where connections come in. Its drop stops listening.
#[derive(Debug)]
pub(super) struct Entrance {
    socket: TcpListener,
    /// The trouble that still goes on has been logged.
    complained: bool,
}

impl Entrance {
    /// The next connection. Errors are logged and outlived.
    ///
    /// # Cancellation safety
    /// No connection is lost.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok(visitor) => {
                    self.complained = false;
                    return visitor;
                }
                Err(error) if is_the_connections(&error) => {}
                Err(error) => {
                    if !self.complained {
                        tracing::error!("cannot accept connections: {error}");
                        self.complained = true;
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
