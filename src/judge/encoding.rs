//! Names in databases that are not in UTF-8. The server converts a text to its own encoding first: there it cuts names at 63 bytes of
//! that encoding, and folds letters beyond ASCII where one byte is one character (`downcase_identifier` in scansup.c). Here names are
//! those of UTF-8. Knows no connection.

use super::lexer::{TokenKind, lex};

/// Longest name, in bytes (`NAMEDATALEN` less one).
const LONGEST: usize = 63;
/// Most bytes that a character beyond ASCII takes in any encoding of a server (`pg_encoding_max_length`).
const WIDEST: usize = 4;

/// Whether names in a text in UTF-8 are read by a server of this `server_encoding` as they are here. `None`: not reported.
pub fn reads_names_alike(server_encoding: Option<&str>, text: &str) -> bool {
    server_encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case("UTF8")) || !has_doubtful_names(text)
}

/// Whether a name in `text` may be another one to a server that is not in UTF-8: one that is folded or cut there in another way.
pub fn has_doubtful_names(text: &str) -> bool {
    if text.is_ascii() && !text.contains("&\"") {
        return false;
    }
    // Fail closed: a text that is not understood.
    let Ok(tokens) = lex(text.as_bytes(), true) else { return true };
    tokens.tokens.iter().any(|token| {
        let name = token.bytes(text.as_bytes());
        (token.kind == TokenKind::Word && !name.is_ascii())
            || (token.kind == TokenKind::QuotedName && !name.is_ascii() && widest(name) > LONGEST)
            // Its escapes may stand for any character.
            || token.kind == TokenKind::UnicodeName
    })
}

/// Whether `text`, of a client that does not write UTF-8, has names beyond ASCII: here they are read as if it did, so that they are others.
pub fn has_foreign_names(text: &[u8]) -> bool {
    if text.is_ascii() {
        return false;
    }
    // Fail closed: a text that is not understood. Escapes (`U&"\\00E9"`) mean the same in every encoding.
    let Ok(tokens) = lex(text, true) else { return true };
    let is_name = |kind| matches!(kind, TokenKind::Word | TokenKind::QuotedName);
    tokens.tokens.iter().any(|token| is_name(token.kind) && !token.bytes(text).is_ascii())
}

/// Bytes of a quoted name where it takes the most.
fn widest(quoted: &[u8]) -> usize {
    let text = String::from_utf8_lossy(quoted).replace("\"\"", "\"");
    let width = |c: char| if c.is_ascii() { 1 } else { WIDEST };
    text.chars().map(width).sum::<usize>().saturating_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_ascii_are_foreign_and_values_are_not() {
        for (text, foreign) in [
            (&b"SELECT 1"[..], false),
            (b"INSERT INTO t VALUES ('\xe9', $\xe9$ \xe9 $\xe9$) -- \xe9", false),
            (b"SELECT U&\"t\\00E9\", '\xc3\xa9'", false),
            (b"SELECT * FROM \"z\xc3\xa9\"", true),
            (b"SELECT * FROM z\xe9", true),
            (b"SELECT 1::\"y\xe9\"", true),
            (b"SELECT '\xe9", true),
        ] {
            assert_eq!(has_foreign_names(text), foreign, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn names_that_another_encoding_folds_or_cuts_are_doubtful_and_texts_are_not() {
        let long = "é".repeat(16);
        for (text, doubtful) in [
            ("DELETE FROM t WHERE name = 'é'".to_owned(), false),
            ("DELETE FROM t /* é */ -- é".to_owned(), false),
            ("SELECT $é$ é $é$".to_owned(), false),
            ("DELETE FROM \"té\"".to_owned(), false),
            (format!("DELETE FROM \"{}\"", "é".repeat(15)), false),
            (format!("DELETE FROM \"{long}\""), true),
            (format!("DELETE FROM a.\"{}é\"", "x".repeat(60)), true),
            (format!("DELETE FROM \"{}é\"", "x".repeat(59)), false),
            ("DELETE FROM té".to_owned(), true),
            ("DELETE FROM U&\"t\\00E9\"".to_owned(), true),
            ("DELETE FROM \"é".to_owned(), true),
        ] {
            assert_eq!(has_doubtful_names(&text), doubtful, "{text}");
            assert_eq!(reads_names_alike(Some("LATIN1"), &text), !doubtful, "{text}");
            assert!(reads_names_alike(Some("utf8"), &text), "{text}");
        }
        assert!(!reads_names_alike(None, "DELETE FROM té") && !reads_names_alike(Some("SQL_ASCII"), "DELETE FROM té"));
    }
}
