//! A statement under guard against scripted peers: what each side is sent, byte for byte.

#![allow(clippy::wildcard_enum_match_arm)]

use super::super::errand::Errand;
use super::super::held;
use super::super::result::Seen;
use super::super::tests::{
    Bench, bind, bogus, bogus_query, close, complete, error, execute, flush, parse, query, ready, row, sync, tag,
};
use super::super::{Action, Ending};
use crate::wire::frame::build;

/// The gate's own commands, when it makes a name for the `count`th time.
pub(super) fn gate(count: u32, commands: &[&str]) -> Vec<u8> {
    Errand::messages(&held::own_name("guards", "k", count), commands)
}

/// The server's answers to them; those that have a row say this.
pub(super) fn answers(rows: &[Option<&str>]) -> Vec<u8> {
    let one = |value: Option<&str>| {
        [tag(b'1'), tag(b'2'), value.map(row).unwrap_or_default(), complete(), tag(b'3'), tag(b'3')].concat()
    };
    rows.iter().copied().flat_map(one).collect()
}

pub(super) fn done(command_tag: &str) -> Vec<u8> {
    build(b'C', &[command_tag.as_bytes(), b"\0"])
}

pub(super) fn results(bench: &mut Bench) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(action) = bench.machine.poll_action() {
        match action {
            Action::Executed(one) => seen.push(one),
            Action::Close(report) => panic!("closed: {report:?}"),
            _ => {}
        }
    }
    seen
}

fn closes(bench: &mut Bench) -> bool {
    std::iter::from_fn(|| bench.machine.poll_action()).any(|action| matches!(action, Action::Close(_)))
}

/// A Query that is released in an idle session, up to where it is sent.
fn released(text: &str, shown: &str) -> Bench {
    let mut bench = Bench::ready();
    bench.say(&[query(text), query("SELECT 2")]);
    let draft = bench.opened();
    assert_eq!(draft.guard.as_deref(), Some("runs with: at most 5 rows, lock_timeout 2s"));
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [gate(1, &["SHOW lock_timeout"]), sync()].concat());
    bench.server(&[answers(&[Some(shown)]), ready(b'I')]);
    bench
}

/// The same with the limits set.
fn begun(text: &str) -> Bench {
    let mut bench = released(text, "0");
    assert_eq!(bench.sent(), [gate(2, &["BEGIN", "SET LOCAL lock_timeout = 2000"]), sync()].concat());
    bench.server(&[answers(&[None, None]), ready(b'T')]);
    assert_eq!(bench.sent(), query(text));
    assert_eq!(bench.told(), b"", "the client sees nothing of the gate's own");
    bench
}

#[test]
fn a_query_in_an_idle_session_is_committed_once_its_rows_are_counted() {
    let mut bench = begun("HOLDG me");
    bench.server(&[row("x"), done("DELETE 5"), ready(b'T')]);
    assert_eq!(bench.told(), row("x"), "its end is not told before it is one");
    assert_eq!(bench.sent(), [gate(3, &["COMMIT"]), sync()].concat());
    assert!(bench.machine.is_guarding());
    bench.server(&[answers(&[None]), ready(b'I')]);
    assert_eq!(bench.told(), [done("DELETE 5"), ready(b'I')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
    assert_eq!(results(&mut bench), [Seen { tags: vec!["DELETE 5".to_owned()], committed: true, ..Seen::default() }]);
}

#[test]
fn past_the_ceiling_it_is_rolled_back_before_the_client_hears_of_it() {
    for said in ["DELETE 6", "INSERT 0 18446744073709551615", "SELECT 3", "OK", "DELETE 99999999999999999999999"] {
        let mut bench = begun("HOLDG me");
        bench.server(&[row("x"), done(said), ready(b'T')]);
        bench.told();
        assert_eq!(bench.sent(), [gate(3, &["ROLLBACK"]), sync()].concat(), "{said}");
        bench.server(&[answers(&[None]), ready(b'I')]);
        assert_eq!(bench.told(), b"", "{said}");
        let (sent, failed) = bogus_query(4);
        assert_eq!(bench.sent(), sent, "the backend raises the error");
        bench.server(&[failed, ready(b'I')]);
        let told = bench.told();
        assert!(told.ends_with(&ready(b'I')));
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("54000") && told.contains("at most 5") && told.contains("qg-0000000000"), "{told}");
        assert!(!told.contains(said), "{told}");
        assert_eq!(bench.sent(), query("SELECT 2"));
        let seen = results(&mut bench);
        assert!(matches!(seen.as_slice(), [Seen { error: Some((code, _)), .. }] if code == "54000"), "{seen:?}");
    }
}

#[test]
fn a_commit_that_fails_is_the_error_of_the_statement() {
    let mut bench = begun("HOLDG me");
    bench.server(&[done("DELETE 5"), ready(b'T')]);
    bench.sent();
    let deferred = error("violates foreign key constraint");
    bench.server(&[tag(b'1'), tag(b'2'), deferred.clone(), ready(b'I')]);
    assert_eq!(bench.told(), [deferred, ready(b'I')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
    let seen = results(&mut bench);
    assert!(matches!(seen.as_slice(), [Seen { error: Some(_), tags, .. }] if tags.is_empty()), "{seen:?}");
}

#[test]
fn a_commit_that_was_cancelled_before_it_began_is_rolled_back() {
    let mut bench = begun("HOLDG me");
    bench.server(&[done("DELETE 5"), ready(b'T')]);
    bench.sent();
    bench.server(&[error("canceled"), ready(b'E')]);
    assert_eq!(bench.told(), error("canceled"));
    assert_eq!(bench.sent(), [gate(4, &["ROLLBACK"]), sync()].concat());
    // And once more: what cancels may come twice.
    bench.server(&[error("canceled"), ready(b'E')]);
    assert_eq!(bench.sent(), [gate(5, &["ROLLBACK"]), sync()].concat());
    bench.server(&[answers(&[None]), ready(b'I')]);
    assert_eq!(bench.told(), ready(b'I'));
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn a_failed_query_is_its_own_error_and_the_gates_transaction_ends() {
    let mut bench = begun("HOLDG me");
    bench.server(&[row("x"), error("no"), ready(b'E')]);
    assert_eq!(bench.sent(), [gate(3, &["ROLLBACK"]), sync()].concat());
    bench.server(&[answers(&[None]), ready(b'I')]);
    assert_eq!(bench.told(), [row("x"), error("no"), ready(b'I')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
    assert_eq!(results(&mut bench).len(), 1);
}

#[test]
fn what_cannot_be_ended_ends_the_session() {
    let mut stuck = begun("HOLDG me");
    stuck.server(&[error("no"), ready(b'E')]);
    for _ in 0..3 {
        stuck.server(&[error("canceled"), ready(b'E')]);
    }
    assert!(closes(&mut stuck), "fails closed");
    let mut ended = begun("HOLDG me");
    ended.server(&[done("DELETE 1"), ready(b'I')]);
    assert!(closes(&mut ended), "somebody ended the gate's transaction");
    let mut copy = begun("HOLDG me");
    copy.server(&[build(b'G', &[&[0; 3]])]);
    assert!(closes(&mut copy));
}

#[test]
fn the_sessions_own_limit_stays_where_it_is_stricter() {
    for (shown, set) in [("1500ms", false), ("2s", false), ("3s", true), ("1min", true), ("0", true)] {
        let mut bench = released("HOLDG me", shown);
        let sent = bench.sent();
        let expected: &[&str] = if set { &["BEGIN", "SET LOCAL lock_timeout = 2000"] } else { &["BEGIN"] };
        assert_eq!(sent, [gate(2, expected), sync()].concat(), "{shown}");
    }
    let mut bench = released("HOLDG me", "soon");
    let (sent, failed) = bogus_query(2);
    assert_eq!(bench.sent(), sent, "what is not understood is not run over");
    bench.server(&[failed, ready(b'I')]);
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn what_fails_before_the_statement_is_the_answer_to_it() {
    let mut asked = Bench::ready();
    asked.say(&[query("HOLDG me"), query("SELECT 2")]);
    asked.opened();
    asked.end(Ending::Release);
    asked.sent();
    asked.server(&[error("canceled"), ready(b'I')]);
    assert_eq!(asked.told(), [error("canceled"), ready(b'I')].concat());
    assert_eq!(asked.sent(), query("SELECT 2"), "it was not run");
    assert_eq!(results(&mut asked).len(), 1);

    let mut set = released("HOLDG me", "0");
    set.sent();
    set.server(&[answers(&[None]), error("canceled"), ready(b'E')]);
    assert_eq!(set.told(), error("canceled"));
    assert_eq!(set.sent(), [gate(3, &["ROLLBACK"]), sync()].concat());
    set.server(&[answers(&[None]), ready(b'I')]);
    assert_eq!(set.told(), ready(b'I'));
    assert_eq!(set.sent(), query("SELECT 2"), "it was not run");
}

/// A Query released in the client's own transaction, up to where it is sent.
fn within(text: &str) -> Bench {
    let mut bench = Bench::ready();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[query(text), query("SELECT 2")]);
    bench.sent();
    bench.opened();
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [gate(1, &["SHOW lock_timeout"]), sync()].concat());
    bench.server(&[answers(&[Some("7s")]), ready(b'T')]);
    assert_eq!(bench.sent(), [gate(2, &["SET LOCAL lock_timeout = 2000"]), sync()].concat());
    bench.server(&[answers(&[None]), ready(b'T')]);
    assert_eq!(bench.sent(), query(text));
    bench.told();
    bench
}

#[test]
fn in_the_clients_transaction_the_limits_are_set_back_and_the_transaction_goes_on() {
    let mut bench = within("HOLDG me");
    bench.server(&[done("DELETE 5"), ready(b'T')]);
    assert_eq!(bench.sent(), [gate(3, &["SET LOCAL lock_timeout = 7000"]), sync()].concat());
    bench.server(&[answers(&[None]), ready(b'T')]);
    assert_eq!(bench.told(), [done("DELETE 5"), ready(b'T')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn in_the_clients_transaction_the_ceiling_fails_it() {
    let mut bench = within("HOLDG me");
    bench.server(&[done("DELETE 6"), ready(b'T')]);
    let (sent, failed) = bogus_query(3);
    assert_eq!(bench.sent(), sent);
    bench.server(&[failed, ready(b'E')]);
    assert!(bench.told().ends_with(&ready(b'E')));
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn in_the_clients_transaction_a_failed_statement_needs_nothing_set_back() {
    let mut bench = within("HOLDG me");
    bench.server(&[error("no"), ready(b'E')]);
    assert_eq!(bench.told(), [error("no"), ready(b'E')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn where_setting_back_fails_the_statement_has_failed_with_its_transaction() {
    let mut bench = within("HOLDG me");
    bench.server(&[done("DELETE 5"), ready(b'T')]);
    bench.sent();
    bench.server(&[error("canceled"), ready(b'E')]);
    assert_eq!(bench.told(), [error("canceled"), ready(b'E')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn what_may_not_run_in_a_transaction_has_its_limits_set_for_the_session_and_set_back() {
    for (shown, usual, back) in [("0", "0", "RESET lock_timeout"), ("7s", "0", "SET lock_timeout = 7000")] {
        for fails in [false, true] {
            let mut bench = Bench::ready();
            bench.say(&[query("HOLDA me"), query("SELECT 2")]);
            assert_eq!(bench.opened().guard.as_deref(), Some("runs with: lock_timeout 2s"));
            bench.end(Ending::Release);
            let questions = ["SHOW lock_timeout", "SET LOCAL lock_timeout TO DEFAULT", "SHOW lock_timeout"];
            assert_eq!(bench.sent(), [gate(1, &questions), sync()].concat());
            let warning = build(b'N', &[b"SWARNING\0C25P01\0Monly in blocks\0\0"]);
            bench.server(&[answers(&[Some(shown)]), warning, answers(&[None, Some(usual)]), ready(b'I')]);
            assert_eq!(bench.sent(), [gate(2, &["SET lock_timeout = 2000"]), sync()].concat());
            bench.server(&[answers(&[None]), ready(b'I')]);
            assert_eq!(bench.sent(), query("HOLDA me"));
            let said = if fails { error("no") } else { complete() };
            bench.server(&[said.clone(), ready(b'I')]);
            assert_eq!(bench.sent(), [gate(3, &[back]), sync()].concat());
            // What cancelled it may have come too late for the statement.
            bench.server(&[error("canceled"), ready(b'I')]);
            assert_eq!(bench.sent(), [gate(4, &[back]), sync()].concat());
            bench.server(&[answers(&[None]), ready(b'I')]);
            assert_eq!(bench.told(), [said, ready(b'I')].concat());
            assert_eq!(bench.sent(), query("SELECT 2"));
            assert_eq!(results(&mut bench).len(), 1);
        }
    }
}

/// A Bind that is released in an idle session, with what follows it, up to where it is sent.
fn bound(behind: &[Vec<u8>]) -> Bench {
    let mut bench = Bench::ready();
    bench.say(&[vec![parse("a", "HOLDG"), bind("", "a")], behind.to_vec()].concat());
    bench.server(&[tag(b'1'), ready(b'I')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.sent();
    bench.server(&[answers(&[Some("0")])]);
    assert_eq!(bench.sent(), [gate(2, &["SET LOCAL lock_timeout = 2000"]), flush()].concat());
    bench.server(&[answers(&[None])]);
    bench.told();
    bench
}

#[test]
fn a_portal_runs_in_the_transaction_of_its_batch_and_the_next_message_waits_for_its_rows() {
    let mut bench = bound(&[execute(""), sync(), query("SELECT 2")]);
    assert_eq!(bench.sent(), [bind("", "a"), execute(""), flush()].concat());
    bench.server(&[tag(b'2'), row("x"), done("DELETE 5")]);
    assert_eq!(bench.told(), [tag(b'2'), row("x")].concat());
    assert_eq!(bench.sent(), [gate(3, &["SET LOCAL lock_timeout = 0"]), flush()].concat());
    bench.server(&[answers(&[None])]);
    assert_eq!(bench.told(), done("DELETE 5"));
    assert_eq!(bench.sent(), [sync(), query("SELECT 2")].concat());
    assert_eq!(results(&mut bench).len(), 1);
}

#[test]
fn a_portal_past_the_ceiling_fails_its_batch() {
    for said in [done("DELETE 6"), done("SELECT 1"), tag(b's')] {
        let mut bench = bound(&[execute(""), parse("b", "SELECT"), bind("", "b"), execute(""), sync()]);
        bench.sent();
        bench.server(&[tag(b'2'), row("x"), said]);
        let (sent, failed) = bogus(3);
        assert_eq!(bench.sent(), sent);
        bench.server(&[failed]);
        assert_eq!(bench.sent(), sync(), "the rest is skipped as the server would");
        bench.server(&[ready(b'I')]);
        let told = String::from_utf8_lossy(&bench.told()).into_owned();
        assert!(told.contains("54000") && !told.contains("DELETE 6"), "{told}");
        assert_eq!(results(&mut bench).len(), 1);
    }
}

#[test]
fn a_portal_under_time_limits_alone_is_not_fetched_in_steps() {
    let mut bench = Bench::ready();
    bench.say(&[parse("a", "HOLDL"), bind("", "a"), execute(""), execute(""), sync()]);
    bench.server(&[tag(b'1'), ready(b'I')]);
    assert_eq!(bench.opened().guard.as_deref(), Some("runs with: lock_timeout 2s"));
    bench.end(Ending::Release);
    bench.sent();
    bench.server(&[answers(&[Some("0")])]);
    bench.sent();
    bench.server(&[answers(&[None])]);
    bench.told();
    assert_eq!(bench.sent(), [bind("", "a"), execute(""), flush()].concat());
    bench.server(&[tag(b'2'), row("x"), tag(b's')]);
    let (sent, failed) = bogus(3);
    assert_eq!(bench.sent(), sent, "the rest would be fetched without the limits");
    bench.server(&[failed]);
    assert_eq!(bench.sent(), sync());
    bench.server(&[ready(b'I')]);
    let told = String::from_utf8_lossy(&bench.told()).into_owned();
    assert!(told.contains("0A000"), "{told}");
    assert_eq!(results(&mut bench).len(), 1);
}

#[test]
fn a_portal_under_guard_is_executed_at_once_or_not_at_all() {
    let harmless: [Vec<u8>; 3] = [build(b'D', &[b"P\0"]), flush(), close("b")];
    for beside in [parse("b", "SELECT"), bind("p", "a"), execute("p"), build(b'C', &[b"P\0"])] {
        let mut bench = bound(&[harmless.to_vec(), vec![beside, execute(""), sync()]].concat());
        let (sent, failed) = bogus(3);
        assert_eq!(bench.sent(), [bind("", "a"), harmless.concat(), sent, flush()].concat());
        bench.server(&[tag(b'2'), tag(b'n'), tag(b'3'), failed]);
        assert_eq!(bench.sent(), sync());
        bench.server(&[ready(b'I')]);
        assert!(bench.told().ends_with(&ready(b'I')));
        assert_eq!(results(&mut bench).len(), 1);
    }
    let mut bench = bound(&[query("SELECT 1"), sync()]);
    let (sent, failed) = bogus_query(3);
    // A Query ends the batch; there is nothing left to flush.
    assert_eq!(bench.sent(), [bind("", "a"), sent].concat());
    bench.server(&[tag(b'2'), failed, ready(b'I')]);
    assert_eq!(bench.sent(), sync());
    // Outside of a transaction the portal is gone with the Sync, unexecuted. (The gate has not heard of that yet, and closes it.)
    let mut bench = bound(&[sync(), query("SELECT 1")]);
    assert_eq!(bench.sent(), [bind("", "a"), sync(), build(b'C', &[b"P\0"]), query("SELECT 1")].concat());
}

#[test]
fn in_a_transaction_a_portal_is_not_kept_for_later() {
    let mut bench = Bench::ready();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[parse("a", "HOLDG"), bind("", "a"), sync(), execute(""), sync()]);
    bench.server(&[tag(b'1'), ready(b'T')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[answers(&[Some("0")])]);
    bench.sent();
    bench.server(&[answers(&[None])]);
    let (sent, failed) = bogus(3);
    assert_eq!(bench.sent(), [bind("", "a"), sent, sync()].concat());
    bench.server(&[tag(b'2'), failed, ready(b'E')]);
    assert_eq!(bench.sent(), [execute(""), sync()].concat(), "the portal went with the transaction");
}

#[test]
fn a_batch_that_began_a_block_does_not_take_the_portal_with_it() {
    let mut bench = Bench::ready();
    bench.say(&[
        parse("", "BEGIN"),
        bind("", ""),
        execute(""),
        parse("a", "HOLDG"),
        bind("p", "a"),
        sync(),
        execute("p"),
    ]);
    bench.server(&[tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[answers(&[Some("0")])]);
    bench.sent();
    bench.server(&[answers(&[None])]);
    let (sent, failed) = bogus(3);
    assert_eq!(bench.sent(), [bind("p", "a"), sent, sync()].concat());
    bench.server(&[tag(b'2'), failed, ready(b'E')]);
    assert_eq!(bench.sent(), execute("p"), "in a transaction that has failed");
}

#[test]
fn what_fails_before_a_portal_is_bound_skips_to_sync() {
    let mut bench = Bench::ready();
    bench.say(&[parse("a", "HOLDG"), bind("", "a"), execute(""), sync(), query("SELECT 2")]);
    bench.server(&[tag(b'1'), ready(b'I')]);
    bench.opened();
    bench.end(Ending::Release);
    bench.sent();
    bench.server(&[error("canceled")]);
    assert_eq!(bench.sent(), [sync(), query("SELECT 2")].concat());
    bench.server(&[ready(b'I'), complete(), ready(b'I')]);
    assert_eq!(results(&mut bench).len(), 1);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_portal_that_may_not_run_in_a_transaction_has_its_limits_set_back_behind_the_sync() {
    for fails in [false, true] {
        let mut bench = Bench::ready();
        bench.say(&[parse("a", "HOLDA"), bind("", "a"), execute(""), sync(), query("SELECT 2")]);
        bench.server(&[tag(b'1'), ready(b'I')]);
        bench.opened();
        bench.end(Ending::Release);
        bench.server(&[answers(&[Some("0"), None, Some("0")]), ready(b'I')]);
        bench.server(&[answers(&[None]), ready(b'I')]);
        bench.sent();
        bench.told();
        let said = if fails { error("no") } else { complete() };
        bench.server(&[tag(b'2'), said.clone()]);
        assert_eq!(bench.sent(), sync());
        bench.server(&[ready(b'I')]);
        assert_eq!(bench.told(), [tag(b'2'), said].concat());
        assert_eq!(bench.sent(), [gate(3, &["RESET lock_timeout"]), sync()].concat());
        bench.server(&[answers(&[None]), ready(b'I')]);
        assert_eq!(bench.told(), ready(b'I'));
        assert_eq!(bench.sent(), query("SELECT 2"));
        assert_eq!(results(&mut bench).len(), 1);
    }
}

#[test]
fn what_its_guard_cannot_be_applied_to_is_refused_and_nobody_is_asked() {
    for status in [b'I', b'T'] {
        let mut bench = Bench::ready();
        bench.say(&[query("BEGIN")]).server(&[complete(), ready(status)]);
        // What ran may have ended the transaction, or begun one: the status tells at the Sync that has not come.
        bench.say(&[parse("b", "COMMIT"), bind("", "b"), execute(""), query("HOLDG me")]);
        bench.server(&[tag(b'1'), tag(b'2'), complete()]);
        let (sent, _) = bogus_query(1);
        assert!(bench.sent().ends_with(&sent));
        assert!(bench.machine.poll_action().is_none());
    }
}
