//! The state of one hold, changed in single steps under one lock. Knows nothing of the map it stands in, of sockets or
//! of the clock.
//!
//! The lock is a type parameter so that the tests can run the very same code under a scheduler that tries many
//! interleavings. Start at [`Cell`].

use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;

use super::request::{Cause, Decision, Outcome};

/// A lock whose guard never leaves a closure, so it cannot live across an `.await`.
pub trait Lock<T>: Send + Sync {
    /// An unlocked value.
    fn new(value: T) -> Self;
    /// Runs `act` on the value while nobody else can see it.
    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R;
}

/// Where locks come from: the standard library, or a scheduler under test.
pub trait Locks: Send + Sync + 'static {
    /// The lock for a value.
    type Mutex<T: Send>: Lock<T>;
}

/// The standard library's locks.
#[derive(Debug, Clone, Copy)]
pub struct Std;

impl Locks for Std {
    type Mutex<T: Send> = std::sync::Mutex<T>;
}

impl<T: Send> Lock<T> for std::sync::Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        // Every step below leaves a whole value behind, so a panic elsewhere in a closure spoils nothing.
        act(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How far a hold has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for people.
    Pending,
    /// Somebody decided; the session has not carried it out yet.
    Decided(Decision),
    /// Over.
    Ended(Ended),
}

/// How a hold ended: exactly one per hold, and it never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What became of it.
    pub outcome: Outcome,
    /// The decision on record. With `Outcome::Withdrawn` it came first but was never carried out.
    pub decision: Option<Decision>,
    /// When it ended.
    pub at: Timestamp,
}

/// Why a decision does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such request, now or among the remembered ones.
    #[error("no such request")]
    Unknown,
    /// Somebody was first.
    #[error("already decided by {}", .0.by())]
    Decided(Decision),
    /// It had ended before.
    #[error("{}", ended_words(.0))]
    Ended(Ended),
    /// Its deadline has passed, though its session has not noticed yet.
    #[error("expired at {deadline:.0}")]
    Late {
        /// The deadline.
        deadline: Timestamp,
    },
}

fn ended_words(ended: &Ended) -> String {
    let by = ended.decision.as_ref().map(Decision::by);
    match (&ended.outcome, by) {
        (Outcome::Released | Outcome::Rejected, Some(by)) => format!("already decided by {by}"),
        (Outcome::Released, None) => "already released".to_owned(),
        (Outcome::Rejected, None) => "already rejected".to_owned(),
        (Outcome::Expired, _) => format!("expired at {:.0}", ended.at),
        (Outcome::Withdrawn { cause }, _) => format!("withdrawn at {}: {cause}", ended.at),
    }
}

/// The state of one hold. `told` arguments run inside the step, so listeners hear of steps in the order they happened;
/// the session wakes only after.
pub(super) struct Cell<L: Locks> {
    deadline: Timestamp,
    inner: L::Mutex<Inner>,
}

struct Inner {
    phase: Phase,
    /// People are asked, or are about to be; with what the client is told of it besides.
    asked: Option<String>,
    /// The session's task, while `Pending`.
    waiting: Option<Waker>,
}

impl<L: Locks> Cell<L> {
    /// A pending hold.
    pub(super) fn new(deadline: Timestamp) -> Self {
        let inner = Inner { phase: Phase::Pending, asked: None, waiting: None };
        Self { deadline, inner: L::Mutex::new(inner) }
    }

    /// Runs `act` while no step can happen.
    pub(super) fn still<R>(&self, act: impl FnOnce() -> R) -> R {
        self.inner.with(|_| act())
    }

    /// A copy of the state.
    pub(super) fn phase(&self) -> Phase {
        self.inner.with(|inner| inner.phase.clone())
    }

    /// Nobody has decided it without asking: people are asked. The session wakes to tell its client, with `said` besides.
    pub(super) fn ask(&self, said: String) {
        let waiting = self.inner.with(|inner| {
            inner.asked = Some(said);
            inner.waiting.take()
        });
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// What [`Cell::ask`] was last called with, if it was, since this was asked for.
    pub(super) fn take_asked(&self) -> Option<String> {
        self.inner.with(|inner| inner.asked.take())
    }

    /// Records a decision: the first one, on a pending hold, before its deadline.
    pub(super) fn decide(&self, decision: Decision, told: impl FnOnce()) -> Result<(), Refused> {
        let waiting = self.inner.with(|inner| {
            match &inner.phase {
                Phase::Pending => {}
                Phase::Decided(first) => return Err(Refused::Decided(first.clone())),
                Phase::Ended(ended) => return Err(Refused::Ended(ended.clone())),
            }
            // Fail closed: the session's timer may be late, the deadline is not.
            if decision.at() >= self.deadline {
                let deadline = self.deadline;
                return Err(Refused::Late { deadline });
            }
            inner.phase = Phase::Decided(decision);
            told();
            Ok(inner.waiting.take())
        })?;
        if let Some(waker) = waiting {
            waker.wake();
        }
        Ok(())
    }

    /// The decision, once there is one; otherwise the task is woken by it. Never ready after an end without a decision.
    pub(super) fn poll_decision(&self, context: &Context<'_>) -> Poll<Decision> {
        // A replaced waker is dropped after the step: its `Drop` is somebody else's code.
        let (answer, _replaced) = self.inner.with(|inner| match &inner.phase {
            Phase::Decided(decision) => (Poll::Ready(decision.clone()), None),
            Phase::Ended(_) => (Poll::Pending, None),
            Phase::Pending => match &inner.waiting {
                Some(waker) if waker.will_wake(context.waker()) => (Poll::Pending, None),
                Some(_) | None => (Poll::Pending, inner.waiting.replace(context.waker().clone())),
            },
        });
        answer
    }

    /// Ends the hold as its decision demands; one without a decision is withdrawn.
    pub(super) fn finish(&self, at: Timestamp, told: impl FnOnce(&Ended)) -> Option<Ended> {
        self.end(at, told, |decision| match decision {
            Some(Decision::Approve { .. }) => Some(Outcome::Released),
            Some(Decision::Reject { .. }) => Some(Outcome::Rejected),
            None => Some(Outcome::Withdrawn { cause: Cause::Internal }),
        })
    }

    /// Ends the hold unless somebody decided before: then the decision stands and is to be carried out.
    pub(super) fn expire(&self, at: Timestamp, told: impl FnOnce(&Ended)) -> Option<Ended> {
        self.end(at, told, |decision| match decision {
            Some(_) => None,
            None => Some(Outcome::Expired),
        })
    }

    /// Ends the hold without carrying out any decision.
    pub(super) fn withdraw(&self, cause: Cause, at: Timestamp, told: impl FnOnce(&Ended)) -> Option<Ended> {
        self.end(at, told, |_| Some(Outcome::Withdrawn { cause }))
    }

    /// Ends a hold that nobody has decided, from outside its session, which is woken to tell its client.
    pub(super) fn fail(&self, cause: Cause, at: Timestamp, told: impl FnOnce(&Ended)) -> Option<Ended> {
        let (ended, waker) = self.step(at, told, |decision| match decision {
            Some(_) => None,
            None => Some(Outcome::Withdrawn { cause }),
        })?;
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(ended)
    }

    /// A step by the session itself, which needs no waking.
    fn end(
        &self,
        at: Timestamp,
        told: impl FnOnce(&Ended),
        outcome: impl FnOnce(Option<&Decision>) -> Option<Outcome>,
    ) -> Option<Ended> {
        self.step(at, told, outcome).map(|(ended, _waker)| ended)
    }

    /// One step from `Pending` or `Decided` to `Ended`; `None` if it did not happen.
    fn step(
        &self,
        at: Timestamp,
        told: impl FnOnce(&Ended),
        outcome: impl FnOnce(Option<&Decision>) -> Option<Outcome>,
    ) -> Option<(Ended, Option<Waker>)> {
        self.inner.with(|inner| {
            let decision = match &inner.phase {
                Phase::Pending => None,
                Phase::Decided(decision) => Some(decision.clone()),
                Phase::Ended(_) => return None,
            };
            let outcome = outcome(decision.as_ref())?;
            let ended = Ended { outcome, decision, at };
            inner.phase = Phase::Ended(ended.clone());
            told(&ended);
            Some((ended, inner.waiting.take()))
        })
    }
}
