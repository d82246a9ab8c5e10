#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::*;
use crate::approval::channel::Receipt;
use crate::approval::testing::{desk_with, person, request, settings, taken_in};
use crate::approval::{Answer, Forgetful, Profile};
use crate::hold::{Board, Done, Parameter, era};

const SQL: &str = "BEGIN;\nDROP TABLE a; -- the old one\nDELETE FROM b;\nDELETE FROM b;\nCOMMIT;";

fn wish(sql: &str) -> Wish {
    Wish {
        sql: sql.to_owned(),
        reason: Some("release 12".to_owned()),
        database: "shop".to_owned(),
        window: Duration::from_secs(7_200),
        ..Wish::default()
    }
}

fn sha(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Sent by now.
fn done(texts: &[&str]) -> Vec<Done> {
    texts.iter().map(|text| Done { statement: sha(text), era: era::now() }).collect()
}

/// A held message of these statements in a plain session in which `ran` has run.
fn held_as(user: &str, pieces: &[&str], ran: &[&str]) -> HoldRequest {
    let all = |texts: &[&str]| Some(texts.iter().map(|text| sha(text)).collect());
    HoldRequest {
        parameters: Vec::new(),
        in_transaction: false,
        standing: Standing { same: None, pieces: all(pieces), ran: all(ran), done: done(ran) },
        ..request(user, &pieces.join("; "))
    }
}

/// dev has asked, and ann and the rule have been satisfied.
async fn approved() -> (Arc<ApprovalDesk>, Board, HoldId) {
    approved_of(SQL).await
}

async fn approved_of(sql: &str) -> (Arc<ApprovalDesk>, Board, HoldId) {
    let (desk, board) = desk_with(settings(), Arc::new(Forgetful));
    let id = desk.ask_beforehand(&person(&desk, "dev"), wish(sql), clock::wall()).unwrap();
    let mut changes = desk.changes();
    while desk.view_of(&id).is_none() {
        changes.recv().await.unwrap();
    }
    let yes = Answer { approve: true, ..Answer::default() };
    assert_eq!(desk.answer(&person(&desk, "ann"), &id, yes, clock::wall()).await, Ok(Receipt::Decided));
    while desk.beforehand.lock().await.is_empty() {
        changes.recv().await.unwrap();
    }
    (desk, board, id)
}

async fn passes(desk: &ApprovalDesk, board: &Board, request: HoldRequest) -> bool {
    let ticket = board.open(request).unwrap();
    taken_in(desk, &ticket).await;
    let decided = board.find(ticket.id()).is_some_and(|hold| matches!(hold.phase, Phase::Decided(_)));
    if decided {
        assert_eq!(ticket.finish(clock::wall()), Outcome::Released);
    }
    decided
}

#[tokio::test]
async fn each_statement_passes_once_in_the_order_shown_in_any_session() {
    let (desk, board, id) = approved().await;
    assert!(passes(&desk, &board, held_as("dev_db", &["DROP TABLE a"], &[])).await);
    assert!(!passes(&desk, &board, held_as("dev_db", &["DROP TABLE a"], &[])).await);
    assert!(passes(&desk, &board, held_as("dev_db", &["DELETE FROM b"], &["DROP TABLE a"])).await);
    let ran = ["DROP TABLE a", "DELETE FROM b"];
    assert!(passes(&desk, &board, held_as("dev_db", &["DELETE FROM b"], &ran)).await);
    assert!(!passes(&desk, &board, held_as("dev_db", &["DELETE FROM b"], &ran)).await);
    let timeline = desk.view_of(&id).unwrap().timeline;
    assert_eq!(timeline.iter().filter(|line| line.what.contains("passed as request")).count(), 3);
}

#[tokio::test]
async fn a_message_passes_whole_or_not_at_all() {
    let (desk, board, _id) = approved().await;
    let too_many = ["DROP TABLE a", "DELETE FROM b", "DELETE FROM b", "DELETE FROM b"];
    assert!(!passes(&desk, &board, held_as("dev_db", &too_many, &[])).await);
    assert!(!passes(&desk, &board, held_as("dev_db", &["DROP TABLE a", "DROP TABLE c"], &[])).await);
    assert!(passes(&desk, &board, held_as("dev_db", &too_many[..3], &[])).await);
}

#[tokio::test]
async fn whatever_differs_is_asked_when_it_runs() {
    type Change = fn(&mut HoldRequest);
    let changes: [(&str, Change); 9] = [
        ("another user", |request| request.origin.user = "app".to_owned()),
        ("another database", |request| request.origin.database = "other".to_owned()),
        ("values", |request| {
            request.parameters = vec![Parameter { position: 1, type_name: None, value: None, raw: false }];
        }),
        ("bytes that are no text", |request| request.statement.lossy = true),
        ("a session that began otherwise", |request| request.standing.ran = None),
        ("statements that cannot be told apart", |request| request.standing.pieces = None),
        ("no statement", |request| request.standing.pieces = Some(Vec::new())),
        ("a session in which something else ran", |request| {
            request.standing.ran = Some(vec![sha("SET search_path = evil")]);
        }),
        ("almost the text", |request| request.standing.pieces = Some(vec![sha("DROP TABLE A")])),
    ];
    let (desk, board, _id) = approved().await;
    for (what, change) in changes {
        let mut other = held_as("dev_db", &["DROP TABLE a"], &[]);
        change(&mut other);
        assert!(!passes(&desk, &board, other).await, "{what}");
    }
    assert!(passes(&desk, &board, held_as("dev_db", &["DROP TABLE a"], &[])).await);
}

#[tokio::test]
async fn a_rule_with_approvers_of_its_own_is_not_satisfied_by_others() {
    let (desk, board, _id) = approved().await;
    let mut stricter = settings();
    stricter.profiles.insert("two".to_owned(), Arc::new(Profile { name: "two".to_owned(), ..Profile::default() }));
    stricter.by_rule.insert("deletes".to_owned(), "two".to_owned());
    desk.reload(stricter);
    assert!(!passes(&desk, &board, held_as("dev_db", &["DROP TABLE a"], &[])).await);
}

#[tokio::test]
async fn two_sessions_at_once_use_a_statement_once() {
    let (desk, board, _id) = approved().await;
    let both: Vec<_> = (0..2).map(|_| Arc::new(held_as("dev_db", &["DROP TABLE a"], &[]))).collect();
    let [one, other] = both.as_slice() else { unreachable!() };
    let (one, other) = tokio::join!(desk.use_earlier(one), desk.use_earlier(other));
    assert_eq!(u8::from(one) + u8::from(other), 1);
    assert!(board.list().is_empty());
}

#[tokio::test]
async fn it_ends_with_its_window_and_when_whoever_asked_withdraws_it() {
    let (desk, board, id) = approved().await;
    assert!(desk.withdraw(&person(&desk, "ann"), &id, clock::wall()).await.is_err());
    assert_eq!(desk.withdraw(&person(&desk, "dev"), &id, clock::wall()).await, Ok(()));
    assert!(!passes(&desk, &board, held_as("dev_db", &["DROP TABLE a"], &[])).await);
    let (desk, _board, _id) = approved().await;
    let later = clock::wall() + SignedDuration::from_secs(7_201);
    let request = Arc::new(held_as("dev_db", &["DROP TABLE a"], &[]));
    assert!(desk.fits_beforehand(&request, clock::wall()).await.is_some());
    assert_eq!(desk.fits_beforehand(&request, later).await, None);
    desk.lapse_beforehand(later).await;
    assert!(desk.beforehand.lock().await.is_empty());
}

#[tokio::test]
async fn whoever_asks_does_not_decide_though_an_approver_and_another_database_user() {
    let (desk, _board) = desk_with(settings(), Arc::new(Forgetful));
    let wish = Wish { user: Some("app".to_owned()), ..wish(SQL) };
    let id = desk.ask_beforehand(&person(&desk, "ann"), wish, clock::wall()).unwrap();
    let mut changes = desk.changes();
    while desk.view_of(&id).is_none() {
        changes.recv().await.unwrap();
    }
    let yes = Answer { approve: true, ..Answer::default() };
    let denied = desk.answer(&person(&desk, "ann"), &id, yes.clone(), clock::wall()).await;
    assert_eq!(denied, Err(Denied::Ineligible(crate::approval::Ineligible::OwnRequest)));
    assert!(desk.beforehand.lock().await.is_empty());
    assert_eq!(desk.answer(&person(&desk, "bob"), &id, yes, clock::wall()).await, Ok(Receipt::Decided));
}

#[tokio::test]
async fn what_changes_its_session_or_cannot_be_seen_through_is_not_asked_beforehand() {
    for sql in [
        "",
        "BEGIN; COMMIT",
        "SET search_path = evil; DROP TABLE a",
        "SET ROLE owner; DROP TABLE a",
        "RESET ROLE",
        "SELECT set_config('search_path', 'evil', false); DROP TABLE a",
        "SELECT set_config('role', 'owner', false)",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CALL p()",
        "SELECT f()",
        "CREATE TABLE x AS SELECT f()",
        "CREATE TEMP TABLE x AS SELECT f()",
        "CREATE MATERIALIZED VIEW x AS SELECT f()",
        "CREATE EXTENSION x",
        "PREPARE p AS DROP TABLE a",
        "EXECUTE p",
        "COPY a FROM STDIN",
        "DISCARD ALL",
        "DROP TABLE a; DROP nonsense b",
        "DROP TABLE 'a",
        "SELECT 'a\\'; DROP TABLE b; --'",
    ] {
        assert!(statements(sql).is_err(), "{sql}");
    }
    for (sql, count) in
        [(SQL, 3), ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT SELECT ON a TO b", 2)]
    {
        assert_eq!(statements(sql).map(|found| found.len()), Ok(count), "{sql}");
    }
}

#[tokio::test]
async fn what_any_rule_might_redact_of_it_is_redacted() {
    use crate::judge::{Policy, Redact, Rule, Verdict};
    let rule = |toml: &str| -> Rule { toml::from_str(toml).unwrap() };
    let rules = vec![
        // Stands before, and would let it pass: whose session it will be nobody knows.
        Rule::new("all", Verdict::Allow),
        rule("name = \"cards\"\naction = \"hold\"\neffects = [\"delete\"]\ngroups = [\"x\"]\nredact = \"literals\""),
        rule("name = \"other\"\naction = \"hold\"\nusers = [\"app\"]\nredact = \"all\""),
    ];
    let mut settings = settings();
    settings.policy = Some(Arc::new(Policy::new(rules).unwrap()));
    let (desk, _board) = desk_with(settings, Arc::new(Forgetful));
    for (person_name, user, sql, expected) in [
        ("dev", None, SQL, Redact::Literals),
        ("dev", None, "DROP TABLE a", Redact::None),
        ("dev", Some("app".to_owned()), "DROP TABLE a", Redact::All),
    ] {
        let wish = Wish { user, ..wish(sql) };
        let request = desk.beforehand(&person(&desk, person_name), wish, clock::wall()).unwrap();
        assert_eq!(request.redact, expected, "{sql}");
    }
}

#[tokio::test]
async fn none_passes_before_those_shown_before_it_have() {
    let (desk, board, _id) = approved().await;
    assert!(!passes(&desk, &board, held_as("dev_db", &["DELETE FROM b"], &[])).await, "the DROP has not passed");
    assert!(!passes(&desk, &board, held_as("dev_db", &["DELETE FROM b", "DELETE FROM b"], &[])).await);
    // No rule held it, and it ran in this session.
    assert!(passes(&desk, &board, held_as("dev_db", &["DELETE FROM b"], &["DROP TABLE a"])).await);
}

/// The first statement passes, in a transaction or outside of one, and the database says something.
async fn first_one_passed(in_transaction: bool, execution: Execution) -> (Arc<ApprovalDesk>, Board) {
    let (desk, board, _id) = approved().await;
    let request = HoldRequest { in_transaction, effects: Vec::new(), ..held_as("dev_db", &["DROP TABLE a"], &[]) };
    let ticket = board.open(request).unwrap();
    taken_in(&desk, &ticket).await;
    let (id, request) = (ticket.id().clone(), Arc::clone(ticket.request()));
    assert_eq!(ticket.finish(clock::wall()), Outcome::Released);
    let mut changes = desk.changes();
    board.executed(request, execution);
    while desk.view_of(&id).is_none_or(|view| view.execution.is_none()) {
        let _ = changes.recv().await;
    }
    (desk, board)
}

#[tokio::test]
async fn in_another_session_only_what_has_surely_taken_effect_counts_as_before() {
    let done = |committed| Execution::Completed {
        tag: "DROP TABLE".to_owned(),
        rows: None,
        duration_ms: 1,
        committed,
        kept: None,
    };
    for (in_transaction, execution, expected) in [
        (false, done(true), true),
        (false, done(false), false),
        (true, done(true), false),
        (false, Execution::Unknown, false),
    ] {
        let (desk, board) = first_one_passed(in_transaction, execution).await;
        // Its snapshot may be older.
        let within = HoldRequest { in_transaction: true, ..held_as("dev_db", &["DELETE FROM b"], &[]) };
        assert!(!passes(&desk, &board, within).await, "in a transaction: {in_transaction}");
        let next = held_as("dev_db", &["DELETE FROM b"], &[]);
        assert_eq!(passes(&desk, &board, next).await, expected, "in a transaction: {in_transaction}");
    }
}

#[test]
fn of_transaction_control_only_a_plain_beginning_and_end_may_be_among_them() {
    for plain in ["BEGIN", "begin work", "START TRANSACTION", "COMMIT", "END TRANSACTION"] {
        assert!(statements(&format!("{plain}; DELETE FROM b")).is_ok(), "{plain}");
    }
    for other in [
        "ROLLBACK",
        "ABORT",
        "BEGIN READ ONLY",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'x'",
        "SET TRANSACTION READ ONLY",
    ] {
        assert!(statements(&format!("DELETE FROM b; {other}")).is_err(), "{other}");
    }
}

#[tokio::test]
async fn an_approver_can_take_a_pre_approval_back_and_sees_it_among_what_stands() {
    let (desk, board, id) = approved().await;
    let (ann, now) = (person(&desk, "ann"), clock::wall());
    assert!(desk.grants(&ann).iter().map(|hold| &hold.request.id).eq([&id]));
    assert_eq!(desk.revoke(&ann, &id, now).await, Ok(()));
    assert!(desk.grants(&ann).is_empty());
    assert!(!passes(&desk, &board, held_as("dev_db", &["DROP TABLE a"], &[])).await);
    assert_eq!(desk.revoke(&ann, &id, now).await, Err(Denied::NothingToRevoke));
}

#[tokio::test]
async fn whoever_asks_beforehand_uses_their_own_places_and_nobody_elses() {
    let (desk, board) = desk_with(settings(), Arc::new(Forgetful));
    let dev = person(&desk, "dev");
    let mut asked = 0;
    while desk.ask_beforehand(&dev, Wish { user: Some("app".to_owned()), ..wish(SQL) }, clock::wall()).is_ok() {
        asked += 1;
        assert!(asked < 1_000, "there is a limit");
    }
    assert!(asked > 0);
    assert!(board.open(request("app", "DELETE FROM t")).is_ok(), "the database user's places are free");
}

#[tokio::test]
async fn those_before_it_count_in_order_as_often_as_they_are_shown_and_since_the_approval_only() {
    let sql = "INSERT INTO log SELECT 1; DELETE FROM a; INSERT INTO log SELECT 1; DELETE FROM b";
    let (log, last) = ("INSERT INTO log SELECT 1", ["DELETE FROM b"]);
    let early = done(&[log, "DELETE FROM a", log]);
    let (desk, board, _id) = approved_of(sql).await;
    for ran in [&[log, "DELETE FROM a"][..], &["DELETE FROM a", log, log], &[log, log, "DELETE FROM a"]] {
        assert!(!passes(&desk, &board, held_as("dev_db", &last, ran)).await, "{ran:?}");
    }
    let mut before = held_as("dev_db", &last, &[log, "DELETE FROM a", log]);
    before.standing.done = early;
    assert!(!passes(&desk, &board, before).await, "sent before anybody approved it");
    assert!(passes(&desk, &board, held_as("dev_db", &last, &[log, "DELETE FROM a", log])).await);
}

#[tokio::test]
async fn owners_of_what_is_asked_for_agree_beforehand_and_others_are_asked_when_it_runs() {
    use crate::judge::{NameKind, Owners, Parts, Policy, Rule, Verdict};

    let owners = |text: &str| Owners::parse(text, &|_| Ok(NameKind::Group)).unwrap();
    let file = owners("a other\nb other\nc dba");
    let rules = vec![Rule::new("rest", Verdict::Hold)];
    let policy = Arc::new(Policy::of(Parts { rules, owners: Some(file), ..Parts::default() }).unwrap());
    let settings = crate::approval::ApprovalSettings { policy: Some(Arc::clone(&policy)), ..settings() };
    let (desk, board) = desk_with(settings, Arc::new(Forgetful));
    let id = desk.ask_beforehand(&person(&desk, "dev"), wish(SQL), clock::wall()).unwrap();
    let mut changes = desk.changes();
    while desk.view_of(&id).is_none() {
        changes.recv().await.unwrap();
    }
    // ann is of dba, which the rules ask; only bob is of the owners as well.
    let yes = || Answer { approve: true, ..Answer::default() };
    let counted = desk.answer(&person(&desk, "ann"), &id, yes(), clock::wall()).await;
    assert!(matches!(counted, Ok(Receipt::Counted { have: 1, need: 2 })), "{counted:?}");
    assert_eq!(desk.answer(&person(&desk, "bob"), &id, yes(), clock::wall()).await, Ok(Receipt::Decided));
    while desk.beforehand.lock().await.is_empty() {
        changes.recv().await.unwrap();
    }
    let held_by = |owners: &str, ran: &[&str]| {
        let mut request = held_as("dev_db", &["DROP TABLE a"], ran);
        let analysis = analyse(b"DROP TABLE a", &Limits::default());
        request.owners = owned(owners, &analysis);
        request
    };
    // Another file is in force by now: nobody asked them.
    assert!(!passes(&desk, &board, held_by("a dba", &[])).await);
    assert!(!passes(&desk, &board, held_by("a other dba", &[])).await);
    assert!(passes(&desk, &board, held_by("a other", &[])).await);
}

/// Who owns what a text touches, by a file of groups.
fn owned(file: &str, analysis: &crate::judge::Analysis) -> Vec<crate::judge::Ownership> {
    let owners = crate::judge::Owners::parse(file, &|_| Ok(crate::judge::NameKind::Group)).unwrap();
    owners.of(analysis.pieces.iter().flat_map(|piece| &piece.effects))
}
