//! `[[webhook]]`: programs that are told of events.

use std::time::Duration;

use super::reader::Section;
use super::secret::{Keys, secret};
use super::sections::{Zero, time};
use super::{Settings, Sources};
use crate::approval::webhook::{EVENTS, WebhookSettings};

const SECRET: Keys = ["secret", "secret_env", "secret_file"];
/// A signature is worth as much as its key.
pub(super) const MIN_SECRET_CHARS: usize = 16;

pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let document = root.document();
    for mut section in root.sections("webhook") {
        let span = section.span();
        let name = section.take::<String>("name");
        let url = section.take_spanned::<String>("url");
        let secret = secret(&mut section, "webhook[]", SECRET, sources);
        let events = section.take_spanned::<Vec<String>>("events");
        let mut owned = false;
        section.set("owned", &mut owned);
        let mut timeout = Duration::from_secs(10);
        time(&mut section, "timeout", Zero::No, &mut timeout);
        section.finish();
        let (Some(name), Some((url, at)), Some(secret)) = (name, url, secret) else {
            document.error(span, "a [[webhook]] needs `name`, `url` and one of `secret`, `secret_env`, `secret_file`");
            continue;
        };
        if settings.webhooks.iter().any(|hook| hook.name == name) {
            document.error(span.clone(), format!("there is another webhook named `{name}`"));
        }
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            document.error(Some(at), format!("webhook `{name}`: a `url` starts with https:// (or http://)"));
        }
        if secret.reveal().len() < MIN_SECRET_CHARS {
            let message = format!(
                "webhook `{name}`: a secret has at least {MIN_SECRET_CHARS} characters; `openssl rand -hex 32` makes one"
            );
            document.error(span, message);
        }
        let (events, at) = events.unwrap_or_default();
        if let Some(unknown) = events.iter().find(|kind| !EVENTS.contains(&kind.as_str())) {
            let message = format!("webhook `{name}`: there is no event `{unknown}`; there are {}", EVENTS.join(", "));
            document.error(Some(at), message);
        }
        settings.webhooks.push(WebhookSettings {
            name,
            url,
            secret: secret.reveal().to_owned(),
            events,
            owned,
            timeout,
        });
    }
}
