//! Claims about shapes: what shares one, what never has one, and that nothing else than literals' contents is lost in it.

#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm
)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::judge::{Token, TokenKind, lex};

fn key(text: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    shape(text, &mut key).then_some(key)
}

#[test]
fn texts_that_differ_in_plain_literals_share_a_shape() {
    for (one, two) in [
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 934562;",
        ),
        ("INSERT INTO t VALUES ('a', 1.5)", "INSERT INTO t VALUES ('it''s; DROP TABLE t --', 22.75)"),
        ("UPDATE t SET a = -5, b = 'x'", "UPDATE t SET a = -612, b = ''"),
        ("SELECT $1, 'ä'", "SELECT $1, 'ß und 漢字'"),
        ("SELECT 1e-5", "SELECT 1e-7"),
        ("SELECT 4294967296123", "SELECT 12345678901"),
        ("SELECT 'a'\n'b'", "SELECT 'c'\n''"),
    ] {
        assert!(key(one.as_bytes()).is_some(), "{one}");
        assert_eq!(key(one.as_bytes()), key(two.as_bytes()), "{one}\n{two}");
    }
}

#[test]
fn whatever_else_differs_makes_another_shape() {
    let texts = [
        "SELECT 1",
        "SELECT 1.5",
        "SELECT '1'",
        "SELECT 1234567890",
        "SELECT 12345678901",
        "select 1",
        "SELECT  1",
        "SELECT -1",
        "SELECT a1",
        "SELECT a2",
        "SELECT \"1\"",
        "SELECT \"2\"",
        "SELECT $1",
        "SELECT $2",
        "SELECT 1e5",
        "SELECT 1e6",
        "SELECT .5",
        "SELECT .6",
        "SELECT 1,1",
        "SELECT 'a' 'b'",
        "SELECT 'a'\n'b'",
        "SELECT 0x1",
        "SELECT 0x2",
        "SELECT ä",
        "SELECT ö",
    ];
    let mut seen: HashMap<Vec<u8>, &str> = HashMap::new();
    for text in texts {
        let key = key(text.as_bytes()).unwrap_or_else(|| panic!("{text} has no shape"));
        if let Some(other) = seen.insert(key, text) {
            panic!("{text} and {other} share a shape");
        }
    }
}

#[test]
fn subtle_texts_have_no_shape() {
    for text in [
        "SELECT 1 -- x",
        "SELECT 1 /* x */",
        "SELECT 1+--'\n 2",
        "SELECT E'a'",
        "SELECT e'\\''",
        "SELECT U&'a'",
        "SELECT U&\"a\"",
        "SELECT N'a'",
        "SELECT B'1'",
        "SELECT X'1'",
        "SELECT 'a\\'",
        "SELECT \"a\\\"",
        "SELECT $$a$$",
        "SELECT $a$b$a$",
        "SELECT $€$ b $€$",
        "SELECT 'a",
        "SELECT \"a",
        "SELECT '\0'",
        "SELECT \0",
        "SELECT \u{1}",
        "SELECT '\u{2}'",
        "SELECT 1'a'",
        "SELECT a$b",
        "SELECT $1$2$ x $2$",
        "SELECT \u{b}1",
    ] {
        assert_eq!(key(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(key(b"SELECT '\xff'"), None, "bytes that are not UTF-8 never hide in a literal");
}

#[test]
fn bytes_that_are_not_utf8_stay_in_the_key() {
    assert_eq!(key(b"SELECT \xff"), Some(b"SELECT \xff".to_vec()));
}

/// What must be the same for texts of one shape: everything that the scanner says but the contents of plain literals.
fn skeleton(text: &[u8]) -> String {
    [true, false]
        .map(|strings| match lex(text, strings) {
            Ok(tokens) => {
                let tokens: Vec<String> = tokens.tokens.iter().map(|token| mask(token, text)).collect();
                tokens.join("·")
            }
            Err(error) => format!("{:?}", error.what),
        })
        .join("|")
}

fn mask(token: &Token, text: &[u8]) -> String {
    let bytes = token.bytes(text);
    match token.kind {
        TokenKind::String => "''".to_owned(),
        TokenKind::Integer if bytes.iter().all(u8::is_ascii_digit) => {
            let small: bool = std::str::from_utf8(bytes).unwrap().parse::<i32>().is_ok();
            format!("integer {small}")
        }
        TokenKind::Float if bytes.first().is_some_and(u8::is_ascii_digit) => "float".to_owned(),
        kind => format!("{kind:?} {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// Every text of up to five of these bytes: all the ways quotes, comments, dollars, prefixes and numbers can touch.
#[test]
fn texts_of_one_shape_are_one_token_sequence_exhaustively() {
    let alphabet = b"'\"$-/*\\E&1.e \na";
    let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
    let mut seen: HashMap<Vec<u8>, (String, Vec<u8>)> = HashMap::new();
    let mut shaped = 0;
    for _ in 0..5 {
        texts = texts
            .iter()
            .flat_map(|text| alphabet.iter().map(move |&byte| [text.as_slice(), &[byte]].concat()))
            .collect();
        // The last round is only checked, where a quote is near enough to matter.
        for text in &texts {
            let Some(key) = key(text) else { continue };
            shaped += 1;
            let found = skeleton(text);
            let (expected, first) = seen.entry(key).or_insert_with(|| (found.clone(), text.clone()));
            assert_eq!(
                *expected,
                found,
                "{:?} and {:?}",
                String::from_utf8_lossy(first),
                String::from_utf8_lossy(text)
            );
        }
    }
    assert!(shaped > 50_000, "{shaped}");
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop_oneof![Just("'a'"), Just("''"), Just("'it''s'"), Just("'--'"), Just("'/*'"), Just("'ü'"), Just("'\n'"), Just("'$$'"), Just("'\"'")].prop_map(str::to_owned),
        3 => prop_oneof![Just("1"), Just("1234567890"), Just("99999999999"), Just("1.5"), Just("0.25"), Just("1e5"), Just("0x1F"), Just("1_0"), Just(".5"), Just("1."), Just("..")].prop_map(str::to_owned),
        3 => prop_oneof![Just("E"), Just("U&"), Just("N"), Just("x"), Just("\"q\""), Just("\"'\""), Just("$1"), Just("$$"), Just("$t$"), Just("ö"), Just("_")].prop_map(str::to_owned),
        3 => prop_oneof![Just(" "), Just("\n"), Just("\t"), Just(","), Just(";"), Just("("), Just(")"), Just("::"), Just("->>"), Just("&"), Just("<"), Just("?")].prop_map(str::to_owned),
        1 => prop_oneof![Just("'"), Just("\""), Just("$"), Just("-"), Just("/"), Just("*"), Just("\\"), Just("--"), Just("/*"), Just("*/"), Just("\r"), Just("\u{b}"), Just("\u{c}")].prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Replacing literals as Postgres cuts them keeps shape and token sequence together: the same shape, the same tokens.
    #[test]
    fn other_literals_in_the_same_places_are_read_alike(
        fragments in prop::collection::vec(fragment(), 1..12),
        literal in prop_oneof![Just("''"), Just("'b'"), Just("'''; DROP TABLE t; --'"), Just("'ö'"), Just("' /* '")],
        number in prop_oneof![Just("7"), Just("123456")],
    ) {
        let text = fragments.concat();
        let Ok(tokens) = lex(text.as_bytes(), true) else { return Ok(()) };
        let mut other = String::new();
        let mut end = 0;
        for token in &tokens.tokens {
            let range = token.range();
            other.push_str(&text[end..range.start]);
            let old = &text[range.clone()];
            match token.kind {
                TokenKind::String if !old.contains('\n') => other.push_str(literal),
                TokenKind::Integer if old.len() < 10 && old.bytes().all(|b| b.is_ascii_digit()) => other.push_str(number),
                _ => other.push_str(old),
            }
            end = range.end;
        }
        other.push_str(&text[end..]);
        if let (Some(one), Some(two)) = (key(text.as_bytes()), key(other.as_bytes()))
            && one == two
        {
            prop_assert_eq!(skeleton(text.as_bytes()), skeleton(other.as_bytes()), "{:?} {:?}", text, other);
        }
    }

    #[test]
    fn no_text_breaks_it(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = key(&text);
    }
}
