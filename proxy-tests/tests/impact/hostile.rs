//! Texts that try to make the prober do something. What would have been done is looked for afterwards.

use crate::stage::{Stage, block_on, exact, refusal, rows};

/// A table with traces, and a function of every kind that leaves one outside of its transaction if it is ever called: a sequence
/// keeps its value whatever is rolled back, and a read-only transaction refuses it with an error that would be seen.
const TRAPS: &str = "CREATE TABLE t (x int, name text); INSERT INTO t SELECT n, 'n' || n FROM generate_series(1, 10) AS n; \
    CREATE SEQUENCE trace; GRANT ALL ON SEQUENCE trace TO PUBLIC; CREATE TABLE notes (x int); \
    CREATE FUNCTION boom(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \
      'BEGIN PERFORM nextval(''trace''); RAISE EXCEPTION ''the trap was called''; END'; \
    CREATE FUNCTION boom2(int, int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS \
      'BEGIN PERFORM nextval(''trace''); RAISE EXCEPTION ''the trap was called''; END'; \
    CREATE FUNCTION leak(int) RETURNS bool LANGUAGE plpgsql VOLATILE AS 'BEGIN INSERT INTO notes VALUES (1); RETURN true; END'; \
    CREATE OPERATOR @@@ (leftarg = int, rightarg = int, function = boom2); \
    CREATE OPERATOR = (leftarg = int, rightarg = name, function = boom3); ";

fn traps() -> Stage {
    let boom3 = "CREATE FUNCTION boom3(int, name) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS \
        'BEGIN PERFORM nextval(''trace''); RAISE EXCEPTION ''the trap was called''; END'; CREATE OPERATOR @@@";
    Stage::new(&TRAPS.replacen("CREATE OPERATOR @@@", boom3, 1))
}

fn untouched(stage: &Stage) {
    let mut raw = stage.database.raw();
    assert_eq!(raw.value("SELECT is_called FROM trace"), "f");
    assert_eq!(raw.value("SELECT count(*) FROM notes"), "0");
    assert_eq!(raw.value("SELECT count(*) FROM t"), "10");
}

#[test]
fn nothing_of_the_users_own_is_ever_called() {
    let stage = traps();
    stage.database.run("DROP OPERATOR = (int, name)");
    for (text, why) in [
        ("DELETE FROM t WHERE boom(x) = 1", "boom()"),
        ("DELETE FROM t WHERE boom(1) = x", "boom()"),
        ("DELETE FROM t WHERE leak(x)", "leak()"),
        ("DELETE FROM t WHERE public.leak(x)", "public.leak()"),
        ("DELETE FROM t WHERE x @@@ 1", "@@@"),
        ("DELETE FROM t WHERE x OPERATOR(public.@@@) 1", "public.@@@"),
        ("DELETE FROM t WHERE x @@@ ANY (ARRAY[1])", "@@@"),
        ("DELETE FROM t WHERE x IN (SELECT boom(1))", "boom()"),
        ("DELETE FROM t USING (SELECT leak(1)) s", "leak()"),
        ("DELETE FROM t USING leak(1)", "leak()"),
        (
            "WITH w AS (INSERT INTO notes VALUES (1) RETURNING x) DELETE FROM t WHERE x IN (SELECT x FROM w)",
            "changes rows",
        ),
        ("WITH w AS (SELECT leak(1)) DELETE FROM t", "leak()"),
        ("INSERT INTO t SELECT boom(x) FROM t", "boom()"),
        ("INSERT INTO t SELECT x FROM t ORDER BY leak(x)", "leak()"),
        ("INSERT INTO t SELECT x FROM t FOR UPDATE", "more than read"),
        ("DELETE FROM t WHERE nextval('trace') > 0", "nextval()"),
        ("DELETE FROM t WHERE pg_catalog.nextval('trace') > 0", "nextval()"),
        ("DELETE FROM t WHERE setval('trace', 9) > 0", "setval()"),
        ("DELETE FROM t WHERE set_config('a.b', 'c', false) = 'c'", "set_config()"),
        ("DELETE FROM t WHERE pg_sleep(100) IS NULL", "pg_sleep()"),
        ("DELETE FROM t WHERE pg_terminate_backend(x)", "pg_terminate_backend()"),
        ("DELETE FROM t WHERE pg_catalog.pg_advisory_lock(1) IS NULL", "pg_advisory_lock()"),
        ("DELETE FROM t WHERE query_to_xml('SELECT leak(1)', true, true, '') IS NULL", "query_to_xml()"),
        ("DELETE FROM t WHERE schema_to_xml('public', true, true, '') IS NULL", "schema_to_xml()"),
        ("DELETE FROM t WHERE name = current_user", "session's user"),
        ("DELETE FROM t WHERE (t).boom = 1", ""),
        ("DELETE FROM t WHERE random() < 0.5", "volatile"),
        ("DELETE FROM t TABLESAMPLE", ""),
        ("DELETE FROM t WHERE x IN (SELECT y FROM t AS s (y) TABLESAMPLE SYSTEM (10))", "not looked into"),
        ("DELETE FROM t WHERE CURRENT OF c", "not looked into"),
        ("DELETE FROM t WHERE x = 'notes'::regclass::int", "regclass"),
        ("DELETE FROM t WHERE x IN (SELECT pid FROM pg_stat_activity)", "pg_stat_activity"),
        ("UPDATE t SET x = 1 FROM t o WHERE boom(o.x) = t.x", "boom()"),
        ("DELETE FROM t WHERE x = (WITH RECURSIVE r AS (SELECT 1 UNION SELECT * FROM r) SELECT * FROM r)", "RECURSIVE"),
    ] {
        let impact = stage.probe(text);
        if impact.trouble.is_none() {
            let found = rows(impact.statements.last().unwrap());
            assert!(found.exact.known().is_none() && found.estimate.known().is_none(), "{text}: {found:?}");
            assert!(refusal(&found).contains(why), "{text}: {found:?}");
        } else {
            assert!(why.is_empty(), "{text}: {impact:?}");
        }
    }
    // The trap does work.
    let frames = stage.database.raw().query("SELECT boom(1)");
    assert!(frames.iter().any(|frame| frame.tag == b'E'));
    stage.database.run("ALTER SEQUENCE trace RESTART");
    untouched(&stage);
}

#[test]
fn an_operator_of_the_users_own_that_could_be_meant_ends_counting() {
    let stage = traps();
    let why = refusal(&stage.rows("DELETE FROM t WHERE x = 1"));
    assert!(why.contains("the operator =") && why.contains("public"), "{why}");
    // In a schema the session does not search it cannot be meant.
    let mut ask = stage.ask("DELETE FROM public.t WHERE x = 1");
    ask.search_path = Some("nosuch".to_owned());
    let statement = crate::stage::one(block_on(stage.prober().probe(&ask)));
    assert_eq!(exact(&rows(&statement)), 1);
    untouched(&stage);
}

#[test]
fn an_operator_for_a_type_nobody_here_has_does_not() {
    let stage = Stage::new(
        "CREATE TABLE t (x int, name text); INSERT INTO t VALUES (1, 'a'); CREATE TYPE pair AS (a int, b int); \
         CREATE FUNCTION same(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'; \
         CREATE OPERATOR = (leftarg = pair, rightarg = pair, function = same); CREATE TABLE p (p pair, x int)",
    );
    assert_eq!(exact(&stage.rows("DELETE FROM t WHERE x = 1 AND name = 'a'")), 1);
    let why = refusal(&stage.rows("DELETE FROM p WHERE p = (1, 2)::pair"));
    assert!(why.contains("pair"), "{why}");
    let why = refusal(&stage.rows("DELETE FROM p WHERE p.p = ROW(1, 2)"));
    assert!(why.contains("pair"), "{why}");
    assert_eq!(exact(&stage.rows("DELETE FROM p WHERE x = 1")), 0);
}

#[test]
fn a_cast_of_the_users_own_is_not_run() {
    let stage = Stage::new(
        "CREATE SEQUENCE trace; CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE t (x int, m mood); INSERT INTO t VALUES (1, 'a'); \
         CREATE FUNCTION cast_it(mood) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''trace''); RETURN 1; END'; \
         CREATE CAST (mood AS int) WITH FUNCTION cast_it(mood) AS IMPLICIT",
    );
    for text in [
        "DELETE FROM t WHERE x = m",
        "DELETE FROM t WHERE x = m::int",
        "DELETE FROM t WHERE m + 1 = 2",
        "DELETE FROM t WHERE x = 'a'::mood",
        "DELETE FROM t WHERE abs(m) = 1",
        "DELETE FROM t USING t AS a (q, r) WHERE a.q = a.r",
        "DELETE FROM t USING (t AS a JOIN t AS b ON true) AS j (p, q, r, s) WHERE p = s",
        "DELETE FROM t WHERE x IN (SELECT w.b FROM (SELECT * FROM t) AS w (a, b))",
        "WITH w (a, b) AS (TABLE t) DELETE FROM t USING w WHERE a = b",
        "DELETE FROM t USING t AS z WHERE abs(z) = 1",
        "DELETE FROM t WHERE x IN (SELECT m FROM t)",
    ] {
        refusal(&stage.rows(text));
        assert_eq!(stage.database.raw().value("SELECT is_called FROM trace"), "f", "{text}");
    }
}

#[test]
fn code_in_indexes_constraints_and_views_ends_counting() {
    let stage = Stage::new(
        "CREATE SEQUENCE trace; CREATE FUNCTION boom(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'; \
         CREATE TABLE indexed (x int); CREATE INDEX ON indexed ((x + boom(1))); \
         CREATE TABLE checked (x int CHECK (x > boom(1))); \
         CREATE TABLE parent (x int); CREATE TABLE child (CHECK (x > boom(1))) INHERITS (parent); \
         CREATE TABLE t (x int); CREATE VIEW v AS SELECT x FROM t WHERE boom(x) > 0; CREATE VIEW w AS SELECT * FROM v; \
         CREATE VIEW s AS SELECT x FROM t WHERE nextval('trace') > 0",
    );
    stage.database.run(
        "CREATE OR REPLACE FUNCTION boom(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \
         'BEGIN RAISE EXCEPTION ''the trap was called''; END'",
    );
    for (text, why) in [
        ("DELETE FROM indexed WHERE x = 1", "boom()"),
        ("DELETE FROM checked WHERE x = 1", "boom()"),
        ("DELETE FROM parent WHERE x = 1", "boom()"),
        ("DELETE FROM t WHERE x IN (SELECT x FROM indexed)", "boom()"),
        ("DELETE FROM v WHERE x = 1", "boom()"),
        ("DELETE FROM t WHERE x IN (SELECT x FROM w)", "boom()"),
        ("DELETE FROM s", "nextval()"),
        ("TRUNCATE indexed", "boom()"),
    ] {
        let why_not = refusal(&stage.rows(text));
        assert!(why_not.contains(why), "{text}: {why_not}");
    }
    assert_eq!(stage.database.raw().value("SELECT is_called FROM trace"), "f");
    assert_eq!(exact(&stage.rows("DELETE FROM t WHERE x = 1")), 0);
}

#[test]
fn tricks_of_spelling_end_nowhere() {
    let stage = Stage::new(
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1); CREATE TABLE \"a\"\"; DROP TABLE t; --\" (x int)",
    );
    assert_eq!(exact(&stage.rows("DELETE FROM \"a\"\"; DROP TABLE t; --\" WHERE x = 1")), 0);
    assert_eq!(exact(&stage.rows("DELETE FROM t AS \"; DROP TABLE t; --\"")), 1);
    assert_eq!(exact(&stage.rows("DELETE FROM t \"a\"\"b\" WHERE \"a\"\"b\".x = 1 /* ; DROP TABLE t */ -- '")), 1);
    assert_eq!(exact(&stage.rows("DELETE FROM t WHERE 'x\\' = ' OR true; DROP TABLE t; --'")), 0);
    let mut ask = stage.ask("DELETE FROM t");
    for path in ["public; DROP TABLE t", "\"public\"; DROP TABLE t; --", "\"", "public, , a", "'public'; SELECT 1"] {
        ask.search_path = Some(path.to_owned());
        block_on(stage.prober().probe(&ask));
    }
    ask.search_path = Some("public".to_owned());
    ask.role = Some("x'; DROP TABLE t; --".to_owned());
    block_on(stage.prober().probe(&ask));
    ask.settings = vec![("TimeZone".to_owned(), "UTC'; DROP TABLE t; --".to_owned())];
    assert!(block_on(stage.prober().probe(&ask)).trouble.is_some());
    // Several statements are looked at one by one, each counted on its own.
    let impact = stage.probe("DELETE FROM t; DELETE FROM t WHERE x = 2; SELECT 1");
    let counts: Vec<u64> = impact.statements[..2].iter().map(|statement| exact(&rows(statement))).collect();
    assert_eq!(counts, [1, 0]);
    assert_eq!(stage.database.raw().value("SELECT count(*) FROM t"), "1");
}

#[test]
fn deep_texts_do_not_end_the_process() {
    let stage = Stage::new("CREATE TABLE t (x int)");
    let sum = vec!["1"; 20_000].join("+");
    let impact = stage.probe(&format!("DELETE FROM t WHERE x = {sum}"));
    assert!(impact.trouble.is_some() || impact.statements.len() == 1);
    let nested = format!("DELETE FROM t WHERE x = {}1{}", "(SELECT ".repeat(2000), ")".repeat(2000));
    let impact = stage.probe(&nested);
    assert!(impact.trouble.is_some() || impact.statements.len() == 1);
}

/// Makes values of a domain whose CHECK is a trap, and casts an enum to json by another trap.
const CONVERSIONS: &str = "CREATE FUNCTION checks(int) RETURNS bool LANGUAGE plpgsql AS \
      'BEGIN RAISE EXCEPTION ''the trap was called''; END'; \
    CREATE DOMAIN whole AS int; CREATE TABLE domains (n whole); INSERT INTO domains VALUES (1); \
    ALTER DOMAIN whole ADD CHECK (checks(VALUE)) NOT VALID; \
    CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE moods (m mood); INSERT INTO moods VALUES ('fine'); \
    CREATE FUNCTION told(mood) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the trap was called''; END'; \
    CREATE CAST (mood AS json) WITH FUNCTION told(mood);";

#[test]
fn what_only_a_conversion_of_whole_rows_would_call_is_not_called() {
    let stage = Stage::new(&format!("CREATE TABLE t (x int); INSERT INTO t VALUES (1); {CONVERSIONS}"));
    for (text, why) in [
        (
            r#"DELETE FROM t USING domains WHERE jsonb_populate_record(domains, '{"n": 5}') IS NULL"#,
            "the domain public.whole",
        ),
        (
            r#"DELETE FROM t USING domains d WHERE jsonb_populate_record(d, '{"n": 5}') IS NULL"#,
            "the domain public.whole",
        ),
        (
            r#"DELETE FROM t WHERE x IN (SELECT (jsonb_populate_recordset(d, '[{"n": 5}]')).n FROM domains d)"#,
            "not looked into (String)",
        ),
        ("DELETE FROM t USING moods m WHERE m.to_jsonb IS NULL", "cast from public.mood"),
        ("DELETE FROM t USING moods WHERE moods.to_json IS NULL", "cast from public.mood"),
        ("DELETE FROM t USING moods m WHERE to_jsonb(m) IS NULL", "cast from public.mood"),
        ("DELETE FROM t USING (moods a CROSS JOIN t b) AS j WHERE to_jsonb(j) IS NULL", "cast from public.mood"),
        ("DELETE FROM t USING (SELECT m FROM moods) AS s WHERE to_jsonb(s) IS NULL", "cast from public.mood"),
        ("WITH w AS (TABLE moods) DELETE FROM t USING w WHERE w.to_jsonb IS NULL", "cast from public.mood"),
    ] {
        let refused = refusal(&stage.rows(text));
        assert!(refused.contains(why), "{text}: {refused}");
    }
    let plain =
        "CREATE DOMAIN plain AS int CHECK (VALUE > 0); CREATE TABLE plains (n plain); INSERT INTO plains VALUES (1)";
    stage.database.run(plain);
    assert_eq!(exact(&stage.rows("DELETE FROM t USING plains p WHERE p.n = x AND to_jsonb(p) IS NOT NULL")), 1);
}

#[test]
fn an_error_of_the_count_does_not_quote_what_the_rows_hold() {
    let stage = Stage::new(
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1); \
        CREATE TABLE secrets (s text); INSERT INTO secrets VALUES ('hunter2')",
    );
    for text in [
        "DELETE FROM t WHERE x = (SELECT s::int FROM secrets)",
        "DELETE FROM t WHERE x = (SELECT s::date - current_date FROM secrets)",
        "DELETE FROM t USING secrets WHERE s::int = x",
    ] {
        let impact = stage.probe(text);
        let told = serde_json::to_string(&impact).unwrap();
        assert!(told.contains("it fails with SQLSTATE 22"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
