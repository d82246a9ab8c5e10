//! Claims about patterns, addresses and single rules.

use std::net::IpAddr;

use super::*;

fn object(text: &str) -> ObjectName {
    match text.rsplit_once('.') {
        Some((schema, name)) => ObjectName { schema: Some(schema.to_owned()), name: name.to_owned() },
        None => ObjectName { schema: None, name: text.to_owned() },
    }
}

fn effect(kind: EffectKind, has_where: Option<bool>) -> Effect {
    Effect { kind, objects: Vec::new(), has_where, columns: Vec::new(), why: String::new() }
}

fn rule(toml: &str) -> Rule {
    toml::from_str(&format!("name = \"r\"\n{toml}")).unwrap()
}

/// How well a rule matches an effect on nothing it names.
fn matches(rule: &Rule, effect: &Effect, in_transaction: bool) -> Match {
    rule.matches_effect(
        effect,
        None,
        None,
        Scene { in_transaction, tags: &Tags::default(), risks: Some(&[]), effects: &[], impact: None },
    )
}

#[test]
fn globs_match_whole_names() {
    for (pattern, yes, no) in [
        ("users", &["users"][..], &["user", "users2", "Users", ""][..]),
        ("*", &["", "x", "a b"], &[]),
        ("tmp_*", &["tmp_", "tmp_a_b"], &["tmp", "atmp_"]),
        ("*_log", &["_log", "a_log", "a_log_log"], &["a_logs", "log"]),
        ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
        ("t?st", &["test", "täst"], &["tst", "teest"]),
        ("*?", &["a", "ab"], &[""]),
        ("**a", &["a", "ba"], &["b"]),
    ] {
        let glob = Glob::try_from(pattern.to_owned()).unwrap();
        for name in yes {
            assert!(glob.matches(name), "{pattern} {name}");
        }
        for name in no {
            assert!(!glob.matches(name), "{pattern} {name}");
        }
    }
}

#[test]
fn a_hostile_pattern_and_name_take_no_exponential_time() {
    let glob = Glob::try_from("a*".repeat(30) + "b").unwrap();
    assert!(!glob.matches(&"a".repeat(10_000)));
}

#[test]
fn unqualified_names_match_schema_patterns_only_possibly() {
    for (pattern, name, expected) in [
        ("audit.*", "audit.log", Match::Surely),
        ("audit.*", "public.log", Match::No),
        ("audit.*", "log", Match::Possibly),
        ("audit.log", "log", Match::Possibly),
        ("audit.log", "users", Match::No),
        // DROP SCHEMA audit.
        ("audit.log", "audit", Match::Possibly),
        ("log", "log", Match::Surely),
        ("log", "audit.log", Match::Surely),
        ("*.log", "log", Match::Surely),
        ("*.log", "audit.log", Match::Surely),
        ("*", "anything", Match::Surely),
        // A catalog before the schema, or a schema with a dot in its quoted name.
        ("audit.*", "prod.audit.log", Match::Possibly),
        ("*.log", "prod.audit.log", Match::Surely),
    ] {
        let parsed = ObjectPattern::try_from(pattern.to_owned()).unwrap();
        assert_eq!(parsed.matches(&object(name)), expected, "{pattern} {name}");
    }
}

#[test]
fn names_match_as_postgres_truncates_them() {
    let kept = "k".repeat(63);
    let pattern = ObjectPattern::try_from(format!("audit.{kept}")).unwrap();
    assert_eq!(pattern.matches(&object(&format!("audit.{kept}ignored"))), Match::Surely);
    // A character that does not fit is dropped whole.
    let pattern = ObjectPattern::try_from(format!("audit.{}", "k".repeat(62))).unwrap();
    assert_eq!(pattern.matches(&object(&format!("audit.{}ö", "k".repeat(62)))), Match::Surely);
}

#[test]
fn patterns_and_ranges_that_mean_nothing_are_refused() {
    for text in ["", ".", "a.", ".a", "a.b.c"] {
        assert!(ObjectPattern::try_from(text.to_owned()).is_err(), "{text}");
    }
    for text in ["", "10.0.0.1/8", "10.0.0", "localhost", "10.0.0.0/33"] {
        assert!(AddressRange::try_from(text.to_owned()).is_err(), "{text}");
    }
    assert!(OneOf::<Glob>::try_from(Vec::new()).is_err());
    assert!(toml::from_str::<Rule>("name = \"r\"\naction = \"allow\"\neffect = [\"drop\"]").is_err());
}

#[test]
fn addresses_match_networks_and_mapped_addresses() {
    let range = |text: &str| AddressRange::try_from(text.to_owned()).unwrap();
    let client = |text: &str| Some(text.parse().unwrap());
    assert!(range("10.0.0.0/8").contains(client("10.9.8.7")));
    assert!(range("10.0.0.0/8").contains(client("::ffff:10.9.8.7")));
    assert!(!range("10.0.0.0/8").contains(client("11.0.0.1")));
    assert!(range("::1").contains(client("::1")));
    assert!(!range("0.0.0.0/0").contains(None));
    assert!(range("unix").contains(None) && !range("unix").contains(client("127.0.0.1")));
}

#[test]
fn session_conditions_must_all_match() {
    let rule = rule(
        "action = \"hold\"\nusers = [\"etl_*\"]\ndatabases = [\"shop\"]\napplication_names = [\"psql\"]\naddresses = [\"unix\"]",
    );
    let facts =
        Facts { user: "etl_1", database: "shop", application_name: "psql", client_addr: None, ..Facts::default() };
    assert!(rule.matches_session(&facts, &[]));
    for other in [
        Facts { user: "app", ..facts },
        Facts { database: "shop2", ..facts },
        Facts { application_name: "", ..facts },
        Facts { client_addr: Some(IpAddr::from([127, 0, 0, 1])), ..facts },
    ] {
        assert!(!rule.matches_session(&other, &[]), "{other:?}");
    }
}

#[test]
fn a_condition_nobody_read_matches_only_possibly() {
    let rule = rule("action = \"hold\"\nhas_where = true");
    for (kind, has_where, expected) in [
        (EffectKind::Update, Some(true), Match::Surely),
        (EffectKind::Update, Some(false), Match::No),
        (EffectKind::Delete, None, Match::Possibly),
        (EffectKind::Read, None, Match::No),
    ] {
        assert_eq!(matches(&rule, &effect(kind, has_where), false), expected, "{kind} {has_where:?}");
    }
}

#[test]
fn effects_without_objects_match_object_patterns_only_where_they_may_touch_any() {
    let rule = rule("action = \"hold\"\nobjects = [\"audit.*\"]");
    for (kind, expected) in [
        (EffectKind::Read, Match::No),
        (EffectKind::Transaction, Match::No),
        (EffectKind::Code, Match::Possibly),
        (EffectKind::Unknown, Match::Possibly),
        (EffectKind::Drop, Match::Possibly),
    ] {
        assert_eq!(matches(&rule, &effect(kind, None), false), expected, "{kind}");
    }
}

#[test]
fn the_transaction_condition_is_exact() {
    let rule = rule("action = \"reject\"\nin_transaction = true\neffects = [\"drop\"]");
    assert_eq!(matches(&rule, &effect(EffectKind::Drop, None), true), Match::Surely);
    assert_eq!(matches(&rule, &effect(EffectKind::Drop, None), false), Match::No);
    assert_eq!(matches(&rule, &effect(EffectKind::Alter, None), true), Match::No);
}

#[test]
fn a_rule_that_allows_wants_everybody_behind_a_shared_user_and_one_that_does_not_any() {
    let somebody = |name: &str, groups: &[&str]| Somebody {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let (ann, bob) = (somebody("ann", &["dba", "on-call"]), somebody("bob", &["dev"]));
    let both = [ann.clone(), bob.clone()];
    for (condition, people, allows, holds) in [
        ("people = [\"ann\"]", &[][..], false, false),
        ("people = [\"*\"]", &[], false, false),
        ("people = [\"ann\"]", &both[..1], true, true),
        ("people = [\"ann\"]", &both[1..], false, false),
        ("people = [\"ann\"]", &both, false, true),
        ("people = [\"a*\", \"b?b\"]", &both, true, true),
        ("groups = [\"dba\"]", &both, false, true),
        ("groups = [\"dba\", \"dev\"]", &both, true, true),
        ("people = [\"bob\"]\ngroups = [\"dba\"]", &both, false, false),
        ("people = [\"ann\"]\ngroups = [\"on-*\"]", &both[..1], true, true),
        ("users = [\"app\"]", &[], true, true),
    ] {
        let facts = Facts { user: "app", people, ..Facts::default() };
        for (action, expected) in [("allow", allows), ("hold", holds), ("reject", holds)] {
            let rule = rule(&format!("action = \"{action}\"\n{condition}"));
            assert_eq!(rule.matches_session(&facts, &[]), expected, "{action} {condition} {people:?}");
        }
    }
}

#[test]
fn columns_match_by_name_and_untold_ones_possibly() {
    let rule = rule("action = \"hold\"\ncolumns = [\"salary\", \"iban*\"]");
    let tags = Tags::default();
    let scene = Scene { in_transaction: false, tags: &tags, risks: Some(&[]), effects: &[], impact: None };
    for (kind, column, expected) in [
        (EffectKind::Update, Some("salary"), Match::Surely),
        (EffectKind::Insert, Some("iban_old"), Match::Surely),
        (EffectKind::Update, Some("note"), Match::No),
        (EffectKind::Update, None, Match::Possibly),
        (EffectKind::Insert, None, Match::Possibly),
        (EffectKind::Alter, None, Match::Possibly),
        (EffectKind::Unparsed, None, Match::Possibly),
        (EffectKind::Delete, None, Match::No),
        (EffectKind::Read, None, Match::No),
    ] {
        assert_eq!(rule.matches_effect(&effect(kind, None), None, column, scene), expected, "{kind} {column:?}");
    }
}

#[test]
fn all_tags_named_have_to_match() {
    let rule = rule("action = \"allow\"\ntags = { app = [\"billing*\"], route = [\"/pay\", \"/refund\"] }");
    for (comment, expected) in [
        ("/*app='billing-eu',route='%2Fpay'*/", Match::Surely),
        ("/*app='billing',route='/refund',x='y'*/", Match::Surely),
        ("/*app='billing'*/", Match::No),
        ("/*app='shop',route='/pay'*/", Match::No),
        ("/*app='billing',route='/pay',app='billing'*/", Match::No),
        ("", Match::No),
    ] {
        let tags =
            crate::judge::analyse(format!("SELECT 1 {comment}").as_bytes(), &crate::judge::Limits::default()).tags;
        let scene = Scene { in_transaction: false, tags: &tags, risks: Some(&[]), effects: &[], impact: None };
        assert_eq!(rule.matches_effect(&effect(EffectKind::Read, None), None, None, scene), expected, "{comment}");
    }
    assert!(toml::from_str::<Rule>("name = \"r\"\naction = \"allow\"\ntags = {}").is_err());
}

#[test]
fn a_condition_on_risks_matches_what_is_known_and_possibly_what_is_not() {
    let rule: Rule = toml::from_str("name = \"r\"\naction = \"reject\"\nrisks = [\"bidi\", \"cascade\"]").unwrap();
    let effect = Effect {
        kind: EffectKind::Drop,
        objects: Vec::new(),
        has_where: None,
        columns: Vec::new(),
        why: String::new(),
    };
    for (risks, expected) in [
        (Some(&[][..]), Match::No),
        (Some(&[RiskKind::NoWhere][..]), Match::No),
        (Some(&[RiskKind::NoWhere, RiskKind::Cascade][..]), Match::Surely),
        (Some(&[RiskKind::Unread][..]), Match::Possibly),
        (Some(&[RiskKind::Unread, RiskKind::Bidi][..]), Match::Surely),
        (None, Match::Possibly),
    ] {
        let scene = Scene { in_transaction: false, tags: &Tags::default(), risks, effects: &[], impact: None };
        assert_eq!(rule.matches_effect(&effect, None, None, scene), expected, "{risks:?}");
    }
}
