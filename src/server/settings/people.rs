//! `[[people]]`: who is who, and how they prove it.

use std::path::PathBuf;

use super::reader::Section;
use super::{Settings, Sources};
use crate::approval::slack::settings::is_slack_id;
use crate::approval::{People, Person, TokenDigest};

pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let sections = root.sections("people");
    let first = sections.first().and_then(Section::span);
    let people = sections.into_iter().map(|section| person(section, sources)).collect();
    match People::new(people) {
        Ok(people) => settings.approval.people = people,
        Err(error) => root.document().error(first, error.to_string()),
    }
}

fn person(mut section: Section<'_, '_>, sources: &dyn Sources) -> Person {
    let name: Option<String> = section.take("name");
    if name.is_none() {
        section.document().error(section.span(), "this [[people]] entry has no usable `name`");
    }
    // A name only so that reading can go on: there is an error, so it never gets anywhere.
    let name = name.unwrap_or_else(|| format!("(unnamed, at {:?})", section.span()));
    let groups = section.take("groups").unwrap_or_default();
    let database_users = section.take("database_users").unwrap_or_default();
    let certificate_names = section.take("certificate_names").unwrap_or_default();
    let application_names = section.take("application_names").unwrap_or_default();
    let tokens = tokens(&mut section, &name, sources);
    let slack_user = slack_user(&mut section);
    let email = section.take("email");
    section.finish();
    Person { name, groups, tokens, database_users, certificate_names, application_names, slack_user, email }
}

fn slack_user(section: &mut Section<'_, '_>) -> Option<String> {
    let (user, span) = section.take_spanned::<String>("slack_user")?;
    if !is_slack_id(&user, "UW") {
        let message = "`people[].slack_user`: expected a member id such as \"U012AB3CD\" (in Slack: profile, ⋮, \"Copy member ID\")";
        section.document().error(Some(span), message);
    }
    Some(user)
}

/// The token, from whichever of the four keys is there.
fn tokens(section: &mut Section<'_, '_>, name: &str, sources: &dyn Sources) -> Vec<TokenDigest> {
    let document = section.document();
    let mut digests = Vec::new();
    let mut add = |span, digest: Result<TokenDigest, String>| match digest {
        Ok(digest) => digests.push(digest),
        Err(message) => document.error(Some(span), message),
    };
    if let Some((token, span)) = section.take_secret("token") {
        if sources.is_public() {
            let message = format!("everybody on this machine can read the token of `{name}`: chmod o-r this file");
            document.warning(Some(span.clone()), message);
        }
        add(span, of_text("token", &token));
    }
    if let Some((written, span)) = section.take_spanned::<PathBuf>("token_file") {
        let path = sources.path(&written);
        match sources.file(&path) {
            Ok((text, public)) => {
                if public {
                    let message = format!("everybody on this machine can read {}: chmod o-r it", path.display());
                    document.warning(Some(span.clone()), message);
                }
                add(span, of_text("token_file", text.trim_end_matches(['\r', '\n'])));
            }
            Err(error) => add(span, Err(format!("`people[].token_file`: {}: {error}", path.display()))),
        }
    }
    if let Some((variable, span)) = section.take_spanned::<String>("token_env") {
        let missing = || format!("`people[].token_env`: the environment has no `{variable}`");
        let digest = sources.variable(&variable).ok_or_else(missing).and_then(|token| of_text("token_env", &token));
        add(span, digest);
    }
    if let Some((hex, span)) = section.take_secret("token_sha256") {
        add(span, TokenDigest::from_hex(&hex).map_err(|error| format!("`people[].token_sha256`: {error}")));
    }
    digests
}

fn of_text(key: &str, token: &str) -> Result<TokenDigest, String> {
    TokenDigest::of(token).map_err(|error| format!("`people[].{key}`: {error}"))
}
