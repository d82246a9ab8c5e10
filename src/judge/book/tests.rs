#![allow(clippy::indexing_slicing)]

use super::*;
use crate::judge::{Facts, Limits, NothingPrepared, Policy, Verdict, analyse};

fn hazard(name: &str) -> Hazard {
    let function = ObjectName { schema: Some("public".to_owned()), name: name.to_owned() };
    let why = format!("public.{name}(), which deletes from orders");
    Hazard { function, why, effects: Vec::new() }
}

fn callable(schema: &str, hazard: Option<Hazard>) -> Callable {
    Callable { schema: schema.to_owned(), single: true, hazard, by_name: false }
}

fn parts() -> BookParts {
    let functions = [
        ("purge", vec![callable("public", Some(hazard("purge")))]),
        ("total", vec![callable("public", None)]),
        ("both", vec![callable("app", None), callable("public", Some(hazard("both")))]),
        ("lower", vec![callable("public", Some(hazard("lower")))]),
        ("mine", vec![callable("pg_temp_3", Some(hazard("mine")))]),
    ];
    let relation = |by| RelationHazard {
        schema: "public".to_owned(),
        by,
        how: "the view calls purge()".to_owned(),
        hazard: hazard("purge"),
    };
    BookParts {
        functions: functions.map(|(name, of)| (name.to_owned(), of)).into_iter().collect(),
        own: HashSet::from(["pg_new_one".to_owned()]),
        operators: HashMap::from([("===".to_owned(), vec![hazard("purge")])]),
        types: HashSet::from(["price".to_owned()]),
        type_oids: HashSet::from([20_000, 20_001]),
        type_hazards: vec![TypeHazard {
            name: "checked".to_owned(),
            oid: Some(20_000),
            row: false,
            when_parsed: true,
            hazard: hazard("purge"),
        }],
        relations: HashMap::from([
            ("v".to_owned(), vec![relation(Touch::Read)]),
            ("with_default".to_owned(), vec![relation(Touch::Write)]),
        ]),
        polymorphic: HashSet::from(["any_one".to_owned()]),
        recodes: false,
        ambient: Vec::new(),
    }
}

fn verdict(book: &Arc<Book>, sql: &str) -> Verdict {
    let class = book.bind(&Policy::shipped().class(&Facts::default()));
    class.decide(&analyse(sql.as_bytes(), &Limits::default()), false, &NothingPrepared).verdict
}

#[test]
fn what_can_write_is_held_and_what_only_reads_passes() {
    let book = Book::known(parts());
    for (sql, expected) in [
        ("SELECT purge()", Verdict::Hold),
        ("SELECT public.purge(1)", Verdict::Hold),
        ("SELECT 1 FROM t WHERE a IN (SELECT x FROM purge() AS x)", Verdict::Hold),
        ("SELECT total(1)", Verdict::Allow),
        ("SELECT both()", Verdict::Hold),
        ("SELECT app.both()", Verdict::Allow),
        ("SELECT public.both()", Verdict::Hold),
        ("SELECT shop.public.both()", Verdict::Hold),
        ("SELECT lower('X')", Verdict::Hold),
        ("SELECT pg_catalog.lower('X')", Verdict::Allow),
        ("SELECT upper('x'), count(*), now()", Verdict::Allow),
        ("SELECT elsewhere.upper('x')", Verdict::Hold),
        ("SELECT pg_new_one()", Verdict::Allow),
        ("SELECT not_there()", Verdict::Hold),
        ("SELECT pg_temp.mine()", Verdict::Hold),
        ("SELECT pg_temp.total()", Verdict::Hold),
        ("SELECT price('1')", Verdict::Allow),
        ("SELECT t.purge FROM t", Verdict::Hold),
        ("SELECT (t).purge FROM t", Verdict::Hold),
        ("SELECT purge FROM t", Verdict::Allow),
        ("SELECT t.total FROM t", Verdict::Allow),
        ("SELECT 1 === 2", Verdict::Hold),
        ("SELECT 1 OPERATOR(public.===) 2", Verdict::Hold),
        ("SELECT 'x'::checked", Verdict::Hold),
        ("SELECT checked('x')", Verdict::Hold),
        ("SELECT * FROM v", Verdict::Hold),
        ("SELECT * FROM public.v", Verdict::Hold),
        ("SELECT * FROM app.v", Verdict::Allow),
        ("SELECT * FROM with_default", Verdict::Allow),
        ("INSERT INTO with_default VALUES (1)", Verdict::Hold),
        ("INSERT INTO other DEFAULT VALUES", Verdict::Allow),
        ("PREPARE p AS SELECT purge()", Verdict::Hold),
        ("DECLARE c CURSOR FOR SELECT purge()", Verdict::Hold),
        ("CREATE VIEW w AS SELECT purge()", Verdict::Hold),
        ("COPY (SELECT purge()) TO STDOUT", Verdict::Hold),
        ("UPDATE t SET a = purge() WHERE b = 1", Verdict::Hold),
    ] {
        assert_eq!(verdict(&book, sql), expected, "{sql}");
    }
}

#[test]
fn nothing_known_holds_every_call_but_of_the_servers_own() {
    let book = Book::unknown("nobody has looked yet");
    for (sql, expected) in [
        ("SELECT total(1)", Verdict::Hold),
        ("SELECT app.lower('X')", Verdict::Hold),
        ("SELECT lower('X'), count(*) FROM t", Verdict::Allow),
        ("SELECT a FROM v", Verdict::Allow),
        ("BEGIN", Verdict::Allow),
    ] {
        assert_eq!(verdict(&book, sql), expected, "{sql}");
    }
}

#[test]
fn in_doubt_what_was_known_to_write_still_does_and_what_only_read_may_not() {
    let book = Book::known(parts()).in_doubt("something ran");
    for (sql, expected) in [
        ("SELECT total(1)", Verdict::Hold),
        ("SELECT lower('X', 1)", Verdict::Hold),
        ("SELECT * FROM v", Verdict::Hold),
        ("SELECT upper('X')", Verdict::Allow),
    ] {
        assert_eq!(verdict(&book, sql), expected, "{sql}");
    }
}

#[test]
fn what_is_said_names_the_function_and_what_it_does_and_the_bodys_own_effects_are_there() {
    let mut parts = parts();
    let delete = Effect {
        kind: EffectKind::Delete,
        objects: vec![ObjectName { schema: None, name: "orders".to_owned() }],
        has_where: Some(true),
        columns: Vec::new(),
        why: "by public.purge(): it deletes".to_owned(),
    };
    parts.functions.insert(
        "purge".to_owned(),
        vec![callable("public", Some(Hazard { effects: vec![delete.clone()], ..hazard("purge") }))],
    );
    let analysis = analyse(b"SELECT purge()", &Limits::default());
    let raised = Book::known(parts).raises(&analysis.pieces[0]);
    assert_eq!(raised[0].kind, EffectKind::Code);
    assert_eq!(raised[0].objects, [hazard("purge").function]);
    assert_eq!(raised[0].why, "it can call public.purge(), which deletes from orders");
    assert_eq!(raised[1..], [delete]);
}

#[test]
fn a_class_is_bound_once_to_a_book_and_anew_to_another() {
    let (policy, book) = (Policy::shipped(), Book::known(parts()));
    let class = policy.class(&Facts::default());
    assert!(book.bind(&class).is(&book.bind(&class)));
    assert!(!Book::known(parts()).bind(&class).is(&book.bind(&class)));
    assert!(book.says_the_same(&Book::known(parts())) && !book.says_the_same(&Book::unknown("x")));
}

#[test]
fn what_changes_definitions_is_known_and_what_does_not_is_none() {
    for (sql, expected) in [
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", true),
        ("ALTER FUNCTION f() STABLE", true),
        ("ALTER FUNCTION f() RENAME TO g", true),
        ("ALTER TABLE t ADD CHECK (f())", true),
        ("CREATE VIEW v AS SELECT 1", true),
        ("DO 'BEGIN END'", true),
        ("CALL p()", true),
        ("UPDATE pg_proc SET prosrc = 'x' WHERE oid = 1", true),
        ("SELECT dblink('x', 'y')", true),
        ("SELEC", true),
        ("CREATE TABLE t (a int)", false),
        ("CREATE TEMP TABLE t AS SELECT 1", false),
        ("SELECT f()", false),
        ("INSERT INTO t VALUES (1)", false),
        ("SET ROLE x", false),
        ("GRANT SELECT ON t TO x", false),
    ] {
        let analysis = analyse(sql.as_bytes(), &Limits::default());
        assert_eq!(analysis.pieces.iter().any(|piece| piece.calls.redefines), expected, "{sql}");
    }
}

#[test]
fn parameters_of_types_that_call_something_or_are_not_known_are_raised() {
    let raised = |book: &Arc<Book>, oids: &[u32]| {
        let analysis = analyse(b"SELECT $1", &Limits::default());
        let typed = analysis.with_parameters(oids.iter().copied());
        typed.is_some_and(|typed| book.raises(&typed.pieces[0]).iter().any(|effect| effect.kind == EffectKind::Code))
    };
    let book = Book::known(parts());
    assert!(!raised(&book, &[23, 0]) && !raised(&book, &[20_001]));
    assert!(raised(&book, &[23, 20_000]) && raised(&book, &[20_002]));
    assert!(raised(&Book::unknown("x"), &[20_001]) && !raised(&Book::unknown("x"), &[25]));
}

#[test]
fn tables_made_like_others_and_statistics_count_for_what_they_call() {
    let mut parts = parts();
    let how = "an index of public.indexed calls purge()".to_owned();
    let relation = RelationHazard { schema: "public".to_owned(), by: Touch::Analyze, how, hazard: hazard("purge") };
    parts.relations.insert("indexed".to_owned(), vec![relation.clone()]);
    parts.relations.insert("referred".to_owned(), vec![RelationHazard { by: Touch::Change, ..relation }]);
    let book = Book::known(parts);
    for (sql, expected) in [
        ("SELECT * FROM with_default", Verdict::Allow),
        ("CREATE TABLE x (LIKE with_default INCLUDING ALL)", Verdict::Hold),
        ("CREATE TEMP TABLE x AS SELECT a FROM with_default", Verdict::Hold),
        ("SELECT a INTO x FROM with_default", Verdict::Hold),
        ("PREPARE p AS SELECT a FROM with_default; CREATE TABLE x AS EXECUTE p", Verdict::Hold),
        ("PREPARE p AS SELECT a FROM with_default; EXECUTE p", Verdict::Allow),
        ("CREATE TABLE x (LIKE t)", Verdict::Allow),
        ("ANALYZE indexed", Verdict::Hold),
        ("ANALYZE", Verdict::Hold),
        ("VACUUM (ANALYZE) public.indexed", Verdict::Hold),
        ("VACUUM indexed", Verdict::Allow),
        ("ANALYZE with_default", Verdict::Allow),
        ("SELECT * FROM referred", Verdict::Allow),
        ("INSERT INTO referred VALUES (1)", Verdict::Allow),
        ("UPDATE referred SET a = 1 WHERE id = 1", Verdict::Hold),
        ("SELECT json_populate_record(t, '{}') FROM t", Verdict::Hold),
        ("SELECT domain_in('1', 5, -1)", Verdict::Hold),
        ("SELECT table_to_xml('t', false, false, '')", Verdict::Hold),
    ] {
        assert_eq!(verdict(&book, sql), expected, "{sql}");
    }
}

#[test]
fn casts_to_the_servers_own_types_types_behind_dots_and_polymorphic_calls_are_raised() {
    let mut parts = parts();
    let cast = |name: &str| TypeHazard {
        name: name.to_owned(),
        oid: None,
        row: false,
        when_parsed: false,
        hazard: hazard("purge"),
    };
    parts.type_hazards.extend([cast("int4"), cast("_int4")]);
    let row = TypeHazard { name: "row_of".to_owned(), oid: Some(20_001), row: true, ..cast("") };
    parts.type_hazards.push(row);
    let relation = |by| {
        let how = "a column of the type checked calls purge()".to_owned();
        vec![RelationHazard { schema: "public".to_owned(), by, how, hazard: hazard("purge") }]
    };
    parts.relations.insert("typed".to_owned(), relation(Touch::Convert));
    parts.relations.insert("planned".to_owned(), relation(Touch::Plan));
    let known = |name: &str| vec![Callable { by_name: true, ..callable("net", Some(hazard(name))) }];
    parts.functions.insert("told".to_owned(), known("told"));
    parts.functions.insert("any_one".to_owned(), vec![callable("public", None)]);
    let book = Book::known(parts);
    for (sql, expected) in [
        ("SELECT a::int FROM t", Verdict::Hold),
        ("SELECT CAST(a AS pg_catalog.int4) FROM t", Verdict::Hold),
        ("SELECT a::int[] FROM t", Verdict::Hold),
        ("SELECT a::text, b::bigint FROM t", Verdict::Allow),
        ("SELECT int4 FROM t", Verdict::Allow),
        ("SELECT t.int4 FROM t", Verdict::Allow),
        ("SELECT (1).checked", Verdict::Hold),
        ("SELECT t.checked FROM t", Verdict::Hold),
        ("SELECT checked FROM t", Verdict::Allow),
        ("SELECT t.row_of FROM t", Verdict::Allow),
        ("SELECT any_one(a) FROM typed", Verdict::Hold),
        ("SELECT (a.b).any_one FROM typed", Verdict::Hold),
        ("SELECT any_one(a) FROM t", Verdict::Allow),
        ("SELECT a FROM typed", Verdict::Allow),
        ("INSERT INTO typed VALUES (1)", Verdict::Hold),
        ("SELECT a FROM planned", Verdict::Hold),
        ("ANALYZE planned", Verdict::Hold),
        ("SELECT told()", Verdict::Hold),
        ("SELECT t.told FROM t", Verdict::Hold),
    ] {
        assert_eq!(verdict(&book, sql), expected, "{sql}");
    }
    let raised = |sql: &str| book.raises(&analyse(sql.as_bytes(), &Limits::default()).pieces[0]);
    assert!(raised("SELECT net.told()").is_empty(), "the judge says so by itself");
}

#[test]
fn names_that_another_encoding_takes_for_the_same_are_the_same_there() {
    let long = "é".repeat(40);
    let known = |recodes: bool| {
        let relation = |schema: &str| RelationHazard {
            schema: schema.to_owned(),
            by: Touch::Read,
            how: "the view calls purge()".to_owned(),
            hazard: hazard("purge"),
        };
        let mut parts = BookParts { recodes, ..parts() };
        for name in [&long, "vé", "plain"] {
            let key = if recodes { recoded(name).into_owned() } else { name.to_owned() };
            parts.relations.insert(key, vec![relation("public"), relation("é")]);
        }
        parts.type_hazards[0].name = "dé".to_owned();
        Book::known(parts)
    };
    for (sql, elsewhere) in [
        (format!("SELECT * FROM {long}"), Verdict::Hold),
        (format!("SELECT * FROM public.{long}"), Verdict::Hold),
        ("SELECT * FROM VÉ".to_owned(), Verdict::Hold),
        ("SELECT * FROM É.plain".to_owned(), Verdict::Hold),
        ("SELECT * FROM shop.É.plain".to_owned(), Verdict::Hold),
        ("SELECT 1::DÉ".to_owned(), Verdict::Hold),
        ("SELECT (1).DÉ".to_owned(), Verdict::Hold),
        ("SELECT * FROM è".to_owned(), Verdict::Allow),
        ("SELECT * FROM è.plain".to_owned(), Verdict::Allow),
    ] {
        assert_eq!(verdict(&known(true), &sql), elsewhere, "{sql}");
        assert_eq!(verdict(&known(false), &sql), Verdict::Allow, "{sql}: in UTF-8 it is another name");
    }
}
