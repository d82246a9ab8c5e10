//! The rows a statement changes are kept for an undo, in its own transaction: what is sent before it and behind it, and what is told of
//! it. Knows no key and no schema: a [`Warrant`] has the texts.

use super::super::Machine;
use super::{Guarding, Stage};
use crate::judge::{Analysis, EffectKind, ObjectName, Otherwise, Undo};
use crate::undo::{Limits, Warrant, quoted};
use crate::wire::reply::Report;

#[cfg(test)]
mod tests;

/// How far the keeping of rows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// No ticket is drawn.
    Not,
    /// One is drawn: it begins, or has.
    Begins,
    /// The session takes no warrant, and the statement runs without.
    Refused,
}

/// What people are told where the session takes no warrant; part of an SQL string.
const REFUSED: &str = "it cannot be undone: the session takes no warrant of the gate (a pooler may stand before the server, the secret or the clocks differ)";

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Keep {
    pub(super) undo: Undo,
    /// The table, as the session reads its name.
    pub(super) target: String,
}

impl Keep {
    fn limits(&self) -> Limits {
        let strict = match self.undo.otherwise {
            Otherwise::Reject => true,
            Otherwise::Run => false,
        };
        Limits { rows: self.undo.max_rows, bytes: self.undo.max_bytes, strict }
    }

    /// What people are told: one sentence without its full stop.
    pub(super) fn sentence(&self) -> String {
        let Undo { max_rows, max_bytes, otherwise } = self.undo;
        let rows = if max_rows == 1 { "row" } else { "rows" };
        let mib = max_bytes.div_ceil(1 << 20);
        let otherwise = match otherwise {
            Otherwise::Reject => "where they cannot be kept, nothing is done",
            Otherwise::Run => "where they cannot be kept, it runs without",
        };
        format!("can be undone: up to {max_rows} {rows} ({mib} MiB) are kept, and {otherwise}")
    }
}

/// The table whose rows are kept.
pub(super) fn target(analysis: &Analysis) -> Result<String, String> {
    let effects = || analysis.pieces.iter().flat_map(|piece| &piece.effects);
    let writes: Vec<_> = effects().filter(|effect| effect.kind != EffectKind::Read).collect();
    let [write] = writes.as_slice() else { return Err("it is not one DELETE or UPDATE".to_owned()) };
    if !matches!(write.kind, EffectKind::Delete | EffectKind::Update) {
        return Err(format!("only what DELETE and UPDATE change is kept ({})", write.kind));
    }
    match write.objects.as_slice() {
        [ObjectName { schema: None, name }] => Ok(quoted(name)),
        // One more dot may be the database's name or part of a quoted one.
        [ObjectName { schema: Some(schema), name }] if !schema.contains('.') => {
            Ok(format!("{}.{}", quoted(schema), quoted(name)))
        }
        _ => Err("the table it writes cannot be told".to_owned()),
    }
}

impl Guarding {
    /// Comes before the statement, as the last of what is set: what the session draws is told with the answer.
    pub(super) fn draws(&self) -> Option<String> {
        self.warrant.as_ref().map(|_| Warrant::draw())
    }

    /// What comes next, once the session has answered what was set.
    pub(super) fn was_set(&mut self, answers: Vec<Option<String>>) -> Stage {
        let answer = answers.into_iter().next_back().flatten().unwrap_or_default();
        if self.warrant.is_none() {
            return Stage::Set;
        }
        match self.keeping {
            Keeping::Not => {
                self.keeping = Keeping::Begins;
                return Stage::Drawn(answer);
            }
            // It runs all the same: where it must not, that was an error.
            Keeping::Begins if answer == "refused" => self.keeping = Keeping::Refused,
            Keeping::Begins | Keeping::Refused => {}
        }
        Stage::Set
    }

    /// Comes right before the statement. `None`: that is no ticket.
    pub(in super::super) fn begins_keeping(&mut self, ticket: &str) -> Option<String> {
        self.warrant.as_mut()?.begin(ticket)
    }

    /// Comes right behind it: fails where its rows had to be kept and are not.
    pub(super) fn ends_keeping(&self) -> Option<String> {
        let (warrant, keep) = (self.warrant.as_ref()?, self.plan.keep.as_ref()?);
        if self.keeping == Keeping::Refused {
            return Some(format!("SELECT '{REFUSED}'"));
        }
        Some(warrant.finish(&keep.target, self.verb.unwrap_or_default(), self.rows))
    }

    /// What follows the statement where its result stands.
    pub(super) fn follows(&self) -> Vec<String> {
        self.ends_keeping().into_iter().chain(self.restore.iter().cloned()).collect()
    }

    /// The client is told what is kept.
    pub(super) fn kept_notice(&self, said: &str) -> Report {
        let report = Report::notice(format!("querygate: {said}"));
        if said.starts_with("kept") {
            report.with_hint(format!("To undo it: querygate undo {} (held like any other statement)", self.request))
        } else {
            report
        }
    }
}

impl Machine {
    /// How much of the statement that waits is to be kept, once it is released, and the server process of the session, as far as that is known.
    #[must_use]
    pub fn wants_kept(&self) -> Option<(Limits, Option<i32>)> {
        let keep = self.waiting_statement()?.plan.as_ref()?.keep.as_ref()?;
        Some((keep.limits(), self.backend_pid))
    }

    /// The statement that waits may have its rows kept. To be called right before it is released.
    pub fn may_keep(&mut self, warrant: Warrant) {
        if let Some(held) = self.waiting_statement_mut() {
            held.warrant = Some(Box::new(warrant));
        }
    }
}
