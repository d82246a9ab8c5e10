//! What goes on record. Every change of a request is one event; the state of a request is what its events add up to.
//!
//! Names and fields are part of the audit file's format: add, never rename.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hold::{Decision, Execution, HoldId, HoldRequest, Notice, Outcome, PassedBatch, Undone};
use crate::impact::Impact;
use crate::judge::RemarkKind;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The gate began to serve.
    Started {
        /// The gate's version.
        version: String,
        /// Version (hash) of the policy in force.
        policy_version: String,
    },
    /// The gate ended in good order.
    Stopped,
    /// Another policy came into force.
    PolicyChanged {
        /// Its version (hash).
        policy_version: String,
    },
    /// A statement passed, and a rule wants it told.
    Noticed {
        /// What passed.
        notice: Box<Notice>,
    },
    /// A statement passed that would have been held, were it not that its rule, or the gate, only observes.
    WouldHaveHeld {
        /// What passed.
        notice: Box<Notice>,
    },
    /// The same for one that would have been rejected.
    WouldHaveRejected {
        /// What passed.
        notice: Box<Notice>,
    },
    /// What passed in a span of time, counted; only where the configuration wants it.
    Passed {
        /// The counts.
        batch: Box<PassedBatch>,
    },
    /// A statement is held. On record before anybody is told.
    Held {
        /// Everything approvers are shown.
        request: Box<HoldRequest>,
    },
    /// The database was asked what a held statement would touch; again before it is released.
    Examined {
        /// The request.
        id: HoldId,
        /// What it said.
        impact: Box<Impact>,
        /// How that differs from what people were shown, in sentences: what they had answered counts no more. Empty for the first time.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<String>,
    },
    /// A channel told people, or changed what it had told them.
    Announced {
        /// The request.
        id: HoldId,
        /// The channel's name in the configuration.
        channel: String,
        /// Where it can be found again, in the channel's own words (Slack: `C0123/1795180000.000100`).
        reference: String,
    },
    /// A channel could not tell people.
    NotAnnounced {
        /// The request.
        id: HoldId,
        /// The channel's name in the configuration.
        channel: String,
        /// Why, in a sentence.
        why: String,
    },
    /// Somebody answered; whether it counted is in the answer.
    Answered(Answered),
    /// Enough people answered, or one rejected. On record before anybody is told.
    Decided {
        /// The request.
        id: HoldId,
        /// The decision; `by` names all who approved, separated by ", ".
        decision: Decision,
    },
    /// Nobody had decided after a while, so others are asked too.
    Escalated {
        /// The request.
        id: HoldId,
        /// Which step, from 1.
        step: usize,
        /// Who is asked now, in words.
        asked: String,
    },
    /// People were reminded.
    Reminded {
        /// The request.
        id: HoldId,
        /// The channel's name in the configuration.
        channel: String,
    },
    /// A hold ended.
    Ended {
        /// The request.
        id: HoldId,
        /// How.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
    /// What the database said to a released statement.
    Executed {
        /// The request.
        id: HoldId,
        /// Its word.
        execution: Execution,
    },
    /// What a released statement did was undone in the database, all of it or some.
    Undone {
        /// The request of that statement.
        id: HoldId,
        /// By whom, and how far.
        undone: Undone,
    },
    /// With their approval people approved the same statement again in its session, for a while. What is released under that is held
    /// and decided like everything else; its decision names this request.
    Granted {
        /// The request.
        id: HoldId,
        /// Who; all who approved, separated by ", ".
        by: String,
        /// When it ends at the latest.
        until: Timestamp,
    },
    /// Somebody ended that.
    Revoked {
        /// The request.
        id: HoldId,
        /// The channel's name in the configuration, or `api`.
        channel: String,
        /// Who.
        by: String,
    },
    /// Statements that were approved beforehand pass. On record before they run, and used from then on.
    Used {
        /// The pre-approval's request.
        id: HoldId,
        /// The request that is released so.
        request: HoldId,
        /// Which of its statements, counted from 0.
        statements: Vec<usize>,
    },
    /// The window of a pre-approval or the time of a standing approval is over, or it holds no more for another reason.
    Lapsed {
        /// The request it was given for.
        id: HoldId,
        /// The other reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A statement was released by one person in an emergency and somebody else has looked at it now, or tried to.
    Reviewed {
        /// The request.
        id: HoldId,
        /// The channel's name in the configuration, or `api`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        channel: String,
        /// Who looked.
        by: String,
        /// Their words, if any.
        note: Option<String>,
        /// `None`: it counted. Otherwise why not, in a sentence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
}

/// An answer to a request, counted or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The request as the answer named it; it need not exist.
    pub id: HoldId,
    /// The channel's name in the configuration, or `api`.
    pub channel: String,
    /// Who: the person's name in the configuration, or the channel's name for them (`slack:T01/U02`).
    pub by: String,
    /// They wanted it to run.
    pub approve: bool,
    /// As an emergency, alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Their words, if any.
    pub reason: Option<String>,
    /// `None`: it counted. Otherwise why not, in a sentence.
    pub refused: Option<String>,
}

impl Event {
    /// A statement passed.
    #[must_use]
    pub fn noticed(kind: RemarkKind, notice: Box<Notice>) -> Self {
        match kind {
            RemarkKind::Noticed => Self::Noticed { notice },
            RemarkKind::WouldHaveHeld => Self::WouldHaveHeld { notice },
            RemarkKind::WouldHaveRejected => Self::WouldHaveRejected { notice },
        }
    }

    /// The request it is about, if it is about one.
    #[must_use]
    pub fn request_id(&self) -> Option<&HoldId> {
        match self {
            Self::Started { .. }
            | Self::Stopped
            | Self::PolicyChanged { .. }
            | Self::Noticed { .. }
            | Self::WouldHaveHeld { .. }
            | Self::WouldHaveRejected { .. }
            | Self::Passed { .. } => None,
            Self::Held { request } => Some(&request.id),
            Self::Answered(answered) => Some(&answered.id),
            Self::Examined { id, .. }
            | Self::Announced { id, .. }
            | Self::NotAnnounced { id, .. }
            | Self::Decided { id, .. }
            | Self::Escalated { id, .. }
            | Self::Reminded { id, .. }
            | Self::Ended { id, .. }
            | Self::Executed { id, .. }
            | Self::Undone { id, .. }
            | Self::Granted { id, .. }
            | Self::Revoked { id, .. }
            | Self::Used { id, .. }
            | Self::Lapsed { id, .. }
            | Self::Reviewed { id, .. } => Some(id),
        }
    }

    /// Its name, as its JSON has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::PolicyChanged { .. } => "policy-changed",
            Self::Noticed { .. } => "noticed",
            Self::WouldHaveHeld { .. } => "would-have-held",
            Self::WouldHaveRejected { .. } => "would-have-rejected",
            Self::Passed { .. } => "passed",
            Self::Held { .. } => "held",
            Self::Examined { .. } => "examined",
            Self::Announced { .. } => "announced",
            Self::NotAnnounced { .. } => "not-announced",
            Self::Answered(_) => "answered",
            Self::Decided { .. } => "decided",
            Self::Escalated { .. } => "escalated",
            Self::Reminded { .. } => "reminded",
            Self::Ended { .. } => "ended",
            Self::Executed { .. } => "executed",
            Self::Undone { .. } => "undone",
            Self::Granted { .. } => "granted",
            Self::Revoked { .. } => "revoked",
            Self::Used { .. } => "used",
            Self::Lapsed { .. } => "lapsed",
            Self::Reviewed { .. } => "reviewed",
        }
    }
}
