//! What the session is asked before a statement of it is held: the role it acts as, its `search_path`, and the settings by which
//! literals are read. Only the session itself knows: newer servers report some of it, older ones none, and a function may have set
//! any. Knows no people.
//!
//! Asked with SHOW: it takes no snapshot and no lock (`PlannedStmtRequiresSnapshot`), and nothing of anybody's can stand in its
//! place.

use super::errand::{Errand, Progress};
use super::held::Digest;
use crate::hold::Setting;
use crate::judge::READING;

/// What is asked for, in this order.
pub(super) const WANTED: [&str; 9] = [
    "SHOW search_path",
    "SHOW role",
    "SHOW session_authorization",
    "SHOW TimeZone",
    "SHOW DateStyle",
    "SHOW IntervalStyle",
    "SHOW timezone_abbreviations",
    "SHOW quote_all_identifiers",
    "SHOW array_nulls",
];

/// A question that is on its way.
#[derive(Debug)]
pub(super) struct Asking {
    errand: Errand,
    /// Digest of the text at the front if it is a Query; `None` for a Bind.
    pub(super) query: Option<Digest>,
}

impl Asking {
    pub(super) fn new(query: Option<Digest>) -> Self {
        Self { errand: Errand::new(WANTED.len()), query }
    }

    /// The messages that ask, without the Sync or Flush behind them. `name` is nobody else's.
    pub(super) fn messages(name: &str) -> Vec<u8> {
        Errand::messages(name, WANTED)
    }

    /// One answer more.
    pub(super) fn answer(&mut self, tag: u8, body: Option<&[u8]>) -> Progress {
        self.errand.answer(tag, body)
    }

    /// What was learnt.
    pub(super) fn setting(self) -> Setting {
        let mut values = self.errand.values().into_iter();
        let mut next = || values.next().flatten();
        let (search_path, role, authorization) = (next(), next(), next());
        // "none": no SET ROLE is in force, and the session acts as who it was authorised as (`show_role`).
        let role = match role {
            Some(none) if none == "none" => authorization,
            other => other,
        };
        let known = READING.into_iter().map(|name| (name, next()));
        let reading = known.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Setting { search_path, role, reading }
    }
}
