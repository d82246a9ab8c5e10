//! The part of a case that is about "this statement again, in this session": what may be given, whether another request is for it,
//! and who may end it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Case, Denied, Ineligible};
use crate::approval::channel::{Actor, Submission};
use crate::approval::people::People;
use crate::approval::profile::Profile;
use crate::hold::{Decision, HoldRequest, Outcome};

/// For how long a request may be approved again at most, if it may and its session can tell the statement again.
pub(super) fn longest(profile: &Profile, request: &HoldRequest) -> Option<Duration> {
    Some(profile.again).filter(|again| !again.is_zero() && request.standing.same.is_some())
}

impl Case {
    /// Whether a standing approval may be given with the answer.
    pub(super) fn consider_again(&self, submission: &Submission) -> Result<(), Denied> {
        let Some(again) = submission.again else { return Ok(()) };
        let longest = self.view.may_again.filter(|_| submission.approve && !submission.break_glass);
        let longest = longest.ok_or(Denied::OnlyOnce)?;
        if again > longest || again.is_zero() {
            return Err(Denied::AgainTooLong { longest });
        }
        Ok(())
    }

    /// The standing approval after an approval: as long as everybody says, and none if somebody says nothing of it.
    pub(super) fn agreed_again(&self, submission: &Submission) -> Option<Duration> {
        if !submission.approve || submission.break_glass {
            return None;
        }
        if self.approved.is_empty() {
            return submission.again;
        }
        self.again.zip(submission.again).map(|(one, other)| one.min(other))
    }

    /// Until when the decision that the answer makes stands.
    pub(in crate::approval) fn stands_until(&self, submission: &Submission) -> Option<Timestamp> {
        let again = self.agreed_again(submission)?;
        submission.at.checked_add(SignedDuration::try_from(again).ok()?).ok()
    }

    /// The decision for another request by this one's standing approval, if it is for it.
    pub(in crate::approval) fn again_for(&self, request: &HoldRequest, now: Timestamp) -> Option<Decision> {
        self.view.again.as_ref().filter(|again| again.ended.is_none() && now < again.until)?;
        let own = &self.view.request;
        let released = self.view.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Released);
        // The session vouches for the statement with its values, and for role, settings and names; what it said of itself then and now, and
        // the rest, is compared here. (Values
        // as shown are not: they may be redacted.)
        let is_same = request.standing.same.is_some()
            && request.standing.same == own.standing.same
            && request.origin.session == own.origin.session
            && request.origin.user == own.origin.user
            && request.origin.database == own.origin.database
            && request.setting == own.setting
            && request.in_transaction == own.in_transaction
            && request.statement.sha256 == own.statement.sha256
            && !request.statement.lossy
            && request.rule == own.rule
            && request.also == own.also
            && request.owners == own.owners
            && request.policy_version == own.policy_version;
        let Some(Decision::Approve { by, .. }) = self.view.decision.as_ref().filter(|_| released && is_same) else {
            return None;
        };
        Some(Decision::Approve { by: by.clone(), reason: None, at: now, under: Some(own.id.clone()) })
    }

    pub(in crate::approval) fn used_again(&mut self, at: Timestamp) {
        let Some(again) = &mut self.view.again else { return };
        again.uses = again.uses.saturating_add(1);
        if again.uses == 1 {
            self.note(at, "ran again in its session under this approval, for the first time".to_owned());
        } else {
            self.view.revision = self.view.revision.saturating_add(1);
        }
    }

    pub(in crate::approval) fn end_again(&mut self, why: &str, at: Timestamp) {
        let Some(again) = self.view.again.as_mut().filter(|again| again.ended.is_none()) else { return };
        again.ended = Some(why.to_owned());
        let uses = again.uses;
        self.note(at, format!("its approval stands no more: {why}; it ran again {uses} times"));
    }

    /// Whether the actor may end the standing approval: whoever may decide the request at some time, and whoever asked.
    pub(in crate::approval) fn may_revoke(&self, actor: &Actor, people: &People) -> Result<(), Ineligible> {
        let may = self.profile.may_ever_include(actor) || self.is_requester(actor, people);
        if may { Ok(()) } else { Err(Ineligible::NotApprover) }
    }
}
