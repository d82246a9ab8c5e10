//! Whatever is said to decide nothing decides nothing, whatever is asked.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::net::IpAddr;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;
use crate::judge::{
    Analysis, Calls, Effect, Facts, Measure, NothingPrepared, ObjectName, Parts, Piece, Reached, Risk, RiskKind,
    Somebody, Tags,
};

/// Alternatives of each condition, as rules write them; few, so that rules overlap.
const CONDITIONS: [&[&str]; 14] = [
    &["users = [\"app_*\"]", "users = [\"app_1\"]", "users = [\"*\"]", "users = [\"app_1\", \"etl\"]"],
    &["addresses = [\"10.0.0.0/8\"]", "addresses = [\"10.1.0.0/16\"]", "addresses = [\"unix\", \"10.1.0.1\"]"],
    &["people = [\"ann\", \"bob\"]", "people = [\"ann\"]", "people = [\"*\"]", "groups = [\"dba\"]"],
    &["times = [{ days = [\"mon-fri\"] }]", "times = [{ days = [\"mon\"], from = \"22:00\", until = \"06:00\" }]"],
    &["frozen = true", "frozen = false", "frozen = [\"z\"]"],
    &["effects = [\"delete\"]", "effects = [\"update\", \"delete\"]", "effects = [\"drop\", \"insert\", \"update\"]"],
    &["objects = [\"shop.*\"]", "objects = [\"shop.orders\"]", "objects = [\"orders\"]", "objects = [\"*\", \"a.b\"]"],
    &["columns = [\"p*\"]", "columns = [\"price\"]", "columns = [\"*\"]"],
    &["has_where = true", "has_where = false"],
    &["in_transaction = true"],
    &["tags = { job = [\"n*\"] }", "tags = { job = [\"night\"] }", "tags = { job = [\"*\"], team = [\"x\"] }"],
    &["risks = [\"cascade\", \"no-where\"]", "risks = [\"cascade\"]"],
    &["impact = { min_rows = 10 }", "impact = { min_rows = 20 }", "impact = { max_rows = 15, triggers = false }"],
    &["redact = \"literals\"", "observe = true"],
];
/// `effects`, without which nothing may ask for impact.
const EFFECTS: usize = 5;
const IMPACT: usize = 12;

fn any_rule() -> impl Strategy<Value = (String, Vec<(usize, usize)>)> {
    let action = prop::sample::select(vec!["allow", "notify", "hold", "reject"]).prop_map(str::to_owned);
    (action, prop::collection::vec((0..CONDITIONS.len(), 0..4_usize), 0..3))
}

fn written(index: usize, (action, conditions): &(String, Vec<(usize, usize)>)) -> Rule {
    let mut text = format!("name = \"r{index}\"\naction = \"{action}\"\n");
    let mut conditions = conditions.clone();
    conditions.sort_unstable();
    conditions.dedup_by_key(|(at, _)| *at);
    if conditions.iter().any(|(at, _)| *at == IMPACT) && conditions.iter().all(|(at, _)| *at != EFFECTS) {
        conditions.push((EFFECTS, 1));
    }
    for (at, choice) in conditions {
        let choices = CONDITIONS[at];
        text.push_str(choices[choice % choices.len()]);
        text.push('\n');
    }
    toml::from_str(&text).unwrap()
}

/// A session and a statement of it.
#[derive(Debug, Clone)]
struct Asked {
    user: &'static str,
    client: Option<IpAddr>,
    people: Vec<Somebody>,
    now: Timestamp,
    kind: EffectKind,
    object: Option<ObjectName>,
    column: Option<&'static str>,
    has_where: Option<bool>,
    in_transaction: bool,
    tags: Tags,
    risks: Option<Vec<Risk>>,
    rows: Option<u64>,
    triggers: Option<bool>,
}

fn any_session() -> impl Strategy<Value = (&'static str, Option<IpAddr>, Vec<Somebody>, Timestamp)> {
    let somebody = |name: &str, group: &str| Somebody { name: name.to_owned(), groups: vec![group.to_owned()] };
    let (ann, bob) = (somebody("ann", "dba"), somebody("bob", "dev"));
    let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let addresses = vec![None, address("10.1.0.1"), address("10.2.0.1"), address("192.168.0.1")];
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let times =
        ["2026-11-23T23:30:00Z", "2026-11-24T05:00:00Z", "2026-11-22T12:00:00Z", "2026-11-25T12:00:00Z"].map(time);
    (
        prop::sample::select(vec!["app_1", "app_2", "etl"]),
        prop::sample::select(addresses),
        prop::sample::select(vec![vec![], vec![ann.clone()], vec![bob.clone()], vec![ann, bob]]),
        prop::sample::select(times.to_vec()),
    )
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let name = |schema: Option<&str>, name: &str| {
        Some(ObjectName { schema: schema.map(str::to_owned), name: name.to_owned() })
    };
    let objects = vec![
        None,
        name(None, "orders"),
        name(None, "shop"),
        name(Some("shop"), "orders"),
        name(Some("shop"), "carts"),
        name(Some("x.shop"), "orders"),
        name(Some("a"), "b"),
    ];
    let kinds = [EffectKind::Delete, EffectKind::Update, EffectKind::Insert, EffectKind::Drop, EffectKind::Code];
    let tags = ["", "job='night'", "job='noon',team='x'"];
    let risk = |kind| Some(vec![Risk::new(kind, "so")]);
    let risks = vec![None, Some(vec![]), risk(RiskKind::Cascade), risk(RiskKind::NoWhere), Some(vec![Risk::unread()])];
    let statement = (
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(objects),
        prop::sample::select(vec![None, Some("price"), Some("name")]),
        any::<Option<bool>>(),
        any::<bool>(),
        prop::sample::select(tags.to_vec()),
    );
    let found = (
        prop::sample::select(risks),
        prop::sample::select(vec![None, Some(5), Some(15), Some(25)]),
        any::<Option<bool>>(),
    );
    (any_session(), statement, found).prop_map(
        |(
            (user, client, people, now),
            (kind, object, column, has_where, in_transaction, tags),
            (risks, rows, triggers),
        )| {
            let limited = matches!(kind, EffectKind::Update | EffectKind::Delete);
            let writes = matches!(kind, EffectKind::Update | EffectKind::Insert);
            let text = if tags.is_empty() { String::new() } else { format!("SELECT 1 /*{tags}*/") };
            Asked {
                user,
                client,
                people,
                now,
                kind,
                object,
                column: column.filter(|_| writes),
                has_where: has_where.filter(|_| limited),
                in_transaction,
                tags: crate::judge::analyse(text.as_bytes(), &crate::judge::Limits::default()).tags,
                risks,
                rows,
                triggers,
            }
        },
    )
}

/// The rules that judge, and those that are named beside them.
fn judged(policy: &Policy, asked: Asked) -> (Vec<String>, Vec<String>) {
    let effect = Effect {
        kind: asked.kind,
        objects: asked.object.into_iter().collect(),
        has_where: asked.has_where,
        columns: asked.column.into_iter().map(str::to_owned).collect(),
        why: "so".to_owned(),
    };
    let piece =
        Piece { range: 0..0, effects: vec![effect], acts: Vec::new(), risks: Vec::new(), calls: Calls::default() };
    let analysis = Analysis {
        pieces: vec![piece],
        literal_independent: false,
        opaque: false,
        reason: None,
        tags: asked.tags,
        risks: asked.risks,
    };
    let facts = Facts {
        user: asked.user,
        database: "shop",
        client_addr: asked.client,
        people: &asked.people,
        now: asked.now,
        ..Facts::default()
    };
    let reached =
        Reached { object: ObjectName { schema: Some("shop".to_owned()), name: "t".to_owned() }, by_cascade: false };
    let measure = Measure { rows: asked.rows, triggers: asked.triggers, reached: vec![reached], ..Measure::default() };
    let pieces = policy.class(&facts).decide_pieces(&analysis, asked.in_transaction, &NothingPrepared, &measure);
    let findings = pieces.iter().flat_map(|piece| &piece.findings);
    let names = findings.map(|finding| (finding.rule.to_string(), &finding.also));
    let (deciding, also): (Vec<String>, Vec<_>) = names.unzip();
    (deciding, also.into_iter().flatten().map(ToString::to_string).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_rule_that_is_said_to_decide_nothing_decides_nothing(
        rules in prop::collection::vec(any_rule(), 1..5),
        all_asked in prop::collection::vec(any_asked(), 40),
    ) {
        let rules = rules.iter().enumerate().map(|(index, rule)| written(index, rule)).collect();
        let freeze = |name: &str, from: &str, until: &str| {
            toml::from_str(&format!("name = \"{name}\"\nfrom = {from}\nuntil = {until}\n")).unwrap()
        };
        let freezes = vec![freeze("z", "2026-11-22", "2026-11-24"), freeze("y", "2026-11-25", "2026-11-26")];
        let policy = Policy::of(Parts { rules, freezes, ..Parts::default() }).unwrap();
        let idle = policy.idle_rules();
        for asked in all_asked {
            let (deciding, also) = judged(&policy, asked.clone());
            for IdleRule { rule, why } in &idle {
                prop_assert!(!deciding.contains(&rule.name), "{} {:?} {:?}", rule.name, why, asked);
                let is_never_asked = !matches!(why, Idle::Covered { never_asked: false, .. });
                prop_assert!(!(is_never_asked && also.contains(&rule.name)), "{} {:?} {:?}", rule.name, why, asked);
            }
        }
    }
}

#[test]
fn random_rules_are_often_idle() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found = 0;
    for _ in 0..300 {
        let rules = prop::collection::vec(any_rule(), 4).new_tree(&mut runner).unwrap().current();
        let rules = rules.iter().enumerate().map(|(index, rule)| written(index, rule)).collect();
        let freeze = toml::from_str("name = \"z\"\nfrom = 2026-11-22\nuntil = 2026-11-24\n").unwrap();
        let policy = Policy::of(Parts { rules, freezes: vec![freeze], ..Parts::default() }).unwrap();
        found += policy.idle_rules().len();
    }
    // Or the test above tells nothing.
    assert!(found > 60, "{found}");
}
