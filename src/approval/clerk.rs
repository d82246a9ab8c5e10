//! Keeps the desk going: puts new holds on record before anybody is told, notes how they end, reminds and escalates. Knows no
//! particular channel.
//!
//! Start at [`run`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::case::Case;
use super::desk::beforehand::stands_alone;
use super::desk::{ApprovalDesk, Change};
use crate::clock;
use crate::hold::{self, Cause, Decision, Ended, Execution, HoldId, HoldRequest, Outcome, Phase};
use crate::store::{Event, Store, StoreError, StoredEvent};

/// How often deadlines of reminders and escalations are looked at.
const TICK: Duration = Duration::from_secs(1);

/// A request that waited when the process ended.
#[derive(Debug, Clone)]
pub struct Interrupted {
    /// The request.
    pub request: HoldRequest,
    /// The decision that had been recorded, if any: it may have been carried out or not.
    pub decision: Option<Decision>,
    /// One person made the decision alone, and nobody else has looked at it yet.
    pub unreviewed: bool,
    /// Where channels announced it: channel and reference.
    pub references: Vec<(String, String)>,
}

/// An emergency release of an earlier process that nobody else has looked at.
#[derive(Debug, Clone)]
pub struct Unreviewed {
    /// The request.
    pub request: HoldRequest,
    /// The decision of the one person.
    pub decision: Decision,
    /// How it ended.
    pub ended: Ended,
    /// What the database said, if it did.
    pub execution: Option<Execution>,
    /// Where channels announced it: channel and reference.
    pub references: Vec<(String, String)>,
}

/// Puts emergency releases whose review is still open on the desk again.
pub fn recover_reviews(desk: &ApprovalDesk, unreviewed: Vec<Unreviewed>, now: Timestamp) {
    let settings = desk.settings();
    for Unreviewed { request, decision, ended, execution, references } in unreviewed {
        let profile = settings.profile_of(&request);
        let mut case = Case::new(&Arc::new(request), profile, &settings.people);
        case.was_broken(&decision, now);
        case.end(&ended, outcome_in_words(&ended));
        if let Some(execution) = execution {
            case.executed(&execution, ended.at);
        }
        desk.put(case, references.into_iter().collect());
    }
}

/// Notes that requests of an earlier process are over: their clients' connections ended with it. Nothing is released.
///
/// # Errors
/// They could not be put on record.
pub async fn recover(desk: &ApprovalDesk, interrupted: Vec<Interrupted>, now: Timestamp) -> Result<(), String> {
    let settings = desk.settings();
    for Interrupted { request, decision, unreviewed, references } in interrupted {
        let outcome = Outcome::Withdrawn { cause: Cause::Restart };
        let event = Event::Ended { id: request.id.clone(), outcome: outcome.clone(), at: now };
        desk.record.record(vec![event]).await?;
        let profile = settings.profile_of(&request);
        let mut case = Case::new(&Arc::new(request), profile, &settings.people);
        let what = match &decision {
            Some(Decision::Approve { .. }) => "the gate ended after the approval; it may have run or not",
            Some(Decision::Reject { .. }) | None => "withdrawn: the gate ended while it was held; nothing was run",
        };
        if matches!(decision, Some(Decision::Approve { .. })) {
            case.view.execution = Some(Execution::Unknown);
        }
        if let Some(alone) = decision.as_ref().filter(|_| unreviewed) {
            case.was_broken(alone, now);
        }
        case.end(&Ended { outcome, decision, at: now }, what.to_owned());
        let id = case.view.request.id.clone();
        desk.put(case, references.into_iter().collect());
        desk.retire(&id);
    }
    Ok(())
}

/// Takes over what was approved beforehand in an earlier process and still holds, without what has passed.
///
/// # Errors
/// The record cannot be read.
pub async fn recover_beforehand(desk: &ApprovalDesk, store: &Store, now: Timestamp) -> Result<(), String> {
    let said = |error: StoreError| error.to_string();
    for stored in store.beforehand(now).await.map_err(said)? {
        let id = &stored.request.id;
        let history = store.history(id).await.map_err(said)?;
        if history.iter().any(|event| matches!(event.event, Event::Revoked { .. } | Event::Lapsed { .. })) {
            continue;
        }
        let Some((request, decision, ended)) = on_record(&history).filter(|(request, ..)| *request == stored.request)
        else {
            tracing::error!(request = %id, "a pre-approval in the store is not the one on record, so it is over");
            continue;
        };
        let request = Arc::new(request);
        let settings = desk.settings();
        let mut case = Case::new(&request, settings.profile_of(&request), &settings.people);
        let used = case.restore_window(&history);
        case.restore_examination(&history);
        case.end(&ended, format!("approved beforehand; {} statements have passed", used.len()));
        desk.put(case, stored.announcements.into_iter().collect());
        let evident = evident(store, &history).await?;
        desk.begin_beforehand(&request, &decision, used, evident).await;
    }
    Ok(())
}

/// What the chained record says was asked, approved and released. Fail closed: the table of requests beside it is there for reading, and no chain
/// tells whether it was changed.
fn on_record(history: &[StoredEvent]) -> Option<(HoldRequest, Decision, Ended)> {
    let request = history.iter().find_map(|event| {
        let Event::Held { request } = &event.event else { return None };
        Some((**request).clone())
    })?;
    let decision = history.iter().find_map(|event| {
        let Event::Decided { decision: decision @ Decision::Approve { .. }, .. } = &event.event else { return None };
        Some(decision.clone())
    })?;
    let ended = history.iter().find_map(|event| {
        let Event::Ended { outcome: Outcome::Released, at, .. } = &event.event else { return None };
        Some(Ended { outcome: Outcome::Released, decision: Some(decision.clone()), at: *at })
    })?;
    Some((request, decision, ended))
}

/// Which statements of a pre-approval have surely taken effect, by what is on record of its uses.
async fn evident(store: &Store, history: &[StoredEvent]) -> Result<BTreeSet<usize>, String> {
    let mut evident = BTreeSet::new();
    for event in history {
        let Event::Used { request, statements, .. } = &event.event else { continue };
        let of_use = store.history(request).await.map_err(|error| error.to_string())?;
        let alone = |event: &StoredEvent| matches!(&event.event, Event::Held { request } if stands_alone(request));
        let done = |event: &StoredEvent| {
            matches!(&event.event, Event::Executed { execution: Execution::Completed { committed: true, .. }, .. })
        };
        if of_use.iter().any(alone) && of_use.iter().any(done) {
            evident.extend(statements.iter().copied());
        }
    }
    Ok(evident)
}

/// What the clerk does next.
enum Next {
    Event(Option<Result<hold::Event, hold::Lagged>>),
    Tick,
    Stop,
}

/// Works until `stop` says true.
pub async fn run(desk: Arc<ApprovalDesk>, mut stop: watch::Receiver<bool>) {
    let mut events = desk.board.subscribe();
    // Holds that were opened before there was a clerk.
    catch_up(&desk).await;
    let locks = tokio::spawn(Arc::clone(&desk).watch_locks());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let next = tokio::select! {
            biased;
            event = events.next() => Next::Event(event),
            _ = tick.tick() => Next::Tick,
            // An error means that the sender is gone, which is a stop too.
            _ = stop.wait_for(|stop| *stop) => Next::Stop,
        };
        match next {
            Next::Event(Some(Ok(event))) => take(&desk, event).await,
            Next::Event(Some(Err(lagged))) => {
                tracing::warn!(missed = lagged.missed, "the desk fell behind and looks at everything again");
                catch_up(&desk).await;
            }
            Next::Tick => look_at_clocks(&desk, clock::wall()).await,
            Next::Event(None) | Next::Stop => break,
        }
    }
    locks.abort();
    // What ended with the sessions is still put on record.
    while let Ok(Some(Ok(event))) = timeout(Duration::ZERO, events.next()).await {
        take(&desk, event).await;
    }
}

async fn take(desk: &Arc<ApprovalDesk>, event: hold::Event) {
    match event {
        hold::Event::Opened(request) => opened(desk, request).await,
        // The desk itself decided it.
        hold::Event::Decided(..) => {}
        hold::Event::Ended(request, ended) => over(desk, &request, &ended).await,
        hold::Event::Executed(request, _) => result(desk, &request.id).await,
    }
}

/// Events were missed: the board says how things are.
async fn catch_up(desk: &Arc<ApprovalDesk>) {
    for hold in desk.board.list() {
        if desk.place(&hold.request.id).is_none() {
            opened(desk, hold.request).await;
        }
    }
    for place in desk.places() {
        let (request, is_over) = {
            let case = place.case();
            (Arc::clone(&case.view.request), case.view.ended.is_some())
        };
        if !is_over && let Some(Phase::Ended(ended)) = desk.board.find(&request.id).map(|hold| hold.phase) {
            over(desk, &request, &ended).await;
        }
    }
    // Their events may be among those missed; the result of what is not over yet follows its end.
    for id in desk.board.results() {
        if desk.place(&id).is_none_or(|place| place.case().view.ended.is_some()) {
            result(desk, &id).await;
        }
    }
}

async fn result(desk: &ApprovalDesk, id: &HoldId) {
    // Once: taken already if events were missed meanwhile.
    if let Some((request, execution)) = desk.board.take_result(id) {
        executed(desk, &request, &execution).await;
    }
}

async fn opened(desk: &Arc<ApprovalDesk>, request: Arc<HoldRequest>) {
    if desk.place(&request.id).is_some() {
        return;
    }
    // Where somebody can look into it, that comes first, and may take a while.
    if !desk.examines() && desk.use_earlier(&request).await {
        return;
    }
    if let Err(why) = record(desk, Event::Held { request: Box::new((*request).clone()) }).await {
        // Fail closed: what is not on record is not asked.
        tracing::error!(request = %request.id, "cannot record a held statement, so it is refused: {why}");
        let _ = desk.board.fail(&request.id, Cause::NotRecorded, clock::wall());
        return;
    }
    let settings = desk.settings();
    let profile = settings.profile_of(&request);
    let case = Case::new(&request, profile, &settings.people);
    if desk.examines() {
        desk.put(case.begin_examination(), HashMap::new());
        // Other requests do not wait for it.
        tokio::spawn(Arc::clone(desk).examine(request));
    } else {
        desk.put(case, HashMap::new());
        desk.board.ask(&request.id, String::new());
    }
}

async fn over(desk: &ApprovalDesk, request: &HoldRequest, ended: &Ended) {
    let Some(place) = desk.place(&request.id) else {
        // It was never on record: nobody was asked.
        return;
    };
    // An answer that is being taken comes first.
    let _turn = place.turn().await;
    if place.case().view.ended.is_some() {
        return;
    }
    let event = Event::Ended { id: request.id.clone(), outcome: ended.outcome.clone(), at: ended.at };
    if let Err(why) = record(desk, event).await {
        tracing::error!(request = %request.id, "cannot record how a hold ended: {why}");
    }
    let words = if request.beforehand.is_some() && ended.outcome == Outcome::Released {
        "approved beforehand: each of the statements may pass once".to_owned()
    } else {
        outcome_in_words(ended)
    };
    place.case().end(ended, words);
    let view = place.case().view.clone();
    if ended.outcome == Outcome::Released {
        desk.begin_again(&view);
        if let Some(decision) = &ended.decision {
            desk.begin_beforehand(&Arc::new(request.clone()), decision, BTreeSet::new(), BTreeSet::new()).await;
        }
    }
    desk.tell(Change::Changed(Box::new(view)));
    if ended.outcome != Outcome::Released && place.case().view.is_standing() {
        desk.end_again(&place, "it did not run", ended.at);
    }
    desk.retire(&request.id);
}

async fn executed(desk: &ApprovalDesk, request: &HoldRequest, execution: &Execution) {
    desk.used_beforehand(&request.id, execution).await;
    let event = Event::Executed { id: request.id.clone(), execution: execution.clone() };
    if let Err(why) = record(desk, event).await {
        tracing::error!(request = %request.id, "cannot record what the database said: {why}");
    }
    if let Some(place) = desk.place(&request.id) {
        place.case().executed(execution, clock::wall());
        let view = place.case().view.clone();
        desk.tell(Change::Changed(Box::new(view)));
    }
}

/// Reminders and escalations that are due.
async fn look_at_clocks(desk: &ApprovalDesk, now: Timestamp) {
    desk.lapse_beforehand(now).await;
    for place in desk.places() {
        let (due, id) = {
            let case = place.case();
            (case.due_escalation(now), case.view.request.id.clone())
        };
        if let Some(step) = due {
            let _turn = place.turn().await;
            let mut case = place.case().clone();
            if case.due_escalation(now) == Some(step) {
                case.escalate(step, now);
                let asked = case.view.escalated_to.clone();
                if let Err(why) = record(desk, Event::Escalated { id: id.clone(), step, asked }).await {
                    tracing::error!(request = %id, "cannot record an escalation, so it waits: {why}");
                    continue;
                }
                place.case().escalate(step, now);
                let view = place.case().view.clone();
                desk.tell(Change::Changed(Box::new(view)));
            }
        }
        let stands_until = place.case().view.again.clone().filter(|again| again.ended.is_none());
        if stands_until.is_some_and(|again| now >= again.until) {
            desk.end_again(&place, "its time is over", now);
            if let Err(why) = record(desk, Event::Lapsed { id: id.clone(), why: None }).await {
                tracing::error!(request = %id, "cannot record the end of a standing approval: {why}");
            }
        }
        if place.case().take_reminder(now) {
            desk.tell(Change::Remind(id));
        }
    }
}

async fn record(desk: &ApprovalDesk, event: Event) -> Result<(), String> {
    desk.put_on_record(vec![event]).await
}

pub(super) fn outcome_in_words(ended: &Ended) -> String {
    match &ended.outcome {
        Outcome::Released => "released".to_owned(),
        Outcome::Rejected => "the client was told".to_owned(),
        Outcome::Expired => "expired: nobody decided in time; nothing was run".to_owned(),
        Outcome::Withdrawn { cause } => format!("withdrawn: {cause}; nothing was run"),
    }
}
