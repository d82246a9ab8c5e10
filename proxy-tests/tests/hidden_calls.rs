//! Callers of functions that nobody sees in a statement's text: by casts, at plan time, through polymorphic functions, behind names that
//! are known to be dangerous. On a real server; each statement is tried, and nothing may have run.

#![allow(clippy::unwrap_used, reason = "tests")]

use proxy_tests::gate::Gate;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Frame, Raw, eventually};

const SCHEMA: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders SELECT n, '' FROM generate_series(1, 5) n; \
    CREATE FUNCTION purge() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
    CREATE FUNCTION allowed(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN true; END $$; \
    CREATE FUNCTION steady(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM purge(); RETURN $1; END $$; \
    CREATE DOMAIN watched AS int CHECK (allowed(value)); CREATE DOMAIN small AS int CHECK (value < 100); \
    CREATE TYPE mood AS ENUM ('good'); CREATE TABLE moods (a mood, many mood[]); INSERT INTO moods VALUES ('good', '{good}')";

/// What `purge` does once everything that calls it is there.
const PURGES: &str = "CREATE OR REPLACE FUNCTION purge() RETURNS int LANGUAGE plpgsql AS \
    $$ BEGIN DELETE FROM public.orders; RETURN 1; END $$";

/// What is held is refused here, so that no test waits for people.
const REFUSING: &str = "[[rule]]\nname = \"no-code\"\naction = \"reject\"\neffects = [\"code\"]\n\
    [[rule]]\nname = \"rest\"\naction = \"allow\"\n";

/// A database after `SCHEMA`, `more` and `PURGES`, and a gate before it.
fn gate(more: &str) -> (Database, Gate) {
    let database = shared();
    let role = database.unique("looks");
    database.run(&format!("CREATE ROLE {role} LOGIN"));
    database.run(SCHEMA);
    database.run(more);
    database.run(PURGES);
    let section = format!("[impact]\nuser = \"{role}\"\nbudget = \"60s\"\nconnect_timeout = \"60s\"\n");
    let gate = Gate::builder().toml(&(section + REFUSING)).start(database.target());
    (database, gate)
}

fn refusal(raw: &mut Raw, sql: &str) -> Option<String> {
    let frames: Vec<Frame> = raw.query(sql);
    frames.iter().find(|frame| frame.tag == b'E').map(|frame| {
        let parts = [frame.field(b'M'), frame.field(b'D')];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    })
}

/// The first are refused by the rule, the others pass; and nothing has run.
fn check(more: &str, refused: &[&str], passing: &[&str]) {
    let (database, gate) = gate(more);
    let mut raw = Raw::login(&gate.target());
    let wrong = |sql: &&&str, raw: &mut Raw| !refusal(raw, sql).is_some_and(|why| why.contains("no-code"));
    let passed: Vec<_> = refused.iter().filter(|sql| wrong(sql, &mut raw)).collect();
    assert!(passed.is_empty(), "not refused: {passed:#?}");
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing of it has run");
    for sql in passing {
        assert_eq!(refusal(&mut raw, sql), None, "{sql}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
}

#[test]
fn functions_that_are_dangerous_by_name_count_where_nobody_writes_the_name() {
    check(
        "CREATE EXTENSION dblink; CREATE VIEW remote AS SELECT dblink_exec('dbname=x', 'DELETE FROM orders') AS a; \
         CREATE TABLE remotes (a text DEFAULT dblink_exec('dbname=x', 'DELETE FROM orders'), b int); \
         CREATE FUNCTION calls_remote() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT dblink_exec('dbname=x', 'x'); END; \
         CREATE FUNCTION dotted() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN ('dbname=x'::text).dblink_connect; END $$; \
         CREATE FUNCTION schedule() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM orders RETURNING 1; END; \
         CREATE VIEW scheduled AS SELECT schedule() AS a; CREATE TABLE schedules (a int DEFAULT schedule(), b int); \
         CREATE FUNCTION http(orders) RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM orders RETURNING 1; END; \
         CREATE SCHEMA net; CREATE FUNCTION net.told(text) RETURNS text STRICT LANGUAGE c AS '$libdir/dblink', 'dblink_disconnect'; \
         CREATE VIEW tells AS SELECT net.told('x') AS a; \
         CREATE FUNCTION exec_sql(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT $1 + 1; END; \
         CREATE VIEW harmless AS SELECT exec_sql(1) AS a",
        &[
            "SELECT * FROM remote",
            "INSERT INTO remotes (b) VALUES (1)",
            "SELECT calls_remote()",
            "SELECT dotted()",
            "SELECT * FROM scheduled",
            "INSERT INTO schedules (b) VALUES (1)",
            "SELECT o.http FROM orders o",
            "SELECT * FROM tells",
            "SET search_path = net, public; SELECT told('x')",
        ],
        &["SELECT * FROM harmless", "SELECT b FROM schedules"],
    );
}

#[test]
fn casts_that_are_written_count_for_the_servers_own_types_and_for_what_is_made_of_them() {
    check(
        "CREATE FUNCTION mood_int(mood) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN 1; END $$; \
         CREATE CAST (mood AS int) WITH FUNCTION mood_int(mood); \
         CREATE FUNCTION int_mood(int) RETURNS mood LANGUAGE plpgsql AS $$ BEGIN PERFORM purge(); RETURN 'good'; END $$; \
         CREATE CAST (int AS mood) WITH FUNCTION int_mood(int); \
         CREATE TYPE pair AS (a int, b text); CREATE DOMAIN fine AS mood CHECK (value <> 'bad'::text::mood OR true); \
         CREATE FUNCTION casts_whole() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 'good'::mood::integer; END $$; \
         CREATE FUNCTION casts_by_word() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN CAST('good'::mood AS int); END $$; \
         CREATE FUNCTION casts_not() RETURNS int LANGUAGE plpgsql AS $$ DECLARE i integer := 1; BEGIN RETURN i; END $$",
        &[
            "SELECT a::int FROM moods",
            "SELECT CAST(a AS integer) FROM moods",
            "SELECT a::int4 FROM moods",
            "SELECT a::pg_catalog.int4 FROM moods",
            "SELECT a::small FROM moods",
            "SELECT row(a, 'x')::pair FROM moods",
            "SELECT many::int[] FROM moods",
            "SELECT many::_int4 FROM moods",
            "SELECT ARRAY[a]::small[] FROM moods",
            "SELECT 1::mood",
            "SELECT 1::fine",
            "SELECT ARRAY[1]::_mood",
            "SELECT casts_whole()",
            "SELECT casts_by_word()",
        ],
        &["SELECT a::text, '1'::bigint FROM moods", "SELECT casts_not()", "SELECT * FROM moods WHERE a = 'good'"],
    );
}

/// What is evaluated when a statement is planned, not when it runs: expressions of constants.
const PLANNED: &str = "CREATE FUNCTION inlined(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + steady(1)'; \
    CREATE FUNCTION written(int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM purge(); RETURN true; END $$; \
    CREATE TABLE indexed (id int, k int); CREATE INDEX ON indexed ((id + steady(1))); \
    CREATE TABLE inlines (id int); CREATE INDEX ON inlines (inlined(id)); \
    CREATE TABLE partial (id int, k int); CREATE INDEX ON partial (id) WHERE k < steady(100); \
    CREATE TABLE parted (id int) PARTITION BY RANGE ((id + steady(1))); \
    CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100); \
    CREATE TABLE measured (id int, k int); CREATE STATISTICS measures ON (id + steady(1)), k FROM measured; \
    CREATE TABLE checked (id int, k int CHECK (k < steady(100))); \
    CREATE TABLE above (id int); CREATE TABLE below () INHERITS (above); CREATE INDEX ON below ((id + steady(1))); \
    CREATE VIEW through AS SELECT * FROM indexed; \
    CREATE TABLE keys (id int PRIMARY KEY); CREATE INDEX ON keys ((id + steady(1))); CREATE TABLE refers (id int REFERENCES keys); \
    CREATE TABLE of_row (id int, a text); CREATE INDEX ON of_row (steady(id)); \
    CREATE TABLE when_written (id int CHECK (written(1))); \
    CREATE TABLE plain (id int, email text); CREATE INDEX ON plain (lower(email)) WHERE id > 0";

#[test]
fn what_is_evaluated_when_a_statement_is_planned_counts_for_reading() {
    check(
        PLANNED,
        &[
            "SELECT * FROM indexed",
            "EXPLAIN SELECT * FROM indexed",
            "SELECT * FROM inlines",
            "SELECT * FROM partial WHERE id = 1",
            "SELECT * FROM parted",
            "SELECT * FROM part",
            "SELECT * FROM measured WHERE id = 1",
            "SELECT * FROM checked WHERE k = 1",
            "SELECT * FROM above",
            "SELECT * FROM through",
            "INSERT INTO refers VALUES (1)",
            "SELECT steady(id) FROM of_row",
            "INSERT INTO when_written VALUES (1)",
        ],
        &[
            "SELECT * FROM of_row",
            "SELECT * FROM when_written",
            "SELECT * FROM plain WHERE lower(email) = 'x'",
            "INSERT INTO plain VALUES (1, 'x')",
            "SELECT * FROM refers",
            "SELECT * FROM orders",
        ],
    );
}

#[test]
fn a_type_behind_a_dot_is_a_cast_and_counts() {
    check(
        "CREATE TYPE pair AS (a watched); CREATE TABLE named (watched int, small int); \
         CREATE TABLE rows (a watched, b int)",
        &["SELECT (1).watched", "SELECT (o.id).watched FROM orders o", "SELECT o.watched FROM orders o"],
        &["SELECT (1).small", "SELECT n.small FROM named n", "SELECT o.pair FROM (SELECT 1 AS pair) o"],
    );
}

#[test]
fn values_of_a_columns_domain_that_polymorphic_functions_make_count() {
    check(
        "CREATE TABLE typed (a watched, b int); CREATE VIEW over AS SELECT a AS x FROM typed; \
         CREATE FUNCTION five(a anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN RETURN 5; END $$; \
         CREATE FUNCTION declares(a anyelement) RETURNS anyelement LANGUAGE plpgsql AS \
             $$ DECLARE r a%TYPE; BEGIN r := 5; RETURN r; END $$; \
         CREATE FUNCTION pairs(anyelement, anyelement) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
         CREATE FUNCTION same(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'; \
         CREATE OPERATOR ~=~ (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = same); \
         CREATE VIEW hidden AS SELECT pairs(a, '5') AS a FROM typed; \
         CREATE FUNCTION by_text() RETURNS int LANGUAGE sql AS $$ SELECT pairs(a, '5') FROM typed $$; \
         CREATE FUNCTION by_record() RETURNS int LANGUAGE plpgsql AS \
             $$ DECLARE r record; BEGIN SELECT * INTO r FROM typed; r.a := 5; RETURN 1; END $$; \
         CREATE FUNCTION starts(anyelement, int) RETURNS anyelement LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'; \
         CREATE AGGREGATE started(int) (SFUNC = starts, STYPE = watched, INITCOND = '5')",
        &[
            "SELECT five(a) FROM typed",
            "SELECT declares(a) FROM typed",
            "SELECT pairs(a, '5') FROM typed",
            "SELECT a ~=~ '5' FROM typed",
            "SELECT five(x) FROM over",
            "SELECT (t.a).five FROM typed t",
            "SELECT * FROM hidden",
            "SELECT by_text()",
            "SELECT by_record()",
            "SELECT started(id) FROM orders",
        ],
        &[
            "SELECT a, lower('X'), count(*) FROM typed GROUP BY a ORDER BY a",
            "SELECT a FROM typed WHERE a = 5 AND coalesce(a, '5') > 1 AND a IN (1, 2)",
            "SELECT five(id), pairs(id, '5') FROM orders",
        ],
    );
}

#[test]
fn gathering_statistics_of_a_range_whose_differences_write_is_refused() {
    check(
        "CREATE FUNCTION differs(int, int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM purge(); RETURN $1 - $2; END $$; \
         CREATE TYPE span AS RANGE (SUBTYPE = int, SUBTYPE_DIFF = differs); CREATE DOMAIN spans AS span; \
         CREATE TABLE ranges (a span); CREATE TABLE domains (a spans); CREATE TABLE many (a span_multirange); \
         CREATE TABLE lists (a watched[]); CREATE TABLE usual (a int4range)",
        &["ANALYZE ranges", "ANALYZE domains", "ANALYZE many", "VACUUM (ANALYZE) ranges"],
        &["ANALYZE usual", "ANALYZE orders", "ANALYZE lists"],
    );
}

#[test]
fn a_row_type_that_is_renamed_beside_the_gate_is_noticed() {
    let (database, gate) = gate("CREATE TYPE pair AS (a watched); CREATE TABLE plain (a int)");
    let mut raw = Raw::login(&gate.target());
    assert!(refusal(&mut raw, "SELECT row(1)::pair").is_some_and(|why| why.contains("no-code")));
    database.run("ALTER TYPE pair RENAME TO couple");
    eventually("it is noticed", || {
        let why = refusal(&mut raw, "SELECT null::couple");
        why.filter(|why| why.contains("no-code"))
    });
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "5", "nothing has run");
}

/// What applications have: nothing of it writes, so nothing of it is in anybody's way.
#[test]
fn ordinary_definitions_and_extensions_are_in_nobodys_way() {
    check(
        "CREATE EXTENSION pgcrypto; CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm; CREATE EXTENSION citext; CREATE EXTENSION unaccent; \
         CREATE EXTENSION btree_gist; CREATE EXTENSION ltree; CREATE EXTENSION intarray; CREATE EXTENSION pg_stat_statements; \
         CREATE FUNCTION is_email(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 LIKE '%@%'; END $$; \
         CREATE FUNCTION plain_text(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT public.unaccent('public.unaccent', $1) $$; \
         CREATE FUNCTION mood_int(mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE CAST (mood AS int) WITH FUNCTION mood_int(mood); \
         CREATE FUNCTION first_of(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1'; \
         CREATE AGGREGATE first(anyelement) (SFUNC = first_of, STYPE = anyelement); \
         CREATE DOMAIN email AS text CHECK (is_email(value)); CREATE TYPE floats AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi); \
         CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email email UNIQUE, nick citext, tags hstore, a mood DEFAULT 'good', \
            span floats, path ltree, whole text GENERATED ALWAYS AS (lower(nick::text)) STORED, at timestamptz DEFAULT now(), \
            EXCLUDE USING gist (span WITH &&)); \
         CREATE INDEX ON people (lower(email)); CREATE INDEX ON people (plain_text(email)) WHERE is_email(email); \
         CREATE INDEX ON people USING gin (whole gin_trgm_ops); CREATE STATISTICS s ON lower(email), id FROM people; \
         CREATE TABLE events (id int, at date CHECK (at > '2000-01-01'::date)) PARTITION BY RANGE (at); \
         CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        &["SELECT purge()"],
        &[
            "INSERT INTO people (email, nick, tags, span) VALUES ('a@b', 'Ann', 'a=>1', '[1,2)')",
            "INSERT INTO people (email, nick) VALUES ('c@d', 'Bob') ON CONFLICT (email) DO UPDATE SET nick = excluded.nick",
            "SELECT p.email, p.nick = 'ann', tags -> 'a', a::text, a::int, span && '[1,3)' FROM people p WHERE lower(p.email) = 'a@b'",
            "SELECT digest(email, 'sha256'), gen_random_uuid(), similarity(nick::text, 'x'), first(id) FROM people GROUP BY 1, 2, 3",
            "SELECT plain_text(email), hstore(p), '1'::int, 'x@y'::email, ARRAY[1]::bigint[] FROM people p",
            "EXPLAIN SELECT * FROM people WHERE plain_text(email) = 'a'",
            "INSERT INTO events VALUES (1, '2024-05-05')",
            "SELECT * FROM events WHERE at = '2024-05-05'",
            "UPDATE people SET at = now() WHERE id = 1",
            "ANALYZE people",
            "ANALYZE",
            "SELECT count(*) FROM pg_stat_user_tables, pg_class c WHERE c.relname = 'x' AND c.oid = 'people'::regclass",
        ],
    );
}

#[test]
fn in_a_database_of_another_encoding_long_names_are_those_of_the_server() {
    let database = shared();
    let name = database.unique("latin");
    database.run(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"));
    let role = database.unique("looks");
    database.run(&format!("CREATE ROLE {role} LOGIN"));
    let target = database.target().with_database(&name);
    let mut admin = Raw::login(&target);
    let (long, fine) = ("é".repeat(40), "à".repeat(40));
    for sql in [
        "SET client_encoding = 'UTF8'",
        SCHEMA,
        PURGES,
        &format!("CREATE VIEW {long} AS SELECT purge() AS a; CREATE TABLE {fine} (a int)"),
        &format!("CREATE FUNCTION {fine}() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ] {
        assert_eq!(refusal(&mut admin, sql), None, "{sql}");
    }
    let section = format!("[impact]\nuser = \"{role}\"\nbudget = \"60s\"\nconnect_timeout = \"60s\"\n");
    let gate = Gate::builder().toml(&(section + REFUSING)).start(database.target());
    let mut raw = Raw::login(&gate.target().with_database(&name));
    assert_eq!(refusal(&mut raw, "SET client_encoding = 'UTF8'"), None);
    let held = refusal(&mut raw, &format!("SELECT * FROM {long}"));
    assert!(held.as_ref().is_some_and(|why| why.contains("no-code")), "{held:?}");
    for sql in [format!("SELECT * FROM {fine}"), format!("SELECT {fine}()")] {
        assert_eq!(refusal(&mut raw, &sql), None, "{sql}");
    }
    assert_eq!(admin.value("SELECT count(*) FROM orders"), "5", "nothing has run");
}
