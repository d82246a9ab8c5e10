//! Cutting a byte stream into frames by their declared length. Knows no message's meaning beyond its type byte.
//!
//! A frame is a type byte, a length (big-endian, counting itself but not the type byte) and a body.
//! Source: PostgreSQL documentation, "Message Formats"; limits from `src/backend/tcop/postgres.c`, `SocketBackend`.

/// Type byte and length: five bytes.
pub const HEADER: usize = 5;

/// `PQ_SMALL_MESSAGE_LIMIT` of `src/include/libpq/libpq.h`: the length field of messages that carry only names.
pub const SMALL_LENGTH: usize = 10_000;

/// `PQ_LARGE_MESSAGE_LIMIT`: `MaxAllocSize - 1`.
pub const LARGE_LENGTH: usize = 0x3fff_fffe;

/// `PG_MAX_AUTH_TOKEN_LENGTH` of `src/include/libpq/auth.h`: a password or SASL answer.
pub const AUTH_LENGTH: usize = 65_535;

/// What stands at the beginning of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Fewer than five bytes.
    Incomplete,
    /// A frame of `total` bytes (header included); the buffer may hold less of it.
    Frame {
        /// Type byte.
        tag: u8,
        /// Header and body, in bytes.
        total: usize,
    },
    /// The length field cannot be: below 4, or above what the server takes for this type.
    BadLength {
        /// Type byte.
        tag: u8,
    },
    /// No such message type from a client.
    UnknownTag {
        /// Type byte.
        tag: u8,
    },
}

/// Looks at a client's next frame, with the server's own limits.
#[must_use]
pub fn peek_frontend(buffer: &[u8]) -> Peek {
    peek(buffer, frontend_limit)
}

/// Looks at a backend's next frame. The backend is trusted to keep its own limits.
#[must_use]
pub fn peek_backend(buffer: &[u8]) -> Peek {
    peek(buffer, |_| Some(u32::MAX as usize))
}

fn peek(buffer: &[u8], limit: impl Fn(u8) -> Option<usize>) -> Peek {
    let Some(&[tag, a, b, c, d]) = buffer.first_chunk::<HEADER>() else {
        // The server reads the type byte first and refuses an unknown one without waiting for a length.
        return match buffer.first() {
            Some(&tag) if limit(tag).is_none() => Peek::UnknownTag { tag },
            _ => Peek::Incomplete,
        };
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match limit(tag) {
        None => Peek::UnknownTag { tag },
        Some(limit) if length < 4 || length > limit => Peek::BadLength { tag },
        Some(_) => Peek::Frame { tag, total: length.saturating_add(1) },
    }
}

fn frontend_limit(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'F' | b'B' | b'P' | b'd' => Some(LARGE_LENGTH),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL_LENGTH),
        _ => None,
    }
}

/// Builds a frame. A body longer than the protocol can say is a bug of the caller and yields an empty frame.
#[must_use]
pub fn build(tag: u8, body: &[&[u8]]) -> Vec<u8> {
    let size: usize = body.iter().map(|part| part.len()).sum();
    let Ok(length) = u32::try_from(size.saturating_add(4)) else {
        return Vec::new();
    };
    let mut out = Vec::with_capacity(size.saturating_add(HEADER));
    out.push(tag);
    out.extend_from_slice(&length.to_be_bytes());
    for part in body {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Peek) {
        assert_eq!(peek_frontend(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn frames_are_cut_by_their_declared_length() {
        check(b"", Peek::Incomplete);
        check(b"Q\0\0\0", Peek::Incomplete);
        check(b"Q\0\0\0\x05\0", Peek::Frame { tag: b'Q', total: 6 });
        check(b"S\0\0\0\x04Q\0", Peek::Frame { tag: b'S', total: 5 });
    }

    #[test]
    fn lengths_the_server_refuses_are_refused() {
        for length in [0u32, 1, 2, 3, 0x3fff_ffff, 0x7fff_ffff, 0xffff_ffff] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            check(&bytes, Peek::BadLength { tag: b'Q' });
        }
        check(b"S\0\0\x27\x11", Peek::BadLength { tag: b'S' });
        check(b"S\0\0\x27\x10", Peek::Frame { tag: b'S', total: 10_001 });
    }

    #[test]
    fn unknown_types_are_refused_before_their_length_is_there() {
        check(b"!", Peek::UnknownTag { tag: b'!' });
        check(b"p\0\0\0\x08", Peek::UnknownTag { tag: b'p' });
    }

    #[test]
    fn built_frames_carry_their_length() {
        assert_eq!(build(b'Q', &[b"x", b"\0"]), b"Q\0\0\0\x06x\0");
    }
}
