//! `policy lint`: what is odd about a policy that is valid.

use std::path::Path;

use jiff::Timestamp;

use super::load;
use crate::clock;
use crate::judge::{
    Action, Analysis, Calls, Critical, Effect, EffectKind, Facts, NothingPrepared, ObjectName, OneOf, Piece, Policy,
    Rule, Tags, Verdict,
};

/// Whether something was found.
pub(super) fn run(config: &Path) -> Result<bool, String> {
    let loaded = load(config)?;
    let policy = &loaded.settings.policy;
    let about_rules = |message: &str| {
        ["never asked", "OBSERVE MODE", "nobody in [[people]]", "will read its `message`", "unknown owner", "owners: "]
            .iter()
            .any(|part| message.contains(part))
    };
    let warnings = loaded.warnings.iter().filter(|warning| about_rules(&warning.message));
    let mut found: Vec<String> = warnings.map(|warning| warning.display(config)).collect();
    let own = lint(policy, clock::wall());
    found.extend(own.into_iter().map(|message| format!("{}: warning: {message}", config.display())));
    for line in &found {
        println!("{line}");
    }
    if found.is_empty() {
        println!("{}: nothing is odd about {} rules", config.display(), policy.rules().count());
    }
    Ok(!found.is_empty())
}

fn lint(policy: &Policy, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let rules: Vec<&Rule> = policy.rules().collect();
    for (index, rule) in rules.iter().enumerate() {
        let covering = rules.iter().take(index).find(|earlier| covers(earlier, rule));
        // What an unconditional rule covers is a warning of the configuration already.
        if let Some(earlier) = covering.filter(|earlier| !earlier.is_unconditional()) {
            found.push(format!(
                "rule `{}` is never asked: `{}` before it matches all it would",
                rule.name, earlier.name
            ));
        }
        if rule.risks.is_some() && rule.action.verdict() == Verdict::Allow {
            let name = &rule.name;
            found.push(format!(
                "rule `{name}` lets statements through because they are risky; `risks` is for hold and reject"
            ));
        }
        let wants_much = rule.impact.as_ref().is_some_and(|impact| {
            let critical = matches!(impact.critical, Some(Critical::Touched | Critical::Cascaded));
            critical || impact.min_rows.is_some() || impact.min_bytes.is_some() || impact.cascades_into.is_some()
        });
        if wants_much && rule.action.verdict() == Verdict::Allow {
            let name = &rule.name;
            found.push(format!(
                "rule `{name}` lets statements through because they touch much; ask for `max_rows`, `max_bytes` or `critical = \"untouched\"`"
            ));
        }
        if let Some(kind) = allows_danger(rule) {
            let name = &rule.name;
            found.push(format!("rule `{name}` allows `{kind}` to everybody, on everything, at any time"));
        }
    }
    if policy.rego().is_some() {
        found.extend(
            allowed_to_anybody(policy, now)
                .map(|kind| format!("the policy in Rego allows `{kind}` to somebody nobody knows")),
        );
    }
    for freeze in policy.freezes().iter().filter(|freeze| freeze.until <= now) {
        found.push(format!("the freeze `{}` was over at {}", freeze.name, freeze.until));
    }
    found
}

/// Dangerous kinds that nobody in particular may do to nothing in particular. What a policy in Rego depends on cannot be seen.
fn allowed_to_anybody(policy: &Policy, now: Timestamp) -> impl Iterator<Item = EffectKind> {
    let facts = Facts { user: "nobody-knows", database: "nobody-knows", now, ..Facts::default() };
    EffectKind::ALL.into_iter().filter(move |kind| {
        let name = ObjectName { schema: Some("nobody_knows".to_owned()), name: "nobody_knows".to_owned() };
        let effect = Effect {
            kind: *kind,
            objects: vec![name],
            has_where: Some(false),
            columns: Vec::new(),
            why: String::new(),
        };
        let piece =
            Piece { range: 0..0, effects: vec![effect], acts: Vec::new(), risks: Vec::new(), calls: Calls::default() };
        let analysis = Analysis {
            pieces: vec![piece],
            literal_independent: false,
            opaque: false,
            reason: None,
            tags: Tags::default(),
            risks: Some(Vec::new()),
        };
        kind.is_dangerous() && policy.decide(&analysis, &facts, false, &NothingPrepared).verdict == Verdict::Allow
    })
}

/// Every effect that `later` matches, `earlier` surely matches too: each of its conditions is absent, or the same, or a longer
/// list of effects. A condition of another kind is taken to matter.
fn covers(earlier: &Rule, later: &Rule) -> bool {
    let wider = |wide: &Option<OneOf<EffectKind>>, narrow: &Option<OneOf<EffectKind>>| match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|kind| wide.contains(kind)),
    };
    // Behind a shared user, conditions on people mean something else to rules that allow.
    let people = !earlier.names_people() || earlier.action == later.action;
    people
        // What matches these only possibly goes on to the next rule.
        && earlier.objects.is_none()
        && earlier.columns.is_none()
        && earlier.has_where.is_none()
        && earlier.risks.is_none()
        && earlier.impact.is_none()
        && wider(&earlier.effects, &later.effects)
        && loose(earlier.users.as_ref(), later.users.as_ref())
        && loose(earlier.databases.as_ref(), later.databases.as_ref())
        && loose(earlier.application_names.as_ref(), later.application_names.as_ref())
        && loose(earlier.addresses.as_ref(), later.addresses.as_ref())
        && loose(earlier.people.as_ref(), later.people.as_ref())
        && loose(earlier.groups.as_ref(), later.groups.as_ref())
        && loose(earlier.times.as_ref(), later.times.as_ref())
        && loose(earlier.frozen.as_ref(), later.frozen.as_ref())
        && loose(earlier.in_transaction.as_ref(), later.in_transaction.as_ref())
        && loose(earlier.tags.as_ref(), later.tags.as_ref())
}

fn loose<T: PartialEq>(earlier: Option<&T>, later: Option<&T>) -> bool {
    earlier.is_none() || earlier == later
}

/// The dangerous kind that a rule allows without any other condition.
fn allows_danger(rule: &Rule) -> Option<String> {
    let passes = match rule.action {
        Action::Allow | Action::Notify => true,
        Action::Hold | Action::Reject => false,
    };
    let bare = Rule { effects: None, ..rule.clone() };
    if !passes || !bare.is_unconditional() {
        return None;
    }
    match &rule.effects {
        None => Some("everything".to_owned()),
        Some(kinds) => kinds.iter().find(|kind| kind.is_dangerous()).map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Parts, Rego, RegoParts};

    fn found(rules: &str) -> Vec<String> {
        lint(&Policy::from_toml(rules).unwrap(), "2026-11-21T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn the_shipped_policy_is_not_odd() {
        assert_eq!(lint(&Policy::shipped(), Timestamp::UNIX_EPOCH), [""; 0]);
    }

    #[test]
    fn a_rule_that_another_covers_is_found_and_one_that_may_still_be_asked_is_not() {
        let two = |earlier: &str, later: &str| {
            found(&format!(
                "[[rule]]\nname = \"a\"\naction = \"hold\"\n{earlier}\n[[rule]]\nname = \"b\"\naction = \"reject\"\n{later}\n"
            ))
        };
        for (earlier, later) in [
            ("effects = [\"drop\", \"alter\"]", "effects = [\"drop\"]"),
            ("effects = [\"drop\"]", "effects = [\"drop\"]\nobjects = [\"x\"]"),
            ("users = [\"app\"]", "users = [\"app\"]\neffects = [\"drop\"]"),
        ] {
            assert_eq!(two(earlier, later).len(), 1, "{earlier} / {later}");
        }
        for (earlier, later) in [
            ("effects = [\"drop\"]", "effects = [\"drop\", \"alter\"]"),
            ("effects = [\"drop\"]", ""),
            ("objects = [\"p.x\"]", "objects = [\"p.x\"]"),
            ("users = [\"app\"]", "users = [\"etl\"]"),
            ("people = [\"ann\"]\neffects = [\"drop\"]", "people = [\"ann\"]\neffects = [\"drop\"]"),
        ] {
            assert_eq!(two(earlier, later), [""; 0], "{earlier} / {later}");
        }
    }

    #[test]
    fn what_is_dangerous_and_allowed_to_everybody_is_found() {
        let one = |text: &str| found(&format!("[[rule]]\nname = \"a\"\n{text}\n")).len();
        assert_eq!(one("action = \"allow\"\neffects = [\"read\", \"drop\"]"), 1);
        assert_eq!(one("action = \"notify\""), 1);
        assert_eq!(one("action = \"allow\"\neffects = [\"drop\"]\nusers = [\"dba\"]"), 0);
        assert_eq!(one("action = \"hold\"\neffects = [\"drop\"]"), 0);
        assert_eq!(one("action = \"allow\"\neffects = [\"read\"]"), 0);
    }

    #[test]
    fn a_rule_that_allows_what_is_risky_is_found() {
        let one =
            |action: &str| found(&format!("[[rule]]\nname = \"a\"\naction = \"{action}\"\nrisks = [\"cascade\"]\n"));
        assert_eq!((one("allow").len(), one("notify").len(), one("hold").len(), one("reject").len()), (1, 1, 0, 0));
    }

    #[test]
    fn a_rule_that_allows_what_touches_much_is_found() {
        let one = |action: &str, impact: &str| {
            found(&format!(
                "[[rule]]\nname = \"a\"\naction = \"{action}\"\neffects = [\"delete\"]\nimpact = {{ {impact} }}\n"
            ))
            .len()
        };
        assert_eq!((one("allow", "min_rows = 5"), one("notify", "cascades_into = [\"x\"]")), (1, 1));
        assert_eq!((one("allow", "max_rows = 5"), one("hold", "min_rows = 5")), (0, 0));
    }

    #[test]
    fn a_policy_in_rego_that_lets_anybody_destroy_is_found() {
        let one = |condition: &str| {
            let text = format!("package querygate\ndecision := {{\"action\": \"allow\"}} if {condition}\n");
            let modules = vec![("p.rego".to_owned(), text)];
            let limit = std::time::Duration::from_secs(1);
            let rego = Rego::new(&RegoParts { modules, limit, ..RegoParts::default() }).unwrap();
            let policy = Policy::of(Parts { rego: Some(rego.into()), ..Parts::default() }).unwrap();
            lint(&policy, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(one("input.effect.kind == \"drop\"").len(), 1);
        assert_eq!(one("input.effect.kind == \"read\""), [""; 0]);
        assert_eq!(one("input.session.user == \"dba\""), [""; 0]);
    }

    #[test]
    fn a_freeze_that_is_over_is_found() {
        let freeze =
            |until: &str| found(&format!("[[freeze]]\nname = \"f\"\nfrom = 2020-01-01\nuntil = {until}\n")).len();
        assert_eq!((freeze("2026-11-21"), freeze("2026-11-22")), (1, 0));
    }
}
