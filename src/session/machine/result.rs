//! What the database says to a statement that was released. Before a hold opens every answer has been received, so what comes
//! first after the release belongs to it.

use super::{Action, Machine};
use crate::wire::backend;

/// The database's word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Command tags, in order.
    pub tags: Vec<String>,
    /// SQLSTATE and message of the error that ended it.
    pub error: Option<(String, String)>,
    /// Its end was not seen: the client did not execute its portal to the end.
    pub unfinished: bool,
    /// No transaction was open behind it, and nothing else had been sent: what it did stays. (Unless its own text says otherwise.)
    pub committed: bool,
    /// What is said of its rows, where they are kept for an undo.
    pub kept: Option<String>,
}

/// The released statement whose result is outstanding.
#[derive(Debug)]
pub(super) struct Watch {
    /// Of a Bind; otherwise a Query.
    portal: bool,
    /// Nothing else has been sent since.
    alone: bool,
    /// The portal has run to its end. What becomes of it the Sync behind it tells.
    complete: bool,
    seen: Seen,
}

impl Watch {
    fn new(portal: bool) -> Self {
        Self { portal, alone: true, complete: false, seen: Seen::default() }
    }
}

impl Machine {
    pub(super) fn watch_query(&mut self) {
        self.finish_watch(true);
        self.watch = Some(Box::new(Watch::new(false)));
    }

    pub(super) fn watch_portal(&mut self) {
        self.finish_watch(true);
        self.watch = Some(Box::new(Watch::new(true)));
    }

    /// Something else is sent while the result of a portal is outstanding, which was `executed` or not.
    pub(super) fn watch_not_alone(&mut self, executed: bool) {
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.portal) else { return };
        watch.alone = false;
        if watch.complete || !executed {
            let unfinished = !watch.complete;
            self.finish_watch(unfinished);
        }
    }

    /// The portal is gone, or its name is another's.
    pub(super) fn watch_no_more(&mut self) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| watch.portal) {
            let unfinished = !watch.complete;
            self.finish_watch(unfinished);
        }
    }

    /// CommandComplete for a Query (`portal` false) or for a watched Execute.
    pub(super) fn saw_tag(&mut self, portal: bool, body: Option<&[u8]>) {
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.portal == portal && !watch.complete) else {
            return;
        };
        let tag = body.unwrap_or_default();
        watch.seen.tags.push(String::from_utf8_lossy(tag.strip_suffix(b"\0").unwrap_or(tag)).into_owned());
        watch.complete = portal;
        if portal && !watch.alone {
            self.finish_watch(false);
        }
    }

    /// What is said of its rows.
    pub(super) fn saw_kept(&mut self, said: Option<String>) {
        if let Some(watch) = &mut self.watch {
            watch.seen.kept = said;
        }
    }

    /// An error of the server's own.
    pub(super) fn saw_error(&mut self, body: Option<&[u8]>) {
        let Some(watch) = &mut self.watch else { return };
        let field = |code| {
            let value = body.and_then(|body| backend::report_field(body, code)).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        watch.seen.error = Some((field(b'C'), field(b'M')));
        self.finish_watch(false);
    }

    /// ReadyForQuery: a Query is over, and outside a transaction so is every portal.
    pub(super) fn saw_ready(&mut self, ends_query: bool, status: u8) {
        let Some(watch) = &mut self.watch else { return };
        watch.seen.committed = status == b'I' && watch.alone;
        match watch.portal {
            false if ends_query => self.finish_watch(false),
            true if watch.complete => self.finish_watch(false),
            true if status == b'I' => self.finish_watch(true),
            false | true => {}
        }
    }

    fn finish_watch(&mut self, unfinished: bool) {
        if let Some(watch) = self.watch.take() {
            self.act(Action::Executed(Seen { unfinished, ..watch.seen }));
        }
    }
}
