//! Claims about verdicts: order of rules, splitting by object, doubt, prepared statements.

#![allow(clippy::indexing_slicing)]

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::judge::{Calls, Facts, NothingPrepared, Parts, Policy, Risk, Rule, Tags};

const FACTS: Facts<'_> = Facts {
    user: "app",
    database: "shop",
    application_name: "",
    client_addr: None,
    people: &[],
    now: Timestamp::UNIX_EPOCH,
};

fn object(text: &str) -> ObjectName {
    match text.rsplit_once('.') {
        Some((schema, name)) => ObjectName { schema: Some(schema.to_owned()), name: name.to_owned() },
        None => ObjectName { schema: None, name: text.to_owned() },
    }
}

fn effect(kind: EffectKind, objects: &[&str]) -> Effect {
    let objects = objects.iter().map(|name| object(name)).collect();
    Effect { kind, objects, has_where: None, columns: Vec::new(), why: format!("it says {kind}") }
}

fn piece(effects: Vec<Effect>, acts: Vec<SessionAct>) -> Piece {
    Piece { range: 0..0, effects, acts, risks: Vec::new(), calls: Calls::default() }
}

fn analysis(pieces: Vec<Piece>) -> Analysis {
    Analysis {
        pieces,
        literal_independent: false,
        opaque: false,
        reason: None,
        tags: Tags::default(),
        risks: Some(Vec::new()),
    }
}

fn one(kind: EffectKind, objects: &[&str]) -> Analysis {
    analysis(vec![piece(vec![effect(kind, objects)], Vec::new())])
}

fn policy(rules: &str) -> Policy {
    Policy::from_toml(rules).unwrap()
}

fn decide(policy: &Policy, analysis: &Analysis) -> Judgement {
    policy.decide(analysis, &FACTS, false, &NothingPrepared)
}

/// `verdict rule`.
fn answer(policy: &Policy, analysis: &Analysis) -> String {
    let judgement = decide(policy, analysis);
    format!("{:?} {}", judgement.verdict, judgement.rule)
}

#[test]
fn the_first_matching_rule_decides_and_nothing_matching_holds() {
    let policy = policy(
        "[[rule]]\nname = \"a\"\naction = \"allow\"\neffects = [\"drop\"]\nobjects = [\"tmp_*\"]\n\
         [[rule]]\nname = \"b\"\naction = \"reject\"\nmessage = \"no\"\neffects = [\"drop\"]\n\
         [[rule]]\nname = \"c\"\naction = \"allow\"\neffects = [\"drop\", \"read\"]",
    );
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["tmp_x"])), "Allow a");
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["users"])), "Reject b");
    assert_eq!(decide(&policy, &one(EffectKind::Drop, &["users"])).message.as_deref(), Some("no"));
    assert_eq!(answer(&policy, &one(EffectKind::Read, &["users"])), "Allow c");
    assert_eq!(answer(&policy, &one(EffectKind::Alter, &["users"])), "Hold default");
    assert_eq!(answer(&policy, &analysis(Vec::new())), "Allow empty");
}

#[test]
fn what_any_rule_that_is_or_may_be_meant_wants_hidden_is_hidden() {
    let policy = policy(
        "[[rule]]\nname = \"cards\"\naction = \"allow\"\nredact = \"all\"\nobjects = [\"cards\"]\n\
         [[rule]]\nname = \"reads\"\naction = \"allow\"\nredact = \"literals\"\neffects = [\"read\"]\n\
         [[rule]]\nname = \"drops\"\naction = \"hold\"\neffects = [\"drop\"]",
    );
    let redact = |analysis: &Analysis| decide(&policy, analysis).redact;
    assert_eq!(redact(&one(EffectKind::Drop, &["orders"])), Redact::None);
    assert_eq!(redact(&one(EffectKind::Read, &["orders"])), Redact::Literals);
    assert_eq!(redact(&one(EffectKind::Drop, &["orders", "cards"])), Redact::All);
    // The strictest verdict is another piece's.
    let read = piece(vec![effect(EffectKind::Read, &["orders"])], Vec::new());
    let drop = piece(vec![effect(EffectKind::Drop, &["orders"])], Vec::new());
    let both = decide(&policy, &analysis(vec![drop, read]));
    assert_eq!((&*both.rule, both.redact), ("drops", Redact::Literals));
    // It names nothing and may touch cards.
    let unseen = decide(&policy, &one(EffectKind::Code, &[]));
    assert_eq!((unseen.verdict, unseen.redact), (Verdict::Hold, Redact::All));
}

#[test]
fn every_object_of_an_effect_is_judged_by_itself() {
    let policy = policy("[[rule]]\nname = \"scratch\"\naction = \"allow\"\nobjects = [\"scratch.*\"]");
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["scratch.a", "scratch.b"])), "Allow scratch");
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["scratch.a", "prod.b"])), "Hold default");
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["prod.b", "scratch.a"])), "Hold default");
    let judged = decide(&policy, &one(EffectKind::Drop, &["scratch.a", "prod.b"]));
    assert!(judged.why.contains("prod.b") && !judged.why.contains("scratch.a"), "{}", judged.why);
}

#[test]
fn the_strictest_effect_of_the_strictest_statement_wins() {
    let policy = policy(
        "[[rule]]\nname = \"r\"\naction = \"reject\"\neffects = [\"drop\"]\n[[rule]]\nname = \"h\"\naction = \"hold\"\neffects = [\"delete\"]\n\
         [[rule]]\nname = \"a\"\naction = \"allow\"",
    );
    let read = || piece(vec![effect(EffectKind::Read, &[])], Vec::new());
    let delete = || piece(vec![effect(EffectKind::Read, &[]), effect(EffectKind::Delete, &["t"])], Vec::new());
    let drop = || piece(vec![effect(EffectKind::Drop, &["t"])], Vec::new());
    assert_eq!(answer(&policy, &analysis(vec![read(), read()])), "Allow a");
    assert_eq!(answer(&policy, &analysis(vec![read(), delete(), read()])), "Hold h");
    assert_eq!(answer(&policy, &analysis(vec![delete(), drop(), read()])), "Reject r");
}

#[test]
fn a_name_that_may_be_meant_is_never_allowed_and_always_held() {
    let allow = policy("[[rule]]\nname = \"a\"\naction = \"allow\"\nobjects = [\"scratch.*\"]");
    assert_eq!(answer(&allow, &one(EffectKind::Drop, &["t"])), "Hold default");
    let rest = "[[rule]]\nname = \"all\"\naction = \"allow\"";
    for action in ["hold", "reject"] {
        let policy = policy(&format!("[[rule]]\nname = \"p\"\naction = \"{action}\"\nobjects = [\"audit.*\"]\n{rest}"));
        assert_eq!(answer(&policy, &one(EffectKind::Drop, &["log"])), "Hold p");
        assert_eq!(answer(&policy, &one(EffectKind::Code, &[])), "Hold p");
        assert_eq!(answer(&policy, &one(EffectKind::Drop, &["public.log"])), "Allow all");
        assert_eq!(answer(&policy, &one(EffectKind::Read, &[])), "Allow all");
    }
}

#[test]
fn doubt_does_not_soften_a_later_rejection() {
    let policy = policy(
        "[[rule]]\nname = \"maybe\"\naction = \"hold\"\nobjects = [\"audit.*\"]\n[[rule]]\nname = \"no\"\naction = \"reject\"\neffects = [\"drop\"]",
    );
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["log"])), "Reject no");
}

#[test]
fn a_statement_without_effects_is_unknown() {
    let shipped = Policy::shipped();
    assert_eq!(answer(&shipped, &analysis(vec![piece(Vec::new(), Vec::new())])), "Hold unreadable");
}

struct Names(Vec<(&'static str, Arc<Analysis>)>);

impl Prepared for Names {
    fn prepared(&self, name: &str) -> Option<Arc<Analysis>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, body)| body.clone())
    }
}

fn execute(name: &str) -> Piece {
    piece(vec![effect(EffectKind::Execute, &[])], vec![SessionAct::Execute { name: name.to_owned() }])
}

fn prepare(name: &str, body: &Arc<Analysis>) -> Piece {
    let act = SessionAct::Prepare { name: name.to_owned(), body: body.clone() };
    piece(vec![effect(EffectKind::Session, &[])], vec![act])
}

#[test]
fn execute_is_judged_by_what_it_runs() {
    let shipped = Policy::shipped();
    let (read, delete) = (Arc::new(one(EffectKind::Read, &["t"])), Arc::new(one(EffectKind::Delete, &["t"])));
    let chain = Arc::new(analysis(vec![execute("chain")]));
    let names = Names(vec![("read", read.clone()), ("delete", delete.clone()), ("chain", chain)]);
    let verdict = |pieces: Vec<Piece>| {
        let judgement = shipped.decide(&analysis(pieces), &FACTS, false, &names);
        format!("{:?} {}", judgement.verdict, judgement.rule)
    };
    assert_eq!(verdict(vec![execute("read")]), "Allow prepared");
    assert_eq!(verdict(vec![execute("delete")]), "Hold lost-rows");
    assert_eq!(verdict(vec![execute("nobody")]), "Hold unreadable");
    assert_eq!(verdict(vec![execute("chain")]), "Hold unreadable");
    // An effect that says it executes, without a name.
    assert_eq!(verdict(vec![piece(vec![effect(EffectKind::Execute, &[])], Vec::new())]), "Hold unreadable");

    let deallocate = |name: Option<&str>| {
        let act = SessionAct::Deallocate { name: name.map(str::to_owned) };
        piece(vec![effect(EffectKind::Session, &[])], vec![act])
    };
    // Earlier statements of the same message count.
    assert_eq!(verdict(vec![prepare("new", &read), execute("new")]), "Allow sessions");
    assert_eq!(verdict(vec![prepare("new", &delete), execute("new")]), "Hold lost-rows");
    assert_eq!(verdict(vec![deallocate(Some("read")), prepare("read", &delete), execute("read")]), "Hold lost-rows");
    assert_eq!(verdict(vec![deallocate(None), prepare("read", &delete), execute("read")]), "Hold lost-rows");
    assert_eq!(verdict(vec![deallocate(Some("read")), execute("read")]), "Hold unreadable");
}

#[test]
fn what_is_in_a_transaction_is_judged_as_such() {
    let policy = policy(
        "[[rule]]\nname = \"in\"\naction = \"reject\"\nin_transaction = true\n[[rule]]\nname = \"out\"\naction = \"allow\"",
    );
    let read = one(EffectKind::Read, &[]);
    assert_eq!(policy.decide(&read, &FACTS, true, &NothingPrepared).verdict, Verdict::Reject);
    assert_eq!(policy.decide(&read, &FACTS, false, &NothingPrepared).verdict, Verdict::Allow);
}

#[test]
fn sessions_to_which_the_same_rules_apply_share_a_class() {
    let policy = policy(
        "[[rule]]\nname = \"a\"\naction = \"allow\"\nusers = [\"etl\"]\n[[rule]]\nname = \"b\"\naction = \"hold\"",
    );
    let class = |user| policy.class(&Facts { user, ..FACTS });
    assert!(class("app").is(&class("bob")));
    assert!(!class("app").is(&class("etl")));
    assert_eq!(class("app").policy_version(), policy.version());
    let read = one(EffectKind::Read, &[]);
    assert_eq!(class("etl").decide(&read, false, &NothingPrepared).verdict, Verdict::Allow);
    assert_eq!(class("app").decide(&read, false, &NothingPrepared).verdict, Verdict::Hold);
}

#[test]
fn versions_tell_policies_apart_and_nothing_else() {
    let version = |text: &str| policy(text).version().to_string();
    let base = "[[rule]]\nname = \"a\"\naction = \"hold\"\nusers = [\"x\", \"y\"]\n";
    assert_eq!(
        version(base),
        version("# same\n[[rule]]\naction = \"hold\"\nusers = [\"y\", \"x\", \"x\"]\nname = \"a\"")
    );
    let other = "[[rule]]\nname = \"b\"\naction = \"hold\"\n";
    let all: Vec<String> = [
        base.to_owned(),
        base.replace("hold", "allow"),
        base.replace("\"y\"", "\"z\""),
        base.replace("users", "databases"),
        format!("{base}message = \"m\""),
        format!("{base}{other}"),
        format!("{other}{base}"),
        String::new(),
    ]
    .iter()
    .map(|text| version(text))
    .collect();
    for (index, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 64);
        assert!(!all[..index].contains(one), "{index}");
    }
}

#[test]
fn names_that_would_confuse_verdicts_are_refused() {
    for text in [
        "[[rule]]\nname = \"a\"\naction = \"hold\"\n[[rule]]\nname = \"a\"\naction = \"hold\"",
        "[[rule]]\nname = \"default\"\naction = \"hold\"",
        "[[rule]]\nname = \"empty\"\naction = \"allow\"",
        "[[rule]]\nname = \" \"\naction = \"allow\"",
    ] {
        assert!(Policy::from_toml(text).is_err(), "{text}");
    }
}

// --- random policies against a plain reading of the documentation -------------------------------------------------

fn any_kind() -> impl Strategy<Value = EffectKind> {
    prop_oneof![
        Just(EffectKind::Read),
        Just(EffectKind::Drop),
        Just(EffectKind::Update),
        Just(EffectKind::Code),
        Just(EffectKind::Unparsed),
        Just(EffectKind::Disagreement),
        Just(EffectKind::Unknown)
    ]
}

type AnyRule = (&'static str, Option<Vec<EffectKind>>, Option<&'static str>, Option<bool>, Option<bool>);

fn any_rule() -> impl Strategy<Value = AnyRule> {
    (
        prop_oneof![Just("allow"), Just("notify"), Just("hold"), Just("reject")],
        prop::option::of(prop::collection::vec(any_kind(), 1..3)),
        prop::option::of(prop_oneof![Just("a.*"), Just("a.x"), Just("x"), Just("*"), Just("b.?")]),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
    )
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let name = prop_oneof![Just("a.x"), Just("a.y"), Just("b.x"), Just("x"), Just("y"), Just("a")];
    (any_kind(), prop::collection::vec(name, 0..3), prop::option::of(any::<bool>())).prop_map(
        |(kind, names, has_where)| {
            let has_where = if kind == EffectKind::Update { has_where } else { None };
            Effect { has_where, ..effect(kind, &names) }
        },
    )
}

/// All that one effect on one object may turn out to be once every doubt is resolved: each *possible* match may hold or not.
fn worlds(rules: &[Rule], effect: &Effect, object: Option<&ObjectName>, in_transaction: bool) -> Vec<Verdict> {
    let Some((rule, rest)) = rules.split_first() else {
        return vec![Verdict::Hold];
    };
    let later = || worlds(rest, effect, object, in_transaction);
    match rule.matches_effect(
        effect,
        object,
        None,
        Scene { in_transaction, tags: &Tags::default(), risks: Some(&[]), effects: &[], impact: None },
    ) {
        Match::No => later(),
        Match::Surely => vec![rule.action.verdict()],
        Match::Possibly => [vec![rule.action.verdict()], later()].concat(),
    }
}

/// The explanation asks the rules in order, up to the first that surely matches, and names that one's verdict and rule.
fn explains(
    policy: &Policy,
    effect: &Effect,
    object: Option<&ObjectName>,
    in_transaction: bool,
) -> Result<(), TestCaseError> {
    let scene = Scene { in_transaction, tags: &Tags::default(), risks: Some(&[]), effects: &[], impact: None };
    let steps = policy.explain(&FACTS, effect, object, None, scene);
    let rules: Vec<&Rule> = policy.rules().collect();
    for (step, rule) in steps.iter().zip(&rules) {
        prop_assert_eq!(&step.rule, &rule.name);
        prop_assert_eq!(step.matches, rule.matches_effect(effect, object, None, scene));
        prop_assert_eq!(step.because.is_empty(), step.matches == Match::Surely);
    }
    let one = Effect { objects: object.into_iter().cloned().collect(), ..effect.clone() };
    let judged = policy.decide(&analysis(vec![piece(vec![one], Vec::new())]), &FACTS, in_transaction, &NothingPrepared);
    let sure = steps.last().filter(|step| step.matches == Match::Surely);
    prop_assert!(sure.is_some() || steps.len() == rules.len());
    let decided = sure.map_or(DEFAULT_RULE, |step| step.rule.as_str());
    let doubted = steps.iter().any(|step| step.matches == Match::Possibly && step.rule == *judged.rule);
    prop_assert!(*judged.rule == *decided || doubted, "{} {:?}", judged.rule, steps);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever a doubtful name turns out to be, nothing is forwarded that some reading holds or rejects, what is certain is
    /// answered exactly, and the explanation names an effect and a rule of the policy.
    #[test]
    fn no_order_or_overlap_of_rules_forwards_what_some_reading_would_not(
        rules in prop::collection::vec(any_rule(), 0..6),
        effects in prop::collection::vec(any_effect(), 1..4),
        in_transaction: bool,
    ) {
        let mut list: Vec<Rule> = Vec::new();
        for (index, (action, kinds, objects, has_where, inside)) in rules.into_iter().enumerate() {
            let mut rule = format!("name = \"r{index}\"\naction = \"{action}\"\n");
            let quoted = |kinds: Vec<EffectKind>| {
                kinds.iter().map(|kind| format!("\"{kind}\"")).collect::<Vec<_>>().join(", ")
            };
            let conditions = [
                objects.map(|objects| format!("objects = [\"{objects}\"]\n")),
                has_where.map(|has_where| format!("has_where = {has_where}\n")),
                inside.map(|inside| format!("in_transaction = {inside}\n")),
                kinds.map(|kinds| format!("effects = [{}]\n", quoted(kinds))),
            ];
            rule.extend(conditions.into_iter().flatten());
            list.push(toml::from_str(&rule).unwrap());
        }
        let policy = Policy::new(list.clone()).unwrap();
        let judged = policy.decide(&analysis(vec![piece(effects.clone(), Vec::new())]), &FACTS, in_transaction, &NothingPrepared);

        let mut expected = Verdict::Allow;
        for effect in &effects {
            let objects: Vec<Option<&ObjectName>> =
                if effect.objects.is_empty() { vec![None] } else { effect.objects.iter().map(Some).collect() };
            for object in objects {
                let worlds = worlds(&list, effect, object, in_transaction);
                let one = match worlds.as_slice() {
                    [certain] => *certain,
                    // In doubt people are asked, unless the answer is a rejection whatever was meant.
                    [.., last] if *last == Verdict::Reject => Verdict::Reject,
                    several => several.iter().copied().max().unwrap().min(Verdict::Hold),
                };
                expected = expected.max(one);
            }
        }
        prop_assert_eq!(judged.verdict, expected);
        for effect in &effects {
            let objects: Vec<Option<&ObjectName>> =
                if effect.objects.is_empty() { vec![None] } else { effect.objects.iter().map(Some).collect() };
            for object in objects {
                explains(&policy, effect, object, in_transaction)?;
            }
        }
        prop_assert!(judged.rule.as_ref() == DEFAULT_RULE || list.iter().any(|rule| *rule.name == *judged.rule));
        prop_assert!(effects.iter().any(|effect| judged.why.starts_with(&effect.kind.to_string())), "{}", judged.why);
    }
}

#[test]
fn each_column_is_judged_on_its_own_so_that_an_allowed_one_lets_no_other_through() {
    let policy = policy(
        "[[rule]]\nname = \"notes\"\naction = \"allow\"\neffects = [\"update\", \"insert\"]\ncolumns = [\"note\", \"tag_*\"]\n\
         [[rule]]\nname = \"money\"\naction = \"reject\"\ncolumns = [\"salary\"]\neffects = [\"update\", \"insert\"]\n\
         [[rule]]\nname = \"reads\"\naction = \"allow\"\neffects = [\"read\", \"merge\"]\n\
         [[rule]]\nname = \"rest\"\naction = \"hold\"",
    );
    let limits = crate::judge::Limits::default();
    for (sql, expected) in [
        ("UPDATE t SET note = 1 WHERE id = 1", "Allow notes"),
        ("UPDATE t SET note = 1, tag_a = 2 WHERE id = 1", "Allow notes"),
        ("UPDATE t SET note = 1, salary = 2 WHERE id = 1", "Reject money"),
        ("UPDATE t SET note = 1, name = 2 WHERE id = 1", "Hold rest"),
        ("UPDATE t SET \"Salary\" = 2 WHERE id = 1", "Hold rest"),
        ("UPDATE t SET (note, SALARY) = (1, 2) WHERE id = 1", "Reject money"),
        ("INSERT INTO t (note) VALUES (1)", "Allow notes"),
        // Which columns are meant is not told: the rule that allows never is.
        ("INSERT INTO t VALUES (1)", "Hold rest"),
        ("INSERT INTO t (note) VALUES (1) ON CONFLICT (id) DO UPDATE SET salary = 1", "Reject money"),
        ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET salary = 1", "Reject money"),
        ("DELETE FROM t WHERE id = 1", "Hold rest"),
    ] {
        assert_eq!(answer(&policy, &crate::judge::analyse(sql.as_bytes(), &limits)), expected, "{sql}");
    }
}

#[test]
fn a_list_of_columns_longer_than_any_table_is_not_read_one_by_one() {
    let policy = policy(
        "[[rule]]\nname = \"notes\"\naction = \"allow\"\ncolumns = [\"*\"]\n[[rule]]\nname = \"rest\"\naction = \"reject\"",
    );
    let columns = |count: usize| {
        let columns = (0..count).map(|n| format!("c{n}")).collect();
        analysis(vec![piece(vec![Effect { columns, ..effect(EffectKind::Insert, &["t"]) }], Vec::new())])
    };
    assert_eq!(answer(&policy, &columns(MAX_COLUMNS)), "Allow notes");
    assert_eq!(answer(&policy, &columns(MAX_COLUMNS + 1)), "Reject rest");
}

#[test]
fn a_class_ends_with_the_next_minute_or_freeze_and_only_where_a_rule_asks_for_the_time() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let plain = policy("[[rule]]\nname = \"a\"\naction = \"allow\"");
    assert_eq!(plain.class_ends(at("2026-03-02T08:59:30Z")), None);
    let timed = policy(
        "[[freeze]]\nname = \"f\"\nfrom = 2026-03-02T09:00:40Z\nuntil = 2026-03-02T10:00:00Z\n\
         [[rule]]\nname = \"a\"\naction = \"allow\"\nfrozen = false",
    );
    for (now, ends) in [
        ("2026-03-02T08:59:30Z", "2026-03-02T09:00:00Z"),
        ("2026-03-02T09:00:00Z", "2026-03-02T09:00:40Z"),
        ("2026-03-02T09:00:40Z", "2026-03-02T09:01:00Z"),
        ("2026-03-02T09:59:59.5Z", "2026-03-02T10:00:00Z"),
    ] {
        assert_eq!(timed.class_ends(at(now)), Some(at(ends)), "{now}");
    }
    let class = |now: &str| timed.class(&Facts { now: at(now), ..FACTS });
    let verdict = |class: &SessionClass| {
        let verdict = class.decide(&one(EffectKind::Drop, &["t"]), false, &NothingPrepared).verdict;
        (verdict, class.clone())
    };
    let (before, class_before) = verdict(&class("2026-03-02T09:00:39.999Z"));
    let (during, class_during) = verdict(&class("2026-03-02T09:00:40Z"));
    let (after, class_after) = verdict(&class("2026-03-02T10:00:00Z"));
    assert_eq!((before, during, after), (Verdict::Allow, Verdict::Hold, Verdict::Allow));
    assert!(!class_before.is(&class_during) && class_before.is(&class_after));
}

fn remarks(policy: &Policy, analysis: &Analysis) -> Vec<String> {
    let told = |remark: &Remark| format!("{:?} {}", remark.kind, remark.rule);
    decide(policy, analysis).remarks.iter().map(told).collect()
}

#[test]
fn what_a_rule_notifies_of_passes_and_is_told_unless_something_else_of_it_is_held() {
    let policy = policy(
        "[[rule]]\nname = \"tell\"\naction = \"notify\"\nmessage = \"m\"\nredact = \"literals\"\neffects = [\"create\", \"alter\"]\n\
         [[rule]]\nname = \"reads\"\naction = \"allow\"\neffects = [\"read\"]",
    );
    let create = one(EffectKind::Create, &["t"]);
    assert_eq!(answer(&policy, &create), "Allow tell");
    assert_eq!(remarks(&policy, &create), ["Noticed tell"]);
    let judgement = decide(&policy, &create);
    assert_eq!((judgement.redact, judgement.remarks[0].message.as_deref()), (Redact::Literals, Some("m")));
    assert!(judgement.remarks[0].why.starts_with("create of t"), "{judgement:?}");
    assert!(!judgement.passes_unnoticed());
    let read =
        vec![effect(EffectKind::Read, &["t"]), effect(EffectKind::Create, &["t"]), effect(EffectKind::Alter, &["u"])];
    assert_eq!(remarks(&policy, &analysis(vec![piece(read, Vec::new())])), ["Noticed tell"], "each rule once");
    let drop = vec![effect(EffectKind::Create, &["t"]), effect(EffectKind::Drop, &["u"])];
    let both = analysis(vec![piece(drop, Vec::new())]);
    assert_eq!((answer(&policy, &both), remarks(&policy, &both)), ("Hold default".to_owned(), Vec::new()));
}

#[test]
fn a_rule_that_observes_lets_pass_and_tells_what_it_would_have_done() {
    let rules = |observe: &str| {
        policy(&format!(
            "[[rule]]\nname = \"a\"\naction = \"reject\"\n{observe}effects = [\"drop\"]\nobjects = [\"prod.*\"]\n\
             [[rule]]\nname = \"b\"\naction = \"allow\"\neffects = [\"drop\"]"
        ))
    };
    let (sure, doubtful, other) =
        (one(EffectKind::Drop, &["prod.x"]), one(EffectKind::Drop, &["x"]), one(EffectKind::Drop, &["dev.x"]));
    let (strict, observed) = (rules(""), rules("observe = true\n"));
    assert_eq!([&sure, &doubtful, &other].map(|text| answer(&strict, text)), ["Reject a", "Hold a", "Allow b"]);
    assert_eq!([&sure, &doubtful, &other].map(|text| answer(&observed, text)), ["Allow a", "Allow b", "Allow b"]);
    assert_eq!(remarks(&observed, &sure), ["WouldHaveRejected a"]);
    assert_eq!(remarks(&observed, &doubtful), ["WouldHaveRejected a"]);
    assert_eq!(remarks(&observed, &other), [""; 0]);
    assert_ne!(strict.version(), observed.version());
}

#[test]
fn a_rule_that_observes_takes_no_hold_away_from_the_others() {
    let policy = policy(
        "[[rule]]\nname = \"doubt\"\naction = \"hold\"\nobjects = [\"prod.x\"]\n\
         [[rule]]\nname = \"new\"\naction = \"hold\"\nobserve = true\neffects = [\"drop\"]",
    );
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["x"])), "Hold doubt");
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["dev.x"])), "Allow new");
    assert_eq!(answer(&policy, &one(EffectKind::Alter, &["dev.x"])), "Hold default");
}

#[test]
fn a_gate_that_observes_holds_nothing_and_tells_of_all_it_would_have() {
    let rule: Rule = toml::from_str("name = \"drops\"\naction = \"reject\"\neffects = [\"drop\"]").unwrap();
    let parts = Parts { rules: vec![rule], observe: true, ..Parts::default() };
    let policy = Policy::of(parts.clone()).unwrap();
    assert_eq!(answer(&policy, &one(EffectKind::Drop, &["t"])), "Allow drops");
    assert_eq!(remarks(&policy, &one(EffectKind::Drop, &["t"])), ["WouldHaveRejected drops"]);
    assert_eq!(remarks(&policy, &one(EffectKind::Alter, &["t"])), ["WouldHaveHeld default"]);
    assert_eq!(remarks(&policy, &analysis(Vec::new())), [""; 0]);
    assert_ne!(policy.version(), Policy::of(Parts { observe: false, ..parts }).unwrap().version());
}

#[test]
fn every_rule_that_holds_some_of_it_is_named_whatever_is_named_first() {
    let policy = policy(
        "[[rule]]\nname = \"vault\"\naction = \"hold\"\nobjects = [\"vault.*\"]\n\
         [[rule]]\nname = \"scratch\"\naction = \"hold\"\nobjects = [\"scratch.*\"]\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"\neffects = [\"read\"]\n\
         [[rule]]\nname = \"no\"\naction = \"reject\"\neffects = [\"admin\"]",
    );
    let also = |analysis: &Analysis| {
        let judgement = decide(&policy, analysis);
        let mut names: Vec<String> =
            std::iter::once(&judgement.rule).chain(&judgement.also).map(ToString::to_string).collect();
        for name in names.iter().skip(1) {
            assert!(judgement.why.contains(&format!("`{name}`")), "{}", judgement.why);
        }
        names.sort();
        names.join(" ")
    };
    let names = [["scratch.a", "vault.s"], ["vault.s", "scratch.a"]];
    for names in names {
        assert_eq!(also(&one(EffectKind::Truncate, &names)), "scratch vault");
        let pieces = names.map(|name| piece(vec![effect(EffectKind::Delete, &[name])], Vec::new()));
        assert_eq!(also(&analysis(pieces.to_vec())), "scratch vault");
    }
    // Either may be meant.
    assert_eq!(also(&one(EffectKind::Delete, &["s"])), "scratch vault");
    assert_eq!(also(&one(EffectKind::Read, &["s"])), "scratch vault");
    assert_eq!(also(&one(EffectKind::Delete, &["vault.s"])), "vault");
    assert_eq!(also(&one(EffectKind::Admin, &[])), "no", "nobody is asked about what is rejected");
}

#[test]
fn what_an_execute_runs_has_the_risks_of_both_texts() {
    let risk = |kind| Risk::new(kind, "x");
    let mut body = one(EffectKind::Delete, &["t"]);
    body.pieces[0].risks = vec![risk(RiskKind::AlwaysTrue)];
    let act = |name: &str, body| SessionAct::Prepare { name: name.to_owned(), body: Arc::new(body) };
    let execute = piece(vec![effect(EffectKind::Execute, &[])], vec![SessionAct::Execute { name: "p".to_owned() }]);
    for (kind, expected) in [("always-true", "Reject r"), ("bidi", "Reject r"), ("cascade", "Allow rest")] {
        let policy = policy(&format!(
            "[[rule]]\nname = \"r\"\naction = \"reject\"\neffects = [\"delete\"]\nrisks = [\"{kind}\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
        ));
        let prepare = piece(vec![effect(EffectKind::Session, &[])], vec![act("p", body.clone())]);
        let mut message = analysis(vec![prepare, execute.clone()]);
        message.risks = Some(vec![risk(RiskKind::Bidi)]);
        // The body's own text-wide risks are known: there are none.
        let judgement = decide(&policy, &message);
        assert_eq!(format!("{:?} {}", judgement.verdict, judgement.rule), expected, "{kind}");
    }
}

#[test]
fn the_guards_of_all_rules_that_hold_some_of_it_count_the_strictest_of_each_value() {
    let policy = policy(
        "[[rule]]\nname = \"a\"\naction = \"hold\"\nobjects = [\"a\"]\nguard = { max_rows = 10, lock_timeout = \"1s\", otherwise = \"run\" }\n\
         [[rule]]\nname = \"b\"\naction = \"hold\"\nobjects = [\"s.b\"]\nguard = { max_rows = 5, lock_timeout = \"2s\" }\n\
         [[rule]]\nname = \"none\"\naction = \"hold\"\nobjects = [\"c\"]\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"",
    );
    let guard = |objects: &[&str]| decide(&policy, &one(EffectKind::Delete, objects)).guard;
    assert_eq!((guard(&["c"]), guard(&["d"])), (None, None));
    let told = |objects: &[&str]| {
        let guard = guard(objects).unwrap();
        (guard.max_rows.unwrap(), guard.lock_timeout.unwrap().millis(), guard.otherwise == Otherwise::Run)
    };
    assert_eq!(told(&["a", "c"]), (10, 1000, true));
    assert_eq!(told(&["s.b"]), (5, 2000, false));
    assert_eq!(told(&["a", "s.b"]), (5, 1000, false));
    assert_eq!(told(&["b"]), (5, 2000, false), "it may be meant");
    let pieces = [&["a"], &["s.b"]].map(|objects| piece(vec![effect(EffectKind::Delete, objects)], Vec::new()));
    assert_eq!(decide(&policy, &analysis(pieces.to_vec())).guard.unwrap().max_rows, Some(5));
}

#[test]
fn only_a_rule_that_holds_has_a_guard() {
    for action in ["allow", "notify", "reject"] {
        let text = format!("[[rule]]\nname = \"a\"\naction = \"{action}\"\nguard = {{ max_rows = 1 }}");
        let error = Policy::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains("rule `a`") && error.contains("hold"), "{error}");
    }
}
