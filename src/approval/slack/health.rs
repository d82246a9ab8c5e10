//! Whether Slack can be reached. Knows no calls: they report here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// How the channel is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// People can be asked and can answer.
    pub reachable: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why it is not, in a sentence.
    pub why: Option<String>,
    /// Sockets that are up (Socket Mode).
    pub sockets: usize,
    /// When Slack last did what it was asked.
    pub last_success: Option<Timestamp>,
}

/// Keeps it.
pub(super) struct Pulse {
    state: Mutex<State>,
    /// Clicks come in over sockets, so without one people cannot answer.
    needs_sockets: bool,
}

struct State {
    last_success: Option<Timestamp>,
    calls: Result<(), String>,
    socket_trouble: Option<String>,
    sockets: usize,
    reachable: bool,
    since: Timestamp,
}

impl Pulse {
    pub(super) fn new(needs_sockets: bool, now: Timestamp) -> Self {
        let calls = Err("Slack was not reached yet".to_owned());
        let state = State { last_success: None, calls, socket_trouble: None, sockets: 0, reachable: false, since: now };
        Self { state: Mutex::new(state), needs_sockets }
    }

    /// A call went well, or could not reach people.
    pub(super) fn call(&self, result: Result<(), String>, now: Timestamp) {
        self.change(now, |state| {
            if result.is_ok() {
                state.last_success = Some(now);
            }
            state.calls = result;
        });
    }

    /// A socket is up.
    pub(super) fn socket_up(&self, now: Timestamp) {
        self.change(now, |state| {
            state.sockets = state.sockets.saturating_add(1);
            state.socket_trouble = None;
        });
    }

    /// A socket that was up is gone.
    pub(super) fn socket_down(&self, now: Timestamp) {
        self.change(now, |state| state.sockets = state.sockets.saturating_sub(1));
    }

    /// No socket could be had.
    pub(super) fn socket_trouble(&self, why: String, now: Timestamp) {
        self.change(now, |state| state.socket_trouble = Some(why));
    }

    /// The last call did not go well, or was so long ago that it says little.
    pub(super) fn is_doubtful(&self, now: Timestamp, silence: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.last_success.map(|last| Duration::try_from(now.duration_since(last)).unwrap_or_default());
        state.calls.is_err() || passed.is_none_or(|passed| passed >= silence)
    }

    pub(super) fn health(&self) -> Health {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let why = state.why(self.needs_sockets);
        let State { since, sockets, last_success, .. } = *state;
        Health { reachable: why.is_none(), since, why, sockets, last_success }
    }

    fn change(&self, now: Timestamp, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let why = state.why(self.needs_sockets);
        if why.is_none() == state.reachable {
            return;
        }
        state.reachable = why.is_none();
        state.since = now;
        drop(state);
        match why {
            None => tracing::info!("Slack is reachable"),
            Some(why) => tracing::warn!("Slack is not reachable: {why}"),
        }
    }
}

impl State {
    fn why(&self, needs_sockets: bool) -> Option<String> {
        if let Err(why) = &self.calls {
            return Some(why.clone());
        }
        if needs_sockets && self.sockets == 0 {
            let why = self.socket_trouble.clone();
            return Some(why.unwrap_or_else(|| "no socket is up yet, so no click can come in".to_owned()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn people_can_be_asked_and_answer_only_with_calls_and_a_socket() {
        let pulse = Pulse::new(true, at(0));
        pulse.call(Ok(()), at(1));
        assert!(!pulse.health().reachable);
        pulse.socket_up(at(2));
        let expected = Health { reachable: true, since: at(2), why: None, sockets: 1, last_success: Some(at(1)) };
        assert_eq!(pulse.health(), expected);
        pulse.socket_up(at(3));
        pulse.socket_down(at(4));
        assert_eq!(pulse.health().since, at(2));
        pulse.socket_trouble("no network".to_owned(), at(5));
        pulse.socket_down(at(6));
        let health = pulse.health();
        assert_eq!((health.reachable, health.since, health.why.as_deref()), (false, at(6), Some("no network")));
        pulse.socket_up(at(7));
        pulse.call(Err("revoked".to_owned()), at(8));
        assert_eq!(pulse.health().why.as_deref(), Some("revoked"));
        assert_eq!(pulse.health().last_success, Some(at(1)), "a failure is no success");
    }

    #[test]
    fn slack_is_asked_again_after_a_failure_and_after_a_silence() {
        let pulse = Pulse::new(false, at(0));
        let silence = Duration::from_secs(60);
        assert!(pulse.is_doubtful(at(0), silence));
        pulse.call(Ok(()), at(1));
        assert!(!pulse.is_doubtful(at(60), silence));
        assert!(pulse.is_doubtful(at(61), silence));
        pulse.call(Err("away".to_owned()), at(62));
        assert!(pulse.is_doubtful(at(62), silence));
    }

    #[test]
    fn the_signed_endpoint_needs_no_sockets() {
        let pulse = Pulse::new(false, at(0));
        pulse.call(Ok(()), at(1));
        assert!(pulse.health().reachable);
    }
}
