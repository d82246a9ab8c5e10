use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::*;
use crate::approval::Denied;
use crate::approval::channel::Actor;
use crate::approval::channel::{Receipt, Submission};
use crate::approval::desk::Answer;
use crate::approval::desk::blocking::Seen;
use crate::approval::examiner::{Examiner, Examining, Looking};
use crate::approval::record::{Record, Recording};
use crate::approval::settings::ApprovalSettings;
use crate::approval::testing::{at, desk_of, opened, person, request, settings, taken_in};
use crate::hold::{Board, HoldSettings, Outcome, Same, Standing, Ticket};
use crate::impact::{Known, Own, Waiting, changes_beside};

/// Says what it was told to say, one thing after the other, the last for ever.
#[derive(Default)]
struct Script {
    says: Mutex<VecDeque<Says>>,
    /// Waited for before it says anything, if it is to wait.
    go: Option<Notify>,
    /// Somebody waits for every transaction.
    blocks: bool,
}

#[derive(Clone)]
enum Says {
    Fingerprint(&'static str),
    Panic,
}

impl Script {
    fn new(says: &[Says]) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(says.iter().cloned().collect()), ..Self::default() })
    }

    fn next(&self) -> Impact {
        let mut says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
        let next = if says.len() > 1 { says.pop_front() } else { says.front().cloned() };
        match next {
            Some(Says::Fingerprint(hash)) => {
                Impact { fingerprint: Known::Known(hash.to_owned()), trouble: None, ..Impact::unknown("") }
            }
            Some(Says::Panic) | None => panic!("the examiner fell over"),
        }
    }
}

impl Examiner for Script {
    fn examine<'a>(&'a self, _: &'a HoldRequest) -> Examining<'a> {
        Box::pin(async move {
            if let Some(go) = &self.go {
                go.notified().await;
            }
            self.next()
        })
    }

    fn blocked<'a>(&'a self, _: &'a str, pids: &'a [i32]) -> Looking<'a> {
        let waiting = Waiting { pid: 7, user: Some("bob".to_owned()), application: None, seconds: None };
        let blocked =
            if self.blocks { pids.iter().map(|pid| (*pid, vec![waiting.clone()])).collect() } else { BTreeMap::new() };
        Box::pin(std::future::ready(Ok(blocked)))
    }

    fn patience(&self) -> Option<Duration> {
        // The clerk does not look: the tests do.
        None
    }

    fn changes_beside(&self, shown: &Impact, now: &Impact, own: &Own) -> Vec<String> {
        changes_beside(shown, now, 0.0, own)
    }
}

/// Keeps what it is told, in order.
#[derive(Default)]
struct Notebook(Mutex<Vec<Event>>);

impl Record for Notebook {
    fn record(&self, events: Vec<Event>) -> Recording<'_> {
        self.0.lock().unwrap().extend(events);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Notebook {
    fn kinds(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(Event::kind).collect()
    }
}

struct Stage {
    desk: Arc<ApprovalDesk>,
    notebook: Arc<Notebook>,
    board: Board,
}

impl Stage {
    fn with(script: Arc<Script>, settings: ApprovalSettings) -> Self {
        let (board, notebook) = (Board::new(HoldSettings::default()), Arc::new(Notebook::default()));
        let desk = ApprovalDesk::new(board.clone(), settings, Arc::<Notebook>::clone(&notebook));
        Self { desk: desk_of(desk.with_examiner(script)), notebook, board }
    }

    fn new(says: &[Says]) -> Self {
        Self::with(Script::new(says), settings())
    }

    /// A held statement people are asked about.
    async fn asked(&self) -> Ticket {
        let ticket = opened(&self.board, "app");
        taken_in(&self.desk, &ticket).await;
        let place = self.desk.place(ticket.id()).unwrap();
        place.made_ready().await;
        ticket
    }

    async fn approve(&self, ticket: &Ticket, by: &str, round: Option<u32>) -> Result<Receipt, Denied> {
        let answer = Answer { approve: true, round, ..Answer::default() };
        self.desk.answer(&person(&self.desk, by), ticket.id(), answer, at(1)).await
    }
}

fn changed() -> Result<Receipt, Denied> {
    Err(Denied::Changed(vec!["definitions have changed".to_owned()]))
}

#[tokio::test]
async fn what_is_still_as_it_was_shown_is_released() {
    let stage = Stage::new(&[Says::Fingerprint("a")]);
    let ticket = stage.asked().await;
    assert_eq!(stage.approve(&ticket, "ann", Some(0)).await, Ok(Receipt::Decided));
    assert_eq!(stage.notebook.kinds(), ["held", "examined", "answered", "decided"]);
    assert_eq!(ticket.finish(at(2)), Outcome::Released);
}

#[tokio::test]
async fn what_has_changed_is_asked_anew_and_the_record_says_how() {
    let stage = Stage::new(&[Says::Fingerprint("a"), Says::Fingerprint("b")]);
    let ticket = stage.asked().await;
    assert_eq!(stage.approve(&ticket, "ann", None).await, changed());
    let view = stage.desk.view_of(ticket.id()).unwrap();
    assert_eq!((view.round, view.approved_by.len(), view.decision), (1, 0, None));
    assert_eq!(view.impact.unwrap().fingerprint, Known::Known("b".to_owned()), "people are shown how it is now");
    assert_eq!(stage.approve(&ticket, "ann", Some(0)).await, changed(), "they had not seen it yet");
    assert_eq!(stage.approve(&ticket, "ann", Some(1)).await, Ok(Receipt::Decided));
    assert_eq!(stage.notebook.kinds(), ["held", "examined", "examined", "answered", "answered", "answered", "decided"]);
}

#[tokio::test]
async fn a_change_voids_every_approval_given_before() {
    let mut settings = settings();
    Arc::make_mut(&mut settings.default).quorum = 2;
    let stage = Stage::with(Script::new(&[Says::Fingerprint("a"), Says::Fingerprint("b")]), settings);
    let ticket = stage.asked().await;
    assert_eq!(stage.approve(&ticket, "ann", None).await, Ok(Receipt::Counted { have: 1, need: 2 }));
    assert_eq!(stage.approve(&ticket, "bob", None).await, changed());
    assert_eq!(stage.approve(&ticket, "bob", None).await, Ok(Receipt::Counted { have: 1, need: 2 }));
    assert_eq!(stage.approve(&ticket, "ann", None).await, Ok(Receipt::Decided));
}

#[tokio::test]
async fn a_rejection_counts_whatever_has_changed() {
    let stage = Stage::new(&[Says::Fingerprint("a"), Says::Fingerprint("b")]);
    let ticket = stage.asked().await;
    assert_eq!(stage.approve(&ticket, "ann", None).await, changed());
    let no = Answer { round: Some(0), ..Answer::default() };
    assert_eq!(stage.desk.answer(&person(&stage.desk, "ann"), ticket.id(), no, at(1)).await, Ok(Receipt::Decided));
    assert_eq!(ticket.finish(at(2)), Outcome::Rejected);
}

#[tokio::test]
async fn an_examiner_that_falls_over_keeps_nobody_from_being_asked() {
    let stage = Stage::new(&[Says::Panic]);
    let ticket = stage.asked().await;
    let view = stage.desk.view_of(ticket.id()).unwrap();
    assert_eq!(view.impact.unwrap().trouble.as_deref(), Some("looking into it failed"));
    assert_eq!(
        stage.approve(&ticket, "ann", None).await,
        Ok(Receipt::Decided),
        "nothing was known before, so nothing has changed"
    );
}

#[tokio::test]
async fn what_was_known_and_cannot_be_had_any_more_is_asked_anew_once() {
    let stage = Stage::new(&[Says::Fingerprint("a"), Says::Panic]);
    let ticket = stage.asked().await;
    assert!(matches!(stage.approve(&ticket, "ann", None).await, Err(Denied::Changed(_))));
    assert_eq!(stage.approve(&ticket, "ann", None).await, Ok(Receipt::Decided), "they have seen that it is not known");
}

#[tokio::test]
async fn nobody_answers_what_is_still_looked_into() {
    let mut script = Script::new(&[Says::Fingerprint("a")]);
    Arc::get_mut(&mut script).unwrap().go = Some(Notify::new());
    let stage = Stage::with(Arc::<Script>::clone(&script), settings());
    let ticket = opened(&stage.board, "app");
    taken_in(&stage.desk, &ticket).await;
    assert_eq!(ticket.take_asked(), None, "the client is not told that people are asked");
    let submission = Submission {
        id: ticket.id().clone(),
        channel: "test".to_owned(),
        actor: Actor::person(&person(&stage.desk, "ann")),
        approve: true,
        break_glass: false,
        again: None,
        reason: None,
        statement_sha256: None,
        round: None,
        at: at(1),
    };
    let answer = stage.desk.take(submission);
    let go = script.go.as_ref().unwrap();
    let (answer, ()) = tokio::join!(answer, async {
        tokio::task::yield_now().await;
        assert_eq!(stage.notebook.kinds(), ["held"]);
        go.notify_one();
        // The second look, before the release.
        go.notify_one();
        while stage.board.find(ticket.id()).is_some_and(|hold| hold.phase == Phase::Pending) {
            go.notify_one();
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(answer, Ok(Receipt::Decided));
    assert_eq!(stage.notebook.kinds(), ["held", "examined", "answered", "decided"]);
}

#[tokio::test]
async fn a_hold_that_ends_while_it_is_looked_into_again_is_not_decided() {
    let mut script = Script::new(&[Says::Fingerprint("a")]);
    Arc::get_mut(&mut script).unwrap().go = Some(Notify::new());
    let stage = Stage::with(Arc::<Script>::clone(&script), settings());
    script.go.as_ref().unwrap().notify_one();
    let ticket = stage.asked().await;
    let id = ticket.id().clone();
    let (answer, outcome) = tokio::join!(stage.approve_by_id(&id), async {
        tokio::task::yield_now().await;
        ticket.withdraw(Cause::ClientGone, at(1))
    });
    assert!(matches!(answer, Err(Denied::Refused(_))), "{answer:?}");
    assert_eq!(outcome, None, "there was no decision to be carried out");
}

impl Stage {
    async fn approve_by_id(&self, id: &HoldId) -> Result<Receipt, Denied> {
        let answer = Answer { approve: true, ..Answer::default() };
        self.desk.answer(&person(&self.desk, "ann"), id, answer, at(1)).await
    }
}

#[tokio::test]
async fn only_a_transaction_that_keeps_others_waiting_for_long_enough_is_withdrawn() {
    let stage = Stage::new(&[Says::Fingerprint("a")]);
    let blocking = Script { blocks: true, ..Script::default() };
    let (mut seen, no_time, an_hour) = (Seen::default(), Duration::ZERO, Duration::from_secs(3_600));
    let open = |in_transaction| {
        let request = HoldRequest { in_transaction, ..request("app", "DELETE FROM t") };
        stage.board.open(request).unwrap()
    };
    let (inside, outside) = (open(true), open(false));
    stage.desk.look_at_locks(&Script::default(), no_time, &mut seen).await;
    assert_eq!(inside.failure(), None, "nobody waits");
    stage.desk.look_at_locks(&blocking, an_hour, &mut seen).await;
    assert_eq!(inside.failure(), None, "they have not waited for long");
    stage.desk.look_at_locks(&blocking, no_time, &mut seen).await;
    assert_eq!(
        (inside.failure(), outside.failure()),
        (Some(Cause::BlocksOthers), None),
        "without a transaction nothing is kept"
    );
}

#[tokio::test]
async fn a_standing_approval_is_used_while_it_is_as_shown_and_ends_when_nobody_can_tell() {
    let mut settings = settings();
    Arc::make_mut(&mut settings.default).again = Duration::from_secs(900);
    let says = ["a", "a", "a"].map(Says::Fingerprint).into_iter().chain([Says::Panic]).collect::<Vec<_>>();
    let stage = Stage::with(Script::new(&says), settings);
    let standing = Standing { same: Some(Same { statement: [7; 32], moment: 1 }), ..Standing::default() };
    let first = HoldRequest { standing, ..request("app", "DELETE FROM t") };
    let open = async || {
        let ticket = stage.board.open(HoldRequest { id: HoldId::generate().unwrap(), ..first.clone() }).unwrap();
        taken_in(&stage.desk, &ticket).await;
        stage.desk.place(ticket.id()).unwrap().made_ready().await;
        ticket
    };
    let given = open().await;
    let again = Answer { approve: true, again: Some(Duration::from_secs(600)), ..Answer::default() };
    let ann = person(&stage.desk, "ann");
    assert_eq!(stage.desk.answer(&ann, given.id(), again, at(0)).await, Ok(Receipt::Decided));
    let mut changes = stage.desk.changes();
    assert_eq!(given.finish(at(0)), Outcome::Released);
    while stage.desk.view_of(&first_of(&stage)).unwrap().ended.is_none() {
        changes.recv().await.unwrap();
    }
    let used = open().await;
    assert_eq!(used.finish(at(1)), Outcome::Released, "nothing has changed");
    let asked = open().await;
    let view = stage.desk.view_of(asked.id()).unwrap();
    assert_eq!(view.decision, None);
    assert!(view.changed.iter().any(|line| line.contains("cannot be told")), "{:?}", view.changed);
    assert!(asked.take_asked().is_some(), "the client is told that people are asked");
    let kinds = stage.notebook.kinds();
    let expected = [
        "held", "examined", "answered", "decided", "granted", "ended", "held", "decided", "ended", "held", "lapsed",
        "examined",
    ];
    assert_eq!(kinds, expected);
}

/// The first request on record.
fn first_of(stage: &Stage) -> HoldId {
    let events = stage.notebook.0.lock().unwrap();
    let Some(Event::Held { request }) = events.first() else { panic!("{events:?}") };
    request.id.clone()
}
