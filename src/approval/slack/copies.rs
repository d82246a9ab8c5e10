//! Where a request was announced, and what was said beside it. Knows no network and no rendering.
//!
//! What has to survive a restart is in [`Announced`], which the desk keeps as the channel's reference; the rest is [`Copies`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::hold::HoldId;

use super::settings::is_slack_id;

/// Requests remembered; older ones are found by their reference.
const MAX_REQUESTS: usize = 10_000;
/// Messages of one request in one conversation: the first, and orphans of lost answers.
const MAX_COPIES: usize = 8;
/// And in all.
const MAX_PLACES: usize = 64;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) conversation: String,
    pub(super) ts: String,
}

impl Place {
    /// From what Slack or a reference says; nothing but ids passes.
    pub(super) fn parse(conversation: &str, ts: &str) -> Option<Self> {
        let is_ts = ts.len() <= 32 && ts.contains('.') && ts.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_place = is_slack_id(conversation, "CGD") && is_ts;
        is_place.then(|| Self { conversation: conversation.to_owned(), ts: ts.to_owned() })
    }

    /// Where a browser finds it; `workspace` is its address with a slash at the end.
    pub(super) fn link(&self, workspace: &str) -> Option<String> {
        // An address of Slack's own, or none: it is put between `<` and `>`.
        let safe = workspace.starts_with("https://") && !workspace.contains(['<', '>', '|', ' ']);
        let digits: String = self.ts.chars().filter(char::is_ascii_digit).collect();
        safe.then(|| format!("{}/archives/{}/p{digits}", workspace.trim_end_matches('/'), self.conversation))
    }
}

/// What was told of a request so far. Written as `C01/1.2 C02/3.4 told C01:filed C01:timeline=5.6 C02:escalated=1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// The messages; the first of each conversation has the thread there.
    pub(super) places: Vec<Place>,
    /// What stands in the threads, by conversation.
    threads: BTreeMap<String, Thread>,
    /// The requester was told of the outcome.
    pub(super) told: bool,
}

/// What stands in the thread of a conversation's first message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Thread {
    /// The message with the timeline.
    pub(super) timeline: Option<String>,
    /// The whole statement is a file here.
    pub(super) filed: bool,
    /// That it was released alone in an emergency was said aloud.
    pub(super) alarmed: bool,
    /// Escalation steps said.
    pub(super) escalated: usize,
}

impl Announced {
    /// Reads a reference; what is not understood is left out.
    pub(super) fn parse(reference: &str) -> Self {
        let mut announced = Self::default();
        for part in reference.split(' ') {
            if let Some((conversation, ts)) = part.split_once('/') {
                announced.adopt_place(Place::parse(conversation, ts));
            } else if let Some((conversation, what)) = part.split_once(':')
                && is_slack_id(conversation, "CGD")
            {
                announced.threads.entry(conversation.to_owned()).or_default().read(what);
            } else {
                announced.told |= part == "told";
            }
        }
        announced
    }

    /// Takes over what is known from elsewhere.
    pub(super) fn merge(&mut self, other: Self) {
        for place in other.places {
            self.adopt_place(Some(place));
        }
        for (conversation, thread) in other.threads {
            self.threads.entry(conversation).or_default().merge(thread);
        }
        self.told |= other.told;
    }

    /// Adds a message that shows the request; says whether it was unknown.
    pub(super) fn adopt_place(&mut self, place: Option<Place>) -> bool {
        let Some(place) = place.filter(|place| !self.places.contains(place)) else { return false };
        let copies = self.places.iter().filter(|known| known.conversation == place.conversation).count();
        let fits = copies < MAX_COPIES && self.places.len() < MAX_PLACES;
        if fits {
            self.places.push(place);
        }
        fits
    }

    /// The first message of each conversation.
    pub(super) fn heads(&self) -> Vec<Place> {
        let mut heads: Vec<Place> = Vec::new();
        for place in &self.places {
            if heads.iter().all(|head| head.conversation != place.conversation) {
                heads.push(place.clone());
            }
        }
        heads
    }

    pub(super) fn is_in(&self, conversation: &str) -> bool {
        self.places.iter().any(|place| place.conversation == conversation)
    }

    /// What stands in a conversation's thread.
    pub(super) fn thread(&self, conversation: &str) -> Thread {
        self.threads.get(conversation).cloned().unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn thread_mut(&mut self, conversation: &str) -> &mut Thread {
        self.threads.entry(conversation.to_owned()).or_default()
    }
}

impl Thread {
    fn read(&mut self, what: &str) {
        if let Some(ts) = what.strip_prefix("timeline=") {
            self.timeline = Some(ts.to_owned()).filter(|ts| Place::parse("C00", ts).is_some());
        } else if let Some(step) = what.strip_prefix("escalated=") {
            self.escalated = step.parse().unwrap_or_default();
        } else {
            self.filed |= what == "filed";
            self.alarmed |= what == "alarmed";
        }
    }

    fn merge(&mut self, other: Self) {
        self.timeline = self.timeline.take().or(other.timeline);
        self.filed |= other.filed;
        self.alarmed |= other.alarmed;
        self.escalated = self.escalated.max(other.escalated);
    }
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Place { conversation, ts } in &self.places {
            write!(f, "{separator}{conversation}/{ts}")?;
            separator = " ";
        }
        if self.told {
            write!(f, " told")?;
        }
        for (conversation, thread) in &self.threads {
            if let Some(ts) = &thread.timeline {
                write!(f, " {conversation}:timeline={ts}")?;
            }
            for (is, word) in [(thread.filed, "filed"), (thread.alarmed, "alarmed")] {
                if is {
                    write!(f, " {conversation}:{word}")?;
                }
            }
            if thread.escalated > 0 {
                write!(f, " {conversation}:escalated={}", thread.escalated)?;
            }
        }
        Ok(())
    }
}

/// One request's messages. Only one task changes them at a time.
#[derive(Default)]
pub(super) struct Copy {
    pub(super) kept: Arc<tokio::sync::Mutex<Kept>>,
    /// The newest revision anybody asked to be shown.
    pub(super) newest: AtomicU64,
}

/// See [`struct@Copy`].
#[derive(Default)]
pub(super) struct Kept {
    pub(super) announced: Announced,
    /// The revision shown.
    pub(super) revision: u64,
    /// The fingerprint of what stands in a place, as far as known.
    pub(super) shown: HashMap<Place, u64>,
    /// Conversations that did not take it when they were last tried.
    pub(super) lost: BTreeSet<String>,
}

/// Every request's messages, as far as remembered.
#[derive(Default)]
pub(super) struct Copies {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    copies: HashMap<HoldId, Arc<Copy>>,
    order: VecDeque<HoldId>,
}

impl Copies {
    /// The request's messages; none yet for a new request.
    pub(super) fn of(&self, id: &HoldId) -> Arc<Copy> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = known.copies.get(id) {
            return Arc::clone(copy);
        }
        if known.order.len() >= MAX_REQUESTS
            && let Some(oldest) = known.order.pop_front()
        {
            known.copies.remove(&oldest);
        }
        let copy = Arc::new(Copy::default());
        known.order.push_back(id.clone());
        known.copies.insert(id.clone(), Arc::clone(&copy));
        copy
    }

    /// The request's messages, if anything is known of it.
    pub(super) fn find(&self, id: &HoldId) -> Option<Arc<Copy>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).copies.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_being_written_and_read() {
        let place = |conversation: &str, ts: &str| Place::parse(conversation, ts).unwrap();
        let mut announced = Announced {
            places: vec![place("C01", "1795180000.000100"), place("C02", "1795180001.000100")],
            told: true,
            ..Announced::default()
        };
        announced.thread_mut("C01").timeline = Some("1795180002.000100".to_owned());
        *announced.thread_mut("C02") = Thread { filed: true, alarmed: true, escalated: 2, ..Thread::default() };
        let written = announced.to_string();
        assert!(written.starts_with("C01/1795180000.000100 C02/"), "{written}");
        assert_eq!(Announced::parse(&written), announced);
        assert_eq!(Announced::parse("C01/1795180000.000100").places.len(), 1);
        assert_eq!(Announced::parse("nonsense c/d c:filed timeline=x escalated=y"), Announced::default());
    }

    #[test]
    fn a_message_is_adopted_once_and_not_without_end() {
        let mut announced = Announced::default();
        assert!(announced.adopt_place(Place::parse("C01", "1.2")));
        assert!(!announced.adopt_place(Place::parse("C01", "1.2")));
        assert!(!announced.adopt_place(Place::parse("../C01", "1.2")));
        for n in 0..100 {
            announced.adopt_place(Place::parse("C01", &format!("2.{n}")));
        }
        assert_eq!(announced.places.len(), MAX_COPIES);
        // Copies in one conversation leave room for the others.
        assert!(announced.adopt_place(Place::parse("C02", "1.2")));
        assert_eq!(announced.heads().len(), 2);
        for n in 0..100 {
            announced.adopt_place(Place::parse(&format!("C1{n}"), "1.2"));
        }
        assert_eq!(announced.places.len(), MAX_PLACES);
    }

    #[test]
    fn a_link_leads_to_slack_or_nowhere() {
        let place = Place::parse("C01", "1795180000.000100").unwrap();
        let link = place.link("https://acme.slack.com/");
        assert_eq!(link.as_deref(), Some("https://acme.slack.com/archives/C01/p1795180000000100"));
        assert_eq!(place.link("javascript:x"), None);
        assert_eq!(place.link("https://a|b"), None);
    }

    #[test]
    fn the_oldest_requests_are_forgotten_first() {
        let copies = Copies::default();
        for n in 0..=MAX_REQUESTS {
            copies.of(&HoldId(n.to_string()));
        }
        assert!(copies.find(&HoldId("0".to_owned())).is_none());
        assert!(copies.find(&HoldId("1".to_owned())).is_some());
    }
}
