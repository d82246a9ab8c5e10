//! The hash of definitions: the same as long as nothing was redefined, another as soon as something was.

use querygate::impact::{changes, digest, headlines, measure, summary};

use crate::stage::Stage;

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, x int, y text); CREATE TABLE parent (id int PRIMARY KEY); \
    CREATE TABLE child (t int REFERENCES t ON DELETE CASCADE, n int); CREATE VIEW v AS SELECT id, x FROM t; \
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'; \
    CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f(); CREATE TABLE elsewhere (x int)";

fn fingerprint(stage: &Stage, text: &str) -> String {
    let impact = stage.probe(text);
    impact.fingerprint.known().unwrap_or_else(|| panic!("{impact:?}")).clone()
}

#[test]
fn rows_statistics_and_other_tables_leave_it_alone() {
    let stage = Stage::new(SCHEMA);
    let before = fingerprint(&stage, "DELETE FROM t WHERE x = 1");
    for change in [
        "INSERT INTO t VALUES (1, 1, 'a')",
        "ANALYZE t",
        "VACUUM t",
        "CREATE INDEX ON t (y)",
        "ALTER TABLE elsewhere ADD COLUMN y int",
        "CREATE TABLE more (x int)",
    ] {
        stage.database.run(change);
        assert_eq!(fingerprint(&stage, "DELETE FROM t WHERE x = 1"), before, "{change}");
    }
}

#[test]
fn every_redefinition_shows() {
    let stage = Stage::new(SCHEMA);
    let text = "DELETE FROM t WHERE x = 1";
    let mut before = fingerprint(&stage, text);
    for change in [
        "ALTER TABLE t ADD COLUMN z int",
        "ALTER TABLE t RENAME COLUMN z TO zz",
        "ALTER TABLE t ALTER COLUMN zz TYPE bigint",
        "ALTER TABLE t ALTER COLUMN zz SET DEFAULT 4",
        "ALTER TABLE t DROP COLUMN zz",
        "ALTER TABLE t ADD CHECK (x > 0)",
        "CREATE UNIQUE INDEX ON t (x)",
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER TABLE t DISABLE TRIGGER g",
        "CREATE TRIGGER h BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "DROP TRIGGER h ON t",
        "CREATE RULE r AS ON DELETE TO t DO ALSO SELECT 1",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (x > 1)",
        "ALTER POLICY p ON t USING (x > 2)",
        "ALTER TABLE t DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE grandchild (t int REFERENCES t ON DELETE SET NULL)",
        "ALTER TABLE child ADD COLUMN more int",
        "CREATE TABLE heir () INHERITS (t)",
        "DROP TABLE child; CREATE TABLE child (t int REFERENCES t ON DELETE CASCADE, n int)",
        "DROP TABLE heir",
    ] {
        stage.database.run(change);
        let after = fingerprint(&stage, text);
        assert_ne!(after, before, "{change}");
        before = after;
    }
}

#[test]
fn a_view_rests_on_its_definition_and_its_tables() {
    let stage = Stage::new(SCHEMA);
    let text = "DELETE FROM v WHERE x = 1";
    let mut before = fingerprint(&stage, text);
    for change in [
        "CREATE OR REPLACE VIEW v AS SELECT id, x FROM t WHERE x > 0",
        "ALTER TABLE t ALTER COLUMN y SET NOT NULL",
        "DROP VIEW v; CREATE VIEW v AS SELECT id, x FROM t WHERE x > 0",
    ] {
        stage.database.run(change);
        let after = fingerprint(&stage, text);
        assert_ne!(after, before, "{change}");
        before = after;
    }
}

#[test]
fn functions_operators_and_casts_of_somebodys_own_are_part_of_it() {
    let stage = Stage::new(SCHEMA);
    let text = "DELETE FROM t WHERE own(x) > 1";
    let mut before = fingerprint(&stage, text);
    for change in [
        "CREATE FUNCTION own(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION own(int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "CREATE FUNCTION larger(int, text) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
         CREATE OPERATOR > (leftarg = int, rightarg = text, function = larger)",
        "CREATE TYPE mood AS ENUM ('a'); CREATE CAST (int AS mood) WITH INOUT",
    ] {
        stage.database.run(change);
        let after = fingerprint(&stage, text);
        assert_ne!(after, before, "{change}");
        before = after;
    }
}

#[test]
fn functions_behind_what_it_touches_are_part_of_it() {
    let functions = "CREATE FUNCTION own(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
        CREATE FUNCTION later() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
        CREATE FUNCTION inner_one(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
        CREATE FUNCTION atomic_one(int) RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT inner_one($1); END;";
    for (of, behind) in [
        ("own(int)", "CREATE VIEW w AS SELECT * FROM t WHERE own(x)"),
        ("own(int)", "CREATE POLICY p ON t USING (own(x))"),
        ("own(int)", "ALTER TABLE t ADD CHECK (own(x))"),
        ("own(int)", "CREATE DOMAIN d AS int CHECK (own(VALUE)); ALTER TABLE t ADD d d"),
        ("own(int)", "CREATE RULE r AS ON DELETE TO t DO ALSO SELECT own(old.x)"),
        ("own(int)", "CREATE OPERATOR !!! (rightarg = int, function = own); CREATE POLICY p ON t USING (!!! x)"),
        ("later()", "ALTER TABLE t ADD z int DEFAULT later()"),
        ("inner_one(int)", "CREATE POLICY p ON t USING (atomic_one(x))"),
    ] {
        let stage = Stage::new(&format!("{SCHEMA}; {functions} {behind}"));
        let text = if behind.contains("VIEW") { "DELETE FROM w" } else { "DELETE FROM t" };
        let before = fingerprint(&stage, text);
        let (returns, body) = if of == "later()" { ("int", "SELECT 2") } else { ("bool", "SELECT false") };
        stage.database.run(&format!("CREATE OR REPLACE FUNCTION {of} RETURNS {returns} LANGUAGE sql AS '{body}'"));
        assert_ne!(fingerprint(&stage, text), before, "{behind}");
    }
}

#[test]
fn a_body_in_standard_sql_is_part_of_a_function() {
    let stage = Stage::new(SCHEMA);
    let text = "DELETE FROM t WHERE own(x)";
    let define = |body: &str| {
        stage.database.run(&format!("CREATE OR REPLACE FUNCTION own(i int) RETURNS bool LANGUAGE sql RETURN {body}"));
    };
    define("i = 1");
    let before = fingerprint(&stage, text);
    define("true");
    assert_ne!(fingerprint(&stage, text), before);
}

#[test]
fn another_table_of_the_name_in_front_shows() {
    let stage = Stage::new(SCHEMA);
    let told = differs(&stage, "DELETE FROM t", "CREATE SCHEMA postgres; CREATE TABLE postgres.t (id int)");
    assert_eq!(told[0], "t means postgres.t now, public.t before");
    assert!(told.len() > 1, "and its definitions are others: {told:?}");
}

const OWN: &str = "CREATE FUNCTION own(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM other WHERE x = 1; RETURN 1; END'; \
    CREATE FUNCTION \"Outer\"() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM own(1); RETURN 1; END'; \
    CREATE PROCEDURE pr() LANGUAGE sql AS 'SELECT own(2)'; CREATE TABLE other (x int)";

/// What differs, once `change` was made.
fn differs(stage: &Stage, text: &str, change: &str) -> Vec<String> {
    let before = stage.probe(text);
    assert!(before.fingerprint.known().is_some(), "{text}: {before:?}");
    stage.database.run(change);
    changes(&before, &stage.probe(text), 0.1)
}

#[test]
fn what_cannot_be_walked_rests_on_all_that_its_words_may_mean() {
    let redefined = "CREATE OR REPLACE FUNCTION own(int) RETURNS int LANGUAGE sql AS 'DELETE FROM other; SELECT 1'";
    for text in [
        "SELECT own(1)",
        "SELECT public . OWN ( 1 )",
        "SELECT \"Outer\"()",
        "CALL pr()",
        "DO $$ BEGIN PERFORM own(1); END $$",
        "DROP FUNCTION own(int)",
        "ALTER FUNCTION own(int) OWNER TO postgres",
        "SELECT (1).own",
        "DELETE FROM nosuch WHERE own(x) = 1",
        "DELETE FROM t WHERE public.own(x) = 1",
        "DELETE FROM t; CALL pr()",
        "UPDATE t SET x = public.own(x)",
        "DELETE FROM t RETURNING public.own(x)",
        "INSERT INTO t VALUES (public.own(1))",
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET x = public.own(1)",
        "PREPARE x AS DELETE FROM t WHERE x = own(1); EXECUTE x",
    ] {
        let stage = Stage::new(&format!("{SCHEMA}; {OWN}"));
        assert_eq!(differs(&stage, text, redefined), ["function public.own(integer) was redefined"], "{text}");
        assert_eq!(differs(&stage, text, "SELECT 1"), [""; 0], "{text}");
    }
    // An overload that would be called instead, and what the body of a function names.
    let stage = Stage::new(&format!("{SCHEMA}; {OWN}"));
    let overload = "CREATE FUNCTION own(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'";
    assert_eq!(differs(&stage, "CALL pr()", overload), ["function public.own(bigint) is new"]);
    let column = "ALTER TABLE other ADD COLUMN y int";
    assert_eq!(differs(&stage, "SELECT \"Outer\"()", column), ["column public.other.y is new"]);
}

#[test]
fn tables_of_what_is_not_looked_into_are_compared_all_the_same() {
    for text in [
        "WITH gone AS (DELETE FROM t RETURNING x) SELECT * FROM gone",
        "MERGE INTO t USING child c ON c.t = t.id WHEN MATCHED THEN DELETE",
        "MERGE INTO child c USING t ON c.t = t.id WHEN MATCHED THEN DELETE",
        "VACUUM FULL t",
        "REINDEX TABLE public.t",
        "ALTER TABLE t SET SCHEMA pg_catalog",
        "ALTER TABLE elsewhere ADD FOREIGN KEY (x) REFERENCES t",
        "GRANT SELECT ON t TO public",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "DELETE FROM t WHERE x IN (SELECT x FROM nosuch)",
        "PREPARE x AS DELETE FROM t; EXECUTE x",
    ] {
        let stage = Stage::new(SCHEMA);
        let told = differs(&stage, text, "ALTER TABLE t ADD COLUMN z int");
        assert_eq!(told, ["column public.t.z is new"], "{text}");
    }
}

#[test]
fn what_is_not_compared_is_said_to_everybody() {
    let executes = "CREATE FUNCTION run() RETURNS int LANGUAGE plpgsql AS 'BEGIN EXECUTE ''DELETE '' || ''FROM t''; RETURN 1; END'";
    let stage = Stage::new(&format!("{SCHEMA}; {executes}"));
    for (text, said) in [
        ("EXECUTE x", "not compared when it is released: what x is, which was prepared before"),
        ("SELECT run()", "not compared when it is released: what public.run() runs with EXECUTE"),
        (
            "DO $$ BEGIN EXECUTE 'DELETE FROM t'; END $$",
            "not compared when it is released: what its DO block runs with EXECUTE",
        ),
        (
            "SELECT U&\"\\0072un\"()",
            "its definitions are not compared when it is released: it writes names with Unicode escapes",
        ),
        ("DROP ROLE nosuch", "what it does is not looked into"),
        ("DROP POLICY p ON t", "which is not known: it is not looked up"),
        ("VACUUM (FULL) t", "concerns public.t"),
        ("CALL pr()", "what it does is not looked into"),
        ("GRANT SELECT ON t TO public", "what it does is not looked into"),
    ] {
        let impact = stage.probe(text);
        for lines in [headlines(&impact), summary(&impact)] {
            assert!(lines.iter().any(|line| line.contains(said)), "{text}: {lines:?}");
        }
        assert!(!digest(&impact).is_empty(), "{text}");
        let measured = measure(&impact, &[], None);
        assert_eq!((measured.rows, measured.complete), (None, text.starts_with("VACUUM")), "{text}");
    }
    let vacuum = stage.one("VACUUM (FULL) t");
    assert_eq!(vacuum.lock.as_deref(), Some("ACCESS EXCLUSIVE"));
    assert!(vacuum.objects[0].table.is_some());
}

#[test]
fn what_cascade_takes_along_is_compared_by_name() {
    let more = "CREATE VIEW v1 AS SELECT 1 AS one; CREATE VIEW v2 AS SELECT * FROM v1; CREATE TYPE mood AS ENUM ('a')";
    for (text, change, told) in [
        ("DROP VIEW v1 CASCADE", "CREATE VIEW v3 AS SELECT * FROM v1", "dependent view public.v3 is new"),
        ("DROP VIEW v1 CASCADE", "CREATE VIEW v4 AS SELECT * FROM v2", "dependent view public.v4 is new"),
        (
            "DROP TABLE elsewhere CASCADE",
            "CREATE VIEW v3 AS SELECT * FROM elsewhere",
            "dependent view public.v3 is new",
        ),
        ("DROP TYPE mood CASCADE", "ALTER TABLE t ADD m mood", "dependent column m of table public.t is new"),
        ("DROP TYPE mood CASCADE", "ALTER TYPE mood ADD VALUE 'b'", "type public.mood was redefined"),
        ("DROP SCHEMA public CASCADE", "CREATE TABLE late (x int)", "dependent table public.late is new"),
        (
            "DROP VIEW v1 CASCADE",
            "DROP VIEW v2; CREATE VIEW v2 AS SELECT 2 AS two FROM v1",
            "dependent view public.v2 was redefined",
        ),
    ] {
        let stage = Stage::new(&format!("{SCHEMA}; {more}"));
        assert_eq!(differs(&stage, text, change), [told], "{text}");
        assert_eq!(differs(&stage, text, "SELECT 1"), [""; 0], "{text}");
    }
    let stage = Stage::new(SCHEMA);
    let lines = summary(&stage.probe("DROP EXTENSION plpgsql CASCADE"));
    assert!(lines.iter().any(|line| line.contains("not compared") && line.contains("CASCADE")), "{lines:?}");
}
