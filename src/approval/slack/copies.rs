//! Where a request was announced, and what was said beside it. Knows no network and no rendering.
//!
//! What has to survive a restart is in [`Announced`], which the desk keeps as the channel's reference; the rest is [`Copies`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::hold::HoldId;

use super::settings::is_slack_id;

/// Requests remembered; older ones are found by their reference.
const MAX_REQUESTS: usize = 10_000;
/// Copies of one request: the first, those of escalations, orphans of lost answers.
const MAX_COPIES: usize = 16;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What was told of a request so far. Written as `C01/1.2 C02/3.4 timeline=5.6 filed told escalated=1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// The message and its copies; the first has the thread.
    pub(super) places: Vec<Place>,
    /// The thread's message with the timeline.
    pub(super) timeline: Option<String>,
    /// The whole statement is a file in the thread.
    pub(super) filed: bool,
    /// The requester was told of the outcome.
    pub(super) told: bool,
    /// That it was released alone in an emergency was said aloud.
    pub(super) alarmed: bool,
    /// Escalation steps said in the thread.
    pub(super) escalated: usize,
}

impl Announced {
    /// Reads a reference; what is not understood is left out.
    pub(super) fn parse(reference: &str) -> Self {
        let mut announced = Self::default();
        for part in reference.split(' ') {
            if let Some((conversation, ts)) = part.split_once('/') {
                announced.adopt_place(Place::parse(conversation, ts));
            } else if let Some(ts) = part.strip_prefix("timeline=") {
                announced.timeline = Some(ts.to_owned()).filter(|ts| Place::parse("C00", ts).is_some());
            } else if let Some(step) = part.strip_prefix("escalated=") {
                announced.escalated = step.parse().unwrap_or_default();
            } else {
                announced.filed |= part == "filed";
                announced.told |= part == "told";
                announced.alarmed |= part == "alarmed";
            }
        }
        announced
    }

    /// Takes over what is known from elsewhere.
    pub(super) fn merge(&mut self, other: Self) {
        for place in other.places {
            self.adopt_place(Some(place));
        }
        self.timeline = self.timeline.take().or(other.timeline);
        self.filed |= other.filed;
        self.told |= other.told;
        self.alarmed |= other.alarmed;
        self.escalated = self.escalated.max(other.escalated);
    }

    /// Adds a message that shows the request; says whether it was unknown.
    pub(super) fn adopt_place(&mut self, place: Option<Place>) -> bool {
        match place {
            Some(place) if !self.places.contains(&place) && self.places.len() < MAX_COPIES => {
                self.places.push(place);
                true
            }
            Some(_) | None => false,
        }
    }
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Place { conversation, ts } in &self.places {
            write!(f, "{separator}{conversation}/{ts}")?;
            separator = " ";
        }
        if let Some(ts) = &self.timeline {
            write!(f, " timeline={ts}")?;
        }
        for (is, word) in [(self.filed, "filed"), (self.told, "told"), (self.alarmed, "alarmed")] {
            if is {
                write!(f, " {word}")?;
            }
        }
        if self.escalated > 0 {
            write!(f, " escalated={}", self.escalated)?;
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
    /// The fingerprint of what stands in every one of so many places.
    pub(super) shown: Option<(u64, usize)>,
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
        let announced = Announced {
            places: vec![place("C01", "1795180000.000100"), place("C02", "1795180001.000100")],
            timeline: Some("1795180002.000100".to_owned()),
            filed: true,
            told: true,
            alarmed: true,
            escalated: 2,
        };
        let written = announced.to_string();
        assert!(written.starts_with("C01/1795180000.000100 C02/"), "{written}");
        assert_eq!(Announced::parse(&written), announced);
        assert_eq!(Announced::parse("C01/1795180000.000100").places.len(), 1);
        assert_eq!(Announced::parse("nonsense c/d timeline=x escalated=y"), Announced::default());
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
