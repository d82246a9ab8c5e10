//! Rules that ask what a statement would touch: what is small passes unasked, what is large or not known is held, what reaches critical
//! tables is rejected.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, Target, shared};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::raw::{Frame, Raw, eventually};

const SCHEMA: &str = "CREATE SCHEMA billing; \
    CREATE TABLE customers (id int PRIMARY KEY, gone bool NOT NULL DEFAULT false); \
    CREATE TABLE notes (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE); \
    CREATE TABLE billing.invoices (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE); \
    CREATE TABLE billing.events (at int, what text) PARTITION BY RANGE (at); \
    CREATE TABLE old_events PARTITION OF billing.events FOR VALUES FROM (0) TO (10); \
    INSERT INTO customers SELECT n FROM generate_series(1, 50) n; \
    INSERT INTO notes SELECT n, 11 + n % 2 FROM generate_series(1, 4) n; \
    INSERT INTO billing.invoices VALUES (1, 20); INSERT INTO old_events VALUES (1, 'x'); ANALYZE";

const RULES: &str = r#"
[[rule]]
name = "billing"
action = "reject"
effects = ["delete", "truncate"]
impact = { critical = "cascaded" }
message = "it takes invoices along"

[[rule]]
name = "few"
action = "allow"
effects = ["delete", "update"]
impact = { max_rows = 3, critical = "untouched" }

[[rule]]
name = "cheap"
action = "allow"
effects = ["alter"]
impact = { rewrites = false, max_bytes = "1GiB", critical = "untouched" }

[[rule]]
name = "reads"
action = "allow"
effects = ["read", "insert", "transaction", "session", "reading-setting"]
"#;

/// A database after `SCHEMA`, and a gate with `RULES` whose prober has all the time it needs.
fn stage(more: &str) -> (Database, Gate) {
    let database = shared();
    let role = database.unique("impact");
    database.run(&format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO {role}"));
    database.run(SCHEMA);
    let impact = format!(
        "[policy]\ncritical = [\"billing.*\"]\n[impact]\nuser = \"{role}\"\nbudget = \"60s\"\ncount_budget = \"60s\"\n\
         connect_timeout = \"60s\"\nlock_timeout = \"60s\"\n{more}"
    );
    let gate = Gate::builder().toml(&(impact + RULES)).start(database.target());
    (database, gate)
}

/// The same messages to both, and their answers.
fn both(database: &Database, gate: &Gate, messages: impl Fn(&mut Raw)) -> [Vec<Frame>; 2] {
    let run = |target: &Target| {
        let mut raw = Raw::login(target);
        messages(&mut raw);
        raw.until(b'Z')
    };
    [run(database.target()), run(&gate.target())]
}

fn is_like(frames: &[Vec<Frame>; 2]) -> bool {
    let told = |frames: &[Frame]| frames.iter().map(|frame| (frame.tag, frame.body.clone())).collect::<Vec<_>>();
    told(&frames[0]) == told(&frames[1])
}

/// Starts `sql`, waits until it is held, and takes it back. Says why it was held.
fn held(gate: &Gate, sql: &str) -> String {
    let psql = Psql::new(&gate.target()).start(sql);
    let id = gate.api().wait_held(sql.rsplit(';').next().unwrap().trim());
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    gate.api().reject(&id, "no");
    let said = finish(psql);
    assert!(said.stderr.contains("rejected by"), "{}", said.stderr);
    format!("{} {}", request["rule"], request["why"])
}

#[test]
fn what_is_small_passes_unasked_and_the_client_sees_nothing_of_the_gate() {
    let (database, gate) = stage("");
    let reset = || {
        database.run("DELETE FROM notes; DELETE FROM customers; INSERT INTO customers SELECT generate_series(1, 50)");
    };
    for sql in [
        "DELETE FROM customers WHERE id <= 3",
        "UPDATE customers SET gone = true WHERE id = 1",
        "DELETE FROM customers WHERE id < 0",
    ] {
        let frames = both(&database, &gate, |raw| {
            reset();
            raw.send(m::query(sql));
        });
        assert!(is_like(&frames), "{sql}: {frames:?}");
    }
    let frames = both(&database, &gate, |raw| {
        reset();
        raw.send(m::parse("s", "DELETE FROM customers WHERE id > $1 RETURNING id", &[]));
        raw.send(m::bind("", "s", &[Some(b"48")]));
        raw.send(m::describe_portal(""));
        raw.send(m::execute("", 0));
        raw.send(m::sync());
    });
    assert!(is_like(&frames), "{frames:?}");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "48");
    assert!(gate.api().pending().is_empty());
}

#[test]
fn a_prepared_statement_is_as_large_as_its_values_make_it() {
    let (database, gate) = stage("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::parse("s", "DELETE FROM customers WHERE id > $1", &[]));
    raw.send(m::sync());
    raw.until(b'Z');
    let bound = |value: &[u8]| [m::bind("", "s", &[Some(value)]), m::execute("", 0), m::sync()].concat();
    let failed = |frames: &[Frame]| frames.iter().find(|frame| frame.tag == b'E').map(Frame::sqlstate);
    raw.send(bound(b"48"));
    assert_eq!(failed(&raw.until(b'Z')), None);
    raw.send(bound(b"30"));
    let id = gate.api().wait_held("DELETE FROM customers");
    gate.api().reject(&id, "no");
    assert_eq!(failed(&raw.until(b'Z')).as_deref(), Some("42501"));
    raw.send(bound(b"46"));
    assert_eq!(failed(&raw.until(b'Z')), None);
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "46");
}

#[test]
fn what_is_large_is_held_and_the_reason_tells_how_large() {
    let (_database, gate) = stage("");
    let why = held(&gate, "DELETE FROM customers WHERE id BETWEEN 1 AND 4");
    assert!(why.contains("default") && why.contains("deletes 4 rows (exact) of public.customers"), "{why}");
    // Two of its own and two notes each: the cascade counts.
    let why = held(&gate, "DELETE FROM customers WHERE id IN (11, 12)");
    assert!(why.contains("cascades to 4 rows"), "{why}");
    // Two statements are not one, however small.
    held(&gate, "DELETE FROM notes WHERE id = 1; DELETE FROM notes WHERE id = 2");
    held(&gate, "WITH gone AS (DELETE FROM notes WHERE id = 1 RETURNING id) DELETE FROM notes WHERE id = 2");
}

#[test]
fn what_reaches_a_critical_table_is_rejected_or_held() {
    let (database, gate) = stage("");
    let said = Psql::new(&gate.target()).command("DELETE FROM customers WHERE id = 20");
    assert!(said.stderr.contains("rejected by policy: it takes invoices along"), "{}", said.stderr);
    assert!(!said.stderr.contains("waiting for approval"), "{}", said.stderr);
    // In the extended protocol the rest of the batch is skipped.
    let mut raw = Raw::login(&gate.target());
    raw.send(m::extended("DELETE FROM customers WHERE id = 20", &[]));
    let frames = raw.until(b'Z');
    let refused = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!((refused.sqlstate().as_str(), frames.len()), ("42501", 3), "{frames:?}");
    // Named itself, not by a cascade: another rule's matter. And a part of a critical table is critical, as is the whole of a part.
    held(&gate, "DELETE FROM billing.invoices WHERE id = 1");
    held(&gate, "DELETE FROM old_events WHERE at = 1");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "50");
}

#[test]
fn what_an_open_transaction_has_done_makes_everything_large() {
    let (database, gate) = stage("");
    let mut raw = Raw::login(&gate.target());
    raw.query("BEGIN");
    // Nobody else sees these rows yet.
    raw.query("INSERT INTO notes SELECT n FROM generate_series(1000, 1100) n");
    raw.send(m::query("DELETE FROM notes WHERE id >= 1000"));
    let id = gate.api().wait_held("DELETE");
    gate.api().reject(&id, "no");
    raw.until(b'Z');
    drop(raw);
    held(&gate, "INSERT INTO notes SELECT generate_series(2000, 2100); DELETE FROM notes WHERE id >= 2000");
    // It may have made invoices for these by now, so the cascade into them counts.
    let said = Psql::new(&gate.target()).command("BEGIN; DELETE FROM customers WHERE id = 1");
    assert!(said.stderr.contains("rejected by policy"), "{}", said.stderr);
    // And through a function nobody has looked into.
    database.run("CREATE FUNCTION all_of_them(int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true'");
    held(&gate, "DELETE FROM notes WHERE id = 1 RETURNING all_of_them(id)");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "50");
}

#[test]
fn what_cannot_be_known_is_large_and_is_asked_about() {
    let (database, gate) = stage("exclude = [\"public.notes\"]\n");
    assert!(held(&gate, "DELETE FROM notes WHERE id = 1").contains("default"));
    let none = Gate::builder()
        .toml(&format!("[policy]\ncritical = [\"billing.*\"]\n[impact]\nuser = \"nobody_of_that_name\"\n{RULES}"))
        .start(database.target());
    // It may reach invoices, so it is not rejected outright, and not let through.
    let why = held(&none, "DELETE FROM customers WHERE id = 1");
    assert!(why.contains("billing") && why.contains("not known"), "{why}");
}

/// Row 20 has an invoice. The prober would find another row than a session with `bytea_output = escape`, or than one a moment later.
#[test]
fn where_the_session_may_find_other_rows_their_cascades_count() {
    let (database, gate) = stage("");
    let run = |text: &str| finish(Psql::new(&gate.target()).start(text)).stderr;
    for choice in [r"'\x41'::bytea::text = 'A'", "now() > '2200-01-01'", "0.1::float8::text <> '0.1'"] {
        let said = run(&format!("DELETE FROM customers WHERE id = CASE WHEN {choice} THEN 20 ELSE 1 END"));
        assert!(said.contains("it takes invoices along"), "{choice}: {said}");
    }
    held(&gate, "DELETE FROM notes WHERE id IN (SELECT id FROM notes LIMIT 1)");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "50");
    assert_eq!(run("DELETE FROM customers WHERE id = 1"), "");
}

#[test]
fn rows_that_come_after_the_look_do_not_pass() {
    // Without being parsed first, which takes a lock, it is looked into before it waits for the lock.
    let (database, gate) = stage("[hold]\nparse_first = false\n");
    let mut other = database.raw();
    other.query("BEGIN; LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE");
    let psql = Psql::new(&gate.target()).start("DELETE FROM customers WHERE id >= 48");
    let mut watch = database.raw();
    eventually("it waits for the lock", || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'customers'::regclass";
        (watch.value(waits) == "1").then_some(())
    });
    other.query("INSERT INTO customers SELECT generate_series(100, 120); COMMIT");
    let said = finish(psql);
    assert!(said.stderr.contains("undone") && said.stderr.contains("at most 3"), "{}", said.stderr);
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "71");
}

#[test]
fn while_it_is_looked_into_it_can_be_cancelled_and_its_client_may_go() {
    let (database, gate) = stage("");
    let mut other = database.raw();
    other.query("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE");
    let waiting = || {
        let mut watch = database.raw();
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        move || (watch.value(waits) == "1").then_some(())
    };
    let mut raw = Raw::login(&gate.target());
    let (pid, key) = raw.key.clone().unwrap();
    // The delete itself locks notes only when it runs; the prober has to read them now.
    raw.send(m::query("DELETE FROM customers WHERE id = 1"));
    eventually("the prober waits", waiting());
    Raw::connect(gate.address).send(m::cancel_request(pid, &key));
    let frames = raw.until(b'Z');
    assert_eq!(frames.iter().find(|frame| frame.tag == b'E').unwrap().sqlstate(), "57014", "{frames:?}");
    assert_eq!(raw.value("SELECT 1"), "1");
    eventually("the prober has given up", || {
        let mut watch = database.raw();
        (watch.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == "0").then_some(())
    });
    raw.send(m::query("DELETE FROM customers WHERE id = 1"));
    eventually("the prober waits again", waiting());
    drop(raw);
    eventually("nobody is left", || {
        let mut watch = database.raw();
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        (watch.value(others) == "1").then_some(())
    });
    other.query("COMMIT");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "50");
}

#[test]
fn a_critical_table_that_is_named_second_is_touched() {
    let (database, gate) = stage("");
    database.run("CREATE TABLE invoices (id int NOT NULL, customer int); CREATE TABLE more (a int PRIMARY KEY)");
    for text in [
        "ALTER TABLE invoices INHERIT billing.invoices",
        "ALTER TABLE more ADD FOREIGN KEY (a) REFERENCES billing.invoices NOT VALID",
    ] {
        held(&gate, text);
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'invoices'::regclass"), "0");
    let said = Psql::new(&gate.target()).command("ALTER TABLE more ADD COLUMN b int");
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
}

#[test]
fn an_alter_that_rewrites_nothing_passes() {
    let (database, gate) = stage("");
    let said = Psql::new(&gate.target()).command("ALTER TABLE customers ADD COLUMN mail text");
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    held(&gate, "ALTER TABLE customers ALTER COLUMN id TYPE bigint");
    held(&gate, "ALTER TABLE customers DROP COLUMN gone");
    // It drops the key of a critical table along.
    let why = held(&gate, "ALTER TABLE customers DROP CONSTRAINT customers_pkey CASCADE");
    assert!(why.contains("default"), "{why}");
    assert_eq!(
        database.raw().value(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = 'billing.invoices'::regclass AND contype = 'f'"
        ),
        "1"
    );
    for sql in [
        "ALTER TABLE customers ADD COLUMN since timestamptz DEFAULT now()",
        "ALTER TABLE customers ADD CONSTRAINT odd CHECK (id > 0) NOT VALID",
        "ALTER TABLE customers DROP CONSTRAINT odd CASCADE",
    ] {
        let said = Psql::new(&gate.target()).command(sql);
        assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{sql}");
    }
    assert_eq!(
        database
            .raw()
            .value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'customers'::regclass AND attname = 'mail'"),
        "1"
    );
}

/// What psql says of what passes.
fn passed(gate: &Gate, sql: &str) -> proxy_tests::psql::Said {
    finish(Psql::new(&gate.target()).start(sql))
}

/// Two seconds and a half, by the server's clock.
fn a_while(database: &Database) {
    database.raw().value("SELECT pg_sleep(2.5)");
}

#[test]
fn keys_that_follow_other_columns_are_followed_too() {
    let (database, gate) = stage("");
    database.run(
        "CREATE TABLE made (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 10) STORED UNIQUE, t int UNIQUE); \
         CREATE TABLE billing.of_made (g int REFERENCES made (g) ON UPDATE CASCADE, t int REFERENCES made (t) ON UPDATE CASCADE); \
         INSERT INTO made VALUES (1, DEFAULT, 1), (2, DEFAULT, 2); INSERT INTO billing.of_made VALUES (10, NULL), (NULL, 2); \
         CREATE TABLE written (id int PRIMARY KEY, k int UNIQUE, v int); \
         CREATE TABLE billing.of_written (k int REFERENCES written (k) ON UPDATE CASCADE); \
         CREATE FUNCTION rewrites() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.k := 7; RETURN NEW; END'; \
         CREATE TRIGGER rewrites BEFORE UPDATE ON written FOR EACH ROW EXECUTE FUNCTION rewrites(); \
         INSERT INTO written VALUES (1, 1, 1); INSERT INTO billing.of_written VALUES (1)",
    );
    for sql in ["UPDATE made SET id = 11 WHERE id = 1", "UPDATE written SET v = 2 WHERE id = 1"] {
        held(&gate, sql);
    }
    assert_eq!(passed(&gate, "UPDATE made SET id = 12 WHERE id = 2").status, Some(0));
    assert_eq!(database.raw().value("SELECT count(*) FROM billing.of_made WHERE g = 10"), "1");
}

#[test]
fn settings_and_types_of_the_sessions_own_do_not_make_few_rows_of_many() {
    let (database, gate) = stage("");
    database.run(
        "CREATE TABLE kept (id int PRIMARY KEY, ts timestamptz, n text); \
         INSERT INTO kept SELECT n, '2026-01-01 00:00 UTC', '\"a\"' FROM generate_series(1, 9) n; \
         INSERT INTO kept SELECT n, '2026-01-01 00:00 UTC', repeat('a', 70) FROM generate_series(10, 19) n",
    );
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("CREATE DOMAIN pg_temp.name AS text"));
    gate.api().approve(&gate.api().wait_held("CREATE DOMAIN"));
    raw.until(b'Z');
    raw.query("SET timezone_abbreviations = 'Australia'");
    raw.query("SET quote_all_identifiers = on");
    let cast = format!("DELETE FROM kept WHERE n = '{}'::name", "a".repeat(70));
    for sql in [
        "DELETE FROM kept WHERE ts > '2025-12-31 20:00 EST'",
        "DELETE FROM kept WHERE quote_ident('a') = n",
        cast.as_str(),
    ] {
        raw.send(m::query(sql));
        let id = gate.api().wait_held("DELETE FROM kept");
        gate.api().reject(&id, "no");
        raw.until(b'Z');
    }
    // They are taken over, not refused: what is few by them passes.
    let frames = raw.query("DELETE FROM kept WHERE ts < '2026-01-01 04:00 EST' OR id = 1");
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    assert_eq!(database.raw().value("SELECT count(*) FROM kept"), "18");
}

/// Each finds no row as the prober looks, and all 50 as the session is set.
#[test]
fn what_the_session_reads_in_another_order_or_currency_is_not_small() {
    let (database, gate) = stage("");
    database.run(
        "CREATE TABLE x (f float8); INSERT INTO x VALUES (1e20), (-1e20), (1); CREATE INDEX ON x (f); \
         CREATE TABLE priced (id int PRIMARY KEY, m money); INSERT INTO priced SELECT n, '100' FROM generate_series(1, 50) n; \
         CREATE TABLE moving (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); \
         CREATE TABLE moving1 PARTITION OF moving FOR VALUES IN (1); CREATE TABLE moving2 PARTITION OF moving FOR VALUES IN (2); \
         CREATE TABLE billing.of_moving (id int, k int, FOREIGN KEY (id, k) REFERENCES moving1 ON DELETE CASCADE); \
         INSERT INTO moving VALUES (1, 1); INSERT INTO billing.of_moving SELECT 1, 1 FROM generate_series(1, 50)",
    );
    for sql in [
        "SET enable_seqscan = off; DELETE FROM customers WHERE (SELECT sum(f) FROM x) = 0",
        "DELETE FROM priced WHERE m = '100' AND id < 3",
        "UPDATE moving SET k = 2 WHERE id = 1",
    ] {
        held(&gate, sql);
    }
    let said = finish(Psql::new(&gate.target()).start("UPDATE moving SET id = 7 WHERE id = 7"));
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    // A part of what a condition would find, by chance.
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("SET gin_fuzzy_search_limit = 3"));
    gate.api().reject(&gate.api().wait_held("SET gin_fuzzy_search_limit = 3"), "no");
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM billing.of_moving"), "50");
}

#[test]
fn what_is_measured_is_executed_at_once_or_not_at_all() {
    let (database, gate) = stage("");
    let mut raw = Raw::login(&gate.target());
    let bound = |raw: &mut Raw| {
        raw.send(
            [m::parse("", "DELETE FROM customers WHERE NOT gone AND id < 3", &[]), m::bind("", "", &[]), m::flush()]
                .concat(),
        );
        raw.until(b'2');
    };
    bound(&mut raw);
    database.run("INSERT INTO billing.invoices VALUES (2, 1)");
    a_while(&database);
    raw.send([m::execute("", 0), m::sync()].concat());
    let frames = raw.until(b'Z');
    assert_eq!(
        frames.iter().find(|frame| frame.tag == b'E').map(Frame::sqlstate).as_deref(),
        Some("0A000"),
        "{frames:?}"
    );
    assert_eq!(database.raw().value("SELECT count(*) FROM billing.invoices"), "2");
    database.run("DELETE FROM billing.invoices WHERE id = 2");
    bound(&mut raw);
    raw.send([m::execute("", 0), m::sync()].concat());
    assert!(raw.until(b'Z').iter().all(|frame| frame.tag != b'E'));
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "48");
}

#[test]
fn triggers_and_rules_behind_a_foreign_key_count_though_no_row_refers() {
    let (database, _) = stage("");
    let role = database.unique("impact2");
    database.run(&format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO {role}"));
    let impact = format!(
        "[policy]\ncritical = [\"billing.*\"]\n[impact]\nuser = \"{role}\"\nbudget = \"60s\"\ncount_budget = \"60s\"\n\
         connect_timeout = \"60s\"\nlock_timeout = \"60s\"\n"
    );
    let quiet = "[[rule]]\nname = \"quiet\"\naction = \"allow\"\neffects = [\"delete\", \"update\", \"insert\"]\n\
                impact = { max_rows = 3, critical = \"untouched\", triggers = false }\n[[rule]]\nname = \"reads\"\naction = \"allow\"\neffects = [\"read\"]\n";
    database.run(
        "CREATE FUNCTION clears() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM billing.invoices; RETURN NULL; END'; \
         CREATE TABLE plain (id int PRIMARY KEY); CREATE TABLE of_plain (id int REFERENCES plain ON DELETE CASCADE); \
         CREATE TABLE watched (id int PRIMARY KEY); CREATE TABLE of_watched (id int REFERENCES watched ON DELETE CASCADE); \
         CREATE TRIGGER clears AFTER DELETE ON of_watched EXECUTE FUNCTION clears(); \
         CREATE TABLE ruled (id int PRIMARY KEY); CREATE TABLE of_ruled (id int REFERENCES ruled ON DELETE CASCADE); \
         CREATE RULE clears AS ON DELETE TO of_ruled DO ALSO DELETE FROM billing.invoices; \
         CREATE TABLE moving (id int, v int) PARTITION BY LIST (id); CREATE TABLE moving1 PARTITION OF moving FOR VALUES IN (1); \
         CREATE TABLE moving2 PARTITION OF moving FOR VALUES IN (2); \
         CREATE TRIGGER clears AFTER INSERT ON moving2 FOR EACH ROW EXECUTE FUNCTION clears(); \
         CREATE TABLE counted (id int PRIMARY KEY, v int); \
         CREATE TRIGGER clears AFTER UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION clears(); \
         INSERT INTO plain VALUES (1); INSERT INTO watched VALUES (1); INSERT INTO ruled VALUES (1); INSERT INTO moving VALUES (1, 1); \
         INSERT INTO counted VALUES (1, 1)",
    );
    let gate = Gate::builder().toml(&(impact + quiet)).start(database.target());
    for sql in [
        "DELETE FROM watched",
        "DELETE FROM ruled",
        "UPDATE moving SET id = 2",
        "INSERT INTO counted VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = 3",
    ] {
        held(&gate, sql);
    }
    let said = passed(&gate, "DELETE FROM plain");
    assert!(said.status == Some(0) && said.stderr.is_empty(), "{said:?}");
    assert_eq!(database.raw().value("SELECT count(*) FROM billing.invoices"), "1");
}
