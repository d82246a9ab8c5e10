//! Comments that look like SQL, and SQL that looks like a comment.

use super::{Risk, RiskKind, quoted};
use crate::judge::lexer::{Token, TokenKind};

/// Longest part of a comment that is given to the grammar, in bytes: it is read on a stack measured for the text around it.
const PARSED_BYTES: usize = 256;
/// Parts of comments that are given to the grammar.
const MAX_PARSED: usize = 20;
/// Longest comment looked into, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Words that begin statements that change something.
const CHANGES: &[&str] =
    &["drop", "delete", "truncate", "alter", "update", "insert", "grant", "revoke", "create", "merge", "copy", "call"];
/// Words that stand second in many of them.
const SECOND: &[&str] =
    &["from", "into", "table", "view", "schema", "database", "role", "user", "all", "index", "function"];
/// Words that begin a condition that was taken out of the statement.
const CONDITIONS: &[&str] = &["where", "and", "or"];
/// Words that change what a statement does when they follow on what looks like its end.
const CONTINUES: &[&str] = &["or", "cascade", "union", "except", "intersect"];

/// Looks at every comment. `parses`: whether the grammar takes a text for statements.
pub(super) fn look(text: &str, tokens: &[Token], parses: &dyn Fn(&str) -> bool, risks: &mut Vec<Risk>) {
    let mut asked = 0;
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind.is_comment()) {
        let Some(comment) = text.get(token.range()) else { continue };
        let inside = if token.kind == TokenKind::BlockComment {
            let inside = comment.strip_prefix("/*").and_then(|rest| rest.strip_suffix("*/")).unwrap_or(comment);
            block(inside, risks);
            inside
        } else {
            let behind = index.checked_add(1).and_then(|next| tokens.get(next));
            let end = text.get(token.range().end..).unwrap_or_default();
            line(text, comment, end, behind, risks);
            comment.trim_start_matches('-')
        };
        if inside.len() > MAX_BYTES {
            // Fail closed: nobody looked into it.
            risks.push(Risk::new(RiskKind::Unread, "a comment is too long to be looked into"));
            continue;
        }
        if let Some(sql) = sql(inside, &mut asked, parses) {
            risks.push(Risk::new(
                RiskKind::SqlInComment,
                &format!("this stands in a comment and does not run: {}", quoted(sql)),
            ));
        }
    }
}

/// A block comment that does not end where it seems to, or that `MySQL` runs.
fn block(inside: &str, risks: &mut Vec<Risk>) {
    if inside.contains("/*") {
        let text = "a comment within a comment: it ends where the outer one does";
        risks.push(Risk::new(RiskKind::OddComment, text));
    }
    if inside.starts_with('!') || inside.starts_with("M!") {
        let text = format!("MySQL would run this comment, Postgres does not: {}", quoted(inside));
        risks.push(Risk::new(RiskKind::OddComment, &text));
    }
}

/// A line comment behind which the statement goes on unseen.
fn line(text: &str, comment: &str, end: &str, behind: Option<&Token>, risks: &mut Vec<Risk>) {
    if end.starts_with('\r') && !end.starts_with("\r\n") {
        let text = "a comment ends at a carriage return, which many programs do not show as the end of a line";
        risks.push(Risk::new(RiskKind::OddComment, text));
        return;
    }
    let next = behind.filter(|token| token.kind == TokenKind::Word).and_then(|token| text.get(token.range()));
    let Some(next) = next else { return };
    let is_continued = CONTINUES.iter().any(|word| next.eq_ignore_ascii_case(word));
    if is_continued && comment.trim_end().ends_with(';') {
        let text = format!("the statement goes on behind {}, with {next}", quoted(comment));
        risks.push(Risk::new(RiskKind::OddComment, &text));
    }
}

/// What of a comment is SQL: a statement that changes something, or a condition.
fn sql<'t>(inside: &'t str, asked: &mut usize, parses: &dyn Fn(&str) -> bool) -> Option<&'t str> {
    // Only at the beginning, or behind what ends a statement or a line: prose uses the same words.
    let whole = std::iter::once(inside).filter(|inside| inside.contains('\n') && inside.len() <= PARSED_BYTES);
    let parts = whole.chain(inside.split(['\n', ';']));
    parts.map(|part| part.trim_matches([' ', '\t', '\r', '\n', ';', '*', '!', '-'])).find(|part| {
        let words = || part.split(|c: char| !c.is_alphanumeric() && c != '_');
        let Some(first) = words().next() else { return false };
        let is_one = |of: &[&str]| of.iter().any(|word| first.eq_ignore_ascii_case(word));
        let condition = is_one(CONDITIONS) && (compares(part) || first.chars().all(char::is_uppercase));
        if !condition && !is_one(CHANGES) {
            return false;
        }
        // Fail closed: what is too long or too much to be parsed is judged by its first words.
        if part.len() > PARSED_BYTES || *asked >= MAX_PARSED {
            let second = words().filter(|word| !word.is_empty()).nth(1).unwrap_or_default();
            return condition || SECOND.iter().any(|word| second.eq_ignore_ascii_case(word));
        }
        *asked = asked.saturating_add(1);
        if condition {
            let rest = part.get(first.len()..).unwrap_or_default();
            parses(&format!("SELECT 1 WHERE {rest}"))
        } else {
            parses(part)
        }
    })
}

/// A condition compares something; `and so on` does not.
fn compares(part: &str) -> bool {
    part.contains(['=', '<', '>'])
        || part.split_whitespace().any(|word| {
            ["in", "is", "like", "ilike", "between", "exists"].iter().any(|known| word.eq_ignore_ascii_case(known))
        })
}
