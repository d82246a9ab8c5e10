#![allow(clippy::indexing_slicing)]

use super::*;
use crate::judge::{
    Judge, JudgeCache, Judgement, Limits, NothingPrepared, ObjectPattern, Parts, Policy, Reached, Rule, SessionClass,
    Somebody, Verdict, analyse,
};

fn parts(text: &str) -> RegoParts {
    RegoParts {
        modules: vec![("policy.rego".to_owned(), format!("package querygate\n{text}\n"))],
        limit: Duration::from_millis(200),
        ..RegoParts::default()
    }
}

fn rego(text: &str) -> Arc<Rego> {
    Arc::new(Rego::new(&parts(text)).unwrap())
}

fn policy(text: &str) -> Policy {
    Policy::of(Parts { rego: Some(rego(text)), ..Parts::default() }).unwrap()
}

fn decide(policy: &Policy, sql: &str) -> Judgement {
    let people = [Somebody { name: "ann".to_owned(), groups: vec!["dba".to_owned()] }];
    let facts = Facts { user: "ann", database: "shop", people: &people, ..Facts::default() };
    policy.decide(&analyse(sql.as_bytes(), &Limits::default()), &facts, false, &NothingPrepared)
}

/// `verdict rule`.
fn answer(policy: &Policy, sql: &str) -> String {
    let judgement = decide(policy, sql);
    format!("{:?} {}", judgement.verdict, judgement.rule)
}

const READS: &str = "decision := {\"action\": \"allow\", \"rule\": \"reads\"} if input.effect.kind == \"read\"";

#[test]
fn every_effect_on_every_object_is_asked_about_and_the_strictest_answer_wins() {
    let policy = policy(
        "decision := {\"action\": \"allow\", \"rule\": \"scratch\"} if input.effect.object.schema == \"scratch\"\n\
         else := {\"action\": \"allow\", \"rule\": \"reads\"} if input.effect.kind == \"read\"\n\
         else := {\"action\": \"reject\", \"rule\": \"drops\", \"message\": \"no\"} if input.effect.kind == \"drop\"",
    );
    for (sql, expected) in [
        ("SELECT 1", "Allow reads"),
        ("DROP TABLE scratch.a", "Allow scratch"),
        ("DROP TABLE scratch.a, prod.b", "Reject drops"),
        ("SELECT 1; DROP TABLE b", "Reject drops"),
        ("SELECT 1; DELETE FROM t WHERE id = 1", "Hold default"),
    ] {
        assert_eq!(answer(&policy, sql), expected, "{sql}");
    }
    assert_eq!(decide(&policy, "DROP TABLE b").message.as_deref(), Some("no"));
}

#[test]
fn what_it_leaves_undecided_the_rules_judge() {
    let rules = Policy::shipped().rules().cloned().collect::<Vec<Rule>>();
    let policy = Policy::of(Parts { rules, rego: Some(rego(READS)), ..Parts::default() }).unwrap();
    assert_eq!(answer(&policy, "SELECT 1"), "Allow reads");
    assert_eq!(answer(&policy, "INSERT INTO t VALUES (1)"), "Allow new-rows");
    assert_eq!(answer(&policy, "DROP TABLE t"), "Hold changed-definitions");
}

#[test]
fn a_set_of_decisions_is_as_strict_as_its_strictest_and_names_all_that_hold() {
    let policy = policy(
        "decision contains {\"action\": \"hold\", \"rule\": \"a\"} if input.effect.kind == \"delete\"\n\
         decision contains {\"action\": \"hold\", \"rule\": \"b\"} if input.effect.object.name == \"t\"\n\
         decision contains {\"action\": \"allow\", \"rule\": \"c\"} if true",
    );
    let judgement = decide(&policy, "DELETE FROM t WHERE id = 1");
    assert_eq!((judgement.verdict, &*judgement.rule, judgement.also.len()), (Verdict::Hold, "a", 1));
    assert_eq!(answer(&policy, "SELECT 1"), "Allow c");
}

#[test]
fn a_policy_that_fails_answers_nonsense_or_takes_too_long_holds_and_says_so() {
    for (text, told) in [
        ("decision := {\"action\": \"permit\"} if input.effect.object.name == \"t\"", "no decision"),
        ("decision := {\"action\": \"allow\", \"verdict\": 1} if input.effect.object.name == \"t\"", "no decision"),
        ("decision := \"allow\" if input.effect.object.name == \"t\"", "no decision"),
        ("decision := {\"action\": \"allow\", \"rule\": \"\"} if input.effect.object.name == \"t\"", "unusable `rule`"),
        (
            "decision := {\"action\": \"hold\", \"rule\": \"x@y\"} if input.effect.object.name == \"t\"",
            "unusable `rule`",
        ),
        ("decision := {\"action\": \"hold\", \"profile\": \"nobody\"} if input.effect.object.name == \"t\"", "profile"),
        (
            "decision := {\"action\": \"allow\"} if input.effect.object.name == \"t\"\n\
             decision := {\"action\": \"hold\"} if input.effect.object.name == \"t\"",
            "could not be asked",
        ),
    ] {
        let policy = policy(text);
        let judgement = decide(&policy, "DELETE FROM t WHERE id = 1");
        assert_eq!((judgement.verdict, &*judgement.rule), (Verdict::Hold, REGO_FAILED), "{text}: {judgement:?}");
        assert!(judgement.why.contains(told), "{text}: {}", judgement.why);
        assert_eq!(policy.rego().unwrap().failures(), 1);
    }
}

#[test]
fn an_evaluation_without_end_is_stopped_and_the_next_one_is_none_the_worse() {
    let slow = "numbers := [n | some a in [0,1,2,3,4,5,6,7,8,9]; some b in [0,1,2,3,4,5,6,7,8,9]; n := (a * 10) + b]\n\
        decision := {\"action\": \"allow\", \"rule\": \"slow\"} if {\n\
          input.effect.object.name == \"slow\"\n\
          count([1 | some a in numbers; some b in numbers; some c in numbers; some d in numbers; a + b + c + d > 1]) > 1\n\
        } else := {\"action\": \"allow\", \"rule\": \"fast\"} if input.effect.kind == \"read\"";
    let policy = policy(slow);
    let judgement = decide(&policy, "SELECT * FROM slow");
    assert_eq!((judgement.verdict, &*judgement.rule), (Verdict::Hold, REGO_FAILED), "{judgement:?}");
    assert_eq!(answer(&policy, "SELECT * FROM t"), "Allow fast");
}

#[test]
fn a_failure_is_not_remembered_and_a_verdict_is() {
    let judge = Judge::new(Arc::new(policy(&format!(
        "{READS}\nelse := {{\"action\": \"permit\"}} if input.effect.object.name == \"t\""
    ))));
    let class = judge.class(&Facts::default());
    let mut cache = JudgeCache::new(1 << 20);
    for (sql, remembered) in [("SELECT 1", true), ("DROP TABLE t", false)] {
        judge.judge(&mut cache, sql.as_bytes(), &class, false, &NothingPrepared);
        let failures = judge.policy().rego().unwrap().failures();
        judge.judge(&mut cache, sql.as_bytes(), &class, false, &NothingPrepared);
        assert_eq!(judge.policy().rego().unwrap().failures() == failures, remembered, "{sql}");
    }
}

#[test]
fn a_policy_that_asks_for_the_time_has_classes_for_a_minute_and_another_has_not() {
    let at = |time: &str| Facts { user: "ann", now: time.parse().unwrap(), ..Facts::default() };
    let (first, second) = (at("2026-11-21T21:59:00Z"), at("2026-11-21T22:00:00Z"));
    let plain = policy(READS);
    assert!(plain.class(&first).is(&plain.class(&second)));
    assert_eq!(plain.class_ends(first.now), None);
    let timed = policy("decision := {\"action\": \"allow\", \"rule\": \"night\"} if input.time.hour >= 22");
    assert!(!timed.class(&first).is(&timed.class(&second)));
    assert_eq!(timed.class_ends(first.now), Some(second.now));
    let read = analyse(b"SELECT 1", &Limits::default());
    let verdict = |facts: &Facts<'_>| timed.decide(&read, facts, false, &NothingPrepared).verdict;
    assert_eq!((verdict(&first), verdict(&second)), (Verdict::Hold, Verdict::Allow));
}

#[test]
fn the_input_has_what_the_policy_names_and_nothing_else_that_changes() {
    let facts = Facts { user: "u", database: "d", application_name: "psql", ..Facts::default() };
    assert_eq!(rego(READS).session(&facts, &[]), json!({"session": {"user": "u", "database": "d", "people": []}}));
    let curious = "# input.session.application_name, address, time\n";
    let session = rego(&format!("{curious}{READS}")).session(&facts, &["x"]);
    assert_eq!(session["session"]["address"], "unix");
    assert_eq!(session["session"]["application_name"], "psql");
    assert_eq!(session["time"]["weekday"], "thu");
    assert_eq!(session["freezes"], json!(["x"]));
}

#[test]
fn texts_are_told_apart_by_their_risks_where_the_policy_asks_for_them() {
    let policy = policy(
        "decision := {\"action\": \"reject\", \"rule\": \"every-row\"} if \"always-true\" in input.risks\n\
         else := {\"action\": \"allow\", \"rule\": \"rest\"} if true",
    );
    let judge = Judge::new(Arc::new(policy));
    let class = judge.class(&Facts::default());
    let mut cache = JudgeCache::new(1 << 20);
    for (sql, expected) in [
        ("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 2", Verdict::Allow),
        ("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 1", Verdict::Reject),
    ] {
        let judged = judge.judge(&mut cache, sql.as_bytes(), &class, false, &NothingPrepared);
        assert_eq!(judged.judgement.verdict, expected, "{sql}");
    }
}

#[test]
fn what_observes_passes_and_is_told() {
    let policy = policy("decision := {\"action\": \"hold\", \"rule\": \"try\", \"observe\": true}");
    let judgement = decide(&policy, "DROP TABLE t");
    assert_eq!((judgement.verdict, &*judgement.remarks[0].rule), (Verdict::Allow, "try"));
}

#[test]
fn a_decision_names_a_profile_that_exists_and_hides_what_it_says() {
    let rego =
        rego("decision := {\"action\": \"hold\", \"rule\": \"r\", \"profile\": \"two\", \"redact\": \"literals\"}");
    rego.know_profiles(["two".to_owned()].iter());
    let policy = Policy::of(Parts { rego: Some(rego), ..Parts::default() }).unwrap();
    let judgement = decide(&policy, "DROP TABLE t");
    assert_eq!((judgement.verdict, &*judgement.rule, judgement.redact), (Verdict::Hold, "r@two", Redact::Literals));
    let analysis = analyse(b"DROP TABLE t", &Limits::default());
    assert_eq!(policy.may_redact(&analysis, "ann", "shop"), Redact::All);
}

#[test]
fn a_policy_that_answers_nonsense_to_any_kind_of_effect_is_none() {
    let load =
        |text: &str| Rego::new(&parts(text)).map(|rego| rego.named_profiles().map(str::to_owned).collect::<Vec<_>>());
    for kind in EffectKind::ALL {
        for object in ["not input.effect.object", "input.effect.object"] {
            let text =
                format!("decision := {{\"action\": \"alow\"}} if {{\n input.effect.kind == \"{kind}\"\n {object}\n}}");
            let why = load(&text).unwrap_err();
            assert!(why.contains(&format!("`{kind}`")) && why.contains("alow"), "{why}");
        }
    }
    for wrong in [
        "{\"action\": \"alow\"} if input.effect.has_where == false",
        "{\"action\": \"hold\", \"advise\": \"x\"} if input.effect.kind == \"read\"",
        "{\"action\": \"hold\", \"max_rows\": 3} if input.impact.rows == 1",
    ] {
        assert!(load(&format!("decision := {wrong}")).is_err(), "{wrong}");
    }
    let profiles = load("decision := {\"action\": \"hold\", \"profile\": \"two\"} if input.effect.kind == \"delete\"");
    assert_eq!(profiles.unwrap(), ["two"]);
}

#[test]
fn the_advice_of_a_decision_is_the_rules_own() {
    let policy = policy(
        "decision := {\"action\": \"reject\", \"rule\": \"r\", \"message\": \"no\", \"advice\": \"ask\"} if input.effect.kind == \"drop\"",
    );
    let judgement = decide(&policy, "DROP TABLE t");
    assert_eq!((judgement.message.as_deref(), judgement.advice.as_deref()), (Some("no"), Some("ask")));
}

#[test]
fn a_policy_that_cannot_be_compiled_or_asked_is_none() {
    for text in [
        "decision := ",
        "other := 1",
        "decision := undefined_function(1)",
        "decision := {\"action\": \"allow\"} if http.send({\"method\": \"get\", \"url\": \"http://x\"})",
        "decision := {\"action\": \"allow\"} if time.now_ns() > 1",
    ] {
        assert!(Rego::new(&parts(text)).is_err(), "{text}");
    }
    let data = vec![("data.json".to_owned(), "[".to_owned())];
    assert!(Rego::new(&RegoParts { data, ..parts(READS) }).is_err());
}

#[test]
fn another_text_or_data_is_another_version() {
    let version = |parts: &RegoParts| {
        let rego = Some(Arc::new(Rego::new(parts).unwrap()));
        Policy::of(Parts { rego, ..Parts::default() }).unwrap().version().clone()
    };
    let data = vec![("data.json".to_owned(), "{\"x\": 1}".to_owned())];
    let all = [
        Policy::of(Parts::default()).unwrap().version().clone(),
        version(&parts(READS)),
        version(&parts(&format!("{READS}\n"))),
        version(&RegoParts { data, ..parts(READS) }),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}

const FEW: &str = "decision := {\"action\": \"allow\", \"rule\": \"few\", \"max_rows\": 10} if {\n\
        input.effect.kind == \"delete\"\n\
        not input.impact.critical_by_cascade\n\
    } else := {\"action\": \"reject\", \"rule\": \"cascades\", \"impact\": true} if input.effect.kind == \"delete\"\n\
    else := {\"action\": \"allow\", \"rule\": \"no-rewrite\"} if {\n\
        input.effect.kind == \"alter\"\n\
        input.impact.rewrites == false\n\
        input.impact.bytes < 1000\n\
    } else := {\"action\": \"hold\", \"rule\": \"alters\", \"impact\": true} if input.effect.kind == \"alter\"\n\
    else := {\"action\": \"reject\", \"rule\": \"drops\"} if input.effect.kind == \"drop\"";

/// A policy whose critical tables are those of `billing`.
fn measuring(text: &str) -> SessionClass {
    let critical = vec![ObjectPattern::try_from("billing.*".to_owned()).unwrap()];
    let policy = Policy::of(Parts { rego: Some(rego(text)), critical, ..Parts::default() }).unwrap();
    policy.class(&Facts { user: "ann", database: "shop", ..Facts::default() })
}

fn measure(rows: Option<u64>, cascade: Option<&str>) -> Measure {
    let table = |schema: &str, by_cascade| Reached {
        object: ObjectName { schema: Some(schema.to_owned()), name: "t".to_owned() },
        by_cascade,
    };
    let reached = std::iter::once(table("public", false)).chain(cascade.map(|schema| table(schema, true))).collect();
    let (rewrites, triggers, said) = (Some(false), Some(false), "so much".to_owned());
    Measure { rows, bytes: Some(999), rewrites, triggers, reached, complete: true, said }
}

fn measured(class: &SessionClass, sql: &str, measure: &Measure) -> Judgement {
    class.decide_measured(&analyse(sql.as_bytes(), &Limits::default()), false, &NothingPrepared, measure)
}

#[test]
fn a_decision_that_depends_on_impact_waits_for_a_look() {
    let class = measuring(FEW);
    let unlooked = |sql: &str| class.decide(&analyse(sql.as_bytes(), &Limits::default()), false, &NothingPrepared);
    for (sql, verdict, examine) in [
        ("DELETE FROM t WHERE id = 1", Verdict::Hold, true),
        ("ALTER TABLE t ADD c int", Verdict::Hold, true),
        ("DROP TABLE t", Verdict::Reject, false),
        // What it rejects without a look needs none.
        ("DELETE FROM t WHERE id = 1; DROP TABLE t", Verdict::Reject, false),
        ("SELECT 1", Verdict::Hold, false),
    ] {
        let judgement = unlooked(sql);
        assert_eq!((judgement.verdict, judgement.examine), (verdict, examine), "{sql}: {judgement:?}");
    }
}

#[test]
fn what_a_look_finds_decides_and_what_passes_as_small_has_a_ceiling() {
    let class = measuring(FEW);
    for (sql, measure, expected, ceiling) in [
        ("DELETE FROM t WHERE id = 1", measure(Some(10), None), "Allow few", Some(10)),
        ("DELETE FROM t WHERE id = 1", measure(Some(11), None), "Hold few", None),
        ("DELETE FROM t WHERE id = 1", measure(None, None), "Hold few", None),
        ("DELETE FROM t WHERE id = 1", measure(Some(1), Some("billing")), "Reject cascades", None),
        ("DELETE FROM t WHERE id = 1", measure(Some(1), Some("other")), "Allow few", Some(10)),
        ("ALTER TABLE t ADD c int", measure(Some(1), None), "Allow no-rewrite", None),
        ("ALTER TABLE t ADD c int", Measure { rewrites: None, ..measure(Some(1), None) }, "Hold alters", None),
        ("ALTER TABLE t ADD c int", Measure { bytes: None, ..measure(Some(1), None) }, "Hold alters", None),
        // It may cascade into anything.
        ("DELETE FROM t WHERE id = 1", Measure { complete: false, ..measure(Some(1), None) }, "Reject cascades", None),
        ("DELETE FROM t WHERE id = 1", Measure::unknown("no time"), "Reject cascades", None),
    ] {
        let judgement = measured(&class, sql, &measure);
        assert_eq!(format!("{:?} {}", judgement.verdict, judgement.rule), expected, "{sql} {measure:?}");
        assert_eq!(judgement.guard.and_then(|guard| guard.max_rows), ceiling, "{sql} {measure:?}");
        assert!(!judgement.examine);
        let told = judgement.why.contains(&measure.said);
        assert_eq!(told, expected != "Allow no-rewrite", "where the decision names it: {}", judgement.why);
    }
}

#[test]
fn what_is_not_known_never_passes_for_small_whichever_way_it_is_compared() {
    let unknown = Measure::unknown("no time");
    for allows in [
        "input.impact.rows <= 100",
        "input.impact.rows < 1000000",
        "not input.impact.rows > 100",
        "input.impact.bytes <= 1000000000000",
        "input.impact.rewrites == false",
        "not input.impact.rewrites",
        "input.impact.triggers == false",
        "not input.impact.critical",
        "not input.impact.critical_by_cascade",
        "count(input.impact.unknown) == 0",
    ] {
        let class = measuring(&format!(
            "decision := {{\"action\": \"allow\"}} if {{\n {allows}\n}} \
             else := {{\"action\": \"hold\", \"rule\": \"large\", \"impact\": true}} if true"
        ));
        let said = |measure: &Measure| measured(&class, "DELETE FROM t", measure).verdict;
        assert_eq!((said(&unknown), said(&measure(Some(1), None))), (Verdict::Hold, Verdict::Allow), "{allows}");
        let unlooked = class.decide(&analyse(b"DELETE FROM t", &Limits::default()), false, &NothingPrepared);
        assert_eq!((unlooked.verdict, unlooked.examine), (Verdict::Hold, true), "{allows}");
    }
}

#[test]
fn a_ceiling_is_for_what_passes_and_a_look_is_told_to_those_who_ask() {
    let policy = policy(
        "decision := {\"action\": \"hold\", \"rule\": \"r\", \"max_rows\": 3} if input.effect.object.name == \"t\"",
    );
    let judgement = decide(&policy, "DROP TABLE t");
    assert_eq!(&*judgement.rule, REGO_FAILED);
    assert!(judgement.why.contains("for what passes"), "{}", judgement.why);
    assert!(policy.rego().unwrap().asks_impact());
    let plain = rego(READS);
    assert!(!plain.asks_impact());
    let effect = Effect {
        kind: EffectKind::Read,
        objects: Vec::new(),
        has_where: None,
        columns: Vec::new(),
        why: String::new(),
    };
    let (found, tags) = (measure(Some(1), None), crate::judge::Tags::default());
    let impact = Some(Measured { measure: &found, critical: &[] });
    let scene = Scene { in_transaction: false, tags: &tags, risks: None, effects: &[], impact };
    assert_eq!(plain.input(&json!({}), &effect, None, scene)["impact"], Value::Null);
    let told = rego(FEW).input(&json!({}), &effect, None, scene)["impact"].clone();
    assert_eq!((&told["rows"], &told["unknown"]), (&json!(1), &json!([])));
    assert_eq!(told["reached"], json!([{"schema": "public", "name": "t", "by_cascade": false, "critical": false}]));
}

#[test]
fn a_failure_that_was_asked_for_ahead_is_told_without_another_evaluation() {
    let policy = policy(&format!("{READS}\nelse := {{\"action\": \"permit\"}} if input.effect.object.name == \"t\""));
    let class = policy.class(&Facts::default());
    let analysis = analyse(b"DROP TABLE t", &Limits::default());
    let failures = || policy.rego().unwrap().failures();
    class.ask_ahead(&analysis, false, None);
    assert_eq!(failures(), 1);
    let decided = || class.decide(&analysis, false, &NothingPrepared).rule;
    assert_eq!((&*decided(), failures()), (REGO_FAILED, 1));
    class.ask_ahead(&analysis, false, None);
    assert_eq!(failures(), 2, "each statement is asked about anew");
    for _ in 0..10 {
        decided();
    }
    assert!(failures() > 2, "and in the end whatever was asked for");
}
