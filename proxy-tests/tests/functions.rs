//! What functions do decides, not that a statement only selects: `SELECT f()` where `f` writes is held, on a real server.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use proxy_tests::gate::{ANN, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::raw::{Frame, Raw, eventually};

const SCHEMA: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders SELECT n, '' FROM generate_series(1, 5) n; \
    CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT count(*) FROM orders); END $$; \
    CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2'; \
    CREATE FUNCTION quadruple(x int) RETURNS int LANGUAGE sql AS 'SELECT twice(twice(x))'; \
    CREATE FUNCTION purge() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS \
        $$ BEGIN DELETE FROM public.orders WHERE id = 1; RETURN 1; END $$; \
    CREATE FUNCTION by_sql() RETURNS int LANGUAGE sql AS $$ DELETE FROM orders WHERE id = 2 RETURNING 1 $$; \
    CREATE FUNCTION outer_one() RETURNS int LANGUAGE sql AS 'SELECT purge()'; \
    CREATE FUNCTION lower(text, int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN $1; END $$; \
    CREATE FUNCTION runs(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; RETURN 1; END $$; \
    CREATE FUNCTION of_row(orders) RETURNS int LANGUAGE sql AS 'SELECT purge()'; \
    CREATE FUNCTION atomic() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT purge(); END; \
    CREATE FUNCTION atomic_delete() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM orders; END; \
    CREATE FUNCTION atomic_read(x int) RETURNS int LANGUAGE sql RETURN x + 1; \
    CREATE FUNCTION allowed() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN true; END $$; \
    CREATE FUNCTION added(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN $1; END $$; \
    CREATE OPERATOR #+# (LEFTARG = int, RIGHTARG = int, FUNCTION = added); \
    CREATE AGGREGATE summed(int) (SFUNC = added, STYPE = int); \
    CREATE DOMAIN watched AS int CHECK (allowed()); \
    CREATE VIEW v AS SELECT purge() AS p; CREATE VIEW w AS SELECT * FROM v; CREATE VIEW plain AS SELECT total() AS t; \
    CREATE VIEW unlinks AS SELECT lo_unlink(oid) FROM pg_largeobject_metadata; \
    CREATE TABLE defaulted (a int DEFAULT purge(), b int); CREATE TABLE checked (a int CHECK (allowed())); \
    CREATE TABLE typed (a watched); CREATE TABLE guarded (a int); \
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (allowed()); \
    CREATE SCHEMA app; CREATE FUNCTION app.same() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
    CREATE FUNCTION same() RETURNS int LANGUAGE sql AS 'SELECT purge()'";

/// What calls `purge` without anybody's naming it: by defaults of arguments, types, partitions, statistics, rules, foreign keys.
const UNSEEN: &str = "CREATE FUNCTION by_default(a int DEFAULT purge()) RETURNS int LANGUAGE sql AS 'SELECT a'; \
    CREATE FUNCTION atomic_default() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT by_default(); END; \
    CREATE FUNCTION gives() RETURNS watched LANGUAGE sql AS 'SELECT 1'; \
    CREATE FUNCTION gives_out(OUT a watched) LANGUAGE plpgsql AS 'BEGIN a := 2; END'; \
    CREATE FUNCTION gives_table() RETURNS TABLE (a watched) LANGUAGE sql AS 'SELECT 1'; \
    CREATE FUNCTION takes(watched) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
    CREATE FUNCTION declares() RETURNS int LANGUAGE plpgsql AS 'DECLARE q typed.a%TYPE := 1; BEGIN RETURN 1; END'; \
    CREATE FUNCTION declares_array() RETURNS int LANGUAGE plpgsql AS $$ DECLARE q _watched := '{1}'; BEGIN RETURN 1; END $$; \
    CREATE FUNCTION atomic_cast() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1::watched::int; END; \
    CREATE DOMAIN over_watched AS watched; CREATE DOMAIN many_watched AS watched[]; \
    CREATE TYPE span AS RANGE (SUBTYPE = watched); CREATE TYPE pair AS (a watched, b int); \
    CREATE DOMAIN defaulting AS int DEFAULT purge(); CREATE DOMAIN twice_removed AS int CHECK (VALUE::watched > 0); \
    CREATE TYPE mood AS ENUM ('good'); \
    CREATE TABLE by_domain (a defaulting, b int); CREATE TABLE lists (a watched[]); CREATE TABLE pairs (a pair); \
    CREATE VIEW casts AS SELECT id::watched AS id FROM orders; CREATE VIEW onto AS SELECT a, b FROM defaulted; \
    CREATE VIEW populated AS SELECT jsonb_populate_record(t, '{\"a\": 1}') FROM typed t; \
    CREATE TABLE cast_default (a int DEFAULT 1::watched, b int); CREATE TABLE cast_check (a int CHECK (a::watched > 0)); \
    CREATE FUNCTION steady(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM purge(); RETURN $1; END $$; \
    CREATE TABLE parted (a int) PARTITION BY LIST (steady(a)); CREATE TABLE part PARTITION OF parted FOR VALUES IN (1); \
    CREATE TABLE measured (a int); CREATE STATISTICS measures ON (steady(a)) FROM measured; \
    CREATE TABLE indexed (a int); CREATE INDEX ON indexed (steady(a)); \
    CREATE TABLE ruled (a int); CREATE RULE r AS ON INSERT TO ruled DO ALSO DELETE FROM orders; \
    CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int REFERENCES parents ON UPDATE CASCADE CHECK (allowed()))";

/// What is held is refused here, so that no test waits for people.
const REFUSING: &str = "[[rule]]\nname = \"no-code\"\naction = \"reject\"\neffects = [\"code\"]\n\
    [[rule]]\nname = \"rest\"\naction = \"allow\"\n";

/// A database after `SCHEMA`, and the name of a role that may look.
fn database() -> (Database, String) {
    let database = shared();
    let role = database.unique("looks");
    database.run(&format!("CREATE ROLE {role} LOGIN"));
    database.run(SCHEMA);
    (database, role)
}

/// `[impact]` with time enough for a slow machine.
fn section(role: &str) -> String {
    format!("[impact]\nuser = \"{role}\"\nbudget = \"60s\"\nconnect_timeout = \"60s\"\n")
}

/// What is wrong with the answer, if anything is.
fn error(frames: &[Frame]) -> Option<String> {
    frames.iter().find(|frame| frame.tag == b'E').map(|frame| {
        let parts = [frame.field(b'M'), frame.field(b'D')];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    })
}

fn refusal(raw: &mut Raw, sql: &str) -> Option<String> {
    error(&raw.query(sql))
}

#[test]
fn a_function_that_deletes_is_held_and_says_so_and_one_that_reads_passes() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    assert_eq!(Psql::new(&gate.target()).command("SELECT total()").ok().trim(), "5");
    assert_eq!(Psql::new(&gate.target()).command("SELECT quadruple(2), count(*) FROM orders").ok().trim(), "8|5");
    let psql = Psql::new(&gate.target()).start("SELECT purge()");
    let id = gate.api().wait_held("purge");
    let request = gate.api().with_token(ANN).get(&format!("/v1/requests/{id}"));
    let why = "public.purge(), which deletes from public.orders (plpgsql, SECURITY DEFINER)";
    assert!(request.to_string().contains(why), "{request}");
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
    gate.api().approve(&id);
    assert_eq!(finish(psql).ok().trim(), "1");
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "4");
    let psql = Psql::new(&gate.target()).start("SELECT by_sql()");
    let id = gate.api().wait_held("by_sql");
    let request = gate.api().with_token(ANN).get(&format!("/v1/requests/{id}"));
    let kinds: Vec<&str> =
        request["effects"].as_array().unwrap().iter().filter_map(|effect| effect["kind"].as_str()).collect();
    assert!(kinds.contains(&"code") && kinds.contains(&"delete"), "{request}");
    gate.api().reject(&id, "no");
    assert_ne!(finish(psql).status, Some(0));
}

#[test]
fn whatever_way_a_function_that_writes_is_called_the_statement_is_refused() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in [
        "SELECT purge()",
        "SELECT by_sql()",
        "SELECT outer_one()",
        "SELECT * FROM orders WHERE id = purge()",
        "SELECT lower('A', 1)",
        "SELECT lower('A')",
        "SELECT runs('SELECT 1')",
        "SELECT o.of_row FROM orders o LIMIT 0",
        "SELECT (o).of_row FROM orders o LIMIT 0",
        "SELECT atomic()",
        "SELECT atomic_delete()",
        "SELECT 1 #+# 2",
        "SELECT summed(id) FROM orders",
        "SELECT 1::watched",
        "SELECT * FROM v",
        "SELECT * FROM public.w",
        "SELECT * FROM unlinks",
        "INSERT INTO defaulted (b) VALUES (1)",
        "INSERT INTO checked VALUES (1)",
        "INSERT INTO typed VALUES (1)",
        "SELECT * FROM guarded",
        "SELECT same()",
        "SELECT public.same()",
        "SELECT no_such_function()",
        "EXPLAIN ANALYZE SELECT purge()",
        "COPY (SELECT purge()) TO STDOUT",
        "DO 'BEGIN PERFORM 1; END'",
        "CREATE VIEW x AS SELECT purge()",
    ] {
        let refused = refusal(&mut raw, sql);
        assert!(refused.as_ref().is_some_and(|why| why.contains("no-code")), "{sql}: {refused:?}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing of it has run");
    for sql in [
        "SELECT total(), quadruple(2), atomic_read(1)",
        "SELECT pg_catalog.lower('A')",
        "SELECT upper('a'), now(), count(*) FROM orders",
        "SELECT app.same()",
        "SELECT * FROM plain",
        "SELECT b FROM defaulted",
        "SELECT * FROM checked, typed",
        "SELECT o.note, sum(o.id) FROM orders o WHERE o.id IN (1, 2) GROUP BY 1 ORDER BY 1",
        "INSERT INTO orders VALUES (10, 'x')",
    ] {
        assert_eq!(refusal(&mut raw, sql), None, "{sql}");
    }
}

#[test]
fn what_calls_a_function_without_naming_it_is_refused_and_what_does_not_passes() {
    let (database, role) = database();
    database.run(UNSEEN);
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in [
        "SELECT by_default()",
        "SELECT atomic_default()",
        "SELECT gives()",
        "SELECT * FROM gives_out()",
        "SELECT * FROM gives_table()",
        "SELECT takes(1)",
        "SELECT declares()",
        "SELECT declares_array()",
        "SELECT atomic_cast()",
        "SELECT 1::over_watched",
        "SELECT '{1}'::watched[]",
        "SELECT '{1}'::_watched",
        "SELECT '{1}'::many_watched",
        "SELECT '[1,2)'::span",
        "SELECT span(1, 2)",
        "SELECT '(1,2)'::pair",
        "SELECT row(1, 2)::pair",
        "SELECT '(1)'::typed",
        "SELECT 1::twice_removed",
        "SELECT * FROM json_to_record('{\"a\": [1]}') AS x(a _watched)",
        "SELECT json_populate_record(null::typed, '{\"a\": 1}')",
        "SELECT jsonb_populate_record(t, '{\"a\": 1}') FROM typed t",
        "SELECT domain_in('1', 'watched'::regtype, -1)",
        "SELECT array_in('{1}', 'watched'::regtype, -1)",
        "SELECT record_in('(1)', 'typed'::regtype, -1)",
        "SELECT table_to_xml('v', false, false, '')",
        "SELECT table_to_xml_and_xmlschema('v', false, false, '')",
        "SELECT * FROM casts",
        "SELECT * FROM populated",
        "SELECT * FROM lists WHERE a @> '{1}'",
        "SELECT * FROM pairs WHERE a = '(1,2)'",
        "INSERT INTO lists VALUES ('{1}')",
        "INSERT INTO by_domain (b) VALUES (1)",
        "INSERT INTO cast_default (b) VALUES (1)",
        "INSERT INTO cast_check VALUES (1)",
        "INSERT INTO onto (b) VALUES (1)",
        "INSERT INTO parted VALUES (1)",
        "INSERT INTO part VALUES (1)",
        "COPY part FROM STDIN",
        "INSERT INTO ruled VALUES (1)",
        "UPDATE parents SET id = 2",
        "ANALYZE measured",
        "ANALYZE indexed",
        "VACUUM (ANALYZE) indexed",
        "ANALYZE",
    ] {
        let refused = refusal(&mut raw, sql);
        assert!(refused.as_ref().is_some_and(|why| why.contains("no-code")), "{sql}: {refused:?}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing of it has run");
    for sql in [
        "SELECT * FROM typed, part, measured, indexed, ruled, parents, by_domain",
        "SELECT 'good'::mood",
        "SELECT * FROM json_to_record('{\"a\": 1}') AS x(a int)",
        "INSERT INTO measured VALUES (1)",
        "INSERT INTO parents VALUES (1)",
        "ANALYZE orders",
        "VACUUM indexed",
        "SELECT table_to_xmlschema('orders', false, false, '')",
    ] {
        assert_eq!(refusal(&mut raw, sql), None, "{sql}");
    }
}

#[test]
fn a_table_made_like_one_that_calls_a_function_is_refused_and_others_pass() {
    let (database, role) = database();
    database.run(UNSEEN);
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in [
        "CREATE TABLE x1 (LIKE defaulted INCLUDING DEFAULTS)",
        "CREATE TEMP TABLE x2 (b int, LIKE public.defaulted INCLUDING ALL); INSERT INTO x2 (b) VALUES (1)",
        "CREATE TABLE x3 (LIKE indexed INCLUDING INDEXES)",
        "CREATE TEMP TABLE x4 AS SELECT a FROM typed",
        "SELECT a INTO x5 FROM typed",
        "CREATE TEMP TABLE x6 AS SELECT t FROM typed t",
        "CREATE TABLE x7 () INHERITS (defaulted)",
        "CREATE TABLE x8 OF pair",
        "CREATE TABLE x9 PARTITION OF parted FOR VALUES IN (7)",
        "CREATE TEMP TABLE y1 (a _watched)",
        "PREPARE p AS SELECT a FROM typed; CREATE TEMP TABLE y2 AS EXECUTE p",
        "CREATE VIEW y3 AS SELECT * FROM casts",
        "CREATE DOMAIN y4 AS watched",
    ] {
        let refused = refusal(&mut raw, sql);
        assert!(refused.as_ref().is_some_and(|why| why.contains("no-code")), "{sql}: {refused:?}");
    }
    for sql in [
        "CREATE TABLE z1 (LIKE orders INCLUDING ALL)",
        "BEGIN; CREATE TEMP TABLE z2 AS SELECT * FROM orders; INSERT INTO z2 VALUES (7, ''); SELECT twice(1); COMMIT",
        "INSERT INTO z1 SELECT * FROM z2",
        "SELECT id INTO z3 FROM orders",
        "PREPARE p AS SELECT a FROM typed",
        "EXECUTE p",
    ] {
        assert_eq!(refusal(&mut raw, sql), None, "{sql}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
}

#[test]
fn operators_that_the_planner_puts_in_and_functions_that_compare_count() {
    let (database, role) = database();
    database.run(
        "CREATE FUNCTION differs(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN true; END $$; \
         CREATE FUNCTION equals(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN $1 = $2; END $$; \
         CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = equals, NEGATOR = !==); \
         CREATE OPERATOR !== (LEFTARG = int, RIGHTARG = int, FUNCTION = differs, NEGATOR = ===)",
    );
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert_eq!(refusal(&mut raw, "ANALYZE orders"), None);
    for sql in ["SELECT 1 !== 2", "SELECT NOT (1 === 2)", "SELECT * FROM orders WHERE NOT (id === 2)"] {
        assert!(refusal(&mut raw, sql).is_some_and(|why| why.contains("no-code")), "{sql}");
    }
    database.run(
        "CREATE TYPE point_of AS (a int); CREATE TABLE points (c point_of); INSERT INTO points VALUES (row(1)), (row(2)); \
         CREATE FUNCTION compares(point_of, point_of) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \
         $$ BEGIN PERFORM purge(); RETURN 0; END $$; \
         CREATE OPERATOR CLASS points_of DEFAULT FOR TYPE point_of USING btree AS FUNCTION 1 compares(point_of, point_of)",
    );
    let sql = "SELECT count(*) FROM points";
    eventually("it is noticed", || refusal(&mut raw, sql).filter(|why| why.contains("no-code")));
    for sql in ["CREATE INDEX ON points (c)", "ANALYZE points", "VACUUM (ANALYZE) points"] {
        assert!(refusal(&mut raw, sql).is_some_and(|why| why.contains("no-code")), "{sql}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
}

#[test]
fn what_parsing_would_already_run_is_not_parsed_before_it_is_approved() {
    let (database, role) = database();
    database.run(UNSEEN);
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    for sql in ["SELECT '{1}'::watched[]", "SELECT count(*) FROM lists WHERE a @> '{1}'"] {
        let mut raw = Raw::login(&gate.target());
        raw.send(m::parse("", sql, &[]));
        raw.send(m::sync());
        assert!(error(&raw.until(b'Z')).is_some_and(|why| why.contains("would already run")), "{sql}");
        assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "{sql}");
        let psql = Psql::new(&gate.target()).start(sql);
        let id = gate.api().wait_held(sql);
        assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "{sql}");
        gate.api().reject(&id, "no");
        assert_ne!(finish(psql).status, Some(0));
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
}

#[test]
fn a_prepared_statement_that_reads_waits_for_a_look_after_something_may_have_changed() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::parse("s", "SELECT total()", &[]));
    raw.send(m::sync());
    assert_eq!(error(&raw.until(b'Z')), None);
    for _ in 0..3 {
        assert!(refusal(&mut raw, "SELECT purge()").is_some());
        assert_eq!(run(&mut raw, "s"), None, "nobody is asked about it");
    }
}

#[test]
fn a_cast_to_json_that_writes_holds_whatever_may_make_it_unwritten() {
    let (database, role) = database();
    database.run(
        "CREATE TYPE mood AS ENUM ('good'); CREATE FUNCTION told(mood) RETURNS json LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM purge(); RETURN '1'; END $$; CREATE CAST (mood AS json) WITH FUNCTION told(mood); \
         CREATE TABLE moods (a mood); INSERT INTO moods VALUES ('good')",
    );
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in ["SELECT to_json(a) FROM moods", "SELECT row_to_json(m) FROM moods m", "SELECT json_agg(m) FROM moods m"]
    {
        assert!(refusal(&mut raw, sql).is_some_and(|why| why.contains("no-code")), "{sql}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
}

/// Runs `SELECT $1` with a parameter declared to be of this type.
fn select_parameter(raw: &mut Raw, oid: u32, value: &str) -> Option<String> {
    raw.send(m::parse("", "SELECT $1", &[oid]));
    raw.send(m::bind("", "", &[Some(value.as_bytes())]));
    raw.send(m::execute("", 0));
    raw.send(m::sync());
    error(&raw.until(b'Z'))
}

#[test]
fn a_parameter_declared_to_be_of_a_type_that_calls_a_function_is_refused() {
    let (database, role) = database();
    database.run(UNSEEN);
    let oid = |name: &str| -> u32 { database.raw().value(&format!("SELECT '{name}'::regtype::oid")).parse().unwrap() };
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for (name, value) in [
        ("watched", "1"),
        ("over_watched", "1"),
        ("watched[]", "{1}"),
        ("typed", "(1)"),
        ("pair", "(1,2)"),
        ("span", "[1,2)"),
    ] {
        let refused = select_parameter(&mut raw, oid(name), value);
        assert!(refused.as_ref().is_some_and(|why| why.contains("no-code")), "{name}: {refused:?}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
    for (name, value) in [("mood", "good"), ("orders", "(1,x)"), ("int4", "1")] {
        assert_eq!(select_parameter(&mut raw, oid(name), value), None, "{name}");
    }
}

#[test]
fn a_column_that_becomes_a_domain_and_statistics_made_beside_the_gate_are_noticed() {
    let (database, role) = database();
    database.run("CREATE TABLE plain_one (a int); CREATE TABLE plain_two (a int)");
    database.run("CREATE FUNCTION steady(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM purge(); RETURN $1; END $$");
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in ["INSERT INTO plain_one (a) VALUES (1)", "ANALYZE plain_two"] {
        assert_eq!(refusal(&mut raw, sql), None, "{sql}");
    }
    database.run("ALTER TABLE plain_one ALTER a TYPE watched; CREATE STATISTICS s ON (steady(a)) FROM plain_two");
    for sql in ["INSERT INTO plain_one (a) VALUES (1)", "ANALYZE plain_two"] {
        eventually("it is noticed", || refusal(&mut raw, sql).filter(|why| why.contains("no-code")));
    }
}

#[test]
fn a_rule_can_let_a_function_pass_by_its_name() {
    let (database, role) = database();
    let rules = "[[rule]]\nname = \"known\"\naction = \"allow\"\neffects = [\"code\"]\nobjects = [\"public.runs\"]\n";
    let gate = Gate::builder().toml(&(section(&role) + rules + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert_eq!(refusal(&mut raw, "SELECT runs('SELECT 1')"), None);
    assert!(refusal(&mut raw, "SELECT purge()").is_some());
}

/// Binds and runs a statement that is prepared.
fn run(raw: &mut Raw, name: &str) -> Option<String> {
    raw.send(m::bind("", name, &[]));
    raw.send(m::execute("", 0));
    raw.send(m::sync());
    error(&raw.until(b'Z'))
}

#[test]
fn a_redefinition_beside_the_gate_is_noticed_also_where_the_statement_is_prepared() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::parse("s", "SELECT twice(1)", &[]));
    raw.send(m::sync());
    assert_eq!(error(&raw.until(b'Z')), None);
    assert_eq!(refusal(&mut raw, "PREPARE q AS SELECT twice(1)"), None);
    for _ in 0..3 {
        assert_eq!((run(&mut raw, "s"), refusal(&mut raw, "EXECUTE q")), (None, None));
    }
    let body = |body: &str| {
        database.run(&format!("CREATE OR REPLACE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS $$ {body} $$"));
    };
    body("DELETE FROM orders WHERE id = x RETURNING 1");
    eventually("the redefinition is noticed", || {
        let refused = run(&mut raw, "s");
        // What ran before it was noticed is put back.
        if refused.is_none() {
            database.run("INSERT INTO orders VALUES (1, '') ON CONFLICT DO NOTHING");
        }
        refused.filter(|why| why.contains("no-code"))
    });
    assert!(refusal(&mut raw, "EXECUTE q").is_some_and(|why| why.contains("no-code")));
    assert!(refusal(&mut raw, "SELECT twice(1)").is_some_and(|why| why.contains("no-code")));
    assert!(refusal(&mut raw, "SELECT quadruple(1)").is_some_and(|why| why.contains("no-code")), "what calls it, too");
    body("SELECT x * 2");
    eventually("the other one as well", || run(&mut raw, "s").is_none().then_some(()));
    assert_eq!((refusal(&mut raw, "EXECUTE q"), refusal(&mut raw, "SELECT quadruple(1)")), (None, None));
    database.run("CREATE OR REPLACE VIEW plain AS SELECT purge()::bigint AS t");
    eventually("a view is noticed as well", || refusal(&mut raw, "SELECT * FROM plain"));
}

#[test]
fn what_a_session_redefines_itself_counts_at_once() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let script = "SELECT twice(1);\nBEGIN;\nCREATE OR REPLACE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS \
        $$ DELETE FROM orders WHERE id = x RETURNING 1 $$;\nSELECT twice(2);\nCOMMIT;\n";
    let target = gate.target();
    let psql = std::thread::spawn(move || Psql::new(&target).script(script));
    gate.api().approve(&gate.api().wait_held("CREATE OR REPLACE"));
    let id = gate.api().wait_held("SELECT twice(2)");
    gate.api().reject(&id, "no");
    assert_ne!(psql.join().unwrap().status, Some(0));
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5");
    // What it has made, and committed, is looked at before the next statement is judged.
    let target = gate.target();
    let script = "CREATE FUNCTION fresh() RETURNS int LANGUAGE sql AS 'SELECT 7';\nSELECT fresh();\n";
    let psql = std::thread::spawn(move || Psql::new(&target).script(script));
    gate.api().approve(&gate.api().wait_held("CREATE FUNCTION fresh"));
    assert_eq!(psql.join().unwrap().ok().trim(), "7", "nobody was asked about it");
}

#[test]
fn where_nobody_can_look_every_call_of_a_function_is_refused_and_health_says_why() {
    let (database, _) = database();
    let gate = Gate::builder().toml(&(section("no_such_role_here") + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert!(refusal(&mut raw, "SELECT total()").is_some_and(|why| why.contains("no-code")));
    assert_eq!(refusal(&mut raw, "SELECT count(*), max(id) FROM orders"), None, "the server's own are known");
    let health = eventually("health says so", || {
        let health = gate.api().get("/health");
        health["functions"][0]["why"].as_str().is_some_and(|why| why.contains("no_such_role_here")).then_some(health)
    });
    assert_eq!(health["status"], "degraded");
    assert!(health["reasons"].to_string().contains("functions of the database"), "{health}");
}

#[test]
fn health_is_well_once_somebody_has_looked() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert_eq!(refusal(&mut raw, "SELECT total()"), None);
    let health = gate.api().get("/health");
    assert_eq!((&health["status"], &health["functions"]), (&"ok".into(), &serde_json::json!([])));
}

#[test]
fn an_extension_that_is_known_to_be_harmless_passes_and_another_does_not() {
    let (database, role) = database();
    database.run("CREATE EXTENSION pgcrypto; CREATE EXTENSION citext; CREATE EXTENSION old_snapshot");
    let gate = Gate::builder().toml(&(section(&role) + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in ["SELECT digest('x', 'sha256')", "SELECT 'a'::citext = 'A'", "SELECT citext('x')"] {
        assert_eq!(refusal(&mut raw, sql), None, "{sql}");
    }
    let sql = "SELECT count(*) FROM pg_old_snapshot_time_mapping()";
    assert!(refusal(&mut raw, sql).is_some_and(|why| why.contains("no-code")));
    let more = "harmless_extensions = [\"old_snapshot\"]\n";
    let gate = Gate::builder().toml(&(section(&role) + more + REFUSING)).start(database.target());
    assert_eq!(refusal(&mut Raw::login(&gate.target()), sql), None);
}

#[test]
fn functions_are_not_looked_up_where_that_is_switched_off() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&(section(&role) + "functions = false\n" + REFUSING)).start(database.target());
    assert_eq!(refusal(&mut Raw::login(&gate.target()), "SELECT purge()"), None);
}
