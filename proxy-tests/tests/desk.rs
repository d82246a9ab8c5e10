//! Approval through the desk: how many have to agree, for how long, and what the database said to a released statement.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::gate::{ANN, BOB, EVE, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use serde_json::{Value, json};

/// A table `t` with rows 1, 2, 3 behind a gate with the shipped policy and `toml`.
fn setup(toml: &str) -> (Database, Gate) {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let gate = Gate::builder().toml(toml).start(database.target());
    (database, gate)
}

fn held(raw: &mut Raw) -> String {
    let notice = String::from_utf8_lossy(&raw.expect(b'N').body).into_owned();
    let id = notice.split_once("qg-").unwrap().1;
    format!("qg-{}", id.get(..10).unwrap())
}

/// The request's result, once there is one.
fn result(gate: &Gate, id: &str) -> Value {
    eventually("a result", || {
        let found = gate.api().get(&format!("/v1/requests/{id}"))["progress"]["execution"].clone();
        Some(found).filter(|found| !found.is_null())
    })
}

#[test]
fn what_the_database_said_to_a_released_statement_is_kept() {
    let (_database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    for (sql, expected) in [
        ("DELETE FROM t WHERE x < 3", json!({"result": "completed", "tag": "DELETE 2", "rows": 2})),
        (
            "DELETE FROM t WHERE x = 3; DROP TABLE t",
            json!({"result": "completed", "tag": "DELETE 1; DROP TABLE", "rows": 1}),
        ),
        ("DROP TABLE t", json!({"result": "failed", "sqlstate": "42P01", "message": "table \"t\" does not exist"})),
    ] {
        raw.send(m::query(sql));
        let id = held(&mut raw);
        gate.api().approve(&id);
        raw.until(b'Z');
        let mut seen = result(&gate, &id);
        assert!(seen["duration_ms"].is_u64(), "{seen}");
        seen.as_object_mut().unwrap().remove("duration_ms");
        // Each ran outside of a transaction, alone.
        let completed = seen["result"] == "completed";
        assert_eq!(seen.as_object_mut().unwrap().remove("committed"), completed.then_some(true.into()));
        assert_eq!(seen, expected, "{sql}");
    }
}

#[test]
fn the_result_of_a_portal_is_that_of_its_own_execute() {
    let (_database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::extended("DELETE FROM t WHERE x >= $1", &[Some(b"2")]));
    assert_eq!(raw.read().unwrap().tag, b'1');
    let id = held(&mut raw);
    gate.api().approve(&id);
    raw.until(b'Z');
    assert_eq!(result(&gate, &id)["tag"], "DELETE 2");
}

#[test]
fn a_backend_that_is_ended_while_a_released_statement_runs_is_its_result() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t; SELECT pg_sleep(60)"));
    let id = held(&mut raw);
    gate.api().approve(&id);
    let sleeping = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE datname = current_database() AND \
                    wait_event = 'PgSleep' UNION ALL SELECT 'nobody sleeps' LIMIT 1";
    eventually("a sleeping backend", || (database.raw().value(sleeping) == "true").then_some(()));
    let seen = result(&gate, &id);
    assert_eq!((&seen["result"], &seen["sqlstate"]), (&"failed".into(), &"57P01".into()), "{seen}");
}

const TWO: &str = r#"
[[approval.profile]]
name = "two"
approver_groups = ["approvers"]
quorum = 2
deadline = "2h"
break_glass = ["eve"]
[[rule]]
name = "deletes"
effects = ["delete"]
action = "hold"
approval = "two"
[[rule]]
name = "rest"
action = "allow"
"#;

#[test]
fn a_rule_says_how_many_have_to_agree_and_for_how_long() {
    let (database, gate) = setup(TWO);
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let notice = String::from_utf8_lossy(&raw.expect(b'N').body).into_owned();
    assert!(notice.contains("It expires in 2h"), "{notice}");
    let id = gate.api().wait_held("DELETE");
    gate.api().approve(&id);
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!((&request["state"], &request["progress"]["approved_by"]), (&"pending".into(), &json!(["ann"])));
    let again = gate.api().decide(&id, "approve", "really");
    assert_eq!(again.status, 409, "{}", again.text);
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
    gate.api().with_token(BOB).approve(&id);
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["decision"]["by"], "ann, bob");
}

#[test]
fn whoever_any_rule_asks_has_to_agree_whatever_the_statement_names_first() {
    let (database, gate) = setup(
        "[[approval.profile]]\nname = \"lax\"\nunknown_requester = \"allow\"\napprovers = [\"bob\"]\n\
         [[approval.profile]]\nname = \"strict\"\nunknown_requester = \"allow\"\napprovers = [\"ann\"]\n\
         [policy]\nfallback = \"shipped\"\n\
         [[rule]]\nname = \"vault\"\naction = \"hold\"\nobjects = [\"vault.*\"]\napproval = \"strict\"\n\
         [[rule]]\nname = \"scratch\"\naction = \"hold\"\nobjects = [\"scratch.*\"]\napproval = \"lax\"\n",
    );
    database.run(
        "CREATE SCHEMA vault; CREATE SCHEMA scratch; CREATE TABLE vault.s (x int); CREATE TABLE scratch.a (x int); \
         INSERT INTO vault.s VALUES (1)",
    );
    for sql in [
        "DELETE FROM scratch.a; DELETE FROM vault.s",
        "TRUNCATE scratch.a, vault.s",
        "WITH v AS (DELETE FROM vault.s RETURNING x) DELETE FROM scratch.a WHERE x IN (SELECT x FROM v)",
        "DROP TABLE scratch.a, vault.s",
    ] {
        let mut raw = Raw::login(&gate.target());
        raw.send(m::query(sql));
        let id = held(&mut raw);
        let bob = gate.api().with_token(BOB);
        bob.approve(&id);
        let request = gate.api().get(&format!("/v1/requests/{id}"));
        assert_eq!(request["state"], "pending", "{sql}: {request}");
        assert_eq!(database.raw().value("SELECT count(*) FROM vault.s"), "1", "{sql}");
        gate.api().reject(&id, "no");
        raw.until(b'Z');
    }
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM scratch.a; DELETE FROM vault.s"));
    let id = held(&mut raw);
    gate.api().approve(&id);
    gate.api().with_token(BOB).approve(&id);
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM vault.s"), "0");
}

#[test]
fn an_emergency_release_needs_the_right_person_and_a_reason() {
    let (database, gate) = setup(TWO);
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    let path = format!("/v1/requests/{id}/approve");
    let alone = |reason: &str| json!({"break_glass": true, "reason": reason});
    assert_eq!(gate.api().call("POST", &path, Some(&alone("fire"))).status, 403);
    let eve = gate.api().with_token(EVE);
    assert_eq!(eve.call("POST", &path, Some(&alone(" "))).status, 400);
    assert_eq!(eve.call("POST", &path, Some(&json!({"reason": "fire"}))).status, 403);
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
    assert_eq!(eve.call("POST", &path, Some(&alone("fire"))).status, 200);
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
    assert_eq!(gate.api().get(&format!("/v1/requests/{id}"))["progress"]["break_glass"], true);
}

#[test]
fn an_emergency_release_stays_open_for_review_over_a_restart_until_another_person_has_looked() {
    let (_database, gate) = setup(TWO);
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    let alone = json!({"break_glass": true, "reason": "fire"});
    let eve = gate.api().with_token(EVE);
    assert_eq!(eve.call("POST", &format!("/v1/requests/{id}/approve"), Some(&alone)).status, 200);
    raw.until(b'Z');
    result(&gate, &id);
    let gate = gate.kill_and_restart();
    let list = gate.api().get("/v1/requests?state=reviews");
    assert_eq!((list["requests"].as_array().unwrap().len(), &list["requests"][0]["id"]), (1, &id.as_str().into()));
    let path = format!("/v1/requests/{id}/review");
    let own = gate.api().with_token(EVE).call("POST", &path, Some(&json!({"comment": "fine"})));
    assert_eq!(own.status, 403, "{}", own.text);
    let cli = |arguments: &[&str]| {
        let api = format!("http://{}", gate.admin);
        let output = std::process::Command::new(proxy_tests::gate::binary())
            .args(["requests", "--api", &api])
            .args(arguments)
            .env("QUERYGATE_TOKEN", ANN)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(cli(&["list", "--reviews"]).contains("REVIEW OPEN, released alone by eve: “fire”"));
    assert_eq!(cli(&["review", &id, "--comment", "it burned"]), format!("{id}  reviewed\n"));
    assert_eq!(cli(&["list", "--reviews"]), "nothing waits for a review\n");
    assert_eq!(gate.api().with_token(BOB).call("POST", &path, None).status, 409);
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    let review = &request["progress"]["review"];
    assert_eq!((&review["acknowledged_by"], &review["comment"]), (&"ann".into(), &"it burned".into()), "{request}");
    let gate = gate.kill_and_restart();
    assert_eq!(gate.api().get("/v1/requests?state=reviews")["requests"], json!([]));
}

#[test]
fn after_a_crash_what_was_held_is_withdrawn_and_late_approvals_are_told_so() {
    let (database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    gate.api().wait_held("DELETE");
    let gate = gate.kill_and_restart();
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!((&request["state"], &request["cause"]), (&"withdrawn".into(), &"the gate ended".into()), "{request}");
    let late = gate.api().decide(&id, "approve", "fine");
    assert_eq!(late.status, 409, "{}", late.text);
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
}

#[test]
fn the_record_of_a_whole_request_is_in_the_audit_file_in_order() {
    let (_database, gate) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let id = held(&mut raw);
    let eve = gate.api().with_token(EVE).decide(&id, "approve", "");
    assert_eq!(eve.status, 404, "{}", eve.text);
    gate.api().approve(&id);
    raw.until(b'Z');
    result(&gate, &id);
    let file = gate.config.with_file_name("querygate-audit.jsonl");
    let lines: Vec<Value> =
        std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"]["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["started", "held", "answered", "answered", "decided", "ended", "executed"]);
}

const AGAIN: &str = r#"
[[approval.profile]]
name = "again"
approver_groups = ["approvers"]
again = "15m"
[[rule]]
name = "deletes"
effects = ["delete", "execute", "unknown"]
action = "hold"
approval = "again"
[[rule]]
name = "rest"
action = "allow"
"#;

/// The same behind answers of the extended protocol.
fn held_behind(raw: &mut Raw) -> String {
    let frames = raw.until(b'N');
    let notice = String::from_utf8_lossy(&frames.last().unwrap().body).into_owned();
    let id = notice.split_once("qg-").unwrap().1;
    format!("qg-{}", id.get(..10).unwrap())
}

fn approve_again(gate: &Gate, id: &str) -> u16 {
    let body = json!({"again_minutes": 10});
    gate.api().call("POST", &format!("/v1/requests/{id}/approve"), Some(&body)).status
}

/// Sends it; whether it ran under a standing approval, without anybody being asked. What is held is rejected.
fn passes(gate: &Gate, raw: &mut Raw, frames: impl AsRef<[u8]>) -> bool {
    raw.send(frames);
    let words = loop {
        let message = raw.read().expect("a notice");
        let words = String::from_utf8_lossy(&message.body).into_owned();
        if message.tag == b'N' && words.contains("querygate:") {
            break words;
        }
    };
    let found = words.contains("released under the standing approval");
    assert!(found != words.contains("waiting for approval"), "the client hears one of them, at once: {words}");
    // A use names the other request first.
    let id = format!(
        "qg-{}",
        words.split_once(if found { "Request qg-" } else { "request qg-" }).unwrap().1.get(..10).unwrap()
    );
    if found {
        let request = gate.api().get(&format!("/v1/requests/{id}"));
        assert!(!request["progress"]["under"].is_null(), "{request}");
    } else {
        gate.api().reject(&id, "no");
    }
    let answers = raw.until(b'Z');
    let more = answers
        .iter()
        .any(|message| message.tag == b'N' && String::from_utf8_lossy(&message.body).contains("querygate: "));
    assert!(!more, "the client is told once: {answers:?}");
    found
}

/// A session whose `DELETE FROM t WHERE x = 1` was approved for ten minutes.
fn granted(gate: &Gate) -> (Raw, String) {
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query(ONE));
    let id = held(&mut raw);
    assert_eq!(approve_again(gate, &id), 200);
    raw.until(b'Z');
    result(gate, &id);
    (raw, id)
}

const ONE: &str = "DELETE FROM t WHERE x = 1";

#[test]
fn the_same_statement_runs_again_in_its_session_and_every_use_is_on_record() {
    let (database, gate) = setup(AGAIN);
    let (mut raw, id) = granted(&gate);
    for _ in 0..2 {
        database.run("INSERT INTO t VALUES (1)");
        assert!(passes(&gate, &mut raw, m::query(ONE)));
        assert_eq!(database.raw().value("SELECT count(*) FROM t WHERE x = 1"), "0");
    }
    for sql in ["SHOW search_path", "SELECT 1"] {
        raw.send(m::query(sql));
        raw.until(b'Z');
    }
    assert!(passes(&gate, &mut raw, m::query(ONE)));
    raw.query("BEGIN");
    assert!(!passes(&gate, &mut raw, m::query(ONE)), "it was approved outside of a transaction");
    raw.query("ROLLBACK");
    let again = gate.api().get(&format!("/v1/requests/{id}"))["progress"]["again"].clone();
    assert_eq!((&again["active"], &again["uses"]), (&true.into(), &3.into()));
    let file = std::fs::read_to_string(gate.config.with_file_name("querygate-audit.jsonl")).unwrap();
    let uses = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(uses.filter(|line| line["event"]["decision"]["under"] == id.as_str()).count(), 3);
    // Another session's is asked, and this one's after it was revoked.
    let mut other = Raw::login(&gate.target());
    assert!(!passes(&gate, &mut other, m::query(ONE)));
    assert_eq!(gate.api().call("POST", &format!("/v1/requests/{id}/revoke"), None).status, 200);
    assert!(!passes(&gate, &mut raw, m::query(ONE)));
}

#[test]
fn whatever_may_change_what_the_statement_means_ends_a_standing_approval() {
    let (database, gate) = setup(AGAIN);
    database.run(
        "CREATE SCHEMA evil; CREATE TABLE evil.t (x int); \
         CREATE VIEW v AS SELECT set_config('search_path', 'evil', false); \
         CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT set_config(''search_path'', ''evil'', false)'; \
         CREATE DOMAIN d AS text CHECK (f() IS NOT NULL)",
    );
    for between in [
        "SET search_path = evil",
        "BEGIN; SET LOCAL search_path = evil",
        "SELECT set_config('search_path', 'evil', false)",
        "SELECT * FROM v",
        "SELECT f()",
        "DO $$ BEGIN PERFORM f(); END $$",
        "SET ROLE NONE",
        "RESET ALL",
        "DISCARD ALL",
        "CREATE TEMP TABLE t (x int)",
        "SET client_encoding = 'LATIN1'",
        "SET datestyle = 'dmy'",
        "-- parsed only, but the domain's check runs",
    ] {
        let (mut raw, _id) = granted(&gate);
        if between.starts_with("--") {
            raw.send([m::parse("", "SELECT '{1}'::d[]", &[]), m::sync()].concat());
        } else {
            raw.send(m::query(between));
        }
        raw.until(b'Z');
        assert!(!passes(&gate, &mut raw, m::query(ONE)), "{between}");
    }
    let (mut raw, _id) = granted(&gate);
    for other in ["DELETE FROM t WHERE x = 2", "delete from t where x = 1", "DELETE FROM t WHERE x = 1; DELETE FROM t"]
    {
        assert!(!passes(&gate, &mut raw, m::query(other)), "{other}");
    }
    // The same text by another road is another statement.
    assert!(!passes(&gate, &mut raw, m::extended(ONE, &[])));
    assert!(!passes(&gate, &mut raw, m::query(ONE)), "another text was parsed meanwhile");
}

#[test]
fn a_search_path_that_a_transaction_takes_back_ends_a_standing_approval_given_in_it() {
    for end in ["COMMIT", "ROLLBACK"] {
        let (_database, gate) = setup(AGAIN);
        let mut raw = Raw::login(&gate.target());
        raw.send(m::query("CREATE SCHEMA s; CREATE TABLE s.t (x int)"));
        raw.until(b'Z');
        for sql in ["BEGIN", "SET LOCAL search_path = s"] {
            raw.send(m::query(sql));
            raw.until(b'Z');
        }
        raw.send(m::query(ONE));
        let id = held(&mut raw);
        assert_eq!(approve_again(&gate, &id), 200);
        raw.until(b'Z');
        result(&gate, &id);
        assert!(passes(&gate, &mut raw, m::query(ONE)));
        raw.send(m::query(end));
        raw.until(b'Z');
        assert!(!passes(&gate, &mut raw, m::query(ONE)), "{end}");
    }
}

#[test]
fn a_standing_approval_is_for_its_parameters_and_never_for_what_depends_on_names() {
    let (_database, gate) = setup(AGAIN);
    let mut raw = Raw::login(&gate.target());
    let delete = |value: &[u8]| m::extended("DELETE FROM t WHERE x = $1", &[Some(value)]);
    raw.send(delete(b"1"));
    let id = held_behind(&mut raw);
    assert_eq!(approve_again(&gate, &id), 200);
    raw.until(b'Z');
    result(&gate, &id);
    for (value, expected) in [(b"1", true), (b"2", false), (b"1", true)] {
        assert_eq!(passes(&gate, &mut raw, delete(value)), expected);
    }
    // What EXECUTE runs may be redefined.
    raw.send(m::query("PREPARE p AS DELETE FROM t WHERE x = 1"));
    let id = held(&mut raw);
    gate.api().approve(&id);
    raw.until(b'Z');
    raw.send(m::query("EXECUTE p"));
    let id = held(&mut raw);
    assert_eq!(approve_again(&gate, &id), 400);
    gate.api().reject(&id, "no");
    raw.until(b'Z');
}

#[test]
fn statements_approved_beforehand_pass_once_each_over_a_restart() {
    let (database, gate) = setup("");
    let file = gate.config.with_file_name("migration.sql");
    std::fs::write(&file, "BEGIN;\n-- why\nDELETE FROM t WHERE x = 1;\nCOMMIT;\nDROP TABLE t;\n").unwrap();
    let (user, name) = (gate.target().user, gate.target().database);
    let output = std::process::Command::new(proxy_tests::gate::binary())
        .args(["requests", "--api", &format!("http://{}", gate.admin), "--format", "json", "create"])
        .args(["--reason", "release 12", "--window", "2h", "--user", &user, "--database", &name, "--sql-file"])
        .arg(&file)
        .env("QUERYGATE_TOKEN", ANN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let created: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = created["id"].as_str().unwrap().to_owned();
    // Whoever asked decides as little as with a held statement.
    assert_eq!(gate.api().decide(&id, "approve", "mine").status, 403);
    let bob = gate.api().with_token(BOB);
    bob.approve(&id);
    eventually("the pre-approval", || {
        (gate.api().get(&format!("/v1/requests/{id}"))["state"] == "released").then_some(())
    });
    // Not in a session that began otherwise, nor in one in which something else ran.
    let delete = "DELETE FROM t WHERE x = 1";
    let mut other = Raw::login(&gate.target());
    assert!(!passes(&gate, &mut other, m::query(delete)));
    for between in ["SET search_path = pg_catalog, public", "SELECT count(*) FROM t"] {
        let mut raw = Raw::login_as_psql(&gate.target());
        raw.send(m::query(between));
        raw.until(b'Z');
        assert!(!passes(&gate, &mut raw, m::query(delete)), "{between}");
    }
    let mut raw = Raw::login_as_psql(&gate.target());
    raw.send(m::query("BEGIN"));
    raw.until(b'Z');
    assert!(passes(&gate, &mut raw, m::query(delete)));
    raw.send(m::query("COMMIT"));
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "2");
    assert!(!passes(&gate, &mut raw, m::query(delete)), "once");
    let gate = gate.kill_and_restart();
    let mut raw = Raw::login_as_psql(&gate.target());
    assert!(!passes(&gate, &mut raw, m::query(delete)), "once, over a restart too");
    // Whether the transaction in which the first one passed was committed, nobody knows any more.
    let mut raw = Raw::login_as_psql(&gate.target());
    assert!(!passes(&gate, &mut raw, m::query("DROP TABLE t;")));
    assert_eq!(gate.api().call("POST", &format!("/v1/requests/{id}/withdraw"), None).status, 200);
}
