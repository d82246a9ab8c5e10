//! `policy lint`: what is odd about a policy that is valid.

use std::path::Path;

use jiff::Timestamp;

use super::load;
use crate::cli::say;
use crate::clock;
use crate::judge::{
    Analysis, Calls, Critical, Effect, EffectKind, Facts, Idle, IdleRule, NothingPrepared, ObjectName, Piece, Policy,
    Rule, Tags, Verdict,
};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Odd {
    /// What the author of the policy may want to change.
    warnings: Vec<String>,
    /// What is as it is.
    remarks: Vec<String>,
}

/// Whether something was found.
pub(super) fn run(config: &Path) -> Result<bool, String> {
    let loaded = load(config)?;
    let policy = &loaded.settings.policy;
    let about_rules = |message: &str| {
        [
            "never asked",
            "OBSERVE MODE",
            "nobody in [[people]]",
            "will read its `message`",
            "will read its `advice`",
            "unknown owner",
            "owners: ",
        ]
        .iter()
        .any(|part| message.contains(part))
    };
    let warnings = loaded.warnings.iter().filter(|warning| about_rules(&warning.message));
    let mut found: Vec<String> = warnings.map(|warning| warning.display(config)).collect();
    let Odd { warnings, remarks } = lint(policy, clock::wall());
    found.extend(warnings.into_iter().map(|message| format!("{}: warning: {message}", config.display())));
    for line in &found {
        say!("{line}");
    }
    for remark in remarks {
        say!("{}: remark: {remark}", config.display());
    }
    if found.is_empty() {
        say!("{}: nothing is odd about {} rules", config.display(), policy.rules().count());
    }
    Ok(!found.is_empty())
}

fn lint(policy: &Policy, now: Timestamp) -> Odd {
    let mut odd = idle(policy);
    let found = &mut odd.warnings;
    for rule in policy.rules() {
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
        found.extend(allows_danger(policy, rule));
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
    odd
}

/// Rules that decide nothing.
fn idle(policy: &Policy) -> Odd {
    let shipped = Policy::shipped();
    let (mut warnings, mut unasked) = (Vec::new(), Vec::new());
    for IdleRule { rule, why } in policy.idle_rules() {
        let name = &rule.name;
        match why {
            // Nobody wrote it, so nobody can take it out.
            Idle::Covered { .. } if shipped.rules().any(|known| known == rule) => unasked.push(format!("`{name}`")),
            // A warning of the configuration already.
            Idle::Covered { by, .. } if by.iter().all(|earlier| earlier.is_unconditional()) => {}
            Idle::Covered { by, never_asked } => {
                let by: Vec<String> = by.iter().map(|earlier| format!("`{}`", earlier.name)).collect();
                let by = by.join(" and ");
                let verb = if by.contains(" and ") { "match" } else { "matches" };
                let what = if never_asked { "is never asked" } else { "decides nothing" };
                warnings.push(format!("rule `{name}` {what}: {by} before it {verb} all it would"));
            }
            Idle::Impossible(condition) => {
                warnings.push(format!(
                    "rule `{name}` can never match: none of the effects it asks for has what `{condition}` asks for"
                ));
            }
        }
    }
    let remark =
        format!("never asked, because rules before them match all they would: the shipped {}", unasked.join(", "));
    Odd { warnings, remarks: if unasked.is_empty() { Vec::new() } else { vec![remark] } }
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

/// A dangerous kind that a rule allows to everybody, as far as its conditions tell, or to whoever says the right words.
fn allows_danger(policy: &Policy, rule: &Rule) -> Option<String> {
    if rule.action.verdict() != Verdict::Allow {
        return None;
    }
    let weak = rule.only_weak_conditions()?;
    let decides =
        |kind: &EffectKind| rule.never_matches(*kind).is_none() && policy.decided_before(rule, *kind).is_none();
    let kind = rule.kinds().find(|kind| kind.is_dangerous() && decides(kind))?;
    let all = rule.effects.is_none() && rule.kinds().all(|kind| decides(&kind));
    let what = if all { "`everything`".to_owned() } else { format!("`{kind}`") };
    let name = &rule.name;
    if !weak.chosen.is_empty() {
        let keys = weak.chosen.join(", ");
        return Some(format!(
            "rule `{name}` allows {what} by what clients choose themselves ({keys}), which anybody can"
        ));
    }
    let empty = if weak.empty.is_empty() {
        String::new()
    } else {
        format!(" ({} leaves nothing out that matters)", weak.empty.join(", "))
    };
    Some(format!("rule `{name}` allows {what} to everybody, on everything, at any time{empty}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Parts, Rego, RegoParts};

    fn found(rules: &str) -> Vec<String> {
        lint(&Policy::from_toml(rules).unwrap(), "2026-11-21T00:00:00Z".parse().unwrap()).warnings
    }

    #[test]
    fn the_shipped_policy_is_not_odd() {
        assert_eq!(lint(&Policy::shipped(), Timestamp::UNIX_EPOCH), Odd::default());
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
            ("users = [\"app_*\"]", "users = [\"app_1\", \"app_b?\"]"),
            ("users = [\"*\"]", "effects = [\"drop\"]"),
            ("addresses = [\"10.1.0.0/16\"]", "addresses = [\"10.1.2.0/24\", \"10.1.3.4\"]"),
            ("addresses = [\"10.0.0.0/9\", \"10.128.0.0/9\"]", "addresses = [\"10.0.0.0/8\"]"),
            ("addresses = [\"0.0.0.0/0\", \"::/0\", \"unix\"]", "databases = [\"x\"]"),
            ("objects = [\"shop.*\"]", "objects = [\"shop.orders\"]"),
            ("objects = [\"a.b\", \"c.d\"]", "objects = [\"a.b\"]"),
            ("columns = [\"p*\"]\neffects = [\"update\"]", "columns = [\"price\"]\neffects = [\"update\"]"),
            ("people = [\"ann\", \"bob\"]", "people = [\"ann\"]"),
            ("people = [\"ann\"]\neffects = [\"drop\"]", "people = [\"ann\"]\neffects = [\"drop\"]"),
            ("times = [{ days = [\"mon-fri\"] }]", "times = [{ days = [\"mon\"], from = \"08:00\" }]"),
            ("times = [{ from = \"22:00\", until = \"06:00\" }]", "times = [{ from = \"23:00\", until = \"05:00\" }]"),
            ("risks = [\"cascade\", \"no-where\"]", "risks = [\"cascade\"]"),
            (
                "effects = [\"delete\"]\nimpact = { min_rows = 10 }",
                "effects = [\"delete\"]\nimpact = { min_rows = 20, triggers = true }",
            ),
            ("tags = { a = [\"x*\"] }", "tags = { a = [\"xy\"], b = [\"z\"] }"),
            ("frozen = false", "frozen = false"),
        ] {
            assert_eq!(two(earlier, later).len(), 1, "{earlier} / {later}");
        }
        for (earlier, later) in [
            ("effects = [\"drop\"]", "effects = [\"drop\", \"alter\"]"),
            ("effects = [\"drop\"]", ""),
            ("objects = [\"shop.orders\"]", "objects = [\"shop.*\"]"),
            ("objects = [\"orders\"]", "objects = [\"shop.orders\"]"),
            ("addresses = [\"10.1.2.0/24\"]", "addresses = [\"10.1.0.0/16\"]"),
            ("times = [{ days = [\"mon\"] }]", "times = [{ days = [\"mon-fri\"] }]"),
            ("times = [{ days = [\"mon-fri\"] }]", "times = [{ days = [\"mon\"], zone = \"Europe/Berlin\" }]"),
            (
                "effects = [\"delete\"]\nimpact = { min_rows = 20 }",
                "effects = [\"delete\"]\nimpact = { min_rows = 10 }",
            ),
            ("risks = [\"cascade\"]", "risks = [\"cascade\", \"no-where\"]"),
            ("effects = [\"update\"]\nhas_where = true", "effects = [\"update\"]"),
            ("tags = { a = [\"x\"] }", "tags = { b = [\"x\"] }"),
            ("groups = [\"dba\"]", "people = [\"ann\"]"),
            ("users = [\"app\"]", "users = [\"etl\"]"),
        ] {
            assert_eq!(two(earlier, later), [""; 0], "{earlier} / {later}");
        }
    }

    #[test]
    fn a_rule_that_waits_for_what_its_effects_never_have_is_found() {
        let one = |text: &str| found(&format!("[[rule]]\nname = \"a\"\naction = \"hold\"\n{text}\n"));
        for text in ["effects = [\"drop\"]\nhas_where = true", "effects = [\"drop\", \"delete\"]\ncolumns = [\"x\"]"] {
            assert!(one(text)[0].contains("can never match"), "{text}");
        }
        for text in [
            "effects = [\"drop\", \"update\"]\nhas_where = true",
            "effects = [\"delete\", \"alter\"]\ncolumns = [\"x\"]",
            "columns = [\"x\"]",
        ] {
            assert_eq!(one(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn each_kind_of_effect_may_be_another_rules() {
        let rules = "[[rule]]\nname = \"a\"\naction = \"hold\"\neffects = [\"drop\"]\n\
                     [[rule]]\nname = \"b\"\naction = \"hold\"\neffects = [\"alter\"]\n\
                     [[rule]]\nname = \"c\"\naction = \"hold\"\neffects = [\"drop\", \"alter\"]\n";
        assert_eq!(found(rules), ["rule `c` is never asked: `a` and `b` before it match all it would"]);
    }

    #[test]
    fn shipped_rules_that_are_never_asked_are_no_fault_of_the_policy() {
        let own = Policy::from_toml(
            "[[rule]]\nname = \"own\"\naction = \"hold\"\neffects = [\"delete\", \"truncate\", \"update\"]\n",
        );
        let rules = own.unwrap().rules().chain(Policy::shipped().rules()).cloned().collect();
        let odd = lint(&Policy::new(rules).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(odd.warnings, [""; 0]);
        assert!(odd.remarks[0].contains("`lost-rows`"), "{:?}", odd.remarks);
    }

    #[test]
    fn what_is_dangerous_and_allowed_to_everybody_is_found() {
        let one = |text: &str| found(&format!("[[rule]]\nname = \"a\"\n{text}\n")).len();
        assert_eq!(one("action = \"allow\"\neffects = [\"read\", \"drop\"]"), 1);
        assert_eq!(one("action = \"notify\""), 1);
        assert_eq!(one("action = \"allow\"\neffects = [\"drop\"]\nusers = [\"dba\"]"), 0);
        assert_eq!(one("action = \"hold\"\neffects = [\"drop\"]"), 0);
        for weak in [
            "application_names = [\"nightly*\"]",
            "tags = { job = [\"nightly\"] }",
            "users = [\"*\"]\naddresses = [\"0.0.0.0/0\", \"::/0\", \"unix\"]",
            "objects = [\"public.*\"]",
            "times = [{}]",
        ] {
            assert_eq!(one(&format!("action = \"allow\"\neffects = [\"delete\"]\n{weak}")), 1, "{weak}");
        }
        for strong in [
            "application_names = [\"nightly*\"]\nusers = [\"etl\"]",
            "objects = [\"scratch.*\"]",
            "has_where = true",
            "addresses = [\"10.0.0.0/8\"]",
            "impact = { max_rows = 5 }",
        ] {
            assert_eq!(one(&format!("action = \"allow\"\neffects = [\"delete\"]\n{strong}")), 0, "{strong}");
        }
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
            lint(&policy, Timestamp::UNIX_EPOCH).warnings
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
