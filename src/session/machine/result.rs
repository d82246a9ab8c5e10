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
}

/// The released statement whose result is outstanding.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None`: a Query.
    portal: Option<Box<[u8]>>,
    seen: Seen,
}

impl Machine {
    pub(super) fn watch_query(&mut self) {
        self.watch = Some(Box::new(Watch { portal: None, seen: Seen::default() }));
    }

    pub(super) fn watch_portal(&mut self, portal: &[u8]) {
        self.watch = Some(Box::new(Watch { portal: Some(portal.into()), seen: Seen::default() }));
    }

    /// Whether the result of executing this portal is wanted.
    pub(super) fn is_watched(&self, executed: &[u8]) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.portal.as_deref() == Some(executed))
    }

    /// CommandComplete for a Query (`portal` false) or for a watched Execute.
    pub(super) fn saw_tag(&mut self, portal: bool, body: Option<&[u8]>) {
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.portal.is_some() == portal) else {
            return;
        };
        let tag = body.unwrap_or_default();
        watch.seen.tags.push(String::from_utf8_lossy(tag.strip_suffix(b"\0").unwrap_or(tag)).into_owned());
        if portal {
            self.finish_watch(false);
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
        let Some(watch) = &self.watch else { return };
        match watch.portal {
            None if ends_query => self.finish_watch(false),
            Some(_) if status == b'I' => self.finish_watch(true),
            None | Some(_) => {}
        }
    }

    fn finish_watch(&mut self, unfinished: bool) {
        if let Some(watch) = self.watch.take() {
            self.act(Action::Executed(Seen { unfinished, ..watch.seen }));
        }
    }
}
