//! Bound values as text for people, and stand-ins for statements that cannot be read.
//!
//! Binary forms: the `*send` functions of `src/backend/utils/adt`. What is not known here is shown in hex.

use std::fmt::Write as _;
use std::sync::Arc;

use super::names::Definition;
use crate::hold::Parameter;
use crate::judge::{Analysis, Calls, Effect, EffectKind, Piece};
use crate::wire::frontend::Format;

/// Decodes bound values by the types the server reported (zero where unknown). `utf8`: text among them surely is UTF-8.
pub(super) fn decode(values: &[(Format, Option<&[u8]>)], types: &[u32], utf8: bool) -> Vec<Parameter> {
    values
        .iter()
        .enumerate()
        .map(|(index, (format, value))| {
            let oid = types.get(index).copied().unwrap_or(0);
            let (text, raw) = match value {
                None => (None, false),
                Some(bytes) => show(*format, bytes, oid, utf8),
            };
            Parameter { position: index.saturating_add(1), type_name: type_name(oid), value: text, raw }
        })
        .collect()
}

fn show(format: Format, bytes: &[u8], oid: u32, utf8: bool) -> (Option<String>, bool) {
    let text = match format {
        Format::Text if !utf8 && !bytes.is_ascii() => None,
        Format::Text => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Format::Binary => binary(bytes, oid),
    };
    match text {
        Some(text) => (Some(text), false),
        None => (Some(as_bytea(bytes)), true),
    }
}

/// As Postgres shows `bytea`.
fn as_bytea(bytes: &[u8]) -> String {
    format!("\\x{}", hex::encode(bytes))
}

/// Built-in types by their fixed OIDs (`src/include/catalog/pg_type.dat`).
fn type_name(oid: u32) -> Option<String> {
    if oid == 0 {
        return None;
    }
    Some(postgres_types::Type::from_oid(oid).map_or_else(|| format!("type {oid}"), |known| known.name().to_owned()))
}

fn binary(bytes: &[u8], oid: u32) -> Option<String> {
    use postgres_types::Type as T;
    let known = T::from_oid(oid)?;
    Some(match known {
        T::BOOL => match bytes {
            [0] => "false".to_owned(),
            [1] => "true".to_owned(),
            _ => return None,
        },
        T::INT2 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        T::INT4 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        T::INT8 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        T::OID => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        T::FLOAT4 => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        T::FLOAT8 => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        T::TEXT | T::VARCHAR | T::BPCHAR | T::NAME | T::JSON | T::XML | T::UNKNOWN => {
            std::str::from_utf8(bytes).ok()?.to_owned()
        }
        T::JSONB => {
            let (version, text) = bytes.split_first()?;
            (*version == 1).then(|| std::str::from_utf8(text).ok().map(str::to_owned))??
        }
        T::BYTEA => as_bytea(bytes),
        T::UUID => uuid(bytes.try_into().ok()?),
        T::NUMERIC => numeric(bytes)?,
        T::DATE => date(i32::from_be_bytes(bytes.try_into().ok()?))?,
        T::TIMESTAMP => timestamp(i64::from_be_bytes(bytes.try_into().ok()?))?,
        T::TIMESTAMPTZ => format!("{}+00", timestamp(i64::from_be_bytes(bytes.try_into().ok()?))?),
        ref other => {
            let postgres_types::Kind::Array(element) = other.kind() else { return None };
            array(bytes, element.oid())?
        }
    })
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// Days since 2000-01-01.
fn date(days: i32) -> Option<String> {
    if days == i32::MAX || days == i32::MIN {
        return Some(infinity(days > 0));
    }
    let epoch = jiff::civil::date(2000, 1, 1);
    let day = epoch.checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
    Some(day.to_string())
}

/// Microseconds since 2000-01-01 00:00:00.
fn timestamp(microseconds: i64) -> Option<String> {
    if microseconds == i64::MAX || microseconds == i64::MIN {
        return Some(infinity(microseconds > 0));
    }
    let epoch = jiff::civil::datetime(2000, 1, 1, 0, 0, 0, 0);
    let span = jiff::SignedDuration::from_micros(microseconds);
    let moment = epoch.checked_add(span).ok()?;
    Some(moment.to_string().replace('T', " "))
}

fn infinity(positive: bool) -> String {
    if positive { "infinity" } else { "-infinity" }.to_owned()
}

/// Base-10000 digits, weight, sign and display scale (`numeric_send`).
fn numeric(bytes: &[u8]) -> Option<String> {
    let (words, rest) = bytes.as_chunks::<2>();
    let [count, weight, sign, scale, digits @ ..] = words else {
        return None;
    };
    if !rest.is_empty() || usize::from(u16::from_be_bytes(*count)) != digits.len() {
        return None;
    }
    let weight = i32::from(i16::from_be_bytes(*weight));
    let scale = usize::from(u16::from_be_bytes(*scale));
    let sign = match u16::from_be_bytes(*sign) {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digit = |position: i32| {
        usize::try_from(position)
            .ok()
            .and_then(|position| digits.get(position))
            .map_or(0, |digit| u16::from_be_bytes(*digit))
    };
    let mut whole = String::new();
    for position in 0..=weight.max(-1) {
        let _ = write!(whole, "{:04}", digit(position));
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if scale == 0 {
        return Some(format!("{sign}{whole}"));
    }
    let mut fraction = String::new();
    let mut position = weight.checked_add(1)?;
    while fraction.len() < scale {
        let _ = write!(fraction, "{:04}", digit(position));
        position = position.checked_add(1)?;
    }
    fraction.truncate(scale);
    Some(format!("{sign}{whole}.{fraction}"))
}

/// One-dimensional arrays of types known above (`array_send`).
fn array(bytes: &[u8], element: u32) -> Option<String> {
    let (dimensions, rest) = bytes.split_first_chunk::<4>()?;
    let (_has_null, rest) = rest.split_first_chunk::<4>()?;
    let (sent, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*sent) != element {
        return None;
    }
    let (count, mut rest) = match u32::from_be_bytes(*dimensions) {
        0 => return rest.is_empty().then(|| "{}".to_owned()),
        1 => {
            let (count, rest) = rest.split_first_chunk::<4>()?;
            let (_lower_bound, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_be_bytes(*count), rest)
        }
        _ => return None,
    };
    let mut shown = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        shown.push(match i32::from_be_bytes(*length) {
            -1 => "NULL".to_owned(),
            length => {
                let (value, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = after;
                quote(&binary(value, element)?)
            }
        });
    }
    rest.is_empty().then(|| format!("{{{}}}", shown.join(",")))
}

/// As `array_out` quotes.
fn quote(value: &str) -> String {
    let plain = !value.is_empty()
        && !value.eq_ignore_ascii_case("null")
        && !value.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace());
    if plain { value.to_owned() } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Stands for a statement the gate has not seen made.
pub(super) fn unseen_statement(name: &[u8]) -> Arc<Definition> {
    let name = String::from_utf8_lossy(name);
    let why = format!("the prepared statement \"{name}\" was not made through the gate, so what it does is unknown");
    Definition::unseen(
        &format!("(prepared statement \"{name}\", not made through the gate)"),
        Arc::new(unknown(why, Vec::new())),
    )
}

/// The same statement with its encoding in doubt.
pub(super) fn doubtful_encoding(why: &str, analysis: &Analysis) -> Analysis {
    unknown(why.to_owned(), analysis.pieces.clone())
}

/// Stands for a text that could not be analysed.
#[must_use]
pub fn unreadable(why: &str) -> Analysis {
    unknown(why.to_owned(), Vec::new())
}

fn unknown(why: String, mut pieces: Vec<Piece>) -> Analysis {
    pieces.push(Piece {
        range: 0..0,
        effects: vec![Effect {
            kind: EffectKind::Unknown,
            objects: Vec::new(),
            has_where: None,
            columns: Vec::new(),
            why,
        }],
        acts: Vec::new(),
        risks: Vec::new(),
        calls: Calls::unreadable(),
    });
    Analysis {
        pieces,
        literal_independent: false,
        opaque: true,
        reason: None,
        tags: crate::judge::Tags::default(),
        // Fail closed: what could not be read may hold anything.
        risks: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(oid: u32, bytes: &[u8], expected: &str) {
        let shown = decode(&[(Format::Binary, Some(bytes))], &[oid], true);
        assert_eq!(shown[0].value.as_deref(), Some(expected), "oid {oid}");
        assert!(!shown[0].raw);
    }

    #[test]
    fn binary_values_are_shown_as_postgres_writes_them() {
        check(16, &[1], "true");
        check(21, &[0xff, 0xfe], "-2");
        check(23, &[0, 0, 0, 42], "42");
        check(20, &[0, 0, 0, 0, 0, 0, 1, 0], "256");
        check(25, "häßlich".as_bytes(), "häßlich");
        check(3802, b"\x01{\"a\": 1}", "{\"a\": 1}");
        check(17, &[0, 0xab], "\\x00ab");
        check(1082, &[0, 0, 0, 0], "2000-01-01");
        check(1082, &[0xff, 0xff, 0xff, 0xff], "1999-12-31");
        check(1114, &[0; 8], "2000-01-01 00:00:00");
        check(1184, &1_500_000i64.to_be_bytes(), "2000-01-01 00:00:01.5+00");
        check(
            2950,
            &[0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0],
            "123e4567-e89b-12d3-a456-426614174000",
        );
    }

    #[test]
    fn numerics_keep_their_scale() {
        // 12345.678 : digits 1 2345 6780, weight 1, scale 3
        check(1700, &[0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c], "12345.678");
        check(1700, &[0, 1, 0xff, 0xff, 0x40, 0, 0, 2, 0x13, 0x88], "-0.50");
        check(1700, &[0, 0, 0, 0, 0, 0, 0, 0], "0");
        check(1700, &[0, 0, 0, 0, 0xc0, 0, 0, 0], "NaN");
    }

    #[test]
    fn arrays_are_shown_like_array_out() {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 3, 0, 0, 0, 1];
        bytes.extend([0, 0, 0, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 3]);
        bytes.extend(b"b,c");
        check(1009, &bytes, "{a,NULL,\"b,c\"}");
    }

    #[test]
    fn what_cannot_be_decoded_is_shown_in_hex_and_marked() {
        for (format, bytes, oid) in
            [(Format::Binary, &[1u8, 2][..], 23), (Format::Binary, &[1, 2], 0), (Format::Text, &[0xff], 25)]
        {
            let shown = decode(&[(format, Some(bytes))], &[oid], true);
            assert!(shown[0].raw);
            assert!(shown[0].value.as_deref().unwrap().starts_with("\\x"));
        }
        let null = decode(&[(Format::Text, None)], &[23], true);
        assert_eq!((null[0].value.as_deref(), null[0].raw), (None, false));
        assert_eq!(null[0].type_name.as_deref(), Some("int4"));
    }
}
