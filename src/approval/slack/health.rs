//! Whether Slack can be reached. Knows no calls: they report here.

use std::collections::BTreeMap;
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
    /// Conversations that take no requests. While others do, people can be asked.
    pub lost: Vec<LostConversation>,
}

/// A conversation that takes no requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostConversation {
    /// Its id.
    pub conversation: String,
    /// Since when.
    pub since: Timestamp,
    /// Why, in a sentence with what to do about it.
    pub why: String,
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
    /// All that are named.
    conversations: Vec<String>,
    lost: BTreeMap<String, (Timestamp, String)>,
    reachable: bool,
    since: Timestamp,
}

impl Pulse {
    pub(super) fn new(needs_sockets: bool, now: Timestamp) -> Self {
        let calls = Err("Slack was not reached yet".to_owned());
        let state = State {
            last_success: None,
            calls,
            socket_trouble: None,
            sockets: 0,
            conversations: Vec::new(),
            lost: BTreeMap::new(),
            reachable: false,
            since: now,
        };
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

    /// Requests are announced in these conversations from now on.
    pub(super) fn expect<'a>(&self, conversations: impl Iterator<Item = &'a str>, now: Timestamp) {
        let conversations: Vec<String> = conversations.map(str::to_owned).collect();
        self.change(now, |state| {
            state.lost.retain(|conversation, _| conversations.contains(conversation));
            state.conversations = conversations;
        });
    }

    /// A conversation took something, or says why it takes nothing. Slack itself has answered.
    pub(super) fn conversation(&self, conversation: &str, result: Result<(), String>, now: Timestamp) {
        self.change(now, |state| {
            if !state.conversations.iter().any(|known| known == conversation) {
                return;
            }
            match result {
                Ok(()) => drop(state.lost.remove(conversation)),
                Err(why) => {
                    state.calls = Ok(());
                    let known = state.lost.get(conversation).map(|(since, _)| *since);
                    if known.is_none() {
                        tracing::warn!(conversation, "Slack: a conversation takes no requests: {why}");
                    }
                    state.lost.insert(conversation.to_owned(), (known.unwrap_or(now), why));
                }
            }
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
        state.calls.is_err() || !state.lost.is_empty() || passed.is_none_or(|passed| passed >= silence)
    }

    pub(super) fn health(&self) -> Health {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let why = state.why(self.needs_sockets);
        let State { since, sockets, last_success, .. } = *state;
        let lost = state.lost.iter().map(|(conversation, (since, why))| LostConversation {
            conversation: conversation.clone(),
            since: *since,
            why: why.clone(),
        });
        Health { reachable: why.is_none(), since, why, sockets, last_success, lost: lost.collect() }
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
        let mut whys = self.conversations.iter().map(|conversation| self.lost.get(conversation));
        // One lost conversation is not all of Slack.
        if let Some(Some((_, why))) = whys.next()
            && whys.all(|lost| lost.is_some())
        {
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
        let expected = Health {
            reachable: true,
            since: at(2),
            why: None,
            sockets: 1,
            last_success: Some(at(1)),
            lost: Vec::new(),
        };
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
    fn a_lost_conversation_is_named_and_only_when_all_are_lost_nobody_can_be_asked() {
        let pulse = Pulse::new(false, at(0));
        pulse.expect(["C01", "C02"].into_iter(), at(0));
        pulse.call(Ok(()), at(1));
        pulse.conversation("C02", Err("not a member of C02".to_owned()), at(2));
        pulse.conversation("C02", Err("not a member of C02".to_owned()), at(3));
        pulse.conversation("C09", Err("nobody asked".to_owned()), at(3));
        let lost = |conversation: &str, second, why: &str| LostConversation {
            conversation: conversation.to_owned(),
            since: at(second),
            why: why.to_owned(),
        };
        let health = pulse.health();
        assert_eq!((health.reachable, health.lost), (true, vec![lost("C02", 2, "not a member of C02")]));
        assert!(pulse.is_doubtful(at(3), Duration::from_secs(60)), "it is looked at again");
        pulse.conversation("C01", Err("archived".to_owned()), at(4));
        let health = pulse.health();
        assert_eq!((health.reachable, health.why.as_deref(), health.lost.len()), (false, Some("archived"), 2));
        pulse.conversation("C01", Ok(()), at(5));
        assert!(pulse.health().reachable);
        pulse.expect(["C01"].into_iter(), at(6));
        assert!(pulse.health().lost.is_empty());
    }

    #[test]
    fn the_signed_endpoint_needs_no_sockets() {
        let pulse = Pulse::new(false, at(0));
        pulse.call(Ok(()), at(1));
        assert!(pulse.health().reachable);
    }
}
