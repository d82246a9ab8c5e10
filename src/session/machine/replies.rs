//! The backend's outstanding answers, in the order they will come.
//!
//! Every message of the extended protocol has exactly one closing answer unless an error makes the server skip to the next
//! Sync; Query, Sync and FunctionCall are answered by ReadyForQuery. (PostgreSQL documentation, "Message Flow".)

use std::collections::VecDeque;

use super::names::Change;
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
    /// An error came before the end, so each may have happened or not.
    pub(super) failed: bool,
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
    Query(Option<Box<SqlChanges>>),
    Parse(Box<Settling>),
    /// The portal's name and the number of the note, where one was made.
    Bind(Option<(Box<[u8]>, u32)>),
    Describe,
    Execute(Option<Box<SqlChanges>>),
    Close(Option<Box<Settling>>),
    Sync,
    FunctionCall,
    /// CopyDone or CopyFail sent before the server said it is in COPY. It has no answer of its own.
    CopyEnd,
    /// The gate's own Describe of a statement, swallowed.
    OwnDescribe(Box<Settling>),
    /// The gate's own Sync, swallowed.
    OwnSync,
    /// The gate's own message that fails: extended protocol.
    Refused(Box<Refusal>),
    /// The same in the simple protocol: ReadyForQuery follows.
    RefusedQuery(Box<Refusal>),
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
            Self::Query(_) | Self::Sync | Self::FunctionCall | Self::OwnSync | Self::RefusedQuery(_) => true,
            Self::Parse(_)
            | Self::Bind(_)
            | Self::Describe
            | Self::Execute(_)
            | Self::Close(_)
            | Self::CopyEnd
            | Self::OwnDescribe(_)
            | Self::Refused(_) => false,
        }
    }

    /// Where skipping after an error stops.
    fn is_sync(&self) -> bool {
        matches!(self, Self::Sync | Self::OwnSync)
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<Expect>);

/// An idle session keeps at most this many places.
const KEEP: usize = 8;

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, expect: Expect) {
        self.0.push_back(expect);
    }

    /// The message whose answer comes next.
    pub(super) fn head(&mut self) -> Option<&mut Expect> {
        while matches!(self.0.front(), Some(Expect::CopyEnd)) {
            self.0.pop_front();
        }
        self.0.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Expect> {
        let popped = self.0.pop_front();
        if self.0.is_empty() && self.0.capacity() > KEEP {
            self.0.shrink_to(KEEP);
        }
        popped
    }

    /// After an error in the extended protocol: takes away everything the server skips. `Err` when no Sync has been
    /// sent yet, so that what the client sends next is skipped too.
    pub(super) fn skip_to_sync(&mut self, mut dropped: impl FnMut(Expect)) -> Option<&Expect> {
        while let Some(front) = self.0.front() {
            if front.is_sync() {
                break;
            }
            if let Some(expect) = self.0.pop_front() {
                dropped(expect);
            }
        }
        self.0.front()
    }

    /// COPY FROM STDIN began: the server ignores Sync until the client ends it (`CopyGetData`).
    pub(super) fn enter_copy_in(&mut self) -> CopyStart {
        let mut ended = false;
        let mut first = true;
        self.0.retain(|expect| {
            let head = std::mem::take(&mut first);
            if head || ended {
                return true;
            }
            ended = matches!(expect, Expect::CopyEnd);
            !expect.is_sync()
        });
        if ended { CopyStart::EndSent } else { CopyStart::Open }
    }
}

/// Whether the client has already ended the COPY that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyStart {
    /// CopyDone or CopyFail was sent ahead.
    EndSent,
    /// Not yet.
    Open,
}
