//! The packets a client may send before anything else: SSLRequest, GSSENCRequest, CancelRequest and the startup packet.
//! They have a length but no type byte. Read as strictly as Postgres reads them (`ProcessStartupPacket` in
//! `src/backend/tcop/backend_startup.c`). Knows nothing of what the parameters mean to a policy.
//!
//! Start at [`cut`].

use std::fmt;

use super::reply::{ClientFacing, Report};

/// Longest body of a startup packet, after its length field (`MAX_STARTUP_PACKET_LENGTH` in `libpq/pqcomm.h`).
pub const MAX_STARTUP_BODY: usize = 10_000;
/// Longest cancel key (protocol 3.2; "CancelRequest" in the protocol's message formats).
pub const MAX_CANCEL_KEY: usize = 256;
/// Postgres cuts user and database names to `NAMEDATALEN - 1` bytes.
const MAX_NAME: usize = 63;

const LENGTH: usize = 4;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// The newest protocol we know the framing of; named in the refusal of others, as the server does.
const NEWEST_MINOR: u32 = 2;

/// One packet of the phase before the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitialPacket {
    /// The client asks for TLS.
    SslRequest,
    /// The client asks for GSSAPI encryption.
    GssEncRequest,
    /// The client asks to cancel what another session is doing.
    Cancel(CancelRequest),
    /// The client opens a session.
    Startup(StartupPacket),
}

/// A CancelRequest.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Process id of the backend, as told in its BackendKeyData.
    pub pid: i32,
    /// The secret: 4 bytes up to protocol 3.0, up to 256 later.
    pub key: Box<[u8]>,
}

impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelRequest {{ pid: {}, key: … }}", self.pid)
    }
}

impl CancelRequest {
    /// The packet, as it goes to the server.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = self.key.len().saturating_add(12);
        let mut out = Vec::with_capacity(length);
        // At most 12 + 256.
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&self.pid.to_be_bytes());
        out.extend_from_slice(&self.key);
        out
    }
}

/// A startup packet whose layout is known to be right. Keeps the bytes as they came, because those are relayed.
#[derive(Clone, PartialEq, Eq)]
pub struct StartupPacket {
    bytes: Box<[u8]>,
}

impl StartupPacket {
    /// The packet as the client sent it, length field included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Protocol minor version the client asked for (the major is 3).
    #[must_use]
    pub fn minor_version(&self) -> u32 {
        read_u32(self.bytes.get(LENGTH..).unwrap_or_default()).unwrap_or(0) & 0xFFFF
    }

    /// Names and values in the order they stand. Bytes: nothing says they are UTF-8.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.get(LENGTH + 4..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (name, after_name) = split_string(rest)?;
            if name.is_empty() {
                return None;
            }
            let (value, after_value) = split_string(after_name)?;
            rest = after_value;
            Some((name, value))
        })
    }

    /// The value Postgres would use: of several, the last.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters().filter(|(candidate, _)| *candidate == name.as_bytes()).last().map(|(_, value)| value)
    }

    /// The database user, cut to the length Postgres cuts it to; empty if missing (the server will refuse it).
    #[must_use]
    pub fn user(&self) -> String {
        name_text(self.parameter("user").unwrap_or_default())
    }

    /// The database: the user's name if absent or empty, as in Postgres.
    #[must_use]
    pub fn database(&self) -> String {
        match self.parameter("database") {
            Some(database) if !database.is_empty() => name_text(database),
            _ => self.user(),
        }
    }

    /// `application_name` as the client asked for it; the server may report another.
    #[must_use]
    pub fn application_name(&self) -> String {
        let name = self.parameter("application_name").unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

impl fmt::Debug for StartupPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of other parameters (`options`) may carry secrets of applications.
        f.debug_struct("StartupPacket")
            .field("minor_version", &self.minor_version())
            .field("user", &self.user())
            .field("database", &self.database())
            .finish_non_exhaustive()
    }
}

/// Why the first packets of a connection cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Length field out of bounds. The server closes without a word.
    Length,
    /// A CancelRequest too short, or with a key too short or too long. The server closes without a word.
    Cancel,
    /// Another major protocol version.
    Version {
        /// As asked.
        major: u32,
        /// As asked.
        minor: u32,
    },
    /// The parameters do not end exactly where the packet ends.
    Layout,
}

impl Malformed {
    /// What the server would send before closing; empty where it says nothing.
    #[must_use]
    pub fn reply(self) -> Vec<u8> {
        match self {
            Self::Length | Self::Cancel => Vec::new(),
            // Version 0.0 looks to the server like a version not known yet, which it answers in today's format.
            Self::Version { major: 0, minor: 0 } => self.report().to_bytes(),
            // Before protocol 3 an error was `E` and one string (`send_message_to_frontend` in elog.c still does so).
            Self::Version { major: 0..=2, .. } => {
                let mut out = b"EFATAL:  ".to_vec();
                out.extend_from_slice(self.report().message.as_bytes());
                out.extend_from_slice(b"\n\0");
                out
            }
            Self::Version { .. } | Self::Layout => self.report().to_bytes(),
        }
    }
}

impl ClientFacing for Malformed {
    fn report(&self) -> Report {
        match *self {
            Self::Length => Report::fatal("08P01", "invalid length of startup packet"),
            Self::Cancel => Report::fatal("08P01", "invalid length of cancel request packet"),
            Self::Version { major, minor } => Report::fatal(
                "0A000",
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"),
            ),
            Self::Layout => Report::fatal("08P01", "invalid startup packet layout: expected terminator as last byte"),
        }
    }
}

/// Cuts the first packet off `buffer`: the packet and its length in bytes, or `None` while it is incomplete.
/// `max_body` bounds the bytes after the length field; it is never above [`MAX_STARTUP_BODY`].
///
/// # Errors
/// [`Malformed`], as soon as the bytes at hand show it.
pub fn cut(buffer: &[u8], max_body: usize) -> Result<Option<(InitialPacket, usize)>, Malformed> {
    let Some(length) = read_u32(buffer) else {
        return Ok(None);
    };
    let length = usize::try_from(length).map_err(|_| Malformed::Length)?;
    let body_length = length.checked_sub(LENGTH).ok_or(Malformed::Length)?;
    if body_length < 4 || body_length > max_body.min(MAX_STARTUP_BODY) {
        return Err(Malformed::Length);
    }
    let (Some(packet), Some(body)) = (buffer.get(..length), buffer.get(LENGTH..length)) else {
        return Ok(None);
    };
    let code = read_u32(body).ok_or(Malformed::Length)?;
    let parsed = match code {
        CANCEL_REQUEST => InitialPacket::Cancel(parse_cancel(body)?),
        // The server looks at nothing behind the code of these two.
        SSL_REQUEST => InitialPacket::SslRequest,
        GSSENC_REQUEST => InitialPacket::GssEncRequest,
        _ => InitialPacket::Startup(parse_startup(packet, code)?),
    };
    Ok(Some((parsed, length)))
}

/// The refusal of an SSLRequest or GSSENCRequest that comes a second time: the server then reads its code as a version.
#[must_use]
pub fn repeated(packet: &InitialPacket) -> Malformed {
    let code = match packet {
        InitialPacket::GssEncRequest => GSSENC_REQUEST,
        InitialPacket::SslRequest | InitialPacket::Cancel(_) | InitialPacket::Startup(_) => SSL_REQUEST,
    };
    unsupported(code)
}

fn unsupported(code: u32) -> Malformed {
    Malformed::Version { major: code >> 16, minor: code & 0xFFFF }
}

fn parse_cancel(body: &[u8]) -> Result<CancelRequest, Malformed> {
    let (pid, key) = body.get(4..).and_then(<[u8]>::split_first_chunk::<4>).ok_or(Malformed::Cancel)?;
    if key.is_empty() || key.len() > MAX_CANCEL_KEY {
        return Err(Malformed::Cancel);
    }
    Ok(CancelRequest { pid: i32::from_be_bytes(*pid), key: key.into() })
}

fn parse_startup(packet: &[u8], code: u32) -> Result<StartupPacket, Malformed> {
    if code >> 16 != 3 {
        return Err(unsupported(code));
    }
    // Pairs of strings, then one NUL exactly at the end.
    let mut rest = packet.get(LENGTH + 4..).unwrap_or_default();
    loop {
        let (name, after_name) = split_string(rest).ok_or(Malformed::Layout)?;
        if name.is_empty() {
            return if after_name.is_empty() {
                Ok(StartupPacket { bytes: packet.into() })
            } else {
                Err(Malformed::Layout)
            };
        }
        let (_, after_value) = split_string(after_name).ok_or(Malformed::Layout)?;
        rest = after_value;
    }
}

/// A NUL-terminated string and what follows it.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let (string, rest) = bytes.split_at_checked(end)?;
    Some((string, rest.get(1..)?))
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}

fn name_text(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..MAX_NAME).unwrap_or(name)).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

    use proptest::prelude::*;

    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    fn startup(body: &[u8]) -> Result<StartupPacket, Malformed> {
        match cut(&packet(3 << 16, body), MAX_STARTUP_BODY) {
            Ok(Some((InitialPacket::Startup(startup), _))) => Ok(startup),
            Ok(other) => panic!("not a startup packet: {other:?}"),
            Err(error) => Err(error),
        }
    }

    #[test]
    fn a_startup_packet_keeps_its_bytes_and_order() {
        let bytes = packet(0x0003_0002, b"user\0ann\0options\0-c a=1\0options\0-c b=2\0\0");
        let (parsed, length) = cut(&bytes, MAX_STARTUP_BODY).unwrap().unwrap();
        let InitialPacket::Startup(startup) = parsed else { panic!() };
        assert_eq!(length, bytes.len());
        assert_eq!(startup.bytes(), bytes);
        assert_eq!(startup.minor_version(), 2);
        let names: Vec<_> = startup.parameters().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"user"[..], b"options", b"options"]);
        assert_eq!(startup.parameter("options"), Some(&b"-c b=2"[..]));
    }

    #[test]
    fn the_database_defaults_to_the_user_and_names_are_cut_as_postgres_cuts_them() {
        assert_eq!(startup(b"user\0ann\0\0").unwrap().database(), "ann");
        assert_eq!(startup(b"user\0ann\0database\0\0\0").unwrap().database(), "ann");
        assert_eq!(startup(b"user\0ann\0database\0shop\0\0").unwrap().database(), "shop");
        let long = [b"user\0".as_slice(), &[b'a'; 80], b"\0\0"].concat();
        assert_eq!(startup(&long).unwrap().user(), "a".repeat(63));
    }

    #[test]
    fn a_packet_without_parameters_is_the_servers_to_refuse() {
        assert_eq!(startup(b"\0").unwrap().user(), "");
    }

    #[test]
    fn layouts_that_do_not_end_where_the_packet_ends_are_refused() {
        let bodies: [&[u8]; 8] = [
            b"",
            b"user\0",
            b"user\0ann",
            b"user\0ann\0",
            b"user",
            b"user\0ann\0\0\0",
            b"user\0ann\0\0database\0x\0\0",
            b"\0user\0ann\0\0",
        ];
        for body in bodies {
            assert_eq!(startup(body), Err(Malformed::Layout), "{body:?}");
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_the_body_is_read() {
        for length in [0_u32, 3, 4, 7, 10_005, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
            let result = cut(&length.to_be_bytes(), MAX_STARTUP_BODY);
            assert_eq!(result, Err(Malformed::Length), "{length}");
        }
        for length in [8_u32, 10_004] {
            assert_eq!(cut(&length.to_be_bytes(), MAX_STARTUP_BODY), Ok(None), "{length}");
        }
    }

    #[test]
    fn other_major_versions_are_refused_in_the_words_of_the_server() {
        let bytes = packet(2 << 16, b"whatever");
        let error = cut(&bytes, MAX_STARTUP_BODY).unwrap_err();
        assert_eq!(error.reply(), b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n\0");
        let error = cut(&packet(4 << 16 | 7, b""), MAX_STARTUP_BODY).unwrap_err();
        assert_eq!(error.report().sqlstate, "0A000");
        assert!(error.report().message.contains("protocol 4.7:"));
        assert_eq!(
            repeated(&InitialPacket::SslRequest).report().message,
            "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2"
        );
    }

    #[test]
    fn cancel_keys_are_1_to_256_bytes() {
        for (length, fine) in [(0, false), (1, true), (4, true), (32, true), (256, true), (257, false)] {
            let body = [&7_i32.to_be_bytes()[..], &vec![9; length]].concat();
            let bytes = packet(CANCEL_REQUEST, &body);
            match cut(&bytes, MAX_STARTUP_BODY) {
                Ok(Some((InitialPacket::Cancel(cancel), _))) => {
                    assert!(fine, "{length}");
                    assert_eq!((cancel.pid, cancel.key.len()), (7, length));
                    assert_eq!(cancel.to_bytes(), bytes);
                }
                Err(Malformed::Cancel) => assert!(!fine, "{length}"),
                other => panic!("{other:?}"),
            }
        }
        let short = packet(CANCEL_REQUEST, b"abc");
        assert_eq!(cut(&short, MAX_STARTUP_BODY), Err(Malformed::Cancel));
    }

    #[test]
    fn debug_shows_no_secret() {
        let packet = startup(b"user\0ann\0options\0-c a.secret=hunter2\0\0").unwrap();
        assert!(!format!("{packet:?}").contains("hunter2"));
        let cancel = CancelRequest { pid: 1, key: b"hunter2".as_slice().into() };
        assert!(!format!("{cancel:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_without_panic_and_never_beyond_the_buffer(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), max in 0_usize..20_000,
        ) {
            if let Ok(Some((_, length))) = cut(&bytes, max) {
                prop_assert!(length <= bytes.len());
                prop_assert!(length <= max + 4);
            }
        }

        #[test]
        fn a_prefix_is_incomplete_and_the_tail_changes_nothing(
            pairs in proptest::collection::vec(("[a-z_.]{1,20}", "[ -~]{0,40}"), 0..20),
            tail in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut body = Vec::new();
            for (name, value) in &pairs {
                body.extend_from_slice(name.as_bytes());
                body.push(0);
                body.extend_from_slice(value.as_bytes());
                body.push(0);
            }
            body.push(0);
            let whole = packet(3 << 16, &body);
            for end in 0..whole.len() {
                prop_assert_eq!(cut(&whole[..end], MAX_STARTUP_BODY), Ok(None));
            }
            let with_tail = [&whole[..], &tail].concat();
            let (parsed, length) = cut(&with_tail, MAX_STARTUP_BODY).unwrap().unwrap();
            prop_assert_eq!(length, whole.len());
            let InitialPacket::Startup(startup) = parsed else { panic!() };
            let read: Vec<(Vec<u8>, Vec<u8>)> =
                startup.parameters().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            let wanted: Vec<(Vec<u8>, Vec<u8>)> =
                pairs.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone().into_bytes())).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn bodies_near_startup_packets_are_read_as_the_server_reads_them(
            body in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 5 => b'a'..=b'c'], 0..24),
        ) {
            // The server does not look at the last byte once the pairs end before it; we want it to be the NUL it has to be.
            let wanted = server_accepts(&body) && body.last() == Some(&0);
            prop_assert_eq!(startup(&body).is_ok(), wanted);
        }
    }

    /// `ProcessStartupPacket`'s loop, transliterated: `buffer` is the body with the zero byte Postgres appends.
    fn server_accepts(body: &[u8]) -> bool {
        let len = body.len();
        let buffer = [body, &[0]].concat();
        let strlen = |at: usize| buffer[at..].iter().position(|&b| b == 0).unwrap();
        let mut offset = 0;
        while offset < len {
            if buffer[offset] == 0 {
                break;
            }
            let value = offset + strlen(offset) + 1;
            if value >= len {
                break;
            }
            offset = value + strlen(value) + 1;
        }
        // In Postgres both sides are 4 larger, for the version.
        len > 0 && offset == len - 1
    }
}
