//! A text that is to be held is first shown to the server.

use super::tests::{Bench, bogus_query, close, complete, error, parse, query, ready, refusal, sync, tag};
use super::{Action, Ending};
use crate::wire::frame::build;

fn bench() -> Bench {
    Bench::with(|settings| settings.parse_first = true)
}

/// What the gate asks.
fn question(text: &str) -> Vec<u8> {
    [parse("", text), close(""), sync()].concat()
}

/// An error as the server's parser raises it.
fn syntax_error(position: bool) -> Vec<u8> {
    let place: &[u8] = if position { b"P1\0" } else { b"" };
    build(b'E', &[b"SERROR\0VERROR\0C42601\0Mno\0", place, b"\0"])
}

fn answered() -> Vec<u8> {
    [tag(b'1'), tag(b'3'), ready(b'I')].concat()
}

#[test]
fn a_text_the_server_refuses_is_its_error_and_nobody_is_asked() {
    let mut bench = bench();
    bench.say(&[query("HOLD me"), query("SELECT 2")]);
    assert_eq!(bench.sent(), question("HOLD me"));
    bench.server(&[error("relation does not exist")]);
    assert!(bench.machine.poll_action().is_none());
    bench.server(&[ready(b'I')]);
    assert!(bench.machine.poll_action().is_none());
    assert_eq!(bench.told(), [error("relation does not exist"), ready(b'I')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn a_text_the_server_takes_is_held_and_the_client_sees_nothing_of_the_question() {
    let mut bench = bench();
    bench.say(&[query("HOLD me")]);
    bench.sent();
    let notice = build(b'N', &[b"SNOTICE\0C42622\0Mcut\0\0"]);
    bench.server(&[notice.clone(), answered()]);
    assert_eq!(&*bench.draft().text, b"HOLD me");
    assert_eq!(bench.told(), b"");
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), query("HOLD me"));
    bench.server(&[notice.clone(), complete(), ready(b'I')]);
    assert_eq!(bench.told(), [notice, complete(), ready(b'I')].concat());
}

#[test]
fn it_is_asked_again_about_the_next_text() {
    let mut bench = bench();
    bench.say(&[query("HOLD one"), query("HOLD two")]);
    assert_eq!(bench.sent(), question("HOLD one"));
    bench.server(&[answered()]);
    bench.opened();
    bench.end(Ending::Refuse(refusal()));
    let (sent, said) = bogus_query(1);
    assert_eq!(bench.sent(), sent);
    bench.server(&[said, ready(b'I')]);
    assert_eq!(bench.sent(), question("HOLD two"));
    bench.server(&[answered()]);
    assert_eq!(&*bench.draft().text, b"HOLD two");
}

#[test]
fn the_server_has_no_opinion_of_several_statements() {
    let mut bench = bench();
    bench.say(&[query("HOLD me")]);
    bench.server(&[syntax_error(false), ready(b'I')]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::OpenHold(_))));
    assert_eq!(bench.told(), b"");
    let mut bench = self::bench();
    bench.say(&[query("HOLD me")]);
    bench.server(&[syntax_error(true), ready(b'I')]);
    assert!(bench.machine.poll_action().is_none());
    assert_eq!(bench.told(), [syntax_error(true), ready(b'I')].concat());
}

#[test]
fn within_a_transaction_only_a_text_that_is_no_sql_is_shown() {
    let mut bench = bench();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.sent();
    bench.told();
    bench.say(&[query("HOLD me")]);
    assert_eq!(bench.sent(), b"", "its tables would be locked while people think");
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[complete(), ready(b'T')]);
    bench.sent();
    bench.told();
    while bench.machine.poll_action().is_some() {}
    bench.say(&[query("HOLDERR")]);
    assert_eq!(bench.sent(), question("HOLDERR"));
    // Whatever the error is, the transaction has failed, and the client has to know.
    bench.server(&[syntax_error(false), ready(b'E')]);
    assert_eq!(bench.told(), [syntax_error(false), ready(b'E')].concat());
    assert!(bench.machine.poll_action().is_none());
}

#[test]
fn a_statement_that_stays_behind_on_the_server_ends_the_session() {
    let mut bench = bench();
    bench.say(&[query("HOLD me")]);
    bench.server(&[tag(b'1'), error("canceling statement due to user request")]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::Close(_))), "fails closed");
}

#[test]
fn a_batch_that_is_open_is_not_ended_by_a_question() {
    let mut bench = bench();
    bench.say(&[parse("a", "SELECT"), query("HOLD me")]);
    let sent = bench.sent();
    assert!(!sent.windows(question("HOLD me").len()).any(|window| window == question("HOLD me")), "{sent:?}");
}
