//! How much text the judge reads before it gives up. Knows numbers only.

/// Limits on a text; beyond any of them its effect is `unknown`. The defaults keep the worst text under a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a text.
    pub bytes: usize,
    /// Nesting of block comments: Postgres's scanner is quadratic in it.
    pub comment_depth: u32,
    /// Nesting of parentheses and brackets.
    pub paren_depth: u32,
    /// Statements of a text.
    pub statements: usize,
    /// Tokens of a text.
    pub tokens: usize,
    /// Tokens up to which the first parser is asked; beyond, Postgres's grammar decides alone.
    pub first_parser_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            comment_depth: 32,
            paren_depth: 64,
            statements: 100,
            tokens: 100_000,
            first_parser_tokens: 16_000,
        }
    }
}
