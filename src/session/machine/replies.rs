//! The backend's outstanding answers, in the order they will come.
//!
//! Every message of the extended protocol has exactly one closing answer unless an error makes the server skip to the next
//! Sync; Query, Sync and FunctionCall are answered by ReadyForQuery. (PostgreSQL documentation, "Message Flow".)

use std::collections::VecDeque;

use std::sync::Arc;

use super::names::{Change, Definition};
use crate::wire::reply::Report;

/// A change of names that an answer will settle.
#[derive(Debug)]
pub(super) struct Settling {
    /// Statement name.
    pub(super) name: Box<[u8]>,
    /// The change.
    pub(super) change: Change,
}

/// Changes made by SQL statements in one message: settled together.
#[derive(Debug, Default)]
pub(super) struct SqlChanges {
    /// In order.
    pub(super) changes: Vec<SqlChange>,
    /// An error came before the end, or they are made by way of another statement, so each may have happened or not.
    pub(super) failed: bool,
    /// The portal that has run then, with the number of the last Bind before.
    pub(super) portal: Option<(Box<[u8]>, u32)>,
}

/// One of them.
#[derive(Debug)]
pub(super) enum SqlChange {
    /// PREPARE or DEALLOCATE of a name.
    Name(Settling),
    /// DEALLOCATE ALL, DISCARD ALL.
    All,
}

/// An answer to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// With the number of the last Bind before it.
    Query(Option<Box<SqlChanges>>, u32),
    Parse(Settling),
    /// The portal's name and the number of the note, where one was made.
    Bind(Option<(Box<[u8]>, u32)>),
    Describe,
    /// The flag: its result is wanted.
    Execute(Option<Box<SqlChanges>>, bool),
    Close(Option<Box<Settling>>),
    /// With the number of the last Bind before it.
    Sync(u32),
    /// With the number of the last Bind before it.
    FunctionCall(u32),
    /// The gate's own Describe of a statement, swallowed.
    OwnDescribe(Arc<Definition>),
    /// The gate's own Close of a portal, swallowed.
    OwnClose,
    /// The gate's own Sync, swallowed. With the number of the last Bind before it.
    OwnSync(u32),
    /// The gate's own failing message behind a Sync of its own, sent to learn how many Syncs of the client's a COPY that failed
    /// had swallowed. Every ReadyForQuery before its error is the client's, but for the last.
    Probe(Box<Probe>),
    /// The gate's own Parse, Close and Sync for the text at the front, swallowed unless the server refuses the text. With the
    /// number of the last Bind before it.
    Rehearsal(Box<Rehearsal>, u32),
    /// The gate's own question to the session, swallowed; its error is the answer to what is at the front.
    Asking(Box<super::asking::Asking>),
    /// The gate's own commands around a statement under guard, swallowed.
    Errand(Box<super::errand::Errand>),
    /// The gate's own message that fails: extended protocol.
    Refused(Box<Refusal>),
    /// The same in the simple protocol: ReadyForQuery follows. With the number of the last Bind before it.
    RefusedQuery(Box<Refusal>, u32),
}

/// What has been learnt by a probe so far.
#[derive(Debug)]
pub(super) struct Probe {
    /// Occurs in the backend's error exactly if it is the probe's.
    pub(super) token: String,
    /// The last transaction status reported; passed on if another follows.
    pub(super) status: Option<u8>,
    /// How many were passed on.
    pub(super) passed: u32,
    /// The COPY was of the extended protocol, so the server skips until it sees a Sync.
    pub(super) skips: bool,
}

/// How the server takes a text it is asked to parse.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// Of the text.
    pub(super) text: super::held::Digest,
    /// The unnamed statement is the gate's: its Close has not been answered.
    pub(super) parsed: bool,
    /// It refuses it, and the client was told.
    pub(super) refused: bool,
}

/// An error the backend was made to raise.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Occurs in the backend's error exactly if it is the one.
    pub(super) token: String,
    /// What the client is told in its place.
    pub(super) report: Report,
}

impl Expect {
    /// Answered by ReadyForQuery.
    pub(super) fn ends_with_ready(&self) -> bool {
        match self {
            Self::Query(..)
            | Self::Sync(_)
            | Self::FunctionCall(_)
            | Self::OwnSync(_)
            | Self::RefusedQuery(..)
            | Self::Rehearsal(..) => true,
            Self::Parse(_)
            | Self::Bind(_)
            | Self::Describe
            | Self::Execute(..)
            | Self::Close(_)
            | Self::Probe(_)
            | Self::OwnDescribe(_)
            | Self::OwnClose
            | Self::Asking(_)
            | Self::Errand(_)
            | Self::Refused(_) => false,
        }
    }

    /// The transaction's status may be another after it.
    fn runs(&self) -> bool {
        self.ends_with_ready() || matches!(self, Self::Execute(..))
    }

    /// Where skipping after an error stops.
    fn is_sync(&self) -> bool {
        // A probe begins with a Sync.
        matches!(self, Self::Sync(_) | Self::OwnSync(_) | Self::Probe(_))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Expect>,
    /// How many of them may change the transaction's status.
    running: usize,
}

/// An idle session keeps at most this many places.
const KEEP: usize = 8;

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The transaction's status is not known until more answers are here.
    pub(super) fn may_change_status(&self) -> bool {
        self.running > 0
    }

    pub(super) fn push(&mut self, expect: Expect) {
        self.running = self.running.saturating_add(usize::from(expect.runs()));
        self.queue.push_back(expect);
    }

    /// The message whose answer comes next.
    pub(super) fn head(&mut self) -> Option<&mut Expect> {
        self.queue.front_mut()
    }

    /// Whether exactly one answer is outstanding.
    pub(super) fn is_last(&self) -> bool {
        self.queue.len() == 1
    }

    /// The gate's own Sync at the head becomes the client's, whose answer is passed on.
    pub(super) fn disclose_sync(&mut self) {
        if let Some(expect) = self.queue.front_mut()
            && let Expect::OwnSync(binds) = *expect
        {
            *expect = Expect::Sync(binds);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Expect> {
        let popped = self.queue.pop_front();
        if popped.as_ref().is_some_and(Expect::runs) {
            self.running = self.running.saturating_sub(1);
        }
        if self.queue.is_empty() && self.queue.capacity() > KEEP {
            self.queue.shrink_to(KEEP);
        }
        popped
    }

    /// After an error in the extended protocol: takes away everything the server skips. Returns the Sync where it
    /// stops; `None` when none has been sent yet, so that what the client sends next is skipped too.
    pub(super) fn skip_to_sync(&mut self, mut dropped: impl FnMut(Expect)) -> Option<&Expect> {
        while self.queue.front().is_some_and(|front| !front.is_sync()) {
            if let Some(expect) = self.pop() {
                dropped(expect);
            }
        }
        self.queue.front()
    }
}
