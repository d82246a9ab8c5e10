//! How far a request has come: who has agreed, what the database said, what has happened.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::channel;
use crate::hold::{Decision, Execution, Undone};

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// Who may decide, in words.
    pub asked: String,
    /// Approvals needed.
    pub approvals_needed: usize,
    /// Who has approved so far.
    pub approved_by: Vec<String>,
    /// Owners of what it touches who have not agreed yet, in words.
    #[serde(default)]
    pub owners_missing: Vec<String>,
    /// Escalation steps taken.
    pub escalated: usize,
    /// How often it was asked anew, because what it touches had changed when it was to be released; approvals before that count no more.
    #[serde(default)]
    pub round: u32,
    /// What had changed the last time.
    #[serde(default)]
    pub changed: Vec<String>,
    /// One person released it in an emergency.
    pub break_glass: bool,
    /// The standing approval for the same statement again in its session.
    #[serde(default)]
    pub again: Option<AgainView>,
    /// Who asked for it before it runs.
    #[serde(default)]
    pub asked_beforehand_by: Option<String>,
    /// The request whose standing approval or pre-approval released this one.
    #[serde(default)]
    pub under: Option<String>,
    /// The review an emergency release asks for.
    #[serde(default)]
    pub review: Option<ReviewView>,
    /// What the database said to it, once it has.
    #[schema(value_type = Option<Object>)]
    pub execution: Option<Execution>,
    /// How often what it did was undone (`querygate undo`), by whom and how far.
    #[serde(default)]
    pub undone: Vec<UndoneView>,
    /// What has happened so far, oldest first.
    pub timeline: Vec<MilestoneView>,
}

/// A standing approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgainView {
    /// It holds.
    pub active: bool,
    /// When it ends at the latest (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// How often it was used.
    pub uses: u64,
    /// Why it holds no more.
    pub ended_because: Option<String>,
}

impl From<&channel::Again> for AgainView {
    fn from(again: &channel::Again) -> Self {
        Self { active: again.ended.is_none(), until: again.until, uses: again.uses, ended_because: again.ended.clone() }
    }
}

/// The look another person has to take at what one person released alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReviewView {
    /// Nobody else has looked yet.
    pub open: bool,
    /// Who released it.
    pub broken_by: String,
    /// Why it could not wait.
    pub why: Option<String>,
    /// Who has looked.
    pub acknowledged_by: Option<String>,
    /// Their words.
    pub comment: Option<String>,
    /// When (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acknowledged_at: Option<Timestamp>,
}

impl From<&channel::Review> for ReviewView {
    fn from(review: &channel::Review) -> Self {
        let acknowledged = review.acknowledged.as_ref();
        Self {
            open: acknowledged.is_none(),
            broken_by: review.broken_by.clone(),
            why: review.why.clone(),
            acknowledged_by: acknowledged.map(|acknowledged| acknowledged.by.clone()),
            comment: acknowledged.and_then(|acknowledged| acknowledged.comment.clone()),
            acknowledged_at: acknowledged.map(|acknowledged| acknowledged.at),
        }
    }
}

/// What a request did was undone, all of it or some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndoneView {
    /// The request that did it, where that is known.
    pub by: Option<String>,
    /// The database role that did it.
    pub role: String,
    /// When (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Rows that were restored.
    pub restored: u64,
    /// Rows that conflicted and were left alone.
    pub conflicts: u64,
    /// The same in a sentence.
    pub text: String,
}

impl From<&Undone> for UndoneView {
    fn from(undone: &Undone) -> Self {
        let Undone { by, role, at, restored, conflicts, .. } = undone;
        let by = by.as_ref().map(|by| by.0.clone());
        let (restored, conflicts, text) = (*restored, *conflicts, undone.to_string());
        Self { by, role: role.clone(), at: *at, restored, conflicts, text }
    }
}

/// A line of a request's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MilestoneView {
    /// When (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What, in a sentence.
    pub what: String,
}

impl From<&channel::RequestView> for ProgressView {
    fn from(view: &channel::RequestView) -> Self {
        Self {
            asked: view.asked.clone(),
            approvals_needed: view.quorum,
            approved_by: view.approved_by.clone(),
            owners_missing: view.owners_missing.clone(),
            escalated: view.escalated,
            round: view.round,
            changed: view.changed.clone(),
            break_glass: view.break_glass,
            again: view.again.as_ref().map(AgainView::from),
            asked_beforehand_by: view.request.beforehand.as_ref().map(|own| own.by.clone()),
            under: view.decision.as_ref().and_then(Decision::under).map(|id| id.0.clone()),
            review: view.review.as_ref().map(ReviewView::from),
            execution: view.execution.clone(),
            undone: view.undone.iter().map(UndoneView::from).collect(),
            timeline: view
                .timeline
                .iter()
                .map(|milestone| MilestoneView { at: milestone.at, what: milestone.what.clone() })
                .collect(),
        }
    }
}
