//! `[[rule]]` and `[policy]`: the policy as written.

use std::sync::Arc;

use serde::Deserialize;

use super::Settings;
use super::reader::Section;
use crate::judge::{Policy, Rule, Verdict};

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
    let span = section.span();
    section.finish();

    let sections = root.sections("rule");
    if sections.is_empty() {
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
    if clash || rules.len() < written {
        return;
    }
    match fallback {
        Fallback::Hold => {}
        Fallback::Shipped => rules.extend(Policy::shipped().rules().cloned()),
    }
    match Policy::new(rules) {
        Ok(policy) => settings.policy = Arc::new(policy),
        Err(error) => document.error(span, format!("the policy: {error}")),
    }
}

fn rule(mut section: Section<'_, '_>) -> Option<Rule> {
    let document = section.document();
    let span = section.span();
    let name: Option<String> = section.take("name");
    let (action, at) = section.take_spanned::<Verdict>("action").unzip();
    let mut rule = Rule::new(name.clone().unwrap_or_default(), action.unwrap_or(Verdict::Hold));
    section.set_as("message", &mut rule.message, Some);
    section.set_as("users", &mut rule.users, Some);
    section.set_as("databases", &mut rule.databases, Some);
    section.set_as("application_names", &mut rule.application_names, Some);
    section.set_as("addresses", &mut rule.addresses, Some);
    section.set_as("effects", &mut rule.effects, Some);
    section.set_as("objects", &mut rule.objects, Some);
    section.set_as("has_where", &mut rule.has_where, Some);
    section.set_as("in_transaction", &mut rule.in_transaction, Some);
    section.set_as("approval", &mut rule.approval, Some);
    section.set("redact", &mut rule.redact);
    section.finish();
    for (key, there) in [("name", name.is_some()), ("action", action.is_some())] {
        if !there {
            document.error(span.clone(), format!("this [[rule]] has no usable `{key}`"));
        }
    }
    if rule.message.is_some() && rule.action == Verdict::Allow {
        document.warning(at, format!("rule `{}` allows, so nobody will read its `message`", rule.name));
    }
    (name.is_some() && action.is_some()).then_some(rule)
}
