//! The first packets of a client: encryption requests, TLS handshake, startup packet or CancelRequest. Answers as Postgres
//! answers (`ProcessStartupPacket` and `ProcessSSLStartup` in `src/backend/tcop/backend_startup.c`). Knows no limits of the
//! process and no upstream; whoever calls [`negotiate`] bounds its time.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Socket, Stream};
use super::tls::{ALPN, ListenTls};
use crate::wire::reply::Report;
use crate::wire::startup::{self, CancelRequest, InitialPacket, Malformed, StartupPacket};

/// First byte of a TLS handshake record: direct TLS. No startup packet begins with it, it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;
/// Bytes asked of the socket at a time.
const CHUNK: usize = 1024;

/// How a client's first packets ended.
#[derive(Debug)]
pub(super) enum Negotiated {
    /// It wants a session.
    Session {
        /// Its leg, with TLS by now if it asked for it.
        client: Stream,
        /// Its startup packet.
        startup: StartupPacket,
        /// What it sent behind the packet.
        leftover: Vec<u8>,
    },
    /// It wants another session cancelled.
    Cancel {
        /// Its leg, to be closed when the request has been dealt with.
        client: Stream,
        /// Which session.
        request: CancelRequest,
    },
    /// It is to be told something (nothing, if empty) and closed.
    Refused {
        /// Its leg.
        client: Stream,
        /// The last bytes for it.
        reply: Vec<u8>,
    },
    /// It went away.
    Gone,
}

/// Reads packets until it is clear what the client wants.
///
/// # Cancellation safety
/// A dropped future closes the connection.
pub(super) async fn negotiate(socket: Socket, tls: &ListenTls, max_body: usize) -> Negotiated {
    match Negotiation::begin(socket, tls).await {
        Ok(Some(negotiation)) => negotiation.run(tls, max_body).await.unwrap_or(Negotiated::Gone),
        Ok(None) | Err(_) => Negotiated::Gone,
    }
}

struct Negotiation {
    client: Stream,
    buffer: Vec<u8>,
    /// SSLRequest has been answered; a second one is an unknown protocol version, as in Postgres.
    ssl_done: bool,
    /// The same of GSSENCRequest. Never cleared, unlike in Postgres up to 18, where the two requests taken in turns go on
    /// for ever.
    gss_done: bool,
}

impl Negotiation {
    /// Looks at the first byte: a client may begin with TLS itself ("direct", PostgreSQL 17).
    async fn begin(socket: Socket, tls: &ListenTls) -> io::Result<Option<Self>> {
        let client = match (tls, socket.peek_first().await?) {
            (_, None) => return Ok(None),
            (ListenTls::Offered { identity, .. }, Some(TLS_HANDSHAKE)) => {
                let mut stream = identity.accept(socket).await?;
                // Without ALPN a handshake meant for another protocol could be led here (ALPACA); Postgres insists too.
                if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                    stream.shutdown().await?;
                    return Ok(None);
                }
                Stream::TlsServer(Box::new(stream))
            }
            (ListenTls::Offered { .. } | ListenTls::Disabled, Some(_)) => socket.into(),
        };
        Ok(Some(Self { client, buffer: Vec::new(), ssl_done: false, gss_done: false }))
    }

    async fn run(mut self, tls: &ListenTls, max_body: usize) -> io::Result<Negotiated> {
        loop {
            let packet = match startup::cut(&self.buffer, max_body) {
                Ok(Some((packet, length))) => {
                    self.buffer.drain(..length);
                    packet
                }
                Ok(None) => {
                    self.buffer.reserve(CHUNK);
                    if self.client.read_buf(&mut self.buffer).await? == 0 {
                        return Ok(Negotiated::Gone);
                    }
                    continue;
                }
                Err(malformed) => return Ok(self.refuse(malformed)),
            };
            match packet {
                InitialPacket::SslRequest if !self.ssl_done => {
                    self.ssl_done = true;
                    self = match self.answer_ssl(tls).await? {
                        Ok(next) => next,
                        Err(refused) => return Ok(refused),
                    };
                }
                InitialPacket::GssEncRequest if !self.gss_done => {
                    self.gss_done = true;
                    self.write(b"N").await?;
                    if !self.buffer.is_empty() {
                        return Ok(self.injected("GSSAPI encryption request"));
                    }
                }
                InitialPacket::SslRequest | InitialPacket::GssEncRequest => {
                    return Ok(self.refuse(startup::repeated(&packet)));
                }
                InitialPacket::Cancel(request) => {
                    let client = self.client;
                    return Ok(Negotiated::Cancel { client, request });
                }
                InitialPacket::Startup(startup) => return Ok(self.open(startup, tls)),
            }
        }
    }

    /// Answers SSLRequest: `S` and the handshake, or `N`. The inner error is a refusal.
    ///
    /// Fail closed: what is buffered by now was not encrypted; taken for encrypted bytes later it would be an injection
    /// (CVE-2021-23214). The server refuses it behind `N` too. A byte that arrives later reaches the handshake and breaks it.
    async fn answer_ssl(mut self, tls: &ListenTls) -> io::Result<Result<Self, Negotiated>> {
        let injected = !self.buffer.is_empty();
        let identity = match (tls, &self.client) {
            (ListenTls::Offered { identity, .. }, Stream::Tcp(_)) => identity,
            // No TLS inside of TLS, and none on Unix sockets, as in Postgres.
            (
                ListenTls::Offered { .. } | ListenTls::Disabled,
                Stream::Tcp(_) | Stream::Unix(_) | Stream::TlsServer(_) | Stream::TlsClient(_),
            ) => {
                self.write(b"N").await?;
                return Ok(if injected { Err(self.injected("SSL request")) } else { Ok(self) });
            }
        };
        if injected {
            return Ok(Err(self.injected("SSL request")));
        }
        self.write(b"S").await?;
        let Some(socket) = self.client.into_plain() else {
            return Ok(Err(Negotiated::Gone));
        };
        self.client = Stream::TlsServer(Box::new(identity.accept(socket).await?));
        // Inside of TLS a GSSENCRequest is an unknown version, as in Postgres.
        self.gss_done = true;
        Ok(Ok(self))
    }

    fn open(self, startup: StartupPacket, tls: &ListenTls) -> Negotiated {
        // Unix sockets cannot be listened to on the way; cancel requests, which libpq sends in the clear, never come here.
        if tls.is_required() && matches!(self.client, Stream::Tcp(_)) {
            let report = Report::fatal("28000", "this gate accepts only encrypted connections")
                .with_hint("Connect with sslmode=require or stricter.");
            return Negotiated::Refused { client: self.client, reply: report.to_bytes() };
        }
        Negotiated::Session { client: self.client, startup, leftover: self.buffer }
    }

    fn refuse(self, malformed: Malformed) -> Negotiated {
        Negotiated::Refused { client: self.client, reply: malformed.reply() }
    }

    fn injected(self, after: &str) -> Negotiated {
        let report = Report::fatal("08P01", format!("received unencrypted data after {after}")).with_detail(
            "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        );
        Negotiated::Refused { client: self.client, reply: report.to_bytes() }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.write_all(bytes).await?;
        self.client.flush().await
    }
}
