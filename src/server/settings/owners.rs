//! The file that `[policy] owners` names: who owns what. Knows people, groups and channels of the configuration.

use std::ops::Range;
use std::path::PathBuf;

use super::reader::{Document, Section, nearest};
use super::{Settings, Sources};
use crate::approval::People;
use crate::approval::slack::settings::is_slack_id;
use crate::judge::{NameKind, Owners};

/// Names that belong to Slack begin like this.
const OF_SLACK: &str = "slack:";

/// Where the file is, for what is found out about it later.
pub(super) struct OwnersFile {
    path: PathBuf,
    text: String,
}

/// The file, if the configuration names one; `Err`: something is wrong with it, and told.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    sources: &dyn Sources,
    people: &People,
) -> Result<Option<(Owners, OwnersFile)>, ()> {
    let Some((written, span)) = section.take_spanned::<PathBuf>("owners") else { return Ok(None) };
    let document = section.document();
    let path = sources.path(&written);
    let text = match sources.file(&path) {
        Ok((text, _)) => text,
        Err(error) => {
            document.error(Some(span), format!("`policy.owners`: cannot read {}: {error}", path.display()));
            return Err(());
        }
    };
    let own = Document::new(&text);
    let parsed = Owners::parse(&text, &|name| kind(name, people));
    let found = match parsed {
        Ok(owners) => {
            warn(&own, &owners, people);
            Ok(owners)
        }
        Err(errors) => {
            for error in errors {
                own.error(Some(error.at), error.message);
            }
            Err(())
        }
    };
    document.adopt(&path, own);
    found.map(|owners| Some((owners, OwnersFile { path, text })))
}

/// What a name is. One that is not known is taken for a group without members: nobody can agree for it.
fn kind(name: &str, people: &People) -> Result<NameKind, String> {
    if let Some(id) = name.strip_prefix(OF_SLACK) {
        return match id {
            _ if is_slack_id(id, "S") => Ok(NameKind::Group),
            _ if is_slack_id(id, "UW") => Ok(NameKind::Person),
            _ => Err(format!(
                "`{name}`: after `{OF_SLACK}` comes the id of a user group (S012AB3CD) or of a person (U012AB3CD)"
            )),
        };
    }
    match (is_group(name, people), people.named(name).is_some()) {
        (true, true) => Err(format!("`{name}` is both a person and a group of [[people]]; rename one of them")),
        (false, true) => Ok(NameKind::Person),
        // An e-mail address, by which Slack may know them.
        (false, false) if name.contains('@') => Ok(NameKind::Person),
        (_, false) => Ok(NameKind::Group),
    }
}

fn is_group(name: &str, people: &People) -> bool {
    people.iter().any(|person| person.groups.iter().any(|group| group == name))
}

fn warn(document: &Document<'_>, owners: &Owners, people: &People) {
    for line in owners.lines() {
        for group in line.owners.iter().flat_map(|owner| &owner.groups) {
            if group.starts_with(OF_SLACK) || is_group(group, people) {
                continue;
            }
            let groups = people.iter().flat_map(|person| &person.groups).map(String::as_str);
            let all: Vec<&str> = groups.chain(people.iter().map(|person| person.name.as_str())).collect();
            let hint = nearest(group, all.iter().copied()).map(|best| format!("; did you mean `{best}`?"));
            let message = format!(
                "unknown owner `{group}`: no group and nobody in [[people]] has that name, so nobody can agree for it{}",
                hint.unwrap_or_default()
            );
            document.warning(Some(line.at.clone()), message);
        }
    }
    for (number, why) in owners.odd() {
        let at = owners.lines().iter().find(|line| line.number == number).map(|line| line.at.clone());
        document.warning(at, format!("owners: {why}"));
    }
}

/// Once channels are read: an owner who is asked where nothing is, is not asked.
pub(super) fn check_channels(root: &Section<'_, '_>, file: Option<&OwnersFile>, settings: &Settings) {
    let (Some(OwnersFile { path, text }), Some(owners)) = (file, settings.policy.owners()) else { return };
    let own = Document::new(text);
    for line in owners.lines() {
        for id in &line.slack {
            if settings.slack.is_none() {
                wrong(&own, &line.at, format!("`slack={id}`: there is no [slack] section"));
            } else if !is_slack_id(id, "CG") {
                let message = format!(
                    "`slack={id}`: expected a conversation's id such as C012AB3CD (channel details, at the bottom)"
                );
                wrong(&own, &line.at, message);
            }
        }
        for name in &line.webhooks {
            if !settings.webhooks.iter().any(|hook| hook.name == *name) {
                let hint = nearest(name, settings.webhooks.iter().map(|hook| hook.name.as_str()));
                let hint = hint.map(|best| format!("; did you mean `{best}`?")).unwrap_or_default();
                wrong(&own, &line.at, format!("`webhook={name}`: there is no [[webhook]] of that name{hint}"));
            }
        }
    }
    root.document().adopt(path, own);
}

fn wrong(document: &Document<'_>, at: &Range<usize>, message: String) {
    document.error(Some(at.clone()), message);
}
