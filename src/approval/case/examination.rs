//! The part of a case that is about what the statement would touch: shown, on record, and not so any more.

use std::sync::Arc;

use jiff::Timestamp;

use super::Case;
use crate::impact::Impact;
use crate::store::{Event, StoredEvent};

impl Case {
    /// What it would touch is being looked into.
    pub(in crate::approval) fn begin_examination(mut self) -> Self {
        self.view.examining = true;
        self
    }

    /// What it would touch is on record.
    pub(in crate::approval) fn examined(&mut self, mut impact: Impact, at: Timestamp) {
        self.shown = Some(Arc::new(impact.clone()));
        if !self.view.request.redact.is_none() {
            impact.hush();
        }
        let what = match &impact.trouble {
            None => "the database was asked what it would touch".to_owned(),
            Some(why) => format!("what it would touch could not be had: {why}"),
        };
        self.view.impact = Some(Arc::new(impact));
        self.view.examining = false;
        self.note(at, what);
    }

    /// It is not what people were shown any more: whatever they answered, they are asked anew.
    pub(in crate::approval) fn changed(&mut self, impact: Impact, changed: Vec<String>, at: Timestamp) {
        self.approved.clear();
        self.view.approved_by.clear();
        self.again = None;
        self.view.quorum = self.profile.needed(self.requester_is_known);
        self.view.round = self.view.round.saturating_add(1);
        self.examined(impact, at);
        self.note(at, "it has changed since it was shown, so it is asked anew".to_owned());
        self.view.changed = changed;
    }

    /// An earlier process put on record what people were shown.
    pub(in crate::approval) fn restore_examination(&mut self, history: &[StoredEvent]) {
        let examined = history.iter().rev().find_map(|event| {
            let Event::Examined { impact, .. } = &event.event else { return None };
            Some(Arc::new((**impact).clone()))
        });
        self.shown.clone_from(&examined);
        self.view.impact = examined;
    }
}
