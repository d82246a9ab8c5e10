#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;
use crate::judge::{Limits, analyse};
use crate::session::machine::tests::{Bench, bind_value, complete, execute, parse, query, ready, sync, tag};
use crate::session::machine::{Draft, Ending};

const T: Digest = [1; 32];
const U: Digest = [2; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Approved,
    OtherHeld,
    Other,
    Inert,
    Boundary,
    Idle,
}

fn moment(meaning: &Meaning) -> u64 {
    let empty = Analysis {
        pieces: Vec::new(),
        literal_independent: false,
        opaque: false,
        reason: None,
        tags: crate::judge::Tags::default(),
        risks: Some(Vec::new()),
    };
    meaning.standing(b"", &empty, Some(T)).same.unwrap().moment
}

fn apply(meaning: &mut Meaning, op: Op) {
    match op {
        Op::Approved => meaning.runs(Ran::Held(T)),
        Op::OtherHeld => meaning.runs(Ran::Held(U)),
        Op::Other => meaning.runs(Ran::Other),
        Op::Inert => meaning.runs(Ran::Inert),
        Op::Boundary => meaning.runs(Ran::Boundary),
        Op::Idle => meaning.idle(),
    }
}

proptest! {
    /// Wherever the statement is looked at twice and is the same: nothing but itself ran between, and no end of a transaction lies
    /// between that could take back what others did in it.
    #[test]
    fn two_looks_are_of_one_moment_only_if_nothing_else_happened_between(
        ops in prop::collection::vec(prop::sample::select(vec![
            Op::Approved, Op::Approved, Op::OtherHeld, Op::Other, Op::Inert, Op::Boundary, Op::Idle,
        ]), 0..12),
    ) {
        let mut meaning = Meaning::new(true);
        // Before each operation: the moment, and whether others ran in the open transaction.
        let mut looks = vec![(moment(&meaning), false)];
        let mut others = false;
        for op in &ops {
            apply(&mut meaning, *op);
            others = match op {
                Op::Idle => false,
                Op::OtherHeld | Op::Other => true,
                Op::Approved | Op::Inert | Op::Boundary => others,
            };
            looks.push((moment(&meaning), others));
        }
        for first in 0..looks.len() {
            for second in first..looks.len() {
                if looks[first].0 != looks[second].0 {
                    continue;
                }
                let between = &ops[first..second];
                prop_assert!(!between.iter().any(|op| matches!(op, Op::OtherHeld | Op::Other)), "{ops:?}");
                let ends = between.iter().any(|op| matches!(op, Op::Boundary | Op::Idle));
                prop_assert!(!(ends && looks[first].1), "{ops:?}");
            }
        }
    }

    /// And it is not asked in vain: the statement again and again, in transactions of its own or not, is one moment.
    #[test]
    fn the_statement_after_itself_is_the_same(
        ops in prop::collection::vec(prop::sample::select(vec![Op::Approved, Op::Inert, Op::Boundary, Op::Idle]), 0..12),
    ) {
        let mut meaning = Meaning::new(true);
        meaning.runs(Ran::Other);
        meaning.idle();
        let first = moment(&meaning);
        meaning.runs(Ran::Held(T));
        for op in ops {
            apply(&mut meaning, op);
            prop_assert_eq!(moment(&meaning), first);
        }
    }
}

fn read(text: &str) -> Analysis {
    analyse(text.as_bytes(), &Limits::default())
}

#[test]
fn only_texts_that_surely_run_nothing_leave_the_moment_alone() {
    for inert in [
        "SELECT 1",
        "select 1;",
        "SHOW search_path",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "SET statement_timeout = 0",
        "SET lock_timeout='5s'",
        "set session extra_float_digits to 3",
        "",
        "-- nothing",
    ] {
        assert_eq!(of(inert.as_bytes(), &read(inert)), Ran::Inert, "{inert}");
    }
    for boundary in ["BEGIN", "COMMIT", "ROLLBACK TO a", "SAVEPOINT a; RELEASE a", "START TRANSACTION READ ONLY"] {
        assert_eq!(of(boundary.as_bytes(), &read(boundary)), Ran::Boundary, "{boundary}");
    }
    for other in [
        "SELECT 2",
        "SELECT count(*) FROM t",
        "SELECT lower('x')",
        "SET search_path = evil",
        "SET LOCAL search_path = evil",
        "SET LOCAL lock_timeout = '5s'",
        "SET role = bob",
        "SET ROLE bob",
        "SET SESSION AUTHORIZATION bob",
        "SET TIME ZONE 'UTC'",
        "SET datestyle = 'dmy'",
        "SET standard_conforming_strings = off",
        "SET lock_timeout = '5s'; SET search_path = evil",
        "SET lock_timeout/**/= f()",
        "RESET ALL",
        "RESET search_path",
        "DISCARD ALL",
        "DISCARD TEMP",
        "SELECT set_config('search_path', 'evil', false)",
        "SELECT pg_catalog.set_config('role', 'bob', true)",
        "SELECT f()",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CALL p()",
        "ALTER ROLE app SET search_path = evil",
        "CREATE TEMP TABLE t (x int)",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "PREPARE a AS SELECT 1",
        "EXECUTE a",
        "FETCH 1 FROM c",
        "INSERT INTO t VALUES (1)",
        "COMMIT; SELECT f()",
        "DELETE FROM",
    ] {
        assert_eq!(of(other.as_bytes(), &read(other)), Ran::Other, "{other}");
    }
}

#[test]
fn what_depends_on_names_of_the_session_or_changes_them_is_never_the_same() {
    for text in [
        "EXECUTE a",
        "DELETE FROM t; EXECUTE a",
        "DEALLOCATE ALL",
        "PREPARE a AS DELETE FROM t",
        "DELETE FROM t; COMMIT",
        "ROLLBACK TO s; DELETE FROM t",
    ] {
        assert_eq!(identity(text.as_bytes(), &read(text), None), None, "{text}");
    }
}

#[test]
fn statements_differ_by_text_protocol_types_and_values() {
    let text = b"DELETE FROM t WHERE x = $1";
    let analysis = read("DELETE FROM t WHERE x = $1");
    let of = |text: &[u8], bind| identity(text, &analysis, bind).unwrap();
    let all = [
        of(text, None),
        of(b"DELETE FROM t WHERE x = $1 ", None),
        of(text, Some((&[][..], &b"1"[..]))),
        of(text, Some((&[23][..], &b"1"[..]))),
        of(text, Some((&[23][..], &b"2"[..]))),
        of(text, Some((&[25][..], &b"1"[..]))),
    ];
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(of(text, Some((&[23][..], &b"1"[..]))), all[3]);
}

/// Approves what is held and lets it run; its draft.
fn run(bench: &mut Bench, frames: &[Vec<u8>], status: u8) -> Box<Draft> {
    bench.say(frames);
    let draft = bench.opened();
    bench.end(Ending::Release);
    bench.server(&[complete(), ready(status)]);
    while bench.machine.poll_action().is_some() {}
    draft
}

fn status(name: &str, value: &str) -> Vec<u8> {
    crate::wire::frame::build(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"])
}

#[test]
fn the_same_query_again_is_the_same_and_not_after_anything_else() {
    let mut bench = Bench::ready();
    let hold = || query("HOLD a");
    let first = run(&mut bench, &[hold()], b'I').standing.same;
    assert!(first.is_some());
    assert_eq!(run(&mut bench, &[hold()], b'I').standing.same, first);
    bench.say(&[query("anything")]).server(&[complete(), ready(b'I')]);
    let second = run(&mut bench, &[hold()], b'I').standing.same;
    assert_ne!(second, first);
    assert_eq!(run(&mut bench, &[hold()], b'I').standing.same, second);
    // A setting that changed by itself.
    bench.server(&[status("search_path", "evil")]);
    let third = run(&mut bench, &[hold()], b'I').standing;
    assert_ne!(third.same, second);
    assert_eq!((third.pieces, third.ran), (None, None));
}

#[test]
fn a_bind_is_the_same_with_the_same_values_only_and_a_portal_bound_before_it_is_something_else() {
    let mut bench = Bench::ready();
    bench.say(&[parse("s", "HOLD $1"), sync()]).server(&[tag(b'1'), ready(b'I')]);
    let held = |bench: &mut Bench, value: &[u8]| {
        bench.say(&[bind_value("s", value), execute(""), sync()]);
        let same = loop {
            match bench.machine.poll_action() {
                Some(crate::session::machine::Action::OpenHold(draft)) => break draft.standing.same,
                Some(_) => {}
                // Its parameters are asked for first.
                None => {
                    let described = crate::wire::frame::build(b't', &[&[0, 1, 0, 0, 0, 23]]);
                    bench.server(&[described, tag(b'n'), ready(b'I')]);
                }
            }
        };
        bench.end(Ending::Release);
        bench.server(&[tag(b'2'), complete(), ready(b'I')]);
        same
    };
    let first = held(&mut bench, b"1");
    assert!(first.is_some());
    assert_eq!(held(&mut bench, b"1"), first);
    assert_ne!(held(&mut bench, b"2"), first);
    assert_ne!(held(&mut bench, b"1"), first, "the other values may have done something else");
}

#[test]
fn a_portal_bound_before_runs_something_else() {
    let mut meaning = Meaning::new(true);
    meaning.binds(b"x", Ran::Other);
    meaning.binds(b"", Ran::Held(T));
    let granted = moment(&meaning);
    meaning.executes(b"");
    assert_eq!(moment(&meaning), granted);
    meaning.executes(b"x");
    assert_ne!(moment(&meaning), granted);
}

#[test]
fn what_has_run_is_known_by_statement_until_something_cannot_be_named() {
    let sha = |text: &str| digest(text.as_bytes());
    let ran = |meaning: &Meaning| meaning.standing(b"", &read(""), None).ran.map(HashSet::<_>::from_iter);
    let mut meaning = Meaning::new(true);
    let note = |meaning: &mut Meaning, text: &str| meaning.note(text.as_bytes(), &read(text), || false);
    note(&mut meaning, "BEGIN; /* why */ DROP TABLE a ;\n\n-- and\nDROP TABLE b; COMMIT");
    note(&mut meaning, "SELECT 1");
    assert_eq!(ran(&meaning), Some(HashSet::from([sha("DROP TABLE a"), sha("DROP TABLE b")])));
    // The analysis of another text of the same shape says nothing of where its statements end.
    meaning.note(b"SELECT 'abcdefgh'; SELECT 2", &read("SELECT 'a'; SELECT 2"), || false);
    assert!(ran(&meaning).is_some_and(|ran| ran.contains(&sha("SELECT 'abcdefgh'"))));
    meaning.note(b"SELECT $1", &read("SELECT $1"), || true);
    assert_eq!(ran(&meaning), None);
    assert_eq!(ran(&Meaning::new(false)), None);
    let mut meaning = Meaning::new(true);
    for number in 0..=MAX_RAN {
        note(&mut meaning, &format!("SELECT {}", number + 2));
    }
    assert_eq!(ran(&meaning), None);
}

#[test]
fn parsing_another_text_is_another_moment_and_parsing_its_own_is_not() {
    let parse = |meaning: &mut Meaning, text: &str| meaning.parses(text.as_bytes(), None, &read(text));
    let own = "DELETE FROM t WHERE x = 'a'";
    for before in [None, Some(own)] {
        let mut meaning = Meaning::new(true);
        if let Some(text) = before {
            parse(&mut meaning, text);
        }
        let granted = moment(&meaning);
        let ran = meaning.runs_held(Some(T), own.as_bytes(), None);
        meaning.runs(ran);
        meaning.idle();
        for harmless in [own, "BEGIN", "SELECT 1"] {
            parse(&mut meaning, harmless);
            assert_eq!(moment(&meaning), granted, "{harmless}");
        }
        parse(&mut meaning, "SELECT '{1}'::d[]");
        assert_ne!(moment(&meaning), granted);
    }
    let mut meaning = Meaning::new(true);
    let granted = moment(&meaning);
    let ran = meaning.runs_held(Some(T), own.as_bytes(), None);
    meaning.runs(ran);
    meaning.idle();
    meaning.parses(own.as_bytes(), Some(&[25]), &read(own));
    assert_ne!(moment(&meaning), granted, "other types read its literals otherwise");
    for other in ["SELECT $$1$$::d", "CALL p(NULL::d[])", "SELECT x FROM t WHERE x = $1"] {
        let mut meaning = Meaning::new(true);
        let first = moment(&meaning);
        parse(&mut meaning, other);
        assert_ne!(moment(&meaning), first, "{other}");
        assert!(
            meaning.standing(b"", &read(""), None).ran.unwrap().contains(&digest(other.as_bytes())),
            "it counts as run"
        );
    }
}

#[test]
fn what_failed_or_was_rolled_back_counts_as_nothing_that_ran_before() {
    let done = |meaning: &Meaning| {
        meaning.standing(b"", &read(""), None).done.iter().map(|done| done.statement).collect::<Vec<_>>()
    };
    let send = |meaning: &mut Meaning, text: &str| meaning.sends(text.as_bytes(), &read(text));
    for undo in ["ROLLBACK", "abort", "SELECT 1; ROLLBACK TO s", "(an error)"] {
        let mut meaning = Meaning::new(true);
        send(&mut meaning, "BEGIN; DROP TABLE a");
        assert_eq!(done(&meaning), [digest(b"DROP TABLE a")]);
        if undo.starts_with('(') {
            meaning.failed();
        } else {
            send(&mut meaning, undo);
        }
        assert!(done(&meaning).is_empty(), "{undo}");
        assert_eq!(meaning.standing(b"", &read(""), None).ran, None, "{undo}");
    }
    // What is only parsed, or bound, may change what others mean, and has done nothing.
    let mut meaning = Meaning::new(true);
    meaning.parses(b"DROP TABLE a", None, &read("DROP TABLE a"));
    meaning.note(b"DROP TABLE b", &read("DROP TABLE b"), || false);
    assert!(done(&meaning).is_empty());
    assert_eq!(meaning.standing(b"", &read(""), None).ran.map(|ran| ran.len()), Some(2));
}

#[test]
fn what_a_portal_runs_is_known_within_its_batch_only() {
    for between in [Meaning::ends_batch, Meaning::failed, |meaning: &mut Meaning| {
        meaning.sends(b"SELECT 1", &read("SELECT 1"));
    }] {
        let mut meaning = Meaning::new(true);
        meaning.binds(b"k", Ran::Inert);
        between(&mut meaning);
        let first = moment(&meaning);
        meaning.executes(b"k");
        assert_ne!(moment(&meaning), first);
    }
}

#[test]
fn in_a_session_with_other_transaction_control_than_plain_nothing_is_known_to_have_taken_effect() {
    for other in [
        "ROLLBACK",
        "SAVEPOINT s",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "DROP TABLE b; ROLLBACK; DROP TABLE c",
        "COMMIT AND CHAIN",
    ] {
        for extended in [false, true] {
            let mut meaning = Meaning::new(true);
            meaning.sends(b"BEGIN; DROP TABLE a", &read("BEGIN; DROP TABLE a"));
            assert!(meaning.standing(b"", &read(""), None).ran.is_some());
            if extended {
                meaning.note(other.as_bytes(), &read(other), || false);
            } else {
                meaning.sends(other.as_bytes(), &read(other));
            }
            let standing = meaning.standing(b"DROP TABLE b", &read("DROP TABLE b"), None);
            assert_eq!((standing.ran, standing.pieces), (None, None), "{other}");
        }
        if other != "SAVEPOINT s" {
            let standing = Meaning::new(true).standing(other.as_bytes(), &read(other), None);
            assert_eq!(standing.pieces, None, "{other}");
        }
    }
}
