//! Who is asked about a held statement, how many have to agree, and what happens when nobody answers. Knows no requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::audience::Audience;
use super::channel::Actor;
use crate::judge::{OWNERS_NAMED, Ownership};

/// Most conversations, and webhooks that count, of one request. Slack's messages of it are kept up one by one.
pub const MAX_CONVERSATIONS: usize = 10;

/// Approval rules for the statements of one or several policy rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name in the configuration; `default` for the section `[approval]` itself.
    pub name: String,
    /// Who may decide.
    pub approvers: Approvers,
    /// Channels that announce its requests; empty: all.
    pub channels: Vec<String>,
    /// Approvals needed, at least 1. One person has one vote, however many groups they are in.
    pub quorum: usize,
    /// What is asked for when the requester is not a known person.
    pub unknown_requester: UnknownRequester,
    /// People who may release a statement alone in an emergency, also their own, by name.
    pub break_glass: Vec<String>,
    /// How long people have; `None`: the section `[hold]` says.
    pub deadline: Option<Duration>,
    /// The longest for which an approver may approve a statement again in its session; zero: never.
    pub again: Duration,
    /// Pause between reminders in channels; zero: none.
    pub remind_every: Duration,
    /// Steps taken when nobody has decided, in order of time.
    pub escalation: Vec<Escalation>,
    /// What a hold does when none of its channels can be reached.
    pub unreachable: Unreachable,
    /// It stands for the owners of something a request touches: who they are and of what, in words.
    pub owners: Option<String>,
    /// Profiles of the configuration that must each be satisfied; empty: this is one itself.
    pub parts: Vec<Arc<Profile>>,
}

/// People and groups, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Approvers {
    /// Groups of the configuration, or of a channel (`slack:S0123`).
    pub groups: Vec<String>,
    /// People of the configuration, or of a channel (`slack:U0123`, an e-mail address).
    pub people: Vec<String>,
}

/// After a while, others are asked too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// Counted from the beginning of the hold.
    pub after: Duration,
    /// Who may decide from then on, besides those before.
    pub approvers: Approvers,
    /// Channels that announce the request from then on, besides those before.
    pub channels: Vec<String>,
}

/// The requester is a database user that belongs to no known person, so that any approver might be deciding their own request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownRequester {
    /// At least two people have to approve: one of them is somebody else.
    #[default]
    TwoApprovals,
    /// As if the requester were known.
    Allow,
    /// Nobody may approve.
    Refuse,
}

/// No channel can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreachable {
    /// The statement waits: somebody may decide through the API, or a channel comes back.
    #[default]
    Wait,
    /// The client gets an error at once.
    Reject,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            approvers: Approvers::default(),
            channels: Vec::new(),
            quorum: 1,
            unknown_requester: UnknownRequester::default(),
            break_glass: Vec::new(),
            deadline: None,
            again: Duration::ZERO,
            remind_every: Duration::ZERO,
            escalation: Vec::new(),
            unreachable: Unreachable::default(),
            owners: None,
            parts: Vec::new(),
        }
    }
}

impl Approvers {
    /// Whether the actor is among them.
    #[must_use]
    pub fn include(&self, actor: &Actor) -> bool {
        self.people.iter().any(|name| actor.is_named(name))
            || self.groups.iter().any(|group| actor.groups.contains(group))
    }

    /// In words: "group dba, ann".
    #[must_use]
    pub fn in_words(&self) -> String {
        let groups = self.groups.iter().map(|group| format!("group {group}"));
        groups.chain(self.people.iter().cloned()).collect::<Vec<_>>().join(", ")
    }
}

impl Profile {
    /// What several rules want of one request: whoever each of them asks has to agree, and of everything else the stricter counts.
    #[must_use]
    pub fn all_of(mut profiles: Vec<Arc<Self>>) -> Arc<Self> {
        let mut seen = BTreeSet::new();
        profiles.retain(|profile| seen.insert(profile.name.clone()));
        if profiles.len() < 2 {
            return profiles.pop().unwrap_or_default();
        }
        let of = |names: fn(&Self) -> &Vec<String>| -> Vec<String> {
            let mut all: Vec<String> = Vec::new();
            for name in profiles.iter().flat_map(|profile| names(profile)) {
                if !all.contains(name) {
                    all.push(name.clone());
                }
            }
            all
        };
        let mut break_glass = of(|profile| &profile.break_glass);
        break_glass.retain(|name| profiles.iter().all(|profile| profile.break_glass.contains(name)));
        let mut escalation: Vec<Escalation> =
            profiles.iter().flat_map(|profile| profile.escalation.iter().cloned()).collect();
        escalation.sort_by_key(|step| step.after);
        let one_is = |is: fn(&Self) -> bool| profiles.iter().any(|profile| is(profile));
        Arc::new(Self {
            name: profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>().join(" + "),
            approvers: Approvers {
                groups: of(|profile| &profile.approvers.groups),
                people: of(|profile| &profile.approvers.people),
            },
            channels: if one_is(|profile| profile.channels.is_empty()) {
                Vec::new()
            } else {
                of(|profile| &profile.channels)
            },
            quorum: profiles.iter().map(|profile| profile.quorum).max().unwrap_or(1),
            unknown_requester: if one_is(|profile| profile.unknown_requester == UnknownRequester::Refuse) {
                UnknownRequester::Refuse
            } else if one_is(|profile| profile.unknown_requester == UnknownRequester::TwoApprovals) {
                UnknownRequester::TwoApprovals
            } else {
                UnknownRequester::Allow
            },
            break_glass,
            deadline: profiles.iter().filter_map(|profile| profile.deadline).min(),
            again: profiles.iter().map(|profile| profile.again).min().unwrap_or_default(),
            remind_every: profiles
                .iter()
                .map(|profile| profile.remind_every)
                .filter(|every| !every.is_zero())
                .min()
                .unwrap_or_default(),
            escalation,
            unreachable: if one_is(|profile| profile.unreachable == Unreachable::Reject) {
                Unreachable::Reject
            } else {
                Unreachable::Wait
            },
            owners: None,
            parts: profiles,
        })
    }

    /// What the rules want, and besides that each owner agrees. Owners have one vote among them; who they are is all they add: everything
    /// else is as the rules say, emergency releases as well. An escalation asks others in the place of the rules' approvers, never of
    /// owners. `slack` is the name of the channel to Slack.
    #[must_use]
    pub fn with_owners(rules: Arc<Self>, owners: &[Ownership], slack: Option<&str>) -> Arc<Self> {
        if owners.is_empty() {
            return rules;
        }
        let mut room = MAX_CONVERSATIONS.saturating_sub(Audience::of(&rules, usize::MAX).len());
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut parts = if rules.parts.is_empty() { vec![Arc::clone(&rules)] } else { rules.parts.clone() };
        for owner in owners {
            let conversations = owner.slack.iter().filter_map(|id| Some(format!("{}:{id}", slack?)));
            let mut channels = Vec::new();
            for name in conversations.chain(owner.webhooks.iter().cloned()) {
                if told.contains(&name) || room > 0 {
                    room = room.saturating_sub(usize::from(told.insert(name.clone())));
                    channels.push(name);
                } else {
                    tracing::warn!(channel = name, "a request has too many owners to be announced there as well");
                }
            }
            if channels.is_empty() {
                channels.clone_from(&rules.channels);
            }
            parts.push(Arc::new(Self {
                name: owner.in_words(),
                approvers: Approvers { groups: owner.groups.clone(), people: owner.people.clone() },
                channels,
                quorum: 1,
                // That nobody decides their own request is for the rules' own profile to say.
                unknown_requester: UnknownRequester::Allow,
                break_glass: rules.break_glass.clone(),
                deadline: rules.deadline,
                again: rules.again,
                remind_every: rules.remind_every,
                escalation: Vec::new(),
                unreachable: rules.unreachable,
                owners: Some(owner.in_words()),
                parts: Vec::new(),
            }));
        }
        Self::all_of(parts)
    }

    /// Each profile that has to be satisfied, with how many of its escalation steps are taken once `escalated` of this one's are.
    pub(super) fn each(&self, escalated: usize) -> Vec<(&Self, usize)> {
        if self.parts.is_empty() {
            return vec![(self, escalated)];
        }
        let last = escalated.checked_sub(1).and_then(|last| self.escalation.get(last).or(self.escalation.last()));
        let taken =
            |part: &Self| last.map_or(0, |last| part.escalation.iter().filter(|step| step.after <= last.after).count());
        self.parts.iter().map(|part| (&**part, taken(part))).collect()
    }

    /// Whether the actor may decide once `escalated` steps were taken.
    #[must_use]
    pub fn includes(&self, actor: &Actor, escalated: usize) -> bool {
        self.approvers.include(actor)
            || self.escalation.iter().take(escalated).any(|step| step.approvers.include(actor))
    }

    /// Whether the actor may decide now or after an escalation.
    #[must_use]
    pub fn may_ever_include(&self, actor: &Actor) -> bool {
        self.includes(actor, usize::MAX) || self.may_break_glass(actor)
    }

    /// Whether the actor may release alone.
    #[must_use]
    pub fn may_break_glass(&self, actor: &Actor) -> bool {
        self.break_glass.iter().any(|name| actor.is_named(name))
    }

    /// Who is asked at first, in words.
    #[must_use]
    pub fn asked(&self) -> String {
        if !self.parts.is_empty() {
            let (owners, rules): (Vec<_>, Vec<_>) = self.parts.iter().partition(|part| part.owners.is_some());
            let named = rules.into_iter().chain(owners.iter().copied().take(OWNERS_NAMED));
            let mut asked: Vec<String> = named.map(|part| part.asked()).collect();
            let more = owners.len().saturating_sub(OWNERS_NAMED);
            if more > 0 {
                asked.push(format!("{more} more owners"));
            }
            return asked.join("; and besides ");
        }
        if let Some(words) = &self.owners {
            return words.clone();
        }
        let words = self.approvers.in_words();
        if words.is_empty() { "nobody (no approvers are configured)".to_owned() } else { words }
    }

    /// Approvals needed.
    #[must_use]
    pub fn needed(&self, requester_is_known: bool) -> usize {
        let least = match self.unknown_requester {
            UnknownRequester::TwoApprovals if !requester_is_known => 2,
            UnknownRequester::TwoApprovals | UnknownRequester::Allow | UnknownRequester::Refuse => 1,
        };
        self.quorum.max(least)
    }
}
