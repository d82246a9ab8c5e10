//! What passed, counted: digests of statements without their literals, for asking later what another policy would have done. Knows no
//! sessions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::judge::{Effect, RiskKind};

/// What passed in a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassedBatch {
    /// The span's beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// What passed, the most frequent first.
    pub rows: Vec<PassedRow>,
    /// Statements that passed besides and are in no row: there was no room.
    #[serde(default)]
    pub dropped: u64,
}

/// Statements that are alike but for their literals, of one kind of session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassedRow {
    /// How many.
    pub count: u64,
    /// SHA-256 of the text without literals and comments, lower-case hex; of its effects where there is no such text.
    pub digest: String,
    /// The text without literals and comments; `None`: too long, or it cannot be told where its literals are, or a rule or the
    /// configuration keeps texts off the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who and where from.
    #[serde(flatten)]
    pub origin: PassedOrigin,
    /// A transaction was open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_transaction: bool,
    /// What it can do, without reasons, which may quote the text.
    pub effects: Vec<Effect>,
    /// The kinds of risk in it; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risks: Option<Vec<RiskKind>>,
    /// What it does depends on more than these effects (SQL EXECUTE, or more effects than are kept): it cannot be judged again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// The rule that let it pass.
    pub rule: String,
    /// Version of the policy with that rule.
    pub policy_version: String,
}

/// A kind of session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PassedOrigin {
    /// Database user.
    pub user: String,
    /// Database.
    pub database: String,
    /// `application_name`, possibly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub application_name: String,
    /// Common name of the certificate by which the client proved itself to the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// Address, or `unix` for a local socket.
    pub client: String,
}
