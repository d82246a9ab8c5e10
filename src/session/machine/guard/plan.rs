//! What of a guard can be applied to a statement, and how; and what people are told of it before they decide. Knows the session's
//! state as it is when the statement is held, which is the state it is released in. Sends nothing.

use std::fmt::Write as _;

use super::keep::{self, Keep};
use crate::judge::{Analysis, EffectKind, Guard, Judgement, Otherwise, Piece, SessionAct, Timeout};

/// How a guard is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum How {
    /// In a transaction of the gate's own, which it commits or rolls back: a Query in an idle session.
    Block,
    /// In the transaction that is open or that the batch opens, which the backend is made to fail where the ceiling is passed.
    /// What is set is set for the transaction, and set back in it.
    Local,
    /// Set for the session before, and set back after: what may not run in a transaction.
    Session,
    /// Not at all, and people were told.
    Nothing,
}

/// A guard as it is applied to one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Plan {
    pub(in super::super) how: How,
    pub(in super::super) max_rows: Option<u64>,
    /// Name and value, in milliseconds.
    pub(super) timeouts: Vec<(&'static str, Timeout)>,
    /// It is one statement, so its command tag comes last.
    pub(super) single: bool,
    /// Its rows are kept for an undo.
    pub(in super::super) keep: Option<Keep>,
    /// What cannot be limited, and why.
    cannot: Option<String>,
}

/// Where a statement is to run.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Place {
    /// It is a Query, not a Bind.
    pub(in super::super) query: bool,
    /// Transaction status, as it was before what the batch has run.
    pub(in super::super) status: u8,
    /// Something of its batch has run; before a Query: was sent.
    pub(in super::super) busy: bool,
    /// Why nothing can be set here.
    pub(in super::super) blocked: Option<&'static str>,
}

impl Plan {
    /// What the rules' `guard` and `undo` come to; `None`: there are none. `counts_rows` says why the statement's command tag does
    /// not count what it writes, if it does not.
    ///
    /// # Errors
    ///
    /// Some of it cannot be applied, for that reason, and the rule wants such statements refused.
    pub(in super::super) fn of(
        judgement: &Judgement,
        analysis: &Analysis,
        place: Place,
        mut counts_rows: impl FnMut() -> Result<(), &'static str>,
    ) -> Result<Option<Self>, String> {
        let mut plan = match &judgement.guard {
            Some(guard) => Self::new(guard, analysis, place, &mut counts_rows)?,
            None if judgement.undo.is_none() => return Ok(None),
            None => Self::nothing(analysis),
        };
        let Some(undo) = &judgement.undo else { return Ok(Some(plan)) };
        let possible = match unsuitable(analysis, place) {
            Some(why) => Err(why.to_owned()),
            None => counted(analysis, counts_rows).and_then(|()| keep::target(analysis)),
        };
        match (possible, undo.otherwise) {
            (Ok(target), _) => {
                plan.keep = Some(Keep { undo: *undo, target });
                plan.how = how(analysis, place);
            }
            // Fail closed.
            (Err(why), Otherwise::Reject) => return Err(format!("its rows cannot be kept for an undo: {why}")),
            (Err(why), Otherwise::Run) => {
                let more = plan.cannot.take().map_or_else(String::new, |cannot| format!("{cannot}; "));
                plan.cannot = Some(format!("{more}it cannot be undone: {why}"));
            }
        }
        Ok(Some(plan))
    }

    fn nothing(analysis: &Analysis) -> Self {
        let single = analysis.pieces.len() == 1;
        Self { how: How::Nothing, max_rows: None, timeouts: Vec::new(), single, keep: None, cannot: None }
    }

    fn new(
        guard: &Guard,
        analysis: &Analysis,
        place: Place,
        counts_rows: impl FnOnce() -> Result<(), &'static str>,
    ) -> Result<Self, String> {
        let single = analysis.pieces.len() == 1;
        let timeouts = [("lock_timeout", guard.lock_timeout), ("statement_timeout", guard.statement_timeout)];
        let timeouts = timeouts.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        let mut plan =
            Self { how: how(analysis, place), max_rows: guard.max_rows, timeouts, single, keep: None, cannot: None };
        let trouble = unsuitable(analysis, place).map(|why| format!("it cannot be limited: {why}"));
        if trouble.is_some() {
            plan = Self { cannot: trouble, ..Self::nothing(analysis) };
        } else if guard.max_rows.is_some()
            && let Err(why) = counted(analysis, counts_rows)
        {
            plan.cannot = Some(format!("its rows cannot be limited: {why}"));
            plan.max_rows = None;
            if plan.timeouts.is_empty() {
                plan.how = How::Nothing;
            }
        }
        match (plan.cannot, guard.otherwise) {
            // Fail closed.
            (Some(why), Otherwise::Reject) => Err(why),
            (cannot, _) => Ok(Self { cannot, ..plan }),
        }
    }

    /// What people are told: one sentence without its full stop.
    pub(in super::super) fn sentence(&self) -> String {
        let rows = self.max_rows.map(|rows| format!("at most {rows} {}", if rows == 1 { "row" } else { "rows" }));
        let times = self.timeouts.iter().map(|(name, value)| format!("{name} {value}"));
        let limits: Vec<String> = rows.into_iter().chain(times).collect();
        let mut sentence = self.cannot.clone().unwrap_or_default();
        if let Some(keep) = &self.keep {
            let _ = write!(sentence, "{}{}", if sentence.is_empty() { "" } else { "; " }, keep.sentence());
        }
        if !limits.is_empty() {
            let _ = write!(sentence, "{}runs with: {}", if sentence.is_empty() { "" } else { "; " }, limits.join(", "));
        }
        sentence
    }
}

/// Why nothing at all can be set for it.
fn unsuitable(analysis: &Analysis, place: Place) -> Option<&'static str> {
    if place.blocked.is_some() {
        return place.blocked;
    }
    match place.status {
        // Fail closed: they may have ended the transaction, or begun one, and the Query ends theirs.
        b'I' | b'T' if place.query && place.busy => {
            return Some("messages of the extended protocol came before it without a Sync");
        }
        b'I' | b'T' => {}
        _ => return Some("its transaction has failed"),
    }
    if analysis.pieces.is_empty() {
        return Some("there is no statement in it");
    }
    analysis.pieces.iter().find_map(unsuitable_piece)
}

fn unsuitable_piece(piece: &Piece) -> Option<&'static str> {
    let of_act = |act: &SessionAct| match act {
        SessionAct::CopyIn => "it is a COPY whose data the client sends",
        SessionAct::EndTransaction => "it controls transactions",
        SessionAct::Prepare { .. } | SessionAct::Execute { .. } | SessionAct::Deallocate { .. } => {
            "it is about statements prepared by name"
        }
        SessionAct::SetReason { .. } => "it sets something itself",
    };
    let of_effect = |kind: EffectKind| match kind {
        EffectKind::Transaction => Some("it controls transactions"),
        EffectKind::Execute => Some("it is about statements prepared by name"),
        EffectKind::Session | EffectKind::ReadingSetting | EffectKind::SensitiveSetting => {
            Some("it sets something itself, or closes cursors")
        }
        // Fail closed: it may be any of these.
        EffectKind::Unparsed | EffectKind::Disagreement | EffectKind::Unknown => {
            Some("it could not be read with certainty")
        }
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
        | EffectKind::Admin => None,
    };
    piece.acts.first().map(of_act).or_else(|| piece.effects.iter().find_map(|effect| of_effect(effect.kind)))
}

fn how(analysis: &Analysis, place: Place) -> How {
    let kinds = || analysis.pieces.iter().flat_map(|piece| &piece.effects).map(|effect| effect.kind);
    // Whatever does only this runs in a transaction as well as out of one. Several statements are one transaction anyway.
    let is_bound = analysis.pieces.len() == 1 && kinds().all(|kind| is_of_rows(kind) || kind == EffectKind::Truncate);
    match (place.status, is_bound) {
        (b'T', _) => How::Local,
        (_, _) if place.busy => How::Local,
        (_, true) if place.query => How::Block,
        (_, true) => How::Local,
        (_, false) => How::Session,
    }
}

/// Whether the command tag of the statement counts the rows it writes.
fn counted(analysis: &Analysis, counts_rows: impl FnOnce() -> Result<(), &'static str>) -> Result<(), String> {
    let [only] = analysis.pieces.as_slice() else {
        return Err("it is not one statement".to_owned());
    };
    if let Some(other) = only.effects.iter().find(|effect| !is_of_rows(effect.kind)) {
        return Err(format!("it does more than write rows ({})", other.kind));
    }
    counts_rows().map_err(str::to_owned)
}

fn is_of_rows(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Read | EffectKind::Insert | EffectKind::Update | EffectKind::Delete | EffectKind::Merge => true,
        EffectKind::Truncate
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
        | EffectKind::Execute
        | EffectKind::Unparsed
        | EffectKind::Disagreement
        | EffectKind::Unknown => false,
    }
}
