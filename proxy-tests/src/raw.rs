//! A protocol client that sends exactly the bytes it is given and keeps everything it receives.
//!
//! Blocking, with a deadline on every read. It decodes nothing but frames; [`Frame`] has views for what tests ask about.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use querygate::clock;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::DEADLINE;
use crate::message;
use crate::postgres::Target;

/// One backend message.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type byte; 0 for the single byte that answers `SSLRequest`.
    pub tag: u8,
    /// The body, without the length.
    pub body: Vec<u8>,
}

impl Frame {
    /// A field of an `ErrorResponse` or `NoticeResponse` (`C` SQLSTATE, `M` message, `D`, `H`, `S` …).
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&code))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The SQLSTATE of an error or notice.
    pub fn sqlstate(&self) -> String {
        self.field(b'C').unwrap_or_default()
    }

    /// The message of an error or notice.
    pub fn text(&self) -> String {
        self.field(b'M').unwrap_or_default()
    }

    /// The columns of a `DataRow`, as text.
    pub fn columns(&self) -> Vec<Option<String>> {
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let Ok(length) = usize::try_from(length) else {
                columns.push(None);
                rest = tail;
                continue;
            };
            columns.push(Some(String::from_utf8_lossy(&tail[..length]).into_owned()));
            rest = &tail[length..];
        }
        columns
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", char::from(self.tag))?;
        let shown = self.body.len().min(200);
        write!(f, "\"{}\"", self.body[..shown].escape_ascii())?;
        if shown < self.body.len() { write!(f, "… ({} bytes)", self.body.len()) } else { Ok(()) }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Only while the stream is changed into another kind.
    Gone,
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::Gone => Ok(0),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Gone => Ok(()),
        }
    }

    fn set_read_timeout(&self, within: Duration) {
        let within = Some(within.max(Duration::from_millis(1)));
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(within),
            Stream::Unix(stream) => stream.set_read_timeout(within),
            Stream::Tls(stream) => stream.sock.set_read_timeout(within),
            Stream::Gone => Ok(()),
        }
        .expect("a read deadline can be set");
    }
}

/// How a read ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read1 {
    /// A whole message.
    Frame(Frame),
    /// The server closed the connection (or reset it) between messages.
    Eof,
    /// The server closed the connection within a message.
    Torn(Vec<u8>),
    /// Nothing came within the deadline.
    Timeout,
}

/// A connection.
pub struct Raw {
    stream: Stream,
    buffer: Vec<u8>,
    /// Where the first unread byte stands in `buffer`.
    start: usize,
    /// Everything received, in order.
    pub transcript: Vec<Frame>,
    /// Process id and key of `BackendKeyData`, once seen.
    pub key: Option<(u32, Vec<u8>)>,
}

impl Raw {
    /// A TCP connection to an address, nothing sent.
    pub fn connect(address: impl std::net::ToSocketAddrs) -> Raw {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Raw::over(Stream::Tcp(stream))
    }

    /// A Unix socket connection, nothing sent.
    pub fn connect_unix(path: impl AsRef<std::path::Path>) -> Raw {
        Raw::over(Stream::Unix(UnixStream::connect(path).expect("the server accepts connections")))
    }

    fn over(stream: Stream) -> Raw {
        Raw { stream, buffer: Vec::new(), start: 0, transcript: Vec::new(), key: None }
    }

    /// Connected, started and ready for a query, as the target's user; for servers that trust it.
    pub fn login(target: &Target) -> Raw {
        let mut raw = Raw::connect((target.host.as_str(), target.port));
        raw.start(&[("user", &target.user), ("database", &target.database)]);
        raw
    }

    /// The same, as `psql` begins its sessions.
    pub fn login_as_psql(target: &Target) -> Raw {
        let mut raw = Raw::connect((target.host.as_str(), target.port));
        raw.start(&[
            ("user", &target.user),
            ("database", &target.database),
            ("client_encoding", "UTF8"),
            ("application_name", "psql"),
        ]);
        raw
    }

    /// Sends a startup message and waits for the first `ReadyForQuery`.
    pub fn start(&mut self, parameters: &[(&str, &str)]) {
        self.send(message::startup(parameters));
        let frames = self.until(b'Z');
        if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
            panic!("startup failed: {error:?}");
        }
    }

    /// Sends `SSLRequest`, expects `S`, and does the handshake.
    #[must_use]
    pub fn ssl(mut self, config: Arc<ClientConfig>, server_name: &str) -> Raw {
        self.send(message::ssl_request());
        assert_eq!(self.byte(), b'S', "the server accepts TLS");
        self.tls(config, server_name)
    }

    /// Starts a TLS handshake at once: the continuation of `ssl`, and direct TLS.
    #[must_use]
    pub fn tls(mut self, config: Arc<ClientConfig>, server_name: &str) -> Raw {
        let Stream::Tcp(tcp) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            panic!("TLS is done over TCP here")
        };
        let name = ServerName::try_from(server_name.to_owned()).expect("a valid server name");
        let connection = ClientConnection::new(config, name).expect("a client configuration that works");
        self.stream = Stream::Tls(Box::new(StreamOwned::new(connection, tcp)));
        self
    }

    /// Sends bytes as they are. A peer that is gone is not an error here: reading will show it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// A second handle that only sends, for another thread; not over TLS.
    #[must_use]
    pub fn writer(&self) -> Raw {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().expect("a socket can be duplicated")),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().expect("a socket can be duplicated")),
            Stream::Tls(_) | Stream::Gone => panic!("TLS has one state for both directions"),
        };
        Raw::over(stream)
    }

    /// Sends bytes one per segment (`TCP_NODELAY` is set).
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Closes our sending direction.
    pub fn half_close(&mut self) {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap_or(()),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap_or(()),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                stream.sock.shutdown(Shutdown::Write).unwrap_or(());
            }
            Stream::Gone => (),
        }
    }

    /// Reads one raw byte: the answer to `SSLRequest` or `GSSENCRequest`.
    pub fn byte(&mut self) -> u8 {
        self.byte_or_eof().expect("an answer, not the end of the connection")
    }

    /// The same, or `None` when the server closed the connection instead.
    pub fn byte_or_eof(&mut self) -> Option<u8> {
        assert!(self.buffer.len() == self.start, "nothing may precede the answer");
        self.stream.set_read_timeout(DEADLINE);
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => {
                self.transcript.push(Frame { tag: 0, body: byte.to_vec() });
                Some(byte[0])
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer within {DEADLINE:?}")
            }
            Err(_) => None,
        }
    }

    /// Reads one message, or learns why not, within `within`.
    pub fn read_within(&mut self, within: Duration) -> Read1 {
        let give_up = clock::now() + within;
        loop {
            if let Some(frame) = self.cut() {
                return Read1::Frame(frame);
            }
            let left = give_up.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Read1::Timeout;
            }
            self.stream.set_read_timeout(left);
            self.buffer.drain(..std::mem::take(&mut self.start));
            let mut scratch = vec![0; 65536];
            match self.stream.read(&mut scratch) {
                Ok(0) => return self.closed(),
                Ok(read) => self.buffer.extend_from_slice(&scratch[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Read1::Timeout;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                // A reset is how a server that did not read everything closes.
                Err(_) => return self.closed(),
            }
        }
    }

    fn closed(&mut self) -> Read1 {
        let rest = self.buffer.split_off(std::mem::take(&mut self.start));
        self.buffer.clear();
        if rest.is_empty() { Read1::Eof } else { Read1::Torn(rest) }
    }

    fn cut(&mut self) -> Option<Frame> {
        let unread = &self.buffer[self.start..];
        let header: [u8; 5] = *unread.first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes([header[1], header[2], header[3], header[4]]))
            .expect("usize has 32 bits");
        assert!(length >= 4, "the server sent a length under 4: {header:?}");
        let body = unread.get(5..length + 1)?.to_vec();
        self.start += length + 1;
        let frame = Frame { tag: header[0], body };
        if let (b'K', Some((pid, key))) = (frame.tag, frame.body.split_first_chunk::<4>()) {
            self.key = Some((u32::from_be_bytes(*pid), key.to_vec()));
        }
        self.transcript.push(frame.clone());
        Some(frame)
    }

    /// Reads one message, or `None` at the end of the connection.
    pub fn read(&mut self) -> Option<Frame> {
        match self.read_within(DEADLINE) {
            Read1::Frame(frame) => Some(frame),
            Read1::Eof => None,
            Read1::Torn(bytes) => panic!("the connection ended within a message: {}", bytes.escape_ascii()),
            Read1::Timeout => panic!("nothing came within {DEADLINE:?}; so far: {:?}", self.transcript),
        }
    }

    /// Reads one message.
    pub fn expect(&mut self, tag: u8) -> Frame {
        let frame = self.read().unwrap_or_else(|| panic!("the connection ended before `{}`", char::from(tag)));
        assert_eq!(char::from(frame.tag), char::from(tag), "{frame:?}");
        frame
    }

    /// Reads messages up to and including the first with this tag; ends early at the end of the connection.
    pub fn until(&mut self, tag: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read() {
            let last = frame.tag == tag;
            frames.push(frame);
            if last {
                break;
            }
        }
        frames
    }

    /// Reads up to `ReadyForQuery` `count` times.
    pub fn until_ready(&mut self, count: usize) -> Vec<Frame> {
        (0..count).flat_map(|_| self.until(b'Z')).collect()
    }

    /// Reads everything up to the end of the connection.
    pub fn until_eof(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.read_within(DEADLINE) {
                Read1::Frame(frame) => frames.push(frame),
                Read1::Eof => return frames,
                Read1::Torn(body) => {
                    frames.push(Frame { tag: b'!', body });
                    return frames;
                }
                Read1::Timeout => panic!("the connection is still open after {DEADLINE:?}; got {frames:?}"),
            }
        }
    }

    /// Reads to the end of the connection without cutting messages, for answers that are not messages.
    pub fn read_raw_to_eof(&mut self, bytes: &mut Vec<u8>) {
        bytes.extend(self.buffer.drain(..).skip(std::mem::take(&mut self.start)));
        self.stream.set_read_timeout(DEADLINE);
        let mut scratch = vec![0; 65536];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return,
                Ok(read) => bytes.extend_from_slice(&scratch[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the connection is still open after {DEADLINE:?}")
                }
                Err(_) => return,
            }
        }
    }

    /// Runs a simple query and returns everything up to `ReadyForQuery`.
    pub fn query(&mut self, sql: impl AsRef<[u8]>) -> Vec<Frame> {
        self.send(message::query(sql));
        self.until(b'Z')
    }

    /// Runs a simple query that must succeed and returns its rows as text.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let frames = self.query(sql);
        if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
            panic!("{sql}: {error:?}");
        }
        frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect()
    }

    /// The single value of a query that must succeed; NULL is the empty string.
    pub fn value(&mut self, sql: &str) -> String {
        self.rows(sql).into_iter().flatten().next().flatten().unwrap_or_default()
    }
}

/// Repeats `probe` until it gives something, waking a reader's deadline in between; fails after [`DEADLINE`].
///
/// For states that nobody announces (a row of `pg_stat_activity`, an entry of the API).
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let give_up = clock::now() + DEADLINE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(clock::now() < give_up, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
