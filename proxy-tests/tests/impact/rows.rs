//! Names and rows.

use proxy_tests::raw::Raw;
use querygate::impact::{Ask, Bound, Known, Value, digest, summary};

use crate::stage::{Stage, block_on, exact, one, refusal, rows};

const SHOP: &str = "CREATE SCHEMA shop; CREATE TABLE shop.customers (id int PRIMARY KEY, name text, born date); \
    INSERT INTO shop.customers SELECT n, 'c' || n, '2000-01-01'::date + n FROM generate_series(1, 100) AS n; ANALYZE shop.customers";

#[test]
fn rows_of_a_delete_are_counted_and_estimated() {
    let stage = Stage::new(SHOP);
    let statement = stage.one("DELETE FROM shop.customers WHERE id <= 40");
    let found = rows(&statement);
    assert_eq!((exact(&found), found.bound), (40, Bound::Exact));
    assert!((30..=50).contains(found.estimate.known().unwrap()), "{found:?}");
    let object = &statement.objects[0];
    let resolved = object.resolved.known().unwrap();
    assert_eq!((resolved.qualified().as_str(), resolved.kind.as_str()), ("shop.customers", "table"));
    let table = object.table.as_ref().unwrap().known().unwrap();
    assert_eq!(table.reltuples, Some(100.0));
    assert!(table.last_analyze.is_some() && *table.bytes.known().unwrap() >= 8192, "{table:?}");
    assert_eq!(statement.lock.as_deref(), Some("ROW EXCLUSIVE"));
    assert_eq!(stage.database.raw().value("SELECT count(*) FROM shop.customers"), "100");
}

#[test]
fn every_harmless_condition_counts_what_the_statement_would_touch() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE TABLE shop.black (customer int, tags text[], note jsonb); \
         INSERT INTO shop.black SELECT n, ARRAY['a'], '{{\"k\": 1}}' FROM generate_series(1, 100, 10) AS n, generate_series(1, 2)"
    ));
    for condition in [
        "DELETE FROM shop.customers",
        "DELETE FROM shop.customers WHERE name LIKE 'c1%' OR name IN ('c2', 'c3')",
        "DELETE FROM shop.customers c WHERE c.born BETWEEN '2000-02-01' AND DATE '2000-02-10'",
        "DELETE FROM ONLY shop.customers WHERE lower(upper(name)) = 'c7' AND born IS NOT NULL",
        "DELETE FROM shop.customers USING shop.black b WHERE b.customer = customers.id",
        "DELETE FROM shop.customers WHERE id IN (SELECT customer FROM shop.black)",
        "DELETE FROM shop.customers c WHERE EXISTS (SELECT * FROM shop.black b WHERE b.customer = c.id AND 'a' = ANY (b.tags))",
        "WITH customers AS (SELECT customer FROM shop.black) DELETE FROM shop.customers c WHERE c.id IN (SELECT customer FROM customers)",
        "UPDATE shop.customers SET name = 'x' WHERE id % 2 = 0",
        "UPDATE shop.customers c SET name = b.note ->> 'k' FROM shop.black b JOIN shop.customers o ON o.id = b.customer WHERE c.id = o.id",
        "DELETE FROM shop.customers WHERE id = (CASE WHEN id > 5 THEN 7 ELSE NULL END)",
        "DELETE FROM shop.customers WHERE name = 'it''s' OR name = E'\\\\c1' OR name = 'c1'",
        "DELETE FROM shop.customers WHERE (id, name) = (5, 'c5') AND coalesce(name, '') <> ''",
        "INSERT INTO shop.customers SELECT id + 1000, name, born FROM shop.customers WHERE id < 4",
        "INSERT INTO shop.customers (id) VALUES (1000), (1001)",
        "DELETE FROM shop.customers WHERE regexp_replace(name, 'c', '') = '7'",
        "DELETE FROM shop.customers WHERE name SIMILAR TO 'c(1|2)' OR name ~ '^c9'",
        "DELETE FROM shop.customers WHERE id IN (SELECT id FROM shop.customers ORDER BY born DESC LIMIT 3)",
    ] {
        let found = stage.rows(condition);
        let mut raw = stage.database.raw();
        raw.query("BEGIN");
        let frames = raw.query(condition);
        let tag = frames.iter().find(|frame| frame.tag == b'C').unwrap_or_else(|| panic!("{condition}: {frames:?}"));
        let tag = String::from_utf8_lossy(&tag.body).trim_end_matches('\0').to_owned();
        raw.query("ROLLBACK");
        let touched = tag.rsplit(' ').next().unwrap();
        assert_eq!(exact(&found).to_string(), touched, "{condition}");
    }
}

#[test]
fn a_multiply_joined_row_counts_once() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE TABLE shop.many (customer int); INSERT INTO shop.many SELECT 1 FROM generate_series(1, 50)"
    ));
    let found = stage.rows("DELETE FROM shop.customers c USING shop.many m WHERE m.customer = c.id");
    assert_eq!(exact(&found), 1);
}

#[test]
fn names_are_found_as_the_session_finds_them() {
    let stage = Stage::new(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA \"We\"\"ird\"; CREATE TABLE a.t (x int); CREATE TABLE b.t (x int); \
         CREATE TABLE \"We\"\"ird\".t (x int); INSERT INTO a.t VALUES (1); INSERT INTO b.t VALUES (1), (2); \
         INSERT INTO \"We\"\"ird\".t VALUES (1), (2), (3)",
    );
    for (path, name, count) in
        [("a, b", "a.t", 1), ("nosuch, b, a", "b.t", 2), ("\"We\"\"ird\", a", "We\"ird.t", 3), ("A", "a.t", 1)]
    {
        let mut ask = stage.ask("DELETE FROM t");
        ask.search_path = Some(path.to_owned());
        let statement = one(block_on(stage.prober().probe(&ask)));
        assert_eq!(statement.objects[0].resolved.known().unwrap().qualified(), name, "{path}");
        assert_eq!(exact(&rows(&statement)), count, "{path}");
    }
    let mut ask = stage.ask("DELETE FROM t");
    ask.search_path = Some("a, pg_catalog".to_owned());
    let impact = block_on(stage.prober().probe(&ask));
    assert!(impact.trouble.unwrap().contains("pg_catalog"));
}

#[test]
fn an_unreported_path_comes_from_the_roles_settings_and_is_noted() {
    let stage = Stage::new("CREATE SCHEMA a; CREATE TABLE a.t (x int); INSERT INTO a.t VALUES (1)");
    let name = stage.database.target().database.clone();
    stage.database.run(&format!("ALTER DATABASE {name} SET search_path = a, public"));
    let mut ask = stage.ask("DELETE FROM t");
    ask.search_path = None;
    let impact = block_on(stage.prober().probe(&ask));
    assert!(impact.notes.iter().any(|note| note.contains("search_path")), "{impact:?}");
    assert_eq!(exact(&rows(&one(impact))), 1);
}

#[test]
fn a_temporary_table_is_not_mistaken_for_another() {
    let stage = Stage::new("CREATE TABLE t (x int); INSERT INTO t VALUES (1)");
    let mut session = stage.database.raw();
    session.rows("CREATE TEMP TABLE t (x int)");
    let why = refusal(&stage.rows("DELETE FROM t"));
    assert!(why.contains("temporary"), "{why}");
    // In a transaction the session's temporary schema can be told from others'.
    let pid: i32 = session.value("SELECT pg_backend_pid()").parse().unwrap();
    session.rows("BEGIN");
    let mut ask = stage.ask("DELETE FROM t");
    ask.backend_pid = Some(pid);
    let why = refusal(&rows(&one(block_on(stage.prober().probe(&ask)))));
    assert!(why.contains("is a temporary table of the session"), "{why}");
    let mut other = stage.database.raw();
    ask.backend_pid = Some(other.value("SELECT pg_backend_pid()").parse().unwrap());
    other.rows("BEGIN");
    assert_eq!(exact(&rows(&one(block_on(stage.prober().probe(&ask))))), 1);
}

#[test]
fn bound_values_are_put_in_with_their_types() {
    let stage = Stage::new(SHOP);
    let value = |type_name: Option<&str>, text: Option<&str>| Value {
        type_name: type_name.map(str::to_owned),
        text: text.map(str::to_owned),
        undecodable: false,
    };
    for (text, values, count) in [
        ("DELETE FROM shop.customers WHERE id < $1", vec![value(Some("int4"), Some("11"))], 10),
        ("DELETE FROM shop.customers WHERE id = ANY ($1)", vec![value(Some("_int4"), Some("{1,2}"))], 2),
        (
            "DELETE FROM shop.customers WHERE name = $2 AND id > $1",
            vec![value(Some("int8"), Some("0")), value(None, Some("c5"))],
            1,
        ),
        ("DELETE FROM shop.customers WHERE name = $1", vec![value(Some("text"), None)], 0),
        (
            "DELETE FROM shop.customers WHERE name = $1",
            vec![value(Some("text"), Some("'; DROP TABLE shop.customers; --"))],
            0,
        ),
        ("DELETE FROM shop.customers WHERE name = $1", vec![value(Some("text"), Some("\\' OR true --"))], 0),
    ] {
        let ask = Ask { values, ..stage.ask(text) };
        assert_eq!(exact(&rows(&one(block_on(stage.prober().probe(&ask))))), count, "{text}");
    }
    let why = refusal(&stage.rows("DELETE FROM shop.customers WHERE id = $1"));
    assert!(why.contains("$1"), "{why}");
    let raw = Value { type_name: None, text: Some("00".to_owned()), undecodable: true };
    let ask = Ask { values: vec![raw], ..stage.ask("DELETE FROM shop.customers WHERE name = $1") };
    assert!(refusal(&rows(&one(block_on(stage.prober().probe(&ask))))).contains("decoded"));
}

#[test]
fn partitions_and_children_count_unless_only_is_written() {
    let stage = Stage::new(
        "CREATE TABLE p (x int) PARTITION BY RANGE (x); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p SELECT generate_series(0, 19); \
         CREATE TABLE parent (x int); CREATE TABLE child () INHERITS (parent); \
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1), (2)",
    );
    for (text, count, children) in [
        ("DELETE FROM p WHERE x >= 5", 15, 2),
        ("DELETE FROM p1", 10, 0),
        ("DELETE FROM parent", 3, 1),
        ("DELETE FROM ONLY parent", 1, 0),
        ("UPDATE parent SET x = 3 FROM p WHERE p.x = parent.x", 3, 1),
        ("TRUNCATE parent", 3, 1),
        ("TRUNCATE ONLY parent", 1, 0),
    ] {
        let statement = stage.one(text);
        assert_eq!(exact(&rows(&statement)), count, "{text}");
        let table = statement.objects[0].table.clone().unwrap();
        assert_eq!(table.known().unwrap().children, children, "{text}");
    }
}

#[test]
fn a_view_is_counted_and_its_table_named() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE VIEW public.young AS SELECT id, name FROM shop.customers WHERE born > '2000-03-01'"
    ));
    let statement = stage.one("DELETE FROM young WHERE id < 70");
    assert_eq!(statement.objects[0].through.as_deref(), Some("shop.customers"));
    let expected = stage.database.raw().value("SELECT count(*) FROM young WHERE id < 70");
    assert_eq!(exact(&rows(&statement)).to_string(), expected);
}

#[test]
fn triggers_and_rules_that_change_the_outcome_are_named() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON shop.customers FOR EACH ROW EXECUTE FUNCTION keep(); \
         CREATE TRIGGER off BEFORE DELETE ON shop.customers FOR EACH ROW EXECUTE FUNCTION keep(); \
         ALTER TABLE shop.customers DISABLE TRIGGER off; CREATE TABLE ruled (x int); INSERT INTO ruled VALUES (1); \
         CREATE RULE no AS ON DELETE TO ruled DO INSTEAD NOTHING"
    ));
    let statement = stage.one("DELETE FROM shop.customers");
    let triggers = &statement.objects[0].triggers;
    assert_eq!(triggers.len(), 1, "{triggers:?}");
    assert_eq!((triggers[0].name.as_str(), triggers[0].when.as_str()), ("keep", "BEFORE ROW"));
    assert_eq!(triggers[0].function, "public.keep");
    assert_eq!(rows(&statement).bound, Bound::AtMost);
    assert_eq!(stage.one("UPDATE shop.customers SET id = id").objects[0].triggers, []);
    let ruled = stage.one("DELETE FROM ruled");
    assert!(ruled.objects[0].rules[0].contains("INSTEAD"), "{ruled:?}");
    assert_eq!(rows(&ruled).bound, Bound::AtMost);
}

#[test]
fn row_security_of_the_prober_is_an_unknown_and_of_the_session_a_bound() {
    let stage = Stage::new(&format!("{SHOP}; ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY"));
    let why = refusal(&stage.rows("DELETE FROM shop.customers"));
    assert!(why.contains("row-level security"), "{why}");
    stage.database.run(&format!("ALTER ROLE {} BYPASSRLS", stage.role));
    let found = stage.rows("DELETE FROM shop.customers");
    assert_eq!((exact(&found), found.bound), (100, Bound::Exact));
    let plain = stage.database.unique("plain");
    stage.database.run(&format!("CREATE ROLE {plain} LOGIN; GRANT USAGE ON SCHEMA shop TO {plain}"));
    let mut ask = stage.ask("DELETE FROM shop.customers");
    ask.role = Some(plain);
    let found = rows(&one(block_on(stage.prober().probe(&ask))));
    assert_eq!((exact(&found), found.bound), (100, Bound::AtMost));
}

/// Of a table that is only read, hidden rows may make the statement's more.
#[test]
fn rows_hidden_from_the_session_in_what_it_only_reads_make_rows_unknown() {
    let stage = Stage::new(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); CREATE TABLE seen (id int); INSERT INTO seen VALUES (1), (2); \
         CREATE POLICY none ON seen USING (false); ALTER TABLE seen ENABLE ROW LEVEL SECURITY; CREATE VIEW of_seen AS SELECT * FROM seen",
    );
    let (plain, owner) = (stage.database.unique("plain"), stage.database.unique("owner"));
    stage.database.run(&format!(
        "ALTER ROLE {} BYPASSRLS; CREATE ROLE {plain} LOGIN; CREATE ROLE {owner} LOGIN; ALTER TABLE seen OWNER TO {owner}; \
         GRANT ALL ON t, seen, of_seen TO {plain}, {owner}",
        stage.role
    ));
    let found = |role: &str, text: &str| {
        rows(&one(block_on(stage.prober().probe(&Ask { role: Some(role.to_owned()), ..stage.ask(text) }))))
    };
    for text in [
        "DELETE FROM t WHERE id NOT IN (SELECT id FROM seen)",
        "DELETE FROM t WHERE id NOT IN (SELECT id FROM of_seen)",
        "UPDATE t SET id = 3 WHERE (SELECT count(*) FROM seen) = 0",
        "DELETE FROM t USING (SELECT count(*) AS n FROM seen) AS s WHERE s.n = 0",
        "WITH s AS (SELECT id FROM seen) DELETE FROM t WHERE id NOT IN (SELECT id FROM s)",
        "DELETE FROM seen WHERE (SELECT count(*) FROM seen) = 0",
        "DELETE FROM public.seen WHERE (SELECT count(*) FROM seen) = 0",
        "INSERT INTO t SELECT 5 WHERE NOT EXISTS (SELECT FROM seen)",
    ] {
        let why = refusal(&found(&plain, text));
        assert!(why.contains("row security of public.seen"), "{text}: {why}");
    }
    let of_target = found(&plain, "DELETE FROM seen WHERE id = 1 AND id IN (SELECT id FROM t)");
    assert_eq!((exact(&of_target), of_target.bound), (1, Bound::AtMost));
    let text = "DELETE FROM t WHERE id NOT IN (SELECT id FROM seen)";
    for role in ["postgres", owner.as_str()] {
        assert_eq!(exact(&found(role, text)), 0, "{role}");
    }
    stage.database.run("ALTER TABLE seen FORCE ROW LEVEL SECURITY");
    assert!(refusal(&found(&owner, text)).contains("row security"));
    // The session does find them.
    let mut raw = stage.database.raw();
    raw.query(format!("SET ROLE {plain}"));
    assert_eq!(raw.value("SELECT count(*) FROM t WHERE id NOT IN (SELECT id FROM seen)"), "2");
}

/// The server cuts and folds names in its own encoding: there the long name is one of 40 bytes, here it would be cut to the decoy's.
#[test]
fn in_a_database_of_another_encoding_names_that_may_be_others_are_not_known() {
    let stage = Stage::new("");
    let (long, decoy) = ("é".repeat(40), "é".repeat(31));
    for encoding in ["LATIN1", "EUC_JP", "UTF8"] {
        let name = stage.database.unique(&encoding.to_lowercase());
        stage.database.run(&format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        ));
        let mut raw = Raw::login(&stage.database.target().with_database(&name));
        raw.rows("SET client_encoding = 'UTF8'");
        raw.rows(&format!("CREATE TABLE \"{long}\" (id int)"));
        if encoding != "UTF8" {
            raw.rows(&format!("INSERT INTO \"{long}\" SELECT generate_series(1, 50)"));
            // In EUC_JP both are cut to one.
            raw.query(format!("CREATE TABLE \"{decoy}\" (id int)"));
        }
        raw.rows("CREATE TABLE \"té\" (id int)");
        raw.rows(&format!("CREATE VIEW v AS SELECT * FROM \"{long}\""));
        let probe = |text: &str| block_on(stage.prober().probe(&Ask { database: name.clone(), ..stage.ask(text) }));
        for text in [format!("DELETE FROM \"{long}\""), format!("DELETE FROM {long}"), "DELETE FROM té".to_owned()] {
            let impact = probe(&text);
            if encoding == "UTF8" {
                assert_eq!(exact(&rows(&one(impact))), 0, "{text}");
                continue;
            }
            assert!(impact.trouble.as_ref().is_some_and(|why| why.contains(encoding)), "{encoding} {text}: {impact:?}");
        }
        assert_eq!(exact(&rows(&one(probe("DELETE FROM \"té\"")))), 0, "{encoding}");
        let of_view = rows(&one(probe("DELETE FROM v")));
        assert_eq!(of_view.exact.known().is_some(), encoding == "UTF8", "{encoding}: {of_view:?}");
    }
}

#[test]
fn counts_are_kept_from_a_requester_who_may_not_read_the_rows() {
    let stage = Stage::new(SHOP);
    let role = stage.database.unique("writer");
    stage.database.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA shop TO {role}; GRANT DELETE ON shop.customers TO {role}"
    ));
    let mut ask = stage.ask("DELETE FROM shop.customers WHERE name = 'c7'");
    ask.role = Some(role.clone());
    let impact = block_on(stage.prober().probe(&ask));
    assert!(!impact.requester_may_see);
    assert_eq!(digest(&impact), "what it would touch is shown to approvers");
    assert!(summary(&impact)[0].contains("deletes 1 row (exact) of shop.customers"), "{:?}", summary(&impact));
    stage.database.run(&format!("GRANT SELECT ON shop.customers TO {role}"));
    let impact = block_on(stage.prober().probe(&ask));
    assert_eq!(digest(&impact), "deletes 1 row (exact) of shop.customers");
    ask.role = None;
    assert!(!block_on(stage.prober().probe(&Ask { search_path: Some("public".to_owned()), ..ask })).requester_may_see);
}

#[test]
fn literals_are_read_by_the_sessions_time_zone() {
    let stage = Stage::new("CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ('2024-01-01 00:30+00')");
    for (zone, count) in [("UTC", 1), ("Asia/Tokyo", 0)] {
        let mut ask = stage.ask("DELETE FROM t WHERE at < '2024-01-01 01:00' AND at > '2024-01-01 00:00'");
        ask.settings = vec![("TimeZone".to_owned(), zone.to_owned()), ("role".to_owned(), "postgres".to_owned())];
        assert_eq!(exact(&rows(&one(block_on(stage.prober().probe(&ask))))), count, "{zone}");
    }
}

#[test]
fn what_is_not_there_is_said_not_failed() {
    let stage = Stage::new("");
    let statement = stage.one("DELETE FROM nosuch");
    assert_eq!(statement.objects[0].resolved, Known::Unknown("the session finds no nosuch".to_owned()));
    let impact = stage.probe("DELETE FORM nosuch");
    assert_eq!(impact.trouble.as_deref(), Some("the text cannot be parsed"));
}

/// A sum of floating point numbers depends on the order in which a plan meets them; how money is read, on `lc_monetary`.
#[test]
fn sums_of_floating_point_numbers_and_money_are_those_of_the_present() {
    let stage = Stage::new(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric, m money, f float8); CREATE DOMAIN price AS money; \
         CREATE TABLE x (id int, f float8, r real, fs float8[], n numeric, p price, i interval); INSERT INTO t VALUES (1, 1, '1', 1); \
         CREATE VIEW roots AS SELECT sqrt(id) AS root FROM x",
    );
    let bound = |condition: &str| {
        let found = stage.rows(&format!("DELETE FROM t WHERE {condition}"));
        assert!(found.exact.known().is_some(), "{condition}: {found:?}");
        found.bound
    };
    for condition in [
        "m = '100'",
        "m::numeric = 100",
        "id IN (SELECT id FROM x WHERE p = '100')",
        "id IN (SELECT x.id FROM x JOIN t USING (id))",
        "(SELECT sum(f) FROM x) = 0",
        "(SELECT avg(r) FROM x) = 0",
        "(SELECT stddev_pop(id::float8) FROM x) = 0",
        "(SELECT sum(sqrt(id)) FROM x) = 0",
        "(SELECT sum(id ^ 2) FROM x) = 0",
        "(SELECT sum(root) FROM roots) = 0",
        "(SELECT sum(q.e) FROM (SELECT unnest(fs) AS e FROM x) q) = 0",
        "(SELECT sum(q.f) FROM (SELECT * FROM x) q) = 0",
        "(SELECT corr(id, n) FROM x) IS NULL",
        "(SELECT regr_slope(id, n) FROM x) IS NULL",
        "(SELECT scale(max(n)) FROM x) = 1",
    ] {
        assert_eq!(bound(condition), Bound::AtPresent, "{condition}");
    }
    for condition in [
        "f = 1 AND n = 1",
        "(SELECT sum(id) FROM x) = 0 AND (SELECT avg(n) FROM x) > 1",
        "(SELECT sum(i) FROM x) > interval '1 day'",
        "(SELECT max(f) FROM x) = 0",
    ] {
        assert_eq!(bound(condition), Bound::Exact, "{condition}");
    }
}

/// A session may set what Postgres reports to nobody, and time passes: such a number is not said to be the statement's.
#[test]
fn rows_that_depend_on_the_clock_the_plan_or_settings_are_those_of_the_present() {
    let stage = Stage::new(&format!(
        "{SHOP}; CREATE VIEW shop.young AS SELECT * FROM shop.customers WHERE born > now() - interval '1 year'"
    ));
    let bound = |text: &str| {
        let found = rows(&stage.one(text));
        assert!(found.exact.known().is_some(), "{text}: {found:?}");
        found.bound
    };
    for text in [
        r"DELETE FROM shop.customers WHERE '\x41'::bytea::text <> '\x41'",
        "DELETE FROM shop.customers WHERE 0.1::float8::text <> '0.1'",
        "DELETE FROM shop.customers WHERE name || id::float8 = 'c1'",
        "DELETE FROM shop.customers WHERE id = ANY ('{1,NULL}')",
        "DELETE FROM shop.customers WHERE now() > '2200-01-01'",
        "DELETE FROM shop.customers WHERE born > current_date",
        "DELETE FROM shop.customers WHERE born < 'now'",
        "DELETE FROM shop.customers WHERE born < ' Today 00:00'",
        "DELETE FROM shop.customers WHERE concat(id) = '1'",
        "DELETE FROM shop.customers WHERE id IN (SELECT id FROM shop.customers LIMIT 1)",
        "DELETE FROM shop.customers WHERE id IN (SELECT DISTINCT ON (name) id FROM shop.customers)",
        "DELETE FROM shop.customers WHERE id = (SELECT max(x) FROM unnest((SELECT array_agg(id) FROM shop.customers)) AS x)",
        "DELETE FROM shop.customers WHERE id IN (SELECT id FROM shop.young)",
    ] {
        assert_eq!(bound(text), Bound::AtPresent, "{text}");
        assert!(summary(&stage.probe(text)).concat().contains("at present"), "{text}");
    }
    for text in [
        "DELETE FROM shop.customers WHERE name = 'c1' AND born > '2000-01-01' AND lower(name) LIKE 'c%'",
        "DELETE FROM shop.customers WHERE id::int8 = 5 OR born = '2000-01-02'::date",
        "DELETE FROM shop.customers WHERE id IN (SELECT DISTINCT id FROM shop.customers)",
    ] {
        assert_eq!(bound(text), Bound::Exact, "{text}");
    }
    let value = Value { type_name: Some("date".to_owned()), text: Some("tomorrow".to_owned()), undecodable: false };
    let ask = Ask { values: vec![value], ..stage.ask("DELETE FROM shop.customers WHERE born < $1") };
    assert_eq!(rows(&one(block_on(stage.prober().probe(&ask)))).bound, Bound::AtPresent);
}

#[test]
fn a_row_that_is_written_out_may_be_many() {
    let stage = Stage::new(SHOP);
    let refused = refusal(&stage.rows("INSERT INTO shop.customers VALUES (generate_series(1000, 2000))"));
    assert!(refused.contains("may return many rows"), "{refused}");
    for text in [
        "INSERT INTO shop.customers VALUES (1000, upper('x'))",
        "INSERT INTO shop.customers DEFAULT VALUES",
        "INSERT INTO shop.customers VALUES (1000, 'x')",
    ] {
        assert_eq!(exact(&stage.rows(text)), 1, "{text}");
    }
}
