//! Undo: the rows that a released statement changes are kept in its own transaction, and come back by a statement that is held itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::api::Approver;
use proxy_tests::message as m;
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::undo::{SHOP, SHOP_SUM, SHOP_TABLES, error, has_ended_well, kept, request, said, stage, stage_with};

#[test]
fn a_delete_with_its_cascades_comes_back_as_it_was() {
    let stage = stage("max_rows = 100", SHOP, SHOP_TABLES);
    let before = stage.value(SHOP_SUM);
    for extended in [false, true] {
        for block in [false, true] {
            let mut raw = stage.login();
            if block {
                raw.query("BEGIN");
            }
            let done = if extended {
                raw.send(
                    [
                        m::parse("", "DELETE FROM customers WHERE id = $1", &[23]),
                        m::bind("", "", &[Some(b"1")]),
                        m::execute("", 0),
                        m::sync(),
                    ]
                    .concat(),
                );
                raw.until(b'Z')
            } else {
                raw.query("DELETE FROM customers WHERE id = 1")
            };
            assert!(has_ended_well(&done), "{done:?}");
            assert!(
                kept(&done).contains("8 rows of public.customers, public.items, public.orders, public.visits"),
                "{}",
                kept(&done)
            );
            if block {
                raw.query("COMMIT");
            }
            assert_ne!(stage.value(SHOP_SUM), before);
            let record = stage.record(&done);
            assert!(record["guard"].as_str().unwrap().starts_with("can be undone: up to 100 rows"), "{record}");
            assert!(
                record["progress"]["execution"]["kept"].as_str().unwrap().starts_with("kept for an undo until"),
                "{record}"
            );
            let undone = stage.restore(&request(&done), &[]);
            assert!(undone.status.success(), "{}", said(&undone));
            assert_eq!(stage.value(SHOP_SUM), before, "{extended} {block}\n{}", said(&undone));
        }
    }
}

#[test]
fn an_undo_is_held_and_a_second_one_says_that_it_was_done() {
    let mut stage = stage("max_rows = 100", SHOP, SHOP_TABLES);
    let before = stage.value(SHOP_SUM);
    let done = stage.login().query("UPDATE customers SET name = 'eve' WHERE id = 1");
    let id = request(&done);
    drop(stage.approver.take());
    let api = stage.gate.api();
    let refused = std::thread::scope(|scope| {
        let undo = scope.spawn(|| stage.restore(&id, &["--reason", "it was Ann's"]));
        let held = api.wait_held("restore");
        assert_eq!(api.get(&format!("/v1/requests/{held}"))["reason"], "it was Ann's");
        api.reject(&held, "no");
        undo.join().unwrap()
    });
    assert!(!refused.status.success() && said(&refused).contains("rejected by ann"), "{}", said(&refused));
    assert_ne!(stage.value(SHOP_SUM), before);
    stage.approver = Some(Approver::of(stage.gate.api()));
    assert!(stage.restore(&id, &[]).status.success());
    assert_eq!(stage.value(SHOP_SUM), before);
    let again = stage.restore(&id, &[]);
    assert!(!again.status.success() && said(&again).contains("was undone already"), "{}", said(&again));
}

#[test]
fn conflicts_are_listed_and_the_rest_is_restored_or_nothing_is() {
    let stage = stage("max_rows = 100", SHOP, SHOP_TABLES);
    let before = stage.value(SHOP_SUM);
    let id = request(&stage.login().query("DELETE FROM customers"));
    stage.database.run("INSERT INTO orders VALUES (3, NULL, 'another'); DELETE FROM visits WHERE id = 1");
    let without = stage.value(SHOP_SUM);
    for more in ["--dry-run", "--all-or-nothing"] {
        let told = stage.restore(&id, &[more]);
        assert!(!told.status.success());
        let told = said(&told);
        assert!(told.contains("public.orders (3,2,n3)") && told.contains("a row with its key exists"), "{told}");
        assert!(told.contains("public.visits (1,1)") && told.contains("the row is gone"), "{told}");
        assert_eq!(stage.value(SHOP_SUM), without, "{more}");
    }
    let told = said(&stage.restore(&id, &[]));
    assert!(told.contains("2 rows restored") && told.contains("a row with its key exists"), "{told}");
    assert_eq!(stage.value("SELECT count(*) FROM customers"), "2");
    // What conflicted stays kept, and comes back once the way is free.
    stage.database.run("UPDATE items SET \"order\" = NULL WHERE \"order\" = 3; DELETE FROM orders WHERE id = 3; INSERT INTO visits VALUES (1, NULL)");
    let told = stage.restore(&id, &[]);
    assert!(told.status.success(), "{}", said(&told));
    stage.database.run("UPDATE items SET \"order\" = 3 WHERE \"order\" IS NULL");
    assert_eq!(stage.value(SHOP_SUM), before);
}

#[test]
fn a_row_that_was_changed_since_is_left_alone() {
    let stage = stage("max_rows = 100", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("UPDATE orders SET note = 'x' WHERE id < 3"));
    stage.database.run("UPDATE orders SET note = 'newer' WHERE id = 2");
    let told = stage.restore(&id, &[]);
    assert!(said(&told).contains("the row was changed since"), "{}", said(&told));
    assert_eq!(stage.value("SELECT string_agg(note, ',' ORDER BY id) FROM orders WHERE id < 3"), "n1,newer");
    stage.database.run("ALTER TABLE orders ADD COLUMN more int");
    let told = stage.restore(&id, &[]);
    assert!(said(&told).contains("the columns of its table have changed"), "{}", said(&told));
}

#[test]
fn what_cannot_be_kept_is_not_done() {
    let stage = stage("max_rows = 3, max_bytes = 60", SHOP, &["orders", "items"]);
    stage.database.run("INSERT INTO customers (name) VALUES ('cy'); INSERT INTO orders VALUES (9, 3, 'x')");
    let before = stage.value(SHOP_SUM);
    for (sql, why) in [
        ("DELETE FROM items WHERE id <= 4", "more than 3 rows"),
        ("UPDATE orders SET note = repeat('x', 100) WHERE id = 1", "take more than 60 B"),
        ("DELETE FROM visits", "it wrote 2 rows, and 0 were kept"),
        // An order goes with its customer, and is covered. The customer is not.
        ("DELETE FROM customers WHERE id = 3", "it wrote 1 rows, and 0 were kept"),
        ("TRUNCATE visits", "it does more than write rows"),
        ("WITH gone AS (DELETE FROM items RETURNING 1) DELETE FROM orders", "undo"),
        ("MERGE INTO items USING (VALUES (1)) v (x) ON id = x WHEN MATCHED THEN DELETE", "undo"),
        ("DELETE FROM items WHERE id = 1; DELETE FROM items WHERE id = 2", "it is not one statement"),
    ] {
        for block in [false, true] {
            let mut raw = stage.login();
            if block {
                raw.query("BEGIN");
            }
            let told = error(&raw.query(sql));
            assert!(told.contains(why), "{sql}: {told}");
            if block {
                assert_eq!(raw.query("SELECT 1")[0].sqlstate(), "25P02", "{sql}");
            }
            assert_eq!(stage.value(SHOP_SUM), before, "{sql}");
        }
    }
    assert_eq!(stage.value("SELECT count(*) FROM querygate_undo.request"), "0");
}

#[test]
fn where_the_rule_says_so_it_runs_without() {
    let stage = stage("max_rows = 3, otherwise = \"run\"", SHOP, &["orders", "items"]);
    let mut raw = stage.login();
    let done = raw.query("DELETE FROM visits");
    assert!(
        has_ended_well(&done) && kept(&done).contains("it cannot be undone: it wrote 2 rows, and 0 were kept"),
        "{done:?}"
    );
    let done = raw.query("DELETE FROM items");
    assert!(has_ended_well(&done) && kept(&done).contains("more than 3 rows"), "{done:?}");
    let told = stage.restore(&request(&done), &[]);
    assert!(said(&told).contains("It could not be kept"), "{}", said(&told));
    let done = raw.query("TRUNCATE visits");
    assert!(stage.record(&done)["guard"].as_str().unwrap().contains("it cannot be undone"), "{done:?}");
    assert!(kept(&raw.query("UPDATE orders SET note = 'y' WHERE id = 1")).contains("1 row of public.orders"));
    assert_eq!(stage.value("SELECT count(*) FROM visits"), "0");
}

#[test]
fn every_type_comes_back_exactly_whatever_the_sessions_say() {
    let tables = "
        CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (value > 0); CREATE TYPE pair AS (a int, b text);
        CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, c char(5), j json, jb jsonb, by bytea, f float8, ts timestamptz,
            d date, a text[], m mood, p positive, pr pair, i interval, mo money, n numeric, e text, r int4range, u uuid, x xml, \"Odd \"\"Name\" int,
            g int GENERATED ALWAYS AS (length(c) + 1) STORED);
        INSERT INTO t (c, j, jb, by, f, ts, d, a, m, p, pr, i, mo, n, e, r, x, \"Odd \"\"Name\") VALUES
            ('x', 'null', 'null', '\\xdeadbeef00', 'infinity', 'infinity', '-infinity', '{a,\"b c\",NULL,\"\",\"\\\\\\\"\"}', 'happy', 3, '(1,\"x,\"\"y\")',
             '1 day 2:03:04.5', '12.34', 'NaN', '', '[1,5)', '<a>b</a>', 7),
            (NULL, NULL, NULL, NULL, 0.1::float4, '-infinity', NULL, '{}', NULL, NULL, '(,)', NULL, NULL, 1.50, NULL, 'empty', NULL, NULL),
            ('a\\b''', '{\"a\" :  1}', '{\"a\": null}', '', '-0', '2020-01-02 03:04:05.678901+05', '0044-03-15 BC', '{{1,2},{3,4}}', 'sad', 1,
             ROW(NULL, ''), '-1 mon', '-5', 1e100, E'tab\\tnew\\nline', '(,)', 'plain', NULL);
        CREATE TABLE was AS SELECT id, t::text AS was FROM t";
    let stage = stage("max_rows = 10", tables, &["t"]);
    let mut raw = stage.login();
    raw.query("SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = -10; SET bytea_output = 'escape'; SET TimeZone = 'Asia/Tokyo'");
    for sql in [
        "DELETE FROM t",
        "UPDATE t SET c = 'z', j = '{}', jb = NULL, f = 1, ts = NULL, a = NULL, pr = NULL, n = 0, e = 'e', by = 'b', \"Odd \"\"Name\" = 9",
    ] {
        let done = raw.query(sql);
        assert!(kept(&done).contains("3 rows of public.t"), "{done:?}");
        assert_ne!(stage.value("SELECT count(*) FROM t JOIN was USING (id) WHERE t::text = was"), "3");
        let undone = stage.restore(&request(&done), &[]);
        assert!(undone.status.success(), "{}", said(&undone));
        assert_eq!(stage.value("SELECT count(*) FROM t JOIN was USING (id) WHERE t::text = was"), "3", "{sql}");
    }
}

#[test]
fn partitions_children_and_tables_without_a_key_come_back() {
    let tables = "
        CREATE TABLE parts (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE high (v text, gone int, k int NOT NULL); ALTER TABLE high DROP COLUMN gone;
        ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (10) TO (20);
        INSERT INTO parts VALUES (1, 'a'), (11, 'b'), (5, 'c');
        CREATE TABLE base (a int); CREATE TABLE child (b int) INHERITS (base); INSERT INTO base VALUES (1); INSERT INTO child VALUES (2, 2);
        CREATE TABLE twins (a int, j json); INSERT INTO twins VALUES (1, '{}'), (1, '{}')";
    let stage = stage("max_rows = 10", tables, &["parts", "base", "child", "twins"]);
    let sum = "SELECT concat((SELECT string_agg(concat(tableoid::regclass, k, v), ' ' ORDER BY k) FROM parts), \
               (SELECT string_agg(concat(tableoid::regclass, a), ' ' ORDER BY a) FROM base), (SELECT string_agg(t::text, ' ') FROM twins t))";
    let before = stage.value(sum);
    let mut raw = stage.login();
    for sql in [
        "UPDATE parts SET k = k + 7",
        "DELETE FROM parts",
        "DELETE FROM high",
        "UPDATE parts SET v = NULL",
        "DELETE FROM base",
        "UPDATE base SET a = a + 10",
        "UPDATE twins SET a = 2",
        "DELETE FROM twins",
    ] {
        let done = raw.query(sql);
        assert!(has_ended_well(&done), "{sql}: {done:?}");
        assert_ne!(stage.value(sum), before, "{sql}");
        let undone = stage.restore(&request(&done), &[]);
        assert!(undone.status.success(), "{sql}: {}", said(&undone));
        assert_eq!(stage.value(sum), before, "{sql}");
    }
}

#[test]
fn what_sets_a_trigger_off_is_kept_where_its_table_is_covered() {
    let tables = "
        CREATE TABLE t (x int PRIMARY KEY, v text); CREATE TABLE log (x int, was text); INSERT INTO t VALUES (1, 'a'), (2, 'b');
        CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_OP <> 'INSERT' THEN INSERT INTO log VALUES (OLD.x, OLD.v); END IF; RETURN coalesce(NEW, OLD); END $$;
        CREATE TRIGGER logs BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION logs();
        CREATE TABLE picky (x int PRIMARY KEY, v text); INSERT INTO picky VALUES (1, 'a'), (2, 'b'), (3, 'c');
        CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_OP = 'DELETE' THEN RETURN CASE WHEN OLD.x = 3 THEN NULL ELSE OLD END; END IF;
            IF NEW.x = 2 THEN RETURN NULL; END IF; NEW.v := 'changed'; RETURN NEW; END $$;
        CREATE TRIGGER changes BEFORE INSERT OR DELETE ON picky FOR EACH ROW EXECUTE FUNCTION changes()";
    let stage = stage("max_rows = 10", tables, &["t", "log", "picky"]);
    let done = stage.login().query("UPDATE t SET v = 'new'");
    assert!(kept(&done).contains("4 rows of public.log, public.t"), "{}", kept(&done));
    let undone = stage.restore(&request(&done), &[]);
    assert!(undone.status.success(), "{}", said(&undone));
    // The trigger logs the undo as well.
    assert_eq!(stage.value("SELECT string_agg(v, ',' ORDER BY x) FROM t"), "a,b");
    assert_eq!(stage.value("SELECT string_agg(was, ',') FROM log"), "new,new");
    // Rows that a trigger does not let go are not among those that were deleted, nor kept. What it does not let back is a conflict.
    let done = stage.login().query("DELETE FROM picky");
    assert!(kept(&done).contains("2 rows of public.picky"), "{}", kept(&done));
    let told = stage.restore(&request(&done), &[]);
    assert!(said(&told).contains("a trigger keeps it from being inserted"), "{}", said(&told));
    assert!(said(&told).contains("a trigger changes it as it is inserted"), "{}", said(&told));
    assert_eq!(stage.value("SELECT count(*) FROM picky"), "1");
}

#[test]
fn rows_that_come_between_the_hold_and_its_release_are_kept_as_well() {
    let mut stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    drop(stage.approver.take());
    let mut raw = stage.login();
    raw.send(m::query("DELETE FROM visits"));
    let held = stage.gate.api().wait_held("visits");
    stage.database.run("INSERT INTO visits VALUES (3, 1)");
    stage.gate.api().approve(&held);
    let done = raw.until(b'Z');
    assert!(kept(&done).contains("3 rows of public.visits"), "{}", kept(&done));
}

#[test]
fn row_security_hides_nothing_from_what_is_kept_and_kept_rows_from_whom_it_hides() {
    let tables = "CREATE TABLE t (x int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'a'), (2, 'b');
        CREATE TABLE child (x int REFERENCES t ON DELETE CASCADE, hidden bool); INSERT INTO child VALUES (1, true), (2, false);
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE child ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON t USING (x = 1); CREATE POLICY p ON child USING (NOT hidden)";
    let stage = stage("max_rows = 10", tables, &["t", "child"]);
    let done = stage.login().query("DELETE FROM t");
    // The cascade takes a row that the client does not see.
    assert!(kept(&done).contains("2 rows of public.child, public.t"), "{}", kept(&done));
    let told = stage.restore(&request(&done), &[]);
    assert!(said(&told).contains("may not read all rows of public.child, public.t"), "{}", said(&told));
    stage.database.run(&format!("ALTER ROLE {} BYPASSRLS", stage.undoer));
    let told = stage.restore(&request(&done), &[]);
    assert!(told.status.success(), "{}", said(&told));
    assert_eq!(stage.value("SELECT count(*) FROM t JOIN child USING (x)"), "2");
}

#[test]
fn nobody_undoes_or_reads_what_is_kept_without_the_rights() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let mut raw = stage.login();
    let id = request(&raw.query("DELETE FROM visits"));
    let before = stage.value(SHOP_SUM);
    let told = stage.restore_as(&stage.app, &id, &[]);
    assert!(said(&told).contains("permission denied for function restore"), "{}", said(&told));
    // Also where no gate stands before it.
    let mut direct = Raw::login(&stage.database.target().with_user(&stage.app));
    for sql in [
        "TABLE querygate_undo.change",
        "TABLE querygate_undo.key",
        "UPDATE querygate_undo.request SET undone_at = now()",
        &format!("SELECT * FROM querygate_undo.read('{id}')"),
        &format!("SELECT querygate_undo.settle('{id}', '{{1}}', 0)"),
        "CREATE TABLE mine (x int); CREATE TRIGGER t AFTER DELETE ON mine FOR EACH ROW EXECUTE FUNCTION querygate_undo.capture()",
    ] {
        assert_eq!(direct.query(sql)[0].sqlstate(), "42501", "{sql}");
    }
    stage.database.run(&format!("REVOKE SELECT ON visits FROM {}", stage.undoer));
    let told = stage.restore(&id, &[]);
    assert!(said(&told).contains("may not read all rows of public.visits"), "{}", said(&told));
    stage
        .database
        .run(&format!("GRANT SELECT ON visits TO {0}; REVOKE UPDATE, INSERT, DELETE ON visits FROM {0}", stage.undoer));
    let told = stage.restore(&id, &[]);
    assert!(said(&told).contains("conflict: permission denied for table visits"), "{}", said(&told));
    assert_eq!(stage.value(SHOP_SUM), before);
}

#[test]
fn rows_are_kept_for_nobody_but_the_gate() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM items WHERE id = 1"));
    let kept = stage.value("SELECT count(*) FROM querygate_undo.change");
    let warrant = stage.value(&format!("SELECT warrant FROM querygate_undo.request WHERE request = '{id}'"));
    let mut direct = Raw::login(&stage.database.target().with_user(&stage.app));
    let said =
        error(&direct.query("SELECT querygate_undo.begin('qg-forged', 9999999999, 9, 9, 9, 9, true, 'x', '00')"));
    assert!(said.contains("no warrant"), "{said}");
    let said = error(&direct.query(format!(
        "SELECT querygate_undo.begin('{id}', 9999999999, 10, 10485760, 1073741824, 604800, true, 'x', '{warrant}')"
    )));
    assert!(said.contains("no warrant"), "another session's: {said}");
    let said = error(
        &direct.query(format!("SELECT querygate_undo.finish('{id}', '{warrant}', 'items'::regclass, 'DELETE', 1)")),
    );
    assert!(said.contains("no rows are being kept"), "{said}");
    // Pretending that rows are being kept keeps none.
    direct.query(format!("BEGIN; SET LOCAL querygate_undo.capture = '{id}'; DELETE FROM items; COMMIT"));
    assert_eq!(stage.value("SELECT count(*) FROM querygate_undo.change"), kept);
}

#[test]
fn what_switches_the_keeping_off_is_undone() {
    let tables = "CREATE TABLE t (x int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
        CREATE FUNCTION off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('querygate_undo.capture', '', true); RETURN OLD; END $$;
        CREATE TRIGGER off BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION off()";
    let stage = stage("max_rows = 10", tables, &["t"]);
    let told = error(&stage.login().query("DELETE FROM t"));
    assert!(told.contains("switched the keeping off"), "{told}");
    assert_eq!(stage.value("SELECT count(*) FROM t"), "2");
}

#[test]
fn what_is_past_its_time_cannot_be_undone_and_is_cleared_away() {
    let stage = stage_with("max_rows = 10", "clear_interval = \"100ms\"\nretention = \"1h\"", SHOP, SHOP_TABLES);
    let mut raw = stage.login();
    let stays = request(&raw.query("DELETE FROM visits WHERE id = 1"));
    // In an open transaction nobody else sees it, so that it is not cleared away before it is asked for.
    raw.query("BEGIN");
    let goes = request(&raw.query("DELETE FROM visits WHERE id = 2"));
    raw.query("COMMIT");
    stage.database.run(&format!("UPDATE querygate_undo.request SET kept_until = now() WHERE request = '{goes}'"));
    let told = said(&stage.restore(&goes, &[]));
    assert!(told.contains("nothing is kept of request"), "{told}");
    eventually("it is cleared away", || {
        (stage.value(&format!("SELECT count(*) FROM querygate_undo.change WHERE request = '{goes}'")) == "0")
            .then_some(())
    });
    assert!(stage.restore(&stays, &[]).status.success());
}

#[test]
fn all_requests_together_have_a_limit() {
    let stage = stage_with("max_rows = 10", "max_total_bytes = \"10B\"", SHOP, SHOP_TABLES);
    let mut raw = stage.login();
    assert!(kept(&raw.query("DELETE FROM items")).contains("8 rows"));
    let told = error(&raw.query("DELETE FROM visits"));
    assert!(told.contains("are kept already, which is the limit"), "{told}");
    assert_eq!(stage.value("SELECT count(*) FROM visits"), "2");
}

#[test]
fn check_and_list_say_what_is_missing_and_what_is_kept() {
    let stage = stage("max_rows = 10", SHOP, &["customers", "orders"]);
    let name = stage.database.target().database.clone();
    let told = stage.undo(&["check"]);
    assert_eq!(told.status.code(), Some(1));
    let told = said(&told);
    assert!(told.contains("public.items is not covered, and foreign keys reach it from public.orders"), "{told}");
    assert!(told.contains("public.visits is not covered, and foreign keys reach it from public.customers"), "{told}");
    stage.cover(&["items", "visits"]);
    let told = stage.undo(&["check", &name]);
    assert!(told.status.success(), "{}", said(&told));
    let id = request(&stage.login().query("DELETE FROM visits"));
    let told = said(&stage.undo(&["list", &name]));
    assert!(told.contains(&id) && told.contains("2 rows of public.visits, until "), "{told}");
    stage.database.run(&format!("DROP SCHEMA querygate_undo CASCADE; SET ROLE {}; CREATE SCHEMA other", stage.keeper));
    let told = said(&stage.undo(&["check", &name]));
    assert!(told.contains("run what `querygate undo install` prints"), "{told}");
    // Without the schema nothing is done, and the session goes on.
    let mut raw = stage.login();
    let told = error(&raw.query("DELETE FROM items"));
    assert!(told.contains("querygate_undo"), "{told}");
    assert_eq!(raw.value("SELECT count(*) FROM items"), "8");
}
