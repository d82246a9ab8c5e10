//! Views of the backend messages the gate reads: small ones only; rows and COPY data pass as bytes.
//!
//! Source: PostgreSQL documentation, "Message Formats" and "Error and Notice Message Fields".

/// ParameterStatus: name and value.
#[must_use]
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = string(body)?;
    let (value, _) = string(rest)?;
    Some((name, value))
}

/// BackendKeyData: process id and cancel key (4 bytes in protocol 3.0, up to 256 in 3.2).
#[must_use]
pub fn key_data(body: &[u8]) -> Option<(i32, &[u8])> {
    let (pid, key) = body.split_first_chunk::<4>()?;
    (1..=256).contains(&key.len()).then(|| (i32::from_be_bytes(*pid), key))
}

/// The kinds of authentication message, as far as the gate cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Nothing more is asked.
    Ok,
    /// The client must answer with a `p` message.
    Answer,
    /// SASL mechanisms offered; the client must answer.
    Sasl(&'a [u8]),
    /// Information only (AuthenticationSASLFinal).
    Final,
}

/// AuthenticationXXX.
#[must_use]
pub fn authentication(body: &[u8]) -> Option<Authentication<'_>> {
    let (code, rest) = body.split_first_chunk::<4>()?;
    Some(match u32::from_be_bytes(*code) {
        0 => Authentication::Ok,
        10 => Authentication::Sasl(rest),
        12 => Authentication::Final,
        _ => Authentication::Answer,
    })
}

/// Whether AuthenticationSASL's list of mechanisms names one.
#[must_use]
pub fn offers(mechanisms: &[u8], wanted: &[u8]) -> bool {
    mechanisms.split(|&byte| byte == 0).any(|name| name == wanted)
}

/// ParameterDescription: type OIDs.
#[must_use]
pub fn parameter_description(body: &[u8]) -> Option<Vec<u32>> {
    let (_count, oids) = body.split_first_chunk::<2>()?;
    let (oids, rest) = oids.as_chunks::<4>();
    rest.is_empty().then(|| oids.iter().map(|oid| u32::from_be_bytes(*oid)).collect())
}

/// The value of a DataRow with one column that is not NULL.
#[must_use]
pub fn only_column(body: &[u8]) -> Option<&[u8]> {
    let (count, rest) = body.split_first_chunk::<2>()?;
    let (length, value) = rest.split_first_chunk::<4>()?;
    let is_whole = usize::try_from(u32::from_be_bytes(*length)).is_ok_and(|length| length == value.len());
    (u16::from_be_bytes(*count) == 1 && is_whole).then_some(value)
}

/// One field of an ErrorResponse or NoticeResponse, by its code.
#[must_use]
pub fn report_field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        let (&code, after) = rest.split_first()?;
        if code == 0 {
            return None;
        }
        let (value, after) = string(after)?;
        if code == wanted {
            return Some(value);
        }
        rest = after;
    }
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end.checked_add(1)?..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_are_read_and_short_ones_refused() {
        assert_eq!(parameter_status(b"a\0b\0"), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(parameter_status(b"a\0b"), None);
        assert_eq!(key_data(b"\0\0\0\x07abcd"), Some((7, &b"abcd"[..])));
        assert_eq!(key_data(b"\0\0\0\x07"), None);
        assert_eq!(authentication(b"\0\0\0\0"), Some(Authentication::Ok));
        assert_eq!(authentication(b"\0\0\0\x0aSCRAM-SHA-256\0\0"), Some(Authentication::Sasl(b"SCRAM-SHA-256\0\0")));
        assert!(offers(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b"SCRAM-SHA-256-PLUS"));
        assert!(!offers(b"SCRAM-SHA-256\0\0", b"SCRAM-SHA-256-PLUS"));
        assert_eq!(parameter_description(b"\0\x01\0\0\0\x17"), Some(vec![23]));
        assert_eq!(report_field(b"SERROR\0C34000\0\0", b'C'), Some(&b"34000"[..]));
        assert_eq!(report_field(b"SERROR\0\0", b'C'), None);
        assert_eq!(report_field(b"SERR", b'C'), None);
    }
}
