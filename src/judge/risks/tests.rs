#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm, clippy::panic)]

use serde::Deserialize;

use super::*;
use crate::judge::{Analysis, Limits, SessionAct, analyse};

#[derive(Deserialize)]
struct Line {
    id: String,
    sql: String,
    risks: Vec<RiskKind>,
}

fn lines(file: &str) -> Vec<serde_json::Value> {
    let path = format!("{}/proxy-tests/corpus/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read(text: &str) -> Analysis {
    analyse(text.as_bytes(), &Limits::default())
}

fn found(text: &str) -> Vec<Risk> {
    read(text).all_risks().unwrap()
}

fn kinds(text: &str) -> Vec<RiskKind> {
    let mut kinds: Vec<_> = found(text).into_iter().map(|risk| risk.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn every_text_has_the_risks_it_is_labelled_with_and_no_others() {
    let wrong: Vec<String> = lines("risks.jsonl")
        .into_iter()
        .map(|line| serde_json::from_value::<Line>(line).unwrap())
        .filter_map(|mut line| {
            line.risks.sort();
            (kinds(&line.sql) != line.risks).then(|| format!("{}: {:?}\n    {:?}", line.id, line.sql, found(&line.sql)))
        })
        .collect();
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_kind_is_in_the_corpus() {
    let all: Vec<RiskKind> =
        lines("risks.jsonl").into_iter().flat_map(|line| serde_json::from_value::<Line>(line).unwrap().risks).collect();
    let missing: Vec<_> = RiskKind::ALL.into_iter().filter(|kind| !all.contains(kind)).collect();
    assert_eq!(missing, []);
}

/// What tools send is read by nobody, but if there were remarks about it, there would be remarks about everything.
#[test]
fn what_the_tools_of_postgres_send_is_not_risky() {
    let risky: Vec<String> = lines("tools.jsonl")
        .iter()
        .filter_map(|line| line["sql"].as_str())
        .filter_map(|sql| {
            let found: Vec<_> = found(sql).into_iter().filter(|risk| risk.kind != RiskKind::OutOfView).collect();
            (!found.is_empty()).then(|| format!("{sql:?}: {found:?}"))
        })
        .collect();
    assert_eq!(risky, [""; 0]);
}

#[test]
fn a_comparison_with_itself_leaves_the_nulls_out_and_the_remark_says_so() {
    for (sql, expected) in [
        (
            "DELETE FROM t WHERE x = x",
            "the WHERE of its DELETE is true for every row where nothing in it is NULL: `x = x`",
        ),
        ("DELETE FROM t WHERE a = 1 OR 1=1", "the WHERE of its DELETE is true for every row: `1 = 1`"),
        ("DELETE FROM s.t", "DELETE without WHERE: every row of s.t"),
        (
            "UPDATE t SET a = 1; DELETE FROM u WHERE true",
            "statement 2: the WHERE of its DELETE is true for every row: `true`",
        ),
    ] {
        let texts: Vec<_> = found(sql).into_iter().map(|risk| risk.text).collect();
        assert!(texts.contains(&expected.to_owned()), "{sql}: {texts:?}");
    }
}

#[test]
fn a_name_that_is_cut_is_told_as_the_server_will_use_it() {
    let name = format!("{}\u{e4}x", "a".repeat(62));
    let [risk] = &*found(&format!("DROP TABLE {name}")) else { panic!("one risk") };
    assert!(risk.text.ends_with(&format!("`{}`", "a".repeat(62))), "half a character is not kept: {}", risk.text);
}

#[test]
fn what_may_deceive_is_spelled_out_in_the_remark_itself() {
    for risk in found("DROP TABLE \"a\u{202e}b\u{200b}\u{430}c\" -- DROP TABLE \u{202e}t") {
        assert!(!risk.text.chars().any(|c| characters::is_invisible(c) || c == '\u{202e}'), "{risk:?}");
    }
}

#[test]
fn remarks_are_few_enough_to_be_read() {
    let many: Vec<String> = (0..200).map(|n| format!("DROP TABLE \u{43e}{n} CASCADE")).collect();
    let all = found(&many[..90].join(";"));
    assert!(all.len() <= MAX_RISKS, "{}", all.len());
    assert!(all.iter().any(|risk| risk.text.contains("more remarks")), "{all:?}");
    assert!(all.iter().all(|risk| risk.text.chars().count() < MAX_CHARS + 60));
}

#[test]
fn text_that_is_no_sql_or_no_text_has_an_unread_risk() {
    for bytes in [&b"SELECT '"[..], b"\xff\xfe", b"SELECT 1\0", b"SELEC", b"((((((("] {
        let analysis = analyse(bytes, &Limits::default());
        let risks = analysis.all_risks().unwrap();
        assert!(risks.iter().any(|risk| risk.kind == RiskKind::Unread), "{bytes:?}");
    }
}

#[test]
fn a_prepared_body_keeps_the_risks_of_its_text() {
    let analysis = read("PREPARE p AS DELETE FROM t /* \u{202e} */ WHERE true");
    let bodies = analysis.pieces[0].acts.iter().filter_map(|act| match act {
        SessionAct::Prepare { body, .. } => Some(body.all_risks().unwrap()),
        _ => None,
    });
    let kinds: Vec<_> = bodies.flatten().map(|risk| risk.kind).collect();
    assert_eq!(kinds, [RiskKind::AlwaysTrue, RiskKind::Bidi]);
}

#[test]
fn every_kind_is_spelled_once_and_has_words_of_its_own() {
    let mut codes: Vec<_> = RiskKind::ALL.iter().map(ToString::to_string).collect();
    let mut words: Vec<_> = RiskKind::ALL.iter().map(|kind| kind.plain()).collect();
    codes.sort();
    codes.dedup();
    words.sort_unstable();
    words.dedup();
    assert_eq!((codes.len(), words.len()), (RiskKind::ALL.len(), RiskKind::ALL.len()));
}
