//! What the session is asked before a statement of it is held: the role it acts as, its `search_path`, and the settings by which
//! literals are read. Only the session itself knows: newer servers report some of it, older ones none, and a function may have set
//! any. Knows no people.
//!
//! Asked with SHOW, in the extended protocol and under names of the gate's own: it takes no snapshot and no lock
//! (`PlannedStmtRequiresSnapshot`), nothing of anybody's can stand in its place, and the client's unnamed statement and portal stay
//! as they are.

use super::held::Digest;
use crate::hold::Setting;
use crate::wire::backend;
use crate::wire::frame::build;

/// What is asked for, in this order.
const WANTED: [&[u8]; 6] = [
    b"SHOW search_path",
    b"SHOW role",
    b"SHOW session_authorization",
    b"SHOW TimeZone",
    b"SHOW DateStyle",
    b"SHOW IntervalStyle",
];

/// Names of the last ones.
const READING: [&str; 3] = ["TimeZone", "DateStyle", "IntervalStyle"];

/// Answers to the messages of one: ParseComplete, BindComplete, DataRow, CommandComplete, and CloseComplete of portal and statement.
const ANSWERS: [u8; 6] = *b"12DC33";

/// Longest value that is shown; a longer one counts as unknown.
const MAX_VALUE: usize = 1 << 10;

/// A question that is on its way.
#[derive(Debug)]
pub(super) struct Asking {
    /// Which of [`WANTED`] is being answered.
    at: usize,
    /// Which of its [`ANSWERS`] comes next.
    step: usize,
    values: [Option<String>; WANTED.len()],
    /// Digest of the text at the front if it is a Query; `None` for a Bind.
    pub(super) query: Option<Digest>,
}

/// How far the answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
    /// That is no answer to this question.
    Unexpected,
}

impl Asking {
    pub(super) fn new(query: Option<Digest>) -> Self {
        Self { at: 0, step: 0, values: Default::default(), query }
    }

    /// The messages that ask, without the Sync or Flush behind them. `name` is nobody else's.
    pub(super) fn messages(name: &str) -> Vec<u8> {
        let name = name.as_bytes();
        WANTED
            .iter()
            .flat_map(|text| {
                [
                    build(b'P', &[name, b"\0", text, b"\0", &[0; 2]]),
                    build(b'B', &[name, b"\0", name, b"\0", &[0; 6]]),
                    build(b'E', &[name, b"\0", &[0; 4]]),
                    build(b'C', &[b"P", name, b"\0"]),
                    build(b'C', &[b"S", name, b"\0"]),
                ]
            })
            .flatten()
            .collect()
    }

    /// One answer more.
    pub(super) fn answer(&mut self, tag: u8, body: Option<&[u8]>) -> Progress {
        if ANSWERS.get(self.step) == Some(&b'D') && tag == b'C' {
            // SHOW always has a row; one that does not come leaves its value unknown.
            self.step = self.step.saturating_add(1);
        }
        if ANSWERS.get(self.step) != Some(&tag) {
            return Progress::Unexpected;
        }
        if tag == b'D'
            && let Some(value) = self.values.get_mut(self.at)
        {
            let text = body.and_then(backend::only_column).filter(|text| text.len() <= MAX_VALUE);
            *value = text.and_then(|text| std::str::from_utf8(text).ok()).map(str::to_owned);
        }
        self.step = self.step.saturating_add(1);
        if self.step == ANSWERS.len() {
            self.step = 0;
            self.at = self.at.saturating_add(1);
        }
        if self.at == WANTED.len() { Progress::Done } else { Progress::More }
    }

    /// What was learnt.
    pub(super) fn setting(self) -> Setting {
        let [search_path, role, authorization, time_zone, date_style, interval_style] = self.values;
        // "none": no SET ROLE is in force, and the session acts as who it was authorised as (`show_role`).
        let role = match role {
            Some(none) if none == "none" => authorization,
            other => other,
        };
        let known = READING.into_iter().zip([time_zone, date_style, interval_style]);
        let reading = known.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Setting { search_path, role, reading }
    }
}
