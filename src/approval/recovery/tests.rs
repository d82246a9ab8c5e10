#![allow(clippy::arithmetic_side_effects)]

use super::*;
use crate::approval::testing::{at, request, settings};
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
    let execution = Execution::Completed { tag: "DELETE 7".to_owned(), rows: Some(7), duration_ms: 12 };
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
    store.record(Event::Lapsed { id: over.clone() }).await.unwrap();
    // Not among those that are told again for another reason.
    let newest = left_behind(&store, 0, false, approved).await;
    ran(&store, &newest).await;
    let desk = restarted(&store).await;
    let again = desk.view_of(&stood).unwrap().again.unwrap();
    assert_eq!((again.uses, again.ended.as_deref()), (1, Some("the gate was started again")));
    assert!(desk.view_of(&over).is_none(), "its message said so before");
    assert!(restarted(&store).await.view_of(&stood).is_none(), "it is told once");
}
