//! Where statements end. In Postgres's grammar a semicolon separates statements everywhere but inside the parentheses of
//! `CREATE RULE … DO (…;…)` and between `BEGIN ATOMIC` and `END` of a routine's body (`routine_body_stmt_list` in gram.y);
//! psql's scanner (`src/fe_utils/psqlscan.l`) follows the same two exceptions.

#![expect(clippy::arithmetic_side_effects, reason = "depths are bounded by the number of tokens")]

use super::{PieceTokens, Token, TokenKind};

/// Collects tokens into statements.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    pub(super) deepest: u32,
    parens: u32,
    brackets: u32,
    /// How far into `CREATE [OR REPLACE] FUNCTION|PROCEDURE` the statement's first words are.
    head: Head,
    /// Open `BEGIN ATOMIC` and `CASE` blocks of a routine body.
    blocks: u32,
    after_begin: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    first: usize,
    last: usize,
    start: u32,
    end: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Head {
    #[default]
    Start,
    Create,
    Or,
    Replace,
    Routine,
    Other,
}

impl Splitter {
    /// Takes the next token; gives the statement it ends.
    #[inline]
    #[expect(clippy::wildcard_enum_match_arm, reason = "only words decide where a routine's body starts")]
    pub(super) fn feed(&mut self, token: &Token, index: usize, text: &[u8]) -> Option<PieceTokens> {
        match token.kind {
            TokenKind::LineComment | TokenKind::BlockComment => return None,
            TokenKind::Semicolon if self.parens == 0 && self.blocks == 0 => return self.finish(),
            TokenKind::OpenParen => self.parens += 1,
            TokenKind::CloseParen => self.parens = self.parens.saturating_sub(1),
            TokenKind::OpenBracket => self.brackets += 1,
            TokenKind::CloseBracket => self.brackets = self.brackets.saturating_sub(1),
            TokenKind::Word if self.head != Head::Other => self.word(token.bytes(text)),
            _ => {
                self.after_begin = false;
                if self.head != Head::Routine {
                    self.head = Head::Other;
                }
            }
        }
        self.deepest = self.deepest.max(self.parens + self.brackets);
        let open = self.open.get_or_insert(Open { first: index, last: index, start: token.start, end: token.end });
        open.last = index;
        open.end = token.end;
        None
    }

    /// Ends the last statement, if there is one.
    pub(super) fn finish(&mut self) -> Option<PieceTokens> {
        self.parens = 0;
        self.brackets = 0;
        self.head = Head::Start;
        self.blocks = 0;
        self.after_begin = false;
        let open = self.open.take()?;
        Some(PieceTokens { range: open.start as usize..open.end as usize, tokens: open.first..open.last + 1 })
    }

    fn word(&mut self, word: &[u8]) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        self.head = match self.head {
            Head::Start if is("create") => Head::Create,
            Head::Create if is("or") => Head::Or,
            Head::Or if is("replace") => Head::Replace,
            Head::Create | Head::Replace if is("function") || is("procedure") => Head::Routine,
            Head::Routine => {
                let opens = self.after_begin && is("atomic") && self.parens == 0;
                if opens || self.blocks > 0 && is("case") {
                    self.blocks += 1;
                } else if self.blocks > 0 && is("end") {
                    self.blocks -= 1;
                }
                self.after_begin = is("begin");
                Head::Routine
            }
            Head::Start | Head::Create | Head::Or | Head::Replace | Head::Other => Head::Other,
        };
    }
}
