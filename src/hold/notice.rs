//! What is told of statements that pass. Nothing waits for it: what the record is too slow for is dropped and counted.
//!
//! Start at [`Notices`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Origin, Parameter, StatementText};
use crate::judge::{Effect, Redact};

/// A statement that passed, and why it is told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Who and where from.
    pub origin: Origin,
    /// What ran; a long text only with its beginning (`cut` says so).
    pub statement: StatementText,
    /// The text, its values or its effects are not whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Bound values, in the extended protocol, as far as their message had come when it passed.
    pub parameters: Vec<Parameter>,
    /// What it can do.
    pub effects: Vec<Effect>,
    /// The rule that wants it told.
    pub rule: String,
    /// Which effect on what, and why the text has it.
    pub why: String,
    /// The rule's own message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What of it is kept off the record and out of channels.
    #[serde(default, skip_serializing_if = "Redact::is_none")]
    pub redact: Redact,
    /// Version of the policy that judged it.
    pub policy_version: String,
    /// A transaction was open.
    pub in_transaction: bool,
    /// The requester's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where sessions put notices. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notices<T> {
    queue: mpsc::Sender<T>,
    dropped: Dropped,
}

/// How many notices were dropped since the start.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// So many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many more.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl<T> Notices<T> {
    /// Room for so many that nobody has taken yet, and where to take them.
    #[must_use]
    pub fn new(room: usize) -> (Self, mpsc::Receiver<T>) {
        let (queue, taken) = mpsc::channel(room.max(1));
        (Self { queue, dropped: Dropped::default() }, taken)
    }

    /// Tells of it, if there is room. Never waits.
    pub fn tell(&self, notice: T) {
        if self.queue.try_send(notice).is_err() {
            self.dropped.add(1);
        }
    }

    /// What there was no room for.
    #[must_use]
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_nobody_waits() {
        let (notices, mut taken) = Notices::new(2);
        for n in 0..5 {
            notices.tell(n);
        }
        assert_eq!(notices.dropped().count(), 3);
        assert_eq!((taken.try_recv(), taken.try_recv()), (Ok(0), Ok(1)));
        notices.tell(5);
        assert_eq!((taken.try_recv(), notices.dropped().count()), (Ok(5), 3));
        drop(taken);
        notices.tell(6);
        assert_eq!(notices.dropped().count(), 4);
    }
}
