//! Rules as sessions meet them: by person, by time, by tag.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::time::Duration;

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Frame, Raw};
use querygate::clock;

/// A table `t` of three rows.
fn database() -> Database {
    let database = shared();
    database.run("CREATE TABLE t (x int, note text); INSERT INTO t VALUES (1), (2), (3)");
    database
}

/// The error's SQLSTATE, or that it went through.
fn outcome(raw: &mut Raw, sql: &str) -> String {
    raw.send(m::query(sql));
    told(&raw.until(b'Z'))
}

fn told(frames: &[Frame]) -> String {
    frames.iter().find(|frame| frame.tag == b'E').map_or("passed".to_owned(), Frame::sqlstate)
}

#[test]
fn a_session_learns_that_a_freeze_has_begun_also_for_what_it_ran_before() {
    let database = database();
    let from = clock::wall() + Duration::from_secs(3);
    let gate = Gate::builder()
        .toml(&format!(
            "[[freeze]]\nname = \"now\"\nfrom = \"{from}\"\nuntil = \"2100-01-01\"\n\
             [[rule]]\nname = \"frozen\"\naction = \"reject\"\nfrozen = true\neffects = [\"update\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
        ))
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::parse("u", "UPDATE t SET x = x WHERE x = 1", &[]));
    raw.send(m::sync());
    raw.until(b'Z');
    let mut bound = || {
        raw.send(m::bind("", "u", &[]));
        raw.send(m::execute("", 0));
        raw.send(m::sync());
        let prepared = told(&raw.until(b'Z'));
        (prepared, outcome(&mut raw, "UPDATE t SET x = x WHERE x = 2"))
    };
    let (first, deadline) = (bound(), clock::now() + Duration::from_secs(30));
    // A machine so slow that the freeze is on by now has nothing to compare with.
    assert!(first.0 == "passed" || clock::wall() >= from, "{first:?}");
    loop {
        let at = clock::wall();
        let (prepared, simple) = bound();
        if at >= from {
            assert_eq!((prepared.as_str(), simple.as_str()), ("42501", "42501"));
            return;
        }
        assert!(clock::now() < deadline, "the freeze has to begin");
    }
}

#[test]
fn rules_for_people_and_tags_tell_sessions_apart() {
    let database = database();
    let user = database.target().user.clone();
    let gate = Gate::builder()
        .toml(&format!(
            "[[people]]\nname = \"robot\"\ngroups = [\"agents\"]\ndatabase_users = [\"{user}\"]\n\
             [[rule]]\nname = \"billing\"\naction = \"allow\"\neffects = [\"update\"]\ntags = {{ application = [\"billing\"] }}\n\
             [[rule]]\nname = \"agents\"\naction = \"reject\"\ngroups = [\"agents\"]\neffects = [\"update\", \"insert\", \"delete\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
        ))
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    for (sql, expected) in [
        ("SELECT * FROM t", "passed"),
        ("UPDATE t SET x = 1 WHERE x = 1", "42501"),
        ("UPDATE t SET x = 1 WHERE x = 1 /*application='billing'*/", "passed"),
        ("UPDATE t SET x = 1 WHERE x = 1 /*application='billing*/", "42501"),
        ("INSERT INTO t VALUES (4) /*application='billing'*/", "42501"),
    ] {
        assert_eq!(outcome(&mut raw, sql), expected, "{sql}");
    }
}

/// Lines of the audit file of this kind, once there are so many.
fn recorded(gate: &Gate, kind: &str, count: usize) -> Vec<serde_json::Value> {
    let (file, deadline) = (gate.dir().join("querygate-audit.jsonl"), clock::now() + Duration::from_secs(30));
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let found: Vec<_> = whole.filter(|line| line["event"]["event"] == kind).collect();
        if found.len() >= count || clock::now() > deadline {
            return found;
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_passes_and_is_told_of_goes_on_record_under_the_redaction_of_its_rule() {
    let database = database();
    let gate = Gate::builder()
        .toml(
            "[[rule]]\nname = \"tell\"\naction = \"notify\"\nmessage = \"look\"\nredact = \"literals\"\neffects = [\"insert\"]\n\
             [[rule]]\nname = \"later\"\naction = \"hold\"\nobserve = true\neffects = [\"delete\"]\n\
             [[rule]]\nname = \"never\"\naction = \"reject\"\nobserve = true\neffects = [\"truncate\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n",
        )
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in ["INSERT INTO t VALUES (4711)", "DELETE FROM t WHERE x = 4711", "TRUNCATE t", "SELECT 1"] {
        assert_eq!(outcome(&mut raw, sql), "passed", "{sql}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
    for (kind, rule, text) in [
        ("noticed", "tell", "INSERT INTO t VALUES (?)"),
        ("would-have-held", "later", "DELETE FROM t WHERE x = 4711"),
        ("would-have-rejected", "never", "TRUNCATE t"),
    ] {
        let lines = recorded(&gate, kind, 1);
        assert_eq!(lines.len(), 1, "{kind}");
        let notice = &lines[0]["event"]["notice"];
        assert_eq!((notice["rule"].as_str(), notice["statement"]["text"].as_str()), (Some(rule), Some(text)));
        assert_eq!(notice["policy_version"], lines[0]["policy_version"]);
        assert_eq!(notice["origin"]["user"].as_str(), Some(database.target().user.as_str()));
    }
    assert_eq!(gate.api().get("/health")["dropped_notices"], 0);
}
