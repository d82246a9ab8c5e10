//! The second opinion, and the better authority: the tree of Postgres's own grammar (libpg_query), read node by node.
//! Knows no policy; where it meets a node it does not know, it says `unknown`.
//!
//! Start at [`parse`], then [`read`] each statement. The walk is a loop over the flat [`Tree`], so nothing can hide in a
//! field nobody thought of: a statement node counts as run wherever it stands, except under an EXPLAIN that does not run it.

use std::ops::Range;

use pg_query::ParserOptions;

use super::tree::{At, Tree};
use super::{Calls, Effect, EffectKind, ObjectName, Risk, SessionAct};

mod always;
mod called;
mod counted;
mod data;
mod definitions;
mod names;
mod nodes;
mod reader;
mod rows;
mod session;

pub(crate) use counted::counts_rows;
pub(super) use names::is_catalog;
use reader::Reader;

/// What one parser thinks of one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Opinion {
    /// Everything it can do.
    pub(super) effects: Vec<Effect>,
    /// What it does to the session.
    pub(super) acts: Vec<SessionAct>,
    /// It calls functions that are not known to be harmless.
    pub(super) opaque: bool,
    /// No literal can change the effects.
    pub(super) literal_independent: bool,
    /// It is an EXPLAIN that does not run what it explains.
    pub(super) quiet: bool,
    /// Words that look like danger but are names or not run; for the tripwire.
    pub(super) excused: Vec<String>,
    /// What of it an approver should not overlook.
    pub(super) risks: Vec<Risk>,
    /// By which names it can reach somebody's code.
    pub(super) calls: Calls,
}

/// A text as Postgres's grammar reads it.
pub(super) struct Parsed {
    tree: Tree,
}

/// A statement of [`Parsed`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'t> {
    node: At<'t>,
    start: usize,
    end: usize,
}

/// Parses a whole text, with `standard_conforming_strings` on.
///
/// # Errors
///
/// What the grammar says when it refuses it.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let parsed = pg_query::parse(text, ParserOptions::DEFAULT).map_err(|error| error.to_string())?;
    Tree::of(&parsed.protobuf).map(|tree| Parsed { tree }).ok_or_else(|| "its tree holds an unknown type".to_owned())
}

impl Parsed {
    /// Its statements in order.
    pub(super) fn statements(&self, length: usize) -> Vec<Statement<'_>> {
        let offset = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        self.tree
            .root()
            .into_iter()
            .flat_map(|root| root.items("stmts"))
            .filter_map(|raw| {
                let start = offset(raw.int("stmt_location"));
                let end = match raw.int("stmt_len") {
                    0 => length,
                    stated => start.saturating_add(offset(stated)),
                };
                raw.get("stmt").map(|node| Statement { node, start, end })
            })
            .collect()
    }
}

impl Statement<'_> {
    /// Whether it starts and ends with the piece our lexer cut: the grammar counts leading spaces and comments of a
    /// statement differently in different versions, but never bytes of another statement.
    pub(super) fn covers(&self, piece: &Range<usize>) -> bool {
        self.start <= piece.start && piece.end <= self.end
    }
}

/// What a statement does.
pub(super) fn read(statement: Statement<'_>, piece: &Range<usize>) -> Opinion {
    let mut opinion = Reader::new(statement.node, piece.clone()).finish();
    opinion.risks = always::look(statement.node);
    opinion
}
