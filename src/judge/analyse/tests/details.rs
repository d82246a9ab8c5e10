//! What rules, sessions and the cache take from an analysis, beyond the verdict.

use super::*;
use crate::judge::SessionAct;

fn effects(text: &str) -> Vec<Effect> {
    read(text).pieces.into_iter().flat_map(|piece| piece.effects).collect()
}

fn acts(text: &str) -> Vec<SessionAct> {
    read(text).pieces.into_iter().flat_map(|piece| piece.acts).collect()
}

fn objects(text: &str, kind: EffectKind) -> Vec<String> {
    effects(text)
        .iter()
        .filter(|effect| effect.kind == kind)
        .flat_map(|effect| effect.objects.iter().map(ToString::to_string))
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn effects_name_their_objects() {
    use EffectKind::{
        Admin, Alter, Code, Create, Delete, Drop, Insert, Merge, Privilege, Read, SensitiveSetting, Truncate, Update,
    };
    for (text, kind, expected) in [
        ("SELECT * FROM a, s.b JOIN \"C\" ON true", Read, vec!["a", "s.b", "C"]),
        ("WITH a AS (SELECT 1 FROM b) SELECT * FROM a, c", Read, vec!["c", "b"]),
        ("WITH a AS (SELECT 1 FROM a) SELECT * FROM a", Read, vec!["a"]),
        ("WITH RECURSIVE a AS (SELECT 1 FROM a) SELECT * FROM a", Read, vec![]),
        ("WITH a AS (SELECT 1), b AS (SELECT 1 FROM a) SELECT * FROM b", Read, vec![]),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", Read, vec!["a"]),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", Read, vec!["s.a"]),
        ("INSERT INTO a SELECT * FROM b", Insert, vec!["a"]),
        ("INSERT INTO a SELECT * FROM b", Read, vec!["b"]),
        ("WITH t AS (SELECT 1) UPDATE t SET a = 1 WHERE id = 1", Update, vec!["t"]),
        ("UPDATE DB.S.T SET a = 1", Update, vec!["db.s.t"]),
        ("DELETE FROM ONLY a USING b", Delete, vec!["a"]),
        ("DELETE FROM ONLY a USING b", Read, vec!["b"]),
        ("MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN DELETE", Delete, vec!["a"]),
        ("MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN DELETE", Merge, vec!["a"]),
        ("TRUNCATE a, s.b", Truncate, vec!["a", "s.b"]),
        ("DROP TABLE a, s.b", Drop, vec!["a", "s.b"]),
        ("DROP FUNCTION s.f(int), g", Drop, vec!["s.f", "g"]),
        ("DROP TRIGGER g ON s.t", Drop, vec!["s.t"]),
        ("ALTER TABLE s.t ATTACH PARTITION u.p DEFAULT", Alter, vec!["s.t", "u.p"]),
        ("ALTER TABLE s.t NO INHERIT u.p", Alter, vec!["s.t", "u.p"]),
        ("ALTER TABLE s.t SET SCHEMA u", Alter, vec!["s.t", "u.t"]),
        ("ALTER POLICY p ON s.t TO r", Privilege, vec!["r", "s.t"]),
        ("CREATE SCHEMA x CREATE TABLE t (a int)", Create, vec!["x", "x.t"]),
        ("INSERT INTO s.t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1", Update, vec!["s.t"]),
        ("MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN UPDATE SET a = 1", Update, vec!["a"]),
        ("DROP SCHEMA a, b", Drop, vec!["a", "b"]),
        ("DROP TYPE s.t", Drop, vec!["s.t"]),
        ("DROP DATABASE d", Drop, vec!["d"]),
        ("DROP ROLE r", Privilege, vec!["r"]),
        ("ALTER TABLE s.t ADD a int", Alter, vec!["s.t"]),
        ("ALTER TYPE s.t ADD VALUE 'x'", Alter, vec!["s.t"]),
        ("ALTER FUNCTION s.f(int) STRICT", Alter, vec!["s.f"]),
        ("ALTER TABLE t RENAME TO u", Alter, vec!["t"]),
        ("ALTER DATABASE d SET work_mem = 1", Alter, vec!["d"]),
        ("ALTER SCHEMA s RENAME TO z", Alter, vec!["s"]),
        ("CREATE OR REPLACE VIEW s.v AS SELECT 1", Alter, vec!["s.v"]),
        ("CREATE TABLE s.t (a int)", Create, vec!["s.t"]),
        ("CREATE INDEX i ON s.t (a)", Create, vec!["s.t"]),
        ("CREATE TYPE s.e AS ENUM ()", Create, vec!["s.e"]),
        ("SELECT 1 INTO s.t", Create, vec!["s.t"]),
        ("GRANT SELECT ON s.t TO r", Privilege, vec!["s.t"]),
        ("GRANT a TO b", Privilege, vec!["a"]),
        ("CALL s.p()", Code, vec!["s.p"]),
        ("CREATE FUNCTION s.f() RETURNS int RETURN 1", Code, vec!["s.f"]),
        ("SELECT s.lo_unlink(1)", Drop, vec!["s.lo_unlink"]),
        ("LOCK TABLE a, b", Admin, vec!["a", "b"]),
        ("VACUUM FULL a", Admin, vec!["a"]),
        ("REFRESH MATERIALIZED VIEW s.m", Admin, vec!["s.m"]),
        ("UPDATE pg_class SET a = 1", Admin, vec!["pg_class"]),
        ("ALTER TABLE p ATTACH PARTITION s.t DEFAULT", Alter, vec!["p", "s.t"]),
        ("ALTER TABLE p INHERIT s.t", Alter, vec!["p", "s.t"]),
        ("CREATE TABLE c PARTITION OF s.p DEFAULT", Create, vec!["c", "s.p"]),
        ("CREATE TABLE c () INHERITS (a, s.p)", Create, vec!["c", "a", "s.p"]),
        ("DROP CAST (scratch AS s.t)", Drop, vec!["scratch", "s.t"]),
        ("DROP OPERATOR CLASS s.c USING btree", Drop, vec!["s.c"]),
        ("DROP OPERATOR FAMILY f USING btree", Drop, vec!["f"]),
        ("DROP TRANSFORM FOR s.t LANGUAGE l", Drop, vec!["s.t"]),
        ("ALTER OPERATOR CLASS s.c USING btree RENAME TO d", Alter, vec!["s.c"]),
        ("ALTER OPERATOR FAMILY s.f USING btree SET SCHEMA u", Alter, vec!["s.f", "u.f"]),
        ("COMMENT ON COLUMN scratch.c IS 'x'", Alter, vec!["scratch"]),
        ("COMMENT ON COLUMN s.t.c IS 'x'", Alter, vec!["s.t"]),
        ("COMMENT ON CONSTRAINT c ON scratch IS 'x'", Alter, vec!["scratch"]),
        ("COMMENT ON CONSTRAINT c ON DOMAIN s.d IS 'x'", Alter, vec!["s.d"]),
        ("COMMENT ON TRIGGER g ON s.t IS 'x'", Alter, vec!["s.t"]),
        ("COMMENT ON TABLE s.t IS 'x'", Alter, vec!["s.t"]),
        ("ALTER SEQUENCE s.q OWNED BY u.t.c", Alter, vec!["s.q", "u.t"]),
        ("ALTER SEQUENCE s.q OWNED BY NONE", Alter, vec!["s.q"]),
        ("CREATE SEQUENCE s.q OWNED BY t.c", Create, vec!["s.q", "t"]),
        ("SET Zero_Damaged_Pages = on", SensitiveSetting, vec!["zero_damaged_pages"]),
    ] {
        let mut found = objects(text, kind);
        found.sort();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn what_is_reached_without_a_name_is_an_effect_on_what_is_not_named() {
    for (text, kind) in [
        ("DROP TABLE a CASCADE", EffectKind::Drop),
        ("DROP SCHEMA a CASCADE", EffectKind::Drop),
        ("DROP FUNCTION f(int) CASCADE", EffectKind::Drop),
        ("DROP OWNED BY a", EffectKind::Drop),
        ("REASSIGN OWNED BY a TO b", EffectKind::Privilege),
        ("DROP DATABASE a", EffectKind::Drop),
        ("TRUNCATE a CASCADE", EffectKind::Truncate),
        ("ALTER TABLE a DROP COLUMN b CASCADE", EffectKind::Alter),
    ] {
        let unnamed = |text: &str| effects(text).iter().any(|effect| effect.kind == kind && effect.objects.is_empty());
        assert!(unnamed(text), "{text}");
        assert!(!unnamed("DROP TABLE a; TRUNCATE a; ALTER TABLE a DROP COLUMN b RESTRICT"));
    }
}

#[test]
fn updates_and_deletes_know_whether_rows_are_limited() {
    for (text, limited) in [
        ("UPDATE t SET a = 1, b = 2 WHERE id = 1", true),
        ("UPDATE t SET a = 1", false),
        ("DELETE FROM t WHERE id = 1", true),
        ("DELETE FROM t WHERE true", false),
        ("DELETE FROM t", false),
    ] {
        assert_eq!(effects(text)[0].has_where, Some(limited), "{text}");
    }
    assert_eq!(effects("UPDATE t SET a = 1, b[2] = 3, (c, d) = (1, 2) WHERE id = 1")[0].columns, ["a", "b", "c", "d"]);
    assert_eq!(effects("INSERT INTO t (a, b) VALUES (1, 2)")[0].columns, ["a", "b"]);
}

#[test]
fn ranges_cut_the_text_into_statements() {
    let text = " SELECT 1 ; /* x */ DROP TABLE t -- y\n;";
    let pieces = read(text).pieces;
    let found: Vec<_> = pieces.iter().map(|piece| &text[piece.range.clone()]).collect();
    assert_eq!(found, ["SELECT 1", "DROP TABLE t"]);
}

#[test]
fn a_kind_agreed_upon_brings_no_doubt_with_it() {
    // A rule may allow one of these; a doubt beside it would hold the statement all the same.
    for line in corpus("statements.jsonl").into_iter().filter(|line| line.id.as_str() < "pub126") {
        let found = kinds(&line.sql);
        let doubts = [EffectKind::Unparsed, EffectKind::Disagreement, EffectKind::Unknown];
        assert!(!doubts.iter().any(|doubt| found.contains(doubt)), "{}: {} {found:?}", line.id, line.sql);
    }
}

#[test]
fn acts_tell_the_session_what_changed() {
    let prepared = acts("PREPARE p (int) AS DELETE FROM t WHERE id = $1");
    let [SessionAct::Prepare { name, body }] = prepared.as_slice() else { panic!("{prepared:?}") };
    assert_eq!(name, "p");
    assert!(body.pieces[0].effects.iter().any(|effect| effect.kind == EffectKind::Delete));
    assert_eq!(acts("EXECUTE \"P\"(1)"), [SessionAct::Execute { name: "P".to_owned() }]);
    assert_eq!(acts("EXPLAIN ANALYZE EXECUTE p"), [SessionAct::Execute { name: "p".to_owned() }]);
    assert_eq!(acts("CREATE TABLE t AS EXECUTE p"), [SessionAct::Execute { name: "p".to_owned() }]);
    assert_eq!(acts("EXPLAIN EXECUTE p"), []);
    assert_eq!(acts("DEALLOCATE PREPARE p"), [SessionAct::Deallocate { name: Some("p".to_owned()) }]);
    assert_eq!(acts("DEALLOCATE ALL"), [SessionAct::Deallocate { name: None }]);
    assert!(acts("DISCARD ALL").contains(&SessionAct::Deallocate { name: None }));
    assert_eq!(acts("DISCARD PLANS"), []);
    for text in ["COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE TRANSACTION 'x'", "COMMIT AND CHAIN"] {
        assert_eq!(acts(text), [SessionAct::EndTransaction], "{text}");
    }
    assert_eq!(acts("ROLLBACK TO a"), []);
}

#[test]
fn reasons_are_taken_from_settings_and_leading_comments() {
    let reason = |reason: &str| vec![SessionAct::SetReason { reason: reason.to_owned() }];
    assert_eq!(acts("SET querygate.reason = 'ticket 7'"), reason("ticket 7"));
    assert_eq!(acts("SET LOCAL \"QueryGate\".Reason TO 'x'"), reason("x"));
    assert_eq!(acts("SELECT set_config('querygate.reason', 'y', false)"), reason("y"));
    assert_eq!(acts("RESET querygate.reason"), reason(""));
    assert_eq!(acts("SET querygate.reason TO DEFAULT"), reason(""));
    assert_eq!(acts("SET querygate.other = 'x'"), []);
    assert_eq!(read("/* reason: clean up */ DELETE FROM t").reason.as_deref(), Some("clean up"));
    assert_eq!(read("  /*REASON :x*/ SELECT 1").reason.as_deref(), Some("x"));
    assert_eq!(read("SELECT 1 /* reason: late */").reason, None);
    assert_eq!(read("-- reason: x\nSELECT 1").reason, None);
    assert_eq!(read("/* reason: */ SELECT 1").reason, None);
    let long = format!("/* reason: {} */ SELECT 1", "é".repeat(2_000));
    assert!(read(&long).reason.is_some_and(|reason| reason.len() <= 1_000));
}

#[test]
fn only_texts_whose_literals_decide_nothing_share_an_analysis() {
    for text in [
        "SELECT * FROM t WHERE id = 1 AND name = 'x''y'",
        "INSERT INTO t VALUES (1, 'x', 2.5)",
        "UPDATE t SET a = 'x' WHERE id = 1",
        "UPDATE t SET a = 'x' WHERE 1 = 1",
        "DELETE FROM t WHERE id = 5",
        "BEGIN",
        "SELECT 1; SELECT 'x'",
        "FETCH 5 FROM c",
    ] {
        assert!(read(text).literal_independent, "{text}");
    }
    for text in [
        "SET a.b = 'x'",
        "SET statement_timeout = 5",
        "SELECT set_config('search_path', 'x', false)",
        "SELECT 1, (SELECT set_config('role', 'x', false))",
        "EXPLAIN (ANALYZE 0) DELETE FROM t",
        "EXPLAIN SELECT 1",
        "DO 'x'",
        "COPY t TO '/x'",
        "COPY t FROM STDIN",
        "PREPARE p AS SELECT 1",
        "PREPARE TRANSACTION 'x'",
        "VACUUM (FULL 0) t",
        "NOTIFY c, 'x'",
        "CREATE TABLE t (a int DEFAULT 1)",
        "SELECT E'x'",
        "SELECT U&'x'",
        "SELECT B'1'",
        "SELECT X'1'",
        "SELECT N'x'",
        "SELECT $$x$$",
        "SELECT 'a\\b'",
        "SELECT 'a'\n'b'",
        "SELECT 1 -- x",
        "/* reason: x */ SELECT 1",
        "nonsense",
        "SELECT 1; SET a.b = 'x'",
    ] {
        assert!(!read(text).literal_independent, "{text}");
    }
}

#[test]
fn functions_nobody_knows_make_a_text_opaque() {
    for text in ["SELECT lower('x'), count(*), now()", "SELECT * FROM generate_series(1, 2)", "UPDATE t SET a = 1"] {
        assert!(!read(text).opaque, "{text}");
    }
    for text in [
        "SELECT app.lower('x')",
        "SELECT charge_card(1)",
        "SELECT * FROM report(1)",
        "CREATE INDEX i ON t (charge_card(a))",
        "CALL p()",
        "DO ''",
        "EXECUTE p",
        "SELECT lo_unlink(1)",
        "SELECT set_config($1, $2, false)",
        "nonsense",
    ] {
        assert!(read(text).opaque, "{text}");
    }
}

#[test]
fn every_piece_has_an_effect_and_every_effect_a_reason() {
    for line in ["statements.jsonl", "attacks.jsonl", "harmless.jsonl"].into_iter().flat_map(corpus) {
        for piece in read(&line.sql).pieces {
            assert!(!piece.effects.is_empty(), "{}", line.id);
            assert!(piece.effects.iter().all(|effect| !effect.why.is_empty()), "{}", line.id);
        }
    }
}
