//! Texts made to break the reader. Every one is judged on this test's small stack, in bounded time, and none passes that
//! should not.

use super::*;

/// Only how the text ends matters here: not in a crash, not in a minute.
fn survives(text: &str) -> Vec<EffectKind> {
    kinds(text)
}

fn unreadable(text: &[u8]) {
    doubtful(text, &[EffectKind::Unknown]);
}

/// Held either way: by a limit, or because no grammar accepts it.
fn refused(text: &[u8]) {
    doubtful(text, &[EffectKind::Unknown, EffectKind::Unparsed]);
}

fn doubtful(text: &[u8], kinds: &[EffectKind]) {
    let analysis = analyse(text, &Limits::default());
    assert_eq!(analysis.pieces.len(), 1);
    assert_eq!(analysis.pieces[0].range, 0..text.len());
    let kind = analysis.pieces[0].effects[0].kind;
    assert!(kinds.contains(&kind), "{kind:?}");
    assert!(!analysis.literal_independent && analysis.opaque);
}

#[test]
fn bytes_the_server_would_refuse_are_unknown() {
    unreadable(b"SELECT '\xff'");
    unreadable(b"SELECT '\xc0\xa7; DROP TABLE t; --'");
    unreadable(b"SELECT 'a\0b'");
    unreadable(b"SELECT 1\0; DROP TABLE t");
    unreadable(b"\0");
    unreadable("SELECT 1\u{feff}\0".as_bytes());
}

#[test]
fn unterminated_text_is_unparsed() {
    for text in [
        "'",
        "SELECT '",
        "SELECT \"",
        "/*",
        "SELECT /* /* */",
        "$$",
        "SELECT $a$ $b$",
        "E'\\",
        "SELECT U&'",
        "SELECT B'",
    ] {
        doubtful(text.as_bytes(), &[EffectKind::Unparsed]);
    }
}

#[test]
fn limits_are_kept() {
    let limits = Limits { bytes: 1000, ..Limits::default() };
    assert_eq!(analyse(&[b' '; 1001], &limits).pieces[0].effects[0].kind, EffectKind::Unknown);
    assert!(analyse(&[b' '; 1000], &limits).pieces.is_empty());
    for text in [
        format!("SELECT {}1{}", "(".repeat(65), ")".repeat(65)),
        format!("SELECT a{}1{}", "[".repeat(65), "]".repeat(65)),
        format!("{} x {}", "/*".repeat(33), "*/".repeat(33)),
        "SELECT 1;".repeat(101),
        format!("SELECT {}1", "1,".repeat(50_000)),
    ] {
        unreadable(text.as_bytes());
    }
    assert_eq!(survives(&format!("SELECT {}1{}", "(".repeat(64), ")".repeat(64))), [EffectKind::Read]);
    assert_eq!(survives(&"SELECT 1;".repeat(100)), [EffectKind::Read]);
}

#[test]
fn deep_trees_neither_overflow_nor_hang() {
    for (unit, count) in [("1+", 49_000), ("- ", 90_000), ("NOT ", 90_000), ("x::int+", 19_000), ("'a'||", 49_000)] {
        survives(&format!("SELECT {}1", unit.repeat(count)));
    }
    survives(&format!("SELECT 1{}", "::int".repeat(45_000)));
    survives(&format!("SELECT 1{}", " COLLATE x".repeat(45_000)));
    survives(&format!("SELECT 1{}", " IS NULL".repeat(45_000)));
    survives(&format!("SELECT 1{}", " AND 1".repeat(45_000)));
    survives(&format!("SELECT a{}", "[1]".repeat(30_000)));
    survives(&format!("SELECT a{}", ".b".repeat(45_000)));
    survives(&format!("SELECT CASE {} END", "WHEN 1 THEN 1 ".repeat(20_000)));
    survives(&format!("SELECT 1{}", " UNION SELECT 1".repeat(30_000)));
    survives(&format!("SELECT 1 FROM a {}", "JOIN b ON true ".repeat(20_000)));
    survives(&format!("SELECT 1 FROM {}a{}", "a JOIN ".repeat(350), " ON true".repeat(350)));
    survives(&format!("SELECT 1 FROM {}a{}", "a JOIN ".repeat(20_000), " ON true".repeat(20_000)));
    survives(&format!("SELECT 1 FROM {}a{}", "a JOIN ".repeat(3_900), " ON true".repeat(3_900)));
    survives(&format!("{}SELECT 1", "EXPLAIN ".repeat(5_000)));
    survives(&format!("{}DELETE FROM t", "EXPLAIN ANALYZE ".repeat(3)));
}

#[test]
fn a_small_stack_is_enough_for_any_depth() {
    let deep = |levels: usize| {
        for text in [
            format!("SELECT {}1", "1+".repeat(levels)),
            format!("SELECT {}1", "- ".repeat(levels * 2)),
            format!("SELECT 1{}", "::int".repeat(levels)),
            format!("SELECT {}1{}", "f(".repeat(levels.min(60)), ")".repeat(levels.min(60))),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(levels / 2)),
            format!("SELECT 1 FROM {}a{}", "a JOIN ".repeat(levels / 3), " ON true".repeat(levels / 3)),
        ] {
            survives(&text);
        }
    };
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let run = move || [1, 5, 10, 20, 40, 60, 100, 200, 400, 1_000, 3_000].into_iter().for_each(deep);
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn wide_texts_are_judged_in_time() {
    let values = vec!["(1, 'x', NULL)"; 10_000].join(",");
    assert_eq!(survives(&format!("INSERT INTO t VALUES {values}")), [EffectKind::Read, EffectKind::Insert]);
    let tables: Vec<_> = (0..9_999).map(|number| format!("t{number}")).collect();
    assert_eq!(survives(&format!("SELECT 1 FROM {}", tables.join(","))), [EffectKind::Read]);
    let tables: Vec<_> = (0..24_000).map(|number| format!("t{number}")).collect();
    assert_eq!(survives(&format!("SELECT 1 FROM {}", tables.join(","))), [EffectKind::Read, EffectKind::Unknown]);
    let granted = survives(&format!("GRANT SELECT ON {} TO r", tables.join(",")));
    assert_eq!(granted, [EffectKind::Privilege, EffectKind::Unknown]);
    let set = tables.join(" = 1,");
    assert_eq!(survives(&format!("UPDATE t SET {set} = 1 WHERE id = 1")), [EffectKind::Update]);
    assert_eq!(
        survives(&format!("INSERT INTO t ({}) VALUES (1)", tables.join(","))),
        [EffectKind::Read, EffectKind::Insert]
    );
    let ctes: Vec<_> = (0..9_000).map(|number| format!("c{number} AS (SELECT 1 FROM c0)")).collect();
    assert_eq!(survives(&format!("WITH {} SELECT 1", ctes.join(","))), [EffectKind::Read]);
    let calls: Vec<_> = (0..12_000).map(|number| format!("s{number}.lo_unlink(1)")).collect();
    let found = survives(&format!("SELECT {}", calls.join(",")));
    assert_eq!(found, [EffectKind::Read, EffectKind::Drop, EffectKind::Unknown]);
    let shadowed =
        format!("UPDATE t SET a = 1 WHERE EXISTS (SELECT 1 FROM t WHERE {} true)", "t.a AND ".repeat(15_000));
    assert_eq!(survives(&shadowed)[0..2], [EffectKind::Read, EffectKind::Update]);
}

#[test]
fn runs_that_the_scanner_reads_again_and_again_are_refused() {
    for text in ["/**/", "+", "/*/**/*/", "@-", "<*/**/"] {
        let text = format!("SELECT 1 {} 1", text.repeat(62_000 / text.len()));
        refused(text.as_bytes());
    }
    // The run is inside a literal unless standard_conforming_strings is off.
    let hidden = format!("SELECT '\\', '{} '", "/**/".repeat(15_000));
    assert_eq!(survives(&hidden), [EffectKind::Read, EffectKind::Disagreement]);
}

#[test]
fn rulers_and_long_comments_are_read() {
    for text in [
        format!("/{}/ SELECT 1", "*".repeat(100_000)),
        format!("/*{}*/ SELECT 1", "=".repeat(100_000)),
        format!("{}\nSELECT 1", "-".repeat(100_000)),
        format!("SELECT 1 {}", "/* x */ ".repeat(10_000)),
        format!("SELECT 1 {}", "/**/".repeat(250)),
        format!("SELECT 1 {} 1", "- ".repeat(500)),
    ] {
        assert_eq!(survives(&text), [EffectKind::Read], "{}", &text[..40]);
    }
}

#[test]
fn long_texts_are_judged_alike_on_every_stack() {
    let joins = (0..400).map(|number| format!(" JOIN b{number} ON a.id = b{number}.id")).collect::<Vec<_>>().concat();
    for text in [
        format!("SELECT {}1", "1 + ".repeat(501)),
        format!("SELECT 'a'{}", " || 'a'".repeat(501)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(800)),
        format!("SELECT * FROM a{joins}"),
    ] {
        let judged = |stack: usize| {
            let text = text.clone();
            std::thread::Builder::new().stack_size(stack).spawn(move || read(&text)).unwrap().join().unwrap()
        };
        assert_eq!(survives(&text), [EffectKind::Read], "{}", &text[..20]);
        assert_eq!(judged(1 << 20), judged(256 << 20));
    }
}

#[test]
fn what_the_grammar_says_is_passed_on() {
    let why = read("SELECT FROM WHERE").pieces[0].effects[0].why.clone();
    assert!(why.contains("syntax error at or near"), "{why}");
}

#[test]
fn long_literals_cost_no_more_than_their_length() {
    let long = "x".repeat(4 << 20);
    assert_eq!(survives(&format!("SELECT '{long}'")), [EffectKind::Read]);
    assert_eq!(survives(&format!("SELECT ${long}${long}${long}$")), [EffectKind::Read]);
    assert_eq!(survives(&format!("SELECT 1 /*{long}*/")), [EffectKind::Read]);
    assert_eq!(survives(&format!("SELECT {long}")), [EffectKind::Read]);
    assert_eq!(survives(&" ".repeat(4 << 20)), []);
    refused(format!("SELECT '{long}").as_bytes());
}

#[test]
fn input_that_doubles_sqlparsers_work_is_quick() {
    let doubling = |levels: usize| format!("{}a{}", "a IN (SELECT - ".repeat(levels), ")".repeat(levels));
    assert_eq!(survives(&format!("SELECT {}", doubling(22))), [EffectKind::Read]);
    assert_eq!(survives(&format!("SELECT {}", doubling(60))), [EffectKind::Read]);
    assert_eq!(survives(&format!("SELECT {}", vec![doubling(20); 30].join(", "))), [EffectKind::Read]);
}

#[test]
fn nested_comments_within_the_limit_are_comments() {
    let text = format!("SELECT 1 {} DROP TABLE t {}", "/*".repeat(32), "*/".repeat(32));
    assert_eq!(survives(&text), [EffectKind::Read]);
    unreadable(format!("SELECT 1 {}", "/*".repeat(32_000)).as_bytes());
}
