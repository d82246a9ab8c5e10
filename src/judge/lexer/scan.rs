//! The scanner itself: one token per call, no allocation. The rules' names in comments are those of `scan.l`.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "positions are bounded by the text's length, checked to fit in 32 bits"
)]

use super::{LexError, Token, TokenKind, Trouble};

const SPACE: u8 = 1;
const IDENT_START: u8 = 2;
const DIGIT: u8 = 4;
const OPERATOR: u8 = 8;
const NEWLINE: u8 = 16;

/// Classes of all bytes: `space`, `ident_start`, `digit`, `op_chars`, `newline` of scan.l.
const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut byte = 0usize;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "byte is below 256")]
        {
            let class = match byte as u8 {
                b'\n' | b'\r' => SPACE | NEWLINE,
                b' ' | b'\t' | 0x0b | 0x0c => SPACE,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => IDENT_START,
                b'0'..=b'9' => DIGIT,
                b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%'
                | b'<' | b'>' | b'=' => OPERATOR,
                _ => 0,
            };
            table[byte] = class;
        }
        byte += 1;
    }
    table
};

/// Bytes of operators and comment openings that may be read again, beside twice the text's length.
const PATIENCE: usize = 1 << 20;

#[inline]
fn class(byte: u8) -> u8 {
    CLASS.get(byte as usize).copied().unwrap_or(0)
}

/// How a quoted literal reads its inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// `xq`, `xus`: only `''` is special.
    Doubled,
    /// `xe` (and plain strings when `standard_conforming_strings` is off): a backslash hides the next byte.
    Escaped,
    /// `xb`, `xh`: the first quote ends it.
    Raw,
}

/// Yields tokens one by one. [`super::lex`] collects them.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    /// `standard_conforming_strings`; where it is off, letters may follow a number, as in servers before PostgreSQL 15.
    conforming: bool,
    /// Behind the run of operator characters last met.
    run_end: usize,
    /// Bytes that the scanner may still read more than once.
    patience: usize,
    pub(super) comment_depth: u32,
    pub(super) plain_backslash: bool,
    pub(super) continued: bool,
}

impl<'t> Lexer<'t> {
    /// Starts at the beginning of `text`.
    ///
    /// # Errors
    ///
    /// [`Trouble::TooLong`] when offsets would not fit in 32 bits.
    pub(super) fn new(text: &'t [u8], standard_conforming_strings: bool) -> Result<Self, LexError> {
        if u32::try_from(text.len()).is_err() {
            return Err(LexError { at: 0, what: Trouble::TooLong });
        }
        Ok(Self {
            text,
            at: 0,
            conforming: standard_conforming_strings,
            run_end: 0,
            patience: text.len().saturating_mul(2).saturating_add(PATIENCE),
            comment_depth: 0,
            plain_backslash: false,
            continued: false,
        })
    }

    /// The next token, comments included; `None` at the end.
    ///
    /// # Errors
    ///
    /// Text the server's scanner refuses.
    #[inline]
    pub(super) fn next_token(&mut self) -> Result<Option<Token>, LexError> {
        while class(self.peek(0)) & SPACE != 0 {
            self.at += 1;
        }
        let start = self.at;
        let Some(&first) = self.text.get(start) else { return Ok(None) };
        let kind = match class(first) {
            IDENT_START => self.word(first)?,
            DIGIT => self.number()?,
            OPERATOR => self.operator_or_comment(first)?,
            _ => self.punctuation(first)?,
        };
        #[expect(clippy::cast_possible_truncation, reason = "`new` checked that the length fits")]
        let token = Token { kind, start: start as u32, end: self.at as u32 };
        Ok(Some(token))
    }

    /// The byte `ahead` of the position; 0 behind the end (a NUL in the text is no token either).
    #[inline]
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn ident_cont(byte: u8) -> bool {
        class(byte) & (IDENT_START | DIGIT) != 0 || byte == b'$'
    }

    fn trouble<T>(at: usize, what: Trouble) -> Result<T, LexError> {
        Err(LexError { at, what })
    }

    /// `identifier`, and the literals that start with a letter (longest match: the letter must be the whole word so far).
    #[inline]
    fn word(&mut self, first: u8) -> Result<TokenKind, LexError> {
        match (first, self.peek(1)) {
            (b'e' | b'E', b'\'') => return self.quoted(2, Inside::Escaped, TokenKind::EscapeString),
            (b'b' | b'B', b'\'') => return self.quoted(2, Inside::Raw, TokenKind::BitString),
            (b'x' | b'X', b'\'') => return self.quoted(2, Inside::Raw, TokenKind::HexString),
            (b'n' | b'N', b'\'') => {
                self.at += 1;
                return Ok(TokenKind::National);
            }
            (b'u' | b'U', b'&') => match self.peek(2) {
                b'\'' => return self.quoted(3, Inside::Doubled, TokenKind::UnicodeString),
                b'"' => return self.quoted_name(3, TokenKind::UnicodeName),
                _ => {}
            },
            _ => {}
        }
        self.at += 1;
        while Self::ident_cont(self.peek(0)) {
            self.at += 1;
        }
        Ok(TokenKind::Word)
    }

    /// A literal whose opening is `opening` bytes long. The `xqs` state of scan.l: after the closing quote, whitespace with
    /// a newline and another quote go on with the same literal in the same mode.
    fn quoted(&mut self, opening: usize, inside: Inside, kind: TokenKind) -> Result<TokenKind, LexError> {
        let start = self.at;
        self.at += opening;
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return Self::trouble(start, Trouble::UnterminatedString);
            };
            self.at += 1;
            match byte {
                b'\'' => {
                    if inside != Inside::Raw && self.peek(0) == b'\'' {
                        self.at += 1;
                    } else if let Some(next) = self.continuation() {
                        self.continued = true;
                        self.at = next;
                    } else {
                        return Ok(kind);
                    }
                }
                b'\\' => {
                    if kind == TokenKind::String {
                        self.plain_backslash = true;
                    }
                    if inside == Inside::Escaped {
                        self.at += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// `quotecontinue`: where the literal goes on, if it does. Only spaces and `--` comments may stand between, with at
    /// least one newline outside a comment's text; block comments end the literal.
    fn continuation(&self) -> Option<usize> {
        let byte = |at: usize| self.text.get(at).copied().unwrap_or(0);
        let mut at = self.at;
        let mut newline = false;
        loop {
            let here = byte(at);
            if class(here) & NEWLINE != 0 {
                newline = true;
                at += 1;
            } else if class(here) & SPACE != 0 {
                at += 1;
            } else if here == b'-' && byte(at + 1) == b'-' {
                while at < self.text.len() && class(byte(at)) & NEWLINE == 0 {
                    at += 1;
                }
                if at >= self.text.len() {
                    return None;
                }
            } else {
                return (newline && here == b'\'').then_some(at + 1);
            }
        }
    }

    /// `xd`, `xui`.
    fn quoted_name(&mut self, opening: usize, kind: TokenKind) -> Result<TokenKind, LexError> {
        let start = self.at;
        self.at += opening;
        let first = self.at;
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return Self::trouble(start, Trouble::UnterminatedName);
            };
            self.at += 1;
            if byte == b'"' {
                if self.peek(0) == b'"' {
                    self.at += 1;
                } else if self.at == first + 1 {
                    return Self::trouble(start, Trouble::EmptyName);
                } else {
                    return Ok(kind);
                }
            }
        }
    }

    fn punctuation(&mut self, first: u8) -> Result<TokenKind, LexError> {
        let kind = match first {
            b'\'' => {
                let inside = if self.conforming { Inside::Doubled } else { Inside::Escaped };
                return self.quoted(1, inside, TokenKind::String);
            }
            b'"' => return self.quoted_name(1, TokenKind::QuotedName),
            b'$' => return self.dollar(),
            b'.' => {
                if class(self.peek(1)) == DIGIT {
                    return self.number();
                }
                if self.peek(1) == b'.' {
                    self.at += 1;
                    TokenKind::DotDot
                } else {
                    TokenKind::Dot
                }
            }
            b':' => match self.peek(1) {
                b':' => {
                    self.at += 1;
                    TokenKind::DoubleColon
                }
                b'=' => {
                    self.at += 1;
                    TokenKind::ColonEquals
                }
                _ => TokenKind::Colon,
            },
            b',' => TokenKind::Comma,
            b'(' => TokenKind::OpenParen,
            b')' => TokenKind::CloseParen,
            b'[' => TokenKind::OpenBracket,
            b']' => TokenKind::CloseBracket,
            b';' => TokenKind::Semicolon,
            _ => TokenKind::Other,
        };
        self.at += 1;
        Ok(kind)
    }

    /// `param`, `dolqdelim`, or a lone `$` (`dolqfailed`).
    fn dollar(&mut self) -> Result<TokenKind, LexError> {
        let start = self.at;
        if class(self.peek(1)) == DIGIT {
            self.at += 2;
            while class(self.peek(0)) == DIGIT {
                self.at += 1;
            }
            return if class(self.peek(0)) == IDENT_START && self.conforming {
                Self::trouble(start, Trouble::JunkAfterNumber)
            } else {
                Ok(TokenKind::Parameter)
            };
        }
        let mut length = 1;
        while class(self.peek(length)) & (IDENT_START | DIGIT) != 0 {
            length += 1;
        }
        if self.peek(length) != b'$' {
            self.at += 1;
            return Ok(TokenKind::Other);
        }
        length += 1;
        let tag = self.text.get(start..start + length).unwrap_or_default();
        let mut at = start + length;
        // scan.l puts back the last `$` of a tag that does not match, so every `$` may start the end: a plain search.
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let Some(offset) = rest.iter().position(|&byte| byte == b'$') else {
                return Self::trouble(start, Trouble::UnterminatedString);
            };
            at += offset;
            if self.text.get(at..).is_some_and(|rest| rest.starts_with(tag)) {
                self.at = at + length;
                return Ok(TokenKind::DollarString);
            }
            at += 1;
        }
    }

    fn digits(&mut self, accept: fn(u8) -> bool) {
        loop {
            if accept(self.peek(0)) {
                self.at += 1;
            } else if self.peek(0) == b'_' && accept(self.peek(1)) {
                self.at += 2;
            } else {
                return;
            }
        }
    }

    /// `decinteger`, `hexinteger`, `octinteger`, `bininteger`, `numeric`, `real` and their `…_junk` and `…fail` rules.
    fn number(&mut self) -> Result<TokenKind, LexError> {
        let start = self.at;
        let decimal: fn(u8) -> bool = |byte| byte.is_ascii_digit();
        let based: Option<fn(u8) -> bool> = match (self.peek(0), self.peek(1)) {
            (b'0', b'x' | b'X') => Some(|byte| byte.is_ascii_hexdigit()),
            (b'0', b'o' | b'O') => Some(|byte| matches!(byte, b'0'..=b'7')),
            (b'0', b'b' | b'B') => Some(|byte| matches!(byte, b'0' | b'1')),
            _ => None,
        };
        let mut kind = TokenKind::Integer;
        if let Some(accept) = based {
            self.at += 2;
            let first = self.at;
            self.digits(accept);
            if self.at == first {
                if self.conforming {
                    return Self::trouble(start, Trouble::JunkAfterNumber);
                }
                self.at = start + 1;
            }
        } else {
            self.digits(decimal);
            // `decimalfail`: `1..2` is an integer and two dots.
            if self.peek(0) == b'.' && self.peek(1) != b'.' {
                kind = TokenKind::Float;
                self.at += 1;
                if decimal(self.peek(0)) {
                    self.digits(decimal);
                }
            }
            if matches!(self.peek(0), b'e' | b'E') {
                let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
                if decimal(self.peek(1 + sign)) {
                    kind = TokenKind::Float;
                    self.at += 1 + sign;
                    self.digits(decimal);
                }
            }
        }
        if class(self.peek(0)) == IDENT_START && self.conforming {
            return Self::trouble(start, Trouble::JunkAfterNumber);
        }
        Ok(kind)
    }

    fn operator_or_comment(&mut self, first: u8) -> Result<TokenKind, LexError> {
        match (first, self.peek(1)) {
            (b'-', b'-') => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += rest.iter().position(|&byte| class(byte) & NEWLINE != 0).unwrap_or(rest.len());
                Ok(TokenKind::LineComment)
            }
            (b'/', b'*') => self.block_comment(),
            _ => {
                self.charge()?;
                self.operator();
                Ok(TokenKind::Operator)
            }
        }
    }

    /// `operator` and `xcstart` match every operator character ahead before scan.l puts back what it does not want, so a
    /// long run of short operators or comments costs the square of its length, there and in [`Self::operator`]. A ruler
    /// such as `/******/` or `-------` is matched once.
    fn charge(&mut self) -> Result<(), LexError> {
        if self.at >= self.run_end {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length = rest.iter().position(|&byte| class(byte) != OPERATOR).unwrap_or(rest.len());
            self.run_end = self.at + length;
        }
        match self.patience.checked_sub(self.run_end - self.at) {
            Some(left) => {
                self.patience = left;
                Ok(())
            }
            None => Self::trouble(self.at, Trouble::Tangled),
        }
    }

    /// `xc`: comments nest.
    fn block_comment(&mut self) -> Result<TokenKind, LexError> {
        let start = self.at;
        let mut depth = 0u32;
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return Self::trouble(start, Trouble::UnterminatedComment);
            };
            match (byte, self.peek(1)) {
                (b'/', b'*') => {
                    self.charge()?;
                    depth += 1;
                    self.comment_depth = self.comment_depth.max(depth);
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(TokenKind::BlockComment);
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// `operator`: the longest run of operator characters, cut before a comment start; a run of more than one that ends in
    /// `+` or `-` loses those, unless it holds a character that standard SQL operators do not.
    #[inline]
    fn operator(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut length = 1;
        while class(rest.get(length).copied().unwrap_or(0)) == OPERATOR {
            if matches!((rest.get(length), rest.get(length + 1)), (Some(b'/'), Some(b'*')) | (Some(b'-'), Some(b'-'))) {
                break;
            }
            length += 1;
        }
        let run = rest.get(..length).unwrap_or_default();
        let free = |run: &[u8]| {
            run.iter().any(|byte| matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'))
        };
        if length > 1 && matches!(run.last(), Some(b'+' | b'-')) && !free(run) {
            while length > 1 && matches!(run.get(length - 1), Some(b'+' | b'-')) {
                length -= 1;
            }
        }
        self.at += length;
    }
}
