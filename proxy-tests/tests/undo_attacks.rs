//! Undo under people who mean harm, and under schemas that do: warrants, casts, triggers, keys that cascade, tables that look alike, and several
//! undos at once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::message as m;
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::undo::{SHOP, SHOP_SUM, SHOP_TABLES, error, has_ended_well, kept, request, said, stage, stage_with};

#[test]
fn a_warrant_is_good_for_one_ticket_and_for_no_rollback() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let mut direct = Raw::login(&stage.database.target().with_user(&stage.app));
    let pid = direct.value("SELECT pg_backend_pid()");
    let expires = stage.value("SELECT (extract(epoch FROM now()) + 60)::bigint");
    // Whoever had the key could make one.
    let warrant = |ticket: &str| {
        stage.value(&format!(
            "SELECT encode(sha256(outer_key || sha256(inner_key || convert_to('querygate undo 2|qg-replayed|{pid}|{expires}|9|9999|9999|999|strict|{ticket}', 'UTF8'))), 'hex') FROM querygate_undo.key"
        ))
    };
    let begin = |ticket: &str, warrant: &str| {
        format!(
            "SELECT querygate_undo.begin('qg-replayed', {expires}, 9, 9999, 9999, 999, true, '{ticket}', '{warrant}')"
        )
    };
    direct.query("BEGIN");
    direct.query("SAVEPOINT a");
    let ticket = direct.value("SELECT querygate_undo.draw()");
    let signed = warrant(&ticket);
    assert_eq!(direct.value(&begin(&ticket, &signed)), "open", "as the gate would");
    direct.query("DELETE FROM visits");
    direct.query("ROLLBACK TO a");
    let refused = |direct: &mut Raw, after: &str| {
        let told = error(&direct.query(begin(&ticket, &signed)));
        assert!(told.contains("no warrant"), "{after}: {told}");
        direct.query("ROLLBACK");
    };
    refused(&mut direct, "back to a savepoint");
    direct.query("BEGIN");
    refused(&mut direct, "in another transaction");
    direct.query("BEGIN");
    assert_ne!(direct.value("SELECT querygate_undo.draw()"), ticket);
    refused(&mut direct, "with another ticket");
    direct.query("BEGIN");
    let ticket = direct.value("SELECT querygate_undo.draw()");
    let signed = warrant(&ticket);
    assert_eq!(direct.value(&begin(&ticket, &signed)), "open");
    assert!(error(&direct.query(begin(&ticket, &signed))).contains("no warrant"), "twice");
    direct.query("ROLLBACK");
    assert_eq!(stage.value("SELECT count(*) FROM querygate_undo.request"), "0");
    assert_eq!(stage.value("SELECT count(*) FROM querygate_undo.ticket"), "0");
}

#[test]
fn casts_of_a_table_s_own_type_run_with_nobody_s_rights() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); CREATE TABLE seen (who text);
        CREATE FUNCTION shown(t) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN ($1).v; END $$;
        CREATE FUNCTION read(text) RETURNS t LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN ROW(9, 'forged')::t; END $$;
        GRANT INSERT ON seen TO PUBLIC; CREATE CAST (t AS text) WITH FUNCTION shown(t); CREATE CAST (text AS t) WITH FUNCTION read(text)";
    let stage = stage("max_rows = 10", tables, &["t"]);
    for statement in ["DELETE FROM t", "UPDATE t SET v = 'b'"] {
        stage.comes_back(statement, "SELECT string_agg(concat(id, v), ' ') FROM t");
    }
    assert_eq!(stage.value("SELECT count(*) FROM seen"), "0");
}

#[test]
fn names_in_a_session_s_own_schemas_mean_nothing_to_what_keeps() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let before = stage.value(SHOP_SUM);
    stage.database.run(&format!(
        "CREATE SCHEMA evil AUTHORIZATION {0}; SET ROLE {0}; CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
         CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS $$ SELECT 0 $$",
        stage.app
    ));
    let mut raw = stage.login();
    raw.query("CREATE TEMP TABLE pg_attribute (x int); CREATE TEMP TABLE request (x int); CREATE TEMP TABLE pg_trigger (x int)");
    raw.query("SET search_path = evil, public, pg_catalog, pg_temp");
    let done = raw.query("DELETE FROM visits");
    assert!(kept(&done).contains("2 rows of public.visits"), "{done:?}");
    let told = stage.restore(&request(&done), &[]);
    assert!(told.status.success() && stage.value(SHOP_SUM) == before, "{}", said(&told));
}

#[test]
fn a_trigger_that_is_dropped_disabled_or_narrowed_is_noticed() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let before = stage.value(SHOP_SUM);
    let noticed = |change: &str, statement: &str| {
        stage.database.run(change);
        let told = error(&stage.login().query(statement));
        assert!(told.contains("trigger of querygate undo cover"), "{change}: {told}");
        assert_eq!(stage.value(SHOP_SUM), before, "{change}");
    };
    noticed("ALTER TABLE visits DISABLE TRIGGER querygate_undo", "DELETE FROM visits");
    noticed("ALTER TABLE visits ENABLE REPLICA TRIGGER querygate_undo", "DELETE FROM visits");
    let of_items = "DELETE FROM orders WHERE id = 1";
    noticed("ALTER TABLE items DISABLE TRIGGER querygate_undo", of_items);
    noticed("DROP TRIGGER querygate_undo ON items", of_items);
    let narrow =
        "CREATE TRIGGER querygate_undo AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION querygate_undo.capture()";
    noticed(narrow, of_items);
    let late = "DROP TRIGGER querygate_undo ON items; CREATE CONSTRAINT TRIGGER querygate_undo AFTER INSERT OR UPDATE OR DELETE ON items \
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION querygate_undo.capture()";
    noticed(late, of_items);
}

#[test]
fn an_undo_takes_no_rows_with_it_that_came_since() {
    // A row that the statement inserted, by a trigger, and that others have come to refer to.
    let tables = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE made (id int PRIMARY KEY);
        CREATE TABLE uses (made int REFERENCES made ON DELETE CASCADE, maybe int REFERENCES made ON DELETE SET NULL);
        CREATE FUNCTION makes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO made VALUES (OLD.id * 100); RETURN OLD; END $$;
        CREATE TRIGGER makes BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION makes()";
    let stage = stage("max_rows = 10", tables, &["t", "made", "uses"]);
    let id = request(&stage.login().query("DELETE FROM t"));
    // The row of `t` comes back with the first undo, what was made does not go.
    for insert in ["INSERT INTO uses (made) VALUES (100)", "INSERT INTO uses (maybe) VALUES (100)"] {
        stage.database.run(insert);
        let told = said(&stage.restore(&id, &[]));
        assert!(told.contains("conflict: rows of public.uses refer to it"), "{told}");
        assert_eq!(stage.value("SELECT count(*) FROM uses WHERE coalesce(made, maybe) = 100"), "1");
        stage.database.run("DELETE FROM uses");
    }
    assert!(stage.restore(&id, &[]).status.success());
    assert_eq!(stage.value("SELECT count(*) FROM made"), "0");
}

#[test]
fn a_row_that_moved_to_another_partition_goes_back_with_what_refers_to_it() {
    let tables = "CREATE TABLE parts (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE high (v text, gone int, k int NOT NULL); ALTER TABLE high DROP COLUMN gone; ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (10) TO (20);
        CREATE TABLE child (id int PRIMARY KEY, k int REFERENCES parts ON UPDATE CASCADE ON DELETE CASCADE);
        INSERT INTO parts VALUES (1, 'a'), (5, 'c'), (12, 'h'); INSERT INTO child VALUES (1, 5), (2, 1), (3, 12)";
    let stage = stage("max_rows = 20", tables, &["parts", "child"]);
    let sum = "SELECT concat((SELECT string_agg(concat(tableoid::regclass, k, v), ' ' ORDER BY k) FROM parts), (SELECT string_agg(c::text, ' ' ORDER BY id) FROM child c))";
    for statement in [
        "UPDATE parts SET k = 15 WHERE k = 5",
        "UPDATE parts SET k = k + 12, v = NULL WHERE k < 10",
        "UPDATE parts SET k = k - 10 WHERE k = 12",
        "UPDATE parts SET k = 7 WHERE k = 5",
        "DELETE FROM parts WHERE k = 5",
    ] {
        stage.comes_back(statement, sum);
    }
    // One that came to refer to it since goes along, and no row goes.
    let id = request(&stage.login().query("UPDATE parts SET k = 16 WHERE k = 5"));
    stage.database.run("INSERT INTO child VALUES (9, 16)");
    let told = stage.restore(&id, &[]);
    assert!(told.status.success(), "{}", said(&told));
    assert_eq!(stage.value("SELECT string_agg(concat(id, '-', k), ' ' ORDER BY id) FROM child"), "1-5 2-1 3-12 9-5");
}

#[test]
fn keys_that_cascade_go_round_or_wait_come_back() {
    let tables = "CREATE TABLE p (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON UPDATE CASCADE);
        INSERT INTO p VALUES (1, 'a'), (2, 'b'); INSERT INTO c VALUES (1, 1), (2, 1), (3, 2);
        CREATE TABLE swap (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text); INSERT INTO swap VALUES (1, 'x'), (2, 'y');
        CREATE TABLE ring (id int PRIMARY KEY, next int); ALTER TABLE ring ADD FOREIGN KEY (next) REFERENCES ring ON DELETE CASCADE DEFERRABLE;
        INSERT INTO ring VALUES (1, NULL), (2, 1), (3, 2); UPDATE ring SET next = 3 WHERE id = 1;
        CREATE TABLE steps (id int PRIMARY KEY, v text); INSERT INTO steps SELECT x, 's' || x FROM generate_series(1, 5) x";
    let stage = stage("max_rows = 20", tables, &["p", "c", "swap", "ring", "steps"]);
    for (statement, table) in [
        ("UPDATE p SET id = id + 10", "c"),
        ("UPDATE p SET id = 7, v = 'z' WHERE id = 1", "c"),
        ("UPDATE swap SET id = 3 - id", "swap"),
        ("DELETE FROM ring WHERE id = 2", "ring"),
        ("UPDATE steps SET id = -id, v = 't'", "steps"),
        ("UPDATE steps SET v = v", "steps"),
    ] {
        let sum = "SELECT concat((SELECT string_agg(x::text, ' ' ORDER BY id) FROM {} x), (SELECT string_agg(x::text, ' ' ORDER BY id) FROM p x))";
        stage.comes_back(statement, &sum.replace("{}", table));
    }
}

#[test]
fn tables_that_look_alike_keep_their_own_rows() {
    let tables = "CREATE TABLE base (a int); CREATE TABLE child (b int) INHERITS (base); INSERT INTO child VALUES (10, 1); INSERT INTO base VALUES (1);
        CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE kid () INHERITS (keyed); INSERT INTO kid VALUES (1, 'new'); INSERT INTO keyed VALUES (1, 'old')";
    let stage = stage("max_rows = 10", tables, &["base", "child", "keyed", "kid"]);
    let sum = "SELECT concat((SELECT string_agg(concat(tableoid::regclass, a), ' ' ORDER BY tableoid) FROM base), \
               (SELECT string_agg(concat(tableoid::regclass, id, v), ' ' ORDER BY tableoid) FROM keyed))";
    for statement in ["UPDATE ONLY base SET a = 10", "UPDATE ONLY keyed SET v = 'new'", "DELETE FROM ONLY base"] {
        stage.comes_back(statement, sum);
    }
    // The row is gone, and the one that looks like it is another table's.
    for (statement, gone, other) in [
        ("UPDATE ONLY base SET a = 10", "DELETE FROM ONLY base", "SELECT a FROM child"),
        ("UPDATE ONLY keyed SET v = 'new'", "DELETE FROM ONLY keyed", "SELECT v FROM kid"),
    ] {
        let before = stage.value(other);
        let id = request(&stage.login().query(statement));
        stage.database.run(gone);
        let told = said(&stage.restore(&id, &[]));
        assert!(told.contains("conflict"), "{told}");
        assert_eq!(stage.value(other), before, "{told}");
    }
}

#[test]
fn values_whose_text_depends_on_who_reads_it_come_back() {
    let tables = "CREATE SCHEMA other; CREATE TABLE other.thing (x int); CREATE TABLE thing (y int); CREATE DOMAIN money_text AS text CHECK (VALUE <> '');
        CREATE TYPE mood AS ENUM ('sad', 'Ha ppy'); CREATE TYPE inner_pair AS (a mood, b timestamptz); CREATE TYPE outer_pair AS (i inner_pair, n numeric[]);
        CREATE TABLE t (id int PRIMARY KEY, c regclass, f regprocedure, y regtype, ts timestamptz, tz timetz, i interval, fl float4, dbl float8[], x xml, o outer_pair, os outer_pair[],
            dm money_text, mr datemultirange, lb int[], by bytea[], j jsonb, p point, ip inet, b bit(5), vb varbit, v tsvector, jp jsonpath, l pg_lsn, mo money);
        INSERT INTO t VALUES (1, 'other.thing', 'lower(text)', 'mood', '1999-12-31 23:59:59.999999+13', '12:00:00+05:30', '-1 mon +2 days -03:04:05.6', 0.1, '{0.1,NaN,-Infinity,1e-300}',
            '<?xml version=\"1.0\"?><a b=\"1\">x</a>', ROW(ROW('Ha ppy', '2020-02-02 02:02:02+00'), '{1.10,NULL}'), ARRAY[ROW(NULL, NULL)::outer_pair, NULL], 'dm', '{[2020-01-01,2020-02-01)}',
            '[0:1]={7,8}', ARRAY['\\x00ff'::bytea, ''], '{\"a\": [1, \"\\\\\\\"\"], \"b\": 1e40}', '(1.1,2)', '10.0.0.1/8', '10101', '1', 'a:1A b', '$.a[*] ? (@ > 1)', '16/B374D848', '-1234.56');
        INSERT INTO t (id, c) VALUES (2, 'thing');
        GRANT USAGE ON SCHEMA other TO {undoer}; CREATE TABLE was AS SELECT id, t::text AS was FROM t; ALTER ROLE {undoer} SET search_path = other, public; ALTER ROLE {undoer} SET DateStyle = 'SQL, DMY';
        ALTER ROLE {undoer} SET IntervalStyle = 'sql_standard'; ALTER ROLE {undoer} SET TimeZone = 'America/New_York'; ALTER ROLE {undoer} SET bytea_output = 'escape';
        ALTER ROLE {undoer} SET extra_float_digits = -15; ALTER ROLE {undoer} SET xmloption = 'document'";
    let stage = stage("max_rows = 10", tables, &["t"]);
    let same = "SELECT count(*) FROM t JOIN was USING (id) WHERE t::text = was";
    assert_eq!(stage.value(same), "2");
    for statement in [
        "DELETE FROM t",
        "UPDATE t SET c = 'pg_class', ts = now(), tz = '1:00+00', i = '1 day', fl = 3, dbl = NULL, x = '<z/>', o = NULL, os = '{}', dm = 'z', mr = NULL, lb = '{7,8}', by = NULL, j = '1', mo = 0",
    ] {
        stage.comes_back(statement, same);
    }
}

#[test]
fn what_triggers_make_of_a_restored_row_is_said() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text, touched int DEFAULT 0); INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
        CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()";
    let stage = stage("max_rows = 10", tables, &["t"]);
    let id = request(&stage.login().query("UPDATE t SET v = 'z' WHERE id = 1"));
    let told = stage.restore(&id, &[]);
    assert!(
        told.status.success() && said(&told).contains("restored, but a trigger has set touched anew"),
        "{}",
        said(&told)
    );
    assert_eq!(stage.value("SELECT string_agg(concat(v, touched), ' ' ORDER BY id) FROM t"), "a2 b0");
    // One that lets nothing back is a conflict.
    let id = request(&stage.login().query("UPDATE t SET v = 'z' WHERE id = 2"));
    stage.database.run("CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'mine'; NEW.touched := 7; RETURN NEW; END $$");
    let told = said(&stage.restore(&id, &[]));
    assert!(told.contains("conflict: a trigger gives it other values"), "{told}");
    assert_eq!(stage.value("SELECT v FROM t WHERE id = 2"), "z");
}

#[test]
fn two_undos_at_once_restore_once_and_an_undo_has_none_of_its_own() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let before = stage.value(SHOP_SUM);
    let id = request(&stage.login().query("DELETE FROM visits"));
    let undo = format!("SELECT * FROM querygate_undo.restore('{id}')");
    let login = || Raw::login(&stage.database.target().with_user(&stage.undoer));
    let (mut first, mut second) = (login(), login());
    first.query("BEGIN");
    assert!(has_ended_well(&first.query(&undo)));
    second.send(m::query(&undo));
    eventually("the other waits", || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%restore(%' AND datname = current_database()";
        (stage.value(waits) == "1").then_some(())
    });
    first.query("COMMIT");
    let told = error(&second.until(b'Z'));
    assert!(told.contains("was undone already"), "{told}");
    assert_eq!(stage.value(SHOP_SUM), before);
    // What an undo did is not kept.
    let done = request(&stage.login().query("DELETE FROM visits"));
    let told = said(&stage.restore(&done, &[]));
    let by = told.lines().find_map(|line| line.split("request ").nth(1)).unwrap().trim().to_owned();
    assert!(said(&stage.restore(&by, &[])).contains("nothing is kept of request"), "{by}");
}

#[test]
fn clearing_away_waits_for_no_undo_and_ends_none() {
    let settings = "clear_interval = \"100ms\"\nretention = \"1h\"";
    let stage = stage_with("max_rows = 10", settings, SHOP, SHOP_TABLES);
    let mut raw = stage.login();
    let busy = request(&raw.query("DELETE FROM visits WHERE id = 1"));
    let idle = request(&raw.query("DELETE FROM visits WHERE id = 2"));
    // Both are past their time before anybody else can see it, one of them while it is being undone.
    let mut owner = stage.database.raw();
    owner.query("BEGIN");
    let mut undoer = Raw::login(&stage.database.target().with_user(&stage.undoer));
    undoer.query("BEGIN");
    assert!(has_ended_well(&undoer.query(format!("SELECT * FROM querygate_undo.restore('{busy}')"))));
    owner.query(format!("UPDATE querygate_undo.request SET kept_until = now() WHERE request = '{idle}'"));
    owner.query("COMMIT");
    eventually("the other is cleared away", || {
        let left = format!("SELECT count(*) FROM querygate_undo.request WHERE request = '{idle}'");
        (stage.value(&left) == "0").then_some(())
    });
    assert!(has_ended_well(&undoer.query("COMMIT")));
    assert_eq!(stage.value("SELECT count(*) FROM visits"), "1");
}

#[test]
fn whoever_asks_for_an_undo_does_not_approve_it() {
    let people = "[[people]]\nname = \"una\"\ngroups = [\"approvers\"]\ntoken = \"token-of-una-for-tests-0123456789\"\ndatabase_users = [\"{undoer}\"]";
    let mut stage = stage_with("max_rows = 10", people, SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM visits"));
    drop(stage.approver.take());
    let api = stage.gate.api();
    std::thread::scope(|scope| {
        let undo = scope.spawn(|| stage.restore(&id, &[]));
        let held = api.wait_held("restore");
        let own = api.with_token("token-of-una-for-tests-0123456789").decide(&held, "approve", "mine");
        assert_eq!(own.status, 403, "{own:?}");
        api.approve(&held);
        assert!(undo.join().unwrap().status.success());
    });
}

#[test]
fn a_role_that_may_undo_settles_nothing_that_it_may_not_read() {
    let stage = stage("max_rows = 10", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM visits"));
    stage.database.run(&format!("REVOKE SELECT ON visits FROM {}", stage.undoer));
    let mut direct = Raw::login(&stage.database.target().with_user(&stage.undoer));
    let settle = format!("SELECT querygate_undo.settle('{id}', ARRAY(SELECT generate_series(1::bigint, 1000)), 0)");
    let told = error(&direct.query(settle));
    assert!(told.contains("not being undone here"), "{told}");
    for sql in [
        "INSERT INTO querygate_undo.undoing (request, role, pid, restored, conflicts) VALUES ('x', 'y', 1, 1, 1)",
        "TABLE querygate_undo.ticket",
        "SELECT querygate_undo.give_up('x', 'y')",
        "SELECT querygate_undo.uncovered('x')",
    ] {
        assert_eq!(direct.query(sql)[0].sqlstate(), "42501", "{sql}");
    }
}

#[test]
fn large_rows_and_savepoints_keep_no_more_than_is_said() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')";
    let stage = stage("max_rows = 10, max_bytes = \"1MiB\"", tables, &["t"]);
    let told = error(&stage.login().query("UPDATE t SET v = repeat('x', 3000000)"));
    assert!(told.contains("its rows take more than 1024 kB"), "{told}");
    assert_eq!(stage.value("SELECT max(length(v)) FROM t"), "1");
    let mut raw = stage.login();
    raw.query("BEGIN");
    raw.query("SAVEPOINT a");
    let gone = request(&raw.query("DELETE FROM t WHERE id = 1"));
    raw.query("ROLLBACK TO a");
    let stays = request(&raw.query("DELETE FROM t WHERE id = 2"));
    raw.query("COMMIT");
    assert!(said(&stage.restore(&gone, &[])).contains("nothing is kept of request"));
    assert!(stage.restore(&stays, &[]).status.success());
    assert_eq!(stage.value("SELECT string_agg(v, ',' ORDER BY id) FROM t"), "a,b");
}
