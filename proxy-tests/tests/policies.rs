//! Rules as sessions meet them: by person, by time, by tag.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

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
