//! What was approved runs as it was shown: nothing that comes between the answer and the statement, or between two statements that
//! were approved together, makes it another.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::gate::{AGAIN, BOB, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Frame, Raw, eventually};
use serde_json::json;

/// Tables `good.t` and `evil.t`, and `public.t` with rows 1, 2, 3.
fn setup(toml: &str) -> (Database, Gate) {
    let database = shared();
    for schema in ["good", "evil"] {
        database.run(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.t AS SELECT generate_series(1, 3) AS x"));
    }
    database.run("CREATE TABLE t AS SELECT generate_series(1, 3) AS x");
    let gate = Gate::builder().toml(toml).start(database.target());
    (database, gate)
}

fn count(database: &Database, table: &str) -> String {
    database.raw().value(&format!("SELECT count(*) FROM {table}"))
}

/// The id in the next notice that names a request as waiting.
fn held(raw: &mut Raw) -> String {
    loop {
        let frame = raw.read().expect("a notice");
        let words = String::from_utf8_lossy(&frame.body).into_owned();
        assert!(!words.contains("released under"), "nobody was asked: {words}");
        if frame.tag == b'N' && words.contains("qg-") {
            let id = words.split_once("qg-").unwrap().1;
            return format!("qg-{}", id.get(..10).unwrap());
        }
    }
}

fn run(portal: &str, name: &str, sql: &str) -> Vec<u8> {
    [m::parse(name, sql, &[]), m::bind(portal, name, &[]), m::execute(portal, 0)].concat()
}

fn errors(frames: &[Frame]) -> Vec<String> {
    frames.iter().filter(|frame| frame.tag == b'E').map(Frame::text).collect()
}

#[test]
fn a_released_portal_does_not_run_under_another_search_path() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.query("SET search_path = good");
    let bound = [m::parse("d", "TRUNCATE t", &[]), m::bind("p", "d", &[])].concat();
    raw.send([bound.clone(), run("", "s", "SET search_path = evil"), m::execute("p", 0), m::sync()].concat());
    gate.api().approve(&held(&mut raw));
    assert_eq!(errors(&raw.until(b'Z')).len(), 1);
    // Over several batches of one transaction.
    for evil in ["SET search_path = evil", "CREATE TEMP TABLE t (x int)"] {
        let mut raw = Raw::login(&gate.target());
        raw.query("SET search_path = good");
        raw.query("BEGIN");
        raw.send([bound.clone(), m::sync()].concat());
        gate.api().approve(&held(&mut raw));
        raw.until(b'Z');
        raw.query(evil);
        raw.send([m::execute("p", 0), m::sync()].concat());
        assert_eq!(errors(&raw.until(b'Z')).len(), 1, "{evil}");
        raw.query("COMMIT");
    }
    assert_eq!((count(&database, "evil.t"), count(&database, "good.t")), ("3".to_owned(), "3".to_owned()));
}

#[test]
fn a_released_portal_is_not_run_by_other_means_later() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    raw.send([m::parse("d", "DELETE FROM t RETURNING x", &[]), m::bind("p", "d", &[]), m::sync()].concat());
    gate.api().approve(&held(&mut raw));
    raw.until(b'Z');
    assert_eq!(errors(&raw.query("FETCH ALL FROM p")).len(), 1);
    raw.query("COMMIT");
    assert_eq!(count(&database, "t"), "3");
}

#[test]
fn a_released_portal_executed_in_a_later_batch_with_nothing_between_runs() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    raw.send([m::parse("d", "DELETE FROM t RETURNING x", &[]), m::bind("p", "d", &[]), m::sync()].concat());
    gate.api().approve(&held(&mut raw));
    raw.until(b'Z');
    raw.send([m::describe_portal("p"), m::execute("p", 1), m::sync()].concat());
    assert!(errors(&raw.until(b'Z')).is_empty());
    // It has run; more of its rows are fetched after another statement.
    assert_eq!(raw.value("SELECT 1"), "1");
    raw.send([m::execute("p", 0), m::sync()].concat());
    assert!(raw.until(b'Z').iter().any(|frame| frame.tag == b'C'));
    raw.query("COMMIT");
    assert_eq!(count(&database, "t"), "0");
}

#[test]
fn a_standing_approval_ends_with_the_transaction_whose_search_path_it_was_given_for() {
    let (database, gate) = setup(AGAIN);
    let mut raw = Raw::login(&gate.target());
    raw.query("SET search_path = evil");
    raw.send([run("", "s", "SET LOCAL search_path = good"), run("p", "d", "DELETE FROM t"), m::flush()].concat());
    let id = held(&mut raw);
    let body = json!({"again_minutes": 10});
    assert_eq!(gate.api().call("POST", &format!("/v1/requests/{id}/approve"), Some(&body)).status, 200);
    raw.until(b'C');
    raw.send([m::sync(), run("", "x", "SELECT 1"), run("p2", "d2", "DELETE FROM t"), m::sync()].concat());
    gate.api().reject(&held(&mut raw), "no");
    raw.until(b'Z');
    assert_eq!((count(&database, "good.t"), count(&database, "evil.t")), ("0".to_owned(), "3".to_owned()));
}

/// Asked for beforehand, and approved.
fn approved(gate: &Gate, sql: &str) {
    let (user, database) = (gate.target().user, gate.target().database);
    let wish = json!({"sql": sql, "reason": "release", "user": user, "database": database, "window_minutes": 60});
    let id = eventually("a request", || {
        let answer = gate.api().call("POST", "/v1/requests", Some(&wish));
        Some(answer).filter(|answer| answer.status < 300)
    })
    .json["id"]
        .as_str()
        .unwrap()
        .to_owned();
    gate.api().with_token(BOB).approve(&id);
    eventually("the pre-approval", || {
        (gate.api().get(&format!("/v1/requests/{id}"))["state"] == "released").then_some(())
    });
}

/// Sends it and rejects what is held of it.
fn is_asked(gate: &Gate, raw: &mut Raw, frames: impl AsRef<[u8]>) {
    raw.send(frames);
    gate.api().reject(&held(raw), "no");
    raw.until(b'Z');
}

const FIRST: &str = "DELETE FROM t WHERE x = 1";

#[test]
fn what_was_taken_back_does_not_count_for_the_statements_approved_behind_it() {
    let (database, gate) = setup("");
    approved(&gate, "DELETE FROM t WHERE x = 1; DELETE FROM t");
    let all = m::query("DELETE FROM t");
    // Taken back by the text itself.
    let mut raw = Raw::login_as_psql(&gate.target());
    is_asked(&gate, &mut raw, m::query("DELETE FROM t WHERE x = 1; ROLLBACK; DELETE FROM t"));
    // Taken back in the other protocol.
    let mut raw = Raw::login_as_psql(&gate.target());
    raw.query("BEGIN");
    raw.query(FIRST);
    raw.send([run("", "", "ROLLBACK"), m::sync()].concat());
    raw.until(b'Z');
    is_asked(&gate, &mut raw, &all);
    assert_eq!(count(&database, "t"), "3");
}

#[test]
fn what_was_not_committed_does_not_count_for_another_session() {
    let all = m::query("DELETE FROM t");
    let (database, gate) = setup("");
    approved(&gate, "DELETE FROM t WHERE x = 1; DELETE FROM t");
    let mut raw = Raw::login_as_psql(&gate.target());
    raw.send([run("", "", FIRST), m::flush()].concat());
    raw.until(b'C');
    drop(raw);
    eventually("the end of the session", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()";
        (database.raw().value(open) == "0").then_some(())
    });
    is_asked(&gate, &mut Raw::login_as_psql(&gate.target()), &all);
    assert_eq!(count(&database, "t"), "3");
}

#[test]
fn another_portal_of_the_same_name_is_not_the_approved_statement() {
    let (database, gate) = setup("");
    approved(&gate, "DELETE FROM t WHERE x = 1; DELETE FROM t");
    let mut raw = Raw::login_as_psql(&gate.target());
    raw.send([m::parse("a", FIRST, &[]), m::bind("", "a", &[]), run("", "s", "SELECT 1"), m::sync()].concat());
    raw.until(b'Z');
    is_asked(&gate, &mut Raw::login_as_psql(&gate.target()), m::query("DELETE FROM t"));
    assert_eq!(count(&database, "t"), "3");
}

#[test]
fn statements_approved_beforehand_pass_one_by_one_in_the_extended_protocol() {
    let (database, gate) = setup("");
    approved(&gate, "DELETE FROM t WHERE x = 1; DELETE FROM t WHERE x = 2");
    let mut raw = Raw::login_as_psql(&gate.target());
    for text in [FIRST, "DELETE FROM t WHERE x = 2"] {
        raw.send([run("", "", text), m::sync()].concat());
        assert!(errors(&raw.until(b'Z')).is_empty());
        eventually("its result", || {
            let all = gate.api().get("/v1/requests?state=recent")["requests"].as_array().unwrap().clone();
            all.iter()
                .all(|one| one["statement"]["text"] != text || !one["progress"]["execution"].is_null())
                .then_some(())
        });
    }
    assert_eq!(count(&database, "t"), "1");
}

#[test]
fn a_name_that_a_failed_text_may_have_redefined_is_not_bound() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("x", "SELECT 1", &[]), m::parse("z", "EXECUTE x", &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.query("SELECT 1/0; DEALLOCATE z; PREPARE z AS SELECT 2");
    raw.query("BEGIN");
    raw.send([m::bind("p", "z", &[]), m::sync()].concat());
    assert!(errors(&raw.until(b'Z'))[0].contains("may stand for several"));
    raw.query("ROLLBACK");
    raw.send([m::close_statement("x"), m::parse("x", "DELETE FROM t", &[]), m::execute("p", 0), m::sync()].concat());
    assert_eq!(errors(&raw.until(b'Z')).len(), 1);
    // Forgotten and made anew it is one statement.
    raw.query("DEALLOCATE z");
    raw.send([run("", "z", "SELECT 2"), m::sync()].concat());
    assert!(errors(&raw.until(b'Z')).is_empty());
    assert_eq!(count(&database, "t"), "3");
}
