//! What of a text an approver should not overlook: conditions that are always true, names that look like others, what is hidden,
//! cut, reordered or out of view. Knows tokens and characters; what needs the tree is found by [`super::second`]. Says nothing about
//! what is allowed.
//!
//! Start at [`of_text`]. What cannot be worked out is a risk of its own, [`RiskKind::Unread`]: its absence is a promise.

mod characters;
mod comments;
mod layout;
mod names;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lexer::{Token, TokenKind, Tokens};

/// Most risks told of one text or statement; what is beyond is counted.
const MAX_RISKS: usize = 20;
/// Most risks of one kind told of one text.
const MAX_OF_A_KIND: usize = 3;
/// Longest text of a risk, in characters.
const MAX_CHARS: usize = 240;

/// What is risky about a text. The codes are the vocabulary of rules and of the API; they stay. Ordered: the first are told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RiskKind {
    /// The text, or a part of it, could not be read, so other risks may go unmentioned.
    Unread,
    /// UPDATE or DELETE without WHERE.
    NoWhere,
    /// A WHERE that is true for every row, or for every row without a NULL in it.
    AlwaysTrue,
    /// A WHERE that reads no column of the table, so it holds for all rows or for none.
    LimitsNothing,
    /// CASCADE: it reaches objects that are not named.
    Cascade,
    /// A name that looks like another one.
    LookAlike,
    /// A name with letters of several scripts.
    MixedScript,
    /// Characters that change the direction of what stands beside them.
    Bidi,
    /// Characters that cannot be seen.
    Invisible,
    /// A name longer than the server keeps.
    TruncatedName,
    /// SQL in a comment, which does not run although it looks so.
    SqlInComment,
    /// A comment that does not end where it seems to, or that other databases would run.
    OddComment,
    /// Something stands where it is not seen at first sight.
    OutOfView,
    /// Characters written as codes, or literals whose end depends on a setting.
    Escapes,
}

impl RiskKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Unread,
        Self::NoWhere,
        Self::AlwaysTrue,
        Self::LimitsNothing,
        Self::Cascade,
        Self::LookAlike,
        Self::MixedScript,
        Self::Bidi,
        Self::Invisible,
        Self::TruncatedName,
        Self::SqlInComment,
        Self::OddComment,
        Self::OutOfView,
        Self::Escapes,
    ];

    /// What is said of it where the text it is about must not be quoted.
    #[must_use]
    pub fn plain(self) -> &'static str {
        match self {
            Self::Unread => "it could not be read, so risks may go unmentioned",
            Self::NoWhere => "no WHERE: every row",
            Self::AlwaysTrue => "a WHERE is always true",
            Self::LimitsNothing => "a WHERE reads no column of the table",
            Self::Cascade => "CASCADE reaches objects that are not named",
            Self::LookAlike => "a name looks like another one",
            Self::MixedScript => "a name mixes letters of several scripts",
            Self::Bidi => "characters in it change the direction of the text",
            Self::Invisible => "there are invisible characters in it",
            Self::TruncatedName => "a name is longer than 63 bytes and will be cut",
            Self::SqlInComment => "a comment holds SQL that does not run",
            Self::OddComment => "a comment may not end where it seems to",
            Self::OutOfView => "something stands where it is not seen at first sight",
            Self::Escapes => "characters are written as codes",
        }
    }
}

impl fmt::Display for RiskKind {
    /// As rules spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One remark for an approver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// What kind.
    pub kind: RiskKind,
    /// One clause for people. It may quote the text it is about; invisible characters are spelled out.
    pub text: String,
}

impl Risk {
    /// A risk; what may deceive in its text is spelled out, and a long text is cut.
    pub(super) fn new(kind: RiskKind, text: &str) -> Self {
        let spelled = characters::spelled(text);
        let mut shown: String = spelled.chars().take(MAX_CHARS).collect();
        if shown.len() < spelled.len() {
            shown.push('…');
        }
        Self { kind, text: shown }
    }

    /// The same, of a statement that is executed under this name.
    pub(crate) fn by_execute(self, name: &str) -> Self {
        Self::new(self.kind, &format!("by EXECUTE {name}: {}", self.text))
    }

    /// The risk that there may be others.
    #[must_use]
    pub fn unread() -> Self {
        Self::new(RiskKind::Unread, RiskKind::Unread.plain())
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>().saturating_add(self.text.len())
    }
}

/// Sorted, each once, and few enough to be read.
pub(super) fn tidy(mut risks: Vec<Risk>) -> Vec<Risk> {
    risks.sort_by_key(|risk| risk.kind);
    risks.dedup();
    let mut kept: Vec<Risk> = Vec::new();
    let mut left_out = 0_usize;
    for risk in risks {
        let alike = kept.iter().rev().take_while(|known| known.kind == risk.kind).count();
        if alike < MAX_OF_A_KIND && kept.len() < MAX_RISKS {
            kept.push(risk);
            continue;
        }
        left_out = left_out.saturating_add(1);
    }
    if left_out > 0
        && let Some(last) = kept.last_mut()
    {
        last.text = format!("{} (and {left_out} more remarks of these kinds)", last.text);
    }
    kept
}

/// The risks of a whole text that its tokens tell; `statements`: where each begins, and whether it is dangerous.
pub(super) fn of_text(
    text: &str,
    tokens: &Tokens,
    statements: &[(usize, bool)],
    parses: &dyn Fn(&str) -> bool,
) -> Vec<Risk> {
    let mut risks = of_characters(text, Some(&tokens.tokens));
    names::look(text, &tokens.tokens, &mut risks);
    if tokens.saw(TokenKind::LineComment) || tokens.saw(TokenKind::BlockComment) {
        comments::look(text, &tokens.tokens, parses, &mut risks);
    }
    layout::statements(text, statements, &mut risks);
    escapes(text, tokens, &mut risks);
    tidy(risks)
}

/// The risks of a text that could not be cut into tokens, or whose statements cannot be told apart.
pub(super) fn of_characters(text: &str, tokens: Option<&[Token]>) -> Vec<Risk> {
    let mut risks = Vec::new();
    characters::look(text, tokens, &mut risks);
    layout::look(text, &mut risks);
    risks
}

/// Literals whose characters are not what is written.
fn escapes(text: &str, tokens: &Tokens, risks: &mut Vec<Risk>) {
    use TokenKind as Kind;
    if ![Kind::EscapeString, Kind::UnicodeString, Kind::UnicodeName].into_iter().any(|kind| tokens.saw(kind)) {
        return;
    }
    for token in &tokens.tokens {
        let is_coded = match token.kind {
            Kind::EscapeString => coded(token.bytes(text.as_bytes())),
            Kind::UnicodeString | Kind::UnicodeName => token.bytes(text.as_bytes()).contains(&b'\\'),
            Kind::Word
            | Kind::QuotedName
            | Kind::String
            | Kind::National
            | Kind::BitString
            | Kind::HexString
            | Kind::DollarString
            | Kind::Integer
            | Kind::Float
            | Kind::Parameter
            | Kind::Operator
            | Kind::Comma
            | Kind::OpenParen
            | Kind::CloseParen
            | Kind::OpenBracket
            | Kind::CloseBracket
            | Kind::Semicolon
            | Kind::Dot
            | Kind::DotDot
            | Kind::Colon
            | Kind::ColonEquals
            | Kind::DoubleColon
            | Kind::LineComment
            | Kind::BlockComment
            | Kind::Other => false,
        };
        if is_coded {
            let shown = quoted(text.get(token.range()).unwrap_or_default());
            risks.push(Risk::new(RiskKind::Escapes, &format!("characters are written as codes: {shown}")));
        }
    }
}

/// `\x44`, `\u0044`, `\104`: codes, where `\n` and `\'` are what everybody writes.
fn coded(literal: &[u8]) -> bool {
    let mut bytes = literal.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' && matches!(bytes.next(), Some(b'x' | b'u' | b'U' | b'0'..=b'7')) {
            return true;
        }
    }
    false
}

/// The beginning of a text, between marks.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().take(SHOWN).collect();
    if line.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests;
