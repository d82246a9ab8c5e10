//! Which channels a request is announced in, and which conversations of one. Knows channels by the names of the configuration only:
//! `slack` is the channel with that name, `slack:C0123` one more conversation of it.

use std::collections::BTreeSet;

use super::profile::Profile;

/// Between a channel's name and one of its conversations.
const OF: char = ':';

/// Where a request is announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// In every channel there is, besides those that are named.
    everywhere: bool,
    named: BTreeSet<String>,
}

impl Audience {
    /// What a profile says, once `escalated` steps were taken.
    #[must_use]
    pub fn of(profile: &Profile, escalated: usize) -> Self {
        if !profile.parts.is_empty() {
            let parts: Vec<Self> =
                profile.each(escalated).into_iter().map(|(part, taken)| Self::of(part, taken)).collect();
            return Self {
                everywhere: parts.iter().any(|part| part.everywhere),
                named: parts.into_iter().flat_map(|part| part.named).collect(),
            };
        }
        let later = profile.escalation.iter().take(escalated).flat_map(|step| &step.channels);
        let named = profile.channels.iter().chain(later).cloned().collect();
        Self { everywhere: profile.channels.is_empty(), named }
    }

    /// How many channels and conversations are named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.named.len().saturating_add(usize::from(self.everywhere))
    }

    /// It names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every channel there is, where no profile says otherwise.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.everywhere
    }

    /// Whether the channel, or a conversation of it, is named.
    #[must_use]
    pub fn names(&self, channel: &str) -> bool {
        self.named.iter().any(|name| name == channel || conversation_of(name, channel).is_some())
    }

    /// Whether the channel announces it.
    #[must_use]
    pub fn includes(&self, channel: &str) -> bool {
        self.everywhere || self.names(channel)
    }

    /// The conversations of one channel, `usual` standing for the channel itself. Never empty: who is told for another reason
    /// is told there.
    #[must_use]
    pub fn conversations(&self, channel: &str, usual: &str) -> BTreeSet<String> {
        let mut all: BTreeSet<String> =
            self.named.iter().filter_map(|name| conversation_of(name, channel)).map(str::to_owned).collect();
        if self.everywhere || self.named.contains(channel) || all.is_empty() {
            all.insert(usual.to_owned());
        }
        all
    }
}

/// The conversation of a channel that a name of the configuration means, if it does.
#[must_use]
pub fn conversation_of<'n>(name: &'n str, channel: &str) -> Option<&'n str> {
    name.strip_prefix(channel)?.strip_prefix(OF).filter(|conversation| !conversation.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::approval::profile::{Approvers, Escalation};

    fn audience(first: &[&str], later: &[&str], escalated: usize) -> Audience {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let step =
            Escalation { after: Duration::from_secs(1), approvers: Approvers::default(), channels: names(later) };
        let profile = Profile { channels: names(first), escalation: vec![step], ..Profile::default() };
        Audience::of(&profile, escalated)
    }

    fn conversations(audience: &Audience) -> Vec<String> {
        audience.conversations("slack", "C0").into_iter().collect()
    }

    #[test]
    fn a_channel_means_its_usual_conversation_and_a_conversation_only_itself() {
        for (first, expected) in [
            (&[][..], &["C0"][..]),
            (&["slack"], &["C0"]),
            (&["slack:C1"], &["C1"]),
            (&["slack", "slack:C1", "slack:C2"], &["C0", "C1", "C2"]),
            (&["slackers:C1"], &["C0"]),
            (&["slack:"], &["C0"]),
        ] {
            assert_eq!(conversations(&audience(first, &[], 0)), expected, "{first:?}");
        }
    }

    #[test]
    fn an_escalation_adds_conversations_and_takes_none_away() {
        assert_eq!(conversations(&audience(&[], &["slack:C1"], 0)), ["C0"]);
        assert_eq!(conversations(&audience(&[], &["slack:C1"], 1)), ["C0", "C1"]);
        assert_eq!(conversations(&audience(&["slack:C2"], &["slack:C1"], 1)), ["C1", "C2"]);
        let other = audience(&["mail"], &["slack:C1"], 1);
        assert!(other.includes("mail") && other.includes("slack"));
        assert_eq!(conversations(&other), ["C1"]);
    }

    #[test]
    fn a_channel_that_nothing_names_is_left_out() {
        let audience = audience(&["slack:C1"], &[], 0);
        assert!(audience.includes("slack") && !audience.includes("mail") && !audience.includes("slack:C2"));
        assert!(!Audience::default().includes("slack"));
    }
}
