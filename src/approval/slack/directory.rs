//! Who and what the configuration names, which may change while the gate runs. Knows no requests.

use crate::approval::audience::Audience;
use crate::approval::people::People;

use super::settings::SlackSettings;

/// What requests are rendered, announced and decided with.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    /// Who is who.
    pub(super) people: People,
    /// The channel's name in the configuration.
    pub(super) name: String,
    /// Where what names no conversation is announced.
    pub(super) usual: String,
    /// Further conversations that are named.
    pub(super) further: Vec<String>,
    /// User groups that are looked up for every click.
    pub(super) groups: Vec<String>,
}

impl Directory {
    pub(super) fn new(settings: &SlackSettings, people: People) -> Self {
        Self {
            people,
            name: settings.name.clone(),
            usual: settings.channel.clone(),
            further: settings.conversations.clone(),
            groups: settings.approver_groups.clone(),
        }
    }

    /// Every conversation, the usual one first.
    pub(super) fn conversations(&self) -> impl Iterator<Item = &str> {
        let further = self.further.iter().filter(|one| **one != self.usual);
        std::iter::once(&self.usual).chain(further).map(String::as_str)
    }

    /// Where a request is to be announced, the usual conversation first.
    pub(super) fn wanted(&self, audience: &Audience) -> Vec<String> {
        let mut wanted: Vec<String> = audience.conversations(&self.name, &self.usual).into_iter().collect();
        wanted.sort_by_key(|one| *one != self.usual);
        wanted
    }
}
