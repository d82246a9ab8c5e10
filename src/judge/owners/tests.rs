use proptest::prelude::*;

use super::*;
use crate::judge::{Analysis, Facts, Limits, NothingPrepared, Parts, Policy, Rule, Verdict, analyse};

fn owners(text: &str) -> Owners {
    let kind = |name: &str| Ok(if name.contains('@') || name == "ann" { NameKind::Person } else { NameKind::Group });
    Owners::parse(text, &kind).unwrap()
}

fn policy(text: &str) -> Policy {
    let rules = vec![
        Rule { effects: Some(vec![EffectKind::Read].try_into().unwrap()), ..Rule::new("reads", Verdict::Allow) },
        Rule { effects: Some(vec![EffectKind::Insert].try_into().unwrap()), ..Rule::new("new", Verdict::Allow) },
        Rule::new("rest", Verdict::Hold),
    ];
    Policy::of(Parts { rules, owners: Some(owners(text)), ..Parts::default() }).unwrap()
}

fn analysis(sql: &str) -> Analysis {
    analyse(sql.as_bytes(), &Limits::default())
}

/// Who has to agree: "shop of a.b" each.
fn asked(file: &str, sql: &str) -> Vec<String> {
    let judgement = policy(file).decide(&analysis(sql), &Facts::default(), false, &NothingPrepared);
    let mut asked: Vec<String> =
        judgement.owners.iter().map(|own| format!("{} of {}", own.owner_in_words(), own.of.join("+"))).collect();
    asked.sort();
    asked
}

const FILE: &str = "
# The whole shop, unless a later line says otherwise.
shop.*          shop-team   slack=C01
shop.orders     shop-team ann   webhook=pager  # two owners: both
shop.scratch*
crm.*           crm|ann
roles           dba
<unnamed>       dba
";

#[test]
fn the_last_line_that_matches_counts_and_each_of_its_owners_is_asked() {
    for (sql, expected) in [
        ("DELETE FROM shop.items", &["group shop-team of shop.items"][..]),
        ("DELETE FROM shop.orders", &["ann of shop.orders", "group shop-team of shop.orders"]),
        ("DELETE FROM shop.scratch_1", &[]),
        ("DELETE FROM other.t", &[]),
        ("DELETE FROM crm.people", &["group crm or ann of crm.people"]),
        ("DROP TABLE crm.a, crm.b, shop.items", &["group crm or ann of crm.a+crm.b", "group shop-team of shop.items"]),
        (
            "DELETE FROM shop.items; DELETE FROM crm.people",
            &["group crm or ann of crm.people", "group shop-team of shop.items"],
        ),
        // What is only read or would pass alone asks nobody.
        ("SELECT * FROM shop.orders", &[]),
        ("INSERT INTO shop.orders VALUES (1)", &[]),
        (
            "DELETE FROM shop.items USING crm.people; INSERT INTO shop.orders VALUES (1)",
            &["group shop-team of shop.items"],
        ),
    ] {
        assert_eq!(asked(FILE, sql), expected, "{sql}");
    }
}

#[test]
fn where_it_cannot_be_told_what_is_touched_whoever_may_be_meant_is_asked() {
    let all = ["ann of orders", "group crm or ann of orders", "group shop-team of orders"];
    assert_eq!(asked(FILE, "DELETE FROM orders"), all);
    // `shop` may be anything: the schema takes its contents along.
    assert!(asked(FILE, "DROP SCHEMA shop CASCADE").contains(&"group shop-team of shop".to_owned()));
    // A name that a line without a schema surely means stops there, and what stands behind it is asked as well.
    assert_eq!(asked("a.t one\nt two\nb.t three", "DELETE FROM t"), ["group three of t", "group two of t"]);
    for sql in ["DO $$ BEGIN END $$", "this is no SQL", "DELETE FROM t WHERE x = 'unfinished"] {
        assert_eq!(asked("a.* one\nb.* two", sql), ["group one of ", "group two of "], "{sql}");
        assert_eq!(asked("a.* one\n<unnamed> dba\nb.* two", sql), ["group dba of ", "group two of "], "{sql}");
    }
    assert_eq!(asked(FILE, "DO $$ BEGIN END $$"), ["group dba of "]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let kind = |name: &str| if name == "bad" { Err("`bad` is bad".to_owned()) } else { Ok(NameKind::Group) };
    for (text, expected) in [
        ("\n\na.b.c dba", "line 3: `a.b.c`: a pattern is"),
        ("a dba\r\nb bad\r\n", "line 2: `bad` is bad"),
        ("a dba||x", "line 1: `dba||x`: there is a name missing"),
        ("a @", "line 1: `@`: there is a name missing"),
        ("a dba slack=", "line 1: `slack=` names nothing"),
        ("a dba mail=x", "line 1: `mail=` is not known"),
        ("a slack=C01", "line 1: there is somewhere to ask"),
        ("[Section] dba", "line 1: sections are not known"),
        ("!a dba", "line 1: patterns cannot be turned round"),
    ] {
        let errors = Owners::parse(text, &kind).unwrap_err();
        assert_eq!(errors.len(), 1, "{text}");
        assert!(errors[0].to_string().starts_with(expected), "{text}: {}", errors[0]);
        assert!(text.get(errors[0].at.clone()).is_some_and(|line| !line.contains('\n')), "{text}");
    }
    assert_eq!(Owners::parse("a bad\nb.c.d x\n", &kind).unwrap_err().len(), 2);
    assert_eq!(Owners::parse("", &kind), Ok(Owners::default()));
}

#[test]
fn another_file_is_another_policy_and_another_layout_is_not() {
    let version = |text: &str| policy(text).version().to_string();
    assert_eq!(version("a.b  dba # x\n\nc ann"), version("a.b @dba\nc ann"));
    let texts =
        ["a.b dba", "a.b dba|ann", "a.b dba ann", "a.b", "a.b dba slack=C1", "a.b dba webhook=C1", "", "<unnamed> dba"];
    let versions: std::collections::BTreeSet<String> = texts.iter().map(|text| version(text)).collect();
    assert_eq!(versions.len(), texts.len());
}

#[test]
fn lines_that_are_never_asked_are_odd() {
    for (text, odd) in [
        ("shop.orders a\nshop.* b", &[1][..]),
        ("shop.orders a\n* b", &[1]),
        ("shop.a* a\nshop.a?* b", &[]),
        ("shop.* a\nshop.orders b", &[]),
        ("orders a\nshop.orders b", &[]),
        ("shop.Orders a", &[1]),
        ("<unnamed> a\n<unnamed> b", &[1]),
    ] {
        assert_eq!(owners(text).odd().iter().map(|(line, _)| *line).collect::<Vec<_>>(), odd, "{text}");
    }
    assert_eq!(owners(&format!("{} a", "x".repeat(64))).odd().len(), 1);
}

proptest! {
    /// Whatever stands in the file, whoever owns an object by its full name also owns it by its bare name, and nobody is lost when a
    /// statement names more.
    #[test]
    fn to_say_less_or_to_touch_more_never_asks_fewer(
        lines in prop::collection::vec(("(a|b|\\*|a\\*)\\.(t|u|\\*|t\\*)|t|\\*", "(x|y|z)?"), 0..8),
        schema in "a|b|c", name in "t|u|tt", other in "(a|b)\\.(t|u)",
    ) {
        let text: String = lines.iter().map(|(pattern, owner)| format!("{pattern} {owner}")).collect::<Vec<_>>().join("\n");
        let owners = owners(&text);
        let asked = |sql: &str| {
            let found = owners.of(analysis(sql).pieces.iter().flat_map(|piece| &piece.effects));
            found.into_iter().flat_map(|own| own.groups).collect::<std::collections::BTreeSet<_>>()
        };
        let full = asked(&format!("TRUNCATE {schema}.{name}"));
        prop_assert!(full.is_subset(&asked(&format!("TRUNCATE {name}"))), "{text}");
        prop_assert!(full.is_subset(&asked(&format!("TRUNCATE {other}, {schema}.{name}"))), "{text}");
        if lines.iter().all(|(_, owner)| !owner.is_empty()) {
            let everybody: std::collections::BTreeSet<String> = lines.iter().map(|(_, owner)| owner.clone()).collect();
            prop_assert!(asked("DO 'x'").is_subset(&everybody));
        }
    }

    /// No text makes it panic, and what is read is told in an order of its lines.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-c.*?|@#= \\[<>!]{0,12}\n){0,6}") {
        if let Ok(owners) = Owners::parse(&text, &|_| Ok(NameKind::Group)) {
            prop_assert!(owners.lines().is_sorted_by_key(|line| line.number));
            let _odd = owners.odd();
        }
    }
}
