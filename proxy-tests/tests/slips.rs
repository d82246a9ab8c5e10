//! Slips of the pen: what the server would refuse to parse fails at once, and nobody is asked about it.

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::psql::Psql;
use proxy_tests::raw::{Frame, Raw};

/// A table `t` of three rows behind a gate with the shipped policy.
fn setup() -> (Database, Gate) {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let gate = Gate::builder().start(database.target());
    (database, gate)
}

fn is_held(frame: &Frame) -> bool {
    frame.tag == b'N' && String::from_utf8_lossy(&frame.body).contains("waiting for approval")
}

#[test]
fn psql_shows_a_slip_as_it_would_without_the_gate() {
    let (database, gate) = setup();
    for slip in [
        "SELCT 1",
        "DELETE FORM t",
        "DELETE FROM nosuch",
        "DELETE FROM t WHERE nosuch = 1",
        "TRUNCATE TABEL t",
        "UPDATE t SET x = x +",
        "DROP TABLE 'unbalanced",
        "DELETE FROM t WHERE x = 'one'",
    ] {
        let direct = Psql::new(database.target()).command(slip);
        let through = Psql::new(&gate.target()).command(slip);
        assert!(direct.stderr.starts_with("ERROR:"), "{slip}: {direct:?}");
        assert_eq!(through.stderr, direct.stderr, "{slip}");
        assert_eq!((through.status, &through.stdout), (direct.status, &direct.stdout), "{slip}");
    }
    assert!(gate.api().pending().is_empty());
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
}

#[test]
fn what_the_server_would_run_is_still_held() {
    let (_database, gate) = setup();
    for text in [
        "DELETE FROM t",
        // Nothing of a utility statement is looked at before it runs.
        "DROP TABLE nosuch",
        // The server does not say what it thinks of several statements.
        "DELETE FROM t; DELETE FROM nosuch",
        "DELETE FROM t WHERE x = 1",
    ] {
        let mut raw = Raw::login(&gate.target());
        raw.send(m::query(text));
        let frame = raw.read().unwrap();
        assert!(is_held(&frame), "{text}: {frame:?}");
    }
}

#[test]
fn the_unnamed_statement_never_is_the_held_text() {
    let (database, gate) = setup();
    // Made before, so that the gate knows a harmless statement of that name.
    let mut raw = Raw::login(&gate.target());
    raw.send(m::parse("", "SELECT 1", &[]));
    raw.send(m::sync());
    raw.until(b'Z');
    raw.send(m::query("DELETE FROM t"));
    assert!(is_held(&raw.read().unwrap()));
    let id = gate.api().wait_held("DELETE FROM t");
    gate.api().reject(&id, "no");
    raw.until(b'Z');
    raw.send(m::bind("", "", &[]));
    raw.send(m::execute("", 0));
    raw.send(m::sync());
    let frames = raw.until(b'Z');
    assert_eq!(frames[0].sqlstate(), "26000", "{frames:?}");
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
}

#[test]
fn a_hold_inside_a_transaction_locks_nothing() {
    let (database, gate) = setup();
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    raw.send(m::query("DELETE FROM t"));
    assert!(is_held(&raw.read().unwrap()));
    assert_eq!(database.raw().value("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass"), "0");
    let mut slip = Raw::login(&gate.target());
    slip.query("BEGIN");
    slip.send(m::query("DELTE FROM t"));
    let frames = slip.until(b'Z');
    assert_eq!((frames[0].tag, frames[0].sqlstate().as_str()), (b'E', "42601"), "{frames:?}");
    assert_eq!(frames.last().map(|frame| frame.body[0]), Some(b'E'));
}

#[test]
fn switched_off_the_server_is_not_asked() {
    let database = shared();
    let gate = Gate::builder().toml("[hold]\nparse_first = false\n").start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("SELCT 1"));
    assert!(is_held(&raw.read().unwrap()));
}
