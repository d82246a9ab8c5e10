//! `[[integration]]`: programs that hand in people's decisions. Read after people, whose names it checks.

use super::reader::Section;
use super::secret::{Keys, secret};
use super::webhook::MIN_SECRET_CHARS;
use super::{Settings, Sources};
use crate::approval::integration::EVERYBODY;
use crate::approval::{Integration, TokenDigest};

const TOKEN: Keys = ["token", "token_env", "token_file"];
const SECRET: Keys = ["secret", "secret_env", "secret_file"];

pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let document = root.document();
    for mut section in root.sections("integration") {
        let span = section.span();
        let name = section.take::<String>("name");
        let token = secret(&mut section, "integration[]", TOKEN, sources);
        let secret = secret(&mut section, "integration[]", SECRET, sources);
        let people = section.take_spanned::<Vec<String>>("people");
        section.finish();
        let (Some(name), Some(token), Some(secret), Some((people, at))) = (name, token, secret, people) else {
            document.error(
                span,
                "an [[integration]] needs `name`, `people`, one of `token`, `token_env`, `token_file`, and one of `secret`, \
                 `secret_env`, `secret_file`",
            );
            continue;
        };
        let wrong = |message: &str| document.error(span.clone(), format!("integration `{name}`: {message}"));
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            wrong("a name has visible characters");
        }
        if settings.approval.integrations.iter().any(|other| other.name == name) {
            wrong("there is another of that name");
        }
        if secret.reveal().len() < MIN_SECRET_CHARS {
            wrong("a secret has at least 16 characters; `openssl rand -hex 32` makes one");
        }
        if token.reveal() == secret.reveal() {
            wrong("token and secret are the same; the secret must never travel");
        }
        if settings.approval.people.by_token(token.reveal()).is_some() {
            wrong("its token is a person's token");
        }
        if Integration::by_token(&settings.approval.integrations, token.reveal()).is_some() {
            wrong("its token is another integration's");
        }
        let known = |person: &&String| *person != EVERYBODY && settings.approval.people.named(person).is_none();
        if let Some(unknown) = people.iter().find(known) {
            document.error(Some(at), format!("integration `{name}`: there is no person `{unknown}` in [[people]]"));
        } else if people.is_empty() {
            document
                .error(Some(at), format!("integration `{name}` may speak for nobody: name people, or \"*\" for all"));
        }
        match TokenDigest::of(token.reveal()) {
            Ok(token) => settings.approval.integrations.push(Integration {
                name,
                token,
                secret: secret.reveal().to_owned(),
                people,
            }),
            Err(error) => wrong(&error.to_string()),
        }
    }
}
