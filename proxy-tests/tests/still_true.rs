//! What was approved earlier (again in its session, or beforehand) is compared, when it is used, with what its approvers were shown.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests")]

use proxy_tests::gate::{AGAIN, BOB, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Frame, Raw, eventually};
use serde_json::{Value, json};

const SCHEMA: &str = "CREATE TABLE a (x int); CREATE TABLE b (x int); INSERT INTO a SELECT generate_series(1, 3); \
    INSERT INTO b SELECT generate_series(1, 3); ANALYZE";
/// A gate that looks into statements, with time enough for a slow machine.
fn setup(rules: &str) -> (Database, Gate) {
    let database = shared();
    let role = database.unique("impact");
    database.run(&format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO {role}"));
    database.run(SCHEMA);
    let impact =
        format!("[impact]\nuser = \"{role}\"\nbudget = \"60s\"\ncount_budget = \"60s\"\nconnect_timeout = \"60s\"\n");
    let gate = Gate::builder().toml(&(impact + rules)).start(database.target());
    (database, gate)
}

fn count(database: &Database, table: &str) -> String {
    database.raw().value(&format!("SELECT count(*) FROM {table}"))
}

/// Reads up to the notice that names a waiting request, which must come; its id.
fn held(raw: &mut Raw) -> String {
    loop {
        let frame = raw.read().expect("a notice");
        let words = String::from_utf8_lossy(&frame.body).into_owned();
        assert!(frame.tag != b'Z' && !words.contains("released under"), "nobody was asked: {words}");
        if frame.tag == b'N' && words.contains("qg-") {
            return format!("qg-{}", words.split_once("qg-").unwrap().1.get(..10).unwrap());
        }
    }
}

/// Sends a statement that must pass without anybody being asked.
fn passes(raw: &mut Raw, sql: &str) {
    let frames = raw.query(sql);
    let text = frames.iter().map(Frame::text).collect::<Vec<_>>().join(" ");
    assert!(frames.iter().all(|frame| frame.tag != b'E') && text.contains("released under"), "{sql}: {text}");
}

/// Sends a statement that people must be asked about, and what they are told has changed.
fn asks(gate: &Gate, raw: &mut Raw, sql: &str) -> (String, String) {
    raw.send(m::query(sql));
    let id = held(raw);
    let request = eventually("people are asked", || {
        let request = gate.api().get(&format!("/v1/requests/{id}"));
        (!request["impact"].is_null()).then_some(request)
    });
    assert_eq!(request["state"], "pending", "{request}");
    let changed: Vec<&str> =
        request["progress"]["changed"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    (id, changed.join("\n"))
}

fn granted(gate: &Gate, raw: &mut Raw, sql: &str) -> String {
    raw.send(m::query(sql));
    let id = held(raw);
    eventually("an answer that counts", || {
        let body = json!({"again_minutes": 10});
        (gate.api().call("POST", &format!("/v1/requests/{id}/approve"), Some(&body)).status == 200).then_some(())
    });
    raw.until(b'Z');
    id
}

fn reject(gate: &Gate, raw: &mut Raw, id: &str) {
    gate.api().reject(id, "no");
    raw.until(b'Z');
}

/// Asked for beforehand, looked into, and approved.
fn approved(gate: &Gate, sql: &str) -> String {
    let (user, database) = (gate.target().user, gate.target().database);
    let wish = json!({"sql": sql, "reason": "release", "user": user, "database": database, "window_minutes": 60});
    let answer = gate.api().call("POST", "/v1/requests", Some(&wish));
    assert!(answer.status < 300, "{}", answer.text);
    let id = answer.json["id"].as_str().unwrap().to_owned();
    gate.api().with_token(BOB).approve(&id);
    eventually("the pre-approval", || (shown(gate, &id)["state"] == "released").then_some(()));
    let impact = gate.api().with_token(BOB).get(&format!("/v1/requests/{id}"))["impact"].clone();
    assert!(
        !impact["facts"]["fingerprint"]["known"].is_null(),
        "its approvers were shown what it would touch: {impact}"
    );
    id
}

fn shown(gate: &Gate, id: &str) -> Value {
    gate.api().get(&format!("/v1/requests/{id}"))
}

#[test]
fn a_standing_approval_of_three_rows_is_none_of_a_thousand_and_ends() {
    let (database, gate) = setup(AGAIN);
    let mut raw = Raw::login(&gate.target());
    let delete = "DELETE FROM a WHERE x > 0";
    let id = granted(&gate, &mut raw, delete);
    database.run("INSERT INTO a SELECT generate_series(1, 2)");
    passes(&mut raw, delete);
    assert_eq!(count(&database, "a"), "0", "fewer than they were shown");
    database.run("INSERT INTO a SELECT generate_series(1, 1000)");
    let (request, changed) = asks(&gate, &mut raw, delete);
    assert!(changed.contains(&id) && changed.contains("1000 rows of public.a now, 3 before"), "{changed}");
    reject(&gate, &mut raw, &request);
    // It is over, however many there are.
    database.run("TRUNCATE a");
    let (request, changed) = asks(&gate, &mut raw, delete);
    assert_eq!(changed, "");
    reject(&gate, &mut raw, &request);
    assert_eq!(shown(&gate, &id)["progress"]["again"]["ended_because"], "what it would touch has changed");
    let audit = std::fs::read_to_string(gate.config.with_file_name("querygate-audit.jsonl")).unwrap();
    let lapsed = audit.lines().find(|line| line.contains("\"event\":\"lapsed\"")).unwrap();
    assert!(lapsed.contains(&id) && lapsed.contains("what it would touch has changed"), "{lapsed}");
}

#[test]
fn a_standing_approval_does_not_outlive_a_trigger_nobody_was_shown() {
    let (database, gate) = setup(AGAIN);
    let mut raw = Raw::login(&gate.target());
    granted(&gate, &mut raw, "DELETE FROM a");
    database.run(
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM b; RETURN NULL; END'; \
         CREATE TRIGGER more AFTER DELETE ON a EXECUTE FUNCTION more()",
    );
    let (request, changed) = asks(&gate, &mut raw, "DELETE FROM a");
    assert!(changed.contains("trigger more of public.a is new"), "{changed}");
    reject(&gate, &mut raw, &request);
    assert_eq!(count(&database, "b"), "3");
}

const SCRIPT: &str = "ALTER TABLE a ADD COLUMN y int; UPDATE a SET y = x; DELETE FROM a WHERE y = 1; DELETE FROM b";

#[test]
fn what_a_pre_approvals_own_statements_change_is_no_difference() {
    // One by one, and within a transaction whose locks keep from looking.
    for (begin, end) in [("", ""), ("BEGIN", "COMMIT")] {
        let (database, gate) = setup("");
        approved(&gate, SCRIPT);
        let mut raw = Raw::login_as_psql(&gate.target());
        raw.query(begin);
        for statement in SCRIPT.split("; ") {
            passes(&mut raw, statement);
        }
        raw.query(end);
        assert_eq!((count(&database, "a"), count(&database, "b")), ("2".to_owned(), "0".to_owned()), "{begin}");
    }
}

#[test]
fn what_somebody_else_changes_between_a_pre_approvals_statements_is_asked() {
    let (database, gate) = setup("");
    let id = approved(&gate, SCRIPT);
    let mut raw = Raw::login_as_psql(&gate.target());
    passes(&mut raw, "ALTER TABLE a ADD COLUMN y int");
    passes(&mut raw, "UPDATE a SET y = x");
    database.run("INSERT INTO b SELECT generate_series(1, 1000)");
    let (request, changed) = asks(&gate, &mut raw, "DELETE FROM a WHERE y = 1");
    assert!(
        changed.contains(&id) && changed.contains("1003 rows of public.b (statement 4) now, 3 before"),
        "{changed}"
    );
    reject(&gate, &mut raw, &request);
    assert_eq!((count(&database, "a"), count(&database, "b")), ("3".to_owned(), "1003".to_owned()));
}

#[test]
fn a_pre_approval_is_none_of_what_was_redefined_before_its_first_use_over_a_restart_too() {
    let (database, gate) = setup("");
    let id = approved(&gate, "DELETE FROM a WHERE x = 1; DELETE FROM b");
    database.run("ALTER TABLE b ADD COLUMN note text");
    let mut raw = Raw::login_as_psql(&gate.target());
    let (request, changed) = asks(&gate, &mut raw, "DELETE FROM a WHERE x = 1");
    assert!(changed.contains(&id) && changed.contains("column public.b.note is new"), "{changed}");
    reject(&gate, &mut raw, &request);
    let gate = gate.kill_and_restart();
    let mut raw = Raw::login_as_psql(&gate.target());
    let (request, changed) = asks(&gate, &mut raw, "DELETE FROM a WHERE x = 1");
    assert!(changed.contains("definitions have changed"), "{changed}");
    reject(&gate, &mut raw, &request);
    database.run("ALTER TABLE b DROP COLUMN note");
    let mut raw = Raw::login_as_psql(&gate.target());
    passes(&mut raw, "DELETE FROM a WHERE x = 1");
    assert_eq!(count(&database, "a"), "2");
}

#[test]
fn what_was_approved_at_its_bind_is_executed_at_once_or_not_at_all() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("", "DELETE FROM a WHERE x > 0", &[]), m::bind("", "", &[]), m::flush()].concat());
    gate.api().approve(&held(&mut raw));
    raw.until(b'2');
    database.run("INSERT INTO a SELECT generate_series(1, 1000)");
    // By the server's clock.
    database.raw().value("SELECT pg_sleep(2.5)");
    raw.send([m::execute("", 0), m::sync()].concat());
    let frames = raw.until(b'Z');
    let refused = frames.iter().find(|frame| frame.tag == b'E').map(Frame::text).unwrap_or_default();
    assert!(refused.contains("approved to run at once"), "{frames:?}");
    assert_eq!(count(&database, "a"), "1003");
}
