//! What can go wrong with the record. No message holds SQL text or values.

use std::path::PathBuf;

use crate::hold::HoldId;

/// Why a store cannot be opened, or why something is not on record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{path} is in use by {by}: two gates cannot share one record")]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who, as far as known.
        by: String,
    },
    /// A file cannot be made, read or written.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The database file is no store of this program, or of a later version of it.
    #[error("{path} {why}")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// In what way, to follow its name.
        why: String,
    },
    /// The database is damaged.
    #[error(
        "the store {path} is damaged: {why}. Restore it from a backup, or move it and the audit file aside to start a new record"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check says.
        why: String,
    },
    /// Audit file and store do not say the same.
    #[error(
        "the audit file {path}, line {line}: {why}. `querygate audit verify` says more; to start a new record, move it and the store aside"
    )]
    Disagree {
        /// The audit file.
        path: PathBuf,
        /// The first line that is not as it should be, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// The key that signs checkpoints is of no use.
    #[error("the checkpoint key {path}: {why}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Too much waits already.
    #[error("the store is busy: its queue is full")]
    QueueFull,
    /// The disk did not answer in time. What was to be recorded may still come to be on record.
    #[error("the store does not answer: the disk has been busy for too long")]
    Slow,
    /// The disk fails. What was to be recorded is most likely not on record; it may be if the audit file alone failed.
    #[error("the store cannot write: {0}")]
    Failing(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// There is a request of this name already.
    #[error("there is a request {0} on record already")]
    Duplicate(HoldId),
    /// The event is larger than a line may be.
    #[error("the event is too large to be put on record ({bytes} bytes)")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// What is on record cannot be understood.
    #[error("what is on record cannot be read: {0}")]
    Unreadable(String),
}

impl StoreError {
    pub(super) fn file(path: &std::path::Path, why: &(impl ToString + ?Sized)) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }
}
