//! Wire checklist, rows 20, 21, 24 and 25: how sessions end, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Cluster, Database, shared};
use proxy_tests::psql::Psql;
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::{DEADLINE, transcript};

fn same(script: impl Fn(&Database, &mut Raw)) {
    let database = shared();
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), |raw| script(&database, raw));
}

/// Backends of this database, besides the asking one.
fn others(watch: &mut Raw) -> String {
    watch.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
}

fn wait_gone(database: &Database) {
    let mut watch = database.raw();
    eventually("the backend ends", || (others(&mut watch) == "0").then_some(()));
}

// Row 20

#[test]
fn a_terminated_backends_last_words_reach_the_client_idle_and_in_a_transaction() {
    for before in ["SELECT 1", "BEGIN"] {
        same(|database, raw| {
            raw.query(before);
            database.run(&format!("SELECT pg_terminate_backend({})", raw.key.as_ref().unwrap().0));
            raw.until_eof();
        });
    }
}

#[test]
fn a_backend_terminated_mid_result_ends_the_session() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query(
        "SELECT repeat('x', 9000), CASE WHEN g = 5 THEN pg_sleep(600)::text END FROM generate_series(1, 9) g",
    ));
    raw.expect(b'T');
    raw.expect(b'D');
    database.run(&format!("SELECT pg_terminate_backend({})", raw.key.as_ref().unwrap().0));
    let rest = raw.until_eof();
    assert_eq!(rest.last().unwrap().sqlstate(), "57P01", "{rest:?}");
}

#[test]
fn a_killed_backend_ends_its_session_and_warns_the_others() {
    let cluster = Cluster::builder().start();
    let gate = Gate::transparent(&cluster.target());
    let (mut killed, mut other) = (Raw::login(&gate.target()), Raw::login(&gate.target()));
    // A backend that is still sending when it is told to quit keeps its last words to itself (`socket_putmessage`).
    let waits = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {}", other.key.as_ref().unwrap().0);
    eventually("the other backend waits for its client", || (killed.value(&waits) == "ClientRead").then_some(()));
    let pid = i32::try_from(killed.key.as_ref().unwrap().0).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // The killed one says nothing itself; the gate may, but only of class 08 or 57.
    for frame in killed.until_eof() {
        assert!(frame.tag == b'E' && ["08", "57"].iter().any(|class| frame.sqlstate().starts_with(class)), "{frame:?}");
    }
    let words = other.until_eof();
    assert!(words.iter().any(|frame| frame.sqlstate() == "57P02"), "{words:?}");
    eventually("the server is back and the gate reaches it", || {
        let mut raw = Raw::connect(gate.address);
        raw.send(m::startup(&[("user", "postgres"), ("database", "postgres")]));
        raw.until(b'Z').iter().any(|frame| frame.tag == b'Z').then_some(())
    });
}

// Row 21

#[test]
fn half_closed_clients_get_what_they_asked_for() {
    same(|_, raw| {
        raw.half_close();
        raw.until_eof();
    });
    same(|_, raw| {
        raw.send(m::query("SELECT pg_sleep(0.05), 'finished'"));
        raw.half_close();
        raw.until_eof();
    });
    same(|_, raw| {
        raw.send([m::extended("SELECT 1", &[]), m::query("SELECT 2"), m::parse("", "SELECT 3", &[])].concat());
        raw.half_close();
        raw.until_eof();
    });
    same(|_, raw| {
        raw.query("BEGIN");
        raw.send(&m::query("SELECT 'cut off'")[..9]);
        raw.half_close();
        raw.until_eof();
    });
}

#[test]
fn terminate_ends_the_session_after_the_work_before_it() {
    same(|_, raw| {
        raw.send([m::query("SELECT 1"), m::terminate(), m::query("SELECT 'never'")].concat());
        raw.until_eof();
    });
}

#[test]
fn pipelined_work_of_a_vanished_client_is_done_or_not_as_directly() {
    let database = shared();
    database.run("CREATE TABLE direct (x int); CREATE TABLE gated (x int)");
    let gate = Gate::transparent(database.target());
    for (target, table) in [(database.target(), "direct"), (&gate.target(), "gated")] {
        let mut raw = Raw::login(target);
        let batch: Vec<u8> = (0..20).flat_map(|n| m::query(format!("INSERT INTO {table} VALUES ({n})"))).collect();
        raw.send(batch);
        // The first answer says that the batch has arrived; the rest is left unread.
        raw.expect(b'C');
        raw.half_close();
        wait_gone(&database);
    }
    let mut watch = database.raw();
    assert_eq!(watch.value("SELECT count(*) FROM direct"), "20");
    assert_eq!(watch.value("SELECT count(*) FROM gated"), "20");
}

#[test]
fn backends_of_vanished_clients_end_in_every_phase() {
    let database = shared();
    database.run("CREATE TABLE t (x int)");
    let gate = Gate::transparent(database.target());
    let phases: [&dyn Fn(&mut Raw); 6] = [
        &|_| (),
        &|raw| drop(raw.query("BEGIN; INSERT INTO t VALUES (1)")),
        &|raw| raw.send(&m::query("SELECT 1")[..7]),
        &|raw| {
            raw.send(m::query("COPY t FROM STDIN"));
            raw.until(b'G');
        },
        &|raw| {
            raw.send([m::parse("", "SELECT 1", &[]), m::flush()].concat());
            raw.expect(b'1');
        },
        &|raw| {
            raw.send(m::query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"));
            raw.expect(b'T');
        },
    ];
    for phase in phases {
        let mut raw = Raw::login(&gate.target());
        phase(&mut raw);
        drop(raw);
        wait_gone(&database);
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
}

#[test]
fn clients_that_vanish_during_login_leave_nothing_behind() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let startup = m::startup(&[("user", "postgres"), ("database", &database.target().database)]);
    for sent in [&[][..], &startup[..5], &startup] {
        let mut raw = Raw::connect(gate.address);
        raw.send(sent);
        drop(raw);
    }
    assert_eq!(Raw::login(&gate.target()).value("SELECT 1"), "1");
    wait_gone(&database);
}

// Row 24

#[test]
fn replication_is_refused_by_default_and_relayed_when_allowed() {
    let cluster = Cluster::builder().setting("wal_level", "logical").start();
    let gate = Gate::start(&cluster.target());
    for value in ["true", "database", "on", "1", "yes"] {
        let mut raw = Raw::connect(gate.address);
        raw.send(m::startup(&[("user", "postgres"), ("database", "postgres"), ("replication", value)]));
        let frames = raw.until_eof();
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("{value}: {frames:?}"));
        assert!(["0A000", "42501"].contains(&error.sqlstate().as_str()), "{error:?}");
        assert!(!frames.iter().any(|frame| frame.tag == b'Z'));
    }
    let gate = Gate::transparent(&cluster.target());
    let said = Psql::conninfo(gate.target().conninfo("replication=database")).command("IDENTIFY_SYSTEM");
    assert!(said.ok().contains("postgres"));
}

#[test]
fn function_calls_are_refused_by_default_and_relayed_when_allowed() {
    let database = shared();
    // int4abs(int4), OID 1397.
    let call = m::function_call(1397, &[b"-42"]);
    let gate = Gate::start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(&call);
    let frames = raw.until(b'Z');
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert!(["0A000", "42501"].contains(&error.sqlstate().as_str()), "{error:?}");
    assert!(frames.iter().all(|frame| frame.tag != b'V'));
    assert_eq!(raw.value("SELECT 'still here'"), "still here");
    same(|_, raw| {
        raw.send(&call);
        raw.until(b'Z');
        raw.query("BEGIN; SELECT 1");
        raw.send(m::function_call(1397, &[b"not a number"]));
        raw.until(b'Z');
        raw.send(m::function_call(99_999_999, &[]));
        raw.until(b'Z');
    });
}

// Row 25

#[test]
fn sigterm_ends_idle_sessions_and_lets_running_ones_finish() {
    let database = shared();
    let mut gate = Gate::builder().allow_all().limits("drain_deadline = \"20s\"").start(database.target());
    let mut idle = Raw::login(&gate.target());
    let mut running = Raw::login(&gate.target());
    let mut holder = database.raw();
    holder.rows("SELECT pg_advisory_lock(9)");
    running.send(m::query("SELECT pg_advisory_lock(9)::text, 'finished'"));
    let pid = running.key.as_ref().unwrap().0;
    eventually("the statement waits", || {
        let waits = holder.value(&format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"));
        (waits == "advisory").then_some(())
    });
    gate.process.signal(Signal::SIGTERM);
    let words = idle.until_eof();
    assert_eq!(words.last().unwrap().sqlstate(), "57P01", "{words:?}");
    eventually("no new session is accepted", || {
        let Ok(mut stream) = std::net::TcpStream::connect(gate.address) else { return Some(()) };
        let _ = std::io::Write::write_all(&mut stream, &m::startup(&[("user", "postgres")]));
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        (!answer.starts_with(b"R")).then_some(())
    });
    holder.rows("SELECT pg_advisory_unlock(9)");
    let result = running.until_eof();
    assert!(
        result.iter().any(|frame| frame.tag == b'D' && frame.columns()[1].as_deref() == Some("finished")),
        "{result:?}"
    );
    assert!(gate.process.wait(DEADLINE).success());
}

#[test]
fn sigterm_ends_what_still_runs_at_the_drain_deadline() {
    let database = shared();
    let mut gate = Gate::builder().allow_all().limits("drain_deadline = \"300ms\"").start(database.target());
    let mut running = Raw::login(&gate.target());
    running.send(m::query("SELECT pg_sleep(600)"));
    let mut open = Raw::login(&gate.target());
    open.query("BEGIN");
    gate.process.signal(Signal::SIGTERM);
    for mut client in [running, open] {
        let words = client.until_eof();
        assert_eq!(words.last().map(proxy_tests::raw::Frame::sqlstate).as_deref(), Some("57P01"), "{words:?}");
    }
    gate.process.wait(DEADLINE);
}
