//! Do both lexers see the same literals, quoted names and comments? Where they do not, one of them takes for data what the
//! other runs. Knows tokens only.

use sqlparser::tokenizer::{Location, Token as Theirs, TokenWithSpan, Whitespace};

use super::super::lexer::{Token, TokenKind};

/// Bytes that hide what stands in them: from the opening quote to the closing one, or a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mask {
    class: Class,
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Literal,
    Name,
    Comment,
}

/// Whether `ours` (positions in the whole text, in which `piece` starts at `start`) and `theirs` (positions in `piece`)
/// hide the same bytes.
pub(super) fn agree(piece: &str, start: usize, ours: &[Token], theirs: &[TokenWithSpan]) -> bool {
    let mut offsets = Offsets::new(piece);
    let theirs = theirs.iter().filter_map(|token| {
        let class = class_of(&token.token)?;
        let start = offsets.of(token.span.start);
        // `0x1F` is a number to Postgres 16 and a hex string to sqlparser; it hides nothing.
        if piece.get(start..).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
            return None;
        }
        let end = offsets.of(token.span.end);
        Some(trim(piece, Mask { class, start, end }))
    });
    let mut theirs = theirs.peekable();
    let mut operator_end = None;
    for token in ours {
        let behind_operator = operator_end == Some(token.start);
        operator_end = (token.kind == TokenKind::Operator).then_some(token.end);
        let Some(class) = own_class(token.kind) else { continue };
        let range = token.range();
        let own = Mask { class, start: range.start.saturating_sub(start), end: range.end.saturating_sub(start) };
        let own = trim(piece, own);
        // `<=/**/` is one operator to sqlparser; nothing of the comment is hidden from either if no mask of theirs is in it.
        if behind_operator && own.class == Class::Comment && theirs.peek().is_none_or(|next| next.start >= own.end) {
            continue;
        }
        let Some(first) = theirs.next() else { return false };
        if first == own {
            continue;
        }
        // A literal that goes on after a newline is one token to Postgres and several to sqlparser.
        let mut last = first;
        if token.kind != TokenKind::String || first.start != own.start || first.class != own.class {
            return false;
        }
        while last.end < own.end {
            match theirs.next() {
                Some(next) if next.class == Class::Name => return false,
                Some(next) => last = next,
                None => return false,
            }
        }
        if last.end != own.end {
            return false;
        }
    }
    theirs.next().is_none()
}

/// Without prefix (`E`, `U&`) and without the newline that ends a `--` comment.
fn trim(piece: &str, mask: Mask) -> Mask {
    let inside = piece.get(mask.start..mask.end).unwrap_or_default();
    let (skip, end) = match mask.class {
        Class::Literal => (inside.find(['\'', '$', '"']).unwrap_or(0), inside.len()),
        Class::Name => (inside.find('"').unwrap_or(0), inside.len()),
        Class::Comment => (0, inside.trim_end_matches(['\n', '\r']).len()),
    };
    Mask { class: mask.class, start: mask.start.saturating_add(skip), end: mask.start.saturating_add(end) }
}

fn own_class(kind: TokenKind) -> Option<Class> {
    if kind.is_string() {
        Some(Class::Literal)
    } else if kind.is_comment() {
        Some(Class::Comment)
    } else if matches!(kind, TokenKind::QuotedName | TokenKind::UnicodeName) {
        Some(Class::Name)
    } else {
        None
    }
}

/// Every token that is not listed hides nothing.
fn class_of(token: &Theirs) -> Option<Class> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other hundred tokens are operators and punctuation")]
    match token {
        Theirs::Word(word) => word.quote_style.map(|_| Class::Name),
        Theirs::SingleQuotedString(_)
        | Theirs::DoubleQuotedString(_)
        | Theirs::TripleSingleQuotedString(_)
        | Theirs::TripleDoubleQuotedString(_)
        | Theirs::DollarQuotedString(_)
        | Theirs::SingleQuotedByteStringLiteral(_)
        | Theirs::DoubleQuotedByteStringLiteral(_)
        | Theirs::TripleSingleQuotedByteStringLiteral(_)
        | Theirs::TripleDoubleQuotedByteStringLiteral(_)
        | Theirs::SingleQuotedRawStringLiteral(_)
        | Theirs::DoubleQuotedRawStringLiteral(_)
        | Theirs::TripleSingleQuotedRawStringLiteral(_)
        | Theirs::TripleDoubleQuotedRawStringLiteral(_)
        | Theirs::NationalStringLiteral(_)
        | Theirs::QuoteDelimitedStringLiteral(_)
        | Theirs::NationalQuoteDelimitedStringLiteral(_)
        | Theirs::EscapedStringLiteral(_)
        | Theirs::UnicodeStringLiteral(_)
        | Theirs::HexStringLiteral(_) => Some(Class::Literal),
        Theirs::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
            Some(Class::Comment)
        }
        _ => None,
    }
}

/// Turns lines and columns (from 1, columns in characters) into byte offsets, for positions that only grow.
struct Offsets<'t> {
    rest: std::str::Chars<'t>,
    length: usize,
    line: u64,
    column: u64,
}

impl<'t> Offsets<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.chars(), length: text.len(), line: 1, column: 1 }
    }

    fn of(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.rest.next() {
                Some('\n') => {
                    self.line = self.line.saturating_add(1);
                    self.column = 1;
                }
                Some(_) => self.column = self.column.saturating_add(1),
                None => break,
            }
        }
        self.length.saturating_sub(self.rest.as_str().len())
    }
}
