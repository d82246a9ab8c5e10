//! `[[rule]]`, `[[freeze]]` and `[policy]`: the policy as written.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::Settings;
use super::reader::{Document, Section};
use crate::approval::People;
use crate::judge::{Action, Freeze, Glob, Parts, Policy, Rule, WrittenFreeze, Zone};

/// What judges effects that no rule of the file matches.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    /// They are held.
    #[default]
    Hold,
    /// The shipped rules.
    Shipped,
}

pub(super) fn read(root: &mut Section<'_, '_>, settings: &mut Settings) {
    let mut section = root.section("policy");
    let fallback = section.take("fallback").unwrap_or_default();
    let observe = section.take("observe").unwrap_or(false);
    let span = section.span();
    section.finish();

    let freezes = freezes(root);
    let sections = root.sections("rule");
    if observe {
        root.document().warning(
            span.clone(),
            "OBSERVE MODE: nothing is held or rejected by the policy; what would have been is only put on record",
        );
    }
    if sections.is_empty() {
        if observe {
            let rules = Policy::shipped().rules().cloned().collect();
            set(root.document(), span, settings, Parts { rules, observe, freezes: Vec::new() });
        }
        return;
    }
    let document = root.document();
    let written = sections.len();
    let mut names: Vec<String> = Vec::with_capacity(written);
    let mut clash = false;
    let mut last: Option<String> = None;
    let mut rules: Vec<Rule> = sections
        .into_iter()
        .filter_map(|section| {
            let span = section.span();
            let rule = rule(section)?;
            warn_of_nobody(document, span.as_ref(), &rule, &settings.approval.people);
            if names.contains(&rule.name) {
                document.error(span.clone(), format!("there is another rule named `{}`", rule.name));
                clash = true;
            }
            if let Some(last) = &last {
                document.warning(
                    span,
                    format!("rule `{}` is never asked: `{last}` before it matches everything", rule.name),
                );
            } else if rule.is_unconditional() {
                last = Some(rule.name.clone());
            }
            names.push(rule.name.clone());
            Some(rule)
        })
        .collect();
    let Some(freezes) = freezes.filter(|_| !clash && rules.len() == written) else {
        return;
    };
    match fallback {
        Fallback::Hold => {}
        Fallback::Shipped => rules.extend(Policy::shipped().rules().cloned()),
    }
    set(document, span, settings, Parts { rules, freezes, observe });
}

fn set(document: &Document<'_>, span: Option<Range<usize>>, settings: &mut Settings, parts: Parts) {
    match Policy::of(parts) {
        Ok(policy) => settings.policy = Arc::new(policy),
        Err(error) => document.error(span, format!("the policy: {error}")),
    }
}

/// The freezes, unless one of them is wrong.
fn freezes(root: &mut Section<'_, '_>) -> Option<Vec<Freeze>> {
    let read = |mut section: Section<'_, '_>| {
        let (document, span) = (section.document(), section.span());
        let (name, from, until) = (section.take("name"), section.take("from"), section.take("until"));
        let mut zone = Zone::default();
        section.set("zone", &mut zone);
        let reason = section.take("reason");
        section.finish();
        let written = match (name, from, until) {
            (Some(name), Some(from), Some(until)) => Ok(WrittenFreeze { name, from, until, zone, reason }),
            _ => Err("this [[freeze]] needs a usable `name`, `from` and `until`".to_owned()),
        };
        written.and_then(Freeze::try_from).map_err(|why| document.error(span, why)).ok()
    };
    let read: Vec<_> = root.sections("freeze").into_iter().map(read).collect();
    read.into_iter().collect()
}

/// A name that nobody has is most likely a slip of the pen, and its rule then matches nothing.
fn warn_of_nobody(document: &Document<'_>, span: Option<&Range<usize>>, rule: &Rule, people: &People) {
    let warn = |what: &str, pattern: &Glob| {
        let message = format!("rule `{}`: nobody in [[people]] {what} `{}`", rule.name, String::from(pattern.clone()));
        document.warning(span.cloned(), message);
    };
    for pattern in rule.people.iter().flatten() {
        if !people.iter().any(|person| pattern.matches(&person.name)) {
            warn("is named", pattern);
        }
    }
    for pattern in rule.groups.iter().flatten() {
        if !people.iter().any(|person| person.groups.iter().any(|group| pattern.matches(group))) {
            warn("is in the group", pattern);
        }
    }
}

fn rule(mut section: Section<'_, '_>) -> Option<Rule> {
    let document = section.document();
    let span = section.span();
    let name: Option<String> = section.take("name");
    let (action, at) = section.take_spanned::<Action>("action").unzip();
    let mut rule = Rule::new(name.clone().unwrap_or_default(), action.unwrap_or(Action::Hold));
    section.set("observe", &mut rule.observe);
    section.set_as("message", &mut rule.message, Some);
    section.set_as("users", &mut rule.users, Some);
    section.set_as("databases", &mut rule.databases, Some);
    section.set_as("application_names", &mut rule.application_names, Some);
    section.set_as("addresses", &mut rule.addresses, Some);
    section.set_as("people", &mut rule.people, Some);
    section.set_as("groups", &mut rule.groups, Some);
    section.set_as("times", &mut rule.times, Some);
    section.set_as("frozen", &mut rule.frozen, Some);
    section.set_as("effects", &mut rule.effects, Some);
    section.set_as("objects", &mut rule.objects, Some);
    section.set_as("columns", &mut rule.columns, Some);
    section.set_as("has_where", &mut rule.has_where, Some);
    section.set_as("in_transaction", &mut rule.in_transaction, Some);
    section.set_as("tags", &mut rule.tags, Some);
    section.set_as("approval", &mut rule.approval, Some);
    section.set("redact", &mut rule.redact);
    section.finish();
    for (key, there) in [("name", name.is_some()), ("action", action.is_some())] {
        if !there {
            document.error(span.clone(), format!("this [[rule]] has no usable `{key}`"));
        }
    }
    if rule.message.is_some() && rule.action == Action::Allow {
        document.warning(at, format!("rule `{}` allows, so nobody will read its `message`", rule.name));
    }
    if rule.observe {
        let message = format!("OBSERVE MODE: rule `{}` holds and rejects nothing, what it matches passes", rule.name);
        document.warning(span, message);
    }
    (name.is_some() && action.is_some()).then_some(rule)
}
