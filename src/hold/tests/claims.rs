//! One claim per test.

use std::task::{Context, Poll, Waker};

use super::super::{Board, Cause, Event, HoldId, HoldSettings, Outcome, OverLimit, Phase, Refused};
use super::{approve, at, reject, request};

fn board() -> Board {
    Board::new(HoldSettings {
        per_user: 2,
        total: 3,
        total_bytes: 100_000,
        history: 2,
        history_bytes: 1 << 20,
        event_backlog: 4,
    })
}

#[test]
fn an_approval_reaches_the_session_and_finishing_it_releases() {
    let board = board();
    let mut ticket = board.open(request("qg-a", 1, "app")).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(ticket.poll_decision(&mut context).is_pending());
    board.decide(&HoldId("qg-a".into()), approve("ann", 5)).unwrap();
    assert_eq!(ticket.poll_decision(&mut context), Poll::Ready(approve("ann", 5)));
    assert_eq!(ticket.finish(at(6)), Outcome::Released);
    assert!(board.is_clean());
}

#[test]
fn what_waits_is_limited_in_bytes_and_what_has_ended_no_longer_counts() {
    let board = board();
    let large = |id, session| {
        let mut request = request(id, session, "app");
        request.statement.text = "x".repeat(60_000).into();
        request
    };
    let first = board.open(large("qg-a", 1)).unwrap();
    assert_eq!(board.open(large("qg-b", 2)).err().unwrap(), OverLimit::Bytes { limit: 100_000 });
    let small = board.open(request("qg-c", 3, "app")).unwrap();
    drop(first);
    drop(board.open(large("qg-d", 4)).unwrap());
    drop(small);
    assert!(board.is_clean());
}

#[test]
fn the_second_decision_learns_who_was_first_during_and_after() {
    let board = board();
    let ticket = board.open(request("qg-a", 1, "app")).unwrap();
    let id = ticket.id().clone();
    board.decide(&id, reject("ann", 5)).unwrap();
    let second = board.decide(&id, approve("bob", 6)).unwrap_err();
    assert_eq!(second.to_string(), "already decided by ann");
    assert_eq!(ticket.finish(at(7)), Outcome::Rejected);
    let third = board.decide(&id, approve("bob", 8)).unwrap_err();
    assert_eq!(third.to_string(), "already decided by ann");
}

#[test]
fn a_decision_at_the_deadline_is_late_though_the_timer_has_not_fired() {
    let board = board();
    let mut ticket = board.open(request("qg-a", 1, "app")).unwrap();
    let id = ticket.id().clone();
    let late = board.decide(&id, approve("ann", 100)).unwrap_err();
    assert_eq!(late, Refused::Late { deadline: at(100) });
    assert_eq!(ticket.expire(at(101)), Ok(()));
    let after = board.decide(&id, approve("ann", 102)).unwrap_err();
    assert!(after.to_string().starts_with("expired at"), "{after}");
    assert!(board.is_clean());
}

#[test]
fn expiry_yields_to_a_decision_made_before_it() {
    let board = board();
    let mut ticket = board.open(request("qg-a", 1, "app")).unwrap();
    board.decide(ticket.id(), approve("ann", 99)).unwrap();
    assert_eq!(ticket.expire(at(100)), Err(approve("ann", 99)));
    assert_eq!(ticket.finish(at(100)), Outcome::Released);
}

#[test]
fn a_client_gone_after_the_approval_is_withdrawn_and_the_record_says_both() {
    let board = board();
    let ticket = board.open(request("qg-a", 1, "app")).unwrap();
    let id = ticket.id().clone();
    board.decide(&id, approve("ann", 5)).unwrap();
    assert_eq!(ticket.withdraw(Cause::ClientGone, at(6)), Some(approve("ann", 5)));
    let Phase::Ended(ended) = board.find(&id).unwrap().phase else {
        panic!("still live");
    };
    assert_eq!(ended.outcome, Outcome::Withdrawn { cause: Cause::ClientGone });
    assert_eq!(ended.decision, Some(approve("ann", 5)));
    assert!(board.is_clean());
}

#[test]
fn a_dropped_ticket_is_withdrawn() {
    let board = board();
    let ticket = board.open(request("qg-a", 1, "app")).unwrap();
    let id = ticket.id().clone();
    drop(ticket);
    let refused = board.decide(&id, approve("ann", 1)).unwrap_err();
    assert!(refused.to_string().contains("trouble inside the gate"), "{refused}");
    assert!(board.is_clean());
}

#[test]
fn finishing_without_a_decision_never_reads_as_released() {
    let board = board();
    let ticket = board.open(request("qg-a", 1, "app")).unwrap();
    assert_eq!(ticket.finish(at(1)), Outcome::Withdrawn { cause: Cause::Internal });
}

#[test]
fn limits_hold_per_session_user_and_in_total_and_ending_makes_room() {
    let board = board();
    let first = board.open(request("qg-1", 1, "app")).unwrap();
    assert_eq!(board.open(request("qg-2", 1, "app")).err(), Some(OverLimit::Session));
    let _second = board.open(request("qg-2", 2, "app")).unwrap();
    let of_user = OverLimit::User { user: "app".into(), limit: 2 };
    assert_eq!(board.open(request("qg-3", 3, "app")).err(), Some(of_user));
    let _third = board.open(request("qg-3", 3, "bob")).unwrap();
    assert_eq!(board.open(request("qg-4", 4, "eve")).err(), Some(OverLimit::Total { limit: 3 }));
    first.withdraw(Cause::ClientGone, at(1));
    assert!(board.open(request("qg-4", 1, "app")).is_ok());
}

#[test]
fn a_name_in_use_is_refused_and_costs_no_place() {
    let board = board();
    let first = board.open(request("qg-1", 1, "app")).unwrap();
    assert_eq!(board.open(request("qg-1", 2, "app")).err(), Some(OverLimit::Id));
    drop(first);
    assert!(board.is_clean());
}

#[test]
fn history_keeps_the_newest_within_its_bounds() {
    let board = board();
    for n in 1..=3 {
        drop(board.open(request(&format!("qg-{n}"), n, "app")).unwrap());
    }
    let names: Vec<_> = board.recent(10).iter().map(|hold| hold.request.id.0.clone()).collect();
    assert_eq!(names, ["qg-3", "qg-2"]);
    assert_eq!(board.decide(&HoldId("qg-1".into()), approve("ann", 1)), Err(Refused::Unknown));

    let small = Board::new(HoldSettings { history_bytes: 10, ..HoldSettings::default() });
    drop(small.open(request("qg-1", 1, "app")).unwrap());
    assert!(small.recent(10).is_empty());
}

#[tokio::test]
async fn events_come_in_order_and_a_slow_listener_is_told_to_list_again() {
    let board = board();
    let mut events = board.subscribe();
    let ticket = board.open(request("qg-a", 1, "app")).unwrap();
    board.decide(ticket.id(), approve("ann", 1)).unwrap();
    ticket.finish(at(2));
    let kinds = [
        events.next().await.unwrap().unwrap(),
        events.next().await.unwrap().unwrap(),
        events.next().await.unwrap().unwrap(),
    ];
    assert!(matches!(kinds, [Event::Opened(_), Event::Decided(..), Event::Ended(..)]));

    let waiting = board.open(request("qg-b", 1, "app")).unwrap();
    for n in 0..8 {
        drop(board.open(request(&format!("qg-{n}"), 2, "app")).unwrap());
    }
    assert!(events.next().await.unwrap().is_err());
    assert_eq!(board.list()[0].request.id, *waiting.id());
}

#[test]
fn ids_are_readable_and_what_people_type_is_understood() {
    let id = HoldId::generate().unwrap();
    assert_eq!(id.0.len(), 13);
    assert_ne!(id, HoldId::generate().unwrap());
    assert_eq!(HoldId::parse(&id.0.to_uppercase()), id);
    assert_eq!(HoldId::parse(" QG-o1Lz "), HoldId("qg-011z".into()));
    assert_eq!(HoldId::parse("abc"), HoldId("qg-abc".into()));
}
