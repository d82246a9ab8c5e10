//! Wire checklist, row 30: everything that ends a hold besides a decision, and races between the two.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use std::sync::Barrier;

use nix::sys::signal::Signal;
use proxy_tests::DEADLINE;
use proxy_tests::api::Api;
use proxy_tests::gate::{Builder, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Frame, Raw, eventually};
use serde_json::Value;

fn setup(builder: Builder) -> (Database, Gate) {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let gate = builder.start(database.target());
    (database, gate)
}

/// Sends a DELETE, waits until it is held, and returns the session and the request's id.
fn hold(gate: &Gate) -> (Raw, String) {
    let mut raw = Raw::login(&gate.target());
    let id = hold_on(&mut raw);
    (raw, id)
}

fn hold_on(raw: &mut Raw) -> String {
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let notice = raw.expect(b'N');
    let text = String::from_utf8_lossy(&notice.body).into_owned();
    let at = text.find("qg-").unwrap();
    text[at..].chars().take(13).collect()
}

/// The request once it has ended.
fn ended(api: &Api, id: &str) -> Value {
    eventually("the request ends", || {
        let request = api.get(&format!("/v1/requests/{id}"));
        (!["pending", "approved"].contains(&request["state"].as_str().unwrap())).then_some(request)
    })
}

fn assert_withdrawn(gate: &Gate, id: &str, cause: &str) {
    let request = ended(&gate.api(), id);
    assert_eq!((request["state"].as_str(), request["cause"].as_str()), (Some("withdrawn"), Some(cause)), "{request}");
    assert!(gate.api().pending().is_empty());
    assert_eq!(gate.api().decide(id, "approve", "too late").status, 409);
}

fn rows(database: &Database) -> String {
    database.raw().value("SELECT count(*) FROM t")
}

fn error(frames: &[Frame]) -> &Frame {
    frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("no error in {frames:?}"))
}

fn cancel(gate: &Gate, pid: u32, key: &[u8]) {
    let mut raw = Raw::connect(gate.address);
    raw.send(m::cancel_request(pid, key));
    assert_eq!(raw.until_eof(), []);
}

#[test]
fn a_cancel_request_withdraws_the_hold_with_the_right_key_only() {
    let (database, gate) = setup(Gate::builder());
    let (mut raw, id) = hold(&gate);
    let (pid, key) = raw.key.clone().unwrap();
    let mut wrong = key.clone();
    wrong[0] ^= 1;
    cancel(&gate, pid, &wrong);
    cancel(&gate, pid, &[]);
    cancel(&gate, pid.wrapping_add(1), &key);
    assert_eq!(gate.api().pending().len(), 1);
    cancel(&gate, pid, &key);
    let frames = raw.until(b'Z');
    assert_eq!(error(&frames).sqlstate(), "57014");
    assert_withdrawn(&gate, &id, "cancelled by the client");
    assert_eq!(raw.value("SELECT 'goes on'"), "goes on");
    assert_eq!(rows(&database), "3");
}

#[test]
fn a_client_that_goes_away_withdraws_the_hold() {
    let (database, gate) = setup(Gate::builder());
    let (raw, id) = hold(&gate);
    drop(raw);
    assert_withdrawn(&gate, &id, "the client went away");
    let (mut raw, id) = hold(&gate);
    raw.send(m::terminate());
    drop(raw);
    assert_withdrawn(&gate, &id, "the client went away");
    let (mut raw, id) = hold(&gate);
    raw.half_close();
    assert_withdrawn(&gate, &id, "the client went away");
    assert_eq!(rows(&database), "3");
}

#[test]
fn a_flood_behind_the_hold_withdraws_it() {
    let (database, gate) = setup(Gate::builder().limits("read_ahead_bytes = \"64KiB\""));
    let (mut raw, id) = hold(&gate);
    let mut writer = raw.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let text = "x".repeat(1000);
            for _ in 0..1000 {
                writer.send(m::query(format!("SELECT '{text}'")));
            }
        });
        assert_eq!(error(&raw.until(b'Z')).sqlstate(), "57014");
        assert_withdrawn(&gate, &id, "the client sent too much behind the held statement");
        // What was sent behind it is answered, in order.
        assert_eq!(raw.until_ready(1000).iter().filter(|frame| frame.tag == b'D').count(), 1000);
    });
    assert_eq!(rows(&database), "3");
}

#[test]
fn a_backend_that_goes_away_withdraws_the_hold() {
    let (database, gate) = setup(Gate::builder());
    let (mut raw, id) = hold(&gate);
    database.run(&format!("SELECT pg_terminate_backend({})", raw.key.as_ref().unwrap().0));
    let frames = raw.until_eof();
    assert_eq!(error(&frames).sqlstate(), "57P01");
    assert_withdrawn(&gate, &id, "the database connection was lost");
    assert_eq!(rows(&database), "3");
}

#[test]
fn the_servers_idle_in_transaction_time_out_withdraws_the_hold() {
    // Changing it is held itself, so that it is set before the gate stands between.
    let database = shared();
    let role = database.unique("impatient");
    database.run(&format!(
        "CREATE TABLE t (x int); CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET idle_in_transaction_session_timeout = '200ms'"
    ));
    let gate = Gate::start(database.target());
    let mut raw = Raw::login(&gate.target().with_user(&role));
    raw.query("BEGIN");
    let id = hold_on(&mut raw);
    let frames = raw.until_eof();
    assert_eq!(error(&frames).sqlstate(), "25P03");
    assert_withdrawn(&gate, &id, "the database connection was lost");
}

#[test]
fn the_deadline_expires_the_hold_and_never_approves() {
    let (database, gate) = setup(Gate::builder().toml("[hold]\ndeadline = \"200ms\""));
    let (mut raw, id) = hold(&gate);
    let frames = raw.until(b'Z');
    assert_eq!(error(&frames).sqlstate(), "57014");
    assert!(String::from_utf8_lossy(&error(&frames).body).contains(&id));
    assert_eq!(ended(&gate.api(), &id)["state"], "expired");
    assert_eq!(gate.api().decide(&id, "approve", "too late").status, 409);
    assert_eq!(raw.value("SELECT 'goes on'"), "goes on");
    assert_eq!(rows(&database), "3");
}

#[test]
fn sigterm_withdraws_the_hold() {
    let (database, mut gate) = setup(Gate::builder());
    let (mut raw, id) = hold(&gate);
    gate.process.signal(Signal::SIGTERM);
    let frames = raw.until_eof();
    assert!(["57014", "57P01"].contains(&error(&frames).sqlstate().as_str()), "{frames:?}");
    assert!(String::from_utf8_lossy(&error(&frames).body).contains(&id), "{frames:?}");
    assert!(gate.process.wait(DEADLINE).success());
    assert_eq!(rows(&database), "3");
}

#[test]
fn a_gate_killed_while_it_holds_runs_nothing() {
    let (database, mut gate) = setup(Gate::builder());
    let (mut raw, _id) = hold(&gate);
    gate.process.signal(Signal::SIGKILL);
    assert!(!gate.process.wait(DEADLINE).success());
    assert!(raw.until_eof().iter().all(|frame| frame.tag != b'C'), "the statement ran");
    assert_eq!(rows(&database), "3");
}

#[test]
fn an_approval_races_a_cancel_request_and_one_wins() {
    let (database, gate) = setup(Gate::builder());
    for _ in 0..20 {
        database.run("TRUNCATE t; INSERT INTO t VALUES (1)");
        let (mut raw, id) = hold(&gate);
        let (pid, key) = raw.key.clone().unwrap();
        let (gate, barrier) = (&gate, &Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                barrier.wait();
                cancel(gate, pid, &key);
            });
            barrier.wait();
            gate.api().decide(&id, "approve", "");
        });
        let frames = raw.until(b'Z');
        let state = ended(&gate.api(), &id)["state"].as_str().unwrap().to_owned();
        let left = rows(&database);
        match state.as_str() {
            // Released, and then perhaps cancelled in the server like any running statement.
            "released" => match frames.iter().find(|frame| frame.tag == b'E') {
                None => assert_eq!(left, "0"),
                Some(error) => assert_eq!((error.sqlstate().as_str(), left.as_str()), ("57014", "1")),
            },
            "withdrawn" => assert_eq!((error(&frames).sqlstate().as_str(), left.as_str()), ("57014", "1")),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_approval_races_a_disconnect_and_the_record_agrees() {
    let (database, gate) = setup(Gate::builder());
    for _ in 0..20 {
        database.run("TRUNCATE t; INSERT INTO t VALUES (1)");
        let (raw, id) = hold(&gate);
        let (gate, barrier) = (&gate, &Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                barrier.wait();
                drop(raw);
            });
            barrier.wait();
            gate.api().decide(&id, "approve", "");
        });
        match ended(&gate.api(), &id)["state"].as_str().unwrap() {
            "released" => eventually("the released statement has run", || (rows(&database) == "0").then_some(())),
            "withdrawn" => assert_eq!(rows(&database), "1"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn two_decisions_race_and_the_second_is_told_who_was_first() {
    let (database, gate) = setup(Gate::builder());
    for _ in 0..20 {
        database.run("TRUNCATE t; INSERT INTO t VALUES (1)");
        let (mut raw, id) = hold(&gate);
        let (id, barrier) = (id.as_str(), &Barrier::new(2));
        let (ann, bob) = (gate.api(), gate.api().with_token(proxy_tests::gate::BOB));
        let (one, two) = std::thread::scope(|scope| {
            let two = scope.spawn(move || {
                barrier.wait();
                bob.decide(id, "reject", "no")
            });
            barrier.wait();
            (ann.decide(id, "approve", "yes"), two.join().unwrap())
        });
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        let (loser, winner) = if one.status == 409 { (&one, "bob") } else { (&two, "ann") };
        assert!(loser.text.contains(winner), "{}", loser.text);
        let approved = one.status == 200;
        assert_eq!(raw.until(b'Z').iter().any(|frame| frame.tag == b'E'), !approved);
        assert_eq!(rows(&database), if approved { "0" } else { "1" });
    }
}
