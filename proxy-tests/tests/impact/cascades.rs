//! Foreign keys followed.

use querygate::impact::{Bound, CascadeAction, changes, digest, headlines, measure, summary};

use crate::stage::{Stage, cascade, exact, refusal};

const SHOP: &str = "CREATE SCHEMA shop; CREATE TABLE shop.customers (id int PRIMARY KEY, region int); \
    CREATE TABLE shop.orders (id int PRIMARY KEY, customer int REFERENCES shop.customers ON DELETE CASCADE ON UPDATE CASCADE); \
    CREATE TABLE shop.lines (\"order\" int REFERENCES shop.orders ON DELETE CASCADE, n int); \
    CREATE TABLE shop.notes (customer int DEFAULT 0 REFERENCES shop.customers ON DELETE SET NULL); \
    CREATE TABLE shop.visits (customer int DEFAULT 0 REFERENCES shop.customers ON DELETE SET DEFAULT); \
    CREATE TABLE shop.debts (customer int REFERENCES shop.customers); \
    INSERT INTO shop.customers SELECT n, n % 2 FROM generate_series(0, 9) AS n; \
    INSERT INTO shop.orders SELECT n, n % 10 FROM generate_series(1, 100) AS n; \
    INSERT INTO shop.lines SELECT n % 100 + 1, n FROM generate_series(1, 300) AS n; \
    INSERT INTO shop.notes VALUES (1), (2); INSERT INTO shop.visits VALUES (1), (1), (5); INSERT INTO shop.debts VALUES (9); ANALYZE";

#[test]
fn a_delete_follows_its_keys_with_counts() {
    let stage = Stage::new(SHOP);
    let impact = stage.probe("DELETE FROM shop.customers WHERE id IN (1, 2)");
    assert_eq!(
        digest(&impact),
        "deletes 2 rows (exact) of shop.customers; fails if rows of shop.debts refer to it (0 rows (exact) do); \
         sets null in 2 rows (exact) of shop.notes; cascades to 20 rows (exact) of shop.orders; and 2 foreign keys more"
    );
    let statement = crate::stage::one(impact);
    for (to, action, count, depth) in [
        ("shop.orders", CascadeAction::Delete, 20, 1),
        ("shop.lines", CascadeAction::Delete, 60, 2),
        ("shop.notes", CascadeAction::SetNull, 2, 1),
        ("shop.visits", CascadeAction::SetDefault, 2, 1),
        ("shop.debts", CascadeAction::Refuse, 0, 1),
    ] {
        let found = cascade(&statement, to);
        assert_eq!((found.action, exact(&found.rows), found.depth, found.cycle), (action, count, depth, false), "{to}");
    }
    // The numbers are what Postgres does.
    let mut raw = stage.database.raw();
    raw.rows("DELETE FROM shop.customers WHERE id IN (1, 2)");
    assert_eq!(raw.value("SELECT count(*) FROM shop.orders"), "80");
    assert_eq!(raw.value("SELECT count(*) FROM shop.lines"), "240");
    assert_eq!(raw.value("SELECT count(*) FROM shop.notes WHERE customer IS NULL"), "2");
}

#[test]
fn an_update_cascades_only_by_the_columns_it_writes() {
    let stage = Stage::new(SHOP);
    assert_eq!(stage.one("UPDATE shop.customers SET region = 5").cascades, []);
    let statement = stage.one("UPDATE shop.customers SET id = id + 100 WHERE id = 4");
    let orders = cascade(&statement, "shop.orders");
    assert_eq!((orders.action, exact(&orders.rows), orders.rows.bound), (CascadeAction::Update, 10, Bound::AtMost));
    assert_eq!(cascade(&statement, "shop.notes").action, CascadeAction::Refuse);
    // The orders' own key does not change, so their lines stay.
    assert!(statement.cascades.iter().all(|cascade| cascade.to != "shop.lines"));
}

#[test]
fn circles_end_and_are_named() {
    let stage = Stage::new(
        "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE); \
         INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 1), (4, 2); \
         CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE); \
         ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b ON DELETE CASCADE",
    );
    let statement = stage.one("DELETE FROM tree WHERE id = 1");
    assert_eq!(statement.cascades.len(), 1);
    let found = cascade(&statement, "public.tree");
    assert_eq!((exact(&found.rows), found.rows.bound, found.cycle), (2, Bound::AtLeast, true));
    let statement = stage.one("DELETE FROM a");
    let way: Vec<_> = statement.cascades.iter().map(|cascade| (cascade.to.as_str(), cascade.cycle)).collect();
    assert_eq!(way, [("public.b", false), ("public.a", true)]);
}

#[test]
fn keys_of_several_columns_and_of_partitions_are_followed_once() {
    let stage = Stage::new(
        "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); \
         CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); INSERT INTO p VALUES (1, 1), (1, 2), (2, 1); \
         CREATE TABLE c (x int, y int, k int, FOREIGN KEY (y, x) REFERENCES p (b, a) ON DELETE CASCADE) PARTITION BY LIST (k); \
         CREATE TABLE c1 PARTITION OF c FOR VALUES IN (1); CREATE TABLE c2 PARTITION OF c FOR VALUES IN (2); \
         INSERT INTO c VALUES (1, 1, 1), (1, 2, 2), (2, 1, 1), (1, 1, 2)",
    );
    for (text, count) in [("DELETE FROM p WHERE a = 1", 3), ("DELETE FROM p1 WHERE b = 2", 1), ("DELETE FROM p2", 1)] {
        let statement = stage.one(text);
        assert_eq!(statement.cascades.len(), 1, "{text}: {:?}", statement.cascades);
        assert_eq!(exact(&cascade(&statement, "public.c").rows), count, "{text}");
    }
}

/// It is deleted there and inserted elsewhere, and a key that refers to the partition itself takes that for a delete.
#[test]
fn an_update_that_may_move_rows_to_other_partitions_follows_keys_of_the_partitions_as_a_delete() {
    let stage = Stage::new(
        "CREATE TABLE p (id int, k int, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); \
         CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); INSERT INTO p VALUES (1, 1, 1); \
         CREATE TABLE c (id int, k int, FOREIGN KEY (id, k) REFERENCES p1 ON DELETE CASCADE ON UPDATE CASCADE); \
         CREATE TABLE whole (id int, k int, FOREIGN KEY (id, k) REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE); \
         INSERT INTO c SELECT 1, 1 FROM generate_series(1, 50); INSERT INTO whole VALUES (1, 1)",
    );
    let actions = |text: &str, to: &str| -> Vec<(CascadeAction, u64)> {
        let cascades = stage.one(text).cascades;
        cascades.iter().filter(|all| all.to == to).map(|all| (all.action, exact(&all.rows))).collect()
    };
    let both = [(CascadeAction::Update, 50), (CascadeAction::Delete, 50)];
    assert_eq!(actions("UPDATE p SET k = 2 WHERE id = 1", "public.c"), both);
    assert_eq!(actions("UPDATE p SET k = 2 WHERE id = 1", "public.whole"), [(CascadeAction::Update, 1)]);
    assert_eq!(actions("UPDATE p SET id = 2 WHERE id = 1", "public.c"), [(CascadeAction::Update, 50)]);
    assert_eq!(actions("UPDATE p1 SET k = 2 WHERE id = 1", "public.c"), [(CascadeAction::Update, 50)]);
    assert_eq!(actions("UPDATE p SET v = 2 WHERE id = 1", "public.c"), []);
    let mut raw = stage.database.raw();
    raw.query("BEGIN; UPDATE p SET k = 2 WHERE id = 1");
    assert_eq!(raw.value("SELECT count(*) FROM c"), "0");
    raw.query("ROLLBACK");
    // So does what a trigger writes.
    stage.database.run(
        "CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.k := 2; RETURN NEW; END'; \
         CREATE TRIGGER moves BEFORE UPDATE ON p1 FOR EACH ROW EXECUTE FUNCTION moves()",
    );
    assert_eq!(actions("UPDATE p SET v = 2 WHERE id = 1", "public.c"), both);
}

#[test]
fn a_key_reaches_no_heirs_and_a_doubtful_start_makes_doubtful_numbers() {
    let stage = Stage::new(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE); CREATE TABLE heir () INHERITS (c); \
         INSERT INTO t VALUES (1); INSERT INTO c VALUES (1); INSERT INTO heir VALUES (1), (1)",
    );
    let statement = stage.one("DELETE FROM t");
    let found = cascade(&statement, "public.c");
    assert_eq!((exact(&found.rows), found.rows.bound), (1, Bound::Exact));
    stage.database.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    assert_eq!(cascade(&stage.one("DELETE FROM t"), "public.c").rows.bound, Bound::AtMost);
}

#[test]
fn what_cannot_be_counted_is_still_followed() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE FUNCTION f(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; REVOKE ALL ON shop.orders FROM PUBLIC"
    ));
    let statement = stage.one("DELETE FROM shop.customers WHERE f(id)");
    assert_eq!(statement.cascades.len(), 5);
    assert!(refusal(&cascade(&statement, "shop.lines").rows).contains("f()"));
}

#[test]
fn the_graph_is_bounded() {
    let stage = Stage::new(SHOP);
    let prober = stage.prober_with(|settings| settings.cascades = 2);
    let impact = crate::stage::block_on(prober.probe(&stage.ask("DELETE FROM shop.customers")));
    assert!(impact.fingerprint.known().is_none());
    let statement = crate::stage::one(impact);
    assert_eq!(statement.cascades.len(), 2);
    assert!(statement.notes.iter().any(|note| note.contains("foreign key")), "{:?}", statement.notes);
}

#[test]
fn truncate_takes_tables_along_or_is_refused() {
    let stage = Stage::new(SHOP);
    let statement = stage.one("TRUNCATE shop.orders CASCADE");
    let lines = cascade(&statement, "shop.lines");
    assert_eq!((lines.action, exact(&lines.rows)), (CascadeAction::Truncate, 300));
    assert_eq!(statement.cascades.len(), 1);
    let statement = stage.one("TRUNCATE shop.orders");
    assert_eq!(cascade(&statement, "shop.lines").action, CascadeAction::Refuse);
    assert_eq!(stage.one("TRUNCATE shop.orders, shop.lines").cascades, []);
}

/// What is shown of `text`, names of tables in the place of `from` put back.
fn shown(stage: &Stage, text: &str) -> Vec<String> {
    summary(&stage.probe(text)).into_iter().filter(|line| !line.contains("qg_")).collect()
}

#[test]
fn through_views_upon_views_everything_goes_along_as_it_does_of_the_table() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER told AFTER DELETE ON shop.customers FOR EACH ROW EXECUTE FUNCTION f(); \
         CREATE VIEW one AS SELECT * FROM shop.customers; CREATE VIEW two AS SELECT region, id AS cid FROM one; \
         CREATE VIEW three AS SELECT * FROM two WHERE cid IN (SELECT id FROM shop.customers); CREATE VIEW keyless AS SELECT region FROM one"
    ));
    let plain = stage.probe("DELETE FROM shop.customers WHERE id IN (1, 2)");
    for (view, id) in [("one", "id"), ("two", "cid"), ("three", "cid")] {
        let impact = stage.probe(&format!("DELETE FROM {view} WHERE {id} IN (1, 2)"));
        let through = format!("deletes 2 rows (exact) of public.{view} (through the view, of shop.customers)");
        assert_eq!(headlines(&impact).first(), Some(&through));
        // Everything but the first line: cascades and triggers.
        assert_eq!(headlines(&impact).get(1..), headlines(&plain).get(1..), "{view}");
        assert!(
            shown(&stage, &format!("DELETE FROM {view}")).iter().any(|line| line.starts_with("shop.customers has"))
        );
        assert_eq!(measure(&impact, &[], None).rows, None, "rules take it as large");
        assert_eq!(measure(&impact, &[], None).triggers, Some(true));
    }
    // A renamed column leads to the key it is, a computed one to any.
    let statement = stage.one("UPDATE two SET cid = cid + 100 WHERE cid = 4");
    assert_eq!(exact(&cascade(&statement, "shop.orders").rows), 10);
    assert_eq!(stage.one("UPDATE two SET region = 5").cascades, []);
    // Where the view shows no key, what goes along is named, and how much is not known.
    let statement = stage.one("DELETE FROM keyless WHERE region = 1");
    assert!(refusal(&cascade(&statement, "shop.orders").rows).contains("the view shows no key of shop.customers"));
}

#[test]
fn what_grows_or_is_redefined_behind_a_view_is_a_difference() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE VIEW one AS SELECT * FROM shop.customers; CREATE VIEW two AS SELECT id, region FROM one; \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"
    ));
    for (change, told) in [
        ("ALTER TABLE shop.orders ADD COLUMN note text", "column shop.orders.note is new"),
        (
            "INSERT INTO shop.orders SELECT n, 1 FROM generate_series(1001, 1500) n",
            "510 rows of shop.orders by orders_customer_fkey now, 10 before",
        ),
        (
            "CREATE TRIGGER late BEFORE DELETE ON shop.customers FOR EACH ROW EXECUTE FUNCTION f()",
            "trigger late of shop.customers is new",
        ),
        (
            "CREATE OR REPLACE VIEW one AS SELECT * FROM shop.customers WHERE region < 9",
            "rule \"_RETURN\" of public.one was redefined",
        ),
    ] {
        let before = stage.probe("DELETE FROM two WHERE id = 1");
        stage.database.run(change);
        let now = stage.probe("DELETE FROM two WHERE id = 1");
        assert!(
            changes(&before, &now, 0.1).iter().any(|line| line == told),
            "{change}: {:?}",
            changes(&before, &now, 0.1)
        );
    }
}

#[test]
fn what_is_behind_a_view_that_does_not_say_is_said_to_be_unknown() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE VIEW j AS SELECT c.id FROM shop.customers c JOIN shop.orders o ON o.customer = c.id; \
         CREATE VIEW replaced AS SELECT * FROM shop.customers; CREATE VIEW upon AS SELECT * FROM replaced; \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM shop.orders; RETURN OLD; END'; \
         CREATE TRIGGER instead INSTEAD OF DELETE ON replaced FOR EACH ROW EXECUTE FUNCTION f()"
    ));
    for view in ["j", "replaced", "upon"] {
        let impact = stage.probe(&format!("DELETE FROM {view}"));
        let said = format!("of public.{view} (a view: what is changed behind it is not known)");
        assert!(headlines(&impact)[0].ends_with(&said), "{:?}", headlines(&impact));
        let measured = measure(&impact, &[], None);
        assert!(measured.rows.is_none() && !measured.complete && measured.triggers != Some(false), "{view}");
    }
}

#[test]
fn parts_of_with_that_change_rows_are_looked_into_and_rules_take_them_as_large() {
    let stage = Stage::new(SHOP);
    let text = "WITH old AS (SELECT 1 AS id), d AS (DELETE FROM shop.customers WHERE id IN (SELECT id FROM old) RETURNING id) SELECT * FROM d";
    let impact = stage.probe(text);
    let lines = headlines(&impact);
    assert_eq!(lines[0], "deletes 1 row (exact) of shop.customers");
    assert!(lines.contains(&"cascades to 10 rows (exact) of shop.orders".to_owned()), "{lines:?}");
    let measured = measure(&impact, &[], None);
    assert_eq!((measured.rows, measured.complete), (None, false));
    stage.database.run("INSERT INTO shop.orders SELECT n, 1 FROM generate_series(1001, 1500) n");
    let told = changes(&impact, &stage.probe(text), 0.1);
    assert!(told.iter().any(|line| line.starts_with("510 rows of shop.orders by")), "{told:?}");
    // What one part returns is no table, whatever there is of that name.
    stage.database.run("CREATE TABLE d (id int)");
    let both = "WITH d AS (DELETE FROM shop.orders RETURNING customer AS id) DELETE FROM shop.customers WHERE id IN (SELECT id FROM d)";
    let impact = stage.probe(both);
    assert!(headlines(&impact)[0].starts_with("deletes 600 rows (exact) of shop.orders"), "{:?}", headlines(&impact));
    let main = &impact.statements[1];
    assert!(refusal(main.objects[0].rows.as_ref().unwrap()).contains("the WITH query d changes rows"));
    assert_eq!((main.cascades.len(), main.place), (5, Some(0)));
    assert_eq!(measure(&impact, &[], None).rows, None);
}

#[test]
fn merge_names_what_goes_along_and_knows_no_rows() {
    let stage = Stage::new(SHOP);
    let statement =
        stage.one("MERGE INTO shop.customers c USING shop.debts d ON d.customer = c.id WHEN MATCHED THEN DELETE");
    assert!(refusal(&cascade(&statement, "shop.orders").rows).contains("MERGE"), "{statement:?}");
    let statement = stage.one(
        "MERGE INTO shop.customers c USING shop.debts d ON d.customer = c.id WHEN MATCHED THEN UPDATE SET region = 1",
    );
    assert_eq!(statement.cascades, []);
}
