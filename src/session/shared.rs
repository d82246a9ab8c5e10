//! What sessions share: [`Shared`] once per process, [`Worker`] once per session thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::cancel::CancelRegistry;
use super::lobby::Lobby;
use super::settings::SessionSettings;
use super::signal::SessionSignal;
use super::tls::ListenTls;
use super::upstream::Upstream;
use crate::hold::SessionId;

/// Shared by all sessions of the process.
#[derive(Debug)]
pub struct Shared {
    /// Limits and switches.
    pub settings: SessionSettings,
    /// TLS on the clients' leg.
    pub tls: ListenTls,
    /// The server behind the gate.
    pub upstream: Upstream,
    /// Who may be cancelled.
    pub cancel: CancelRegistry,
    /// How many sessions there may be.
    pub seats: Seats,
    next_session: AtomicU64,
}

impl Shared {
    /// Everything at its beginning.
    #[must_use]
    pub fn new(
        settings: SessionSettings,
        tls: ListenTls,
        upstream: Upstream,
        max_sessions: usize,
    ) -> Self {
        Self {
            settings,
            tls,
            upstream,
            cancel: CancelRegistry::default(),
            seats: Seats::new(max_sessions),
            next_session: AtomicU64::new(1),
        }
    }

    /// A name no other session of this process has.
    pub(super) fn name_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }
}

/// Shared by the sessions of one thread; never leaves it, so nothing in it needs a lock.
#[derive(Debug)]
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Clients that have not said yet who they are.
    pub(super) lobby: Lobby,
    sessions: RefCell<BTreeMap<SessionId, Arc<SessionSignal>>>,
    draining: Cell<bool>,
}

impl Worker {
    /// A thread's share.
    #[must_use]
    pub fn new(shared: Arc<Shared>, max_half_open: usize) -> Rc<Self> {
        Rc::new(Self {
            shared,
            lobby: Lobby::new(max_half_open),
            sessions: RefCell::default(),
            draining: Cell::new(false),
        })
    }

    /// Sessions running on this thread.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// No new sessions; those that run are asked to end when they are idle.
    pub fn drain(&self) {
        self.draining.set(true);
        self.tell(SessionSignal::drain);
    }

    /// No new sessions; those that run are asked to end now.
    pub fn quit(&self) {
        self.draining.set(true);
        self.tell(SessionSignal::quit);
    }

    /// Whether new sessions are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn tell(&self, ask: impl Fn(&SessionSignal)) {
        // Cloned first: no borrow is held while others' code runs.
        let signals: Vec<_> = self.sessions.borrow().values().cloned().collect();
        for signal in signals {
            ask(&signal);
        }
    }

    /// Enters a session; the guard's drop removes it.
    pub(super) fn enter(self: &Rc<Self>, session: SessionId) -> SessionGuard {
        let signal = Arc::new(SessionSignal::default());
        // It may have come through the door while draining began.
        if self.draining.get() {
            signal.drain();
        }
        self.sessions
            .borrow_mut()
            .insert(session, Arc::clone(&signal));
        SessionGuard {
            worker: Rc::clone(self),
            session,
            signal,
        }
    }
}

/// Its drop removes the session from its worker's list.
#[derive(Debug)]
pub(super) struct SessionGuard {
    worker: Rc<Worker>,
    session: SessionId,
    pub(super) signal: Arc<SessionSignal>,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.worker.sessions.borrow_mut().remove(&self.session);
    }
}

/// A limited number of seats, counted across threads.
#[derive(Debug)]
pub struct Seats {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

impl Seats {
    /// `limit` free seats.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            taken: Arc::default(),
            limit,
        }
    }

    /// A seat, unless all are taken. The guard's drop frees it.
    #[must_use]
    pub fn take(&self) -> Option<Seat> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.limit).then(|| taken.saturating_add(1))
            })
            .ok()
            .map(|_| Seat(Arc::clone(&self.taken)))
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// Its drop frees the seat.
#[must_use]
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_limited_and_freed_by_drop() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take(), seats.take());
        assert!(first.is_some() && second.is_some() && seats.take().is_none());
        drop(first);
        assert_eq!(seats.taken(), 1);
        assert!(seats.take().is_some());
    }
}
