#![allow(clippy::indexing_slicing)]

use super::super::survey::Shape;
use super::*;

fn function(oid: u32, name: &str, language: &str, source: &str) -> Function {
    Function {
        oid,
        name: name.to_owned(),
        schema: "public".to_owned(),
        language: language.to_owned(),
        source: source.to_owned(),
        ..Function::default()
    }
}

fn unseen(kind: &str, of: u32, what: &str, called: u32) -> Unseen {
    Unseen { kind: kind.to_owned(), of, what: what.to_owned(), called, folds: false }
}

fn shape(name: &str, base: Option<u32>) -> Shape {
    Shape { name: name.to_owned(), base, row: false }
}

fn weighed(found: &Found) -> BookParts {
    weigh("d", found, &["mine".to_owned()], &Bodies::new(16))
}

fn touches(parts: &BookParts, name: &str) -> Vec<Touch> {
    parts.relations[name].iter().map(|hazard| hazard.by).collect()
}

fn named(names: &[(u32, &str)]) -> HashMap<u32, (String, String)> {
    names.iter().map(|(oid, name)| (*oid, ("public".to_owned(), (*name).to_owned()))).collect()
}

fn is_hazard(parts: &BookParts, name: &str) -> Option<String> {
    parts.functions[name][0].hazard.as_ref().map(|hazard| hazard.why.clone())
}

#[test]
fn calls_are_followed_to_what_writes_however_they_are_made() {
    let found = Found {
        functions: vec![
            function(1, "purge", "plpgsql", "BEGIN DELETE FROM orders; END"),
            function(2, "outer", "sql", "SELECT middle()"),
            function(3, "middle", "plpgsql", "BEGIN PERFORM purge(); END"),
            function(4, "by_view", "sql", "SELECT * FROM public.w"),
            function(5, "by_operator", "sql", "SELECT 1 === 2"),
            function(
                6,
                "by_word",
                "plpgsql",
                "DECLARE r w%ROWTYPE; BEGIN FOR r IN SELECT * FROM w LOOP NULL; END LOOP; END",
            ),
            function(7, "reads", "sql", "SELECT total FROM t WHERE id = twice(2)"),
            function(8, "twice", "plpgsql", "BEGIN RETURN twice($1 - 1) + reads(); END"),
            Function { aggregate: true, ..function(9, "summed", "internal", "aggregate_dummy") },
            Function { tree_writes: Some(false), ..function(10, "tree", "sql", "") },
            function(11, "missing", "sql", "SELECT not_there()"),
            function(12, "lower", "plpgsql", " BEGIN PERFORM purge(); RETURN $1; END "),
        ],
        aggregates: HashMap::from([(9, vec![7, 3])]),
        operators: vec![(50, "===".to_owned(), 1)],
        unseen: vec![
            unseen("view", 100, "function", 1),
            unseen("view", 101, "relation", 100),
            unseen("body", 10, "operator", 50),
            unseen("default", 102, "function", 2),
        ],
        relations: [(100, "v"), (101, "w"), (102, "child"), (103, "parent")]
            .map(|(oid, name)| (oid, ("public".to_owned(), name.to_owned())))
            .into_iter()
            .collect(),
        inherits: vec![(102, 103)],
        ..Found::default()
    };
    let parts = weighed(&found);
    for name in ["purge", "outer", "middle", "by_view", "by_operator", "by_word", "summed", "tree", "missing", "lower"]
    {
        assert!(is_hazard(&parts, name).is_some(), "{name}");
    }
    for name in ["reads", "twice"] {
        assert_eq!(is_hazard(&parts, name), None, "{name}");
    }
    assert_eq!(is_hazard(&parts, "purge").unwrap(), "public.purge(), which deletes from orders (plpgsql)");
    assert!(parts.relations["v"].iter().all(|hazard| hazard.by == Touch::Read));
    assert!(parts.relations["w"].iter().all(|hazard| hazard.by == Touch::Read));
    assert_eq!(parts.relations["parent"][0].by, Touch::Write, "rows go to its partitions");
}

#[test]
fn languages_that_are_not_read_are_in_doubt_but_for_extensions_that_are_known() {
    let c = |oid, name: &str, extension: Option<&str>| Function {
        extension: extension.map(str::to_owned),
        ..function(oid, name, "c", "x")
    };
    let found = Found {
        functions: vec![
            c(1, "of_nobody", None),
            c(2, "of_pgcrypto", Some("pgcrypto")),
            c(3, "of_mine", Some("mine")),
            c(4, "of_other", Some("other")),
            function(5, "python", "plpython3u", "pass"),
            function(6, "renamed_lower", "internal", "lower"),
            function(7, "renamed_unlink", "internal", "be_lo_unlink"),
            Function { uncallable: true, ..function(8, "trigger", "plpgsql", "BEGIN DELETE FROM t; END") },
        ],
        own: HashMap::from([
            (90, ("lower".to_owned(), "lower".to_owned())),
            (91, ("lo_unlink".to_owned(), "be_lo_unlink".to_owned())),
        ]),
        operators: vec![(50, "=".to_owned(), 4), (51, "~~~".to_owned(), 91), (52, "@@@".to_owned(), 1)],
        ..Found::default()
    };
    let parts = weighed(&found);
    for name in ["of_nobody", "of_other", "python", "renamed_unlink"] {
        assert!(is_hazard(&parts, name).is_some(), "{name}");
    }
    for name in ["of_pgcrypto", "of_mine", "renamed_lower"] {
        assert_eq!(is_hazard(&parts, name), None, "{name}");
    }
    assert!(!parts.functions.contains_key("trigger"), "nobody can call it");
    assert!(!parts.operators.contains_key("="), "an extension's in C");
    assert!(parts.operators.contains_key("~~~") && parts.operators.contains_key("@@@"));
}

#[test]
fn domains_and_casts_count_for_their_types_and_silent_casts_for_everything() {
    let cast =
        |target: &str, silent| super::super::survey::Cast { target: target.to_owned(), oid: 25, function: 1, silent };
    let found = Found {
        functions: vec![function(1, "purge", "sql", "DELETE FROM orders")],
        casts: vec![cast("loud", false), cast("quiet", true)],
        types: HashMap::from([(200, "checked".to_owned())]),
        shapes: HashMap::from([(200, shape("checked", Some(23)))]),
        columns: vec![(100, 200)],
        unseen: vec![unseen("domain", 200, "function", 1)],
        relations: HashMap::from([(100, ("public".to_owned(), "t".to_owned()))]),
        ..Found::default()
    };
    let parts = weighed(&found);
    let names: Vec<&str> = parts.type_hazards.iter().map(|hazard| hazard.name.as_str()).collect();
    assert_eq!(names, ["checked", "loud"]);
    assert_eq!(parts.ambient.len(), 1);
    assert_eq!(parts.relations["t"][0].by, Touch::Write);
    assert_eq!(parts.ambient[0].effects[0].kind, EffectKind::Delete, "what it certainly does is known");
    assert_eq!(weighed(&found), parts, "the same finds give the same book");
}

#[test]
fn types_are_followed_to_what_is_made_of_them_and_to_what_makes_them() {
    let found = Found {
        functions: vec![
            function(1, "purge", "sql", "DELETE FROM orders"),
            function(2, "gives", "sql", "SELECT 1"),
            function(3, "declares", "plpgsql", "DECLARE x _checked; BEGIN RETURN 1; END"),
            function(4, "reads", "sql", "SELECT 1"),
        ],
        unseen: vec![
            unseen("domain", 200, "function", 1),
            unseen("body", 2, "type", 202),
            unseen("view", 101, "type", 200),
            unseen("view", 102, "relation", 100),
            unseen("default", 103, "type", 203),
        ],
        made_of: vec![(201, 200), (202, 201), (203, 200)],
        shapes: HashMap::from([
            (200, shape("checked", Some(23))),
            (201, shape("_checked", None)),
            (202, shape("list", Some(201))),
            (203, shape("over", Some(200))),
        ]),
        columns: vec![(100, 203), (104, 202)],
        relations: [(100, "t"), (101, "casts"), (102, "through"), (103, "defaulted"), (104, "lists")]
            .map(|(oid, name)| (oid, ("public".to_owned(), name.to_owned())))
            .into_iter()
            .collect(),
        ..Found::default()
    };
    let parts = weighed(&found);
    let names: Vec<_> = parts.type_hazards.iter().map(|hazard| (hazard.name.as_str(), hazard.oid)).collect();
    assert_eq!(names, [("_checked", Some(201)), ("checked", Some(200)), ("list", Some(202)), ("over", Some(203))]);
    assert!(is_hazard(&parts, "gives").is_some() && is_hazard(&parts, "declares").is_some());
    assert_eq!(is_hazard(&parts, "reads"), None);
    for (name, by) in [
        ("t", vec![Touch::Write, Touch::Convert]),
        ("casts", vec![Touch::Read]),
        ("through", vec![Touch::Write]),
        ("defaulted", vec![Touch::Write]),
        ("lists", vec![Touch::Parse]),
    ] {
        assert_eq!(touches(&parts, name), by, "{name}");
    }
}

#[test]
fn what_a_table_calls_counts_for_those_its_rows_go_to_or_come_from() {
    let found = Found {
        functions: vec![function(1, "purge", "plpgsql", "BEGIN DELETE FROM orders; END")],
        unseen: vec![
            unseen("table", 100, "function", 1),
            unseen("index", 102, "function", 1),
            unseen("statistics", 103, "function", 1),
        ],
        inherits: vec![(101, 100), (110, 101)],
        references: vec![(104, 102)],
        writing_rules: vec![(105, "r".to_owned())],
        relations: [
            (100, "parted"),
            (101, "part"),
            (110, "deeper"),
            (102, "child"),
            (103, "measured"),
            (104, "parent"),
            (105, "ruled"),
        ]
        .map(|(oid, name)| (oid, ("public".to_owned(), name.to_owned())))
        .into_iter()
        .collect(),
        ..Found::default()
    };
    let parts = weighed(&found);
    for (name, by) in [
        ("parted", vec![Touch::Write]),
        ("part", vec![Touch::Write]),
        ("deeper", vec![Touch::Write]),
        ("child", vec![Touch::Write, Touch::Analyze]),
        ("measured", vec![Touch::Analyze]),
        ("parent", vec![Touch::Change]),
        ("ruled", vec![Touch::Write]),
    ] {
        assert_eq!(touches(&parts, name), by, "{name}");
    }
    assert_eq!(parts.relations["ruled"][0].how, "the rule r of public.ruled, which does more than select");
}

#[test]
fn what_is_evaluated_of_constants_counts_when_a_statement_is_planned() {
    let steady = |oid, name: &str| Function {
        immutable: true,
        ..function(oid, name, "plpgsql", "BEGIN DELETE FROM orders; END")
    };
    let folded = |kind: &str, of, called| Unseen { folds: true, ..unseen(kind, of, "function", called) };
    let found = Found {
        functions: vec![
            steady(1, "steady"),
            function(2, "volatile", "plpgsql", "BEGIN DELETE FROM orders; END"),
            function(3, "inlined", "sql", "SELECT steady(1) + $1"),
        ],
        unseen: vec![
            folded("index", 100, 1),
            unseen("index", 101, "function", 1),
            unseen("index", 102, "function", 3),
            folded("check", 103, 2),
            folded("check", 104, 1),
            folded("table", 105, 1),
            folded("statistics", 106, 1),
            unseen("view", 107, "relation", 100),
        ],
        inherits: vec![(104, 108), (109, 105)],
        foreign: vec![(100, 110), (111, 104)],
        relations: named(&[
            (100, "constant"),
            (101, "of_column"),
            (102, "inlines"),
            (103, "volatile"),
            (104, "checked"),
            (105, "parted"),
            (106, "measured"),
            (107, "view"),
            (108, "above"),
            (109, "part"),
            (110, "refers"),
            (111, "referred"),
        ]),
        ..Found::default()
    };
    let parts = weighed(&found);
    for (name, by) in [
        ("constant", vec![Touch::Plan, Touch::Write, Touch::Analyze]),
        ("of_column", vec![Touch::Write, Touch::Analyze]),
        ("inlines", vec![Touch::Plan, Touch::Write, Touch::Analyze]),
        ("volatile", vec![Touch::Write]),
        ("checked", vec![Touch::Plan, Touch::Write]),
        ("parted", vec![Touch::Plan, Touch::Write]),
        ("measured", vec![Touch::Plan, Touch::Analyze]),
        ("view", vec![Touch::Read, Touch::Write]),
        ("above", vec![Touch::Plan, Touch::Write]),
        ("part", vec![Touch::Plan, Touch::Write]),
        ("refers", vec![Touch::Write]),
        ("referred", vec![Touch::Change]),
    ] {
        assert_eq!(touches(&parts, name), by, "{name}");
    }
}

#[test]
fn what_is_known_by_its_name_counts_for_callers_and_the_name_itself_is_left_to_the_judge() {
    let c = |oid, name: &str| Function { extension: Some("dblink".to_owned()), ..function(oid, name, "c", "x") };
    let atomic = |oid, name: &str, writes| Function { tree_writes: Some(writes), ..function(oid, name, "sql", "") };
    let found = Found {
        functions: vec![
            c(1, "dblink_exec"),
            atomic(2, "schedule", true),
            atomic(3, "exec_sql", false),
            Function { schema: "net".to_owned(), ..function(4, "told", "c", "x") },
        ],
        unseen: vec![
            unseen("view", 100, "function", 1),
            unseen("view", 101, "function", 2),
            unseen("view", 102, "function", 3),
            unseen("view", 103, "function", 4),
        ],
        operators: vec![(50, "===".to_owned(), 1)],
        relations: named(&[(100, "remote"), (101, "scheduled"), (102, "harmless"), (103, "tells")]),
        ..Found::default()
    };
    let parts = weighed(&found);
    for name in ["remote", "scheduled", "tells"] {
        assert_eq!(touches(&parts, name), [Touch::Read], "{name}");
    }
    assert!(!parts.relations.contains_key("harmless") && parts.operators.contains_key("==="));
    let by_name = |name: &str| parts.functions[name][0].by_name;
    assert!(by_name("dblink_exec") && by_name("told") && !by_name("schedule") && !by_name("exec_sql"));
}

#[test]
fn a_polymorphic_function_makes_values_of_the_types_of_the_columns_it_is_given() {
    let found = Found {
        functions: vec![
            function(1, "purge", "sql", "DELETE FROM orders"),
            Function { polymorphic: true, ..function(2, "five", "plpgsql", "BEGIN RETURN 5; END") },
            function(3, "by_text", "sql", "SELECT five(a) FROM t"),
            function(4, "reads", "sql", "SELECT a FROM t"),
            function(5, "by_record", "plpgsql", "DECLARE r record; BEGIN SELECT * INTO r FROM t; r.a := 5; END"),
        ],
        unseen: vec![
            unseen("domain", 200, "function", 1),
            unseen("view", 101, "function", 2),
            unseen("view", 101, "relation", 100),
            unseen("view", 102, "relation", 100),
            unseen("index", 100, "function", 2),
        ],
        shapes: HashMap::from([(200, shape("checked", Some(23)))]),
        columns: vec![(100, 200)],
        own_polymorphic: vec!["older".to_owned()],
        operators: vec![(50, "~=~".to_owned(), 2)],
        relations: named(&[(100, "t"), (101, "converts"), (102, "reads")]),
        ..Found::default()
    };
    let parts = weighed(&found);
    assert!(["five", "older", "~=~"].iter().all(|name| parts.polymorphic.contains(*name)));
    assert!(is_hazard(&parts, "by_text").is_some() && is_hazard(&parts, "by_record").is_some());
    assert!(is_hazard(&parts, "five").is_none() && is_hazard(&parts, "reads").is_none());
    assert_eq!(touches(&parts, "t"), [Touch::Write, Touch::Convert, Touch::Analyze]);
    assert_eq!(touches(&parts, "converts"), [Touch::Read, Touch::Write]);
    assert_eq!(touches(&parts, "reads"), [Touch::Write]);
}

#[test]
fn a_cast_that_is_written_counts_for_what_is_made_of_its_type_and_a_range_for_statistics() {
    let found = Found {
        functions: vec![function(1, "purge", "sql", "DELETE FROM orders")],
        casts: vec![super::super::survey::Cast { target: "int4".to_owned(), oid: 23, function: 1, silent: false }],
        cast_to: vec![(23, "_int4".to_owned()), (23, "pair".to_owned()), (25, "other".to_owned())],
        unseen: vec![unseen("range", 200, "function", 1)],
        made_of: vec![(201, 200)],
        shapes: HashMap::from([(200, shape("span", None)), (201, shape("over", Some(200)))]),
        columns: vec![(100, 200), (101, 201)],
        relations: named(&[(100, "ranges"), (101, "domains")]),
        ..Found::default()
    };
    let parts = weighed(&found);
    let casts = parts.type_hazards.iter().filter(|hazard| hazard.oid.is_none());
    assert_eq!(casts.map(|hazard| hazard.name.as_str()).collect::<Vec<_>>(), ["_int4", "int4", "pair"]);
    for name in ["ranges", "domains"] {
        assert_eq!(touches(&parts, name), [Touch::Parse, Touch::Analyze], "{name}");
    }
}
