//! Claims about rules that ask what a message would touch: random policies and random findings.

use jiff::Timestamp;
use proptest::prelude::*;

use super::super::{
    Analysis, Effect, EffectKind, Facts, Judgement, Match, Measure, Measured, NothingPrepared, ObjectName,
    ObjectPattern, Piece, Policy, PolicyError, Reached, Scene, SessionClass, Tags, Verdict,
};

const FACTS: Facts<'_> = Facts {
    user: "app",
    database: "shop",
    application_name: "",
    client_addr: None,
    people: &[],
    now: Timestamp::UNIX_EPOCH,
};

fn class(rules: &str) -> SessionClass {
    Policy::from_toml(&format!("critical = [\"billing.*\"]\n{rules}")).unwrap().class(&FACTS)
}

fn analysis(kinds: &[EffectKind]) -> Analysis {
    let effect = |kind: &EffectKind| Effect {
        kind: *kind,
        objects: vec![ObjectName { schema: Some("public".to_owned()), name: "t".to_owned() }],
        has_where: None,
        columns: Vec::new(),
        why: "it says so".to_owned(),
    };
    let piece = Piece {
        range: 0..0,
        effects: kinds.iter().map(effect).collect(),
        acts: Vec::new(),
        risks: Vec::new(),
        calls: crate::judge::Calls::default(),
    };
    Analysis {
        pieces: vec![piece],
        literal_independent: false,
        opaque: false,
        reason: None,
        tags: Tags::default(),
        risks: Some(Vec::new()),
    }
}

fn first(class: &SessionClass, analysis: &Analysis) -> Judgement {
    class.decide(analysis, false, &NothingPrepared)
}

fn then(class: &SessionClass, analysis: &Analysis, measure: &Measure) -> Judgement {
    class.decide_measured(analysis, false, &NothingPrepared, measure)
}

fn rows(rows: u64) -> Measure {
    let reached =
        Reached { object: ObjectName { schema: Some("public".to_owned()), name: "t".to_owned() }, by_cascade: false };
    Measure {
        rows: Some(rows),
        bytes: Some(0),
        rewrites: Some(false),
        triggers: Some(false),
        reached: vec![reached],
        complete: true,
        said: format!("deletes {rows} rows"),
    }
}

#[test]
fn nothing_is_decided_before_it_is_looked_into_but_a_rejection_that_does_not_depend_on_it() {
    let class = class(
        "[[rule]]\nname = \"few\"\naction = \"allow\"\neffects = [\"delete\"]\nimpact = { max_rows = 3 }\n\
         [[rule]]\nname = \"many\"\naction = \"reject\"\neffects = [\"delete\"]\nimpact = { min_rows = 100 }\n\
         [[rule]]\nname = \"drops\"\naction = \"reject\"\neffects = [\"drop\"]\n",
    );
    let delete = analysis(&[EffectKind::Delete]);
    let before = first(&class, &delete);
    assert_eq!((before.verdict, before.examine), (Verdict::Hold, true));
    for (measure, verdict, rule) in [
        (rows(3), Verdict::Allow, "few"),
        (rows(4), Verdict::Hold, "default"),
        (rows(100), Verdict::Reject, "many"),
        (Measure::unknown("no time"), Verdict::Reject, "many"),
    ] {
        let judged = then(&class, &delete, &measure);
        assert_eq!((judged.verdict, &*judged.rule, judged.examine), (verdict, rule, false), "{measure:?}");
        assert!(judged.why.contains(&measure.said), "{}", judged.why);
        let ceiling = judged.guard.and_then(|guard| guard.max_rows);
        assert_eq!(ceiling, (verdict == Verdict::Allow).then_some(3));
    }
    let both = first(&class, &analysis(&[EffectKind::Delete, EffectKind::Drop]));
    assert_eq!((both.verdict, both.examine), (Verdict::Reject, false));
    assert!(!first(&class, &analysis(&[EffectKind::Update])).examine, "no such rule is about updates");
}

#[test]
fn what_passes_because_it_is_no_larger_runs_under_that_ceiling() {
    let class = class(
        "[[rule]]\nname = \"many\"\naction = \"hold\"\neffects = [\"delete\"]\nimpact = { min_rows = 100 }\n\
         [[rule]]\nname = \"some\"\naction = \"reject\"\neffects = [\"delete\"]\nimpact = { min_rows = 50, triggers = true }\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"\n",
    );
    let ceiling = |measure: &Measure| {
        let judged = then(&class, &analysis(&[EffectKind::Delete]), measure);
        (judged.verdict, judged.guard.and_then(|guard| guard.max_rows))
    };
    assert_eq!(ceiling(&rows(49)), (Verdict::Allow, Some(49)));
    assert_eq!(ceiling(&Measure { triggers: Some(true), ..rows(50) }), (Verdict::Reject, None));
    assert_eq!(ceiling(&rows(70)), (Verdict::Allow, Some(99)));
    assert_eq!(ceiling(&rows(100)), (Verdict::Hold, None));
    assert_eq!(then(&class, &analysis(&[EffectKind::Update]), &rows(5)).guard, None);
}

#[test]
fn a_rule_that_would_have_every_statement_looked_into_is_refused() {
    let policy = |rule: &str| Policy::from_toml(&format!("[[rule]]\nname = \"r\"\naction = \"hold\"\n{rule}"));
    assert!(matches!(policy("impact = { min_rows = 1 }"), Err(PolicyError::Impact(_))));
    let critical = policy("effects = [\"delete\"]\nimpact = { critical = \"touched\" }");
    assert!(matches!(critical, Err(PolicyError::NothingCritical(_))));
    assert!(policy("effects = [\"delete\"]\nimpact = { min_rows = 1 }").is_ok());
}

#[test]
fn the_list_of_critical_tables_is_part_of_the_version() {
    let version = |critical: &str| Policy::from_toml(critical).unwrap().version().to_string();
    assert_ne!(version("critical = [\"a.*\"]"), version("critical = [\"b.*\"]"));
}

fn kind() -> impl Strategy<Value = EffectKind> {
    prop_oneof![Just(EffectKind::Delete), Just(EffectKind::Update), Just(EffectKind::Alter)]
}

/// A rule: what it does, what it is about, and what it asks. What allows asks for little, what holds or rejects for much, as any
/// sane one does.
fn rule() -> impl Strategy<Value = String> {
    let small = prop_oneof![
        (0_u64..6).prop_map(|rows| format!("max_rows = {rows}")),
        Just("critical = \"untouched\"".to_owned()),
        Just("max_bytes = 10".to_owned()),
        Just("rewrites = false".to_owned()),
        Just("triggers = false, max_rows = 4".to_owned()),
    ];
    let large = prop_oneof![
        (0_u64..6).prop_map(|rows| format!("min_rows = {rows}")),
        Just("critical = \"touched\"".to_owned()),
        Just("critical = \"cascaded\"".to_owned()),
        Just("cascades_into = [\"notes\"]".to_owned()),
        Just("min_bytes = 10".to_owned()),
        Just("rewrites = true".to_owned()),
        Just("triggers = true".to_owned()),
    ];
    let asks = |condition: Option<String>| condition.map_or_else(String::new, |it| format!("impact = {{ {it} }}\n"));
    let allows = (Just("allow"), prop::option::weighted(0.8, small));
    let stops = (prop_oneof![Just("hold"), Just("reject")], prop::option::weighted(0.8, large));
    let acts = prop_oneof![
        allows.prop_map(move |(action, condition)| (action, asks(condition))),
        stops.prop_map(move |(action, condition)| (action, asks(condition))),
    ];
    (acts, prop::collection::vec(kind(), 1..3)).prop_map(|((action, asks), kinds)| {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
        format!("action = \"{action}\"\neffects = [{}]\n{asks}", kinds.join(", "))
    })
}

fn policy_text() -> impl Strategy<Value = String> {
    prop::collection::vec(rule(), 1..6).prop_map(|rules| {
        let named = rules.iter().enumerate().map(|(index, rule)| format!("[[rule]]\nname = \"r{index}\"\n{rule}"));
        named.collect::<Vec<_>>().concat()
    })
}

fn measure() -> impl Strategy<Value = Measure> {
    let name = prop_oneof![Just(("public", "t")), Just(("public", "notes")), Just(("billing", "invoices"))];
    let reached = (name, any::<bool>()).prop_map(|((schema, name), by_cascade)| Reached {
        object: ObjectName { schema: Some(schema.to_owned()), name: name.to_owned() },
        by_cascade,
    });
    (
        prop::option::of(0_u64..8),
        prop::option::of(0_u64..20),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
        prop::collection::vec(reached, 0..3),
        any::<bool>(),
    )
        .prop_map(|(rows, bytes, rewrites, triggers, reached, complete)| Measure {
            rows,
            bytes,
            rewrites,
            triggers,
            reached,
            complete,
            said: String::new(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What is decided without looking is what would be decided after looking, whatever is found.
    #[test]
    fn what_needs_no_look_does_not_depend_on_what_would_be_found(text in policy_text(), kinds in prop::collection::vec(kind(), 1..3), measure in measure()) {
        let (class, analysis) = (class(&text), analysis(&kinds));
        let before = first(&class, &analysis);
        let after = then(&class, &analysis, &measure);
        prop_assert!(!after.examine);
        if before.examine {
            prop_assert_eq!(before.verdict, Verdict::Hold);
        } else if before.verdict == Verdict::Reject {
            prop_assert_eq!(after.verdict, Verdict::Reject);
        } else {
            prop_assert_eq!((before.verdict, before.rule), (after.verdict, after.rule));
        }
    }

    /// Of rules that allow what is small and stop what is large: whatever is found, nothing passes that would not pass if it is found, and
    /// nothing passes while it is not known that would not pass then.
    #[test]
    fn what_is_not_known_passes_no_more_than_what_is(text in policy_text(), kinds in prop::collection::vec(kind(), 1..3), known in measure()) {
        let (class, analysis) = (class(&text), analysis(&kinds));
        let unknown = then(&class, &analysis, &Measure::unknown("no time"));
        if unknown.verdict == Verdict::Allow {
            prop_assert_eq!(then(&class, &analysis, &known).verdict, Verdict::Allow);
        }
        let less = [
            Measure { rows: None, ..known.clone() },
            Measure { bytes: None, ..known.clone() },
            Measure { rewrites: None, ..known.clone() },
            Measure { triggers: None, ..known.clone() },
            Measure { complete: false, ..known.clone() },
            Measure { rows: known.rows.map(|rows| rows.saturating_add(1)), ..known.clone() },
        ];
        for less in less {
            if then(&class, &analysis, &less).verdict == Verdict::Allow {
                prop_assert_eq!(then(&class, &analysis, &known).verdict, Verdict::Allow, "{:?}", less);
            }
        }
    }

    /// The first rule that surely matches decides, unless one before it may; the explanation says so.
    #[test]
    fn the_explanation_names_the_rule_that_decides(text in policy_text(), kind in kind(), known in measure()) {
        let policy = Policy::from_toml(&format!("critical = [\"billing.*\"]\n{text}")).unwrap();
        let analysis = analysis(&[kind]);
        let judged = policy.class(&FACTS).decide_measured(&analysis, false, &NothingPrepared, &known);
        let critical = [ObjectPattern::try_from("billing.*".to_owned()).unwrap()];
        let impact = Some(Measured { measure: &known, critical: &critical });
        let effect = analysis.pieces.first().unwrap().effects.first().unwrap();
        let (tags, object) = (Tags::default(), effect.objects.first());
        let scene = Scene { in_transaction: false, tags: &tags, risks: Some(&[]), effects: &[kind], impact };
        let steps = policy.explain(&FACTS, effect, object, None, scene);
        let sure = steps.last().filter(|step| step.matches == Match::Surely).map_or("default", |step| &step.rule);
        let doubted = steps.iter().any(|step| step.matches == Match::Possibly && step.rule == *judged.rule);
        prop_assert!(*judged.rule == *sure || doubted, "{} {steps:?}", judged.rule);
    }
}

#[test]
fn the_explanation_without_a_database_says_that_impact_is_not_known_and_not_that_it_does_not_match() {
    let policy = Policy::from_toml(
        "[[rule]]\nname = \"few\"\naction = \"allow\"\neffects = [\"delete\"]\nimpact = { max_rows = 3 }",
    )
    .unwrap();
    let (tags, kinds) = (Tags::default(), [EffectKind::Delete]);
    let analysis = analysis(&kinds);
    let effect = analysis.pieces.first().unwrap().effects.first().unwrap();
    let scene = Scene { in_transaction: false, tags: &tags, risks: Some(&[]), effects: &kinds, impact: None };
    let steps = policy.explain(&FACTS, effect, effect.objects.first(), None, scene);
    let because = steps.iter().map(|step| step.because.join(" ")).collect::<Vec<_>>();
    assert!(because.iter().all(|why| why.starts_with("impact (not known here")), "{because:?}");
}
