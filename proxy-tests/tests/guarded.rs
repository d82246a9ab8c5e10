//! Guarded execution: what a rule's `guard` does to a released statement on a real server, and what it leaves behind: nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::api::Approver;
use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::raw::{Frame, Raw, eventually};
use proxy_tests::transcript;
use serde_json::Value;

/// Whatever is held in these tests is held by these.
const RULES: &str = r#"
[[rule]]
name = "rows"
action = "hold"
effects = ["update", "delete", "merge"]
guard = { max_rows = 2, lock_timeout = "3s", statement_timeout = "20s" }

[[rule]]
name = "definitions"
action = "hold"
effects = ["drop", "truncate", "alter", "admin", "code"]
guard = { lock_timeout = "500ms" }

[[rule]]
name = "rest"
action = "allow"
"#;

/// A table `t` with rows 1 to 5.
const TABLE: &str =
    "DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (x int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5)";

struct Stage {
    database: Database,
    gate: Gate,
    _approver: Approver,
}

fn stage() -> Stage {
    stage_with(RULES)
}

fn stage_with(rules: &str) -> Stage {
    let database = shared();
    database.run(TABLE);
    let gate = Gate::builder().toml(rules).start(database.target());
    let approver = Approver::of(gate.api());
    Stage { database, gate, _approver: approver }
}

impl Stage {
    fn login(&self) -> Raw {
        Raw::login(&self.gate.target())
    }

    fn count(&self) -> String {
        self.database.raw().value("SELECT count(*) FROM t")
    }

    /// What is on record of the request in these frames.
    fn record(&self, frames: &[Frame]) -> Value {
        let id = frames.iter().find_map(id_in).unwrap_or_else(|| panic!("nothing was held: {frames:?}"));
        eventually("a result", || {
            let request = self.gate.api().get(&format!("/v1/requests/{id}"));
            (!request["progress"]["execution"].is_null()).then_some(request)
        })
    }
}

fn id_in(frame: &Frame) -> Option<String> {
    let text = String::from_utf8_lossy(&frame.body).into_owned();
    let at = text.find("qg-").filter(|_| frame.tag == b'N')?;
    Some(text.get(at..at.checked_add(13)?)?.to_owned())
}

/// Tags of what came, but for the gate's own notices.
fn tags(frames: &[Frame]) -> String {
    frames.iter().filter(|frame| id_in(frame).is_none()).map(|frame| char::from(frame.tag)).collect()
}

fn status(frames: &[Frame]) -> char {
    char::from(frames.last().unwrap().body[0])
}

fn error(frames: &[Frame]) -> &Frame {
    frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("no error in {frames:?}"))
}

/// How a statement is sent.
#[derive(Debug, Clone, Copy)]
enum By {
    Simple,
    Extended,
}

fn send(raw: &mut Raw, by: By, sql: &str) -> Vec<Frame> {
    match by {
        By::Simple => raw.send(m::query(sql)),
        By::Extended => raw.send(m::extended(sql, &[])),
    }
    raw.until(b'Z')
}

fn limits(raw: &mut Raw) -> [String; 2] {
    ["lock_timeout", "statement_timeout"].map(|name| raw.value(&format!("SHOW {name}")))
}

#[test]
fn up_to_the_ceiling_it_is_done_and_past_it_nothing_is() {
    let stage = stage();
    for by in [By::Simple, By::Extended] {
        for block in [false, true] {
            let mut raw = stage.login();
            raw.query("SET lock_timeout = '7s'");
            let before = limits(&mut raw);
            if block {
                raw.query("BEGIN; SET LOCAL statement_timeout = '50s'");
            }
            let inside = limits(&mut raw);
            let done = send(&mut raw, by, "DELETE FROM t WHERE x <= 2 RETURNING x");
            assert_eq!(tags(&done).trim_start_matches(['1', '2']), "TDDCZ", "{by:?} {block}");
            assert_eq!(status(&done), if block { 'T' } else { 'I' });
            assert_eq!(limits(&mut raw), inside, "{by:?} {block}");
            let on_record = stage.record(&done);
            assert_eq!(on_record["progress"]["execution"]["rows"], 2, "{on_record}");
            assert_eq!(on_record["guard"], "runs with: at most 2 rows, lock_timeout 3s, statement_timeout 20s");

            let undone = send(&mut raw, by, "DELETE FROM t RETURNING x");
            assert_eq!(tags(&undone).trim_start_matches(['1', '2']), "TDDDEZ", "{by:?} {block}");
            assert_eq!(status(&undone), if block { 'E' } else { 'I' });
            let said = error(&undone);
            assert_eq!(said.sqlstate(), "54000");
            assert!(said.text().contains("it wrote 3 rows, and at most 2 were approved"), "{}", said.text());
            let on_record = stage.record(&undone);
            assert_eq!(on_record["progress"]["execution"]["sqlstate"], "54000", "{on_record}");
            assert_eq!(on_record["state"], "released");
            if block {
                assert_eq!(raw.query("SELECT 1")[0].sqlstate(), "25P02");
                raw.query("ROLLBACK");
                assert_eq!(stage.count(), "5");
            } else {
                assert_eq!(stage.count(), "3");
            }
            assert_eq!(limits(&mut raw), before, "{by:?} {block}");
            stage.database.run("INSERT INTO t SELECT generate_series(1, 5) ON CONFLICT DO NOTHING");
        }
    }
}

#[test]
fn a_client_sees_what_it_would_see_without_the_guard() {
    let stage = stage();
    let script = |raw: &mut Raw, database: &Database| {
        database.run(
            "DROP TABLE IF EXISTS child; DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (x int PRIMARY KEY, y text);
             INSERT INTO t SELECT x, 'a' FROM generate_series(1, 5) x;
             CREATE TABLE child (x int REFERENCES t DEFERRABLE INITIALLY DEFERRED); INSERT INTO child VALUES (5);
             CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE OR REPLACE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'at the end of %', OLD.x; RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER says AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION says();",
        );
        singles(raw);
        pipelines(raw);
        raw.query("TABLE t");
        raw.query("SELECT name, setting, source FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')");
    };
    let target = stage.database.target().clone();
    let login = |raw: &mut Raw, target: &proxy_tests::postgres::Target| {
        raw.start(&[("user", &target.user), ("database", &target.database)]);
    };
    let run = |target: &proxy_tests::postgres::Target| -> Vec<Frame> {
        let frames = transcript::run(target, |raw, target| {
            login(raw, target);
            script(raw, &stage.database);
        });
        frames.into_iter().filter(|frame| id_in(frame).is_none()).collect()
    };
    let (direct, through) = (run(&target), run(&stage.gate.target()));
    transcript::assert_same(&direct, &through);
}

/// Statements one by one, in transactions and out of them.
fn singles(raw: &mut Raw) {
    let texts = [
        "DELETE FROM t WHERE x = 1",
        "DELETE FROM t WHERE x = 2 RETURNING *",
        "UPDATE t SET y = 'b' WHERE x = 3",
        // Fails at COMMIT only.
        "DELETE FROM t WHERE x = 5",
        "DELETE FROM t WHERE x = 1 / 0",
        "UPDATE t SET y = 'c' WHERE x = 77",
        "MERGE INTO t USING (VALUES (3), (99)) v (x) ON t.x = v.x WHEN MATCHED THEN UPDATE SET y = 'm' WHEN NOT MATCHED THEN INSERT VALUES (v.x, 'n')",
    ];
    let show = |raw: &mut Raw| {
        raw.query("SHOW lock_timeout");
        raw.query("SHOW statement_timeout");
    };
    for text in texts {
        raw.query(text);
        show(raw);
        raw.send(m::extended(text, &[]));
        raw.until(b'Z');
        show(raw);
    }
    for text in texts {
        raw.query("BEGIN");
        raw.query("SAVEPOINT s");
        raw.query("SET LOCAL lock_timeout = '1h'");
        raw.query(text);
        raw.query("SAVEPOINT s");
        raw.send(m::extended(text, &[]));
        raw.until(b'Z');
        show(raw);
        raw.query("ROLLBACK TO s");
        show(raw);
        raw.query("RELEASE s");
        raw.query("ROLLBACK TO s");
        show(raw);
        raw.query("SET lock_timeout = '2h'");
        raw.query(text);
        raw.query("COMMIT");
        show(raw);
        raw.query("SELECT source FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')");
        raw.query("RESET lock_timeout");
    }
    for begin in
        ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE"]
    {
        raw.query(begin);
        raw.query("UPDATE t SET y = 'd' WHERE x = 3");
        raw.query("COMMIT");
    }
    raw.query("SET default_transaction_read_only = on");
    raw.query("UPDATE t SET y = 'd' WHERE x = 3");
    raw.query("SET default_transaction_read_only = off");
}

/// Batches of several statements, as drivers send them.
fn pipelines(raw: &mut Raw) {
    let update = |x: u8| m::bind("", "u", &[Some(x.to_string().as_bytes())]);
    raw.send(
        [m::parse("u", "UPDATE t SET y = 'p' WHERE x = $1", &[23]), m::describe_statement("u"), m::sync()].concat(),
    );
    raw.until(b'Z');
    let one = |x: u8| [update(x), m::describe_portal(""), m::execute("", 0)].concat();
    let insert = |x: u8| {
        let text = format!("INSERT INTO t VALUES ({x}, 'i')");
        [m::parse("", text, &[]), m::bind("", "", &[]), m::execute("", 0)].concat()
    };
    let show = [m::parse("", "SHOW lock_timeout", &[]), m::bind("", "", &[]), m::execute("", 0)].concat();
    for batch in [
        [one(3), one(4), m::sync()].concat(),
        [insert(50), one(3), show.clone(), one(4), insert(51), m::sync()].concat(),
        // The last fails, and with it what came before.
        [insert(60), one(3), insert(3), one(4), m::sync()].concat(),
        [one(3), m::flush(), m::sync(), m::sync()].concat(),
        [update(3), m::sync()].concat(),
        [one(3), m::query("SELECT 1"), m::sync()].concat(),
    ] {
        let syncs = batch.windows(5).filter(|bytes| *bytes == m::sync());
        let queries = batch.windows(5).filter(|bytes| bytes.starts_with(b"SELEC"));
        let ready = syncs.chain(queries).count();
        raw.send(batch);
        raw.until_ready(ready);
    }
    raw.query("BEGIN");
    raw.send([one(3), show.clone(), m::sync(), one(4), insert(3), m::sync()].concat());
    raw.until_ready(2);
    raw.query("ROLLBACK");
    raw.send(m::close_statement("u"));
    raw.send(m::sync());
    raw.until(b'Z');
}

#[test]
fn a_batch_past_the_ceiling_is_undone_as_one() {
    let stage = stage();
    let mut raw = stage.login();
    let insert = |x: u8| {
        let text = format!("INSERT INTO t VALUES ({x})");
        [m::parse("", text, &[]), m::bind("", "", &[]), m::execute("", 0)].concat()
    };
    let delete = [m::parse("", "DELETE FROM t", &[]), m::bind("", "", &[]), m::execute("", 0)].concat();
    raw.send([insert(10), delete, insert(11), m::sync(), m::query("SELECT 1")].concat());
    let frames = raw.until_ready(2);
    assert_eq!(tags(&frames), "12C12EZTDCZ");
    assert_eq!(stage.count(), "5");
    // Once for all: a statement of a message of its own is committed before.
    raw.send(
        [m::query("INSERT INTO t VALUES (10)"), m::query("DELETE FROM t"), m::query("INSERT INTO t VALUES (11)")]
            .concat(),
    );
    assert_eq!(tags(&raw.until_ready(3)), "CZEZCZ");
    assert_eq!(stage.count(), "7");
}

#[test]
fn a_savepoint_mends_a_transaction_past_the_ceiling() {
    let stage = stage();
    let mut raw = stage.login();
    raw.query("BEGIN; INSERT INTO t VALUES (10); SAVEPOINT a; INSERT INTO t VALUES (11)");
    assert_eq!(error(&send(&mut raw, By::Simple, "DELETE FROM t")).sqlstate(), "54000");
    raw.query("ROLLBACK TO a");
    assert_eq!(limits(&mut raw), ["0", "0"]);
    assert_eq!(error(&send(&mut raw, By::Extended, "DELETE FROM t")).sqlstate(), "54000");
    raw.query("ROLLBACK TO a");
    assert_eq!(status(&raw.query("COMMIT")), 'I');
    assert_eq!(stage.count(), "6");
    assert_eq!(limits(&mut raw), ["0", "0"]);
}

#[test]
fn rows_that_are_fetched_in_steps_cannot_be_counted_and_are_undone() {
    let stage = stage();
    let mut raw = stage.login();
    let portal = [m::parse("", "DELETE FROM t WHERE x < 3 RETURNING x", &[]), m::bind("", "", &[])].concat();
    raw.send([portal.clone(), m::execute("", 1), m::sync()].concat());
    let frames = raw.until(b'Z');
    assert_eq!((tags(&frames).as_str(), error(&frames).sqlstate().as_str()), ("12DEZ", "54000"));
    assert_eq!(stage.count(), "5");
    // Enough at once is one step.
    raw.send([portal, m::execute("", 100), m::sync()].concat());
    assert_eq!(tags(&raw.until(b'Z')), "12DDCZ");
    assert_eq!(stage.count(), "3");
}

#[test]
fn a_portal_cannot_be_kept_to_run_without_its_guard() {
    let stage = stage();
    let mut raw = stage.login();
    let portal = [m::parse("", "DELETE FROM t", &[]), m::bind("p", "", &[])].concat();
    raw.query("BEGIN");
    raw.send([portal.clone(), m::sync()].concat());
    let frames = raw.until(b'Z');
    assert_eq!((tags(&frames).as_str(), error(&frames).sqlstate().as_str()), ("12EZ", "0A000"));
    raw.send([m::execute("p", 0), m::sync()].concat());
    assert_eq!(error(&raw.until(b'Z')).sqlstate(), "25P02");
    raw.query("ROLLBACK");
    raw.send([portal, m::query("SELECT 1"), m::execute("p", 0), m::sync()].concat());
    let frames = raw.until_ready(2);
    assert_eq!(error(&frames).sqlstate(), "0A000");
    // A block begun in the same batch keeps its portals over the Sync.
    let begin = [m::parse("", "BEGIN", &[]), m::bind("", "", &[]), m::execute("", 0)].concat();
    let delete = [m::parse("", "DELETE FROM t", &[]), m::bind("q", "", &[]), m::sync()].concat();
    raw.send([begin, delete, m::execute("q", 0), m::sync(), m::query("COMMIT")].concat());
    let frames = raw.until_ready(3);
    assert_eq!(error(&frames).sqlstate(), "0A000");
    // A transaction that the batch ends does not undo what a Query behind it commits.
    raw.query("BEGIN");
    let commit = [m::parse("", "COMMIT", &[]), m::bind("", "", &[]), m::execute("", 0)].concat();
    raw.send([commit, m::query("DELETE FROM t"), m::sync()].concat());
    assert_eq!(error(&raw.until_ready(2)).sqlstate(), "42501");
    assert_eq!(stage.count(), "5");
    assert_eq!(limits(&mut raw), ["0", "0"]);
}

#[test]
fn limits_really_fire_and_are_set_back() {
    let stage = stage();
    let mut other = stage.database.raw();
    let mut raw = stage.login();
    for (by, text, sqlstate) in [
        (By::Simple, "ALTER TABLE t ADD COLUMN y int", "55P03"),
        (By::Extended, "ALTER TABLE t ADD COLUMN y int", "55P03"),
        (By::Simple, "VACUUM FULL t", "55P03"),
        (By::Extended, "VACUUM FULL t", "55P03"),
        (By::Simple, "CREATE INDEX i ON t (x); DROP INDEX i; ALTER TABLE t ADD COLUMN y int", "55P03"),
    ] {
        other.query("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
        let frames = send(&mut raw, by, text);
        assert_eq!(error(&frames).sqlstate(), sqlstate, "{text}");
        assert_eq!((limits(&mut raw), status(&frames)), (["0".to_owned(), "0".to_owned()], 'I'));
        other.query("ROLLBACK");
        let frames = send(&mut raw, by, text);
        assert!(tags(&frames).ends_with("CZ"), "{by:?} {text}: {frames:?}");
        assert_eq!(limits(&mut raw), ["0", "0"]);
        stage.database.run("ALTER TABLE t DROP COLUMN IF EXISTS y");
    }
    let source = raw
        .value("SELECT string_agg(source, ' ') FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')");
    assert_eq!(source, "default default", "as if nothing had been set");
}

#[test]
fn a_statement_past_its_time_is_cancelled() {
    let stage = stage_with(
        "[[rule]]\nname = \"all\"\naction = \"hold\"\neffects = [\"delete\", \"code\"]\nguard = { statement_timeout = \"100ms\" }\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"",
    );
    for block in [false, true] {
        let mut raw = stage.login();
        for by in [By::Simple, By::Extended] {
            for text in ["DELETE FROM t WHERE pg_sleep(60) IS NULL", "DO 'BEGIN PERFORM pg_sleep(60); END'"] {
                raw.query(if block { "BEGIN" } else { "SELECT 1" });
                let frames = send(&mut raw, by, text);
                assert_eq!(error(&frames).sqlstate(), "57014", "{by:?} {block} {text}");
                assert_eq!(status(&frames), if block { 'E' } else { 'I' });
                raw.query(if block { "ROLLBACK" } else { "SELECT 1" });
                assert_eq!(limits(&mut raw), ["0", "0"]);
            }
        }
    }
}

#[test]
fn the_sessions_own_limit_counts_where_it_is_stricter() {
    let stage = stage();
    let mut other = stage.database.raw();
    other.query("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    for by in [By::Simple, By::Extended] {
        let mut raw = stage.login();
        raw.query("SET lock_timeout = '20ms'; SET statement_timeout = '30s'");
        for text in ["DELETE FROM t", "VACUUM FULL t"] {
            let frames = send(&mut raw, by, text);
            assert_eq!(error(&frames).sqlstate(), "55P03");
            assert_eq!(limits(&mut raw), ["20ms", "30s"]);
        }
    }
}

#[test]
fn a_cancelled_statement_leaves_nothing_behind() {
    let stage = stage();
    for (by, block) in [(By::Simple, false), (By::Simple, true), (By::Extended, false), (By::Extended, true)] {
        let mut raw = stage.login();
        let (pid, key) = raw.key.clone().unwrap();
        if block {
            raw.query("BEGIN");
        }
        let text = "DELETE FROM t WHERE x = 1 OR pg_sleep(600) IS NULL";
        raw.send(match by {
            By::Simple => m::query(text),
            By::Extended => m::extended(text, &[]),
        });
        let mut watch = stage.database.raw();
        eventually("the statement to run", || {
            let event =
                watch.value(&format!("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {pid}"));
            (event == "PgSleep").then_some(())
        });
        let target = stage.gate.target();
        let mut cancel = Raw::connect((target.host.as_str(), target.port));
        cancel.send(m::cancel_request(pid, &key));
        assert_eq!(cancel.until_eof(), []);
        let frames = raw.until(b'Z');
        assert_eq!(error(&frames).sqlstate(), "57014", "{by:?} {block}");
        assert_eq!(status(&frames), if block { 'E' } else { 'I' });
        raw.query("ROLLBACK");
        assert_eq!(limits(&mut raw), ["0", "0"]);
        assert_eq!(stage.count(), "5");
    }
}

#[test]
fn a_client_that_leaves_does_not_stop_its_statement() {
    let stage = stage();
    stage.database.run("CREATE TABLE gone (); CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE gone; RETURN OLD; END $$;
         CREATE TRIGGER waits BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION waits()");
    let mut other = stage.database.raw();
    other.query("BEGIN; LOCK TABLE gone");
    let mut raw = stage.login();
    let (pid, _) = raw.key.clone().unwrap();
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let mut watch = stage.database.raw();
    eventually("the statement to wait", || {
        let kind =
            watch.value(&format!("SELECT coalesce(wait_event_type, '') FROM pg_stat_activity WHERE pid = {pid}"));
        (kind == "Lock").then_some(())
    });
    raw.half_close();
    other.query("ROLLBACK");
    eventually("the row to be gone", || (stage.count() == "4").then_some(()));
}

#[test]
fn a_server_that_goes_is_an_unknown_result_and_nothing_is_kept() {
    let stage = stage();
    let mut raw = stage.login();
    let (pid, _) = raw.key.clone().unwrap();
    raw.send(m::query("DELETE FROM t WHERE x = 1 AND pg_sleep(600) IS NOT NULL"));
    let mut watch = stage.database.raw();
    eventually("the statement to run", || {
        let event = watch.value(&format!("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = {pid}"));
        (event == "PgSleep").then_some(())
    });
    watch.query(format!("SELECT pg_terminate_backend({pid})"));
    let frames = raw.until_eof();
    assert_eq!(error(&frames).sqlstate(), "57P01");
    let on_record = stage.record(&frames);
    assert_ne!(on_record["progress"]["execution"]["result"], "completed", "{on_record}");
    assert_eq!(stage.count(), "5");
}

#[test]
fn what_cannot_be_guarded_is_refused_unless_the_rule_says_otherwise() {
    let texts = [
        ("WITH d AS (DELETE FROM t RETURNING x) SELECT count(*) FROM d", "command tag"),
        ("WITH d AS (DELETE FROM t WHERE x = 5 RETURNING x) UPDATE t SET x = 1 WHERE x = 99", "WITH clause"),
        ("DELETE FROM t WHERE x = 1; DELETE FROM t WHERE x = 2", "not one statement"),
        ("EXPLAIN ANALYZE DELETE FROM t WHERE x = 3", "command tag"),
        ("DELETE FROM t; COMMIT", "controls transactions"),
        ("SET lock_timeout = 0; DELETE FROM t WHERE x = 4", "sets something itself"),
    ];
    let stage = stage();
    let mut raw = stage.login();
    for (text, why) in texts {
        let frames = send(&mut raw, By::Simple, text);
        assert!(frames.iter().all(|frame| id_in(frame).is_none()), "nobody is asked: {text}");
        let said = error(&frames);
        assert_eq!(said.sqlstate(), "42501", "{text}");
        let detail = said.field(b'D').unwrap();
        assert!(detail.contains(why), "{text}: {detail}");
    }
    assert_eq!(stage.count(), "5");
    let rules = RULES.replace("guard = {", "guard = { otherwise = \"run\",");
    let stage = stage_with(&rules);
    let mut raw = stage.login();
    for (text, why) in texts {
        let frames = send(&mut raw, By::Simple, text);
        assert!(tags(&frames).ends_with("CZ"), "{text}: {frames:?}");
        let on_record = stage.record(&frames);
        let guard = on_record["guard"].as_str().unwrap();
        assert!(guard.contains("cannot be limited") && guard.contains(why), "{text}: {guard}");
        let notice = frames.iter().find(|frame| id_in(frame).is_some()).unwrap();
        assert!(String::from_utf8_lossy(&notice.body).contains(guard), "the client is told as well");
        if text.starts_with("SET") {
            raw.query("RESET lock_timeout");
        }
        assert_eq!(limits(&mut raw), ["0", "0"], "{text}");
    }
}

#[test]
fn psql_shows_the_error_and_goes_on() {
    let stage = stage();
    let said = finish(Psql::new(&stage.gate.target()).start("DELETE FROM t"));
    assert!(said.stderr.contains("the statement was undone: it wrote 5 rows"), "{said:?}");
    let script =
        "\\set ON_ERROR_STOP off\nDELETE FROM t WHERE x = 1;\nDELETE FROM t;\nSELECT 'left ' || count(*) FROM t;\n";
    let said = Psql::new(&stage.gate.target()).script(script);
    assert!(said.stdout.contains("left 4"), "{said:?}");
    assert_eq!(stage.count(), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_with_prepared_statements_is_guarded_each_time() {
    let stage = stage();
    let (mut client, connection) =
        tokio_postgres::connect(&stage.gate.target().conninfo(""), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let delete = client.prepare("DELETE FROM t WHERE x >= $1").await.unwrap();
    let error = client.execute(&delete, &[&2]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "54000");
    assert_eq!(client.execute(&delete, &[&5]).await.unwrap(), 1);
    let transaction = client.transaction().await.unwrap();
    assert_eq!(transaction.execute(&delete, &[&4]).await.unwrap(), 1);
    assert_eq!(transaction.execute(&delete, &[&3]).await.unwrap(), 1);
    transaction.commit().await.unwrap();
    let rows = client.query("UPDATE t SET x = -x RETURNING x", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    let shown = client.query_one("SHOW lock_timeout", &[]).await.unwrap();
    assert_eq!(shown.get::<_, &str>(0), "0");
    drop(client);
    connection.await.unwrap().unwrap();
    assert_eq!(stage.count(), "2");
}
