//! The portal of a Bind that was released, and what comes between it and its Execute.

#![allow(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

use super::tests::{Bench, bind, complete, error, execute, flush, parse, query, ready, sync, tag};
use super::{Action, Ending, Seen};
use crate::wire::frame::build;

fn close_portal(name: &str) -> Vec<u8> {
    build(b'C', &[b"P", name.as_bytes(), b"\0"])
}

/// In a transaction, with a released Bind of "p" sent on and answered, and nothing else.
fn bound(text: &str) -> Bench {
    let mut bench = Bench::ready();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[parse("s", text), bind("p", "s"), sync()]).server(&[tag(b'1'), ready(b'T')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[tag(b'2'), ready(b'T')]);
    bench.sent();
    bench.told();
    while bench.machine.poll_action().is_some() {}
    bench
}

fn results(bench: &mut Bench) -> Vec<Seen> {
    std::iter::from_fn(|| bench.machine.poll_action())
        .filter_map(|action| match action {
            Action::Executed(seen) => Some(seen),
            _ => None,
        })
        .collect()
}

#[test]
fn a_released_portal_is_closed_on_the_server_before_anything_else_goes_on() {
    for other in [query("SELECT 1"), parse("x", "SELECT 1"), bind("q", "s"), bind("p", "s"), execute("q")] {
        let mut bench = bound("HOLD me");
        bench.say(std::slice::from_ref(&other));
        assert!(bench.sent().starts_with(&close_portal("p")), "{}", other.escape_ascii());
        assert!(results(&mut bench).iter().all(|seen| seen.unfinished), "it did not run");
    }
}

#[test]
fn what_is_about_the_portal_leaves_it_as_it_is_over_several_batches() {
    let mut bench = bound("HOLD me");
    let about =
        [build(b'D', &[b"Pp\0"]), sync(), flush(), build(b'C', &[b"Sx\0"]), sync(), execute("p"), sync(), execute("p")];
    bench.say(&about);
    assert_eq!(bench.sent(), about.concat());
}

#[test]
fn its_close_is_not_seen_and_a_later_execute_is_refused_until_the_name_is_bound_again() {
    let mut bench = bound("HOLD me");
    bench.say(&[query("SELECT 1")]);
    assert_eq!(bench.sent(), [close_portal("p"), query("SELECT 1")].concat());
    bench.server(&[tag(b'3'), complete(), ready(b'T')]);
    assert_eq!(bench.told(), [complete(), ready(b'T')].concat());
    bench.say(&[execute("p"), sync()]);
    assert!(!bench.sent().starts_with(&execute("p")));
    bench.server(&[error("portal \"querygate\" does not exist"), ready(b'E')]);
    bench.sent();
    bench.say(&[parse("x", "SELECT"), bind("p", "x"), execute("p"), sync()]);
    assert!(bench.sent().ends_with(&[bind("p", "x"), execute("p"), sync()].concat()));
}

#[test]
fn of_a_portal_under_way_more_is_fetched_after_other_statements_unless_unseen_code_runs_in_it() {
    let suspended = || tag(b's');
    let mut bench = bound("HOLD me");
    bench.say(&[execute("p"), sync()]).server(&[suspended(), ready(b'T')]);
    bench.sent();
    bench.say(&[query("SELECT 1"), execute("p"), sync()]);
    assert_eq!(bench.sent(), [query("SELECT 1"), execute("p"), sync()].concat());
    bench.server(&[complete(), ready(b'T'), complete(), ready(b'T')]);
    let seen = results(&mut bench);
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].unfinished && !seen[0].committed);
    let mut bench = Bench::ready();
    bench.say(&[query("PREPARE e HOLD")]);
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[complete(), ready(b'I')]);
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    while bench.machine.poll_action().is_some() {}
    bench.told();
    bench.say(&[parse("s", "EXECUTE e"), bind("p", "s"), execute("p"), sync()]).server(&[tag(b'1'), ready(b'T')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[tag(b'2'), suspended()]).server(&[ready(b'T')]);
    bench.sent();
    bench.say(&[query("SELECT 1")]);
    assert_eq!(bench.sent(), [close_portal("p"), query("SELECT 1")].concat());
}

#[test]
fn a_portal_has_taken_effect_only_when_its_own_sync_says_that_no_transaction_is_open() {
    let released = || {
        let mut bench = Bench::ready();
        bench.say(&[parse("s", "HOLD me"), bind("", "s"), execute("")]).server(&[tag(b'1'), ready(b'I')]);
        bench.opened();
        bench.end(Ending::Release);
        bench.server(&[tag(b'2'), complete()]);
        while let Some(action) = bench.machine.poll_action() {
            assert!(!matches!(action, Action::Executed(_)), "it may still be rolled back");
        }
        bench
    };
    let mut bench = released();
    bench.say(&[sync()]).server(&[ready(b'I')]);
    assert!(matches!(results(&mut bench).as_slice(), [Seen { committed: true, unfinished: false, .. }]));
    // A deferred constraint.
    let mut bench = released();
    bench.say(&[sync()]).server(&[error("no"), ready(b'I')]);
    assert!(matches!(results(&mut bench).as_slice(), [Seen { committed: false, error: Some(_), .. }]));
    // What comes behind it may take it back.
    let mut bench = released();
    bench.say(&[parse("r", "ROLLBACK"), bind("", "r"), execute(""), sync()]);
    bench.server(&[tag(b'1'), tag(b'2'), complete(), ready(b'I')]);
    assert!(matches!(results(&mut bench).as_slice(), [Seen { committed: false, .. }]));
}

#[test]
fn the_result_of_another_portal_of_the_same_name_is_not_the_released_ones() {
    let mut bench = Bench::ready();
    bench.say(&[parse("a", "HOLD me"), bind("", "a")]).server(&[tag(b'1'), ready(b'I')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.say(&[parse("b", "SELECT 1"), bind("", "b"), execute(""), sync()]);
    bench.server(&[tag(b'2'), tag(b'3'), tag(b'1'), tag(b'2'), complete(), ready(b'I')]);
    let seen = results(&mut bench);
    assert!(matches!(seen.as_slice(), [Seen { unfinished: true, .. }]), "{seen:?}");
}

#[test]
fn the_end_of_a_transaction_is_noticed_though_more_was_sent_by_then() {
    let mut bench = Bench::ready();
    bench.say(&[
        parse("s", "SET LOCAL"),
        bind("", "s"),
        execute(""),
        parse("d", "HOLD me"),
        bind("p", "d"),
        execute("p"),
    ]);
    bench.server(&[tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
    let first = bench.opened().standing.same;
    bench.end(Ending::Release);
    bench.server(&[tag(b'2'), complete()]);
    bench.say(&[
        sync(),
        parse("x", "SELECT 1"),
        bind("", "x"),
        execute(""),
        parse("d2", "HOLD me"),
        bind("p2", "d2"),
        execute("p2"),
        sync(),
    ]);
    // "SELECT 1" surely runs nothing, so nothing but the end of the transaction lies between.
    bench.server(&[ready(b'I'), tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
    let second = loop {
        if let Action::OpenHold(draft) = bench.machine.poll_action().expect("a hold") {
            break draft.standing.same;
        }
    };
    assert!(first.is_some() && second.is_some());
    assert_ne!(first, second, "what SET LOCAL did was taken back");
}

#[test]
fn a_name_that_may_stand_for_several_statements_is_bound_to_none_of_them() {
    for (one, other) in [("EXECUTE x", "PREPARE z SELECT"), ("HOLD a", "PREPARE z HOLD")] {
        let mut bench = Bench::ready();
        bench.say(&[parse("z", one), sync()]).server(&[tag(b'1'), ready(b'I')]);
        // It may have come as far as to prepare it.
        bench.say(&[query(other)]);
        if other.ends_with("HOLD") {
            bench.opened();
            bench.end(Ending::Release);
        }
        bench.server(&[error("perhaps"), ready(b'I')]);
        bench.sent();
        while bench.machine.poll_action().is_some() {}
        bench.say(&[bind("p", "z"), execute("p"), sync()]);
        assert!(!bench.sent().starts_with(&bind("p", "z")), "{one}");
        assert!(bench.machine.poll_action().is_none(), "nobody could judge it");
    }
}

#[test]
fn an_error_in_the_gates_own_question_counts_as_the_transactions_end() {
    let mut bench = Bench::with(|settings| settings.ask_session = true);
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[query("INSERT")]).server(&[complete(), ready(b'T')]);
    bench.say(&[query("HOLD me")]).server(&[error("canceling statement due to user request"), ready(b'E')]);
    bench.say(&[query("COMMIT")]).server(&[complete(), ready(b'I')]);
    bench.sent();
    bench.told();
    bench.say(&[parse("s", "HOLD me"), bind("", "s")]).server(&[tag(b'1'), ready(b'I')]);
    let row = || super::tests::row("x");
    let answers: Vec<u8> = (0..super::asking::WANTED.len())
        .flat_map(|_| [tag(b'1'), tag(b'2'), row(), complete(), tag(b'3'), tag(b'3')].concat())
        .collect();
    bench.server(&[answers, ready(b'I')]);
    let standing = bench.opened().standing;
    assert_eq!((standing.ran, standing.done), (None, Vec::new()), "nothing of it is known to have taken effect");
}

#[test]
fn a_released_portal_that_is_executed_late_is_not_executed() {
    let mut bench = bound("HOLD me");
    assert!(bench.machine.released_portal().is_some());
    bench.machine.released_portal_is_late();
    // To be told what it is about changes nothing.
    bench.say(&[build(b'D', &[b"Pp\0"]), sync()]);
    bench.sent();
    bench.say(&[execute("p"), sync()]);
    assert!(bench.sent().starts_with(&close_portal("p")));
    assert!(results(&mut bench).iter().all(|seen| seen.unfinished), "it did not run");
    // One that was executed in time is never late.
    let mut bench = bound("HOLD me");
    bench.say(&[execute("p"), sync()]);
    assert_eq!(bench.machine.released_portal(), None);
    bench.machine.released_portal_is_late();
    bench.sent();
    bench.say(&[execute("p"), sync()]);
    assert_eq!(bench.sent(), [execute("p"), sync()].concat());
}
