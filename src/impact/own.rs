//! What the statements of a text that have run already may have changed for the others of it. Pure.

use std::collections::BTreeSet;

use crate::judge::{PieceTokens, TokenKind, Tokens, lex};

/// First words of statements that change rows and no definition.
const DATA: [&str; 8] = ["select", "insert", "update", "delete", "merge", "truncate", "with", "values"];

/// What differences are the text's own doing. Whatever is not surely so is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// Statements that have run, by their place in the text (0: first).
    pub(super) ran: BTreeSet<usize>,
    /// Every name in these, as Postgres folds it. What a comment or a literal says is none.
    names: BTreeSet<String>,
    /// Those in statements that may change definitions.
    defining: BTreeSet<String>,
    /// See [`Own::unseen()`].
    pub(super) unseen: bool,
}

impl Own {
    /// `text` in the session's reading (`standard_conforming_strings` on), of which the statements `ran` have run.
    pub fn of(text: &str, ran: &BTreeSet<usize>) -> Self {
        let mut own = Self { ran: ran.clone(), ..Self::default() };
        // Fail closed: of a text that cannot be read nothing is its own doing.
        let Ok(tokens) = lex(text.as_bytes(), true) else { return own };
        for (_, piece) in tokens.pieces.iter().enumerate().filter(|(place, _)| ran.contains(place)) {
            let names = names(text, &tokens, piece);
            let first = text.get(piece.range.clone()).unwrap_or_default();
            let first: String = first.chars().take_while(char::is_ascii_alphabetic).collect();
            if !DATA.contains(&first.to_ascii_lowercase().as_str()) {
                own.defining.extend(names.iter().cloned());
            }
            own.names.extend(names);
        }
        own
    }

    /// Its session is in a transaction in which statements of the text have run: what their locks keep from being seen does not count.
    #[must_use]
    pub fn unseen(self, unseen: bool) -> Self {
        Self { unseen, ..self }
    }

    /// Rows of the table `name` (without its schema) may have changed by it.
    pub(super) fn rows_of(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The definition of what is called `name` (without its schema) may have changed by it.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.defining.contains(name)
    }
}

fn names(text: &str, tokens: &Tokens, piece: &PieceTokens) -> BTreeSet<String> {
    let all = tokens.tokens.get(piece.tokens.clone()).unwrap_or_default();
    let name = |token: &crate::judge::Token| {
        let written = text.get(token.range())?;
        if token.kind == TokenKind::Word {
            return Some(written.to_ascii_lowercase());
        }
        let quoted = written.strip_prefix('"')?.strip_suffix('"')?;
        (token.kind == TokenKind::QuotedName).then(|| quoted.replace("\"\"", "\""))
    };
    all.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_statements_that_ran_count_and_definitions_only_by_those_that_define() {
        let text = "ALTER TABLE Shop.\"My \"\"T\" ADD x int /* gone */; DELETE FROM b WHERE c = 'd'; DROP TABLE e";
        let own = Own::of(text, &BTreeSet::from([0, 1]));
        for (name, rows, defines) in [
            ("My \"T", true, true),
            ("my \"t", false, false),
            ("shop", true, true),
            ("Shop", false, false),
            ("b", true, false),
            ("gone", false, false),
            ("d", false, false),
            ("e", false, false),
        ] {
            assert_eq!((own.rows_of(name), own.defines(name)), (rows, defines), "{name}");
        }
        assert!(!Own::of(text, &BTreeSet::new()).rows_of("b"));
        assert!(!Own::of("DELETE FROM b; 'open", &BTreeSet::from([0])).rows_of("b"), "it cannot be read");
    }
}
