//! `[undo]`: keeping the rows that released statements change. Rules opt in; without the section none may.

use super::reader::Section;
use super::secret::{Keys, secret};
use super::sections::{Zero, size, time};
use super::{Settings, Sources};
use crate::undo::{Secret, UndoSettings};

const PASSWORD: Keys = ["password", "password_env", "password_file"];
const SECRET: Keys = ["secret", "secret_env", "secret_file"];
/// A shorter one could be guessed.
const SHORTEST_SECRET: usize = 32;

pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let mut section = root.section("undo");
    let document = section.document();
    let written = section.span();
    let mut slot = UndoSettings::default();
    section.set("databases", &mut slot.databases);
    section.set("user", &mut slot.user);
    slot.password = secret(&mut section, "undo", PASSWORD, sources).map(|secret| Secret::new(secret.reveal()));
    let key = secret(&mut section, "undo", SECRET, sources);
    time(&mut section, "retention", Zero::No, &mut slot.retention);
    time(&mut section, "clear_interval", Zero::No, &mut slot.clear_interval);
    let mut total = usize::try_from(slot.max_total_bytes).unwrap_or(usize::MAX);
    size(&mut section, "max_total_bytes", &mut total);
    slot.max_total_bytes = u64::try_from(total).unwrap_or(u64::MAX);
    section.finish();
    if written.is_none() {
        let rules = settings.policy.rules();
        for rule in rules.filter(|rule| rule.undo.is_some()) {
            let message =
                format!("rule `{}` has `undo`, which needs the section [undo]: nothing could be kept", rule.name);
            document.error(written.clone(), message);
        }
        return;
    }
    if slot.user.is_empty() {
        document.error(written.clone(), "`user` in [undo] is empty: name the role that owns what is kept");
    }
    if slot.databases.is_empty() {
        document.error(
            written.clone(),
            "`databases` in [undo] is empty: name those that `querygate undo install` has set up",
        );
    }
    match key {
        Some(key) if key.reveal().len() >= SHORTEST_SECRET => slot.secret = Secret::new(key.reveal()),
        Some(_) => document.error(written, format!("`secret` in [undo]: at least {SHORTEST_SECRET} characters")),
        None => document.error(
            written,
            "[undo] needs a `secret` (or `secret_env`, `secret_file`): with it the gate proves itself to the database",
        ),
    }
    settings.session.undo = Some(slot);
}
