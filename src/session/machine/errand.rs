//! Commands of the gate's own that the session is given between the client's: sent in the extended protocol and under names of the
//! gate's own, so that the client's unnamed statement and portal stay as they are. Their answers are swallowed. Knows no reason
//! for them.

use crate::wire::backend;
use crate::wire::frame::build;

/// Answers to the messages of one: ParseComplete, BindComplete, DataRow, CommandComplete, and CloseComplete of portal and statement.
const ANSWERS: [u8; 6] = *b"12DC33";

/// Longest value that is kept; a longer one counts as unknown.
const MAX_VALUE: usize = 1 << 10;

/// Commands that are on their way.
#[derive(Debug)]
pub(super) struct Errand {
    /// Which command is being answered.
    at: usize,
    /// Which of its [`ANSWERS`] comes next.
    step: usize,
    /// What each said, for those that return a row.
    values: Vec<Option<String>>,
}

/// How far the answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
    /// That is no answer to this.
    Unexpected,
}

impl Errand {
    /// So many commands.
    pub(super) fn new(commands: usize) -> Self {
        Self { at: 0, step: 0, values: vec![None; commands] }
    }

    /// The messages of these commands, without the Sync or Flush behind them. `name` is nobody else's.
    pub(super) fn messages<T: AsRef<[u8]>>(name: &str, commands: impl IntoIterator<Item = T>) -> Vec<u8> {
        let name = name.as_bytes();
        commands
            .into_iter()
            .flat_map(|text| {
                [
                    build(b'P', &[name, b"\0", text.as_ref(), b"\0", &[0; 2]]),
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
            // SET has no row; a row that does not come leaves its value unknown.
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
        if self.at >= self.values.len() { Progress::Done } else { Progress::More }
    }

    /// What each said.
    pub(super) fn values(self) -> Vec<Option<String>> {
        self.values
    }
}
