//! Ways around the gate that worked once: pipelines that made it take one statement, portal or batch for another, and
//! ends that it did not see. Each either ran an unapproved `DELETE` or was answered otherwise than by the server alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, Target, shared};
use proxy_tests::process::resident_kib;
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::transcript;

const DELETE: &str = "DELETE FROM t";

/// A table `t` with rows 1, 2, 3 and a table `u` to be waited for, behind a gate with the shipped policy.
fn setup() -> (Database, Gate) {
    setup_with("")
}

fn setup_with(toml: &str) -> (Database, Gate) {
    let database = shared();
    database.run("CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2), (3); CREATE TABLE u (i int)");
    let gate = Gate::builder().toml(toml).start(database.target());
    (database, gate)
}

fn rows(database: &Database) -> String {
    database.raw().value("SELECT count(*) FROM t")
}

/// The `DELETE` is held: the client is told, the API lists it, no row is gone. Rejected, it still has not run.
#[track_caller]
fn assert_held(raw: &mut Raw, database: &Database, gate: &Gate) {
    assert_held_as(DELETE, raw, database, gate);
}

/// The same, for a request that shows `part` in place of the statement.
#[track_caller]
fn assert_held_as(part: &str, raw: &mut Raw, database: &Database, gate: &Gate) {
    let notice = raw.until(b'N').pop().unwrap();
    let id = gate.api().wait_held(part);
    assert!(String::from_utf8_lossy(&notice.body).contains(&id), "{notice:?}");
    assert_eq!(rows(database), "3", "nothing ran while it is held");
    gate.api().reject(&id, "no");
    let rejection = raw.until(b'E').pop().unwrap();
    assert_eq!(rejection.sqlstate(), "42501", "{rejection:?}");
    raw.until(b'Z');
    assert_eq!(rows(database), "3", "a rejected statement does not run");
}

/// The portal is refused, since it would run something else than what it was bound to, and no row is gone.
#[track_caller]
fn assert_refused(raw: &mut Raw, database: &Database) {
    assert_refused_for("redefined", raw, database);
}

#[track_caller]
fn assert_refused_for(why: &str, raw: &mut Raw, database: &Database) {
    let frames = raw.until(b'Z');
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(error.sqlstate(), "42501", "{error:?}");
    assert!(error.text().contains(why), "{error:?}");
    assert_eq!(rows(database), "3", "nothing ran");
}

/// Keeps `u` locked, so that whoever reads it waits, until [`Lock::release`].
struct Lock(Raw);

impl Lock {
    fn take(database: &Database) -> Lock {
        let mut raw = database.raw();
        raw.rows("BEGIN; LOCK TABLE u");
        Lock(raw)
    }

    /// Waits until somebody waits for the lock.
    fn is_waited_for(&mut self) {
        eventually("somebody waits for the lock", || {
            let waiting = self.0.value("SELECT count(*) FROM pg_locks WHERE relation = 'u'::regclass AND NOT granted");
            (waiting != "0").then_some(())
        });
    }

    fn release(mut self) {
        self.0.rows("COMMIT");
    }
}

fn named(tag: u8, name: &[u8], rest: &[u8]) -> Vec<u8> {
    m::frame(tag, &[name, b"\0", rest].concat())
}

fn latin1_parse(name: &[u8], sql: &str) -> Vec<u8> {
    named(b'P', name, &[sql.as_bytes(), &[0, 0, 0]].concat())
}

/// A Sync with a body: an error, but one that ends the skipping before it.
fn bad_sync() -> Vec<u8> {
    m::frame(b'S', b"x")
}

// COPY

#[test]
fn a_copy_that_fails_with_a_sync_ahead_does_not_hide_a_redefinition() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("", "SELECT 1", &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.send([m::parse("c", "COPY t FROM STDIN", &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.send(
        [
            m::bind("", "c", &[]),
            m::execute("", 0),
            m::copy_data(b"bad\n"),
            m::sync(),
            m::copy_done(),
            m::parse("", DELETE, &[]),
            m::sync(),
        ]
        .concat(),
    );
    raw.until_ready(2);
    raw.send([m::bind("", "", &[]), m::execute("", 0), m::sync()].concat());
    assert_held(&mut raw, &database, &gate);
}

#[test]
fn a_ready_of_a_failed_copy_is_not_taken_for_the_success_of_a_prepare() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("s", DELETE, &[]), m::sync()].concat());
    raw.until(b'Z');
    let lock = Lock::take(&database);
    raw.send(
        [
            m::query("COPY t FROM STDIN"),
            m::copy_data(b"bad\n"),
            m::sync(),
            m::copy_done(),
            m::query("SELECT i FROM u; PREPARE s AS SELECT 1"),
        ]
        .concat(),
    );
    // Of the COPY and of the Sync behind it: the PREPARE has not run.
    raw.until_ready(2);
    raw.send([m::bind("", "s", &[]), m::execute("", 0), m::sync()].concat());
    lock.release();
    raw.until(b'Z');
    // Whether the PREPARE went through before its text failed only the server knows.
    assert_refused_for("may stand for several", &mut raw, &database);
}

#[test]
fn what_follows_a_sync_behind_bad_copy_data_is_answered_as_the_server_answers() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), |raw| {
        let copy = m::parse("", "COPY t FROM STDIN", &[]);
        raw.send([copy, m::bind("", "", &[]), m::execute("", 0), m::flush()].concat());
        raw.until(b'G');
        raw.send([m::copy_data(b"bad\n"), m::sync()].concat());
        raw.send([m::parse("", "SELECT 1", &[]), m::bind("", "", &[]), m::execute("", 0), m::sync()].concat());
        raw.until_ready(2);
        raw.query("SELECT 'after'");
    });
}

/// A batch whose Bind must wait for answers that the COPY before it keeps from coming.
fn copy_under_a_batch() -> Vec<u8> {
    [
        m::parse("", "SELECT 1", &[]),
        m::query("COPY t FROM STDIN"),
        m::sync(),
        m::bind("", "", &[]),
        m::execute("", 0),
        m::sync(),
    ]
    .concat()
}

#[test]
fn a_copy_that_starts_while_a_message_waits_for_answers_does_not_hang() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    // The server ends the session on a Bind inside COPY. Its message names the type, which is that of the gate's own
    // question whether the COPY still goes on.
    transcript::same_but_wording(database.target(), &gate.target(), |raw, target| {
        raw.start(&[("user", &target.user), ("database", &target.database)]);
        raw.send(copy_under_a_batch());
        raw.until_eof();
    });
}

#[test]
fn a_client_that_leaves_a_full_read_ahead_behind_leaks_no_backend() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::builder().allow_all().limits("read_ahead_bytes = \"64KiB\"").start(database.target());
    let mut direct = database.raw();
    let clients: Vec<Raw> = (0..3).map(|_| Raw::login(&gate.target())).collect();
    let mut sessions = || {
        let others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        direct.value(&format!("SELECT count(*) FROM pg_stat_activity WHERE {others}"))
    };
    eventually("the clients' backends alone", || (sessions() == "3").then_some(()));
    for mut client in clients {
        // Over the read-ahead, and little enough for the sockets' buffers.
        client.send([copy_under_a_batch(), m::copy_data(&[b'x'; 1000]).repeat(250)].concat());
    }
    eventually("no backend is left", || (sessions() == "0").then_some(()));
}

/// A COPY that has failed behind a Sync, which it swallowed, while `missing` bytes of a CopyData frame are still to come. The server's answer
/// has been read up to ReadyForQuery.
fn copy_failed_within_a_frame(raw: &mut Raw, missing: usize) {
    raw.send(m::query("COPY t FROM STDIN"));
    raw.until(b'G');
    let data = m::copy_data(&vec![b'x'; missing.saturating_add(5)]);
    raw.send([m::sync(), m::copy_data(b"bad\n"), data[..data.len().saturating_sub(missing)].to_vec()].concat());
    raw.until(b'Z');
}

#[test]
fn nothing_of_the_gates_own_gets_into_a_half_sent_frame() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    copy_failed_within_a_frame(&mut raw, 5);
    // If the server takes five bytes of something else as the end of the frame, these are the beginning of another, whose
    // end is the head of the next. What that carries would then be read as a message.
    let hidden = m::copy_data(&m::query(DELETE));
    raw.send([&b"d\0\0\0\x09"[..], &hidden].concat());
    raw.query("SELECT 1");
    assert_eq!(rows(&database), "3", "data is not run");
}

#[test]
fn a_copy_that_fails_while_a_frame_is_half_sent_goes_on_with_the_rest_of_it() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    for missing in [1, 5, 1000] {
        transcript::same(database.target(), &gate.target(), |raw| {
            copy_failed_within_a_frame(raw, missing);
            raw.send([vec![b'x'; missing], m::copy_done(), m::sync()].concat());
            raw.until(b'Z');
            raw.query("SELECT 'after'");
        });
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_frame_leaks_no_backend() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    copy_failed_within_a_frame(&mut raw, 1000);
    drop(raw);
    let mut direct = database.raw();
    let others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    eventually("no backend is left", || {
        (direct.value(&format!("SELECT count(*) FROM pg_stat_activity WHERE {others}")) == "0").then_some(())
    });
}

/// Messages whose bodies are wrong, though the server does not look at them while it reads COPY data.
fn wrong_within_copy() -> [Vec<u8>; 4] {
    [m::frame(b'H', b"x"), m::frame(b'H', &[0; 5000]), m::frame(b'c', b"x"), m::frame(b'f', b"why\0x")]
}

#[test]
fn what_copy_swallows_with_a_wrong_body_is_not_waited_for() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("x", "DELETE FROM t RETURNING i", &[]), m::sync()].concat());
    raw.until(b'Z');
    for wrong in wrong_within_copy() {
        raw.send(m::query("COPY u FROM STDIN"));
        raw.until(b'G');
        raw.send([wrong, m::copy_data(b"bad\n"), m::copy_done()].concat());
        raw.until(b'Z');
    }
    let lock = Lock::take(&database);
    let failing = [m::query("SELECT 1/0"), m::sync(), m::query("PREPARE x AS SELECT 1")].concat();
    raw.send([failing, m::query("SELECT i FROM u")].concat());
    // `x` stands: the PREPARE failed. A gate that counted one answer too many takes another for that of the PREPARE.
    raw.until_ready(3);
    raw.send(m::query("EXECUTE x"));
    lock.release();
    assert_held_as("EXECUTE x", &mut raw, &database, &gate);
}

#[test]
fn wrong_bodies_within_copy_are_answered_as_the_server_answers() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    for wrong in wrong_within_copy().into_iter().chain([bad_sync()]) {
        transcript::same(database.target(), &gate.target(), |raw| {
            raw.send(m::query("COPY t FROM STDIN"));
            raw.until(b'G');
            raw.send([wrong.clone(), m::copy_data(b"bad\n"), m::copy_done()].concat());
            raw.until(b'Z');
            raw.query("SELECT 'after'");
        });
    }
}

#[test]
fn syncs_of_both_kinds_behind_bad_copy_data_are_answered_in_their_order() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), |raw| {
        raw.send(m::query("COPY t FROM STDIN"));
        raw.until(b'G');
        raw.send([m::copy_data(b"bad\n"), m::sync(), bad_sync(), m::sync()].concat());
        raw.until_ready(4);
        raw.query("SELECT 'after'");
    });
}

// Syncs that are wrong

#[test]
fn a_malformed_sync_ends_the_skipping_for_the_gate_too() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send([m::parse("", DELETE, &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.send(
        [
            m::parse("x", "SELECT nosuchcolumn", &[]),
            m::parse("", "SELECT 1", &[]),
            bad_sync(),
            m::bind("", "", &[]),
            m::execute("", 0),
            m::sync(),
        ]
        .concat(),
    );
    assert_held(&mut raw, &database, &gate);
}

#[test]
fn a_query_behind_a_malformed_sync_is_answered_as_the_server_answers() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), |raw| {
        raw.send([m::parse("", "SELECT nosuch", &[]), m::flush()].concat());
        raw.until(b'E');
        raw.send([bad_sync(), m::query("SELECT 1")].concat());
        raw.until_ready(2);
        raw.query("SELECT 'after'");
    });
}

// Texts

#[test]
fn the_analysis_of_a_skipped_text_is_not_taken_for_that_of_the_next() {
    let (database, gate) = setup();
    // Longer than what is analysed on the session's own thread.
    let long = format!("SELECT 1 /* {} */", "x".repeat(200_000));
    for skipped in [m::parse("l", &long, &[]), m::query(&long)] {
        let mut raw = Raw::login(&gate.target());
        let failing = [m::parse("", "SELECT 1/0", &[]), m::bind("", "", &[]), m::execute("", 0)].concat();
        raw.send([failing, skipped, m::sync(), m::query(DELETE)].concat());
        assert_held(&mut raw, &database, &gate);
    }
}

// Names

#[test]
fn names_that_agree_in_the_63_bytes_the_server_compares_are_one_name() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    let name = |last: char| format!("{}{last}", "a".repeat(63));
    raw.send([m::parse(&name('X'), "SELECT 1", &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.send([m::close_statement(&name('Y')), m::sync()].concat());
    raw.until(b'Z');
    raw.send([m::parse(&name('Z'), DELETE, &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.send([m::bind("", &name('X'), &[]), m::execute("", 0), m::sync()].concat());
    assert_held(&mut raw, &database, &gate);
}

#[test]
fn a_name_spelled_in_two_encodings_does_not_hide_a_redefinition() {
    let (database, gate) = setup();
    let mut raw = Raw::connect(gate.address);
    let target = gate.target();
    raw.start(&[("user", &target.user), ("database", &target.database), ("client_encoding", "LATIN1")]);
    // "é" in LATIN1 and in UTF-8; the server keeps names in its own encoding.
    let (latin1, utf8) = (&b"\xe9"[..], &b"\xc3\xa9"[..]);
    raw.send([latin1_parse(latin1, "SELECT 1"), m::sync()].concat());
    raw.until(b'Z');
    raw.query("BEGIN");
    raw.query("SET NAMES 'UTF8'");
    let close = m::frame(b'C', &[b"S", utf8, b"\0"].concat());
    raw.send([close, latin1_parse(utf8, DELETE), m::sync()].concat());
    raw.until(b'Z');
    raw.query("ROLLBACK");
    let bind = named(b'B', b"", &[latin1, b"\0", &[0; 6]].concat());
    raw.send([bind, m::execute("", 0), m::sync()].concat());
    // The gate does not follow such names: what one stands for is unknown to it.
    assert_held_as("unreadable", &mut raw, &database, &gate);
}

// Portals

#[test]
fn the_end_of_a_batch_does_not_forget_a_portal_bound_behind_its_sync() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(
        [
            m::parse("s", "SELECT 1", &[]),
            m::parse("e", "EXECUTE s", &[]),
            m::parse("z", "SELECT i FROM u", &[]),
            m::sync(),
        ]
        .concat(),
    );
    raw.until(b'Z');
    let mut lock = Lock::take(&database);
    raw.send([m::bind("", "z", &[]), m::execute("", 0), m::sync(), m::bind("pp", "e", &[]), m::flush()].concat());
    lock.is_waited_for();
    lock.release();
    raw.until(b'Z');
    raw.until(b'2');
    raw.send([m::close_statement("s"), m::parse("s", DELETE, &[]), m::execute("pp", 0), m::sync()].concat());
    assert_refused(&mut raw, &database);
}

#[test]
fn an_earlier_bind_of_a_portal_does_not_answer_for_a_later_one() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(
        [m::parse("s", "SELECT 1", &[]), m::parse("e", "EXECUTE s", &[]), m::parse("h", "SELECT 2", &[]), m::sync()]
            .concat(),
    );
    raw.until(b'Z');
    raw.send(
        [m::bind("q", "e", &[]), m::bind("pp", "h", &[]), m::close_portal("pp"), m::bind("pp", "e", &[]), m::flush()]
            .concat(),
    );
    for _ in 0..3 {
        raw.until(b'2');
    }
    raw.send([m::close_statement("s"), m::parse("s", DELETE, &[]), m::execute("pp", 0), m::sync()].concat());
    assert_refused(&mut raw, &database);
}

/// In a transaction: a portal `p` bound to `EXECUTE y`, where `y` is `EXECUTE x` and `x` returns 1.
fn portal_that_executes(gate: &Gate) -> Raw {
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    let nested =
        [m::parse("x", "SELECT 1 AS a", &[]), m::parse("y", "EXECUTE x", &[]), m::parse("e", "EXECUTE y", &[])];
    raw.send([nested.concat(), m::sync()].concat());
    raw.until(b'Z');
    raw.send([m::bind("p", "e", &[]), m::sync()].concat());
    raw.until(b'Z');
    raw.query("SAVEPOINT s");
    raw
}

const DELETE_RETURNING: &str = "DELETE FROM t RETURNING i AS a";

#[test]
fn whatever_runs_a_portal_runs_what_it_was_bound_to() {
    // Functions may be called: one that opens a portal by its name cannot always be told from others.
    let (database, gate) = setup_with(
        "[[rule]]\nname = \"harmless\"\naction = \"allow\"\n\
         effects = [\"read\", \"session\", \"transaction\", \"execute\", \"code\"]\n",
    );
    let fetch_in_extended = |sql: &str| m::extended(sql, &[]);
    for run in [
        [m::execute("p", 0), m::sync()].concat(),
        m::query("FETCH ALL FROM p"),
        m::query("MOVE ALL IN p"),
        m::query("SELECT cursor_to_xml('p', 10, true, true, '')"),
        fetch_in_extended("FETCH 1 FROM p"),
    ] {
        for change in [
            [m::close_statement("x"), m::parse("x", DELETE_RETURNING, &[]), m::sync()].concat(),
            [m::close_statement("y"), m::parse("y", DELETE_RETURNING, &[]), m::sync()].concat(),
            m::query("DEALLOCATE x"),
            m::query("DEALLOCATE ALL"),
            fetch_in_extended("DEALLOCATE x"),
        ] {
            let mut raw = portal_that_executes(&gate);
            raw.send(&change);
            assert_refused(&mut raw, &database);
            raw.query("ROLLBACK TO s");
            raw.send(&run);
            let answer = raw.until(b'Z');
            assert!(answer.iter().all(|frame| frame.tag != b'E'), "the portal stands: {answer:?}");
            raw.query("COMMIT");
            assert_eq!(rows(&database), "3");
        }
    }
}

#[test]
fn a_portal_bound_while_a_name_is_not_settled_runs_nothing_else() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.send(
        [
            m::query("BEGIN"),
            m::query("PREPARE x AS SELECT 1 AS a"),
            m::parse("e", "EXECUTE x", &[]),
            m::bind("p", "e", &[]),
            m::close_statement("x"),
            m::parse("x", DELETE_RETURNING, &[]),
            m::execute("p", 0),
            m::sync(),
        ]
        .concat(),
    );
    raw.until_ready(2);
    assert_refused(&mut raw, &database);
    raw.query("COMMIT");
    assert_eq!(rows(&database), "3");
}

#[test]
fn a_portal_that_has_run_leaves_the_names_it_executes_free() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), |raw| {
        raw.query("BEGIN");
        let all = ["PREPARE x AS SELECT 1", "EXECUTE x", "DEALLOCATE x", "PREPARE x AS SELECT 2", "EXECUTE x"];
        raw.send(all.map(|sql| m::extended(sql, &[])).concat());
        raw.until_ready(all.len());
        raw.query("COMMIT");
    });
}

// Transactions

#[test]
fn a_statement_pipelined_behind_a_commit_is_not_judged_as_inside_the_transaction() {
    let (database, gate) = setup_with(
        "[[rule]]\nname = \"undoable\"\naction = \"allow\"\neffects = [\"delete\"]\nin_transaction = true\n\
         [[rule]]\nname = \"reads\"\naction = \"allow\"\neffects = [\"read\", \"session\", \"transaction\"]\n",
    );
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    raw.send([m::query("COMMIT"), m::query(DELETE)].concat());
    assert_held(&mut raw, &database, &gate);
}

#[test]
fn what_stands_behind_the_end_of_a_failed_transaction_is_held() {
    let (database, gate) = setup();
    for end in
        ["PREPARE TRANSACTION 'x'", "COMMIT", "COMMIT AND CHAIN", "END", "ABORT", "ROLLBACK AND CHAIN", "ROLLBACK TO s"]
    {
        let mut raw = Raw::login(&gate.target());
        raw.query("BEGIN; SAVEPOINT s");
        raw.query("SELECT 1/0");
        raw.send(m::query(format!("{end}; {DELETE}")));
        assert_held_as(end, &mut raw, &database, &gate);
    }
}

#[test]
fn a_statement_in_a_failed_transaction_is_left_to_the_server_to_refuse() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    raw.query("SELECT 1/0");
    let error = raw.query(format!("{DELETE}; DROP TABLE u")).remove(0);
    assert_eq!(error.sqlstate(), "25P02", "{error:?}");
    raw.query("ROLLBACK");
    assert_eq!(rows(&database), "3");
}

// Ends of the connection

#[test]
fn a_half_close_behind_a_large_statement_loses_nothing() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), |raw| {
        // Longer than what is analysed on the session's own thread.
        raw.send(m::query(format!("INSERT INTO t VALUES (7) /* {} */", "x".repeat(20_000))));
        raw.half_close();
        raw.until_eof();
    });
    assert_eq!(rows(&database), "2", "one row directly, one through the gate");
}

#[test]
fn a_half_close_behind_a_query_sent_before_authentication_loses_nothing() {
    let database = shared();
    database.run("CREATE TABLE t (i int)");
    let gate = Gate::transparent(database.target());
    transcript::same_from(database.target(), &gate.target(), |raw, target| {
        let startup = m::startup(&[("user", &target.user), ("database", &target.database)]);
        raw.send([startup, m::query("INSERT INTO t VALUES (7)"), m::terminate()].concat());
        raw.half_close();
        raw.until_eof();
    });
    eventually("one row directly, one through the gate", || (rows(&database) == "2").then_some(()));
}

#[test]
fn a_client_that_floods_before_it_is_authenticated_is_not_read_without_end() {
    const MIB: usize = 1 << 20;
    // More than the buffers of both sockets hold.
    const FLOOD: usize = 64;
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let database = shared();
    let target = Target { port: silent.local_addr().unwrap().port(), ..database.target().clone() };
    let gate = Gate::builder().upstream("sslmode = \"disable\"").start(&target);
    let before = resident_kib(gate.process.pid());
    let mut client = TcpStream::connect(gate.address).unwrap();
    client.write_all(&m::startup(&[("user", "postgres"), ("database", "postgres")])).unwrap();
    // The gate has asked the server, which does not answer.
    let (mut server, _) = silent.accept().unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let block = vec![0; MIB];
    let taken = (0..FLOOD).take_while(|_| client.write_all(&block).is_ok()).count();
    assert!(taken < FLOOD, "the gate read {taken} MiB");
    let grown = resident_kib(gate.process.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "the gate grew by {grown} KiB");
}
