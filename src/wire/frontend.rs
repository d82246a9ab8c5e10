//! Strict views of the client messages that matter. A body that does not end exactly where its fields end is an error:
//! what a lenient reader skips, the server may read differently.
//!
//! Source: PostgreSQL documentation, "Message Formats"; `src/backend/tcop/postgres.c`, `PostgresMain`.

use super::frame;

/// How a body is wrong. The server answers each with SQLSTATE 08P01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A string has no terminator.
    Unterminated,
    /// Fields end before the body does.
    TrailingBytes,
    /// The body ends before its fields do.
    TooShort,
    /// A one-byte code has a value that does not exist.
    BadCode,
}

/// Reads fields off a body.
#[derive(Debug, Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Malformed::Unterminated)?;
        let (text, rest) = self.0.split_at_checked(end).ok_or(Malformed::TooShort)?;
        self.0 = rest.get(1..).ok_or(Malformed::TooShort)?;
        Ok(text)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(byte)
    }

    fn int16(&mut self) -> Result<i16, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<2>().ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(i16::from_be_bytes(*bytes))
    }

    fn int32(&mut self) -> Result<i32, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*bytes))
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes) }
    }
}

/// Query: the text without its terminator.
///
/// # Errors
/// When the body is not exactly one terminated string.
pub fn query(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut fields = Fields(body);
    let text = fields.string()?;
    fields.end()?;
    Ok(text)
}

/// Parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Prepared statement name; empty for the unnamed one.
    pub name: &'a [u8],
    /// Statement text.
    pub text: &'a [u8],
    /// Declared parameter type OIDs, four bytes each.
    types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// # Errors
    /// When the body is not exactly the message's fields.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        let name = fields.string()?;
        let text = fields.string()?;
        // The server reads the count as unsigned 16 bits since 9.x drivers send up to 65,535 parameters.
        let count = usize::from(fields.int16()?.cast_unsigned());
        let types = fields.take(count.saturating_mul(4))?;
        fields.end()?;
        Ok(Self { name, text, types })
    }

    /// Declared parameter type OIDs; zero where the client left the type open.
    pub fn types(&self) -> impl Iterator<Item = u32> + 'a {
        self.types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// The names at the beginning of a Bind, readable before the values have arrived.
///
/// `None`: the names are not complete yet.
#[must_use]
pub fn bind_names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields(body);
    let portal = fields.string().ok()?;
    let statement = fields.string().ok()?;
    Some((portal, statement))
}

/// Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Destination portal.
    pub portal: &'a [u8],
    /// Source prepared statement.
    pub statement: &'a [u8],
    /// Values in order, with their format; `None` is NULL.
    pub values: Vec<(Format, Option<&'a [u8]>)>,
}

/// Format of a parameter value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// In the type's binary form.
    Binary,
}

impl<'a> Bind<'a> {
    /// # Errors
    /// When the body is not exactly the message's fields.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        let portal = fields.string()?;
        let statement = fields.string()?;
        let formats = formats(&mut fields)?;
        let count = usize::from(fields.int16()?.cast_unsigned());
        // One format for all values, or one each, or none: text. Anything else the server refuses.
        if formats.len() > 1 && formats.len() != count {
            return Err(Malformed::BadCode);
        }
        let mut values = Vec::with_capacity(count.min(64));
        for index in 0..count {
            let format = match formats.as_slice() {
                [] => Format::Text,
                [one] => *one,
                many => *many.get(index).ok_or(Malformed::BadCode)?,
            };
            let value = match fields.int32()? {
                -1 => None,
                length => {
                    let length = usize::try_from(length).map_err(|_| Malformed::TooShort)?;
                    Some(fields.take(length)?)
                }
            };
            values.push((format, value));
        }
        let _result_formats = self::formats(&mut fields)?;
        fields.end()?;
        Ok(Self { portal, statement, values })
    }
}

fn formats(fields: &mut Fields<'_>) -> Result<Vec<Format>, Malformed> {
    let count = usize::from(fields.int16()?.cast_unsigned());
    let mut formats = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        formats.push(match fields.int16()? {
            0 => Format::Text,
            1 => Format::Binary,
            _ => return Err(Malformed::BadCode),
        });
    }
    Ok(formats)
}

/// What Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// Describe or Close.
///
/// # Errors
/// When the body is not exactly a kind byte and a terminated name.
pub fn target(body: &[u8]) -> Result<Target<'_>, Malformed> {
    let mut fields = Fields(body);
    let kind = fields.byte()?;
    let name = fields.string()?;
    fields.end()?;
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        _ => Err(Malformed::BadCode),
    }
}

/// Execute: portal name (the row limit is the server's business).
///
/// # Errors
/// When the body is not exactly a terminated name and a four-byte limit.
pub fn execute(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut fields = Fields(body);
    let portal = fields.string()?;
    fields.int32()?;
    fields.end()?;
    Ok(portal)
}

/// Flush, Sync, Terminate, CopyDone: nothing.
///
/// # Errors
/// When there is something.
pub fn empty(body: &[u8]) -> Result<(), Malformed> {
    Fields(body).end()
}

/// SASLInitialResponse: mechanism and the client's first message.
#[must_use]
pub fn sasl_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields(body);
    let mechanism = fields.string().ok()?;
    let length = usize::try_from(fields.int32().ok()?).ok()?;
    let first = fields.take(length).ok()?;
    Some((mechanism, first))
}

/// A frame of the same type that is wrong in the same way but carries nothing of the client's: what is sent on in its place
/// so that the server itself raises the error.
#[must_use]
pub fn malformed_twin(tag: u8, how: Malformed) -> Vec<u8> {
    match (tag, how) {
        (b'Q', Malformed::TrailingBytes) => frame::build(tag, &[b"\0x"]),
        (b'P', Malformed::TrailingBytes) => frame::build(tag, &[b"\0\0\0\0x"]),
        (b'P', Malformed::TooShort) => frame::build(tag, &[b"\0\0\0"]),
        (b'E', Malformed::TrailingBytes) => frame::build(tag, &[b"\0\0\0\0\0x"]),
        (b'E', Malformed::TooShort) => frame::build(tag, &[b"\0\0"]),
        (b'D' | b'C', Malformed::TrailingBytes) => frame::build(tag, &[b"S\0x"]),
        (b'D' | b'C', Malformed::BadCode) => frame::build(tag, &[b"?\0"]),
        (b'D' | b'C', Malformed::TooShort) => frame::build(tag, &[b""]),
        _ => frame::build(tag, &[b"x"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_must_end_at_its_terminator() {
        assert_eq!(query(b"SELECT 1\0"), Ok(&b"SELECT 1"[..]));
        assert_eq!(query(b"SELECT 1"), Err(Malformed::Unterminated));
        assert_eq!(query(b"SELECT 1\0; DROP\0"), Err(Malformed::TrailingBytes));
        assert_eq!(query(b""), Err(Malformed::Unterminated));
    }

    #[test]
    fn parse_reads_name_text_and_types() {
        let parse = Parse::read(b"s\0SELECT $1\0\0\x01\0\0\0\x17").unwrap();
        assert_eq!((parse.name, parse.text), (&b"s"[..], &b"SELECT $1"[..]));
        assert_eq!(parse.types().collect::<Vec<_>>(), [23]);
        assert_eq!(Parse::read(b"s\0x\0\0\x01\0\0"), Err(Malformed::TooShort));
        assert_eq!(Parse::read(b"s\0x\0\0\0!"), Err(Malformed::TrailingBytes));
        assert_eq!(Parse::read(b""), Err(Malformed::Unterminated));
    }

    #[test]
    fn bind_reads_values_in_their_formats() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
        let bind = Bind::read(body).unwrap();
        assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
        assert_eq!(bind.values, [(Format::Binary, Some(&b"ab"[..])), (Format::Binary, None)]);
        for cut in 0..body.len() {
            assert!(Bind::read(&body[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(bind_names(body), Some((&b"p"[..], &b"s"[..])));
        assert_eq!(bind_names(b"p\0s"), None);
    }

    #[test]
    fn describe_close_and_execute_are_strict() {
        assert_eq!(target(b"Sx\0"), Ok(Target::Statement(b"x")));
        assert_eq!(target(b"P\0"), Ok(Target::Portal(b"")));
        assert_eq!(target(b"X\0"), Err(Malformed::BadCode));
        assert_eq!(target(b""), Err(Malformed::TooShort));
        assert_eq!(execute(b"p\0\0\0\0\x05"), Ok(&b"p"[..]));
        assert_eq!(execute(b"p\0\0\0\0"), Err(Malformed::TooShort));
        assert_eq!(execute(b""), Err(Malformed::Unterminated));
        assert_eq!(empty(b"x"), Err(Malformed::TrailingBytes));
    }

    #[test]
    fn twins_are_malformed_themselves_and_carry_nothing() {
        let whole = malformed_twin(b'Q', Malformed::TrailingBytes);
        assert!(query(&whole[5..]).is_err());
        assert!(whole.len() < 12);
    }
}
