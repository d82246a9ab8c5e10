//! Statements that were approved beforehand: which of them have passed, and whether a held request is for the others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::kept_in;
use crate::hold::{HoldId, HoldRequest, SessionId, era};
use crate::impact::Own;

/// Statements that were approved beforehand, and which of them have passed.
#[derive(Debug, Clone)]
pub(in crate::approval::desk) struct Approved {
    pub(in crate::approval::desk) request: Arc<HoldRequest>,
    pub(super) profile: String,
    pub(super) by: String,
    /// What a session sent before it began is not for it.
    pub(super) since: u64,
    pub(super) used: BTreeSet<usize>,
    /// Those that have surely taken effect for every session.
    pub(super) evident: BTreeSet<usize>,
    /// Uses outside of transactions that the database has not answered.
    pub(super) running: HashMap<HoldId, Vec<usize>>,
    /// Sessions with a use within a transaction.
    pub(super) inside: HashSet<SessionId>,
}

impl Approved {
    /// It was approved, now or in an earlier process, where `used` of its statements have passed.
    pub(super) fn new(
        request: &Arc<HoldRequest>,
        profile: String,
        by: &str,
        used: BTreeSet<usize>,
        evident: BTreeSet<usize>,
    ) -> Self {
        Self {
            request: Arc::clone(request),
            profile,
            by: by.to_owned(),
            since: era::begin(),
            used,
            evident,
            running: HashMap::new(),
            inside: HashSet::new(),
        }
    }

    /// What its statements may have changed that have passed, for a look on behalf of `request`.
    pub(in crate::approval::desk) fn own(&self, request: &HoldRequest) -> Own {
        let text = &self.request.statement.text;
        let places = kept_in(text).unwrap_or_default();
        let ran = self.used.iter().filter_map(|index| places.get(*index).map(|(place, _)| *place)).collect();
        let unseen = request.in_transaction && self.inside.contains(&request.origin.session);
        Own::of(text, &ran).unseen(unseen)
    }

    /// Which of the statements the request consists of, if it is for these: each at most once.
    pub(super) fn matching(&self, request: &HoldRequest, profile: &str, now: Timestamp) -> Option<Vec<usize>> {
        let own = self.request.beforehand.as_ref()?;
        let (pieces, ran) = (request.standing.pieces.as_ref()?, request.standing.ran.as_ref()?);
        let fits = now < self.request.deadline
            && request.beforehand.is_none()
            && request.parameters.is_empty()
            && !request.statement.lossy
            && !pieces.is_empty()
            && request.origin.user == self.request.origin.user
            && request.origin.database == self.request.origin.database
            && profile == self.profile
            // Fail closed: whoever owns something else was not asked.
            && request.owners.iter().all(|owner| self.request.owners.iter().any(|asked| asked.same_owner(owner)));
        if !fits {
            return None;
        }
        // Fail closed: anything else that ran may have changed what the statements mean.
        let ours: BTreeSet<&str> = own.statements.iter().map(String::as_str).collect();
        if !ran.iter().all(|digest| ours.contains(hex::encode(digest).as_str())) {
            return None;
        }
        let has_run = self.has_run(request, &own.statements);
        // In the order in which they were shown; what was left out stays behind.
        let mut next = self.used.last().map_or(0, |last| last.saturating_add(1));
        let mut taken = Vec::new();
        for piece in pieces {
            let wanted = hex::encode(piece);
            let alike = own.statements.iter().enumerate().skip(next);
            let index = alike.filter(|(_, statement)| **statement == wanted).map(|(index, _)| index).next()?;
            // Fail closed: without those before it, it may mean something else (a table renamed away, one of the session's own made).
            let all = (0..index).all(|at| taken.contains(&at) || has_run.get(at).is_some_and(|has_run| *has_run));
            if !all {
                return None;
            }
            next = index.saturating_add(1);
            taken.push(index);
        }
        Some(taken)
    }

    /// Which of the statements have surely taken effect for what the request would run: they were sent in its session, in order and
    /// as often as they are shown; or, where it is not within a transaction (whose snapshot may be older), they are committed.
    fn has_run(&self, request: &HoldRequest, statements: &[String]) -> Vec<bool> {
        let done = request.standing.done.iter().filter(|done| done.era >= self.since);
        let mut done = done.map(|done| hex::encode(done.statement)).collect::<Vec<_>>().into_iter();
        let mut has_run = Vec::new();
        for (at, statement) in statements.iter().enumerate() {
            let mut rest = done.clone();
            let here = rest.any(|done| done == *statement);
            if here {
                done = rest;
            }
            has_run.push(here || !request.in_transaction && self.evident.contains(&at));
        }
        has_run
    }
}
