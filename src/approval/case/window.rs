//! The part of a case that is about statements asked for beforehand: what has passed, and when no more may.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Case;
use crate::approval::channel::Window;
use crate::hold::{Decision, HoldRequest};
use crate::store::{Event, StoredEvent};

/// Nothing has passed yet.
pub(super) fn of(request: &HoldRequest) -> Option<Window> {
    let own = request.beforehand.as_ref()?;
    Some(Window { statements: own.statements.len(), ..Window::default() })
}

/// The first line of a request's history.
pub(super) fn beginning(request: &HoldRequest) -> String {
    match &request.beforehand {
        Some(own) => format!("asked beforehand by {}", own.by),
        None => format!("held by rule {}", request.rule),
    }
}

impl Case {
    /// Some of the statements pass as another request.
    pub(in crate::approval) fn passed(&mut self, statements: &[usize], what: String, at: Timestamp) {
        let Some(window) = &mut self.view.window else { return };
        window.passed.extend(statements.iter().copied());
        if window.passed.len() >= window.statements {
            window.over = Some("every statement has passed".to_owned());
        }
        self.note(at, what);
    }

    /// No more pass.
    pub(in crate::approval) fn end_window(&mut self, why: &str, at: Timestamp) {
        let Some(window) = &mut self.view.window else { return };
        window.over.get_or_insert_with(|| why.to_owned());
        self.note(at, format!("{why}: nothing more passes"));
    }

    /// What an earlier process put on record of it.
    pub(in crate::approval) fn restore_window(&mut self, history: &[StoredEvent]) -> BTreeSet<usize> {
        let Some(window) = &mut self.view.window else { return BTreeSet::new() };
        for event in history {
            match &event.event {
                Event::Used { statements, .. } => window.passed.extend(statements.iter().copied()),
                Event::Revoked { by, .. } => window.over = Some(format!("withdrawn by {by}")),
                Event::Lapsed { .. } => window.over = Some(OVER.to_owned()),
                Event::Started { .. }
                | Event::Stopped
                | Event::PolicyChanged { .. }
                | Event::Held { .. }
                | Event::Announced { .. }
                | Event::NotAnnounced { .. }
                | Event::Answered(_)
                | Event::Decided { .. }
                | Event::Escalated { .. }
                | Event::Examined { .. }
                | Event::Reminded { .. }
                | Event::Ended { .. }
                | Event::Executed { .. }
                | Event::Undone { .. }
                | Event::Granted { .. }
                | Event::Noticed { .. }
                | Event::WouldHaveHeld { .. }
                | Event::WouldHaveRejected { .. }
                | Event::Passed { .. }
                | Event::Reviewed { .. } => {}
            }
        }
        if window.passed.len() >= window.statements {
            window.over = Some("every statement has passed".to_owned());
        }
        window.passed.clone()
    }

    /// An earlier process had put the decision on record, and not yet what follows from it.
    pub(in crate::approval) fn was_decided(&mut self, decision: &Decision) {
        self.view.decision = Some(decision.clone());
    }

    /// It is asked again after a restart. Nobody is reminded at once.
    pub(in crate::approval) fn asked_again(&mut self, now: Timestamp) {
        self.last_reminder = now;
        self.note(now, "the gate was started again; approvals given so far have to be given again".to_owned());
    }
}

/// Why nothing more passes, once the time is over.
pub(in crate::approval) const OVER: &str = "its window is over";
