#![allow(clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;
use crate::approval::Answer;
use crate::approval::case::Ineligible;
use crate::approval::channel::Receipt;
use crate::approval::clerk::{Interrupted, Unreviewed, recover, recover_reviews};
use crate::approval::profile::Profile;
use crate::approval::settings::ApprovalSettings;
use crate::approval::testing::{at, desk_with, held, person, request, settings};
use crate::approval::{Forgetful, Record, Recording};
use crate::hold::{Decision, Ended, Outcome};

/// dev may release alone, bob too; reminders come as often as possible.
fn emergency() -> ApprovalSettings {
    let mut settings = settings();
    let profile: &mut Profile = Arc::make_mut(&mut settings.default);
    profile.break_glass = vec!["dev".to_owned(), "bob".to_owned()];
    profile.remind_every = std::time::Duration::from_secs(1);
    settings
}

fn alone() -> Answer {
    Answer { approve: true, break_glass: true, reason: Some("fire".to_owned()), ..Answer::default() }
}

async fn broken_by(name: &str, user: &str) -> (Arc<ApprovalDesk>, HoldId) {
    let (desk, board) = desk_with(emergency(), Arc::new(Forgetful));
    let ticket = held(&desk, &board, user).await;
    let id = ticket.id().clone();
    assert_eq!(desk.answer(&person(&desk, name), &id, alone(), at(1)).await, Ok(Receipt::Decided));
    let mut changes = desk.changes();
    assert_eq!(ticket.finish(at(2)), Outcome::Released);
    while desk.view_of(&id).unwrap().ended.is_none() {
        changes.recv().await.unwrap();
    }
    (desk, id)
}

#[tokio::test]
async fn an_emergency_release_waits_for_the_look_of_somebody_else() {
    let (desk, id) = broken_by("dev", "app").await;
    let view = desk.view_of(&id).unwrap();
    assert!(view.is_unreviewed());
    let review = view.review.unwrap();
    assert_eq!((review.broken_by.as_str(), review.why.as_deref()), ("dev", Some("fire")));
    let ann = person(&desk, "ann");
    assert_eq!(desk.reviews(&ann).len(), 1);
    assert_eq!(desk.review(&ann, &id, Some("it was\nfire".to_owned()), at(3)).await, Ok(()));
    let review = desk.view_of(&id).unwrap().review.unwrap();
    let acknowledged = review.acknowledged.unwrap();
    assert_eq!((acknowledged.by.as_str(), acknowledged.comment.as_deref()), ("ann", Some("it was fire")));
    assert!(desk.reviews(&ann).is_empty());
    let again = desk.review(&person(&desk, "carol"), &id, None, at(4)).await;
    assert_eq!(again, Err(Denied::AlreadyReviewed { by: "ann".to_owned() }));
}

#[tokio::test]
async fn neither_who_released_it_nor_who_asked_nor_an_outsider_reviews() {
    let (desk, id) = broken_by("bob", "ann_db").await;
    for (name, expected) in [
        ("bob", Denied::Ineligible(Ineligible::BrokeGlass)),
        ("ann", Denied::Ineligible(Ineligible::OwnRequest)),
        ("dev", Denied::Ineligible(Ineligible::NotApprover)),
    ] {
        assert_eq!(desk.review(&person(&desk, name), &id, None, at(3)).await, Err(expected), "{name}");
        assert!(desk.view_of(&id).unwrap().is_unreviewed());
        assert!(!desk.person_may_review(&person(&desk, name), &id));
    }
    assert_eq!(desk.review(&person(&desk, "carol"), &id, None, at(3)).await, Ok(()));
}

#[tokio::test]
async fn an_ordinary_approval_has_nothing_to_review() {
    let (desk, board) = desk_with(emergency(), Arc::new(Forgetful));
    let ticket = held(&desk, &board, "app").await;
    let yes = Answer { approve: true, ..Answer::default() };
    desk.answer(&person(&desk, "ann"), ticket.id(), yes, at(1)).await.unwrap();
    assert_eq!(desk.review(&person(&desk, "carol"), ticket.id(), None, at(2)).await, Err(Denied::NothingToReview));
}

#[tokio::test]
async fn people_are_reminded_of_an_open_review_and_not_of_a_closed_one() {
    let (desk, id) = broken_by("dev", "app").await;
    let place = desk.place(&id).unwrap();
    assert!(place.case().take_reminder(at(100)));
    assert!(!place.case().take_reminder(at(100)));
    assert!(place.case().take_reminder(at(102)));
    desk.review(&person(&desk, "ann"), &id, None, at(103)).await.unwrap();
    assert!(!place.case().take_reminder(at(200)));
}

#[tokio::test]
async fn an_open_review_is_not_forgotten_however_many_requests_end_after_it() {
    let (desk, id) = broken_by("dev", "app").await;
    let others: Vec<_> = (0..=crate::approval::desk::REMEMBERED).map(|_| HoldId::generate().unwrap()).collect();
    for other in &others {
        desk.retire(other);
    }
    assert!(desk.view_of(&id).is_some());
    desk.review(&person(&desk, "ann"), &id, None, at(3)).await.unwrap();
    for other in &others {
        desk.retire(other);
    }
    assert!(desk.view_of(&id).is_none());
}

struct Broken;

impl Record for Broken {
    fn record(&self, _events: Vec<Event>) -> Recording<'_> {
        Box::pin(std::future::ready(Err("the disk is full".to_owned())))
    }
}

fn left_behind(user: &str, by: &str) -> Unreviewed {
    let decision = Decision::Approve { by: by.to_owned(), reason: Some("fire".to_owned()), at: at(-60), under: None };
    let ended = Ended { outcome: Outcome::Released, decision: Some(decision.clone()), at: at(-59) };
    Unreviewed { request: request(user, "DROP TABLE t"), decision, ended, execution: None, references: Vec::new() }
}

#[tokio::test]
async fn an_open_review_survives_a_restart_with_who_may_not_close_it() {
    let (desk, _board) = desk_with(emergency(), Arc::new(Forgetful));
    let left = left_behind("ann_db", "bob");
    let id = left.request.id.clone();
    recover_reviews(&desk, vec![left], at(0));
    for name in ["bob", "ann", "dev"] {
        assert!(desk.review(&person(&desk, name), &id, None, at(1)).await.is_err(), "{name}");
    }
    assert_eq!(desk.review(&person(&desk, "carol"), &id, None, at(1)).await, Ok(()));
}

#[tokio::test]
async fn an_emergency_release_that_a_crash_cut_short_is_reviewed_too() {
    let (desk, _board) = desk_with(emergency(), Arc::new(Forgetful));
    let Unreviewed { request, decision, .. } = left_behind("app", "dev");
    let id = request.id.clone();
    let cut = Interrupted { request, decision: Some(decision), unreviewed: true, references: Vec::new() };
    recover(&desk, vec![cut], at(0)).await.unwrap();
    assert!(desk.view_of(&id).unwrap().is_unreviewed());
}

#[tokio::test]
async fn a_review_that_cannot_be_recorded_stays_open() {
    let (desk, _board) = desk_with(emergency(), Arc::new(Broken));
    let left = left_behind("app", "dev");
    let id = left.request.id.clone();
    recover_reviews(&desk, vec![left], at(0));
    let denied = desk.review(&person(&desk, "ann"), &id, None, at(1)).await;
    assert_eq!(denied, Err(Denied::NotRecorded("the disk is full".to_owned())));
    assert!(desk.view_of(&id).unwrap().is_unreviewed());
}

proptest! {
    /// Whoever tries in whatever order: one review, by an approver who neither released it nor asked for it.
    #[test]
    fn one_entitled_person_closes_a_review(
        tries in prop::collection::vec(prop::sample::select(vec!["ann", "bob", "carol", "dev"]), 0..10),
        breaker in prop::sample::select(vec!["bob", "dev"]),
        requester in prop::sample::select(vec!["ann_db", "dev_db", "stranger"]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let closed: Vec<&str> = runtime.block_on(async {
            let (desk, _board) = desk_with(emergency(), Arc::new(Forgetful));
            let left = left_behind(requester, breaker);
            let id = left.request.id.clone();
            recover_reviews(&desk, vec![left], at(0));
            let mut closed = Vec::new();
            for name in tries.clone() {
                if desk.review(&person(&desk, name), &id, None, at(1)).await.is_ok() {
                    closed.push(name);
                }
            }
            closed
        });
        let may = |name: &&str| *name != "dev" && *name != breaker && !(*name == "ann" && requester == "ann_db");
        let first = tries.iter().find(|name| may(name));
        prop_assert_eq!(closed, first.copied().into_iter().collect::<Vec<_>>());
    }
}
