//! The one place that says whether a person may decide a request, and records that they did. Knows no HTTP and no
//! chat: every channel asks here.
//!
//! Start at [`ApprovalDesk`].

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::hold::{Board, Decision, Hold, HoldId, HoldRequest, Phase, Refused, Subscription};

use super::people::Person;
use super::settings::ApprovalSettings;

/// Longest reason kept with a decision.
pub const MAX_REASON_CHARS: usize = 1_000;

/// Takes answers for the board. Shared by all channels.
pub struct ApprovalDesk {
    board: Board,
    settings: ArcSwap<ApprovalSettings>,
}

/// What somebody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Run it, or refuse it.
    pub approve: bool,
    /// Their words.
    pub reason: Option<String>,
    /// Digest of the statement they were shown; if given, it must be that of the request.
    pub statement_sha256: Option<String>,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// They may not decide this one.
    #[error(transparent)]
    Ineligible(#[from] Ineligible),
    /// The board refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// They were shown something else.
    #[error("the request's statement is not the one that was shown")]
    OtherStatement,
    /// Their reason is too long.
    #[error("a reason has at most {MAX_REASON_CHARS} characters")]
    ReasonTooLong,
}

/// Why a person may not decide a request, whatever its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ineligible {
    /// Not in an approver group and not named as approver.
    #[error("not an approver")]
    NotApprover,
    /// They work as the database user that asks.
    #[error("nobody decides their own request")]
    OwnRequest,
    /// It cannot be told whose request it is, and the configuration demands it.
    #[error("the requester is not known, so it might be anybody's own request")]
    UnknownRequester,
}

impl ApprovalDesk {
    /// A desk for a board.
    #[must_use]
    pub fn new(board: Board, settings: ApprovalSettings) -> Self {
        Self { board, settings: ArcSwap::from_pointee(settings) }
    }

    /// Uses other settings from now on, for open requests too.
    pub fn reload(&self, settings: ApprovalSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self) -> Arc<ApprovalSettings> {
        self.settings.load_full()
    }

    /// Records an answer: entitled, about what was shown, in time, and first. The last two are one step on the board.
    ///
    /// # Errors
    ///
    /// Why it does not count. Somebody who may not even see the request learns only that it is unknown.
    pub fn decide(
        &self,
        person: &Person,
        id: &HoldId,
        answer: Answer,
        at: Timestamp,
    ) -> Result<Arc<HoldRequest>, Denied> {
        let reason = tidy_reason(answer.reason)?;
        let hold = self.find(person, id).ok_or(Refused::Unknown)?;
        let request = hold.request;
        self.may_decide(person, &request)?;
        // An approval is for what was shown.
        let shown = answer.statement_sha256;
        if shown.is_some_and(|shown| !shown.eq_ignore_ascii_case(&request.statement.sha256)) {
            return Err(Denied::OtherStatement);
        }
        let by = person.name.clone();
        let decision =
            if answer.approve { Decision::Approve { by, reason, at } } else { Decision::Reject { by, reason, at } };
        Ok(self.board.decide(id, decision)?)
    }

    /// Whether a person may decide a request, leaving its state aside.
    pub fn may_decide(&self, person: &Person, request: &HoldRequest) -> Result<(), Ineligible> {
        let settings = self.settings.load();
        if !settings.is_approver(person) {
            return Err(Ineligible::NotApprover);
        }
        let mut known = false;
        for requester in settings.people.working_as(&request.origin.user) {
            known = true;
            if requester.name == person.name {
                return Err(Ineligible::OwnRequest);
            }
        }
        if !known && settings.require_known_requester {
            return Err(Ineligible::UnknownRequester);
        }
        Ok(())
    }

    /// Approvers see everything, others the requests of the database users they work as.
    #[must_use]
    pub fn may_see(&self, person: &Person, request: &HoldRequest) -> bool {
        let settings = self.settings.load();
        settings.is_approver(person)
            || settings.people.working_as(&request.origin.user).any(|requester| requester.name == person.name)
    }

    /// What waits, oldest first, as far as they may see it.
    #[must_use]
    pub fn list(&self, person: &Person) -> Vec<Hold> {
        self.seen_by(person, self.board.list())
    }

    /// What ended lately, newest first, as far as they may see it.
    #[must_use]
    pub fn recent(&self, person: &Person, limit: usize) -> Vec<Hold> {
        let mut holds = self.seen_by(person, self.board.recent(usize::MAX));
        holds.truncate(limit);
        holds
    }

    /// One request, if it is remembered and they may see it.
    #[must_use]
    pub fn find(&self, person: &Person, id: &HoldId) -> Option<Hold> {
        self.board.find(id).filter(|hold| self.may_see(person, &hold.request))
    }

    /// Every change on the board; who may see which is for the caller to ask ([`ApprovalDesk::may_see`]).
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.board.subscribe()
    }

    /// How many wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        let holds = self.board.list();
        holds.iter().filter(|hold| hold.phase == Phase::Pending).count()
    }

    fn seen_by(&self, person: &Person, mut holds: Vec<Hold>) -> Vec<Hold> {
        holds.retain(|hold| self.may_see(person, &hold.request));
        holds
    }
}

/// One line of visible text, or nothing: it goes to clients' terminals and to logs.
fn tidy_reason(reason: Option<String>) -> Result<Option<String>, Denied> {
    let Some(reason) = reason else {
        return Ok(None);
    };
    let words: String = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !crate::approval::is_deceptive(*c))
        .collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() > MAX_REASON_CHARS {
        return Err(Denied::ReasonTooLong);
    }
    Ok(Some(words).filter(|words| !words.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::testing::{at, desk, opened, person};
    use crate::hold::Outcome;

    fn yes() -> Answer {
        Answer { approve: true, reason: None, statement_sha256: None }
    }

    #[test]
    fn members_of_an_approver_group_and_named_approvers_decide_and_nobody_else() {
        for (name, expected) in [("ann", Ok(())), ("carol", Ok(())), ("dev", Err(Ineligible::NotApprover))] {
            let (desk, board) = desk();
            let ticket = opened(&board, "app");
            assert_eq!(desk.may_decide(&person(&desk, name), ticket.request()), expected);
        }
    }

    #[test]
    fn a_requester_never_decides_their_own_request_even_as_approver() {
        let (desk, board) = desk();
        let ticket = opened(&board, "ann_db");
        let denied = desk.decide(&person(&desk, "ann"), ticket.id(), yes(), at(1));
        assert_eq!(denied, Err(Denied::Ineligible(Ineligible::OwnRequest)));
        assert_eq!(board.find(ticket.id()).map(|hold| hold.phase), Some(Phase::Pending));
        desk.decide(&person(&desk, "bob"), ticket.id(), yes(), at(1)).unwrap();
        assert_eq!(ticket.finish(at(2)), Outcome::Released);
    }

    #[test]
    fn an_unknown_requester_is_decided_by_any_approver_unless_the_configuration_demands_one() {
        let (desk, board) = desk();
        let ticket = opened(&board, "stranger");
        let ann = person(&desk, "ann");
        assert_eq!(desk.may_decide(&ann, ticket.request()), Ok(()));
        let mut strict = (*desk.settings()).clone();
        strict.require_known_requester = true;
        desk.reload(strict);
        assert_eq!(desk.may_decide(&ann, ticket.request()), Err(Ineligible::UnknownRequester));
    }

    #[test]
    fn an_answer_about_another_statement_does_not_count() {
        let (desk, board) = desk();
        let ticket = opened(&board, "app");
        let mut answer = yes();
        answer.statement_sha256 = Some("11".repeat(32));
        let ann = person(&desk, "ann");
        assert_eq!(desk.decide(&ann, ticket.id(), answer.clone(), at(1)), Err(Denied::OtherStatement));
        answer.statement_sha256 = Some(ticket.request().statement.sha256.to_uppercase());
        assert!(desk.decide(&ann, ticket.id(), answer, at(1)).is_ok());
    }

    #[test]
    fn outsiders_see_their_own_requests_and_hear_nothing_of_others() {
        let (desk, board) = desk();
        let own = opened(&board, "dev_db");
        let other = opened(&board, "app");
        let dev = person(&desk, "dev");
        let seen: Vec<_> = desk.list(&dev).into_iter().map(|hold| hold.request.id.clone()).collect();
        assert_eq!(seen, [own.id().clone()]);
        assert_eq!(desk.decide(&dev, other.id(), yes(), at(1)), Err(Denied::Refused(Refused::Unknown)));
        assert_eq!(desk.decide(&dev, own.id(), yes(), at(1)), Err(Denied::Ineligible(Ineligible::NotApprover)));
        drop(other);
        assert!(desk.recent(&dev, 10).is_empty());
    }

    #[test]
    fn a_reason_is_one_line_of_visible_text_within_its_limit() {
        let tidy = |text: &str| tidy_reason(Some(text.to_owned()));
        assert_eq!(tidy(" wrong\n table\u{1b}[2J\u{202e} "), Ok(Some("wrong table [2J".to_owned())));
        assert_eq!(tidy(" \t "), Ok(None));
        assert_eq!(tidy(&"x".repeat(MAX_REASON_CHARS + 1)), Err(Denied::ReasonTooLong));
    }
}
