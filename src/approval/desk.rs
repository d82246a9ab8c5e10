//! The one place that says whether a person may decide a request, and records that they did. Knows no HTTP and no
//! chat: every channel asks here.
//!
//! The order is what makes it safe: an answer is judged, put on record, and only then carried out. Answers to one request
//! are taken one after the other. Start at [`ApprovalDesk`].

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use super::case::{Case, Denied, Step};
use super::channel::{Acknowledgement, Actor, Desk, Receipt, RequestView, Revocation, Submission};
use super::examiner::Examiner;
use super::people::Person;
use super::record::Record;
use super::settings::ApprovalSettings;
use crate::hold::{Board, Decision, Hold, HoldId, HoldRequest, Phase, Refused};
use crate::store::{Answered, Event};

/// The longest reason that is taken, in characters.
pub const MAX_REASON_CHARS: usize = 1_000;
/// Ended requests whose answers and results are remembered.
const REMEMBERED: usize = 1_000;
/// How much of their texts and values they may keep in memory, in bytes; the last few stay whatever they take, until channels
/// have shown how they ended.
const REMEMBERED_BYTES: usize = 64 << 20;
const REMEMBERED_LAST: usize = 4;
/// How long a reader waits for holds to be put on record.
const SETTLE: Duration = Duration::from_secs(2);
/// Changes a slow channel may fall behind before it looks at everything again.
const BACKLOG: usize = 1_024;

/// Who may decide what, and the decisions.
pub struct ApprovalDesk {
    pub(super) board: Board,
    settings: ArcSwap<ApprovalSettings>,
    cases: DashMap<HoldId, Arc<Place>>,
    /// Standing approvals: which request was given one for a statement of a session.
    standing: DashMap<again::Key, HoldId>,
    /// Approved beforehand.
    beforehand: beforehand::All,
    /// Ended ones, oldest first.
    ended: Mutex<Ended>,
    pub(super) record: Arc<dyn Record>,
    /// Says what statements would touch, if anybody does.
    examiner: Option<Arc<dyn Examiner>>,
    changes: broadcast::Sender<Change>,
}

/// One request's place on the desk.
pub(super) struct Place {
    /// Held while an answer is judged, recorded and carried out.
    turn: tokio::sync::Mutex<()>,
    case: Mutex<Case>,
    /// Where channels announced it.
    references: Mutex<HashMap<String, String>>,
    /// What it would touch has been looked into, or nobody does: answers can be taken.
    ready: watch::Sender<bool>,
}

/// Something channels should look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// The request's state is this now.
    Changed(Box<RequestView>),
    /// People are to be reminded of it.
    Remind(HoldId),
}

/// A person's answer through the API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Run it.
    pub approve: bool,
    /// As an emergency, alone.
    pub break_glass: bool,
    /// The same statement again in its session, for so long, without asking.
    pub again: Option<Duration>,
    /// Their words.
    pub reason: Option<String>,
    /// SHA-256 of the statement they were shown, in hex. An answer about another statement does not count.
    pub statement_sha256: Option<String>,
    /// The round they were shown, where that is known.
    pub round: Option<u32>,
}

impl ApprovalDesk {
    /// A desk for the holds of `board`. [`super::clerk::run`] keeps it going.
    #[must_use]
    pub fn new(board: Board, settings: ApprovalSettings, record: Arc<dyn Record>) -> Self {
        let (changes, _) = broadcast::channel(BACKLOG);
        Self {
            board,
            settings: ArcSwap::from_pointee(settings),
            cases: DashMap::new(),
            standing: DashMap::new(),
            beforehand: beforehand::All::default(),
            ended: Mutex::default(),
            record,
            examiner: None,
            changes,
        }
    }

    /// The same, with somebody who says what held statements would touch before people are asked.
    #[must_use]
    pub fn with_examiner(self, examiner: Arc<dyn Examiner>) -> Self {
        Self { examiner: Some(examiner), ..self }
    }

    /// Other people and profiles from now on. Requests that wait keep the profile they were held under.
    pub fn reload(&self, settings: ApprovalSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<ApprovalSettings> {
        self.settings.load_full()
    }

    /// A known person answers through the API.
    ///
    /// # Errors
    /// Why the answer does not count. That is on record too.
    pub async fn answer(
        self: &Arc<Self>,
        person: &Person,
        id: &HoldId,
        answer: Answer,
        at: Timestamp,
    ) -> Result<Receipt, Denied> {
        let submission = Submission {
            id: id.clone(),
            channel: "api".to_owned(),
            actor: Actor::person(person),
            approve: answer.approve,
            break_glass: answer.break_glass,
            again: answer.again,
            reason: answer.reason,
            statement_sha256: answer.statement_sha256,
            round: answer.round,
            at,
        };
        self.settle(|hold| hold.request.id == *id).await;
        if self.find(person, id).is_none() {
            // Outsiders learn nothing, not even that it exists.
            return self.refuse(&submission, Refused::Unknown.into()).await;
        }
        self.take(submission).await
    }

    /// Takes an answer from any channel.
    ///
    /// # Errors
    /// Why the answer does not count. That is on record too.
    ///
    /// # Cancellation safety
    /// An answer that was taken is carried out even if nobody waits for the receipt.
    pub async fn take(self: &Arc<Self>, submission: Submission) -> Result<Receipt, Denied> {
        let desk = Arc::clone(self);
        // A task of its own: what is on record must also be carried out, whoever hangs up meanwhile.
        let taken = tokio::spawn(async move { desk.take_here(submission).await }).await;
        taken.unwrap_or_else(|error| Err(Denied::NotRecorded(format!("the desk failed: {error}"))))
    }

    async fn take_here(&self, mut submission: Submission) -> Result<Receipt, Denied> {
        match tidy_reason(submission.reason.take()) {
            Ok(reason) => submission.reason = reason,
            Err(denied) => return self.refuse(&submission, denied).await,
        }
        let Some(place) = self.place(&submission.id) else {
            // The board knows ended requests that the desk has forgotten.
            let refused = match self.board.find(&submission.id).map(|hold| hold.phase) {
                Some(Phase::Ended(ended)) => Refused::Ended(ended),
                Some(Phase::Decided(decision)) => Refused::Decided(decision),
                // Not on record yet: nobody can have been shown it.
                Some(Phase::Pending) | None => Refused::Unknown,
            };
            return self.refuse(&submission, refused.into()).await;
        };
        place.made_ready().await;
        let _turn = place.turn.lock().await;
        let step = place.case().consider(&submission, &self.settings.load().people);
        let step = match step.and_then(|step| self.still_waits(&submission.id).map(|()| step)) {
            Ok(step) => step,
            Err(denied) => return self.refuse(&submission, denied).await,
        };
        if let Step::Decide(Decision::Approve { .. }) = step
            && let Some(denied) = self.changed(&place, &submission.id).await
        {
            return self.refuse(&submission, denied).await;
        }
        let id = submission.id.clone();
        let mut events = vec![Event::Answered(answered(&submission, None))];
        if let Step::Decide(decision) = &step {
            events.push(Event::Decided { id: id.clone(), decision: decision.clone() });
            let until = place.case().stands_until(&submission);
            if let (Decision::Approve { by, .. }, Some(until)) = (decision, until) {
                events.push(Event::Granted { id: id.clone(), by: by.clone(), until });
            }
        }
        // Stored before it is told.
        self.record.record(events).await.map_err(Denied::NotRecorded)?;
        let view = {
            let mut case = place.case();
            case.apply(&submission, &step);
            case.view.clone()
        };
        self.tell(Change::Changed(Box::new(view)));
        match step {
            Step::Count { have, need } => Ok(Receipt::Counted { have, need }),
            Step::Decide(decision) => {
                // Told before the session wakes. If it has ended meanwhile, that is what counts; the record has both.
                self.board.decide(&id, decision)?;
                Ok(Receipt::Decided)
            }
        }
    }

    /// The session has not ended the hold meanwhile.
    fn still_waits(&self, id: &HoldId) -> Result<(), Denied> {
        match self.board.find(id).map(|hold| hold.phase) {
            Some(Phase::Pending) => Ok(()),
            Some(Phase::Decided(decision)) => Err(Refused::Decided(decision).into()),
            Some(Phase::Ended(ended)) => Err(Refused::Ended(ended).into()),
            None => Err(Refused::Unknown.into()),
        }
    }

    /// Every answer is on record, also one that does not count.
    async fn refuse<T>(&self, submission: &Submission, denied: Denied) -> Result<T, Denied> {
        let event = Event::Answered(answered(submission, Some(denied.to_string())));
        if let Err(why) = self.record.record(vec![event]).await {
            tracing::error!(request = %submission.id, by = %submission.actor.identity, "cannot record a refused answer: {why}");
        }
        Err(denied)
    }

    /// Waits a moment for those of the holds that wait now to be on record, so that somebody who was told of one by its session
    /// finds it here.
    pub(super) async fn settle(&self, wanted: impl Fn(&Hold) -> bool) {
        let mut changes = self.changes();
        let unrecorded = || self.board.list().iter().any(|hold| wanted(hold) && !self.is_told(hold));
        let settled = async {
            while unrecorded() {
                // A hold that cannot be recorded leaves the board without a change here: hence the limit.
                let _ = changes.recv().await;
            }
        };
        let _ = tokio::time::timeout(SETTLE, settled).await;
    }

    /// Whether a person may decide a request now.
    ///
    /// # Errors
    /// Why not.
    pub fn person_may_decide(&self, person: &Person, request: &HoldRequest) -> Result<(), Denied> {
        let actor = Actor::person(person);
        let settings = self.settings.load();
        if let Some(place) = self.place(&request.id) {
            return Ok(place.case().eligible(&actor, &settings.people)?);
        }
        let profile = settings.profile_of(request);
        let case = Case::new(&Arc::new(request.clone()), profile, &settings.people);
        Ok(case.eligible(&actor, &settings.people)?)
    }

    /// Whether a person may see a request: those who may decide it, now or later, and whoever asked.
    #[must_use]
    pub fn may_see(&self, person: &Person, request: &HoldRequest) -> bool {
        let settings = self.settings.load();
        self.is_among_approvers(person, request)
            || request.beforehand.as_ref().is_some_and(|own| own.by == person.name)
            || settings.people.is_own(&request.origin, &person.name)
    }

    /// Whether a person is asked about a request, now or later, and did not ask for it themselves.
    #[must_use]
    pub fn may_ever_decide(&self, person: &Person, request: &HoldRequest) -> bool {
        let own = request.beforehand.as_ref().is_some_and(|own| own.by == person.name)
            || self.settings.load().people.is_own(&request.origin, &person.name);
        !own && self.is_among_approvers(person, request)
    }

    fn is_among_approvers(&self, person: &Person, request: &HoldRequest) -> bool {
        let profile = match self.place(&request.id) {
            Some(place) => Arc::clone(&place.case().profile),
            None => self.settings.load().profile_of(request),
        };
        profile.may_ever_include(&Actor::person(person))
    }

    /// What waits, oldest first, as far as the person may see it.
    #[must_use]
    pub fn list(&self, person: &Person) -> Vec<Hold> {
        self.seen_by(person, self.board.list())
    }

    /// What ended lately, newest first.
    #[must_use]
    pub fn recent(&self, person: &Person, limit: usize) -> Vec<Hold> {
        let mut holds = self.seen_by(person, self.board.recent(usize::MAX));
        holds.truncate(limit);
        holds
    }

    /// One request, if the person may see it.
    #[must_use]
    pub fn find(&self, person: &Person, id: &HoldId) -> Option<Hold> {
        let hold = self.board.find(id).or_else(|| self.remembered(id))?;
        Some(hold).filter(|hold| self.is_told(hold) && self.may_see(person, &hold.request))
    }

    /// One that ended with an earlier process: the board never knew it.
    fn remembered(&self, id: &HoldId) -> Option<Hold> {
        let view = self.view_of(id)?;
        Some(Hold { request: view.request, phase: Phase::Ended(view.ended?) })
    }

    /// What waits is told once it is on record.
    fn is_told(&self, hold: &Hold) -> bool {
        matches!(hold.phase, Phase::Ended(_)) || self.place(&hold.request.id).is_some()
    }

    /// How many wait for an answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        let holds = self.board.list();
        holds.iter().filter(|hold| hold.phase == Phase::Pending).count()
    }

    /// A request as channels show it.
    #[must_use]
    pub fn view_of(&self, id: &HoldId) -> Option<RequestView> {
        self.place(id).map(|place| place.case().view.clone())
    }

    fn seen_by(&self, person: &Person, mut holds: Vec<Hold>) -> Vec<Hold> {
        holds.retain(|hold| self.is_told(hold) && self.may_see(person, &hold.request));
        holds
    }

    // What the clerk does with cases.

    pub(super) fn place(&self, id: &HoldId) -> Option<Arc<Place>> {
        self.cases.get(id).map(|place| Arc::clone(place.value()))
    }

    pub(super) fn places(&self) -> Vec<Arc<Place>> {
        self.cases.iter().map(|place| Arc::clone(place.value())).collect()
    }

    /// The request is on record: answers may come.
    pub(super) fn put(&self, case: Case, references: HashMap<String, String>) {
        let view = case.view.clone();
        let place = Place {
            turn: tokio::sync::Mutex::new(()),
            ready: watch::Sender::new(!case.view.examining),
            case: Mutex::new(case),
            references: Mutex::new(references),
        };
        self.cases.insert(view.request.id.clone(), Arc::new(place));
        self.tell(Change::Changed(Box::new(view)));
    }

    /// Forgets the oldest ended requests. One with an open review, or whose approval stands, stays until that is over.
    pub(super) fn retire(&self, id: &HoldId) {
        if self.view_of(id).is_some_and(|view| view.is_unreviewed() || view.is_standing()) {
            return;
        }
        if self.view_of(id).is_some_and(|view| beforehand::may_pass(&view)) {
            return;
        }
        self.forget(id);
    }

    /// Nothing keeps it but the wish to remember some.
    fn forget(&self, id: &HoldId) {
        let weight = self.place(id).map_or(0, |place| place.case().view.request.weight());
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.bytes = ended.bytes.saturating_add(weight);
        ended.order.push_back((id.clone(), weight));
        while ended.order.len() > REMEMBERED || ended.bytes > REMEMBERED_BYTES && ended.order.len() > REMEMBERED_LAST {
            let Some((oldest, weight)) = ended.order.pop_front() else { break };
            ended.bytes = ended.bytes.saturating_sub(weight);
            self.cases.remove(&oldest);
        }
    }

    pub(super) fn tell(&self, change: Change) {
        // Fails only when no channel listens, which is no fault.
        let _nobody_listens = self.changes.send(change);
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// Ended requests, oldest first.
#[derive(Default)]
struct Ended {
    /// With the weight of each.
    order: VecDeque<(HoldId, usize)>,
    /// Of all.
    bytes: usize,
}

impl Place {
    pub(super) fn case(&self) -> MutexGuard<'_, Case> {
        // Every change leaves a whole case behind.
        self.case.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn references(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.references.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers can be taken.
    fn ready(&self) {
        self.case().view.examining = false;
        self.ready.send_replace(true);
    }

    /// Waits until [`Place::ready`]; no answer is to be given to what nobody was shown.
    async fn made_ready(&self) {
        // The sender lives as long as the place.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Waits until no answer is being taken.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

/// What channels ask of the desk.
impl Desk for Arc<ApprovalDesk> {
    fn submit<'a>(
        &'a self,
        submission: Submission,
    ) -> Pin<Box<dyn Future<Output = Result<Receipt, String>> + Send + 'a>> {
        Box::pin(async move { self.take(submission).await.map_err(|denied| denied.to_string()) })
    }

    fn view(&self, id: &HoldId) -> Option<RequestView> {
        self.view_of(id)
    }

    fn waiting(&self) -> Vec<RequestView> {
        let mut views: Vec<_> = self
            .places()
            .iter()
            .map(|place| place.case())
            .filter(|case| case.is_pending())
            .map(|case| case.view.clone())
            .collect();
        views.sort_by_key(|view| view.request.opened_at);
        views
    }

    fn may_decide(&self, actor: &Actor, id: &HoldId) -> Result<(), String> {
        let place = self.place(id).ok_or_else(|| Refused::Unknown.to_string())?;
        let people = &self.settings.load().people;
        place.case().eligible(actor, people).map_err(|why| why.to_string())
    }

    fn review<'a>(
        &'a self,
        acknowledgement: Acknowledgement,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move { self.acknowledge(acknowledgement).await.map_err(|denied| denied.to_string()) })
    }

    fn may_review(&self, actor: &Actor, id: &HoldId) -> Result<(), String> {
        let place = self.place(id).ok_or_else(|| Refused::Unknown.to_string())?;
        let people = &self.settings.load().people;
        place.case().may_review(actor, people).map_err(|why| why.to_string())
    }

    fn revoke<'a>(&'a self, revocation: Revocation) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move { self.end_standing(revocation).await.map_err(|denied| denied.to_string()) })
    }

    fn unreviewed(&self) -> Vec<RequestView> {
        self.unreviewed_views()
    }
}

fn answered(submission: &Submission, refused: Option<String>) -> Answered {
    Answered {
        id: submission.id.clone(),
        channel: submission.channel.clone(),
        by: submission.actor.identity.clone(),
        approve: submission.approve,
        break_glass: submission.break_glass,
        reason: submission.reason.clone(),
        refused,
    }
}

/// One line of visible text.
fn tidy_reason(reason: Option<String>) -> Result<Option<String>, Denied> {
    let Some(reason) = reason else {
        return Ok(None);
    };
    let words: String = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !crate::approval::is_deceptive(*c))
        .collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() > MAX_REASON_CHARS {
        return Err(Denied::ReasonTooLong);
    }
    Ok(Some(words).filter(|words| !words.is_empty()))
}

mod again;
pub(super) mod beforehand;
mod blocking;
mod examine;
mod review;
mod second;
mod undone;

#[cfg(test)]
mod tests;
