//! The hash of definitions: the same as long as nothing was redefined, another as soon as something was.

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
    let before = fingerprint(&stage, "DELETE FROM t");
    stage.database.run("CREATE SCHEMA postgres; CREATE TABLE postgres.t (id int)");
    assert_ne!(fingerprint(&stage, "DELETE FROM t"), before);
}

#[test]
fn what_was_not_wholly_looked_up_has_no_fingerprint() {
    let stage = Stage::new(SCHEMA);
    for text in [
        "DELETE FROM nosuch",
        "DELETE FROM t WHERE x IN (SELECT x FROM nosuch)",
        "DELETE FROM t WHERE public.unknown_function(x)",
        "DELETE FROM t; CALL f()",
        "UPDATE t SET x = public.own(x)",
        "DELETE FROM t RETURNING public.own(x)",
        "INSERT INTO t VALUES (public.own(1))",
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET x = public.own(1)",
        "DO $$ BEGIN END $$",
        "DROP FUNCTION f()",
    ] {
        let impact = stage.probe(text);
        assert_eq!(impact.fingerprint.known(), None, "{text}");
    }
}
