//! Claims about the record.

#![allow(clippy::arithmetic_side_effects, clippy::string_slice)]

mod checkpoints;
mod failing;
mod recovery;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::hold::{Cause, Decision, Execution, HoldId, HoldRequest, Origin, Outcome, SessionId, StatementText};
use crate::judge::{Effect, EffectKind, ObjectName, Redact};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn id(name: &str) -> HoldId {
    HoldId(format!("qg-{name}"))
}

fn request(name: &str) -> HoldRequest {
    HoldRequest {
        id: id(name),
        origin: Origin {
            session: SessionId(7),
            user: "app".into(),
            database: "shop".into(),
            application_name: "psql".into(),
            certificate_name: None,
            client: "10.0.0.7:4242".into(),
            backend_pid: Some(99),
        },
        statement: StatementText {
            text: Arc::from("DELETE FROM orders WHERE customer = 'Zoë \u{1f600} \"x\"'\n"),
            lossy: false,
            sha256: "ab".repeat(32),
        },
        parameters: Vec::new(),
        effects: vec![Effect {
            kind: EffectKind::Delete,
            objects: vec![ObjectName { schema: None, name: "orders".into() }],
            has_where: Some(true),
            columns: Vec::new(),
            why: "it deletes rows".into(),
        }],
        risks: Vec::new(),
        rule: Arc::from("lost-rows"),
        why: "delete of orders".into(),
        also: Vec::new(),
        owners: Vec::new(),
        policy_version: Arc::from("p1"),
        in_transaction: false,
        redact: Redact::None,
        reason: Some("cleaning up".into()),
        opened_at: at(0),
        deadline: at(900),
        time_to_live: Duration::ZERO,
        standing: crate::hold::Standing::default(),
        guard: None,
        beforehand: None,
        undoes: None,
        message: None,
        advice: None,
        setting: None,
    }
}

fn held(name: &str) -> Event {
    Event::Held { request: Box::new(request(name)) }
}

fn answered(name: &str, by: &str, refused: Option<&str>) -> Event {
    Event::Answered(Answered {
        id: id(name),
        channel: "dba".into(),
        by: by.into(),
        approve: true,
        break_glass: false,
        reason: None,
        refused: refused.map(str::to_owned),
    })
}

fn announced(name: &str, reference: &str) -> Event {
    Event::Announced { id: id(name), channel: "dba".into(), reference: reference.into() }
}

fn decided(name: &str) -> Event {
    Event::Decided {
        id: id(name),
        decision: Decision::Approve { by: "ann".into(), reason: None, at: at(5), under: None },
    }
}

fn ended(name: &str, outcome: Outcome) -> Event {
    Event::Ended { id: id(name), outcome, at: at(6) }
}

fn reviewed(name: &str, by: &str, refused: Option<&str>) -> Event {
    let refused = refused.map(str::to_owned);
    Event::Reviewed { id: id(name), channel: "api".into(), by: by.into(), note: None, refused }
}

fn executed(name: &str) -> Event {
    let execution =
        Execution::Completed { tag: "DELETE 3".into(), rows: Some(3), duration_ms: 12, committed: true, kept: None };
    Event::Executed { id: id(name), execution }
}

/// A directory with a record in it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings {
            path: Some(self.path("store.db")),
            audit_file: Some(self.path("audit.jsonl")),
            ..StoreSettings::default()
        }
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.path("audit.jsonl")).unwrap()
    }

    fn open(&self) -> (Store, Recovered) {
        Store::open(&self.settings()).unwrap()
    }
}

#[tokio::test]
async fn a_recorded_event_is_a_line_of_the_file_and_its_hash_is_that_of_the_documented_bytes() {
    let place = Place::new();
    let (store, _) = place.open();
    let first = store.record(held("a")).await.unwrap();
    let second = store.record(decided("a")).await.unwrap();
    store.close().await;
    let audit = place.audit();
    let lines: Vec<&str> = audit.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(audit.ends_with('\n'));
    for (line, recorded, before) in [(lines[0], &first, chain::NOTHING_BEFORE), (lines[1], &second, &first.hash)] {
        let covered = &line[..line.len() - 75];
        assert_eq!(&line[line.len() - 75..], format!(",\"hash\":\"{}\"}}", recorded.hash));
        assert_eq!(recorded.hash, hex::encode(<sha2::Sha256 as sha2::Digest>::digest(covered)));
        assert!(covered.contains(&format!("\"prev\":\"{before}\"")), "{covered}");
        let parsed: StoredEvent = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((parsed.seq, parsed.at), (recorded.seq, recorded.at));
    }
    assert_eq!((first.seq, second.seq), (1, 2));
}

#[tokio::test]
async fn every_line_carries_the_policy_in_force_also_after_reopening() {
    let place = Place::new();
    let (store, _) = place.open();
    let started = Event::Started { version: "1".into(), policy_version: "p1".into() };
    store.record_all(vec![started, held("a"), Event::PolicyChanged { policy_version: "p2".into() }]).await.unwrap();
    store.close().await;
    let (store, _) = place.open();
    store.record(held("b")).await.unwrap();
    let versions: Vec<_> =
        store.events_after(0, 10).await.unwrap().into_iter().map(|event| event.policy_version).collect();
    assert_eq!(versions, ["p1", "p1", "p2", "p2"]);
}

#[tokio::test]
async fn a_request_is_what_its_events_add_up_to() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    store.record_all(vec![held("a"), announced("a", "C1/1"), announced("a", "C1/2")]).await.unwrap();
    store.record(answered("a", "dev", Some("not an approver"))).await.unwrap();
    let open = store.open_requests().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].request, request("a"));
    assert_eq!(open[0].announcements, [("dba".to_owned(), "C1/2".to_owned())]);
    assert_eq!(store.announcements(&id("a")).await.unwrap(), open[0].announcements);
    store.record_all(vec![answered("a", "ann", None), decided("a")]).await.unwrap();
    let open = store.open_requests().await.unwrap();
    assert_eq!(open[0].decision.as_ref().unwrap().by(), "ann");
    assert_eq!(open[0].answers.iter().map(|answer| answer.refused.is_none()).collect::<Vec<_>>(), [false, true]);
    let released = ended("a", Outcome::Released);
    store.record_all(vec![released, executed("a"), ended("a", Outcome::Expired)]).await.unwrap();
    assert!(store.open_requests().await.unwrap().is_empty());
    let found = store.find(&id("a")).await.unwrap().unwrap();
    let end = found.ended.unwrap();
    assert_eq!((end.outcome, end.at, end.decision), (Outcome::Released, at(6), found.decision));
    assert!(matches!(found.execution, Some(Execution::Completed { rows: Some(3), .. })));
    assert_eq!(store.history(&id("a")).await.unwrap().len(), 9);
    assert_eq!(store.find(&id("b")).await.unwrap(), None);
}

#[tokio::test]
async fn an_emergency_release_stays_open_for_review_until_somebody_has_looked() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let Event::Answered(alone) = answered("a", "ann", None) else { unreachable!() };
    let alone = Event::Answered(Answered { break_glass: true, ..alone });
    store.record_all(vec![held("a"), alone, decided("a"), ended("a", Outcome::Released)]).await.unwrap();
    store.record_all(vec![held("b"), answered("b", "ann", None), decided("b")]).await.unwrap();
    let Event::Answered(no) = answered("c", "ann", None) else { unreachable!() };
    let no = Event::Answered(Answered { break_glass: true, approve: false, ..no });
    store.record_all(vec![held("c"), no, decided("c")]).await.unwrap();
    let waiting = store.unreviewed().await.unwrap();
    assert_eq!(waiting.iter().map(|one| &one.request.id).collect::<Vec<_>>(), [&id("a")]);
    store.record(reviewed("a", "ann", Some("not your own"))).await.unwrap();
    assert_eq!(store.unreviewed().await.unwrap().len(), 1);
    store.record(reviewed("a", "bob", None)).await.unwrap();
    assert!(store.unreviewed().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_and_leaves_no_trace() {
    let place = Place::new();
    let (store, _) = place.open();
    store.record(held("a")).await.unwrap();
    let refused = store.record_all(vec![held("b"), held("a")]).await;
    assert_eq!(refused, Err(StoreError::Duplicate(id("a"))));
    assert_eq!(store.health(), Health::Good);
    assert_eq!(store.record(held("b")).await.unwrap().seq, 2);
    assert_eq!(place.audit().lines().count(), 2);
}

#[tokio::test]
async fn facts_about_requests_nobody_knows_go_on_record_and_change_nothing() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let odd = [announced("x", "r"), answered("x", "ann", None), decided("x"), ended("x", Outcome::Expired)];
    for event in odd {
        store.record(event).await.unwrap();
    }
    assert_eq!(store.history(&id("x")).await.unwrap().len(), 4);
    assert_eq!(store.find(&id("x")).await.unwrap(), None);
    assert!(store.recent(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn records_of_many_tasks_form_one_chain_and_each_is_told_its_own_place() {
    let place = Place::new();
    let (store, _) = place.open();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { (n, store.record(held(&n.to_string())).await.unwrap().seq) })
        })
        .collect();
    let mut places = Vec::new();
    for task in tasks {
        places.push(task.await.unwrap());
    }
    let events = store.events_after(0, 1_000).await.unwrap();
    assert_eq!(events.len(), 200);
    for (n, seq) in places {
        let event = events.iter().find(|event| event.seq == seq).unwrap();
        assert_eq!(event.event.request_id(), Some(&id(&n.to_string())));
    }
    store.close().await;
    assert_eq!(place.open().1.head.seq, 200);
}

#[tokio::test]
async fn a_consumer_finds_where_it_stopped_and_hears_of_what_comes() {
    let place = Place::new();
    let (store, _) = place.open();
    let mut heads = store.heads();
    store.record_all(vec![held("a"), decided("a")]).await.unwrap();
    heads.changed().await.unwrap();
    assert_eq!(heads.borrow().seq, 2);
    assert_eq!(store.cursor("hook").await.unwrap(), 0);
    store.advance("hook", 1).await.unwrap();
    store.close().await;
    let (store, _) = place.open();
    let cursor = store.cursor("hook").await.unwrap();
    let events = store.events_after(cursor, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_closed_store_refuses_and_says_so_in_its_health() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let other = store.clone();
    store.close().await;
    assert_eq!(other.record(Event::Stopped).await, Err(StoreError::Closed));
    assert!(matches!(other.health(), Health::Failing { .. }));
}

fn append(path: &Path, text: &str) {
    let mut all = std::fs::read_to_string(path).unwrap();
    all.push_str(text);
    std::fs::write(path, all).unwrap();
}
