//! ALTER TABLE, DROP and the session's locks.

use querygate::impact::{AlterWork, Known, summary};

use crate::stage::{Stage, block_on, exact};

/// Whether the table's file was replaced by the statement.
fn rewrites(stage: &Stage, text: &str) -> bool {
    let mut raw = stage.database.raw();
    raw.query("BEGIN");
    let before = raw.value("SELECT pg_relation_filenode('t')");
    let frames = raw.query(text);
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{text}: {frames:?}");
    let rewritten = raw.value("SELECT pg_relation_filenode('t')") != before;
    raw.query("ROLLBACK");
    rewritten
}

/// The strongest lock the statement holds on the table.
fn lock(stage: &Stage, text: &str) -> String {
    let mut raw = stage.database.raw();
    raw.query("BEGIN");
    raw.query(text);
    let modes = raw.value(
        "SELECT string_agg(upper(regexp_replace(replace(mode, 'Lock', ''), '(?<=[a-z])([A-Z])', ' \\1', 'g')), ',') \
         FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 't'::regclass",
    );
    raw.query("ROLLBACK");
    let order =
        ["ACCESS SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"];
    let rank = |mode: &&str| order.iter().position(|known| known == mode).unwrap_or_else(|| panic!("{modes}"));
    modes.split(',').max_by_key(rank).unwrap().to_owned()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, a line for each statement")]
fn alter_table_is_never_said_to_be_lighter_than_it_is() {
    let stage = Stage::new(
        "CREATE TABLE other (id int PRIMARY KEY); CREATE TABLE t (x int, y varchar(10), z text, n int NOT NULL DEFAULT 0); \
         ALTER TABLE t ADD nu numeric(5,2), ADD na numeric, ADD ts timestamp(3), ADD ch char(5), ADD c cidr, \
           ADD keyed varchar(10), ADD half varchar(10), ADD ck varchar(10) CHECK (ck <> ''); \
         CREATE INDEX ON t (keyed); CREATE INDEX ON t (x) WHERE half = 'a'; CREATE INDEX ON t (c inet_ops); \
         CREATE FUNCTION public.stamp() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
         INSERT INTO t SELECT n, 'y', 'z' FROM generate_series(1, 10) AS n; INSERT INTO other SELECT generate_series(1, 10)",
    );
    for (text, work) in [
        ("ALTER TABLE t ADD COLUMN a int", AlterWork::Catalogue),
        ("ALTER TABLE t ADD COLUMN a int DEFAULT 5", AlterWork::Catalogue),
        ("ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid()", AlterWork::Rewrite),
        ("ALTER TABLE t ADD COLUMN a serial", AlterWork::Rewrite),
        ("ALTER TABLE t ADD COLUMN a int GENERATED ALWAYS AS IDENTITY", AlterWork::Rewrite),
        ("ALTER TABLE t ADD COLUMN a int GENERATED ALWAYS AS (x + 1) STORED", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN x TYPE bigint", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN y TYPE text", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN z TYPE varchar", AlterWork::Catalogue),
        ("ALTER TABLE t ADD COLUMN a timestamptz DEFAULT now()", AlterWork::Catalogue),
        ("ALTER TABLE t ADD COLUMN a timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP", AlterWork::Catalogue),
        ("ALTER TABLE t ADD COLUMN a date DEFAULT (now() - interval '1 day')::date", AlterWork::Catalogue),
        ("ALTER TABLE t ADD COLUMN a timestamptz DEFAULT clock_timestamp()", AlterWork::Rewrite),
        ("ALTER TABLE t ADD COLUMN a float8 DEFAULT 1 + random()", AlterWork::Rewrite),
        ("ALTER TABLE t ADD COLUMN a int DEFAULT stamp()", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN y TYPE varchar(20)", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN y TYPE varchar(10)", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN y TYPE varchar", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN y TYPE varchar(5)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN z TYPE varchar(20)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN keyed TYPE varchar(20)", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN keyed TYPE text", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN half TYPE varchar(20)", AlterWork::Scan),
        ("ALTER TABLE t ALTER COLUMN ck TYPE varchar(20)", AlterWork::Scan),
        ("ALTER TABLE t ALTER COLUMN nu TYPE numeric(10,2)", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN nu TYPE numeric", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN nu TYPE numeric(10,3)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN nu TYPE numeric(10)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN nu TYPE numeric(4,2)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN na TYPE numeric(10,2)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN ts TYPE timestamp(6)", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN ts TYPE timestamp(2)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN ts TYPE timestamp", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN ch TYPE char(6)", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN ch TYPE text", AlterWork::Rewrite),
        ("ALTER TABLE t ALTER COLUMN c TYPE inet", AlterWork::Scan),
        ("ALTER TABLE t ALTER COLUMN x SET NOT NULL", AlterWork::Scan),
        ("ALTER TABLE t ALTER COLUMN n DROP NOT NULL", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN x SET DEFAULT 4", AlterWork::Catalogue),
        ("ALTER TABLE t ALTER COLUMN x SET STATISTICS 5", AlterWork::Catalogue),
        ("ALTER TABLE t DROP COLUMN y", AlterWork::Catalogue),
        ("ALTER TABLE t ADD CHECK (x > 0)", AlterWork::Scan),
        ("ALTER TABLE t ADD CHECK (x > 0) NOT VALID", AlterWork::Catalogue),
        ("ALTER TABLE t ADD FOREIGN KEY (x) REFERENCES other", AlterWork::Scan),
        ("ALTER TABLE t ADD FOREIGN KEY (x) REFERENCES other NOT VALID", AlterWork::Catalogue),
        ("ALTER TABLE t ADD PRIMARY KEY (x)", AlterWork::Scan),
        ("ALTER TABLE t SET UNLOGGED", AlterWork::Rewrite),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", AlterWork::Catalogue),
        ("ALTER TABLE t SET (fillfactor = 70)", AlterWork::Catalogue),
        ("ALTER TABLE t DISABLE TRIGGER USER", AlterWork::Catalogue),
        ("ALTER TABLE t REPLICA IDENTITY FULL", AlterWork::Catalogue),
        ("ALTER TABLE t OWNER TO postgres", AlterWork::Catalogue),
        ("ALTER TABLE t RENAME COLUMN x TO xx", AlterWork::Catalogue),
        ("ALTER TABLE t CLUSTER ON nosuch", AlterWork::Catalogue),
    ] {
        let statement = stage.one(text);
        assert_eq!(statement.alter.len(), 1, "{text}");
        assert_eq!(statement.alter[0].work, work, "{text}");
        if text.contains("nosuch") {
            continue;
        }
        assert_eq!(rewrites(&stage, text), work == AlterWork::Rewrite, "{text}");
        let real = lock(&stage, text);
        // Storage parameters differ among themselves; the strongest is said.
        if !text.contains("fillfactor") {
            assert_eq!(statement.lock.as_deref(), Some(real.as_str()), "{text}");
        }
    }
    let statement = stage.one("ALTER TABLE t OF nosuch, ALTER COLUMN x SET STATISTICS 5");
    assert_eq!(statement.alter[0].work, AlterWork::Unknown);
    assert_eq!(statement.lock.as_deref(), Some("ACCESS EXCLUSIVE"));
}

/// Said to be done in the catalogue alone is what a temporary type or another collation makes a rewrite, or an index anew.
#[test]
fn a_type_that_may_be_another_or_sort_otherwise_is_said_to_rewrite() {
    let stage = Stage::new("CREATE TABLE t (y varchar(10), em varchar(10) COLLATE \"C\")");
    let work = |text: &str| stage.one(text).alter[0].work;
    assert_eq!(work("ALTER TABLE t ALTER COLUMN em TYPE text"), AlterWork::Rewrite);
    assert_eq!(work("ALTER TABLE t ALTER COLUMN y TYPE text COLLATE \"C\""), AlterWork::Rewrite);
    assert_eq!(work("ALTER TABLE t ALTER COLUMN y TYPE text"), AlterWork::Catalogue);
    assert_eq!(work("ALTER TABLE t ADD COLUMN a text DEFAULT lower('A')"), AlterWork::Catalogue);
    let mut raw = stage.database.raw();
    raw.query("CREATE DOMAIN pg_temp.text AS text CHECK (value <> '')");
    assert_eq!(work("ALTER TABLE t ALTER COLUMN y TYPE text"), AlterWork::Rewrite);
    assert_eq!(work("ALTER TABLE t ADD COLUMN a text"), AlterWork::Rewrite);
}

#[test]
fn an_alter_that_drops_parts_lists_what_hangs_on_them() {
    let stage = Stage::new(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int, CONSTRAINT c CHECK (b > 0)); CREATE INDEX ON t (a); \
         CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT * FROM v; CREATE TABLE child (t int REFERENCES t); \
         CREATE TABLE heir () INHERITS (t); CREATE VIEW of_heir AS SELECT b FROM heir",
    );
    for (text, listed) in [
        ("ALTER TABLE t DROP COLUMN a", &["view public.v", "view public.w"] as &[&str]),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", &["constraint child_t_fkey on table public.child"]),
        ("ALTER TABLE t DROP COLUMN id", &["constraint child_t_fkey on table public.child"]),
        ("ALTER TABLE t DROP COLUMN b", &["view public.of_heir"]),
        ("ALTER TABLE ONLY t DROP COLUMN b", &[]),
        ("ALTER TABLE t DROP CONSTRAINT c", &[]),
        ("ALTER TABLE t DROP COLUMN IF EXISTS nosuch", &[]),
        (
            "ALTER TABLE t ADD COLUMN d int, DROP CONSTRAINT t_pkey, DROP COLUMN a",
            &["constraint child_t_fkey on table public.child", "view public.v", "view public.w"],
        ),
    ] {
        for (suffix, cascade) in [("", false), (" CASCADE", true)] {
            let impact = stage.probe(&format!("{text}{suffix}"));
            let said = summary(&impact).join("\n");
            let statement = crate::stage::one(impact);
            let Some(Known::Known(dependents)) = statement.dependents else { panic!("{text}: {statement:?}") };
            assert_eq!(
                (dependents.listed.as_slice(), dependents.cascade),
                (listed.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>().as_slice(), cascade),
                "{text}"
            );
            let says = if cascade { "CASCADE drops as well" } else { "it fails, because there depends on it" };
            assert_eq!(said.contains(says), !listed.is_empty(), "{text}: {said}");
        }
        let mut raw = stage.database.raw();
        raw.query("BEGIN");
        let refused = raw.query(text).iter().any(|frame| frame.tag == b'E');
        assert_eq!(refused, !listed.is_empty(), "{text}");
    }
    let statement = stage.one("ALTER TABLE t DROP COLUMN nosuch");
    assert!(matches!(statement.dependents, Some(Known::Unknown(_))), "{statement:?}");
    assert_eq!(stage.one("ALTER TABLE t ADD COLUMN e int").dependents, None);
}

#[test]
fn what_postgres_refuses_whatever_rows_there_are_is_said() {
    let stage = Stage::new(
        "CREATE TABLE t (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY); CREATE TABLE child (t int REFERENCES t); \
         CREATE VIEW joined AS SELECT t.id FROM t JOIN child ON child.t = t.id; CREATE VIEW simple AS SELECT id FROM t; \
         CREATE SCHEMA s; CREATE TABLE s.x AS SELECT generate_series(1, 10) AS x; ANALYZE s.x",
    );
    for (text, says) in [
        ("TRUNCATE t", "fails without CASCADE, because a foreign key of public.child refers to it"),
        ("UPDATE joined SET id = 1", "it fails, because Postgres cannot change the view public.joined"),
        ("DELETE FROM joined", "it fails, because Postgres cannot change the view public.joined"),
        (
            "DROP SEQUENCE t_n_seq CASCADE",
            "it fails, because column n of table public.t requires sequence public.t_n_seq",
        ),
        ("DROP INDEX t_pkey", "it fails, because constraint t_pkey on table public.t requires index public.t_pkey"),
    ] {
        let said = summary(&stage.probe(text)).join("\n");
        assert!(said.contains(says), "{text}: {said}");
        let mut raw = stage.database.raw();
        raw.query("BEGIN");
        assert!(raw.query(text).iter().any(|frame| frame.tag == b'E'), "{text}");
    }
    for text in ["TRUNCATE child", "UPDATE simple SET id = 1", "DROP VIEW simple", "DROP SCHEMA s CASCADE"] {
        let said = summary(&stage.probe(text)).join("\n");
        // A foreign key behind the view is another matter: that depends on its rows.
        assert!(!said.contains("it fails") && !said.contains("fails without"), "{text}: {said}");
    }
    let said = summary(&stage.probe("DROP SCHEMA s CASCADE")).join("\n");
    assert!(said.contains("in the schema there are 1 tables with 8,192 bytes, about 10 rows"), "{said}");
    let lock = stage.one("LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE").lock;
    assert_eq!(lock.as_deref(), Some("SHARE ROW EXCLUSIVE"));
}

#[test]
fn rows_of_partitions_count_once() {
    let stage = Stage::new(
        "CREATE TABLE p (x int) PARTITION BY RANGE (x); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000); \
         INSERT INTO p SELECT generate_series(1, 500); ANALYZE p",
    );
    let statement = stage.one("DELETE FROM p");
    let facts = statement.objects[0].table.clone().unwrap().known().cloned().unwrap();
    assert_eq!(facts.reltuples, Some(500.0));
}

#[test]
fn drops_list_what_hangs_on_them() {
    let stage = Stage::new(
        "CREATE TABLE t (id serial PRIMARY KEY, self int REFERENCES t); CREATE INDEX ON t (self); INSERT INTO t VALUES (1), (2); \
         CREATE VIEW v AS SELECT id FROM t; CREATE VIEW w AS SELECT * FROM v; CREATE TABLE child (t int REFERENCES t); \
         CREATE TABLE alone (id serial PRIMARY KEY, a text DEFAULT 'x', CHECK (id > 0)); \
         CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE TABLE uses (x int DEFAULT f(1)); CREATE TYPE mood AS ENUM ('a'); CREATE TABLE moody (m mood); \
         CREATE SCHEMA s; CREATE TABLE s.x (x int)",
    );
    for (text, listed) in [
        (
            "DROP TABLE t",
            &["constraint child_t_fkey on table public.child", "view public.v", "view public.w"] as &[&str],
        ),
        ("DROP VIEW v", &["view public.w"]),
        ("DROP TABLE alone", &[]),
        ("DROP FUNCTION f(int)", &["default value for column x of table public.uses"]),
        ("DROP FUNCTION f(text)", &[]),
        ("DROP TYPE mood", &["column m of table public.moody"]),
        ("DROP SCHEMA s", &["table s.x"]),
    ] {
        for (suffix, cascade) in [("", false), (" CASCADE", true)] {
            let statement = stage.one(&format!("{text}{suffix}"));
            let Some(Known::Known(dependents)) = statement.dependents else { panic!("{text}: {statement:?}") };
            assert_eq!(dependents.listed, listed, "{text}");
            assert_eq!((dependents.cascade, dependents.more), (cascade, false));
        }
        // Postgres agrees that something, or nothing, stands in the way.
        let mut raw = stage.database.raw();
        raw.query("BEGIN");
        let refused = raw.query(text).iter().any(|frame| frame.tag == b'E');
        assert_eq!(refused, !listed.is_empty(), "{text}");
    }
    let statement = stage.one("DROP TABLE t");
    assert_eq!(exact(&crate::stage::rows(&statement)), 2);
    let statement = stage.one("DROP FUNCTION f");
    assert!(statement.objects[0].resolved.unknown().unwrap().contains("several"), "{statement:?}");
}

#[test]
fn the_sessions_locks_and_who_waits_for_them_are_listed() {
    let stage = Stage::new("CREATE TABLE t (x int); CREATE TABLE u (x int)");
    let mut session = stage.database.raw();
    let pid: i32 = session.value("SELECT pg_backend_pid()").parse().unwrap();
    session.rows("BEGIN");
    session.rows("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    session.rows("INSERT INTO u VALUES (1)");
    let mut waiting = stage.database.raw();
    let waiter: i32 = waiting.value("SELECT pg_backend_pid()").parse().unwrap();
    waiting.send(proxy_tests::message::query("SELECT * FROM t"));
    let mut watch = stage.database.raw();
    while watch.value(&format!("SELECT count(*) FROM pg_locks WHERE pid = {waiter} AND NOT granted")) == "0" {}
    let mut ask = stage.ask("DELETE FROM u");
    ask.backend_pid = Some(pid);
    ask.in_transaction = true;
    let impact = block_on(stage.prober().probe(&ask));
    let Some(Known::Known(locks)) = &impact.session else { panic!("{impact:?}") };
    assert_eq!(locks.held, ["AccessExclusiveLock on public.t", "RowExclusiveLock on public.u"]);
    assert_eq!(locks.waiting.iter().map(|waiting| waiting.pid).collect::<Vec<_>>(), [waiter]);
    assert!(impact.notes.iter().any(|note| note.contains("transaction")), "{impact:?}");
}
