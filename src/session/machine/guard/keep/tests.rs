//! A statement whose rows are kept, against scripted peers.

use super::super::super::tests::{
    Bench, bind, bogus_query, complete, error, execute, flush, parse, query, ready, row, sync, tag,
};
use super::super::super::{Action, Ending};
use super::super::tests::{answers, done, gate, results};
use crate::judge::{Analysis, Effect, EffectKind, ObjectName, Piece, Tags};
use crate::undo::{Secret, UndoSettings, Warrant};
use crate::wire::frame::build;

fn warrant(bench: &Bench) -> Warrant {
    let (limits, pid) = bench.machine.wants_kept().unwrap();
    assert_eq!((limits.rows, pid), (5, Some(77)));
    let settings = UndoSettings { secret: Secret::new("k"), ..UndoSettings::default() };
    settings.warrant("qg-0000000000", 77, limits, 1000).unwrap()
}

/// What the session is asked, and answers, before a statement goes.
const TICKET: &str = "t-1";

fn draw() -> String {
    Warrant::draw()
}

fn drawn() -> Vec<u8> {
    answers(&[Some(TICKET)])
}

fn bench() -> Bench {
    let mut bench = Bench::ready();
    bench.server(&[build(b'K', &[&77_i32.to_be_bytes(), &[1; 4]])]);
    while bench.machine.poll_action().is_some() {}
    bench.told();
    bench
}

/// A Query that is released, up to where it is sent.
fn released(text: &str) -> (Bench, Warrant) {
    let mut bench = bench();
    bench.say(&[query(text), query("SELECT 2")]);
    let draft = bench.opened();
    assert!(draft.guard.unwrap().starts_with("can be undone: up to 5 rows (10 MiB) are kept"));
    let warrant = warrant(&bench);
    bench.machine.may_keep(warrant.clone());
    bench.end(Ending::Release);
    (bench, warrant)
}

fn kept(said: &str) -> Vec<u8> {
    let report = crate::wire::reply::Report::notice(format!("querygate: {said}"));
    let hint = "To undo it: querygate undo qg-0000000000 (held like any other statement)";
    if said.starts_with("kept") { report.with_hint(hint) } else { report }.to_bytes()
}

#[test]
fn keeping_begins_before_the_statement_and_ends_before_it_is_committed() {
    let (mut bench, mut warrant) = released("HOLDK me");
    assert_eq!(bench.sent(), [gate(1, &["BEGIN", &draw()]), sync()].concat());
    bench.server(&[answers(&[None, Some(TICKET)]), ready(b'T')]);
    assert_eq!(bench.sent(), [gate(2, &[&warrant.begin(TICKET).unwrap()]), sync()].concat());
    bench.server(&[answers(&[Some("open")]), ready(b'T')]);
    assert_eq!(bench.sent(), query("HOLDK me"));
    bench.server(&[row("x"), done("DELETE 2"), ready(b'T')]);
    assert_eq!(bench.told(), row("x"));
    let finish = warrant.finish("\"t\"", "DELETE", Some(2));
    assert_eq!(bench.sent(), [gate(3, &[&finish, "COMMIT"]), sync()].concat());
    bench.server(&[answers(&[Some("kept for an undo"), None]), ready(b'I')]);
    assert_eq!(bench.told(), [kept("kept for an undo"), done("DELETE 2"), ready(b'I')].concat());
    assert_eq!(bench.sent(), query("SELECT 2"));
    let seen = results(&mut bench);
    assert!(
        matches!(seen.as_slice(), [seen] if seen.kept.as_deref() == Some("kept for an undo") && seen.committed),
        "{seen:?}"
    );
}

#[test]
fn where_rows_were_not_kept_nothing_is_committed() {
    let (mut bench, _) = released("HOLDK me");
    bench.server(&[answers(&[None, Some(TICKET)]), ready(b'T')]);
    bench.server(&[answers(&[Some("open")]), ready(b'T')]);
    bench.server(&[done("DELETE 2"), ready(b'T')]);
    bench.sent();
    bench.told();
    let failed = error("its rows could not be kept");
    bench.server(&[tag(b'1'), tag(b'2'), failed.clone(), ready(b'E')]);
    assert_eq!(bench.told(), failed);
    assert_eq!(bench.sent(), [gate(4, &["ROLLBACK"]), sync()].concat());
    bench.server(&[answers(&[None]), ready(b'I')]);
    assert_eq!(bench.told(), ready(b'I'));
    assert_eq!(bench.sent(), query("SELECT 2"));
    assert!(matches!(results(&mut bench).as_slice(), [seen] if seen.error.is_some() && seen.kept.is_none()));
}

#[test]
fn what_may_not_be_kept_is_not_run() {
    let (mut bench, _) = released("HOLDK me");
    bench.server(&[answers(&[None, Some(TICKET)]), ready(b'T')]);
    bench.sent();
    let failed = error("no warrant");
    bench.server(&[tag(b'1'), tag(b'2'), failed.clone(), ready(b'E')]);
    assert_eq!(bench.sent(), [gate(3, &["ROLLBACK"]), sync()].concat(), "the statement does not go");
    bench.server(&[answers(&[None]), ready(b'I')]);
    assert_eq!(bench.told(), [failed, ready(b'I')].concat());
}

#[test]
fn what_draws_no_ticket_is_not_run() {
    // The schema is not there; and an answer that is none.
    let (mut bench, _) = released("HOLDK me");
    bench.sent();
    let failed = error("no schema");
    let begun = [tag(b'1'), tag(b'2'), complete(), tag(b'3'), tag(b'3')].concat();
    bench.server(&[begun, tag(b'1'), tag(b'2'), failed.clone(), ready(b'E')]);
    assert_eq!(bench.sent(), [gate(2, &["ROLLBACK"]), sync()].concat());
    for ticket in [None, Some(""), Some("x'); DROP TABLE t; --")] {
        let (mut bench, _) = released("HOLDK me");
        bench.sent();
        bench.server(&[answers(&[None, ticket]), ready(b'T')]);
        assert_eq!(bench.sent(), b"", "{ticket:?}");
        assert!(
            std::iter::from_fn(|| bench.machine.poll_action()).any(|action| matches!(action, Action::Close(_))),
            "fails closed: {ticket:?}"
        );
    }
}

#[test]
fn a_session_that_takes_no_warrant_is_told_so_where_it_may_run_without() {
    let (mut bench, _) = released("HOLDK me");
    bench.server(&[answers(&[None, Some(TICKET)]), ready(b'T')]);
    bench.server(&[answers(&[Some("refused")]), ready(b'T')]);
    bench.sent();
    bench.server(&[done("DELETE 2"), ready(b'T')]);
    let told = format!("SELECT '{}'", super::REFUSED);
    assert_eq!(bench.sent(), [gate(3, &[&told, "COMMIT"]), sync()].concat());
    bench.server(&[answers(&[Some(super::REFUSED), None]), ready(b'I')]);
    assert_eq!(bench.told(), [kept(super::REFUSED), done("DELETE 2"), ready(b'I')].concat());
}

#[test]
fn a_statement_whose_rows_are_to_be_kept_needs_a_warrant() {
    for text in ["HOLDK me", "HOLDU me"] {
        let mut bench = bench();
        bench.say(&[query(text)]);
        bench.opened();
        bench.end(Ending::Release);
        assert_eq!(bench.sent(), bogus_query(1).0, "fails closed");
    }
}

#[test]
fn a_portal_s_rows_are_kept_before_its_batch_goes_on() {
    let mut bench = bench();
    bench.say(&[parse("a", "HOLDK"), bind("", "a"), execute(""), sync(), query("SELECT 2")]);
    bench.server(&[tag(b'1'), ready(b'I')]);
    bench.opened();
    let mut warrant = warrant(&bench);
    bench.machine.may_keep(warrant.clone());
    bench.sent();
    bench.told();
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [gate(1, &[&draw()]), flush()].concat());
    bench.server(&[drawn()]);
    assert_eq!(bench.sent(), [gate(2, &[&warrant.begin(TICKET).unwrap()]), flush()].concat());
    bench.server(&[answers(&[Some("open")])]);
    assert_eq!(bench.sent(), [bind("", "a"), execute(""), flush()].concat());
    bench.server(&[tag(b'2'), done("DELETE 2")]);
    assert_eq!(bench.told(), tag(b'2'));
    assert_eq!(bench.sent(), [gate(3, &[&warrant.finish("\"t\"", "DELETE", Some(2))]), flush()].concat());
    bench.server(&[answers(&[Some("it cannot be undone")])]);
    assert_eq!(bench.told(), [kept("it cannot be undone"), done("DELETE 2")].concat());
    assert_eq!(bench.sent(), [sync(), query("SELECT 2")].concat());
}

#[test]
fn a_portal_whose_rows_were_not_kept_fails_its_batch() {
    let mut bench = bench();
    bench.say(&[parse("a", "HOLDK"), bind("", "a"), execute(""), parse("b", "SELECT"), bind("", "b"), sync()]);
    bench.server(&[tag(b'1'), ready(b'I')]);
    bench.opened();
    let warrant = warrant(&bench);
    bench.machine.may_keep(warrant);
    bench.end(Ending::Release);
    bench.server(&[drawn()]);
    bench.server(&[answers(&[Some("open")])]);
    bench.server(&[tag(b'2'), done("DELETE 2")]);
    bench.sent();
    bench.told();
    let failed = error("not kept");
    bench.server(&[tag(b'1'), tag(b'2'), failed.clone()]);
    assert_eq!(bench.sent(), sync(), "the rest is skipped as the server would");
    bench.server(&[ready(b'I')]);
    assert_eq!(bench.told(), [failed, ready(b'I')].concat());
}

#[test]
fn in_a_transaction_the_end_of_keeping_is_not_its_end() {
    let mut bench = bench();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[query("HOLDK me"), query("SELECT 2")]);
    bench.opened();
    let mut warrant = warrant(&bench);
    bench.machine.may_keep(warrant.clone());
    bench.sent();
    bench.told();
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [gate(1, &[&draw()]), sync()].concat());
    bench.server(&[drawn(), ready(b'T')]);
    assert_eq!(bench.sent(), [gate(2, &[&warrant.begin(TICKET).unwrap()]), sync()].concat());
    bench.server(&[answers(&[Some("open")]), ready(b'T')]);
    bench.server(&[done("DELETE 0"), ready(b'T')]);
    bench.sent();
    bench.server(&[answers(&[Some("there is nothing to undo")]), ready(b'T')]);
    assert_eq!(bench.told(), [kept("there is nothing to undo"), done("DELETE 0"), ready(b'T')].concat());
    assert_eq!(results(&mut bench).len(), 1);
    // A statement that has ended the transaction all the same leaves nobody to tell what is kept.
    bench.server(&[complete(), ready(b'T')]);
    bench.say(&[query("HOLDK me")]);
    bench.opened();
    let warrant = self::warrant(&bench);
    bench.machine.may_keep(warrant);
    bench.end(Ending::Release);
    bench.server(&[drawn(), ready(b'T')]);
    bench.server(&[answers(&[Some("open")]), ready(b'T')]);
    bench.server(&[done("DELETE 1"), ready(b'I')]);
    assert!(
        std::iter::from_fn(|| bench.machine.poll_action()).any(|action| matches!(action, Action::Close(_))),
        "fails closed"
    );
}

#[test]
fn rows_are_kept_of_one_table_that_delete_or_update_names() {
    let name =
        |schema: Option<&str>, name: &str| ObjectName { schema: schema.map(str::to_owned), name: name.to_owned() };
    let target = |effects: &[(EffectKind, Vec<ObjectName>)]| {
        let effects = effects.iter().map(|(kind, objects)| Effect {
            kind: *kind,
            objects: objects.clone(),
            has_where: None,
            columns: Vec::new(),
            why: String::new(),
        });
        let piece = Piece {
            range: 0..1,
            effects: effects.collect(),
            acts: Vec::new(),
            risks: Vec::new(),
            calls: crate::judge::Calls::default(),
        };
        super::target(&Analysis {
            pieces: vec![piece],
            literal_independent: false,
            opaque: false,
            reason: None,
            tags: Tags::default(),
            risks: None,
        })
    };
    let (read, delete) = (EffectKind::Read, EffectKind::Delete);
    assert_eq!(target(&[(delete, vec![name(None, "t")])]), Ok("\"t\"".to_owned()));
    let both = [(read, vec![name(None, "u")]), (EffectKind::Update, vec![name(Some("a\"b"), "T")])];
    assert_eq!(target(&both), Ok("\"a\"\"b\".\"T\"".to_owned()));
    for wrong in [
        vec![],
        vec![(read, vec![name(None, "t")])],
        vec![(delete, vec![])],
        vec![(delete, vec![name(None, "t"), name(None, "u")])],
        vec![(delete, vec![name(Some("db.public"), "t")])],
        vec![(delete, vec![name(None, "t")]), (delete, vec![name(None, "u")])],
        vec![(EffectKind::Merge, vec![name(None, "t")])],
        vec![(EffectKind::Truncate, vec![name(None, "t")])],
    ] {
        assert!(target(&wrong).is_err(), "{wrong:?}");
    }
}
