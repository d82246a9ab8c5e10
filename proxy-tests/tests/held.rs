//! Wire checklist, rows 26–29, 31–36: what a client sees while its statement is held, and after the decision.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::gate::{BOB, EVE, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Cluster, Database, shared};
use proxy_tests::raw::{Frame, Raw, eventually};

/// A table `t` with rows 1, 2, 3 behind a gate with the shipped policy.
fn setup() -> (Database, Gate) {
    setup_with("")
}

fn setup_with(toml: &str) -> (Database, Gate) {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let gate = Gate::builder().toml(toml).start(database.target());
    (database, gate)
}

/// Reads the notice of a hold and returns the request's id.
fn held(raw: &mut Raw) -> String {
    let notice = raw.expect(b'N');
    id_in(&notice).unwrap_or_else(|| panic!("no request id in {notice:?}"))
}

fn id_in(frame: &Frame) -> Option<String> {
    let text = String::from_utf8_lossy(&frame.body).into_owned();
    let at = text.find("qg-")?;
    Some(text.get(at..at.checked_add(13)?)?.to_owned())
}

fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

fn status(frames: &[Frame]) -> char {
    char::from(frames.last().filter(|frame| frame.tag == b'Z').unwrap_or_else(|| panic!("{frames:?}")).body[0])
}

fn count(database: &Database) -> String {
    database.raw().value("SELECT count(*) FROM t")
}

fn state(gate: &Gate, id: &str) -> String {
    gate.api().get(&format!("/v1/requests/{id}"))["state"].as_str().unwrap().to_owned()
}

// Row 26

#[test]
fn an_approved_statement_runs_once_as_the_bytes_that_were_held() {
    let (database, gate) = setup();
    database.run(
        "CREATE TABLE seen (q text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_query()); RETURN NULL; END $$;
         CREATE TRIGGER see AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION see()",
    );
    let text = "/* ünusual */  DELETE\tFROM  t -- so it is\n WHERE x = 1 ";
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query(text));
    let id = held(&mut raw);
    assert_eq!(count(&database), "3");
    gate.api().approve(&id);
    let result = raw.until(b'Z');
    assert_eq!((tags(&result).as_str(), &result[0].body[..]), ("CZ", &b"DELETE 1\0"[..]));
    assert_eq!(database.raw().value("SELECT string_agg(q, '|') FROM seen"), text);

    database.run("INSERT INTO t VALUES (1)");
    for (token, decision) in [("", "approve"), (BOB, "approve"), (BOB, "reject")] {
        let api = if token.is_empty() { gate.api() } else { gate.api().with_token(token) };
        let answer = api.decide(&id, decision, "again");
        assert_eq!(answer.status, 409, "{}", answer.text);
    }
    assert_eq!(raw.value("SELECT count(*) FROM t WHERE x = 1"), "1", "nothing ran a second time");
    assert_eq!(state(&gate, &id), "released");
}

#[test]
fn an_approved_portal_runs_with_the_values_that_were_shown() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::extended("DELETE FROM t WHERE x = $1 RETURNING x", &[Some(b"2")]));
    // The notice comes after what is answered before the hold.
    assert_eq!(raw.read().unwrap().tag, b'1');
    let id = held(&mut raw);
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["parameters"][0]["value"], "2", "{request}");
    assert_eq!(request["parameters"][0]["type"], "int4", "{request}");
    gate.api().approve(&id);
    assert_eq!(tags(&raw.until(b'Z')), "2TDCZ");
    assert_eq!(count(&database), "2");
}

#[test]
fn only_an_approver_who_is_not_the_requester_decides() {
    let database = shared();
    let role = database.unique("worker");
    database.run(&format!("CREATE TABLE t (x int); CREATE ROLE {role} LOGIN; GRANT ALL ON t TO {role}"));
    let own = "token-of-the-worker-0123456789";
    let gate = Gate::builder()
        .toml(&format!(
            "[[people]]\nname = \"worker\"\ngroups = [\"approvers\"]\ntoken = \"{own}\"\ndatabase_users = [\"{role}\"]"
        ))
        .start(database.target());
    let mut raw = Raw::login(&gate.target().with_user(&role));
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    for (token, expected) in [(own, 403), (EVE, 404), ("no-such-token-0123456789", 401)] {
        let answer = gate.api().with_token(token).decide(&id, "approve", "please");
        assert!(answer.status == expected || answer.status == 403, "{token}: {}", answer.text);
    }
    assert_eq!(state(&gate, &id), "pending");
    gate.api().approve(&id);
    assert_eq!(tags(&raw.until(b'Z')), "CZ");
}

// Row 27

#[test]
fn a_rejected_statement_is_an_ordinary_error() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    gate.api().reject(&id, "not on a Friday");
    let frames = raw.until(b'Z');
    assert_eq!((tags(&frames).as_str(), status(&frames)), ("EZ", 'I'));
    let error = &frames[0];
    assert_eq!((error.field(b'S').as_deref(), error.sqlstate().as_str()), (Some("ERROR"), "42501"));
    let whole = String::from_utf8_lossy(&error.body).into_owned();
    for part in [id.as_str(), "not on a Friday", "ann"] {
        assert!(whole.contains(part), "{part} in {whole}");
    }
    assert_eq!(raw.value("SELECT 'goes on'"), "goes on");
    assert_eq!(count(&database), "3");
}

#[test]
fn a_rejection_aborts_an_explicit_transaction_and_savepoints_mend_it() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN; INSERT INTO t VALUES (4); SAVEPOINT s");
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    assert_eq!(gate.api().get(&format!("/v1/requests/{id}"))["in_transaction"], true);
    gate.api().reject(&id, "no");
    assert_eq!(status(&raw.until(b'Z')), 'E');
    let frames = raw.query("SELECT 1");
    assert_eq!(frames[0].sqlstate(), "25P02");
    assert_eq!(status(&raw.query("ROLLBACK TO s")), 'T');
    assert_eq!(status(&raw.query("COMMIT")), 'I');
    assert_eq!(count(&database), "4");
}

#[test]
fn a_rejection_in_a_batch_skips_to_sync_and_undoes_the_implicit_transaction() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    let run = |sql: &str| [m::parse("", sql, &[]), m::bind("", "", &[]), m::execute("", 0)].concat();
    raw.send(
        [
            run("INSERT INTO t VALUES (4)"),
            run("DELETE FROM t"),
            run("INSERT INTO t VALUES (5)"),
            m::sync(),
            m::extended("SELECT 1", &[]),
        ]
        .concat(),
    );
    assert_eq!(tags(&(0..4).map(|_| raw.read().unwrap()).collect::<Vec<_>>()), "12C1");
    let id = held(&mut raw);
    gate.api().reject(&id, "no");
    let frames = raw.until(b'Z');
    assert_eq!((tags(&frames).as_str(), status(&frames)), ("EZ", 'I'));
    assert_eq!(tags(&raw.until(b'Z')), "12TDCZ");
    assert_eq!(count(&database), "3");
}

// Row 28

#[test]
fn results_before_a_hold_are_delivered_and_messages_behind_it_wait_in_order() {
    let (_database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(
        [
            m::query("SELECT 'before'"),
            m::extended("SELECT 'also before'", &[]),
            m::query("DELETE FROM t WHERE x = 1"),
            m::query("SELECT 'behind'"),
            m::extended("SELECT count(*) FROM t", &[]),
        ]
        .concat(),
    );
    let before = raw.until_ready(2);
    assert_eq!(tags(&before), "TDCZ12TDCZ");
    let id = held(&mut raw);
    gate.api().approve(&id);
    let after = raw.until_ready(3);
    assert_eq!(tags(&after), "CZTDCZ12TDCZ");
    let rows: Vec<_> =
        after.iter().filter(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone().unwrap()).collect();
    assert_eq!(rows, ["behind", "2"]);
}

#[test]
fn a_rejected_message_of_several_statements_applies_none_of_them() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("INSERT INTO t VALUES (4); DELETE FROM t WHERE x = 1; INSERT INTO t VALUES (5)"));
    let id = held(&mut raw);
    assert_eq!(count(&database), "3");
    gate.api().reject(&id, "no");
    assert_eq!(tags(&raw.until(b'Z')), "EZ");
    assert_eq!(count(&database), "3");
}

// Row 29

#[test]
fn stepwise_drivers_get_every_reply_before_the_hold() {
    let (_database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("s", "DELETE FROM t WHERE x = $1", &[]), m::flush()].concat());
    raw.expect(b'1');
    raw.send([m::describe_statement("s"), m::flush()].concat());
    raw.expect(b't');
    raw.expect(b'n');
    raw.send([m::bind("", "s", &[Some(b"3")]), m::flush()].concat());
    let id = held(&mut raw);
    gate.api().approve(&id);
    raw.expect(b'2');
    raw.send([m::execute("", 0), m::flush()].concat());
    raw.expect(b'C');
    raw.send(m::sync());
    raw.expect(b'Z');
}

// Row 31

#[test]
fn notifications_reach_a_client_whose_statement_is_held() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("LISTEN ch");
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    database.run("NOTIFY ch, 'while you wait'");
    assert!(raw.expect(b'A').body.ends_with(b"ch\0while you wait\0"));
    gate.api().approve(&id);
    assert_eq!(tags(&raw.until(b'Z')), "CZ");
}

#[test]
fn a_changed_server_setting_reaches_a_client_whose_statement_is_held() {
    let cluster = Cluster::builder().start();
    let mut admin = cluster.admin();
    admin.rows("CREATE TABLE t (x int)");
    let gate = Gate::start(&cluster.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    admin.rows("ALTER SYSTEM SET timezone = 'Asia/Tokyo'");
    admin.rows("SELECT pg_reload_conf()");
    // The postmaster signals its children before it forks the next one. An idle backend reads the configuration again when
    // it gets its next message, and reports the change with that answer.
    eventually("the postmaster has reloaded", || {
        (cluster.admin().value("SHOW timezone") == "Asia/Tokyo").then_some(())
    });
    gate.api().approve(&id);
    let frames = raw.until(b'Z');
    let told = frames.iter().any(|frame| frame.tag == b'S' && frame.body == b"TimeZone\0Asia/Tokyo\0");
    assert!(told, "{frames:?}");
    assert_eq!(tags(&frames).replace('S', ""), "CZ");
}

// Row 32

#[test]
fn locks_stay_during_a_hold_and_go_with_the_client() {
    let (database, gate) = setup();
    database.run("CREATE TABLE locked (x int)");
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN; INSERT INTO locked VALUES (1)");
    raw.send(m::query("DELETE FROM t"));
    held(&mut raw);
    let mut other = database.raw();
    let try_lock = |other: &mut Raw| {
        let frames = other.query("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK");
        let refused = frames.iter().any(|frame| frame.tag == b'E');
        other.query("ROLLBACK");
        !refused
    };
    assert!(!try_lock(&mut other));
    drop(raw);
    eventually("the lock is free", || try_lock(&mut other).then_some(()));
}

#[test]
fn statement_timeout_does_not_count_the_hold() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("SET statement_timeout = '100ms'");
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    database.run("SELECT pg_sleep(0.3)");
    gate.api().approve(&id);
    assert_eq!(tags(&raw.until(b'Z')), "CZ");
}

// Row 33

#[test]
fn thirty_held_sessions_slow_nobody() {
    let (_database, gate) = setup_with("[hold]\nper_user = 100");
    let mut waiting: Vec<(Raw, String)> = (0..30)
        .map(|_| {
            let mut raw = Raw::login(&gate.target());
            raw.send(m::query("DELETE FROM t WHERE x = 1"));
            let id = held(&mut raw);
            (raw, id)
        })
        .collect();
    let mut free = Raw::login(&gate.target());
    for n in 0..500 {
        assert_eq!(free.value(&format!("SELECT {n}")), n.to_string());
    }
    for (raw, id) in &mut waiting {
        gate.api().approve(id);
        assert_eq!(tags(&raw.until(b'Z')), "CZ");
    }
}

#[test]
fn holds_over_the_limit_are_told_so() {
    let (_database, gate) = setup_with("[hold]\nper_user = 1");
    let mut first = Raw::login(&gate.target());
    first.send(m::query("DELETE FROM t"));
    held(&mut first);
    let mut second = Raw::login(&gate.target());
    let frames = second.query("DELETE FROM t");
    assert_eq!((tags(&frames).as_str(), status(&frames)), ("EZ", 'I'));
    assert!(
        String::from_utf8_lossy(&frames[0].body).contains("limit") || frames[0].text().contains("many"),
        "{frames:?}"
    );
}

// Row 34

#[test]
fn a_waiting_client_is_reminded() {
    let (_database, gate) = setup_with("[hold]\nreminder_interval = \"50ms\"");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    for _ in 0..3 {
        assert_eq!(held(&mut raw), id);
    }
    gate.api().approve(&id);
    let rest = raw.until(b'Z');
    assert_eq!(tags(&rest).trim_start_matches('N'), "CZ");
}

#[test]
fn both_legs_have_tcp_keepalive() {
    let (_database, gate) = setup();
    let raw = Raw::login(&gate.target());
    let gate_pid = format!("pid={},", gate.process.pid());
    let said = std::process::Command::new("ss").args(["-tnpo", "state", "established"]).output();
    let Ok(said) = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()) else {
        panic!("`ss` (iproute2) shows the timers of sockets");
    };
    let legs: Vec<&str> = said.lines().filter(|line| line.contains(&gate_pid)).collect();
    assert_eq!(legs.len(), 2, "{said}");
    assert!(legs.iter().all(|line| line.contains("timer:(keepalive")), "{legs:?}");
    drop(raw);
}

// Row 35

#[test]
fn every_bind_of_a_named_statement_asks_again() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("s", "DELETE FROM t WHERE x = $1", &[]), m::sync()].concat());
    raw.until(b'Z');
    let mut ids = Vec::new();
    for value in [b"1", b"2"] {
        raw.send([m::bind("", "s", &[Some(value)]), m::execute("", 0), m::sync()].concat());
        let id = held(&mut raw);
        gate.api().approve(&id);
        assert_eq!(tags(&raw.until(b'Z')), "2CZ");
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(count(&database), "1");
}

#[test]
fn approvers_are_told_of_the_risks_of_this_text_not_of_one_like_it() {
    // The first text passes and is remembered by its shape; the second is held in a transaction, where a rule wants it.
    let rules = "[[rule]]\nname = \"inside\"\naction = \"hold\"\neffects = [\"update\"]\nin_transaction = true\n\
                 [[rule]]\nname = \"rest\"\naction = \"allow\"\n";
    let (_database, gate) = setup_with(rules);
    let mut raw = Raw::login(&gate.target());
    for (name, sql) in
        [("a", "UPDATE t SET x = 0 WHERE x = 9 OR 1 = 2"), ("b", "UPDATE t SET x = 0 WHERE x = 9 OR 1 = 1")]
    {
        raw.send(m::parse(name, sql, &[]));
        raw.send(m::sync());
        raw.until(b'Z');
    }
    raw.send(m::query("BEGIN"));
    raw.until(b'Z');
    raw.send(m::bind("", "b", &[]));
    raw.send(m::execute("", 0));
    raw.send(m::sync());
    let notice = raw.expect(b'N');
    let told = String::from_utf8_lossy(&notice.body).into_owned();
    assert!(told.contains("Approvers are told: the WHERE of its UPDATE is true for every row: `1 = 1`."), "{told}");
    let id = id_in(&notice).unwrap();
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["risks"][0]["kind"], "always-true", "{request}");
    gate.api().reject(&id, "no");
    raw.until(b'Z');
}

#[test]
fn a_portal_fetched_in_steps_asks_once() {
    let (_database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    raw.send(
        [m::parse("", "DELETE FROM t RETURNING x", &[]), m::bind("p", "", &[]), m::execute("p", 1), m::flush()]
            .concat(),
    );
    raw.expect(b'1');
    let id = held(&mut raw);
    gate.api().approve(&id);
    assert_eq!(tags(&raw.until(b's')), "2Ds");
    for _ in 0..2 {
        raw.send([m::execute("p", 1), m::flush()].concat());
        assert_eq!(tags(&raw.until(b's')), "Ds");
    }
    raw.send([m::execute("p", 0), m::sync()].concat());
    assert_eq!(tags(&raw.until(b'Z')), "CZ");
}

// Row 36

#[test]
fn dangerous_statements_are_held_wherever_they_hide() {
    let (database, gate) = setup();
    database.run("CREATE TABLE gone (x int); CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    let mut raw = Raw::login(&gate.target());
    raw.rows("PREPARE harmless AS SELECT 1");
    assert_eq!(raw.value("EXECUTE harmless"), "1");
    for sql in [
        "DROP TABLE gone",
        "TRUNCATE t",
        "UPDATE t SET x = 0",
        "ALTER TABLE t ADD y int",
        "GRANT ALL ON t TO PUBLIC",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "WITH d AS (DELETE FROM t RETURNING x) SELECT * FROM d",
        "EXPLAIN ANALYZE DELETE FROM t",
        "COPY (DELETE FROM t RETURNING x) TO STDOUT",
        "COPY t FROM PROGRAM 'echo 4'",
        "COPY t TO '/tmp/never'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING x'",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "SELECT pg_terminate_backend(1)",
        "SELECT query_to_xml('DELETE FROM t RETURNING x', true, true, '')",
        "SELECT 1; DELETE FROM t",
        "VACUUM FULL t",
    ] {
        raw.send(m::query(sql));
        let id = held(&mut raw);
        gate.api().reject(&id, "no");
        let frames = raw.until(b'Z');
        assert_eq!(tags(&frames), "EZ", "{sql}");
        assert_eq!(frames[0].sqlstate(), "42501", "{sql}");
    }
    assert_eq!(count(&database), "3");
    // PREPARE is held, or its EXECUTE is.
    raw.send(m::query("PREPARE d AS DELETE FROM t"));
    let first = raw.read().unwrap();
    if first.tag == b'N' {
        gate.api().approve(&id_in(&first).unwrap());
        raw.until(b'Z');
    } else {
        raw.until(b'Z');
    }
    raw.send(m::query("EXECUTE d"));
    let id = held(&mut raw);
    gate.api().reject(&id, "no");
    raw.until(b'Z');
    assert_eq!(count(&database), "3");
}

#[test]
fn an_approved_copy_of_a_delete_streams_its_rows() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("COPY (DELETE FROM t RETURNING x) TO STDOUT"));
    let id = held(&mut raw);
    gate.api().approve(&id);
    assert_eq!(tags(&raw.until(b'Z')), "HdddcCZ");
    assert_eq!(count(&database), "0");
}

#[test]
fn the_requesters_reason_is_shown() {
    let (_database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("SET querygate.reason = 'ticket 4711'");
    raw.send(m::query("DELETE FROM t"));
    let id = held(&mut raw);
    assert_eq!(gate.api().get(&format!("/v1/requests/{id}"))["reason"], "ticket 4711");
    gate.api().reject(&id, "no");
    raw.until(b'Z');
    raw.send(m::query("/* reason: the comment says */ DELETE FROM t"));
    let id = held(&mut raw);
    assert_eq!(gate.api().get(&format!("/v1/requests/{id}"))["reason"], "the comment says");
}
