#![allow(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::*;
use crate::approval::channel::Receipt;
use crate::approval::settings::ApprovalSettings;
use crate::approval::testing::{desk_with, held, person, request, settings, taken_in};
use crate::approval::{Answer, Forgetful};
use crate::hold::{Board, Outcome, Phase, Same, Standing, Ticket};

fn lenient(quorum: usize) -> ApprovalSettings {
    let mut settings = settings();
    let profile = Arc::make_mut(&mut settings.default);
    profile.again = Duration::from_secs(900);
    profile.break_glass = vec!["dev".to_owned()];
    profile.quorum = quorum;
    settings
}

fn same(moment: u64) -> Standing {
    Standing { same: Some(Same { statement: [7; 32], moment }), ..Standing::default() }
}

fn now() -> Timestamp {
    crate::clock::wall()
}

fn asked() -> HoldRequest {
    HoldRequest { standing: same(1), ..request("app", "DELETE FROM t") }
}

fn once_more(first: &HoldRequest) -> HoldRequest {
    HoldRequest { id: HoldId::generate().unwrap(), ..first.clone() }
}

fn again(minutes: u64) -> Answer {
    Answer { approve: true, again: Some(Duration::from_secs(minutes * 60)), ..Answer::default() }
}

async fn open(desk: &ApprovalDesk, board: &Board, request: HoldRequest) -> Ticket {
    let ticket = board.open(request).unwrap();
    taken_in(desk, &ticket).await;
    ticket
}

/// A request that was released with a standing approval of ten minutes.
async fn granted() -> (Arc<ApprovalDesk>, Board, HoldRequest) {
    let (desk, board) = desk_with(lenient(1), Arc::new(Forgetful));
    let request = asked();
    let ticket = open(&desk, &board, request.clone()).await;
    assert_eq!(desk.answer(&person(&desk, "ann"), ticket.id(), again(10), now()).await, Ok(Receipt::Decided));
    let mut changes = desk.changes();
    assert_eq!(ticket.finish(now()), Outcome::Released);
    while desk.view_of(&request.id).unwrap().ended.is_none() {
        changes.recv().await.unwrap();
    }
    (desk, board, request)
}

/// Whether a request is released without anybody being asked.
async fn passes(desk: &ApprovalDesk, board: &Board, request: HoldRequest) -> bool {
    let ticket = open(desk, board, request).await;
    match board.find(ticket.id()).map(|hold| hold.phase) {
        Some(Phase::Decided(Decision::Approve { under: Some(_), .. })) => {
            assert_eq!(ticket.finish(now()), Outcome::Released);
            true
        }
        Some(Phase::Pending) => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_same_statement_passes_again_and_every_use_names_the_request() {
    let (desk, board, first) = granted().await;
    for uses in 1..=3 {
        assert!(passes(&desk, &board, once_more(&first)).await);
        let view = desk.view_of(&first.id).unwrap();
        assert_eq!(view.again.unwrap().uses, uses);
    }
    assert_eq!(desk.grants(&person(&desk, "bob")).len(), 1);
}

#[tokio::test]
async fn anything_that_differs_is_asked_anew() {
    type Change = fn(&mut HoldRequest);
    let changes: [(&str, Change); 12] = [
        ("another search_path", |request| {
            let search_path = Some("evil".to_owned());
            request.setting = Some(crate::hold::Setting { search_path, ..Default::default() });
        }),
        ("a transaction, or none", |request| request.in_transaction = !request.in_transaction),
        ("another moment", |request| request.standing = same(2)),
        ("another statement by the session's word", |request| {
            request.standing.same = Some(Same { statement: [8; 32], moment: 1 });
        }),
        ("never the same", |request| request.standing = Standing::default()),
        ("another text", |request| request.statement.sha256 = "aa".repeat(32)),
        ("another session", |request| request.origin.session = SessionId(u64::MAX)),
        ("another user", |request| request.origin.user = "other".to_owned()),
        ("another database", |request| request.origin.database = "other".to_owned()),
        ("another rule", |request| request.rule = Arc::from("drops")),
        ("another policy", |request| request.policy_version = Arc::from("v2")),
        ("bytes that are no text", |request| request.statement.lossy = true),
    ];
    let (desk, board, first) = granted().await;
    for (what, change) in changes {
        let mut other = once_more(&first);
        change(&mut other);
        assert!(!passes(&desk, &board, other).await, "{what}");
    }
    assert!(passes(&desk, &board, once_more(&first)).await, "the same still passes");
}

#[tokio::test]
async fn it_ends_with_its_time_when_revoked_and_when_the_configuration_no_longer_permits_it() {
    let (desk, board, first) = granted().await;
    let place = desk.place(&first.id).unwrap();
    let later = now() + jiff::SignedDuration::from_secs(601);
    assert_eq!(desk.decide_again(&place, &once_more(&first), later), None);
    desk.reload(settings());
    assert!(!passes(&desk, &board, once_more(&first)).await);
    desk.reload(lenient(1));
    assert!(passes(&desk, &board, once_more(&first)).await);
    assert_eq!(desk.revoke(&person(&desk, "carol"), &first.id, now()).await, Ok(()));
    assert!(!passes(&desk, &board, once_more(&first)).await);
    assert_eq!(desk.revoke(&person(&desk, "carol"), &first.id, now()).await, Err(Denied::NothingToRevoke));
    assert!(desk.grants(&person(&desk, "bob")).is_empty());
}

#[tokio::test]
async fn an_outsider_revokes_nothing() {
    let (desk, board, first) = granted().await;
    desk.reload(ApprovalSettings {
        default: Arc::new(crate::approval::Profile {
            again: Duration::from_secs(900),
            ..(*settings().default).clone()
        }),
        ..settings()
    });
    let denied = desk.revoke(&person(&desk, "dev"), &HoldId("qg-0000000000".to_owned()), now()).await;
    assert_eq!(denied, Err(Denied::Refused(Refused::Unknown)));
    assert!(passes(&desk, &board, once_more(&first)).await);
}

#[tokio::test]
async fn it_is_given_only_as_far_as_permitted_and_never_in_an_emergency() {
    let (desk, board) = desk_with(lenient(1), Arc::new(Forgetful));
    let ticket = open(&desk, &board, asked()).await;
    let ann = person(&desk, "ann");
    let longest = Duration::from_secs(900);
    assert_eq!(desk.answer(&ann, ticket.id(), again(16), now()).await, Err(Denied::AgainTooLong { longest }));
    assert_eq!(desk.answer(&ann, ticket.id(), again(0), now()).await, Err(Denied::AgainTooLong { longest }));
    let no = Answer { approve: false, ..again(5) };
    assert_eq!(desk.answer(&ann, ticket.id(), no, now()).await, Err(Denied::OnlyOnce));
    let alone = Answer { break_glass: true, reason: Some("fire".to_owned()), ..again(5) };
    assert_eq!(desk.answer(&person(&desk, "dev"), ticket.id(), alone, now()).await, Err(Denied::OnlyOnce));
    // One that its session could not tell again.
    let ticket = open(&desk, &board, request("app", "EXECUTE a")).await;
    assert_eq!(desk.answer(&ann, ticket.id(), again(5), now()).await, Err(Denied::OnlyOnce));
    // By default nothing is.
    let (desk, board) = desk_with(settings(), Arc::new(Forgetful));
    let ticket = open(&desk, &board, asked()).await;
    assert_eq!(desk.answer(&ann, ticket.id(), again(5), now()).await, Err(Denied::OnlyOnce));
}

#[tokio::test]
async fn of_several_approvers_all_have_to_agree_and_the_shortest_time_counts() {
    for (one, other, expected) in [(Some(10), Some(5), Some(5)), (Some(10), None, None), (None, Some(5), None)] {
        let (desk, board) = desk_with(lenient(2), Arc::new(Forgetful));
        let ticket = open(&desk, &board, asked()).await;
        let answer = |minutes: Option<u64>| Answer { again: minutes.map(|m| Duration::from_secs(m * 60)), ..again(1) };
        let at = now();
        desk.answer(&person(&desk, "ann"), ticket.id(), answer(one), at).await.unwrap();
        desk.answer(&person(&desk, "bob"), ticket.id(), answer(other), at).await.unwrap();
        let until = desk.view_of(ticket.id()).unwrap().again.map(|again| again.until);
        assert_eq!(until, expected.map(|minutes: i64| at + jiff::SignedDuration::from_mins(minutes)));
    }
}

#[tokio::test]
async fn an_approval_whose_statement_never_ran_does_not_stand() {
    let (desk, board) = desk_with(lenient(1), Arc::new(Forgetful));
    let first = asked();
    let ticket = open(&desk, &board, first.clone()).await;
    desk.answer(&person(&desk, "ann"), ticket.id(), again(10), now()).await.unwrap();
    let mut changes = desk.changes();
    assert!(ticket.withdraw(crate::hold::Cause::CancelRequest, now()).is_some());
    while desk.view_of(&first.id).unwrap().is_standing() {
        changes.recv().await.unwrap();
    }
    assert!(!passes(&desk, &board, once_more(&first)).await);
    let _ = held(&desk, &board, "app").await;
}

#[tokio::test]
async fn only_whoever_may_decide_it_or_asked_ends_it_through_a_channel() {
    let (desk, _board, first) = granted().await;
    let revocation = |identity: &str| Revocation {
        id: first.id.clone(),
        channel: "slack".to_owned(),
        actor: Actor { identity: identity.to_owned(), ..Actor::default() },
        at: now(),
    };
    let denied = desk.end_standing(revocation("slack:T01/U0OUT")).await;
    assert_eq!(denied, Err(Denied::Ineligible(crate::approval::Ineligible::NotApprover)));
    assert!(desk.view_of(&first.id).unwrap().is_standing());
    assert_eq!(desk.end_standing(revocation("carol")).await, Ok(()));
    assert_eq!(desk.end_standing(revocation("carol")).await, Err(Denied::NothingToRevoke));
}
