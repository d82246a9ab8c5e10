//! What a statement means depends on its session's role and `search_path`: approvers are told both, as the session has them.

#![allow(clippy::indexing_slicing, reason = "tests")]

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::Raw;

/// `DELETE` of a table that both schemas have, behind a gate with the shipped policy.
fn setup() -> (Database, Gate) {
    let database = shared();
    database.run("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (x int); CREATE TABLE b.t (x int); INSERT INTO b.t VALUES (1)");
    let gate = Gate::builder().start(database.target());
    (database, gate)
}

/// Role and `search_path` that approvers are shown; then the request is rejected.
fn shown(gate: &Gate, text: &str) -> (serde_json::Value, serde_json::Value) {
    let id = gate.api().wait_held(text);
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    gate.api().reject(&id, "no");
    (request["role"].clone(), request["search_path"].clone())
}

#[test]
fn a_path_set_in_any_way_is_shown_as_the_server_has_it() {
    let (database, gate) = setup();
    database.run("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT set_config('search_path', 'b, a', false)$$; CREATE VIEW v AS SELECT f()");
    let mut raw = Raw::login(&gate.target());
    let mut say = |text: &str| {
        raw.send(m::query(text));
        raw.until(b'Z');
    };
    say("SET search_path = a");
    say("SELECT * FROM public.v");
    say("BEGIN");
    raw.send(m::query("DELETE FROM t"));
    let (role, path) = shown(&gate, "DELETE FROM t");
    assert_eq!((role, path), (database.target().user.clone().into(), "b, a".into()));
    raw.until(b'Z');
}

#[test]
fn a_role_taken_on_is_shown_with_bound_statements_too() {
    let (database, gate) = setup();
    let role = database.unique("r");
    database.run(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA b TO {role}; GRANT ALL ON b.t TO {role}"));
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query(format!("SET ROLE {role}")));
    let id = gate.api().wait_held("SET ROLE");
    gate.api().approve(&id);
    raw.until(b'Z');
    for pipelined in [false, true] {
        if pipelined {
            raw.send(m::parse("", "SELECT 1", &[]));
            raw.send(m::bind("", "", &[]));
            raw.send(m::execute("", 0));
        }
        raw.send(m::parse("s", "DELETE FROM b.t WHERE x = $1", &[]));
        raw.send(m::bind("", "s", &[Some(b"1")]));
        raw.send(m::execute("", 0));
        raw.send(m::close_statement("s"));
        raw.send(m::sync());
        let (acts_as, _) = shown(&gate, "DELETE FROM b.t");
        assert_eq!(acts_as, role.as_str(), "pipelined: {pipelined}");
        raw.until(b'Z');
        raw.send(m::close_statement("s"));
        raw.send(m::sync());
        raw.until(b'Z');
    }
    raw.send(m::query("SELECT count(*) FROM pg_prepared_statements"));
    let frames = raw.until(b'Z');
    assert!(
        frames.iter().any(|frame| frame.tag == b'D' && frame.body.ends_with(b"0")),
        "nothing of the gate's stays behind: {frames:?}"
    );
}

#[test]
fn what_the_server_reads_in_another_encoding_is_not_shown_as_if_it_were_certain() {
    let (_database, gate) = setup();
    let target = gate.target();
    for (encoding, lossy, value, raw_value) in
        [("UTF8", false, "é", false), ("LATIN1", true, "\\xc3a9", true), ("SQL_ASCII", true, "\\xc3a9", true)]
    {
        let mut raw = Raw::connect((target.host.as_str(), target.port));
        raw.start(&[("user", &target.user), ("database", &target.database), ("client_encoding", encoding)]);
        let ascii = "DELETE FROM b.t WHERE x = 1";
        for (text, lossy) in [("DELETE FROM b.t AS \"é\"", lossy), (ascii, false)] {
            raw.send(m::query(text));
            let id = gate.api().wait_held("DELETE FROM b.t");
            let request = gate.api().get(&format!("/v1/requests/{id}"));
            assert_eq!(request["statement"]["lossy"], lossy, "{encoding}: {request}");
            gate.api().reject(&id, "no");
            raw.until(b'Z');
        }
        raw.send(m::extended("DELETE FROM b.t WHERE x::text = $1", &[Some("é".as_bytes())]));
        let id = gate.api().wait_held("x::text");
        let parameter = gate.api().get(&format!("/v1/requests/{id}"))["parameters"][0].clone();
        assert_eq!((&parameter["value"], &parameter["raw"]), (&value.into(), &raw_value.into()), "{encoding}");
        gate.api().reject(&id, "no");
        raw.until(b'Z');
    }
}
