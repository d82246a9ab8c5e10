//! `[impact]`: asking the database what held statements would touch. Without the section nobody asks.

use super::reader::Section;
use super::secret::{Keys, secret};
use super::sections::{Zero, count, size, time};
use super::{Settings, Sources};
use crate::impact::{ImpactSettings, Password};

const PASSWORD: Keys = ["password", "password_env", "password_file"];
/// More connections than this would be felt by the database.
const MAX_CONNECTIONS: usize = 64;

pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let mut section = root.section("impact");
    let document = section.document();
    let written = section.span();
    let mut slot = ImpactSettings::default();
    let mut enabled = written.is_some();
    section.set("enabled", &mut enabled);
    section.set("user", &mut slot.user);
    slot.password = secret(&mut section, "impact", PASSWORD, sources).map(|secret| Password::new(secret.reveal()));
    time(&mut section, "connect_timeout", Zero::No, &mut slot.connect_timeout);
    time(&mut section, "budget", Zero::No, &mut slot.budget);
    time(&mut section, "count_budget", Zero::Allowed, &mut slot.count_budget);
    time(&mut section, "lock_timeout", Zero::No, &mut slot.lock_timeout);
    time(&mut section, "withdraw_when_blocking", Zero::Allowed, &mut slot.blocking);
    if let Some((cost, span)) = section.take_spanned::<f64>("count_cost") {
        if cost.is_finite() && cost >= 0.0 {
            slot.count_cost = cost;
        } else {
            document.error(Some(span), "`count_cost`: a number of the planner's units, not below zero");
        }
    }
    if let Some((tolerance, span)) = section.take_spanned::<f64>("tolerance") {
        if tolerance.is_finite() && tolerance >= 0.0 {
            slot.tolerance = tolerance;
        } else {
            document.error(Some(span), "`tolerance`: a share such as 0.1, not below zero");
        }
    }
    if let Some((connections, span)) = section.take_spanned::<usize>("connections") {
        if (1..=MAX_CONNECTIONS).contains(&connections) {
            slot.connections = connections;
        } else {
            document.error(Some(span), format!("`connections`: between 1 and {MAX_CONNECTIONS}"));
        }
    }
    size(&mut section, "statement_bytes", &mut slot.statement_bytes);
    for (key, slot) in [
        ("statements", &mut slot.statements),
        ("objects", &mut slot.objects),
        ("cascades", &mut slot.cascades),
        ("listed", &mut slot.listed),
    ] {
        count(&mut section, key, slot);
    }
    section.set("exclude", &mut slot.exclude);
    section.set("functions", &mut slot.functions);
    section.set("harmless_extensions", &mut slot.harmless_extensions);
    section.finish();
    if slot.user.is_empty() {
        document.error(written.clone(), "`user` in [impact] is empty: name the role that looks statements up");
    }
    if slot.count_budget > slot.budget && slot.count_budget != ImpactSettings::default().count_budget {
        let message = "`count_budget` is longer than `budget`, which ends a look whatever it is at";
        document.warning(written, message);
    }
    if enabled {
        settings.impact = Some(slot);
    }
}

/// A rule that asks what statements would touch, and nobody who can look: it fails closed, but hardly as it was meant.
pub(super) fn check_rules(root: &Section<'_, '_>, settings: &Settings) {
    let rule = settings.policy.asks_impact().map(|rule| format!("rule `{}`", rule.name));
    let rego = settings.policy.rego().filter(|rego| rego.asks_impact()).map(|_| "the policy in Rego".to_owned());
    if let Some(who) = rego.or(rule).filter(|_| settings.impact.is_none()) {
        let message = format!(
            "{who} asks what statements would touch, and [impact] is off: all of it counts as large, or as not known"
        );
        root.document().warning(None, message);
    }
}
