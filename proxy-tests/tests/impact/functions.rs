//! Functions a statement calls, looked up.

use querygate::impact::{FunctionLookup, Known, Prober, called};

use crate::stage::{Stage, block_on};

fn look(stage: &Stage, prober: &Prober, text: &str) -> Vec<FunctionLookup> {
    block_on(prober.functions(&stage.ask(""), &called(text).unwrap())).unwrap()
}

#[test]
fn what_functions_are_and_whether_they_write_comes_from_the_catalogue() {
    let stage = Stage::new(
        "CREATE TABLE t (x int); CREATE SCHEMA app; \
         CREATE FUNCTION reader(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t WHERE x = $1'; \
         CREATE FUNCTION writer() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN DELETE FROM t; END'; \
         CREATE FUNCTION app.caller() RETURNS void LANGUAGE sql AS 'SELECT writer()'; \
         CREATE FUNCTION modern(a int) RETURNS int LANGUAGE sql RETURN a + 1; \
         CREATE FUNCTION atomic() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM t; END; \
         CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION twice(text) RETURNS void LANGUAGE sql AS 'DELETE FROM t'; \
         CREATE PROCEDURE proc() LANGUAGE plpgsql AS 'BEGIN NULL; END'",
    );
    let prober = stage.prober();
    for (text, found, only_reads) in [
        ("SELECT reader(1)", 1, true),
        ("SELECT * FROM writer()", 1, false),
        ("SELECT 1 WHERE app.caller() IS NULL", 1, false),
        ("SELECT modern(1)", 1, true),
        ("SELECT atomic()", 1, false),
        ("SELECT twice(1)", 2, false),
        ("SELECT reverse('x')", 1, true),
        ("SELECT lo_unlink(1)", 1, false),
        ("CALL proc()", 1, true),
        ("SELECT nosuch()", 0, false),
    ] {
        let lookups = look(&stage, &prober, text);
        assert_eq!(lookups.len(), 1, "{text}");
        assert_eq!((lookups[0].found.len(), lookups[0].only_reads()), (found, only_reads), "{text}: {lookups:?}");
    }
    let writer = &look(&stage, &prober, "SELECT writer()")[0].found[0];
    assert!(writer.security_definer && !writer.own && writer.extension.is_none());
    assert_eq!((writer.language.as_str(), writer.volatility.as_str()), ("plpgsql", "volatile"));
    assert_eq!(writer.writes, Known::Known(Some("it has DELETE".to_owned())));
    assert_eq!(look(&stage, &prober, "SELECT a.b + 1, (SELECT coalesce(max(x), upper('y')::int) FROM t)").len(), 2);
}

#[test]
fn a_redefinition_is_seen_by_the_next_question() {
    let stage =
        Stage::new("CREATE TABLE t (x int); CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'SELECT NULL::void'");
    let prober = stage.prober();
    assert!(look(&stage, &prober, "SELECT f()")[0].only_reads());
    stage.database.run("CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM t'");
    assert!(!look(&stage, &prober, "SELECT f()")[0].only_reads());
    stage.database.run("CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS 'SELECT NULL::void'");
    assert!(look(&stage, &prober, "SELECT f()")[0].only_reads());
}

#[test]
fn functions_are_found_in_the_sessions_path() {
    let stage = Stage::new(
        "CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE FUNCTION a.f() RETURNS void LANGUAGE sql AS 'DELETE FROM a.t'; \
         CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    let prober = stage.prober();
    let mut ask = stage.ask("");
    for (path, only_reads, count) in [("public", true, 1), ("a", false, 1), ("public, a", false, 2)] {
        ask.search_path = Some(path.to_owned());
        let lookups = block_on(prober.functions(&ask, &called("SELECT f()").unwrap())).unwrap();
        assert_eq!((lookups[0].only_reads(), lookups[0].found.len()), (only_reads, count), "{path}");
    }
}
