//! `[approval]` and its profiles: who may decide what. Read after people and rules, whose names it checks.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::Settings;
use super::reader::{Document, Section, nearest};
use super::sections::{Zero, count, time};
use crate::approval::audience::{Audience, conversation_of};
use crate::approval::slack::settings::is_slack_id;
use crate::approval::{Approvers, Escalation, MAX_CONVERSATIONS, Profile, UnknownRequester, Unreachable};

/// Names that belong to a channel are not the configuration's to know.
const OF_CHANNELS: [&str; 2] = ["slack:", "@"];

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Unknown {
    TwoApprovals,
    Allow,
    Refuse,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Unreached {
    Wait,
    Reject,
}

/// Channels that a profile names, and where.
pub(super) struct Mention {
    profile: String,
    names: Vec<String>,
    at: Range<usize>,
}

pub(super) fn read(root: &mut Section<'_, '_>, settings: &mut Settings) -> Vec<Mention> {
    let document = root.document();
    let people = settings.approval.people.clone();
    let names = Names {
        document,
        mentions: RefCell::default(),
        groups: people.iter().flat_map(|person| person.groups.iter().map(String::as_str)).collect(),
        people: people.iter().map(|person| person.name.as_str()).collect(),
    };

    let mut section = root.section("approval");
    let span = section.span();
    let mut default = Profile::default();
    profile(&mut section, &names, &mut default);
    let mut profiles = BTreeMap::new();
    for mut section in section.sections("profile") {
        let at = section.span();
        let Some(name) = section.take::<String>("name") else {
            document.error(at, "this [[approval.profile]] has no usable `name`");
            continue;
        };
        // What a profile does not say is as in [approval], but for whom it asks.
        let mut own =
            Profile { name: name.clone(), approvers: Approvers::default(), escalation: Vec::new(), ..default.clone() };
        profile(&mut section, &names, &mut own);
        section.finish();
        if !people.iter().any(|person| own.may_ever_include(&crate::approval::channel::Actor::person(person)))
            && !names.has_channels(&own)
        {
            document.warning(at.clone(), format!("nobody may approve what profile `{name}` asks"));
        }
        if profiles.insert(name.clone(), Arc::new(own)).is_some() {
            document.error(at, format!("there is another profile named `{name}`"));
        }
    }
    section.finish();
    let nobody = !names.has_channels(&default);
    let mentions = names.mentions.into_inner();

    settings.approval.policy = Some(Arc::clone(&settings.policy));
    settings.approval.by_rule = by_rule(document, settings, &profiles);
    settings.approval.default = Arc::new(default);
    settings.approval.profiles = profiles;
    if nobody && !people.iter().any(|person| settings.approval.is_approver(person)) {
        let message = "nobody may approve: every held statement will expire. Name `approver_groups` or `approvers` in \
                       [approval], and the people in [[people]]";
        document.warning(span, message);
    }
    mentions
}

/// Once channels are read: a profile that names one that does not exist would ask nobody.
pub(super) fn check_channels(root: &Section<'_, '_>, mentions: &[Mention], settings: &Settings) {
    let document = root.document();
    for Mention { profile, names, at } in mentions {
        for name in names {
            if let Some(why) = no_channel(name, settings) {
                let message = format!("`channels` of the approval profile `{profile}`: {why}");
                document.error(Some(at.clone()), message);
            }
        }
    }
    let Some(slack) = &settings.slack else { return };
    for profile in settings.approval.profiles.values().chain([&settings.approval.default]) {
        let all = Audience::of(profile, usize::MAX).conversations(&slack.name, &slack.channel).len();
        if all > MAX_CONVERSATIONS {
            let message = format!(
                "the approval profile `{}` names {all} conversations of Slack; at most {MAX_CONVERSATIONS} can be kept up",
                profile.name
            );
            document.error(None, message);
        }
    }
}

/// Why nothing would be announced in the channel of that name.
fn no_channel(name: &str, settings: &Settings) -> Option<String> {
    let slack = settings.slack.as_ref().map(|slack| slack.name.as_str());
    let known: Vec<&str> = slack.into_iter().chain(settings.webhooks.iter().map(|hook| hook.name.as_str())).collect();
    if known.contains(&name) {
        return None;
    }
    if let Some(id) = slack.and_then(|slack| conversation_of(name, slack)) {
        return (!is_slack_id(id, "CG")).then(|| {
            format!(
                "`{name}` names no conversation: after `{}:` comes a conversation's id such as C012AB3CD (channel details, at the bottom)",
                slack.unwrap_or_default()
            )
        });
    }
    if let Some((channel, id)) = name.split_once(':')
        && is_slack_id(id, "CG")
    {
        return Some(match slack {
            Some(slack) => {
                format!(
                    "`{name}` means a conversation of the channel `{channel}`, but [slack] has the name `{slack}`: `{slack}:{id}`"
                )
            }
            None => format!("`{name}` is a conversation of Slack, but there is no [slack] section"),
        });
    }
    let hint = nearest(name, known.iter().copied()).map(|best| format!("; did you mean `{best}`?")).unwrap_or_default();
    Some(format!("there is no channel `{name}`, neither [slack] nor a [[webhook]]{hint}"))
}

fn by_rule(
    document: &Document<'_>,
    settings: &Settings,
    profiles: &BTreeMap<String, Arc<Profile>>,
) -> HashMap<String, String> {
    let mut by_rule = HashMap::new();
    let hint = |name: &str| {
        let best = nearest(name, profiles.keys().map(String::as_str));
        best.map(|best| format!("; did you mean `{best}`?")).unwrap_or_default()
    };
    for rule in settings.policy.rules() {
        let Some(name) = &rule.approval else { continue };
        if !profiles.contains_key(name) {
            let message =
                format!("rule `{}`: there is no [[approval.profile]] named `{name}`{}", rule.name, hint(name));
            document.error(document.place_of(&[&rule.name, name]), message);
        }
        by_rule.insert(rule.name.clone(), name.clone());
    }
    if let Some(rego) = settings.policy.rego() {
        rego.know_profiles(profiles.keys());
        for name in rego.named_profiles().filter(|name| !profiles.contains_key(*name)) {
            document.error(
                None,
                format!("the policy in Rego: there is no [[approval.profile]] named `{name}`{}", hint(name)),
            );
        }
        by_rule.extend(profiles.keys().map(|name| (format!("@{name}"), name.clone())));
    }
    by_rule
}

fn profile(section: &mut Section<'_, '_>, names: &Names<'_, '_>, slot: &mut Profile) {
    approvers(section, names, &mut slot.approvers);
    channels(section, names, &slot.name, &mut slot.channels);
    count(section, "quorum", &mut slot.quorum);
    section.set_as("unknown_requester", &mut slot.unknown_requester, |choice| match choice {
        Unknown::TwoApprovals => UnknownRequester::TwoApprovals,
        Unknown::Allow => UnknownRequester::Allow,
        Unknown::Refuse => UnknownRequester::Refuse,
    });
    if let Some((people, span)) = section.take_spanned::<Vec<String>>("break_glass") {
        names.check("break_glass", "person in [[people]]", &people, &span, &names.people);
        slot.break_glass = people;
    }
    let mut deadline = slot.deadline.unwrap_or_default();
    time(section, "deadline", Zero::Allowed, &mut deadline);
    slot.deadline = Some(deadline).filter(|deadline| !deadline.is_zero());
    time(section, "again", Zero::Allowed, &mut slot.again);
    time(section, "remind_every", Zero::Allowed, &mut slot.remind_every);
    section.set_as("unreachable", &mut slot.unreachable, |choice| match choice {
        Unreached::Wait => Unreachable::Wait,
        Unreached::Reject => Unreachable::Reject,
    });
    let mut steps = Vec::new();
    for mut step in section.sections("escalation") {
        let mut own =
            Escalation { after: std::time::Duration::ZERO, approvers: Approvers::default(), channels: Vec::new() };
        time(&mut step, "after", Zero::No, &mut own.after);
        if own.after.is_zero() {
            step.document().error(step.span(), "an escalation needs `after`, a time such as \"10m\"");
        }
        approvers(&mut step, names, &mut own.approvers);
        channels(&mut step, names, &slot.name, &mut own.channels);
        step.finish();
        steps.push(own);
    }
    if !steps.is_empty() {
        steps.sort_by_key(|step| step.after);
        slot.escalation = steps;
    }
}

fn channels(section: &mut Section<'_, '_>, names: &Names<'_, '_>, profile: &str, slot: &mut Vec<String>) {
    if let Some((channels, at)) = section.take_spanned::<Vec<String>>("channels") {
        slot.clone_from(&channels);
        names.mentions.borrow_mut().push(Mention { profile: profile.to_owned(), names: channels, at });
    }
}

fn approvers(section: &mut Section<'_, '_>, names: &Names<'_, '_>, slot: &mut Approvers) {
    if let Some((groups, span)) = section.take_spanned::<Vec<String>>("approver_groups") {
        names.check("approver_groups", "group in [[people]]", &groups, &span, &names.groups);
        slot.groups = groups;
    }
    if let Some((people, span)) = section.take_spanned::<Vec<String>>("approvers") {
        names.check("approvers", "person in [[people]]", &people, &span, &names.people);
        slot.people = people;
    }
}

/// The names the configuration knows.
struct Names<'d, 't> {
    document: &'d Document<'t>,
    /// Channels are read later.
    mentions: RefCell<Vec<Mention>>,
    groups: Vec<&'d str>,
    people: Vec<&'d str>,
}

impl Names<'_, '_> {
    fn check(&self, key: &str, what: &str, wanted: &[String], span: &Range<usize>, all: &[&str]) {
        for name in wanted {
            if all.contains(&name.as_str()) || is_of_a_channel(name) {
                continue;
            }
            // A name that means nobody would leave statements to people who can never answer.
            let hint = nearest(name, all.iter().copied()).map(|best| format!("; did you mean `{best}`?"));
            let message = format!("`approval.{key}`: there is no {what} named `{name}`{}", hint.unwrap_or_default());
            self.document.error(Some(span.clone()), message);
        }
    }

    /// Somebody known to a channel only is asked.
    #[expect(clippy::unused_self, reason = "reads as a question about names")]
    fn has_channels(&self, profile: &Profile) -> bool {
        let Approvers { groups, people } = &profile.approvers;
        groups.iter().chain(people).any(|name| is_of_a_channel(name))
    }
}

fn is_of_a_channel(name: &str) -> bool {
    OF_CHANNELS.iter().any(|mark| name.contains(mark))
}
