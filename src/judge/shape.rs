//! The shape of a text: the text with its plain literals replaced, as a key under which texts that differ in nothing else
//! share an analysis. Knows bytes only.
//!
//! Two texts with the same shape must be cut into the same tokens by Postgres (scan.l), except for the *contents* of
//! literals. That is cheap to promise only for a plain subset of SQL, so [`shape`] gives up where scan.l becomes subtle
//! (comments, backslashes, dollar quotes, prefixed literals, control characters), and the caller falls back to the
//! exact text. It never has to understand SQL: everything that is not a plain literal stays in the key byte by byte.

#![expect(clippy::arithmetic_side_effects, reason = "positions are bounded by the text's length")]

/// Placeholders: control characters, which are refused in the text itself, so that a key has one reading.
const STRING: u8 = 0x01;
/// An integer that is certainly an `ICONST` (scan.l reads what exceeds 32 bits as `FCONST`).
const SMALL_INTEGER: u8 = 0x02;
/// An integer of ten digits: `ICONST` or `FCONST`.
const TEN_DIGITS: u8 = 0x03;
/// An integer that is certainly an `FCONST`.
const BIG_INTEGER: u8 = 0x04;
/// Digits, a dot, digits.
const DECIMAL: u8 = 0x05;

/// How the scan treats a byte outside literals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stays in the key.
    Plain,
    /// Starts a number, or is a part of an identifier.
    Digit,
    /// Starts something that needs a look at its neighbours.
    Special,
}

const CLASSES: [Class; 256] = classes();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn classes() -> [Class; 256] {
    let mut table = [Class::Plain; 256];
    let mut byte = u8::MAX;
    loop {
        table[byte as usize] = match byte {
            b'0'..=b'9' => Class::Digit,
            0..=8 | 0x0b | 0x0c | 0x0e..=0x1f | b'\'' | b'"' | b'$' | b'-' | b'/' | b'\\' => Class::Special,
            _ => Class::Plain,
        };
        if byte == 0 {
            return table;
        }
        byte -= 1;
    }
}

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Special)
}

/// Writes the shape of `text` into `key` (cleared first). `false`: the text is not plain enough, and `key` is of no use.
#[must_use]
pub(super) fn shape(text: &[u8], key: &mut Vec<u8>) -> bool {
    key.clear();
    key.reserve(text.len());
    write_shape(text, key).is_some()
}

/// Scans on and copies only before and after a literal, for this runs for every statement that passes.
fn write_shape(text: &[u8], key: &mut Vec<u8>) -> Option<()> {
    // Everything before `copied` is in the key; everything before `at` has been looked at.
    let (mut copied, mut at) = (0, 0);
    loop {
        let rest = text.get(at..)?;
        at += rest.iter().position(|&byte| class(byte) != Class::Plain).unwrap_or(rest.len());
        let Some(rest @ [byte, ..]) = text.get(at..) else {
            break;
        };
        let before = at.checked_sub(1).and_then(|before| text.get(before)).copied().unwrap_or(b' ');
        let (length, placeholder) = match byte {
            b'"' => (quoted_identifier(rest, before)?, None),
            b'0'..=b'9' => number(rest, before)?,
            b'\'' => (string(rest, before)?, Some(STRING)),
            b'$' => (parameter(rest, before)?, None),
            b'-' | b'/' => (operator(rest)?, None),
            _ => return None,
        };
        if let Some(placeholder) = placeholder {
            key.extend_from_slice(text.get(copied..at)?);
            key.push(placeholder);
            copied = at + length;
        }
        at += length;
    }
    key.extend_from_slice(text.get(copied..)?);
    Some(())
}

/// A digit run with perhaps a fraction. Where letters touch it (`1e5`, `0x1F`, `1_000`, `a1`) it stays as it is.
fn number(rest: &[u8], before: u8) -> Option<(usize, Option<u8>)> {
    let whole = digits(rest);
    let (length, placeholder) = match rest.get(whole..)? {
        [b'.', fraction @ ..] if fraction.first().is_some_and(u8::is_ascii_digit) => {
            (whole + 1 + digits(fraction), DECIMAL)
        }
        _ => {
            let placeholder = match whole {
                ..=9 => SMALL_INTEGER,
                10 => TEN_DIGITS,
                _ => BIG_INTEGER,
            };
            (whole, placeholder)
        }
    };
    let touched = |byte: u8| is_identifier(byte) || byte == b'.';
    let alone = !touched(before) && !rest.get(length).is_some_and(|&byte| touched(byte));
    Some((length, alone.then_some(placeholder)))
}

/// `'…'` with `''` for a quote. Prefixes (`E'`, `U&'`, `B'`, `N'`) change how it is read, as does a backslash when
/// `standard_conforming_strings` is off.
fn string(rest: &[u8], before: u8) -> Option<usize> {
    if is_identifier(before) || before == b'&' {
        return None;
    }
    let mut length = 1;
    loop {
        let tail = rest.get(length..)?;
        let stop = tail.iter().position(|&byte| matches!(byte, b'\'' | b'\\') || is_control(byte))?;
        match tail.get(stop..)? {
            [b'\'', b'\'', ..] => length += stop + 2,
            [b'\'', ..] => {
                length += stop + 1;
                break;
            }
            _ => return None,
        }
    }
    let literal = rest.get(..length)?;
    // Bytes that are not UTF-8 make the whole text unreadable, so they must not hide behind a placeholder.
    (literal.is_ascii() || std::str::from_utf8(literal).is_ok()).then_some(length)
}

/// `"…"`: names stay in the key. (`""` inside ends one name and starts the next; read together they are the same bytes.)
fn quoted_identifier(rest: &[u8], before: u8) -> Option<usize> {
    if is_identifier(before) || before == b'&' {
        return None;
    }
    let tail = rest.get(1..)?;
    let stop = tail.iter().position(|&byte| matches!(byte, b'"' | b'\\') || is_control(byte))?;
    (tail.get(stop) == Some(&b'"')).then_some(stop + 2)
}

/// `$1` stays; `$$` and `$tag$` quote, and `a$b` is a name.
fn parameter(rest: &[u8], before: u8) -> Option<usize> {
    let count = digits(rest.get(1..)?);
    (count > 0 && !is_identifier(before)).then_some(count + 1)
}

/// `-` and `/`, unless they start a comment.
fn operator(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'-', b'-', ..] | [b'/', b'*', ..] => None,
        _ => Some(1),
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len())
}

/// `ident_cont` of scan.l.
fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests;
