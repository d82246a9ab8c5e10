#![allow(clippy::indexing_slicing)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::approval::Ineligible;
use crate::approval::profile::{Approvers, Escalation, Profile, UnknownRequester};
use crate::approval::record::{Forgetful, Record, Recording};
use crate::approval::testing::{at, desk, desk_on, desk_with, held, opened, person, settings};
use crate::hold::{Board, Cause, Ended, Execution, HoldSettings, Outcome};

fn yes() -> Answer {
    Answer { approve: true, ..Answer::default() }
}

#[tokio::test]
async fn members_of_an_approver_group_and_named_approvers_decide_and_nobody_else() {
    for (name, expected) in [("ann", Ok(())), ("carol", Ok(())), ("dev", Err(Ineligible::NotApprover.into()))] {
        let (desk, board) = desk();
        let ticket = held(&desk, &board, "app").await;
        assert_eq!(desk.person_may_decide(&person(&desk, name), ticket.request()), expected);
    }
}

#[tokio::test]
async fn a_requester_never_decides_their_own_request_even_as_approver() {
    let (desk, board) = desk();
    let ticket = held(&desk, &board, "ann_db").await;
    let denied = desk.answer(&person(&desk, "ann"), ticket.id(), yes(), at(1)).await;
    assert_eq!(denied, Err(Denied::Ineligible(Ineligible::OwnRequest)));
    assert_eq!(board.find(ticket.id()).map(|hold| hold.phase), Some(Phase::Pending));
    assert_eq!(desk.answer(&person(&desk, "bob"), ticket.id(), yes(), at(1)).await, Ok(Receipt::Decided));
    assert_eq!(ticket.finish(at(2)), Outcome::Released);
}

fn with_profile(change: impl FnOnce(&mut Profile)) -> ApprovalSettings {
    let mut settings = settings();
    change(Arc::make_mut(&mut settings.default));
    settings
}

#[tokio::test]
async fn by_default_an_unknown_requester_needs_two_people() {
    let settings = with_profile(|profile| profile.unknown_requester = UnknownRequester::default());
    let (desk, board) = desk_with(settings, Arc::new(Forgetful));
    let ticket = held(&desk, &board, "stranger").await;
    let ann = person(&desk, "ann");
    assert_eq!(desk.answer(&ann, ticket.id(), yes(), at(1)).await, Ok(Receipt::Counted { have: 1, need: 2 }));
    let again = desk.answer(&ann, ticket.id(), yes(), at(2)).await;
    assert_eq!(again, Err(Denied::AlreadyApproved { have: 1, need: 2 }));
    assert_eq!(board.find(ticket.id()).map(|hold| hold.phase), Some(Phase::Pending));
    assert_eq!(desk.answer(&person(&desk, "bob"), ticket.id(), yes(), at(3)).await, Ok(Receipt::Decided));
    let Some(Phase::Decided(decision)) = board.find(ticket.id()).map(|hold| hold.phase) else { panic!("not decided") };
    assert_eq!(decision.by(), "ann, bob");
    // A known requester needs one.
    let ticket = held(&desk, &board, "dev_db").await;
    assert_eq!(desk.answer(&ann, ticket.id(), yes(), at(1)).await, Ok(Receipt::Decided));
}

#[tokio::test]
async fn an_unknown_requester_can_be_refused() {
    let settings = with_profile(|profile| profile.unknown_requester = UnknownRequester::Refuse);
    let (desk, board) = desk_with(settings, Arc::new(Forgetful));
    let ticket = held(&desk, &board, "stranger").await;
    let denied = desk.answer(&person(&desk, "ann"), ticket.id(), yes(), at(1)).await;
    assert_eq!(denied, Err(Denied::Ineligible(Ineligible::UnknownRequester)));
}

#[tokio::test]
async fn one_rejection_is_final_whatever_the_quorum() {
    let settings = with_profile(|profile| profile.quorum = 3);
    let (desk, board) = desk_with(settings, Arc::new(Forgetful));
    let ticket = held(&desk, &board, "app").await;
    assert!(desk.answer(&person(&desk, "ann"), ticket.id(), yes(), at(1)).await.is_ok());
    assert_eq!(desk.answer(&person(&desk, "bob"), ticket.id(), Answer::default(), at(2)).await, Ok(Receipt::Decided));
    let late = desk.answer(&person(&desk, "carol"), ticket.id(), yes(), at(3)).await;
    assert!(matches!(late, Err(Denied::Refused(Refused::Decided(_)))), "{late:?}");
    assert_eq!(ticket.finish(at(4)), Outcome::Rejected);
}

#[tokio::test]
async fn in_an_emergency_named_people_release_alone_with_a_reason() {
    let settings = with_profile(|profile| {
        profile.quorum = 2;
        profile.break_glass = vec!["dev".to_owned()];
    });
    let (desk, board) = desk_with(settings, Arc::new(Forgetful));
    let ticket = held(&desk, &board, "dev_db").await;
    let alone = |reason: Option<&str>| Answer {
        approve: true,
        break_glass: true,
        reason: reason.map(str::to_owned),
        ..Answer::default()
    };
    let dev = person(&desk, "dev");
    assert_eq!(desk.answer(&dev, ticket.id(), alone(None), at(1)).await, Err(Denied::ReasonNeeded));
    let denied = desk.answer(&person(&desk, "ann"), ticket.id(), alone(Some("fire")), at(1)).await;
    assert_eq!(denied, Err(Denied::Ineligible(Ineligible::NotBreakGlass)));
    assert_eq!(desk.answer(&dev, ticket.id(), alone(Some("fire")), at(1)).await, Ok(Receipt::Decided));
    assert!(desk.view_of(ticket.id()).unwrap().break_glass);
    assert_eq!(ticket.finish(at(2)), Outcome::Released);
}

#[tokio::test]
async fn an_escalation_lets_others_decide_and_not_before() {
    let after = |after| {
        with_profile(|profile| {
            profile.escalation = vec![Escalation {
                after,
                approvers: Approvers { groups: vec!["developers".to_owned()], people: Vec::new() },
                channels: Vec::new(),
            }];
        })
    };
    let (desk, board) = desk_with(after(Duration::from_secs(600)), Arc::new(Forgetful));
    let ticket = held(&desk, &board, "app").await;
    let denied = desk.answer(&person(&desk, "dev"), ticket.id(), yes(), at(1)).await;
    assert_eq!(denied, Err(Denied::Ineligible(Ineligible::NotApprover)));
    let (desk, board) = desk_with(after(Duration::ZERO), Arc::new(Forgetful));
    let mut changes = desk.changes();
    let ticket = held(&desk, &board, "app").await;
    let dev = person(&desk, "dev");
    while desk.view_of(ticket.id()).unwrap().escalated == 0 {
        changes.recv().await.unwrap();
    }
    assert_eq!(desk.view_of(ticket.id()).unwrap().escalated_to, "group developers");
    assert_eq!(desk.answer(&dev, ticket.id(), yes(), at(1)).await, Ok(Receipt::Decided));
}

#[tokio::test]
async fn an_answer_about_another_statement_does_not_count() {
    let (desk, board) = desk();
    let ticket = held(&desk, &board, "app").await;
    let mut answer = yes();
    answer.statement_sha256 = Some("11".repeat(32));
    let ann = person(&desk, "ann");
    assert_eq!(desk.answer(&ann, ticket.id(), answer.clone(), at(1)).await, Err(Denied::OtherStatement));
    answer.statement_sha256 = Some(ticket.request().statement.sha256.to_uppercase());
    assert!(desk.answer(&ann, ticket.id(), answer, at(1)).await.is_ok());
}

#[tokio::test]
async fn outsiders_see_their_own_requests_and_hear_nothing_of_others() {
    let (desk, board) = desk();
    let own = held(&desk, &board, "dev_db").await;
    let other = held(&desk, &board, "app").await;
    let dev = person(&desk, "dev");
    let seen: Vec<_> = desk.list(&dev).into_iter().map(|hold| hold.request.id.clone()).collect();
    assert_eq!(seen, [own.id().clone()]);
    assert_eq!(desk.answer(&dev, other.id(), yes(), at(1)).await, Err(Denied::Refused(Refused::Unknown)));
    let denied = desk.answer(&dev, own.id(), yes(), at(1)).await;
    assert_eq!(denied, Err(Denied::Ineligible(Ineligible::NotApprover)));
    drop(other);
    assert!(desk.recent(&dev, 10).is_empty());
}

/// Keeps what it is told, and fails while told to.
#[derive(Default)]
struct Notebook {
    events: Mutex<Vec<Event>>,
    broken: AtomicBool,
}

impl Record for Notebook {
    fn record(&self, events: Vec<Event>) -> Recording<'_> {
        let result = if self.broken.load(Ordering::SeqCst) {
            Err("the disk is full".to_owned())
        } else {
            self.events.lock().unwrap().extend(events);
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_asked_and_its_client_is_told() {
    let notebook = Arc::new(Notebook::default());
    notebook.broken.store(true, Ordering::SeqCst);
    let (desk, board) = desk_with(settings(), Arc::<Notebook>::clone(&notebook));
    let mut events = board.subscribe();
    let mut ticket = opened(&board, "app");
    loop {
        if let hold_event @ crate::hold::Event::Ended(..) = events.next().await.unwrap().unwrap() {
            let crate::hold::Event::Ended(_, Ended { outcome, .. }) = hold_event else { unreachable!() };
            assert_eq!(outcome, Outcome::Withdrawn { cause: Cause::NotRecorded });
            break;
        }
    }
    assert_eq!(ticket.failure(), Some(Cause::NotRecorded));
    assert!(desk.list(&person(&desk, "ann")).is_empty());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(ticket.poll_decision(&mut context).is_pending());
}

#[tokio::test]
async fn an_answer_that_cannot_be_recorded_changes_nothing() {
    let notebook = Arc::new(Notebook::default());
    let (desk, board) = desk_with(settings(), Arc::<Notebook>::clone(&notebook));
    let ticket = held(&desk, &board, "app").await;
    notebook.broken.store(true, Ordering::SeqCst);
    let ann = person(&desk, "ann");
    let denied = desk.answer(&ann, ticket.id(), yes(), at(1)).await;
    assert!(matches!(denied, Err(Denied::NotRecorded(_))), "{denied:?}");
    assert_eq!(board.find(ticket.id()).map(|hold| hold.phase), Some(Phase::Pending));
    notebook.broken.store(false, Ordering::SeqCst);
    assert_eq!(desk.answer(&ann, ticket.id(), yes(), at(2)).await, Ok(Receipt::Decided));
    assert_eq!(ticket.finish(at(3)), Outcome::Released);
}

#[tokio::test]
async fn every_answer_is_on_record_and_a_decision_before_the_session_learns_of_it() {
    let notebook = Arc::new(Notebook::default());
    let (desk, board) = desk_with(settings(), Arc::<Notebook>::clone(&notebook));
    let mut ticket = held(&desk, &board, "app").await;
    let _ = desk.answer(&person(&desk, "dev"), ticket.id(), yes(), at(1)).await;
    desk.answer(&person(&desk, "ann"), ticket.id(), yes(), at(2)).await.unwrap();
    ticket.decision().await;
    let events = notebook.events.lock().unwrap();
    let [Event::Held { .. }, Event::Answered(dev), Event::Answered(ann), Event::Decided { decision, .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((dev.by.as_str(), dev.refused.as_deref()), ("dev", Some("no such request")));
    assert_eq!((ann.by.as_str(), ann.refused.as_deref()), ("ann", None));
    assert_eq!(decision.by(), "ann");
}

#[test]
fn a_reason_is_one_line_of_visible_text_within_its_limit() {
    let tidy = |text: &str| tidy_reason(Some(text.to_owned()));
    assert_eq!(tidy(" wrong\n table\u{1b}[2J\u{202e} "), Ok(Some("wrong table [2J".to_owned())));
    assert_eq!(tidy(" \t "), Ok(None));
    assert_eq!(tidy(&"x".repeat(MAX_REASON_CHARS + 1)), Err(Denied::ReasonTooLong));
}

#[tokio::test]
async fn however_far_the_desk_falls_behind_what_the_database_said_is_put_on_record_once() {
    let board = Board::new(HoldSettings { event_backlog: 1, per_user: 100, ..HoldSettings::default() });
    let record = Arc::new(Notebook::default());
    let desk = desk_on(&board, settings(), Arc::clone(&record) as Arc<dyn Record>);
    let mut changes = desk.changes();
    let mut released = Vec::new();
    for _ in 0..3 {
        let ticket = held(&desk, &board, "dev_db").await;
        assert_eq!(desk.answer(&person(&desk, "ann"), ticket.id(), yes(), at(1)).await, Ok(Receipt::Decided));
        released.push(ticket);
    }
    // The clerk cannot run before the next await, by when its backlog has overflowed many times.
    let ids: Vec<_> = released.iter().map(|ticket| ticket.id().clone()).collect();
    for ticket in released {
        let request = Arc::clone(ticket.request());
        assert_eq!(ticket.finish(at(2)), Outcome::Released);
        board.executed(request, Execution::Unknown);
        drop(opened(&board, "app"));
    }
    while ids.iter().any(|id| desk.view_of(id).is_none_or(|view| view.execution.is_none())) {
        let _ = changes.recv().await;
    }
    let events = record.events.lock().unwrap();
    for id in &ids {
        let of =
            |kind: &str| events.iter().filter(|event| event.kind() == kind && event.request_id() == Some(id)).count();
        assert_eq!((of("ended"), of("executed")), (1, 1));
    }
    assert!(board.results().is_empty());
}
