//! What the rest of the process may tell a running session, without a lock on the session's path: cancel your hold, the
//! gate is draining, the gate quits. The session's task polls it beside its sockets.
//!
//! A CancelRequest may arrive in the moment a hold begins or ends. One atomic word settles it: [`SessionSignal::try_cancel`]
//! succeeds only while the session says it is held, and then [`SessionSignal::end_hold`] is certain to report it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

const HELD: u8 = 1;
const CANCEL: u8 = 2;
const DRAIN: u8 = 4;
const QUIT: u8 = 8;

/// Shared between a session's task, the cancel registry and the server's drain.
#[derive(Debug, Default)]
pub struct SessionSignal {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// The session's end of its signal.
#[derive(Debug)]
pub struct Listener {
    signal: Arc<SessionSignal>,
    /// The waker the signal has. A task keeps its waker, so that the lock is taken once and not at every look.
    waker: Option<Waker>,
}

impl Listener {
    /// Listens to `signal`; a signal has one listener.
    #[must_use]
    pub fn new(signal: Arc<SessionSignal>) -> Self {
        Self { signal, waker: None }
    }

    /// What it listens to.
    #[must_use]
    pub fn signal(&self) -> &Arc<SessionSignal> {
        &self.signal
    }

    /// What has been asked; whenever that changes, the task of `cx` is woken. Requests stay asked: act on what is new.
    pub fn poll(&mut self, cx: &Context<'_>) -> Asked {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.signal.listen(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        // Looked at after the waker is in place: what is asked before is seen here, what is asked after wakes.
        self.signal.asked()
    }
}

/// What has been asked of a session so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Withdraw the hold: a CancelRequest came for it. Only while held.
    pub cancel: bool,
    /// End as soon as nothing runs: tell the client 57P01 when idle, withdraw a hold.
    pub drain: bool,
    /// End now, whatever runs.
    pub quit: bool,
}

impl SessionSignal {
    /// The session's statement is held from now on: a CancelRequest is ours to answer.
    pub fn begin_hold(&self) {
        self.state.fetch_or(HELD, Ordering::AcqRel);
    }

    /// The hold is over. Returns whether a CancelRequest was accepted for it: if the hold ended in a release after
    /// all, that request has to be passed on to the backend or it would be lost.
    #[must_use]
    pub fn end_hold(&self) -> bool {
        self.state.fetch_and(!(HELD | CANCEL), Ordering::AcqRel) & CANCEL != 0
    }

    /// Asks to withdraw the hold. `false`: nothing is held, so the request belongs to the backend.
    #[must_use]
    pub fn try_cancel(&self) -> bool {
        let accepted = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state & HELD != 0).then_some(state | CANCEL))
            .is_ok();
        if accepted {
            self.wake();
        }
        accepted
    }

    /// Asks the session to end when nothing runs.
    pub fn drain(&self) {
        self.state.fetch_or(DRAIN, Ordering::AcqRel);
        self.wake();
    }

    /// Asks the session to end now.
    pub fn quit(&self) {
        self.state.fetch_or(DRAIN | QUIT, Ordering::AcqRel);
        self.wake();
    }

    /// What has been asked, without waiting.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let state = self.state.load(Ordering::Acquire);
        Asked { cancel: state & CANCEL != 0, drain: state & DRAIN != 0, quit: state & QUIT != 0 }
    }

    fn listen(&self, waker: &Waker) {
        *self.lock() = Some(waker.clone());
    }

    fn wake(&self) {
        let waker = self.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        // A waker is whole even if a thread panicked while it held the lock.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_cancel_is_accepted_only_while_held_and_reported_once() {
        let signal = SessionSignal::default();
        assert!(!signal.try_cancel());
        signal.begin_hold();
        assert!(signal.try_cancel());
        assert!(signal.asked().cancel);
        assert!(signal.end_hold());
        assert!(!signal.try_cancel());
        signal.begin_hold();
        assert!(!signal.end_hold());
    }

    #[test]
    fn every_request_wakes_the_task_that_polled() {
        let signal = Arc::new(SessionSignal::default());
        let mut listener = Listener::new(Arc::clone(&signal));
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        assert_eq!(listener.poll(&cx), Asked::default());
        signal.begin_hold();
        assert!(signal.try_cancel());
        signal.drain();
        signal.quit();
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
        let all = Asked { cancel: true, drain: true, quit: true };
        assert_eq!(listener.poll(&cx), all);
    }

    #[test]
    fn a_cancel_that_races_the_end_of_the_hold_is_either_reported_or_refused() {
        for _ in 0..200 {
            let signal = Arc::new(SessionSignal::default());
            signal.begin_hold();
            let other = Arc::clone(&signal);
            let canceller = std::thread::spawn(move || other.try_cancel());
            let reported = signal.end_hold();
            assert_eq!(canceller.join().unwrap(), reported);
        }
    }
}
