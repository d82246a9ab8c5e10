//! `[[rule]]`, `[[freeze]]` and `[policy]`: the policy as written.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::owners::{self, OwnersFile};
use super::reader::{Document, Section};
use super::rego;
use super::{Settings, Sources};
use crate::approval::People;
use crate::judge::{Action, Freeze, Glob, ObjectPattern, Parts, Policy, Rule, WrittenFreeze, Zone};

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

/// Largest number of files that are included.
const MAX_FILES: usize = 1_000;

/// Reads the policy. Returns the owners file, whose channels are checked once they are read.
pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) -> Option<OwnersFile> {
    let mut section = root.section("policy");
    let fallback = section.take("fallback").unwrap_or_default();
    let observe = section.take("observe").unwrap_or(false);
    section.set("watch", &mut settings.watch);
    let critical = section.take::<Vec<ObjectPattern>>("critical").unwrap_or_default();
    let include = section.take_spanned::<Vec<String>>("include");
    let rego = rego::read(&mut section, sources);
    let owners = owners::read(&mut section, sources, &settings.approval.people);
    let span = section.span();
    section.finish();

    let document = root.document();
    let mut gathered = Gathered::default();
    gathered.take(root, &settings.approval.people);
    if let Some((patterns, at)) = include {
        gathered.include(document, &patterns, &at, sources, &settings.approval.people);
    }
    if observe {
        document.warning(
            span.clone(),
            "OBSERVE MODE: nothing is held or rejected by the policy; what would have been is only put on record",
        );
    }
    let Gathered { mut rules, freezes, broken, .. } = gathered;
    // Fail closed: a part of a policy is another policy.
    let (Ok(owners), Ok(rego), false) = (owners, rego, broken) else { return None };
    let (owners, file) = owners.unzip();
    if rules.is_empty() && !observe && owners.is_none() && rego.is_none() {
        return None;
    }
    let shipped = match fallback {
        Fallback::Hold => rules.is_empty() && rego.is_none(),
        Fallback::Shipped => true,
    };
    if shipped {
        rules.extend(Policy::shipped().rules().cloned());
    }
    set(document, span, settings, Parts { rules, freezes, owners, critical, observe, rego });
    file
}

/// Rules and freezes of all files so far, in order.
#[derive(Default)]
struct Gathered {
    rules: Vec<Rule>,
    freezes: Vec<Freeze>,
    /// The rule behind which none is asked.
    last: Option<String>,
    /// Something of it is wrong, and told.
    broken: bool,
}

impl Gathered {
    /// What a file has of them.
    fn take(&mut self, root: &mut Section<'_, '_>, people: &People) {
        let document = root.document();
        match freezes(root) {
            Some(freezes) => self.freezes.extend(freezes),
            None => self.broken = true,
        }
        for section in root.sections("rule") {
            let span = section.span();
            let Some(rule) = rule(section) else {
                self.broken = true;
                continue;
            };
            warn_of_nobody(document, span.as_ref(), &rule, people);
            if self.rules.iter().any(|earlier| earlier.name == rule.name) {
                document.error(span.clone(), format!("there is another rule named `{}`", rule.name));
                self.broken = true;
            }
            if let Some(last) = &self.last {
                document.warning(
                    span,
                    format!("rule `{}` is never asked: `{last}` before it matches everything", rule.name),
                );
            } else if rule.is_unconditional() {
                self.last = Some(rule.name.clone());
            }
            self.rules.push(rule);
        }
    }

    /// Files of rules and freezes, behind those of the configuration itself.
    fn include(
        &mut self,
        document: &Document<'_>,
        patterns: &[String],
        at: &Range<usize>,
        sources: &dyn Sources,
        people: &People,
    ) {
        let mut files = Vec::new();
        for pattern in patterns {
            let found = sources.matching(pattern).map_err(|error| error.to_string());
            match found
                .and_then(|found| if found.is_empty() { Err("there is no such file".to_owned()) } else { Ok(found) })
            {
                Ok(found) => files.extend(found),
                Err(why) => {
                    document.error(Some(at.clone()), format!("`policy.include`: `{pattern}`: {why}"));
                    self.broken = true;
                }
            }
        }
        if files.len() > MAX_FILES {
            document.error(Some(at.clone()), format!("`policy.include`: more than {MAX_FILES} files"));
            self.broken = true;
            return;
        }
        for path in files {
            let text = match sources.file(&path) {
                Ok((text, _)) => text,
                Err(error) => {
                    let message = format!("`policy.include`: cannot read {}: {error}", path.display());
                    document.error(Some(at.clone()), message);
                    self.broken = true;
                    continue;
                }
            };
            let included = Document::new(&text);
            let mut root = included.root();
            self.take(&mut root, people);
            root.finish();
            document.adopt(&path, included);
        }
    }
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
    section.set_as("advice", &mut rule.advice, Some);
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
    section.set_as("risks", &mut rule.risks, Some);
    section.set_as("impact", &mut rule.impact, Some);
    section.set_as("approval", &mut rule.approval, Some);
    section.set("redact", &mut rule.redact);
    section.set_as("guard", &mut rule.guard, Some);
    section.set_as("undo", &mut rule.undo, Some);
    section.finish();
    for (key, there) in [("name", name.is_some()), ("action", action.is_some())] {
        if !there {
            document.error(span.clone(), format!("this [[rule]] has no usable `{key}`"));
        }
    }
    if rule.message.is_some() && rule.action == Action::Allow {
        document.warning(at.clone(), format!("rule `{}` allows, so nobody will read its `message`", rule.name));
    }
    if rule.advice.is_some() && matches!(rule.action, Action::Allow | Action::Notify) {
        document.warning(at, format!("rule `{}` lets pass, so nobody will read its `advice`", rule.name));
    }
    if rule.observe {
        let message = format!("OBSERVE MODE: rule `{}` holds and rejects nothing, what it matches passes", rule.name);
        document.warning(span, message);
    }
    (name.is_some() && action.is_some()).then_some(rule)
}
