//! Wire checklist, row 19: cancel requests reach the session they name, and no other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, Target, shared};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::tls::Certificates;
use proxy_tests::transcript;

/// Sends a cancel request on a connection of its own and waits until it is closed, which is all the answer there is.
fn cancel(target: &Target, pid: u32, key: &[u8]) {
    let mut raw = Raw::connect((target.host.as_str(), target.port));
    raw.send(m::cancel_request(pid, key));
    assert_eq!(raw.until_eof(), []);
}

/// Waits until the backend of `raw` is busy in `state` (and, if given, waits for that event).
fn wait_busy(database: &Database, pid: u32, wait_event: &str) {
    let mut watch = database.raw();
    eventually(wait_event, || {
        let now = watch.value(&format!("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {pid}"));
        (now == wait_event).then_some(())
    });
}

/// Starts `sql`, cancels it once the backend waits for `wait_event`, and reads to `ReadyForQuery`.
fn cancelled(database: &Database, target: &Target, raw: &mut Raw, start: impl AsRef<[u8]>, wait_event: &str) {
    let (pid, key) = raw.key.clone().unwrap();
    raw.send(start);
    wait_busy(database, pid, wait_event);
    cancel(target, pid, &key);
    raw.until(b'Z');
}

fn same(script: impl Fn(&Database, &Target, &mut Raw)) {
    let database = shared();
    let gate = Gate::transparent(database.target());
    transcript::same_from(database.target(), &gate.target(), |raw, target| {
        raw.start(&[("user", &target.user), ("database", &target.database)]);
        script(&database, target, raw);
    });
}

#[test]
fn a_running_statement_is_cancelled() {
    same(|database, target, raw| {
        cancelled(database, target, raw, m::query("SELECT pg_sleep(600)"), "PgSleep");
        raw.query("SELECT 'goes on'");
        cancelled(database, target, raw, m::extended("SELECT pg_sleep(600)", &[]), "PgSleep");
        raw.query("SELECT 'goes on'");
    });
}

#[test]
fn a_statement_in_a_transaction_is_cancelled_and_the_transaction_aborted() {
    same(|database, target, raw| {
        raw.query("BEGIN");
        cancelled(database, target, raw, m::query("SELECT pg_sleep(600)"), "PgSleep");
        raw.query("SELECT 1");
        raw.query("ROLLBACK");
    });
}

#[test]
fn a_statement_that_waits_for_a_lock_is_cancelled() {
    let database = shared();
    database.run("CREATE TABLE t (x int)");
    let mut holder = database.raw();
    holder.query("BEGIN; LOCK TABLE t");
    let gate = Gate::transparent(database.target());
    transcript::same_from(database.target(), &gate.target(), |raw, target| {
        raw.start(&[("user", &target.user), ("database", &target.database)]);
        cancelled(&database, target, raw, m::query("SELECT * FROM t"), "relation");
    });
}

#[test]
fn a_copy_is_cancelled() {
    same(|database, target, raw| {
        raw.query("CREATE TEMP TABLE t (x int)");
        let (pid, key) = raw.key.clone().unwrap();
        raw.send(m::query("COPY t FROM STDIN"));
        raw.expect(b'G');
        wait_busy(database, pid, "ClientRead");
        cancel(target, pid, &key);
        // A server that waits for COPY data looks for cancel requests only when some comes.
        raw.send([m::copy_data(b"1\n"), m::copy_done()].concat());
        raw.until(b'Z');
        raw.query("SELECT count(*) FROM t");
    });
}

#[test]
fn cancelling_an_idle_session_does_nothing() {
    same(|_, target, raw| {
        let (pid, key) = raw.key.clone().unwrap();
        cancel(target, pid, &key);
        raw.query("SELECT 'unharmed'");
    });
}

#[test]
fn wrong_keys_and_malformed_requests_cancel_nothing() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    let (pid, key) = raw.key.clone().unwrap();
    raw.send(m::query("SELECT pg_advisory_lock(5)"));
    let mut holder = database.raw();
    raw.until(b'Z');
    holder.send(m::query("SELECT pg_advisory_lock(5)"));
    let held = holder.key.clone().unwrap().0;
    wait_busy(&database, held, "advisory");
    let mut flipped = key.clone();
    flipped[0] ^= 1;
    let target = gate.target();
    cancel(&target, held, &key);
    cancel(&target, held, &flipped);
    cancel(&target, held, &[]);
    cancel(&target, held, &key[..3]);
    cancel(&target, held, &[&key[..], b"more"].concat());
    cancel(&target, held, &[0; 256]);
    cancel(&target, pid, &flipped);
    cancel(&target, 0, &key);
    // The other session still waits, and gets its lock when it is free.
    wait_busy(&database, held, "advisory");
    raw.rows("SELECT pg_advisory_unlock(5)");
    assert!(holder.until(b'Z').iter().all(|frame| frame.tag != b'E'));
}

#[test]
fn a_cancel_request_after_the_session_ended_touches_nobody() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut gone = Raw::login(&gate.target());
    let (pid, key) = gone.key.clone().unwrap();
    gone.send(m::terminate());
    gone.until_eof();
    cancel(&gate.target(), pid, &key);
    assert_eq!(Raw::login(&gate.target()).value("SELECT 1"), "1");
}

#[test]
fn a_cancel_request_over_tls_works() {
    let database = shared();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, private) = (directory.path().join("c"), directory.path().join("k"));
    std::fs::write(&certificate, &certificates.certificate_pem).unwrap();
    std::fs::write(&private, &certificates.key_pem).unwrap();
    let gate = Gate::builder()
        .allow_all()
        .listen(&format!(
            "[listen.tls]\nmode = \"require\"\ncertificate = \"{}\"\nkey = \"{}\"",
            certificate.display(),
            private.display()
        ))
        .start(database.target());
    let connect = || Raw::connect(gate.address).ssl(certificates.client(&[]), "localhost");
    let mut raw = connect();
    raw.start(&[("user", "postgres"), ("database", &database.target().database)]);
    let (pid, key) = raw.key.clone().unwrap();
    raw.send(m::query("SELECT pg_sleep(600)"));
    wait_busy(&database, pid, "PgSleep");
    let mut request = connect();
    request.send(m::cancel_request(pid, &key));
    assert_eq!(request.until_eof(), []);
    assert!(raw.until(b'Z').iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"));
}
