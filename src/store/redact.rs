//! Keeps values off the record and out of channels. Knows the judge's lexer, no files.
//!
//! # What is replaced
//!
//! | setting | in the statement | bound values | elsewhere |
//! | --- | --- | --- | --- |
//! | `none` | nothing | nothing | nothing |
//! | `literals` | each literal, of any spelling, by `?`; comments by `/* ? */` and `-- ?` | `?` | the database's error messages by `(redacted)`, explanations that may quote the text by `?` |
//! | `all` | the whole text by `?` | `?` | as before, and every explanation |
//!
//! NULL stays NULL, and what people said themselves (reasons, notes) stays. The statement's SHA-256 is of the real text, so an
//! approval still binds and anybody who has the text can prove that it was this one. (Somebody who can guess the text can
//! check the guess: a hash is no secret.) A text whose literals cannot be told for certain is replaced whole.
//!
//! For a request the stricter of two settings counts: the record's own, and the one of the rules that judged its statement, which
//! is in the request. In channels only the latter counts. What is redacted says so itself ([`HoldRequest::redact`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Event, Redact};
use crate::hold::{Execution, HoldId, HoldRequest, Notice, Parameter, StatementText};
use crate::judge::{Effect, EffectKind, TokenKind, Tokens, lex};

/// Stands where something was.
pub const REDACTED: &str = "?";
/// Stands where the database's own words were.
pub const UNSAID: &str = "(redacted)";

/// The event as it goes on record. `of_request` says what is redacted of a request that is on record.
pub(super) fn redact(setting: Redact, event: Event, of_request: impl FnOnce(&HoldId) -> Redact) -> Event {
    match event {
        Event::Held { mut request } => {
            hide(setting, &mut request);
            Event::Held { request }
        }
        Event::Noticed { mut notice } => {
            hide_notice(setting, &mut notice);
            Event::Noticed { notice }
        }
        Event::WouldHaveHeld { mut notice } => {
            hide_notice(setting, &mut notice);
            Event::WouldHaveHeld { notice }
        }
        Event::WouldHaveRejected { mut notice } => {
            hide_notice(setting, &mut notice);
            Event::WouldHaveRejected { notice }
        }
        Event::Passed { mut batch } => {
            // There are no literals in it.
            if setting == Redact::All {
                batch.rows.iter_mut().for_each(|row| row.text = None);
            }
            Event::Passed { batch }
        }
        Event::Executed { id, execution } => {
            let how = setting.max(of_request(&id));
            Event::Executed { id, execution: quiet(how, execution) }
        }
        Event::Examined { id, mut impact, changed } => {
            if !setting.max(of_request(&id)).is_none() {
                impact.hush();
            }
            Event::Examined { id, impact, changed }
        }
        Event::Started { .. }
        | Event::Stopped
        | Event::PolicyChanged { .. }
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Answered(_)
        | Event::Decided { .. }
        | Event::Escalated { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Undone { .. }
        | Event::Granted { .. }
        | Event::Revoked { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        | Event::Reviewed { .. } => event,
    }
}

/// Takes out of a request what it or `setting` wants hidden, whichever is stricter.
pub fn hide(setting: Redact, request: &mut HoldRequest) {
    request.redact = setting.max(request.redact);
    let HoldRequest { redact, statement, parameters, effects, why, risks, .. } = request;
    conceal(*redact, statement, parameters, effects, why);
    if !redact.is_none() {
        // Their texts quote literals, comments and names.
        for risk in risks.iter_mut() {
            risk.kind.plain().clone_into(&mut risk.text);
        }
        risks.dedup();
    }
}

/// The same for a statement that passed. Of a text that was cut, the last literal may be one that does not end: such a text is
/// redacted whole.
pub fn hide_notice(setting: Redact, notice: &mut Notice) {
    notice.redact = setting.max(notice.redact);
    let Notice { redact, statement, parameters, effects, why, .. } = notice;
    conceal(*redact, statement, parameters, effects, why);
}

fn conceal(
    how: Redact,
    statement: &mut StatementText,
    parameters: &mut [Parameter],
    effects: &mut [Effect],
    why: &mut String,
) {
    let text = match how {
        Redact::None => return,
        // Bytes that are not UTF-8 were replaced, so the text is not the one the server would cut into tokens.
        Redact::Literals if statement.lossy => None,
        Redact::Literals => without_literals(&statement.text),
        Redact::All => None,
    };
    // Fail closed: what cannot be redacted in part is redacted whole.
    statement.text = Arc::from(text.as_deref().unwrap_or(REDACTED));
    for parameter in parameters {
        if let Some(value) = &mut parameter.value {
            REDACTED.clone_into(value);
            parameter.raw = false;
        }
    }
    let mut quoted = how == Redact::All;
    for effect in effects {
        if how == Redact::All || may_quote(effect.kind) {
            REDACTED.clone_into(&mut effect.why);
            quoted = true;
        }
    }
    if quoted {
        REDACTED.clone_into(why);
    }
}

/// Kinds whose explanation may be a parser's error, which quotes the text.
fn may_quote(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Unparsed | EffectKind::Disagreement | EffectKind::Unknown => true,
        EffectKind::Read
        | EffectKind::Insert
        | EffectKind::Update
        | EffectKind::Delete
        | EffectKind::Merge
        | EffectKind::Truncate
        | EffectKind::Drop
        | EffectKind::Alter
        | EffectKind::Create
        | EffectKind::Privilege
        | EffectKind::Code
        | EffectKind::CopyServerFile
        | EffectKind::LargeObject
        | EffectKind::Admin
        | EffectKind::ReadingSetting
        | EffectKind::SensitiveSetting
        | EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::Execute => false,
    }
}

/// What the database said, without its message: "invalid input syntax for type integer: "4111…"" repeats a value.
#[must_use]
pub fn quiet(how: Redact, execution: Execution) -> Execution {
    match execution {
        Execution::Failed { sqlstate, message: _, duration_ms } if !how.is_none() => {
            Execution::Failed { sqlstate, message: UNSAID.to_owned(), duration_ms }
        }
        Execution::Completed { .. } | Execution::Failed { .. } | Execution::Unknown => execution,
    }
}

/// The text with its literals and comments replaced; `None` where they cannot be told for certain.
pub fn without_literals(text: &str) -> Option<String> {
    let tokens = lex(text.as_bytes(), true).ok()?;
    // Where such a literal ends depends on a setting of the session.
    if tokens.plain_backslash {
        return None;
    }
    let values = set_values(text, &tokens);
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (place, token) in tokens.tokens.iter().enumerate() {
        let value = values.contains(&place).then_some(REDACTED);
        let Some(placeholder) = value.or_else(|| placeholder(token.kind)) else { continue };
        let range = token.range();
        out.push_str(text.get(copied..range.start)?);
        out.push_str(placeholder);
        copied = range.end;
    }
    out.push_str(text.get(copied..)?);
    Some(out)
}

/// Which tokens are a setting's value written as a word or a quoted name (`SET my.token = abc`): by meaning a literal. What names schemas or
/// says no more than on and off stays.
fn set_values(text: &str, tokens: &Tokens) -> BTreeSet<usize> {
    let mut values = BTreeSet::new();
    for piece in &tokens.pieces {
        let word =
            |place: usize| tokens.tokens.get(place).and_then(|token| text.get(token.range())).unwrap_or_default();
        let is = |place: usize, wanted: &str| word(place).eq_ignore_ascii_case(wanted);
        if !is(piece.tokens.start, "SET") && !is(piece.tokens.start, "ALTER") {
            continue;
        }
        let Some(set) = piece.tokens.clone().find(|place| is(*place, "SET")) else { continue };
        let after = set.saturating_add(1)..piece.tokens.end;
        let Some(to) = after.clone().find(|place| is(*place, "TO") || is(*place, "=")) else { continue };
        if after.clone().any(|place| place < to && is(place, "search_path")) {
            continue;
        }
        let named = |place: &usize| {
            tokens.tokens.get(*place).is_some_and(|token| {
                matches!(token.kind, TokenKind::Word | TokenKind::QuotedName | TokenKind::UnicodeName)
            })
        };
        let plain = |place: usize| ["on", "off", "true", "false", "default"].iter().any(|plain| is(place, plain));
        values.extend((to.saturating_add(1)..piece.tokens.end).filter(named).filter(|place| !plain(*place)));
    }
    values
}

fn placeholder(kind: TokenKind) -> Option<&'static str> {
    match kind {
        TokenKind::String
        | TokenKind::EscapeString
        | TokenKind::UnicodeString
        | TokenKind::BitString
        | TokenKind::HexString
        | TokenKind::DollarString
        | TokenKind::Integer
        | TokenKind::Float => Some(REDACTED),
        TokenKind::LineComment => Some("-- ?"),
        TokenKind::BlockComment => Some("/* ? */"),
        TokenKind::Word
        | TokenKind::QuotedName
        | TokenKind::UnicodeName
        | TokenKind::National
        | TokenKind::Parameter
        | TokenKind::Operator
        | TokenKind::Comma
        | TokenKind::OpenParen
        | TokenKind::CloseParen
        | TokenKind::OpenBracket
        | TokenKind::CloseBracket
        | TokenKind::Semicolon
        | TokenKind::Dot
        | TokenKind::DotDot
        | TokenKind::Colon
        | TokenKind::ColonEquals
        | TokenKind::DoubleColon
        | TokenKind::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_every_spelling_and_comments_are_replaced_and_names_stay() {
        for (text, expected) in [
            ("DELETE FROM a WHERE b = 'x''y' AND c > 1.5e3", Some("DELETE FROM a WHERE b = ? AND c > ?")),
            (
                "SELECT E'a\\'b', U&'\\0041', B'01', X'ff', N'n', $t$ $x$ $t$, 0x1F, $1",
                Some("SELECT ?, ?, ?, ?, N?, ?, ?, $1"),
            ),
            ("UPDATE \"o'brien\" SET a = -7 -- 4111", Some("UPDATE \"o'brien\" SET a = -? -- ?")),
            ("/* card 4111 */ TRUNCATE t\u{e9}l1", Some("/* ? */ TRUNCATE t\u{e9}l1")),
            ("SELECT 'a'\n'b', 1", Some("SELECT ?, ?")),
            ("SET my.token = abc", Some("SET my.token = ?")),
            ("set local x to \"Abc\", d", Some("set local x to ?, ?")),
            ("SELECT a; SET LOCAL jit = off; SET x TO y", Some("SELECT a; SET LOCAL jit = off; SET x TO ?")),
            ("SET search_path = a, \"B\"", Some("SET search_path = a, \"B\"")),
            ("ALTER ROLE r SET x TO y", Some("ALTER ROLE r SET x TO ?")),
            ("ALTER TABLE a RENAME TO b", Some("ALTER TABLE a RENAME TO b")),
            ("UPDATE a SET b = c", Some("UPDATE a SET b = c")),
            ("SELECT 'a\\', 'b'", None),
            ("SELECT 'open", None),
            ("SELECT 12abc", None),
        ] {
            assert_eq!(without_literals(text).as_deref(), expected, "{text}");
        }
    }
}
