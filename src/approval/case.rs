//! One request and the answers to it so far: who may answer, what an answer does. Pure; time is an argument, and nothing is
//! changed before it is on record. Knows no channel, store or board.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::audience::Audience;
use super::channel::Actor;
use super::channel::{Acknowledged, Acknowledgement, Again, Milestone, RequestView, Review, Submission};
use super::people::People;
use super::profile::{Profile, UnknownRequester};
use super::stranger::{certainly_different, may_be, may_be_requester};
use crate::hold::{Decision, Ended, Execution, HoldId, HoldRequest, Refused, Undone};
use crate::impact::Impact;
use crate::judge::Redact;
use crate::store::redact::{hide, quiet};

/// Why somebody may not decide a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ineligible {
    /// Neither named nor in a group that may decide.
    #[error("not an approver of this request")]
    NotApprover,
    /// They asked for it themselves.
    #[error("nobody decides their own request")]
    OwnRequest,
    /// The database user belongs to no known person, and the configuration refuses that.
    #[error("the requester is not known, so it might be anybody's own request")]
    UnknownRequester,
    /// The configuration does not say enough about whoever asked to tell that they are somebody else.
    #[error(
        "it cannot be told that this is not your own request: whoever asked has no Slack user or e-mail address in the configuration"
    )]
    MayBeOwn,
    /// They may not release alone.
    #[error("not among those who may release a statement alone in an emergency")]
    NotBreakGlass,
    /// They released it themselves.
    #[error("whoever released it in an emergency does not review it")]
    BrokeGlass,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The person may not.
    #[error(transparent)]
    Ineligible(#[from] Ineligible),
    /// The request is decided, over or unknown.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The answer was about another statement.
    #[error("the request's statement is not the one that was shown")]
    OtherStatement,
    /// They approved before, and more people are needed.
    #[error("you have approved it already; {have} of {need} approvals are there")]
    AlreadyApproved {
        /// Approvals so far.
        have: usize,
        /// Approvals needed.
        need: usize,
    },
    /// Only emergency releases are reviewed.
    #[error("there is nothing to review: it was not released in an emergency")]
    NothingToReview,
    /// Somebody was first.
    #[error("already reviewed by {by}")]
    AlreadyReviewed {
        /// Who.
        by: String,
    },
    /// The profile permits no standing approval, or not with this answer.
    #[error("this statement cannot be approved for a while, only for once")]
    OnlyOnce,
    /// It permits a shorter one.
    #[error("this statement can be approved again for at most {}", humantime::format_duration(*longest))]
    AgainTooLong {
        /// The longest.
        longest: Duration,
    },
    /// It cannot be asked for beforehand, or not so.
    #[error("{0}")]
    NotBeforehand(String),
    /// What it would touch is not what people were shown any more.
    #[error("what it would touch has changed since it was shown, so it is asked anew: {}", .0.join("; "))]
    Changed(Vec<String>),
    /// The request has no standing approval that holds.
    #[error("its approval does not stand, so there is nothing to revoke")]
    NothingToRevoke,
    /// An emergency release without words.
    #[error("releasing a statement alone needs a reason")]
    ReasonNeeded,
    /// Too many words.
    #[error("a reason has at most {} characters", super::MAX_REASON_CHARS)]
    ReasonTooLong,
    /// The answer could not be stored, so it does not count.
    #[error("the answer could not be put on record, so nothing was changed: {0}")]
    NotRecorded(String),
}

/// What an answer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It counts; more are needed.
    Count {
        /// Approvals with this one.
        have: usize,
        /// Approvals needed.
        need: usize,
    },
    /// It decides.
    Decide(Decision),
}

/// A request on the desk.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) profile: Arc<Profile>,
    pub(super) view: RequestView,
    /// Who approved, as they were then.
    approved: Vec<Actor>,
    /// What all who approved so far agree to.
    again: Option<Duration>,
    requester_is_known: bool,
    last_reminder: Timestamp,
    /// What people were shown that it would touch, with nothing taken out.
    pub(super) shown: Option<Arc<Impact>>,
}

impl Case {
    pub(super) fn new(request: &Arc<HoldRequest>, profile: Arc<Profile>, people: &People) -> Self {
        let request = for_channels(request);
        let requester_is_known = request.beforehand.is_some() || people.behind(&request.origin).next().is_some();
        let view = RequestView {
            revision: 1,
            impact: None,
            examining: false,
            round: 0,
            changed: Vec::new(),
            asked: profile.asked(),
            audience: Audience::of(&profile, 0),
            quorum: profile.needed(requester_is_known),
            approved_by: Vec::new(),
            owners_missing: owners_missing(&profile, &[]),
            escalated: 0,
            escalated_to: String::new(),
            decision: None,
            glass: !profile.break_glass.is_empty(),
            break_glass: false,
            review: None,
            may_again: again::longest(&profile, &request),
            window: window::of(&request),
            again: None,
            ended: None,
            execution: None,
            undone: Vec::new(),
            timeline: vec![Milestone { at: request.opened_at, what: window::beginning(&request) }],
            request: Arc::clone(&request),
        };
        Self {
            profile,
            view,
            approved: Vec::new(),
            again: None,
            requester_is_known,
            last_reminder: request.opened_at,
            shown: None,
        }
    }

    /// Others wait for its transaction's locks, so it is withdrawn.
    pub(super) fn kept_waiting(&mut self, who: &str, at: Timestamp) {
        self.note(at, format!("its transaction kept others waiting for its locks: {who}"));
    }

    /// Nobody has decided and it is not over.
    pub(super) fn is_pending(&self) -> bool {
        self.view.decision.is_none() && self.view.ended.is_none()
    }

    /// Whether the actor may answer at all.
    pub(super) fn eligible(&self, actor: &Actor, people: &People) -> Result<(), Ineligible> {
        if !self.profile.includes(actor, self.view.escalated) {
            return Err(Ineligible::NotApprover);
        }
        if self.is_requester(actor, people) {
            return Err(Ineligible::OwnRequest);
        }
        if !self.requester_is_known && self.profile.unknown_requester == UnknownRequester::Refuse {
            return Err(Ineligible::UnknownRequester);
        }
        if self.profile.unknown_requester == UnknownRequester::Refuse && self.may_be_requester(actor, people) {
            return Err(Ineligible::MayBeOwn);
        }
        Ok(())
    }

    fn may_be_requester(&self, actor: &Actor, people: &People) -> bool {
        may_be_requester(actor, people, &self.view.request)
    }

    /// Approvals there are with these, and needed at least.
    fn count(&self, votes: &[&Actor], people: &People) -> (usize, usize) {
        // Fail closed: of approvals that may be the requester's own one more is needed than there are requesters.
        let is_another = votes.iter().any(|actor| !self.may_be_requester(actor, people));
        let missing = |(profile, escalated): (&Profile, usize)| {
            let own: Vec<&Actor> = votes.iter().copied().filter(|actor| profile.includes(actor, escalated)).collect();
            let needed = profile.needed(self.requester_is_known && is_another);
            needed.saturating_sub(certainly_different(&own, people))
        };
        let missing = self.profile.each(self.view.escalated).into_iter().map(missing).max().unwrap_or(1);
        let have = certainly_different(votes, people);
        (have, have.saturating_add(missing))
    }

    /// Which owners are still to agree once the actor has, in words.
    fn missing_with(&self, actor: &Actor) -> String {
        let votes: Vec<Actor> = self.approved.iter().chain([actor]).cloned().collect();
        let missing = owners_missing(&self.profile, &votes).join("; ");
        if missing.is_empty() { missing } else { format!("; still to agree: {missing}") }
    }

    fn is_requester(&self, actor: &Actor, people: &People) -> bool {
        // Whoever asks beforehand asks, whichever database user it is for.
        if self.view.request.beforehand.as_ref().is_some_and(|own| actor.is_named(&own.by)) {
            return true;
        }
        people
            .iter()
            .any(|person| actor.is_named(&person.name) && people.is_own(&self.view.request.origin, &person.name))
    }

    /// What the answer would do. Changes nothing.
    pub(super) fn consider(&self, submission: &Submission, people: &People) -> Result<Step, Denied> {
        let request = &self.view.request;
        if submission.break_glass && submission.approve {
            if !self.profile.may_break_glass(&submission.actor) {
                return Err(Ineligible::NotBreakGlass.into());
            }
            if submission.reason.is_none() {
                return Err(Denied::ReasonNeeded);
            }
        } else {
            self.eligible(&submission.actor, people)?;
        }
        if let Some(ended) = &self.view.ended {
            return Err(Refused::Ended(ended.clone()).into());
        }
        if let Some(decision) = &self.view.decision {
            return Err(Refused::Decided(decision.clone()).into());
        }
        // An approval is for what was shown.
        let shown = submission.statement_sha256.as_deref();
        if shown.is_some_and(|shown| !shown.eq_ignore_ascii_case(&request.statement.sha256)) {
            return Err(Denied::OtherStatement);
        }
        // A rejection of what it was is one of what it is.
        if submission.approve && submission.round.is_some_and(|round| round != self.view.round) {
            return Err(Denied::Changed(self.view.changed.clone()));
        }
        // Fail closed: the session's timer may be late, the deadline is not.
        if submission.at >= request.deadline {
            return Err(Refused::Late { deadline: request.deadline }.into());
        }
        self.consider_again(submission)?;
        let (by, reason, at) = (submission.said_by(), submission.reason.clone(), submission.at);
        if !submission.approve {
            return Ok(Step::Decide(Decision::Reject { by, reason, at }));
        }
        if submission.break_glass {
            return Ok(Step::Decide(Decision::Approve { by, reason, at, under: None }));
        }
        let mut votes: Vec<&Actor> = self.approved.iter().collect();
        if votes.iter().any(|vote| vote.identity == submission.actor.identity) {
            let (have, need) = self.count(&votes, people);
            return Err(Denied::AlreadyApproved { have, need });
        }
        votes.push(&submission.actor);
        let (have, need) = self.count(&votes, people);
        if have < need {
            return Ok(Step::Count { have, need });
        }
        let by = self.view.approved_by.iter().cloned().chain([by]).collect::<Vec<_>>().join(", ");
        Ok(Step::Decide(Decision::Approve { by, reason, at, under: None }))
    }

    /// A request that is decided by what was approved earlier.
    pub(super) fn decide_under(&mut self, decision: &Decision, under: &HoldId) {
        self.view.decision = Some(decision.clone());
        self.note(decision.at(), format!("released under the standing approval of request {under}"));
    }

    /// The answer is on record.
    pub(super) fn apply(&mut self, submission: &Submission, step: &Step) {
        let by = &submission.said_by();
        let said = submission.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let what = match (step, submission.approve) {
            (_, false) => format!("rejected by {by}{said}"),
            (_, true) if submission.break_glass => format!("released in an emergency by {by} alone{said}"),
            (Step::Count { have, need }, true) => {
                let missing = self.missing_with(&submission.actor);
                format!("approved by {by} ({have} of {need}{missing}){said}")
            }
            (Step::Decide(_), true) => format!("approved by {by}{said}"),
        };
        if let Step::Count { need, .. } = step {
            self.view.quorum = *need;
        }
        let until = self.stands_until(submission);
        self.again = self.agreed_again(submission);
        let is_new = self.approved.iter().all(|vote| vote.identity != submission.actor.identity);
        if submission.approve && is_new {
            self.approved.push(submission.actor.clone());
            self.view.approved_by.push(by.clone());
            self.view.owners_missing = owners_missing(&self.profile, &self.approved);
        }
        if let Step::Decide(decision) = step {
            self.view.decision = Some(decision.clone());
            if submission.break_glass && submission.approve {
                self.broken(by.clone(), submission.reason.clone());
            }
        }
        self.note(submission.at, what);
        if let (Step::Decide(Decision::Approve { .. }), Some(until)) = (step, until) {
            self.view.again = Some(Again { until, uses: 0, ended: None });
            self.note(submission.at, format!("the same statement may run again in its session until {until:.0}"));
        }
    }

    /// One person released it alone: until another has looked, a review is open.
    fn broken(&mut self, by: String, why: Option<String>) {
        self.view.break_glass = true;
        self.view.review = Some(Review { broken_by: by, why, acknowledged: None });
    }

    /// An earlier process took the emergency release in; its review is still open.
    pub(super) fn was_broken(&mut self, alone: &Decision, now: Timestamp) {
        let (by, why) = (alone.by(), alone.reason());
        self.broken(by.to_owned(), why.map(str::to_owned));
        self.view.decision = Some(alone.clone());
        let said = why.map(|why| format!(": {why}")).unwrap_or_default();
        self.note(alone.at(), format!("released in an emergency by {by} alone{said}"));
        self.last_reminder = now;
    }

    /// Whether the actor may look at the emergency release for everybody: entitled, neither who released it nor who asked for it.
    pub(super) fn may_review(&self, actor: &Actor, people: &People) -> Result<(), Denied> {
        if !self.profile.includes(actor, usize::MAX) {
            return Err(Ineligible::NotApprover.into());
        }
        let Some(review) = &self.view.review else {
            return Err(Denied::NothingToReview);
        };
        if actor.is_named(&review.broken_by) || may_be(actor, &review.broken_by, people) {
            return Err(Ineligible::BrokeGlass.into());
        }
        if self.is_requester(actor, people) {
            return Err(Ineligible::OwnRequest.into());
        }
        // Fail closed: somebody else has to look, not somebody who may be the same.
        if self.profile.unknown_requester != UnknownRequester::Allow && self.may_be_requester(actor, people) {
            return Err(Ineligible::MayBeOwn.into());
        }
        match &review.acknowledged {
            Some(acknowledged) => Err(Denied::AlreadyReviewed { by: acknowledged.by.clone() }),
            None => Ok(()),
        }
    }

    /// The acknowledgement is on record.
    pub(super) fn reviewed(&mut self, acknowledgement: &Acknowledgement) {
        let Some(review) = &mut self.view.review else { return };
        let Acknowledgement { actor, comment, at, .. } = acknowledgement;
        let by = actor.identity.clone();
        let said = comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
        let what = format!("the emergency release was reviewed by {by}{said}");
        review.acknowledged = Some(Acknowledged { by, comment: comment.clone(), at: *at });
        self.note(*at, what);
    }

    /// What its statement did was undone, which is on record.
    pub(super) fn undone(&mut self, undone: Undone, at: Timestamp) {
        let what = undone.to_string();
        self.view.undone.push(undone);
        self.note(at, what);
    }

    pub(super) fn end(&mut self, ended: &Ended, what: String) {
        if self.view.decision.is_none() {
            self.view.decision.clone_from(&ended.decision);
        }
        self.view.ended = Some(ended.clone());
        self.note(ended.at, what);
    }

    pub(super) fn executed(&mut self, execution: &Execution, at: Timestamp) {
        let execution = quiet(self.view.request.redact, execution.clone());
        let what = match &execution {
            Execution::Completed { tag, duration_ms, kept, .. } => {
                let kept = kept.as_ref().map(|kept| format!("; {kept}")).unwrap_or_default();
                format!("executed: {tag}, {duration_ms} ms{kept}")
            }
            Execution::Failed { sqlstate, message, .. } => format!("failed in the database: {sqlstate} {message}"),
            Execution::Unknown => "released, but its result is not known".to_owned(),
        };
        self.view.execution = Some(execution);
        self.note(at, what);
    }

    /// The number of the escalation step that is due, from 1.
    pub(super) fn due_escalation(&self, now: Timestamp) -> Option<usize> {
        let next = self.profile.escalation.get(self.view.escalated)?;
        (self.is_pending() && elapsed(self.view.request.opened_at, now) >= next.after)
            .then(|| self.view.escalated.saturating_add(1))
    }

    pub(super) fn escalate(&mut self, step: usize, now: Timestamp) {
        let Some(escalation) = step.checked_sub(1).and_then(|index| self.profile.escalation.get(index)) else {
            return;
        };
        self.view.escalated = step;
        self.view.audience = Audience::of(&self.profile, step);
        self.view.escalated_to = escalation.approvers.in_words();
        let what = format!("nobody has decided; asked besides: {}", self.view.escalated_to);
        self.note(now, what);
    }

    /// Whether a reminder is due; if so it is noted as given.
    pub(super) fn take_reminder(&mut self, now: Timestamp) -> bool {
        let every = self.profile.remind_every;
        let due = (self.is_pending() || self.view.is_unreviewed())
            && !every.is_zero()
            && elapsed(self.last_reminder, now) >= every;
        if due {
            self.last_reminder = now;
        }
        due
    }

    fn note(&mut self, at: Timestamp, what: String) {
        self.view.timeline.push(Milestone { at, what });
        self.view.revision = self.view.revision.saturating_add(1);
    }
}

/// Owners none of whom is among those who voted, in words.
fn owners_missing(profile: &Profile, votes: &[Actor]) -> Vec<String> {
    let owners = profile.parts.iter().filter_map(|part| Some((part, part.owners.clone()?)));
    let missing = owners.filter(|(part, _)| !votes.iter().any(|vote| part.approvers.include(vote)));
    missing.map(|(_, words)| words).collect()
}

/// The request as everybody outside the admin API sees it: what the rules want hidden is taken out here, once, so that no
/// channel can forget to.
fn for_channels(request: &Arc<HoldRequest>) -> Arc<HoldRequest> {
    if request.redact.is_none() {
        return Arc::clone(request);
    }
    let mut hidden = HoldRequest::clone(request);
    hide(Redact::None, &mut hidden);
    Arc::new(hidden)
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    let passed: SignedDuration = now.duration_since(since);
    Duration::try_from(passed).unwrap_or_default()
}

mod again;
mod examination;
mod window;

pub(super) use window::OVER;

#[cfg(test)]
mod tests;
