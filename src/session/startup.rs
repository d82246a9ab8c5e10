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
        let client = match tls {
            ListenTls::Disabled => socket.into(),
            ListenTls::Offered { identity, .. } => match socket.peek_first().await? {
                None => return Ok(None),
                Some(TLS_HANDSHAKE) => {
                    let mut stream = identity.accept(socket).await?;
                    // Without ALPN a handshake meant for another protocol could be led here (ALPACA); Postgres insists too.
                    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                        stream.shutdown().await?;
                        return Ok(None);
                    }
                    Stream::TlsServer(Box::new(stream))
                }
                Some(_) => socket.into(),
            },
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

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

    use proptest::prelude::*;
    use tokio::net::UnixStream;

    use super::*;
    use crate::wire::startup::MAX_STARTUP_BODY;

    const SSL: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
    const GSS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x30];

    fn startup_packet(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).unwrap();
        [&length.to_be_bytes()[..], &[0, 3, 0, 0], body].concat()
    }

    /// How a negotiation ended, without its sockets.
    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Session { startup: Vec<u8>, behind: Vec<u8> },
        Cancel(CancelRequest),
        Refused(Vec<u8>),
        Gone,
    }

    fn seen(negotiated: Negotiated) -> Seen {
        match negotiated {
            Negotiated::Session { startup, leftover, .. } => {
                Seen::Session { startup: startup.bytes().to_vec(), behind: leftover }
            }
            Negotiated::Cancel { request, .. } => Seen::Cancel(request),
            Negotiated::Refused { reply, .. } => Seen::Refused(reply),
            Negotiated::Gone => Seen::Gone,
        }
    }

    /// A client that sends `chunks` one by one and half-closes, at a gate without TLS: how it ends, and what the client is
    /// answered on the way.
    fn meet(chunks: &[Vec<u8>]) -> (Seen, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (mut client, gate) = UnixStream::pair().unwrap();
            let negotiation = async {
                match negotiate(Socket::Unix(gate), &ListenTls::Disabled, MAX_STARTUP_BODY).await {
                    Negotiated::Session { mut client, startup, mut leftover } => {
                        client.read_to_end(&mut leftover).await.unwrap();
                        seen(Negotiated::Session { client, startup, leftover })
                    }
                    ended @ (Negotiated::Cancel { .. } | Negotiated::Refused { .. } | Negotiated::Gone) => seen(ended),
                }
            };
            let talk = async {
                for chunk in chunks {
                    // Fails once the gate has closed.
                    let _ = client.write_all(chunk).await;
                    tokio::task::yield_now().await;
                }
                let _ = client.shutdown().await;
                let mut answers = Vec::new();
                let _ = client.read_to_end(&mut answers).await;
                answers
            };
            tokio::join!(negotiation, talk)
        })
    }

    fn chunked(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
        bytes.chunks(size.max(1)).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn encryption_requests_may_come_once_each_in_either_order() {
        let startup = startup_packet(b"user\0ann\0\0");
        for (requests, answers) in
            [(vec![], ""), (vec![SSL], "N"), (vec![GSS], "N"), (vec![SSL, GSS], "NN"), (vec![GSS, SSL], "NN")]
        {
            let mut chunks: Vec<_> = requests.iter().map(|request| request.to_vec()).collect();
            chunks.push(startup.clone());
            let session = Seen::Session { startup: startup.clone(), behind: Vec::new() };
            // Chunks that arrive together are an injection; here each is answered before the next.
            let (seen, answered) = meet_in_turn(&chunks);
            assert_eq!((seen, answered.as_slice()), (session, answers.as_bytes()), "{requests:?}");
        }
        for repeated in [vec![SSL, SSL], vec![GSS, GSS], vec![SSL, GSS, SSL], vec![GSS, SSL, GSS]] {
            let chunks: Vec<_> = repeated.iter().map(|request| request.to_vec()).collect();
            let (seen, _) = meet_in_turn(&chunks);
            let Seen::Refused(reply) = seen else { panic!("{repeated:?}: {seen:?}") };
            assert!(String::from_utf8_lossy(&reply).contains("0A000"), "{repeated:?}");
        }
    }

    /// As [`meet`], but every request is sent only when the one before has been answered.
    fn meet_in_turn(chunks: &[Vec<u8>]) -> (Seen, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (mut client, gate) = UnixStream::pair().unwrap();
            let talk = async {
                let mut answers = Vec::new();
                for (index, chunk) in chunks.iter().enumerate() {
                    client.write_all(chunk).await.unwrap();
                    if index + 1 < chunks.len() {
                        answers.push(client.read_u8().await.unwrap());
                    }
                }
                answers
            };
            let (ended, answers) =
                tokio::join!(negotiate(Socket::Unix(gate), &ListenTls::Disabled, MAX_STARTUP_BODY), talk);
            (seen(ended), answers)
        })
    }

    #[test]
    fn bytes_in_one_segment_with_an_encryption_request_are_refused() {
        for request in [SSL, GSS] {
            let bytes = [&request[..], &startup_packet(b"user\0ann\0\0")].concat();
            let (seen, answers) = meet(&[bytes]);
            let Seen::Refused(reply) = seen else { panic!("{seen:?}") };
            assert_eq!(answers, b"N");
            assert!(String::from_utf8_lossy(&reply).contains("received unencrypted data after"));
        }
    }

    #[test]
    fn a_client_that_leaves_early_is_told_nothing() {
        let whole = startup_packet(b"user\0ann\0\0");
        for end in 0..whole.len() {
            assert_eq!(meet(&chunked(&whole[..end], 5)), (Seen::Gone, Vec::new()), "{end}");
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_into_segments_changes_nothing(
            size in 1_usize..40,
            value in "[a-z]{0,60}",
            behind in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let startup = startup_packet(format!("user\0{value}\0\0").as_bytes());
            let all = [&startup[..], &behind].concat();
            let (seen, answers) = meet(&chunked(&all, size));
            prop_assert_eq!(seen, Seen::Session { startup, behind });
            prop_assert!(answers.is_empty());
        }

        #[test]
        fn any_beginning_ends_with_at_most_two_answers(
            parts in proptest::collection::vec(prop_oneof![
                Just(SSL.to_vec()),
                Just(GSS.to_vec()),
                Just(vec![0, 0, 0, 16, 0x04, 0xD2, 0x16, 0x2E, 0, 0, 0, 1, 0, 0, 0, 2]),
                Just(startup_packet(b"user\0ann\0\0")),
                proptest::collection::vec(any::<u8>(), 0..30),
            ], 0..8),
            size in 1_usize..40,
        ) {
            let (seen, answers) = meet(&chunked(&parts.concat(), size));
            prop_assert!(answers.len() <= 2 && answers.iter().all(|byte| *byte == b'N'), "{:?} {:?}", seen, answers);
        }
    }
}
