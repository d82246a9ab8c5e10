//! `[approval]` and its profiles: who may decide what. Read after people and rules, whose names it checks.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::Settings;
use super::reader::{Document, Section, nearest};
use super::sections::{Zero, count, time};
use crate::approval::{Approvers, Escalation, Profile, UnknownRequester, Unreachable};

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

pub(super) fn read(root: &mut Section<'_, '_>, settings: &mut Settings) {
    let document = root.document();
    let people = settings.approval.people.clone();
    let names = Names {
        document,
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

    settings.approval.by_rule = by_rule(document, settings, &profiles);
    let nobody = !names.has_channels(&default);
    settings.approval.default = Arc::new(default);
    settings.approval.profiles = profiles;
    if nobody && !people.iter().any(|person| settings.approval.is_approver(person)) {
        let message = "nobody may approve: every held statement will expire. Name `approver_groups` or `approvers` in \
                       [approval], and the people in [[people]]";
        document.warning(span, message);
    }
}

/// Once channels are read: a profile that names one that does not exist would ask nobody.
pub(super) fn check_channels(root: &Section<'_, '_>, settings: &Settings) {
    let slack = settings.slack.iter().map(|slack| slack.name.as_str());
    let known: Vec<&str> = slack.chain(settings.webhooks.iter().map(|hook| hook.name.as_str())).collect();
    let approval = &settings.approval;
    for profile in approval.profiles.values().chain([&approval.default]) {
        let later = profile.escalation.iter().flat_map(|step| &step.channels);
        for name in profile.channels.iter().chain(later).filter(|name| !known.contains(&name.as_str())) {
            let hint = nearest(name, known.iter().copied()).map(|best| format!("; did you mean `{best}`?"));
            let (hint, profile) = (hint.unwrap_or_default(), &profile.name);
            let message = format!(
                "`channels` of the approval profile `{profile}`: there is no channel `{name}`, neither [slack] nor a [[webhook]]{hint}"
            );
            root.document().error(None, message);
        }
    }
}

fn by_rule(
    document: &Document<'_>,
    settings: &Settings,
    profiles: &BTreeMap<String, Arc<Profile>>,
) -> HashMap<String, String> {
    let mut by_rule = HashMap::new();
    for rule in settings.policy.rules() {
        let Some(name) = &rule.approval else { continue };
        if !profiles.contains_key(name) {
            let hint =
                nearest(name, profiles.keys().map(String::as_str)).map(|best| format!("; did you mean `{best}`?"));
            let hint = hint.unwrap_or_default();
            let message = format!("rule `{}`: there is no [[approval.profile]] named `{name}`{hint}", rule.name);
            document.error(None, message);
        }
        by_rule.insert(rule.name.clone(), name.clone());
    }
    by_rule
}

fn profile(section: &mut Section<'_, '_>, names: &Names<'_, '_>, slot: &mut Profile) {
    approvers(section, names, &mut slot.approvers);
    section.set("channels", &mut slot.channels);
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
        step.set("channels", &mut own.channels);
        step.finish();
        steps.push(own);
    }
    if !steps.is_empty() {
        steps.sort_by_key(|step| step.after);
        slot.escalation = steps;
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
