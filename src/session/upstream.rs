//! The connection to Postgres: over TCP or a Unix socket, with TLS by sslmode. Sends nothing of the client's: a fresh
//! connection, at the point where a startup packet or CancelRequest may be written.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::settings::{SslMode, UpstreamSettings};
use super::stream::{Socket, Stream};
use super::tls::{TlsError, UpstreamTls, is_certificate_error};
use crate::wire::reply::{ClientFacing, Report};

/// SSLRequest, whole.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// The server behind the gate.
#[derive(Debug)]
pub struct Upstream {
    endpoint: Endpoint,
    sslmode: SslMode,
    tls: UpstreamTls,
    connect_timeout: Duration,
    keepalive: Duration,
}

#[derive(Debug)]
enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix { path: PathBuf },
}

impl Upstream {
    /// Prepares connections by `settings`; does not connect.
    ///
    /// # Errors
    /// [`TlsError`], if the certificates cannot be used.
    pub fn new(settings: &UpstreamSettings, keepalive: Duration) -> Result<Self, TlsError> {
        let endpoint = if settings.host.starts_with('/') {
            Endpoint::Unix { path: PathBuf::from(&settings.host).join(format!(".s.PGSQL.{}", settings.port)) }
        } else {
            Endpoint::Tcp { host: settings.host.clone(), port: settings.port }
        };
        // As libpq: sslmode means nothing on a Unix socket.
        let sslmode = match endpoint {
            Endpoint::Tcp { .. } => settings.sslmode,
            Endpoint::Unix { .. } => SslMode::Disable,
        };
        let effective = UpstreamSettings { sslmode, ..settings.clone() };
        Ok(Self {
            endpoint,
            sslmode,
            tls: UpstreamTls::load(&effective)?,
            connect_timeout: settings.connect_timeout,
            keepalive,
        })
    }

    /// Reads certificate files again.
    ///
    /// # Errors
    /// [`TlsError`]; what was loaded before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.tls.reload()
    }

    /// A fresh connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Cancellation safety
    /// A dropped future closes what it had opened.
    pub async fn connect(&self) -> Result<Stream, ConnectError> {
        let deadline =
            Instant::from_std(crate::clock::now()).checked_add(self.connect_timeout).ok_or(ConnectError::Timeout)?;
        let attempt = async {
            match self.negotiate(self.open(deadline).await?).await {
                // libpq's `prefer` tries again without TLS when the handshake fails.
                Err(ConnectError::Handshake(_)) if self.sslmode == SslMode::Prefer => {
                    Ok(self.open(deadline).await?.into())
                }
                result => result,
            }
        };
        timeout_at(deadline, attempt).await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self, deadline: Instant) -> Result<Socket, ConnectError> {
        let socket = match &self.endpoint {
            Endpoint::Unix { path } => Socket::Unix(UnixStream::connect(path).await.map_err(ConnectError::Connect)?),
            Endpoint::Tcp { host, port } => {
                let addresses: Vec<SocketAddr> =
                    tokio::net::lookup_host((host.as_str(), *port)).await.map_err(ConnectError::Resolve)?.collect();
                Socket::Tcp(connect_any(&addresses, deadline).await?)
            }
        };
        socket.tune(self.keepalive).map_err(ConnectError::Connect)?;
        Ok(socket)
    }

    /// The SSLRequest exchange ("SSL Session Encryption", protocol-flow).
    async fn negotiate(&self, mut socket: Socket) -> Result<Stream, ConnectError> {
        let required = match self.sslmode {
            SslMode::Disable => return Ok(socket.into()),
            SslMode::Prefer => false,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => true,
        };
        socket.write_all(&SSL_REQUEST).await.map_err(ConnectError::Lost)?;
        // One byte more than the answer: whatever is in it came before the handshake and was not encrypted
        // (CVE-2021-23222).
        let mut answer = [0_u8; 2];
        let count = socket.read(&mut answer).await.map_err(ConnectError::Lost)?;
        match (count, answer) {
            (0, _) => Err(ConnectError::Lost(io::ErrorKind::UnexpectedEof.into())),
            (1, [b'S', _]) => {
                let stream = self.tls.connect(socket).await.map_err(ConnectError::Handshake)?;
                Ok(Stream::TlsClient(Box::new(stream)))
            }
            (1, [b'N', _]) if required => Err(ConnectError::NoTls),
            (1, [b'N', _]) => Ok(socket.into()),
            // An error message (`E`) here is not authenticated, so it is not shown (CVE-2024-10977).
            (_, [b'E', _]) | (1, _) => Err(ConnectError::NotPostgres),
            // Fail closed: bytes behind the answer.
            (_, _) => Err(ConnectError::Injected),
        }
    }
}

/// Tries the addresses in turn, each with its share of the time that is left.
async fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Resolve(io::ErrorKind::NotFound.into());
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let now = Instant::from_std(crate::clock::now());
        let share = deadline.saturating_duration_since(now).checked_div(left).unwrap_or_default();
        left = left.saturating_sub(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = ConnectError::Connect(error),
            Err(_) => last = ConnectError::Timeout,
        }
    }
    Err(last)
}

/// Why there is no connection to Postgres. `Display` is for operators.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name means no address.
    #[error("cannot resolve the upstream host: {0}")]
    Resolve(io::Error),
    /// No address accepts.
    #[error("cannot connect to upstream: {0}")]
    Connect(io::Error),
    /// It took too long.
    #[error("connecting to upstream took too long")]
    Timeout,
    /// The connection broke before it was of use.
    #[error("upstream closed the connection before the session began: {0}")]
    Lost(io::Error),
    /// sslmode asks for TLS; the server has none.
    #[error("upstream offers no TLS, but sslmode asks for it")]
    NoTls,
    /// The handshake failed.
    #[error("TLS handshake with upstream failed: {0}")]
    Handshake(io::Error),
    /// What answered does not speak the protocol.
    #[error("upstream answered SSLRequest as no Postgres does")]
    NotPostgres,
    /// Bytes came before the handshake.
    #[error("upstream sent unencrypted data before the TLS handshake: someone may be tampering with the connection")]
    Injected,
}

impl ClientFacing for ConnectError {
    /// Says what went wrong and who can mend it, not where the server is: the client is not authenticated yet.
    fn report(&self) -> Report {
        let (detail, hint) = match self {
            Self::Resolve(_) => (
                "The configured upstream host name cannot be resolved.".to_owned(),
                "Ask the gate's operator to check [upstream] host.",
            ),
            Self::Connect(error) => (
                format!("The database server does not accept connections ({}).", error.kind()),
                "Check that PostgreSQL is running and that the gate's [upstream] settings name it.",
            ),
            Self::Timeout => (
                "The database server did not answer in time.".to_owned(),
                "Try again; if it stays so, ask the gate's operator to check [upstream].",
            ),
            Self::Lost(_) => (
                "The database server closed the connection before the session began.".to_owned(),
                "Try again; the server may be restarting or out of connections.",
            ),
            Self::NoTls => (
                "The gate's upstream sslmode asks for TLS, which the database server does not offer.".to_owned(),
                "Ask the gate's operator to turn TLS on in PostgreSQL or to change [upstream] sslmode.",
            ),
            Self::Handshake(error) if is_certificate_error(error).is_some() => (
                "The database server's certificate is not one the gate trusts.".to_owned(),
                "Ask the gate's operator to check [upstream] ca and sslmode.",
            ),
            Self::Handshake(_) => (
                "The TLS handshake between the gate and the database server failed.".to_owned(),
                "Ask the gate's operator to check [upstream] TLS settings and the gate's log.",
            ),
            Self::NotPostgres => (
                "What answers at the upstream address does not speak PostgreSQL's protocol.".to_owned(),
                "Ask the gate's operator to check [upstream] host and port.",
            ),
            Self::Injected => (
                "The database server sent unencrypted data before the TLS handshake.".to_owned(),
                "Ask the gate's operator to look at the network between gate and server.",
            ),
        };
        let sqlstate = match self {
            // cannot_connect_now, the one SQLSTATE after which clients do what they do when nobody listens: libpq and asyncpg
            // go on to the next host they were given, and `pg_isready` says no (fe-connect.c, ERRCODE_CANNOT_CONNECT_NOW).
            Self::Resolve(_) | Self::Connect(_) | Self::Timeout | Self::Lost(_) => "57P03",
            Self::NoTls => "08001",
            Self::Handshake(_) => "08006",
            Self::NotPostgres | Self::Injected => "08P01",
        };
        Report::fatal(sqlstate, "querygate cannot reach the database").with_detail(detail).with_hint(hint)
    }
}
