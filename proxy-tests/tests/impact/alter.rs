//! ALTER TABLE, DROP and the session's locks.

use querygate::impact::{AlterWork, Known};

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
fn alter_table_is_never_said_to_be_lighter_than_it_is() {
    let stage = Stage::new(
        "CREATE TABLE other (id int PRIMARY KEY); CREATE TABLE t (x int, y varchar(10), z text, n int NOT NULL DEFAULT 0); \
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
