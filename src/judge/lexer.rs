//! Cuts text into tokens and statements exactly as Postgres does (`src/backend/parser/scan.l`), so that what is judged
//! is what the server will read. Knows bytes only: no grammar, no effects, no policy.
//!
//! Start at [`lex`]. The text may be any bytes; high-bit bytes are letters, as in Postgres.
//!
//! Where PostgreSQL 15 and later ones differ (digits with underscores, `\v` as a space) this lexer follows the later one,
//! like the grammar that is asked next; the older server refuses such text. What servers before PostgreSQL 15 accept and later
//! ones refuse (`1a` as a number and a name) is read only with `standard_conforming_strings` off, where no grammar is asked.

use std::fmt;
use std::ops::Range;

mod scan;
mod split;

use scan::Lexer;

/// Tokens kept by [`lex`]; [`lex_bounded`] takes another bound.
pub const MAX_TOKENS: usize = 1 << 20;

/// What a token is. Literals keep their spelling apart because only some of them are safe to abstract from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenKind {
    /// Unquoted identifier or keyword.
    Word,
    /// `"…"`.
    QuotedName,
    /// `U&"…"`.
    UnicodeName,
    /// `'…'`.
    String,
    /// `E'…'`.
    EscapeString,
    /// `U&'…'`.
    UnicodeString,
    /// The `N` of `N'…'`; the string is a token of its own.
    National,
    /// `B'…'`.
    BitString,
    /// `X'…'`.
    HexString,
    /// `$tag$…$tag$`.
    DollarString,
    /// A whole number, in any base.
    Integer,
    /// A number with a point or an exponent.
    Float,
    /// `$1`.
    Parameter,
    /// An operator; also `=>`, and the one-character ones of the grammar (`+`, `=`, `<` …).
    Operator,
    /// `,`
    Comma,
    /// `(`
    OpenParen,
    /// `)`
    CloseParen,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// `:`
    Colon,
    /// `:=`
    ColonEquals,
    /// `::`
    DoubleColon,
    /// `-- …` up to the end of its line.
    LineComment,
    /// `/* … */`, nested ones included.
    BlockComment,
    /// A byte no token of Postgres starts with; the server refuses the text.
    Other,
}

impl TokenKind {
    /// Comments are tokens here (the cache key and the reason need them), though not to the grammar.
    pub fn is_comment(self) -> bool {
        matches!(self, Self::LineComment | Self::BlockComment)
    }

    /// A quoted literal of any spelling.
    pub fn is_string(self) -> bool {
        matches!(
            self,
            Self::String
                | Self::EscapeString
                | Self::UnicodeString
                | Self::BitString
                | Self::HexString
                | Self::DollarString
        )
    }

    fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

/// A token: its kind and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte.
    pub start: u32,
    /// Offset behind its last byte.
    pub end: u32,
}

impl Token {
    /// Its bytes' range.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its bytes.
    pub fn bytes<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.range()).unwrap_or_default()
    }
}

/// A statement among the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceTokens {
    /// Bytes from its first to its last token, comments around it and the semicolon left out.
    pub range: Range<usize>,
    /// Its tokens, as indexes into [`Tokens::tokens`]; comments inside it included.
    pub tokens: Range<usize>,
}

/// A text cut into tokens and statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Every token in order, comments included, spaces left out.
    pub tokens: Vec<Token>,
    /// The statements; empty ones (`;;`) left out.
    pub pieces: Vec<PieceTokens>,
    /// Deepest nesting of block comments.
    pub comment_depth: u32,
    /// Deepest nesting of parentheses and brackets.
    pub paren_depth: u32,
    /// A plain `'…'` holds a backslash, so `standard_conforming_strings` matters to where it ends.
    pub plain_backslash: bool,
    /// A literal goes on after a newline (`'a'⏎'b'` is one token).
    pub continued: bool,
    seen: u32,
}

impl Tokens {
    /// Whether a token of this kind occurs.
    pub fn saw(&self, kind: TokenKind) -> bool {
        self.seen & kind.bit() != 0
    }

    /// The tokens of one piece.
    pub fn of(&self, piece: &PieceTokens) -> &[Token] {
        self.tokens.get(piece.tokens.clone()).unwrap_or_default()
    }
}

/// Why text has no tokens; the server refuses it too (or a limit was passed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexError {
    /// Byte offset where the trouble starts.
    pub at: usize,
    /// What it is.
    pub what: Trouble,
}

/// What is wrong with a text that cannot be cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// A literal without its end.
    UnterminatedString,
    /// A quoted identifier without its end.
    UnterminatedName,
    /// A block comment without its end.
    UnterminatedComment,
    /// `""`.
    EmptyName,
    /// `1a`, `$1a`, `1e+`: Postgres refuses letters right after a number.
    JunkAfterNumber,
    /// More tokens than asked for.
    TooManyTokens,
    /// Runs of operator characters and comments that Postgres's scanner reads again and again.
    Tangled,
    /// More bytes than a 32-bit offset reaches.
    TooLong,
}

impl fmt::Display for LexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Trouble::UnterminatedString => "unterminated literal",
            Trouble::UnterminatedName => "unterminated quoted identifier",
            Trouble::UnterminatedComment => "unterminated comment",
            Trouble::EmptyName => "zero-length quoted identifier",
            Trouble::JunkAfterNumber => "letters right after a number",
            Trouble::TooManyTokens => "too many tokens",
            Trouble::Tangled => "a run of operators or comments too long to read in time",
            Trouble::TooLong => "text too long",
        };
        write!(f, "{what} at byte {}", self.at)
    }
}

impl std::error::Error for LexError {}

/// Cuts `text` into tokens and statements, with plain strings read as `standard_conforming_strings` says.
///
/// # Errors
///
/// Text the server's scanner refuses, more than [`MAX_TOKENS`] tokens, or more than 4 GiB.
pub fn lex(text: &[u8], standard_conforming_strings: bool) -> Result<Tokens, LexError> {
    lex_bounded(text, standard_conforming_strings, MAX_TOKENS)
}

/// [`lex`] with a bound on the number of tokens.
///
/// # Errors
///
/// As [`lex`]; [`Trouble::TooManyTokens`] as soon as the bound is passed.
pub fn lex_bounded(text: &[u8], standard_conforming_strings: bool, max_tokens: usize) -> Result<Tokens, LexError> {
    let mut lexer = Lexer::new(text, standard_conforming_strings)?;
    let mut splitter = split::Splitter::default();
    // Most texts are short and a token is five bytes or so; a long literal must not cost memory here.
    let likely = (text.len() / 4).saturating_add(4).min(1_024);
    let mut out = Tokens { tokens: Vec::with_capacity(likely), ..Tokens::default() };
    while let Some(token) = lexer.next_token()? {
        if out.tokens.len() >= max_tokens {
            return Err(LexError { at: token.start as usize, what: Trouble::TooManyTokens });
        }
        out.seen |= token.kind.bit();
        if let Some(piece) = splitter.feed(&token, out.tokens.len(), text) {
            out.pieces.push(piece);
        }
        out.tokens.push(token);
    }
    out.pieces.extend(splitter.finish());
    out.comment_depth = lexer.comment_depth;
    out.paren_depth = splitter.deepest;
    out.plain_backslash = lexer.plain_backslash;
    out.continued = lexer.continued;
    Ok(out)
}

#[cfg(test)]
mod tests;
