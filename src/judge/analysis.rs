//! What a text can do: the result of reading it, before any rule is asked. Depends on nothing but the text.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::risks::tidy;
use super::{Calls, Risk, RiskKind, Tags};

/// What a message's text can do. A pure function of the text, so it may be cached by text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// The statements in the order they stand; empty for an empty query.
    pub pieces: Vec<Piece>,
    /// The effects do not depend on any literal of the text, so texts of the same shape share this analysis.
    pub literal_independent: bool,
    /// Something was called (or could have been) that may change session settings unseen: a function outside the
    /// known-harmless list, DO, CALL, EXECUTE. Until the next `ReadyForQuery` the gate does not trust `ParameterStatus`.
    pub opaque: bool,
    /// The reason given in a leading `/* reason: … */` comment.
    pub reason: Option<String>,
    /// Tags in a trailing comment.
    pub tags: Tags,
    /// What of the text as a whole an approver should not overlook. `None`: not known, and neither are those of the pieces, for it
    /// is the analysis of another text of the same shape.
    pub risks: Option<Vec<Risk>>,
}

impl Analysis {
    /// The same with parameters declared to be of these types. `None`: they are all the server's own, which changes nothing.
    #[must_use]
    pub fn with_parameters(&self, types: impl Iterator<Item = u32>) -> Option<Self> {
        let declared = Calls::of_parameters(types)?.parameters;
        let mut copy = self.clone();
        for piece in &mut copy.pieces {
            piece.calls.parameters.clone_from(&declared);
        }
        Some(copy)
    }

    /// What an approver should not overlook: of the whole text, then of each statement. `None`: not known.
    #[must_use]
    pub fn all_risks(&self) -> Option<Vec<Risk>> {
        let mut all = self.risks.clone()?;
        let many = self.pieces.len() > 1;
        for (index, piece) in self.pieces.iter().enumerate() {
            let number = index.saturating_add(1);
            all.extend(piece.risks.iter().map(|risk| Risk {
                kind: risk.kind,
                text: if many { format!("statement {number}: {}", risk.text) } else { risk.text.clone() },
            }));
        }
        Some(tidy(all))
    }

    /// What an approver should not overlook in one of its statements, and in the text as a whole. `None`: not known.
    #[must_use]
    pub fn risks_of(&self, piece: &Piece) -> Option<Vec<Risk>> {
        Some(tidy(self.risks.as_ref()?.iter().chain(&piece.risks).cloned().collect()))
    }

    /// The kinds of risk that rules are asked about for one of its statements: its own and those of the whole text. `None`: not known.
    #[must_use]
    pub fn risk_kinds(&self, piece: &Piece) -> Option<Vec<RiskKind>> {
        let mut kinds: Vec<RiskKind> = self.risks.as_ref()?.iter().chain(&piece.risks).map(|risk| risk.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Some(kinds)
    }
}

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Byte range in the text, without the semicolon.
    pub range: Range<usize>,
    /// Everything it can do; never empty.
    pub effects: Vec<Effect>,
    /// What it does to the session that later judging must know.
    pub acts: Vec<SessionAct>,
    /// What of this statement an approver should not overlook.
    pub risks: Vec<Risk>,
    /// By which names it can reach somebody's code.
    pub calls: Calls,
}

/// One thing a statement can do, with the objects it does it to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What is done.
    pub kind: EffectKind,
    /// To what; names as written, folded as Postgres folds them. May be empty (`DO`, `CHECKPOINT`).
    pub objects: Vec<ObjectName>,
    /// `Update`, `Delete`: whether a condition that reads a column limits the rows. `None` where it means nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_where: Option<bool>,
    /// Columns written, where that was cheap to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// One clause for people: why the text has this effect.
    pub why: String,
}

/// The kinds of effect; the vocabulary of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectKind {
    /// Reads rows or settings.
    Read,
    /// Adds rows (INSERT, COPY FROM STDIN).
    Insert,
    /// Changes rows; see `has_where`.
    Update,
    /// Removes rows.
    Delete,
    /// MERGE without a DELETE action (with one, a `Delete` effect stands beside it).
    Merge,
    /// Empties tables.
    Truncate,
    /// Removes objects.
    Drop,
    /// Changes definitions, including CREATE OR REPLACE of an existing kind and `setval`.
    Alter,
    /// Creates tables, indexes, views, types, sequences: something new that runs no code.
    Create,
    /// Roles, grants, policies, ownership, SET ROLE.
    Privilege,
    /// Runs or installs code that cannot be seen through: DO, CALL, CREATE FUNCTION/TRIGGER/RULE/EXTENSION, functions that run text.
    Code,
    /// Reads or writes files or programs on the server.
    CopyServerFile,
    /// Writes large objects.
    LargeObject,
    /// Server, replication, maintenance, catalog writes, explicit locks.
    Admin,
    /// Settings that change how later text is read (`standard_conforming_strings`, `client_encoding`, `backslash_quote`).
    ReadingSetting,
    /// Settings outside the harmless list.
    SensitiveSetting,
    /// Harmless settings, SHOW, DISCARD, LISTEN/NOTIFY, DEALLOCATE, cursors.
    Session,
    /// Transaction control.
    Transaction,
    /// Runs a statement prepared earlier; what that does is looked up in the session.
    Execute,
    /// Postgres's grammar does not accept it: most likely the server will say so too.
    Unparsed,
    /// It can be read in two ways: the opinions of two parsers, or of two lexers, differ.
    Disagreement,
    /// Could not be read for another reason: a limit was passed, the bytes are no text, a name is not known.
    Unknown,
}

impl EffectKind {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Read,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Truncate,
        Self::Drop,
        Self::Alter,
        Self::Create,
        Self::Privilege,
        Self::Code,
        Self::CopyServerFile,
        Self::LargeObject,
        Self::Admin,
        Self::ReadingSetting,
        Self::SensitiveSetting,
        Self::Session,
        Self::Transaction,
        Self::Execute,
        Self::Unparsed,
        Self::Disagreement,
        Self::Unknown,
    ];

    /// The shipped policy does not simply let it through; an UPDATE only where nothing limits its rows.
    #[must_use]
    pub fn is_dangerous(self) -> bool {
        match self {
            EffectKind::Read
            | EffectKind::Insert
            | EffectKind::Merge
            | EffectKind::Create
            | EffectKind::Session
            | EffectKind::Transaction
            | EffectKind::Execute => false,
            EffectKind::Update
            | EffectKind::Delete
            | EffectKind::Truncate
            | EffectKind::Drop
            | EffectKind::Alter
            | EffectKind::Privilege
            | EffectKind::Code
            | EffectKind::CopyServerFile
            | EffectKind::LargeObject
            | EffectKind::Admin
            | EffectKind::ReadingSetting
            | EffectKind::SensitiveSetting
            | EffectKind::Unparsed
            | EffectKind::Disagreement
            | EffectKind::Unknown => true,
        }
    }
}

impl fmt::Display for EffectKind {
    /// As rules spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A possibly qualified object name, case already folded as Postgres would.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// Everything before the last part (`catalog.schema` keeps its dot), if written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The last part.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// What a statement does to its session that judging of later statements depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionAct {
    /// SQL `PREPARE name AS …`; the body's own analysis.
    Prepare {
        /// Statement name (shared with protocol-level names).
        name: String,
        /// What executing it does.
        body: Arc<Analysis>,
    },
    /// SQL `EXECUTE name`.
    Execute {
        /// Statement name.
        name: String,
    },
    /// SQL `DEALLOCATE name`; `None` for ALL (also `DISCARD ALL`).
    Deallocate {
        /// Statement name.
        name: Option<String>,
    },
    /// `SET querygate.reason = '…'` (empty string clears it).
    SetReason {
        /// The reason for what follows in this session.
        reason: String,
    },
    /// COPY … FROM STDIN: the server reads COPY data next, and treats other messages differently until it has.
    CopyIn,
    /// COMMIT, ROLLBACK, PREPARE TRANSACTION … : runs even in an aborted transaction.
    EndTransaction,
}
