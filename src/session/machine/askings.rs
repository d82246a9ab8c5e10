//! The session is asked for its role and `search_path` before a statement of it is held.

use super::asking::Asking;
use super::held;
use super::tests::{
    Bench, bind, bogus, close, complete, error, execute, flush, parse, query, ready, refusal, row, sync, tag,
};
use super::{Action, Ending};
use crate::hold::Setting;

fn bench() -> Bench {
    Bench::with(|settings| settings.ask_session = true)
}

/// What the gate asks, when it makes a name for the `count`th time.
fn question(count: u32) -> Vec<u8> {
    Asking::messages(&held::own_name("asks", "k", count))
}

/// Values of the settings by which literals are read.
const READ: [&str; 6] = ["UTC", "ISO, MDY", "postgres", "Default", "off", "on"];

fn answers(values: [&str; 3]) -> Vec<u8> {
    values
        .into_iter()
        .chain(READ)
        .flat_map(|value| [tag(b'1'), tag(b'2'), row(value), complete(), tag(b'3'), tag(b'3')])
        .flatten()
        .collect()
}

fn setting(search_path: &str, role: &str) -> Setting {
    let reading = crate::judge::READING.iter().zip(READ).map(|(name, value)| ((*name).to_owned(), value.to_owned()));
    Setting { search_path: Some(search_path.to_owned()), role: Some(role.to_owned()), reading: reading.collect() }
}

#[test]
fn a_held_query_comes_with_role_and_search_path_and_the_client_sees_nothing_of_the_question() {
    let mut bench = bench();
    bench.say(&[query("HOLD me")]);
    assert_eq!(bench.sent(), [question(1), sync()].concat());
    bench.server(&[answers(["a, b", "none", "ann"])]);
    assert!(bench.machine.poll_action().is_none(), "the server has not said that it is ready");
    bench.server(&[ready(b'I')]);
    assert_eq!(bench.opened().setting, Some(setting("a, b", "ann")), "without SET ROLE it is who was authorised");
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), query("HOLD me"));
    bench.server(&[row("mine"), complete(), ready(b'I')]);
    assert_eq!(bench.told(), [row("mine"), complete(), ready(b'I')].concat(), "rows pass as ever");
}

#[test]
fn the_next_one_is_asked_about_anew() {
    let mut bench = bench();
    bench.say(&[query("HOLD me"), query("HOLD me")]);
    bench.sent();
    bench.server(&[answers(["a", "none", "ann"]), ready(b'I')]);
    bench.opened();
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), query("HOLD me"));
    bench.server(&[complete(), ready(b'I')]);
    assert_eq!(bench.sent(), [question(2), sync()].concat());
    bench.server(&[answers(["b", "boss", "ann"]), ready(b'I')]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::Executed(_))), "the first one has run");
    assert_eq!(bench.draft().setting, Some(setting("b", "boss")));
}

#[test]
fn a_bind_within_a_pipeline_is_asked_about_without_ending_its_transaction() {
    let mut bench = bench();
    bench.say(&[
        parse("", "SELECT"),
        bind("", ""),
        execute(""),
        parse("a", "HOLD"),
        bind("p", "a"),
        execute("p"),
        sync(),
    ]);
    bench.server(&[tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
    assert!(bench.sent().ends_with(&[question(1), flush()].concat()));
    bench.server(&[answers(["a", "none", "ann"])]);
    assert_eq!(bench.opened().setting, Some(setting("a", "ann")));
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [bind("p", "a"), execute("p"), sync()].concat());
}

#[test]
fn what_the_session_answers_instead_is_the_answer_to_the_query() {
    let mut bench = bench();
    bench.say(&[query("HOLD me"), query("SELECT 2")]);
    bench.sent();
    let cancelled = error("canceling statement due to user request");
    bench.server(&[tag(b'1'), cancelled.clone(), ready(b'I')]);
    assert!(bench.machine.poll_action().is_none(), "nobody is asked");
    assert_eq!(bench.told(), [cancelled, ready(b'I')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
}

#[test]
fn what_the_session_answers_instead_is_the_answer_to_the_bind() {
    for ran in [false, true] {
        let mut bench = bench();
        let before: &[Vec<u8>] = if ran { &[parse("", "SELECT"), bind("", ""), execute("")] } else { &[] };
        bench.say(before).say(&[parse("a", "HOLD"), bind("", "a"), execute("")]);
        if ran {
            bench.server(&[tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
        } else {
            // The Sync with which the gate waited for the Parse.
            bench.server(&[tag(b'1'), ready(b'I')]);
        }
        bench.sent();
        bench.told();
        let cancelled = error("canceling statement due to user request");
        bench.server(&[tag(b'1'), cancelled.clone()]);
        if !ran {
            bench.server(&[ready(b'I')]);
        }
        assert!(bench.machine.poll_action().is_none(), "nobody is asked");
        bench.say(&[query("SELECT skipped"), sync()]);
        assert_eq!(bench.sent(), sync(), "the rest is skipped as the server would");
        bench.server(&[ready(b'I')]);
        assert_eq!(bench.told(), [cancelled, ready(b'I')].concat());
    }
}

#[test]
fn a_session_that_cannot_answer_is_not_asked() {
    let mut bench = bench();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[query("FAIL")]).server(&[error("no"), ready(b'E')]);
    bench.sent();
    bench.say(&[parse("a", "HOLD"), bind("", "a")]).server(&[tag(b'1'), ready(b'E')]);
    assert!(!bench.sent().windows(5).any(|window| window == b"SHOW "));
    let mut batch = self::bench();
    batch.say(&[parse("a", "SELECT"), bind("", "a"), execute(""), query("HOLD me")]);
    batch.server(&[tag(b'1'), tag(b'2'), complete()]);
    assert!(!batch.sent().windows(5).any(|window| window == b"SHOW "), "a Query ends the transaction of the batch");
    assert_eq!(batch.draft().setting, None);
}

#[test]
fn an_answer_to_something_else_ends_the_session() {
    let mut bench = bench();
    bench.say(&[query("HOLD me")]);
    bench.server(&[tag(b'1'), tag(b'3')]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::Close(_))), "fails closed");
}

#[test]
fn a_refusal_after_the_question_is_an_ordinary_error() {
    let mut bench = bench();
    bench.say(&[parse("a", "HOLD"), bind("", "a"), execute(""), sync()]);
    bench.server(&[tag(b'1'), ready(b'I')]);
    bench.sent();
    bench.server(&[answers(["a", "none", "ann"]), ready(b'I')]);
    bench.opened();
    bench.end(Ending::Refuse(refusal()));
    let (sent, said) = bogus(2);
    assert_eq!(bench.sent(), [sent, sync()].concat());
    bench.server(&[said, ready(b'I')]);
    assert!(bench.told().ends_with(&ready(b'I')));
    bench.say(&[close("a"), sync()]);
    assert_eq!(bench.sent(), [close("a"), sync()].concat());
}
