//! A desk with a few people, for this room's tests.

#![allow(clippy::arithmetic_side_effects)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::hold::{Board, HoldId, HoldRequest, HoldSettings, Origin, Parameter, SessionId, StatementText, Ticket};
use crate::judge::{Effect, EffectKind, ObjectName};

use super::clerk;
use super::desk::ApprovalDesk;
use super::people::{People, Person, TokenDigest};
use super::profile::{Approvers, Profile, UnknownRequester};
use super::record::{Forgetful, Record};
use super::settings::ApprovalSettings;

/// The token of a test person.
pub(crate) fn token(name: &str) -> String {
    format!("{name}-token-0123456789abcdef")
}

/// ann and bob in group dba, carol by name; dev is no approver.
pub(crate) fn settings() -> ApprovalSettings {
    let person = |name: &str, groups: &[&str], users: &[&str]| Person {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        tokens: vec![TokenDigest::of(&token(name)).unwrap()],
        database_users: users.iter().map(|user| (*user).to_owned()).collect(),
        ..Person::default()
    };
    let people = vec![
        person("ann", &["dba"], &["ann_db"]),
        person("bob", &["other", "dba"], &[]),
        person("carol", &[], &[]),
        person("dev", &["developers"], &["dev_db"]),
    ];
    ApprovalSettings {
        people: People::new(people).unwrap(),
        default: Arc::new(Profile {
            approvers: Approvers { groups: vec!["dba".to_owned()], people: vec!["carol".to_owned()] },
            unknown_requester: UnknownRequester::Allow,
            ..Profile::default()
        }),
        ..ApprovalSettings::default()
    }
}

/// A desk with a clerk, on the runtime this is called on.
pub(crate) fn desk() -> (Arc<ApprovalDesk>, Board) {
    desk_with(settings(), Arc::new(Forgetful))
}

pub(crate) fn desk_with(settings: ApprovalSettings, record: Arc<dyn Record>) -> (Arc<ApprovalDesk>, Board) {
    let board = Board::new(HoldSettings::default());
    (desk_on(&board, settings, record), board)
}

/// A desk with a clerk that has taken in what waits on the board.
pub(crate) async fn settled_desk(board: &Board) -> Arc<ApprovalDesk> {
    let desk = desk_on(board, settings(), Arc::new(Forgetful));
    let mut changes = desk.changes();
    while board.list().iter().any(|hold| desk.view_of(&hold.request.id).is_none()) {
        let _ = changes.recv().await;
    }
    desk
}

pub(crate) fn desk_on(board: &Board, settings: ApprovalSettings, record: Arc<dyn Record>) -> Arc<ApprovalDesk> {
    desk_of(ApprovalDesk::new(board.clone(), settings, record))
}

/// The desk with a clerk.
pub(crate) fn desk_of(desk: ApprovalDesk) -> Arc<ApprovalDesk> {
    let desk = Arc::new(desk);
    let (never, stop) = tokio::sync::watch::channel(false);
    let clerk = clerk::run(Arc::clone(&desk), stop);
    tokio::spawn(async move {
        clerk.await;
        drop(never);
    });
    desk
}

/// A held DELETE that the desk has taken in.
pub(crate) async fn held(desk: &ApprovalDesk, board: &Board, user: &str) -> Ticket {
    let ticket = opened(board, user);
    taken_in(desk, &ticket).await;
    ticket
}

/// Waits until the desk has taken a hold in.
pub(crate) async fn taken_in(desk: &ApprovalDesk, ticket: &Ticket) {
    let mut changes = desk.changes();
    while desk.view_of(ticket.id()).is_none() {
        let _ = changes.recv().await;
    }
}

pub(crate) fn person(desk: &ApprovalDesk, name: &str) -> Person {
    desk.settings().people.named(name).unwrap().clone()
}

/// A moment, in seconds after now.
pub(crate) fn at(second: i64) -> Timestamp {
    crate::clock::wall() + jiff::SignedDuration::from_secs(second)
}

/// A held DELETE of a database user, due in 1000 seconds.
pub(crate) fn opened(board: &Board, user: &str) -> Ticket {
    board.open(request(user, "DELETE FROM customers WHERE id = $1")).unwrap()
}

pub(crate) fn request(user: &str, text: &str) -> HoldRequest {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    HoldRequest {
        id: HoldId::generate().unwrap(),
        origin: Origin {
            session: SessionId(NEXT.fetch_add(1, Ordering::Relaxed)),
            user: user.to_owned(),
            database: "shop".to_owned(),
            application_name: "psql".to_owned(),
            certificate_name: None,
            client: "127.0.0.1:5000".to_owned(),
            backend_pid: Some(42),
        },
        statement: StatementText { text: Arc::from(text), lossy: false, sha256: "0f".repeat(32) },
        parameters: vec![Parameter {
            position: 1,
            type_name: Some("integer".to_owned()),
            value: Some("42".to_owned()),
            raw: false,
        }],
        effects: vec![Effect {
            kind: EffectKind::Delete,
            objects: vec![ObjectName { schema: Some("public".to_owned()), name: "customers".to_owned() }],
            has_where: Some(true),
            columns: Vec::new(),
            why: "DELETE removes rows".to_owned(),
        }],
        risks: Vec::new(),
        rule: Arc::from("deletes"),
        why: "deletes rows of public.customers".to_owned(),
        also: Vec::new(),
        owners: Vec::new(),
        policy_version: Arc::from("v1"),
        in_transaction: true,
        redact: crate::judge::Redact::None,
        reason: Some("ticket 12".to_owned()),
        opened_at: at(0),
        deadline: at(1_000),
        time_to_live: Duration::from_secs(1_000),
        standing: crate::hold::Standing::default(),
        guard: None,
        beforehand: None,
        undoes: None,
        message: None,
        advice: None,
        setting: Some(crate::hold::Setting {
            search_path: Some("\"$user\", public".to_owned()),
            role: Some(user.to_owned()),
            reading: Vec::new(),
        }),
    }
}
