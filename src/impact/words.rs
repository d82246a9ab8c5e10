//! Every name and operator a text may hold, however it is to be read: what stands in literals and comments counts as well. For whoever
//! would rather look up too much than overlook something. Pure; knows no grammar.

use std::collections::BTreeSet;

/// Different words of a text that are looked up.
const WORDS: usize = 20_000;
/// Postgres cuts names after so many bytes (`NAMEDATALEN`).
const NAME: usize = 63;
/// Longest quoted name that is read, in bytes: quotes that stand for themselves are written twice.
const QUOTED: usize = 2 * NAME + 2;
/// What operators are made of (`self` and `op_chars` in scan.l).
const OPERATOR: &str = "+-*/<>=~!@#%^&|`?";
/// Operators that are meant where none is written: IN, BETWEEN, CASE, LIKE, SIMILAR TO, IS DISTINCT FROM.
const MEANT: [&str; 10] = ["=", "<>", "<", ">", "<=", ">=", "~", "~~", "!~~", "~~*"];

/// All that may be a name in `text`, folded and as written.
///
/// # Errors
/// Its names cannot all be told, and why.
pub(super) fn names(text: &str) -> Result<BTreeSet<String>, String> {
    if text.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"u&\"")) {
        return Err("it writes names with Unicode escapes".to_owned());
    }
    let mut names = BTreeSet::new();
    let in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    for run in text.split(|c: char| !in_name(c)).filter(|run| !run.is_empty()) {
        // `$body$delete` ends one thing and begins another, and older servers read `1or` as two.
        let parts = run.split('$').chain([run, run.trim_start_matches(|c: char| c.is_ascii_digit())]);
        for part in parts.filter(|part| part.starts_with(|c: char| !c.is_ascii_digit() && c != '$')) {
            add(&mut names, part);
        }
        if names.len() > WORDS {
            return Err(format!("it has more than {WORDS} different words"));
        }
    }
    for (at, _) in text.match_indices('"') {
        let inside = text.get(at.saturating_add(1)..).unwrap_or_default();
        // Fail closed: which quote begins a name is not known, so each does.
        for name in quoted(inside) {
            cut(&mut names, &name);
        }
        if names.len() > WORDS {
            return Err(format!("it has more than {WORDS} different words"));
        }
    }
    Ok(names)
}

/// All that may be an operator in `text`, or be meant by it.
///
/// # Errors
/// They cannot all be told, and why.
pub(super) fn operators(text: &str) -> Result<BTreeSet<String>, String> {
    let mut operators: BTreeSet<String> = MEANT.into_iter().map(str::to_owned).collect();
    for run in text.split(|c: char| !OPERATOR.contains(c)) {
        // Where one ends within `=-` or before a comment is the scanner's affair.
        let longest = run.len().min(NAME);
        let every = |from: usize| (1..=longest).filter_map(move |long| run.get(from..from.checked_add(long)?));
        operators.extend((0..run.len()).flat_map(every).map(str::to_owned));
        if operators.len() > WORDS {
            return Err(format!("it has more than {WORDS} different operators"));
        }
    }
    Ok(operators)
}

/// The name that ends at the first quote, and at the first that is not doubled.
fn quoted(inside: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut name = String::new();
    let mut characters = inside.chars().peekable();
    while let Some(c) = characters.next() {
        if name.len() > QUOTED {
            break;
        }
        if c != '"' {
            name.push(c);
            continue;
        }
        found.push(name.clone());
        if characters.next_if_eq(&'"').is_none() {
            break;
        }
        name.push('"');
    }
    found
}

fn add(names: &mut BTreeSet<String>, word: &str) {
    cut(names, &word.to_ascii_lowercase());
    // Servers of one byte a character fold all of them (`downcase_identifier`).
    if !word.is_ascii() {
        cut(names, &word.to_lowercase());
        cut(names, word);
    }
}

/// As long as a name can be.
fn cut(names: &mut BTreeSet<String>, name: &str) {
    let end = (0..=NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
    if let Some(name) = name.get(..end).filter(|name| !name.is_empty() && !name.contains('\0')) {
        names.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_be_a_name_is_one() {
        let (long, cut) = ("x".repeat(70), "x".repeat(NAME));
        for (text, name) in [
            ("SELECT Purge()", "purge"),
            ("select s.purge ( )", "s"),
            ("CALL \"My \"\"Fn\"()", "My \"Fn"),
            ("SELECT 'it\"s', \"Fn\"()", "Fn"),
            ("DO $body$delete from t$body$", "delete"),
            ("DO $$begin perform purge(); end$$", "purge"),
            ("SELECT 1or purge()", "or"),
            ("SELECT a$b()", "a$b"),
            ("SELECT -- purge()", "purge"),
            ("SELECT ÄB()", "äb"),
            (long.as_str(), cut.as_str()),
        ] {
            assert!(names(text).unwrap().contains(name), "{text}: {:?}", names(text));
        }
        assert!(names("SELECT U&\"\\0070urge\"()").is_err(), "what it names is not in it");
        assert!(names("SELECT u&\"x\"()").is_err());
    }

    #[test]
    fn whatever_may_be_an_operator_is_one() {
        for (text, operator) in [("a=-1", "="), ("a=-1", "-"), ("a <#> b", "<#>"), ("a|/*c*/b", "|"), ("a IN (1)", "=")]
        {
            assert!(operators(text).unwrap().contains(operator), "{text}");
        }
    }
}
