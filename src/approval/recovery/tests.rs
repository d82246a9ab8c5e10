#![allow(clippy::arithmetic_side_effects)]

use super::*;
use crate::approval::channel::Receipt;
use crate::approval::testing::{at, desk_with, person, request, settings};
use crate::approval::{Answer, ApprovalSettings, Wish};
use crate::hold::{Board, Decision, HoldId, HoldSettings};
use crate::store::{Answered, StoreSettings};

/// What an earlier process put on record of a request that ended so many seconds ago.
async fn left_behind(store: &Store, seconds: i64, announced: bool, more: impl FnOnce(&HoldId) -> Vec<Event>) -> HoldId {
    let request = request("app", "DELETE FROM customers");
    let id = request.id.clone();
    let mut events = vec![Event::Held { request: Box::new(request) }];
    if announced {
        events.push(Event::Announced { id: id.clone(), channel: "slack".to_owned(), reference: "C01/1.2".to_owned() });
    }
    events.extend(more(&id));
    events.push(Event::Ended { id: id.clone(), outcome: Outcome::Released, at: at(-seconds) });
    store.record_all(events).await.unwrap();
    id
}

fn approved(id: &HoldId) -> Vec<Event> {
    let answered = Answered {
        id: id.clone(),
        channel: "slack".to_owned(),
        by: "ann".to_owned(),
        approve: true,
        break_glass: false,
        reason: Some("fine".to_owned()),
        refused: None,
    };
    let refused = Answered { by: "dev".to_owned(), refused: Some("not an approver".to_owned()), ..answered.clone() };
    let decision = Decision::Approve { by: "ann".to_owned(), reason: None, at: at(0), under: None };
    vec![Event::Answered(refused), Event::Answered(answered), Event::Decided { id: id.clone(), decision }]
}

async fn ran(store: &Store, id: &HoldId) {
    let execution = Execution::Completed {
        tag: "DELETE 7".to_owned(),
        rows: Some(7),
        duration_ms: 12,
        committed: true,
        kept: None,
    };
    store.record(Event::Executed { id: id.clone(), execution }).await.unwrap();
}

async fn restarted(store: &Store) -> ApprovalDesk {
    let desk = ApprovalDesk::new(Board::new(HoldSettings::default()), settings(), Arc::new(store.clone()));
    retell(&desk, store, at(0)).await.unwrap();
    desk
}

#[tokio::test]
async fn a_released_statement_without_a_result_gets_one_on_record_and_in_its_message() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let id = left_behind(&store, 3_600, true, approved).await;
    let silent = left_behind(&store, 0, false, approved).await;
    let desk = restarted(&store).await;
    let view = desk.view_of(&id).unwrap();
    assert_eq!(view.execution, Some(Execution::Unknown));
    assert_eq!(view.decision.as_ref().map(Decision::by), Some("ann"));
    let lines: Vec<&str> = view.timeline.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(
        lines,
        ["held by rule deletes", "approved by ann: fine", "released", "released, but its result is not known"]
    );
    assert!(desk.view_of(&silent).is_none(), "no message of it is anywhere");
    for id in [&id, &silent] {
        assert_eq!(store.find(id).await.unwrap().unwrap().execution, Some(Execution::Unknown));
    }
    // The next start finds nothing missing.
    let events = store.heads().borrow().seq;
    restarted(&store).await;
    assert_eq!(store.heads().borrow().seq, events);
}

#[tokio::test]
async fn what_ended_last_or_could_not_be_told_is_told_again_and_the_rest_is_left_alone() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let down = |id: &HoldId| {
        let why = "no answer".to_owned();
        vec![Event::NotAnnounced { id: id.clone(), channel: "slack".to_owned(), why }]
    };
    let old = left_behind(&store, 3_600, true, approved).await;
    let untold = left_behind(&store, 3_600, true, down).await;
    let last = left_behind(&store, 60, true, approved).await;
    for id in [&old, &untold, &last] {
        ran(&store, id).await;
    }
    let events = store.heads().borrow().seq;
    let desk = restarted(&store).await;
    assert!(desk.view_of(&old).is_none());
    for id in [&untold, &last] {
        let view = desk.view_of(id).unwrap();
        assert!(matches!(view.execution, Some(Execution::Completed { .. })), "{view:?}");
        assert!(view.ended.is_some());
    }
    assert_eq!(store.heads().borrow().seq, events, "nothing is put on record by that");
}

#[tokio::test]
async fn a_standing_approval_of_an_earlier_process_is_over_and_its_message_says_so() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let granted = |id: &HoldId| {
        let mut events = approved(id);
        events.push(Event::Granted { id: id.clone(), by: "ann".to_owned(), until: at(900) });
        events
    };
    let stood = left_behind(&store, 3_600, true, granted).await;
    ran(&store, &stood).await;
    let use_of_it = left_behind(&store, 3_000, false, |id| {
        let under = Some(stood.clone());
        let decision = Decision::Approve { by: "ann".to_owned(), reason: None, at: at(-3_000), under };
        vec![Event::Decided { id: id.clone(), decision }]
    })
    .await;
    ran(&store, &use_of_it).await;
    let over = left_behind(&store, 3_600, true, granted).await;
    ran(&store, &over).await;
    store.record(Event::Lapsed { id: over.clone(), why: None }).await.unwrap();
    // Not among those that are told again for another reason.
    let newest = left_behind(&store, 0, false, approved).await;
    ran(&store, &newest).await;
    let desk = restarted(&store).await;
    let again = desk.view_of(&stood).unwrap().again.unwrap();
    assert_eq!((again.uses, again.ended.as_deref()), (1, Some("the gate was started again")));
    assert!(desk.view_of(&over).is_none(), "its message said so before");
    assert!(restarted(&store).await.view_of(&stood).is_none(), "it is told once");
}

/// dev asks beforehand in an earlier process.
async fn asked_beforehand(store: &Store) -> HoldId {
    let desk = desk_with(settings(), Arc::new(store.clone())).0;
    let wish = Wish {
        sql: "DROP TABLE a; DELETE FROM b".to_owned(),
        reason: Some("release 12".to_owned()),
        database: "shop".to_owned(),
        window: std::time::Duration::from_secs(7_200),
        ..Wish::default()
    };
    let id = desk.ask_beforehand(&person(&desk, "dev"), wish, crate::clock::wall()).unwrap();
    let mut changes = desk.changes();
    while desk.view_of(&id).is_none() {
        changes.recv().await.unwrap();
    }
    store
        .record(Event::Announced { id: id.clone(), channel: "slack".to_owned(), reference: "C01/1.2".to_owned() })
        .await
        .unwrap();
    id
}

/// Whether another process asks it again, and its desk.
async fn asks_again(
    store: &Store,
    id: &HoldId,
    settings: ApprovalSettings,
    change: impl FnOnce(&mut StoredRequest),
) -> (bool, Arc<ApprovalDesk>) {
    let desk = Arc::new(ApprovalDesk::new(Board::new(HoldSettings::default()), settings, Arc::new(store.clone())));
    let mut stored = store.find(id).await.unwrap().unwrap();
    change(&mut stored);
    (ask_again(&desk, store, &stored, crate::clock::wall()).await.unwrap(), desk)
}

#[tokio::test]
async fn what_was_asked_beforehand_is_asked_again_with_all_its_messages() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let id = asked_beforehand(&store).await;
    let (again, desk) = asks_again(&store, &id, settings(), |_| {}).await;
    assert!(again && desk.pending() == 1);
    assert_eq!(desk.place(&id).unwrap().references().get("slack").map(String::as_str), Some("C01/1.2"));
    let view = desk.view_of(&id).unwrap();
    assert!(view.decision.is_none() && view.timeline.last().unwrap().what.contains("started again"));
    let denied = desk.answer(&person(&desk, "dev"), &id, Answer { approve: true, ..Answer::default() }, at(0)).await;
    assert!(denied.is_err(), "whoever asked does not decide");
    let yes = Answer { approve: true, ..Answer::default() };
    assert_eq!(desk.answer(&person(&desk, "ann"), &id, yes, crate::clock::wall()).await, Ok(Receipt::Decided));
}

#[tokio::test]
async fn a_decision_that_was_on_record_is_carried_out_and_nothing_else_is_asked() {
    for approve in [true, false] {
        let (store, _) = Store::open(&StoreSettings::default()).unwrap();
        let id = asked_beforehand(&store).await;
        let (by, now) = ("ann".to_owned(), crate::clock::wall());
        let decision = if approve {
            Decision::Approve { by, reason: None, at: now, under: None }
        } else {
            Decision::Reject { by, reason: None, at: now }
        };
        store.record(Event::Decided { id: id.clone(), decision }).await.unwrap();
        let (again, desk) = asks_again(&store, &id, settings(), |_| {}).await;
        assert!(again && desk.pending() == 0);
        let (_sender, stop) = tokio::sync::watch::channel(false);
        let mut changes = desk.changes();
        tokio::spawn(crate::approval::clerk::run(Arc::clone(&desk), stop));
        while desk.view_of(&id).unwrap().ended.is_none() {
            changes.recv().await.unwrap();
        }
        let outcome = desk.view_of(&id).unwrap().ended.unwrap().outcome;
        assert_eq!(outcome, if approve { Outcome::Released } else { Outcome::Rejected });
    }
}

#[tokio::test]
async fn what_is_not_whole_or_whose_people_are_gone_is_not_asked_again() {
    type Change = fn(&mut StoredRequest);
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let id = asked_beforehand(&store).await;
    let changes: [(&str, Change); 5] = [
        ("redacted", |stored| stored.request.redact = crate::judge::Redact::Literals),
        ("another text", |stored| stored.request.statement.text = Arc::from("DROP TABLE c; DELETE FROM b")),
        ("other statements", |stored| {
            stored.request.beforehand.as_mut().unwrap().statements.pop();
        }),
        ("over", |stored| stored.request.deadline = at(0)),
        ("a rule that is gone", |stored| stored.request.rule = Arc::from("gone")),
    ];
    for (what, change) in changes {
        let (again, desk) = asks_again(&store, &id, settings(), change).await;
        assert!(!again && desk.pending() == 0 && desk.view_of(&id).is_none(), "{what}");
    }
    let mut without = settings();
    without.people = crate::approval::People::default();
    assert!(!asks_again(&store, &id, without, |_| {}).await.0, "whoever asked is gone");
    let held = left_behind(&store, 0, true, |_| Vec::new()).await;
    assert!(!asks_again(&store, &held, settings(), |_| {}).await.0, "its client is gone");
}

#[tokio::test]
async fn what_was_approved_beforehand_has_no_result_of_its_own_to_miss() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let id = asked_beforehand(&store).await;
    let decision = Decision::Approve { by: "ann".to_owned(), reason: None, at: at(0), under: None };
    store
        .record_all(vec![
            Event::Decided { id: id.clone(), decision },
            Event::Ended { id: id.clone(), outcome: Outcome::Released, at: at(0) },
            Event::Used { id: id.clone(), request: HoldId("qg-used000000".to_owned()), statements: vec![0] },
            Event::Lapsed { id: id.clone(), why: None },
        ])
        .await
        .unwrap();
    let desk = restarted(&store).await;
    let view = desk.view_of(&id).unwrap();
    let window = view.window.unwrap();
    assert_eq!((window.passed.len(), window.over.as_deref()), (1, Some("its window is over")));
    assert!(view.execution.is_none() && store.find(&id).await.unwrap().unwrap().execution.is_none());
}

/// As if somebody had edited the table of requests while the gate was down: whole in itself, but not what is on record.
#[tokio::test]
async fn what_was_edited_in_the_store_of_a_stopped_gate_is_not_asked_again_or_carried_out() {
    type Change = fn(&mut StoredRequest);
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let id = asked_beforehand(&store).await;
    let changes: [(&str, Change); 4] = [
        ("another text, whole in itself", |stored| {
            let text = "DROP TABLE b; DELETE FROM b";
            let sha = |text: &str| {
                use sha2::Digest as _;
                hex::encode(sha2::Sha256::digest(text.as_bytes()))
            };
            stored.request.statement.text = Arc::from(text);
            stored.request.statement.sha256 = sha(text);
            stored.request.beforehand.as_mut().unwrap().statements = vec![sha("DROP TABLE b"), sha("DELETE FROM b")];
        }),
        ("another who asked", |stored| stored.request.beforehand.as_mut().unwrap().by = "bob".to_owned()),
        ("another rule", |stored| stored.request.rule = Arc::from("another")),
        ("an approval nobody gave", |stored| {
            let by = "ann".to_owned();
            stored.decision = Some(Decision::Approve { by, reason: None, at: at(0), under: None });
        }),
    ];
    for (what, change) in changes {
        let (again, desk) = asks_again(&store, &id, settings(), change).await;
        assert!(!again && desk.pending() == 0 && desk.view_of(&id).is_none(), "{what}");
    }
    let (_, desk) = asks_again(&store, &id, settings(), |_| {}).await;
    assert_eq!(desk.pending(), 1, "as it was it is asked again");
}

#[tokio::test]
async fn a_pre_approval_that_was_edited_in_the_store_of_a_stopped_gate_is_over() {
    let place = tempfile::tempdir().unwrap();
    let settings = StoreSettings { path: Some(place.path().join("gate.db")), ..StoreSettings::default() };
    for edit in [None, Some("REPLACE(request, 'release 12', 'release 13')")] {
        let (store, _) = Store::open(&settings).unwrap();
        let id = asked_beforehand(&store).await;
        let now = crate::clock::wall();
        let decision = Decision::Approve { by: "ann".to_owned(), reason: None, at: now, under: None };
        let ended = Event::Ended { id: id.clone(), outcome: Outcome::Released, at: now };
        store.record_all(vec![Event::Decided { id: id.clone(), decision }, ended]).await.unwrap();
        store.close().await;
        if let Some(edit) = edit {
            let database = rusqlite::Connection::open(settings.path.as_ref().unwrap()).unwrap();
            let changed = database.execute(&format!("UPDATE requests SET request = {edit} WHERE id = ?1"), [&id.0]);
            assert_eq!(changed, Ok(1));
        }
        let (store, _) = Store::open(&settings).unwrap();
        let desk = desk_with(crate::approval::testing::settings(), Arc::new(store.clone())).0;
        crate::approval::clerk::recover_beforehand(&desk, &store, now).await.unwrap();
        let holds = desk.view_of(&id).is_some();
        assert_eq!(holds, edit.is_none(), "{edit:?}");
        store.close().await;
    }
}
