//! Tags that a client puts behind its statements: the comment of sqlcommenter, `/* application='billing',route='%2Fpay' */`.
//! Knows tokens only. Start at [`Tags::of`].

use super::lexer::{TokenKind, Tokens};

/// Longest comment looked at, in bytes.
const MAX_BYTES: usize = 4 << 10;
/// Most tags in one.
const MAX_TAGS: usize = 32;

/// Tags of a text, sorted by key. The client writes what it likes: they tell honest programs apart and identify nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    /// The tags in the last comment of the text, if nothing stands behind it. A comment that is not written quite as it should be
    /// has none at all, so that nobody has to guess what a half of it meant.
    pub(super) fn of(text: &str, tokens: &Tokens) -> Self {
        let mut last = tokens.tokens.iter().rev().filter(|token| token.kind != TokenKind::Semicolon);
        let comment = last.next().filter(|token| token.kind == TokenKind::BlockComment);
        let inside = comment
            .and_then(|comment| text.get(comment.range()))
            .and_then(|comment| comment.strip_prefix("/*")?.strip_suffix("*/"));
        inside.and_then(read).unwrap_or_default()
    }

    /// The value of a tag.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Bytes of them.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().fold(0, |sum, (key, value)| sum.saturating_add(key.len()).saturating_add(value.len()))
    }
}

fn read(inside: &str) -> Option<Tags> {
    if inside.len() > MAX_BYTES {
        return None;
    }
    let mut tags: Vec<(Box<str>, Box<str>)> = Vec::new();
    let mut rest = inside.trim();
    loop {
        let (key, behind) = rest.split_once('=')?;
        let key = decode(key.trim())?;
        let (value, behind) = quoted(behind.trim_start())?;
        let known = tags.iter().any(|(known, _)| **known == *key);
        if key.is_empty() || known || tags.len() >= MAX_TAGS {
            return None;
        }
        tags.push((key.into(), decode(&value)?.into()));
        let behind = behind.trim_start();
        if behind.is_empty() {
            tags.sort();
            return Some(Tags(tags.into()));
        }
        rest = behind.strip_prefix(',')?.trim_start();
    }
}

/// A value between quotes, where `\'` stands for one, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (part, behind) = rest.split_once('\'')?;
        let Some(part) = part.strip_suffix('\\') else {
            value.push_str(part);
            return Some((value, behind));
        };
        value.push_str(part);
        value.push('\'');
        rest = behind;
    }
}

/// `%2F` and its like; `None` if it is not written so, or does not come to UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(high.checked_mul(16)?.checked_add(low)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::lexer::lex;

    fn tags(text: &str) -> Vec<(String, String)> {
        let tokens = lex(text.as_bytes(), true).unwrap();
        Tags::of(text, &tokens).iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_are_read_from_the_last_comment_of_a_text() {
        for (text, expected) in [
            ("SELECT 1 /*b='2',a='1'*/", &[("a", "1"), ("b", "2")][..]),
            ("SELECT 1 /* route = '%2Fpay%20now', app='x' */ ;\n;", &[("app", "x"), ("route", "/pay now")]),
            (r"SELECT 1 /*name='DROP \'x\''*/", &[("name", "DROP 'x'")]),
            ("SELECT 1 /*e=''*/", &[("e", "")]),
            ("/*a='1'*/", &[("a", "1")]),
            ("SELECT '/*a=''1''*/' /*k%3D='%C3%A4'*/", &[("k=", "ä")]),
        ] {
            assert_eq!(tags(text), pairs(expected), "{text}");
        }
    }

    #[test]
    fn a_comment_that_is_not_quite_tags_has_none() {
        for text in [
            "SELECT 1",
            "SELECT 1 /* hello */",
            "SELECT 1 /*a='1'*/ + 1",
            "/*a='1'*/ SELECT 1",
            "SELECT 1 -- a='1'",
            "SELECT 1 /*a='1',*/",
            "SELECT 1 /*a='1' b='2'*/",
            "SELECT 1 /*a='1',a='2'*/",
            "SELECT 1 /*a=1*/",
            "SELECT 1 /*='1'*/",
            "SELECT 1 /*a='1*/",
            r"SELECT 1 /*a='1\'*/",
            "SELECT 1 /*a='%2'*/",
            "SELECT 1 /*a='%zz'*/",
            "SELECT 1 /*a='%+1'*/",
            "SELECT 1 /*a='%ff'*/",
            "SELECT 1 /*a='%0a'*/",
            "SELECT 1 /**/",
        ] {
            assert_eq!(tags(text), [], "{text}");
        }
        assert_eq!(tags(&format!("SELECT 1 /*a='{}'*/", "x".repeat(MAX_BYTES))), []);
        let many: Vec<_> = (0..=MAX_TAGS).map(|n| format!("k{n}='1'")).collect();
        assert_eq!(tags(&format!("SELECT 1 /*{}*/", many.join(","))), []);
    }
}
