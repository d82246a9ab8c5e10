//! The map of what waits. Knows no sockets, no people's rights and no clock: times are arguments.
//!
//! Start at [`Board`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use dashmap::DashMap;
use dashmap::mapref::entry;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::cell::{Cell, Ended, Lock, Locks, Phase, Refused, Std};
use super::history::History;
use super::quota::{OverLimit, Quota};
use super::request::{Cause, Decision, Execution, HoldId, HoldRequest, Outcome};
use super::settings::HoldSettings;

/// Where sessions and approvers meet: a session opens a [`Ticket`] and waits, whoever is entitled decides, the first
/// to act wins. Clones share one board.
///
/// A hold is in [`Board::list`] from the moment its `Opened` event is sent until its `Ended` event has been sent, and
/// among [`Board::recent`] (within limits) after.
pub struct Board<L: Locks = Std> {
    shared: Arc<Shared<L>>,
}

struct Shared<L: Locks> {
    settings: HoldSettings,
    live: DashMap<HoldId, Arc<Entry<L>>>,
    quota: L::Mutex<Quota>,
    history: L::Mutex<History>,
    events: broadcast::Sender<Event>,
    /// What the database said, until the desk has taken it: unlike the events it must not be lost.
    results: L::Mutex<HashMap<HoldId, (Arc<HoldRequest>, Execution)>>,
}

struct Entry<L: Locks> {
    request: Arc<HoldRequest>,
    cell: Cell<L>,
}

/// A hold as it stood when it was looked at.
#[derive(Debug, Clone)]
pub struct Hold {
    /// What was asked.
    pub request: Arc<HoldRequest>,
    /// How far it has come.
    pub phase: Phase,
}

/// A change on the board. For one hold: `Opened`, at most one `Decided`, `Ended`, in this order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A statement waits.
    Opened(Arc<HoldRequest>),
    /// Somebody decided; the session will carry it out or say why not.
    Decided(Arc<HoldRequest>, Decision),
    /// It is over.
    Ended(Arc<HoldRequest>, Ended),
    /// The database answered a released statement.
    Executed(Arc<HoldRequest>, Execution),
}

impl Event {
    /// The request it is about.
    #[must_use]
    pub fn request(&self) -> &Arc<HoldRequest> {
        match self {
            Self::Opened(request)
            | Self::Decided(request, _)
            | Self::Ended(request, _)
            | Self::Executed(request, _) => request,
        }
    }
}

/// The listener was too slow and missed changes: list again, then go on listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missed} changes were missed")]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// Changes from the moment of subscribing. To miss nothing: subscribe, then list.
pub struct Subscription {
    events: broadcast::Receiver<Event>,
}

impl Subscription {
    /// The next change; `None` when the board is gone.
    ///
    /// # Cancellation safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        match self.events.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(settings: HoldSettings) -> Self {
        Self::with_locks(settings)
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new(HoldSettings::default())
    }
}

impl<L: Locks> Clone for Board<L> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<L: Locks> Board<L> {
    pub(super) fn with_locks(settings: HoldSettings) -> Self {
        let (events, _) = broadcast::channel(settings.event_backlog.max(1));
        let history = History::new(settings.history, settings.history_bytes);
        Self {
            shared: Arc::new(Shared {
                settings,
                live: DashMap::new(),
                quota: L::Mutex::new(Quota::default()),
                history: L::Mutex::new(history),
                events,
                results: L::Mutex::new(HashMap::new()),
            }),
        }
    }

    /// Puts a request on the board.
    ///
    /// # Errors
    ///
    /// A limit is reached; nothing was announced.
    pub fn open(&self, request: HoldRequest) -> Result<Ticket<L>, OverLimit> {
        let shared = &self.shared;
        let request = Arc::new(request);
        shared.quota.with(|quota| quota.take(&request, &shared.settings))?;
        let cell = Cell::new(request.deadline);
        let entry = Arc::new(Entry { request, cell });
        // Nobody can decide it between its appearance and its announcement.
        let opened = entry.cell.still(|| {
            match shared.live.entry(entry.request.id.clone()) {
                entry::Entry::Occupied(_) => return Err(OverLimit::Id),
                entry::Entry::Vacant(place) => drop(place.insert(Arc::clone(&entry))),
            }
            shared.tell(Event::Opened(Arc::clone(&entry.request)));
            Ok(())
        });
        if let Err(refused) = opened {
            shared.quota.with(|quota| quota.release(&entry.request));
            return Err(refused);
        }
        Ok(Ticket { shared: Arc::clone(shared), entry })
    }

    /// Records a decision in one step: the first, on a pending hold, before its deadline. Listeners hear of it before
    /// the session wakes. Whether the person may decide is the caller's business.
    ///
    /// # Errors
    ///
    /// Why the decision does not count.
    pub fn decide(&self, id: &HoldId, decision: Decision) -> Result<Arc<HoldRequest>, Refused> {
        let Some(entry) = self.shared.entry(id) else {
            let ended = self.shared.history.with(|history| history.find(id));
            return Err(ended.map_or(Refused::Unknown, |(_, ended)| Refused::Ended(ended)));
        };
        let event = Event::Decided(Arc::clone(&entry.request), decision.clone());
        entry.cell.decide(decision, || self.shared.tell(event))?;
        Ok(Arc::clone(&entry.request))
    }

    /// People are asked about a hold; nothing has decided it at once. Its session may tell the client that it waits, and `said`, unless
    /// that is empty. May be called again when there is more to say.
    pub fn ask(&self, id: &HoldId, said: String) {
        if let Some(entry) = self.shared.entry(id) {
            entry.cell.ask(said);
        }
    }

    /// Ends a hold that nobody has decided, because people cannot be asked; its session tells the client. `false`: it was
    /// decided or over.
    pub fn fail(&self, id: &HoldId, cause: Cause, at: Timestamp) -> bool {
        let Some(entry) = self.shared.entry(id) else {
            return false;
        };
        let told = |ended: &Ended| self.shared.tell(Event::Ended(Arc::clone(&entry.request), ended.clone()));
        let Some(ended) = entry.cell.fail(cause, at, told) else {
            return false;
        };
        self.shared.ended(&entry, ended);
        true
    }

    /// What the database said to a statement that was released.
    pub fn executed(&self, request: Arc<HoldRequest>, execution: Execution) {
        let result = (Arc::clone(&request), execution.clone());
        self.shared.results.with(|results| results.insert(request.id.clone(), result));
        self.shared.tell(Event::Executed(request, execution));
    }

    /// A result that nobody has taken yet.
    pub fn take_result(&self, id: &HoldId) -> Option<(Arc<HoldRequest>, Execution)> {
        self.shared.results.with(|results| results.remove(id))
    }

    /// Requests with a result that nobody has taken yet.
    #[must_use]
    pub fn results(&self) -> Vec<HoldId> {
        self.shared.results.with(|results| results.keys().cloned().collect())
    }

    /// What waits or is being carried out, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Hold> {
        // The entries are taken out first: no map guard is alive while a cell is locked.
        let entries: Vec<_> = self.shared.live.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut holds: Vec<_> = entries
            .iter()
            .map(|entry| entry.snapshot())
            .filter(|hold| !matches!(hold.phase, Phase::Ended(_)))
            .collect();
        holds.sort_by(|a, b| (a.request.opened_at, &a.request.id).cmp(&(b.request.opened_at, &b.request.id)));
        holds
    }

    /// What ended lately, newest first, at most `limit`.
    #[must_use]
    pub fn recent(&self, limit: usize) -> Vec<Hold> {
        self.shared.history.with(|history| {
            history
                .newest_first()
                .take(limit)
                .map(|(request, ended)| Hold { request, phase: Phase::Ended(ended) })
                .collect()
        })
    }

    /// One hold, live or remembered.
    #[must_use]
    pub fn find(&self, id: &HoldId) -> Option<Hold> {
        // An ending hold enters the history before it leaves the map, so looking in this order misses none.
        if let Some(entry) = self.shared.entry(id) {
            return Some(entry.snapshot());
        }
        let (request, ended) = self.shared.history.with(|history| history.find(id))?;
        Some(Hold { request, phase: Phase::Ended(ended) })
    }

    /// Changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { events: self.shared.events.subscribe() }
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.shared.live.is_empty() && self.shared.quota.with(|quota| quota.is_empty())
    }
}

impl<L: Locks> Shared<L> {
    /// The entry without its map guard.
    fn entry(&self, id: &HoldId) -> Option<Arc<Entry<L>>> {
        self.live.get(id).map(|entry| Arc::clone(entry.value()))
    }

    fn tell(&self, event: Event) {
        // Fails only when nobody listens, which is no fault.
        let _nobody_listens = self.events.send(event);
    }

    /// Clears up after the one step that ended `entry`.
    fn ended(&self, entry: &Entry<L>, ended: Ended) {
        let request = Arc::clone(&entry.request);
        self.history.with(|history| history.push(request, ended));
        self.live.remove(&entry.request.id);
        self.quota.with(|quota| quota.release(&entry.request));
    }
}

impl<L: Locks> Entry<L> {
    fn snapshot(&self) -> Hold {
        Hold { request: Arc::clone(&self.request), phase: self.cell.phase() }
    }
}

/// A session's end of a hold. Dropping it withdraws the hold ([`Cause::Internal`]) unless it has ended, takes it off the
/// board and frees its place in the limits.
#[must_use = "dropping a ticket withdraws the hold"]
pub struct Ticket<L: Locks = Std> {
    shared: Arc<Shared<L>>,
    entry: Arc<Entry<L>>,
}

impl<L: Locks> Ticket<L> {
    /// The request's name.
    #[must_use]
    pub fn id(&self) -> &HoldId {
        &self.entry.request.id
    }

    /// What was asked.
    #[must_use]
    pub fn request(&self) -> &Arc<HoldRequest> {
        &self.entry.request
    }

    /// The decision once there is one; until then the task is woken by it. Once [`Ticket::expire`] has said yes this is
    /// never ready.
    pub fn poll_decision(&mut self, context: &mut Context<'_>) -> Poll<Decision> {
        self.entry.cell.poll_decision(context)
    }

    /// What is to be told to the client ([`Board::ask`]), once it is; each thing once. The task that polls the decision is woken by that.
    #[must_use]
    pub fn take_asked(&self) -> Option<String> {
        self.entry.cell.take_asked()
    }

    /// Why the hold was ended from outside, if it was ([`Board::fail`]). The task that polls the decision is woken by that.
    #[must_use]
    pub fn failure(&self) -> Option<Cause> {
        match self.entry.cell.phase() {
            Phase::Ended(Ended { outcome: Outcome::Withdrawn { cause }, .. }) => Some(cause),
            Phase::Pending | Phase::Decided(_) | Phase::Ended(_) => None,
        }
    }

    /// The same as a future.
    ///
    /// # Cancellation safety
    ///
    /// Dropping the future loses nothing; the decision can be asked for again.
    pub async fn decision(&mut self) -> Decision {
        poll_fn(|context| self.poll_decision(context)).await
    }

    /// The deadline has come: ends the hold as [`Outcome::Expired`].
    ///
    /// # Errors
    ///
    /// Somebody decided before; the hold is not over and the decision is to be carried out.
    pub fn expire(&mut self, at: Timestamp) -> Result<(), Decision> {
        let entry = &self.entry;
        if let Some(ended) = entry.cell.expire(at, |ended| self.announce(ended)) {
            self.shared.ended(entry, ended);
        }
        match entry.cell.phase() {
            Phase::Decided(decision) => Err(decision),
            Phase::Pending | Phase::Ended(_) => Ok(()),
        }
    }

    /// The decision has been carried out: bytes released, or the client told no. Returns the outcome on record
    /// ([`Outcome::Withdrawn`] if there was no decision to carry out).
    pub fn finish(self, at: Timestamp) -> Outcome {
        let entry = &self.entry;
        if let Some(ended) = entry.cell.finish(at, |ended| self.announce(ended)) {
            self.shared.ended(entry, ended);
        }
        self.outcome()
    }

    /// The statement will not run, whatever was decided: ends the hold as [`Outcome::Withdrawn`]. Returns the decision
    /// that was on record and will not be carried out; the record keeps both.
    pub fn withdraw(self, cause: Cause, at: Timestamp) -> Option<Decision> {
        let entry = &self.entry;
        let ended = entry.cell.withdraw(cause, at, |ended| self.announce(ended))?;
        let decision = ended.decision.clone();
        self.shared.ended(entry, ended);
        decision
    }

    fn announce(&self, ended: &Ended) {
        let request = Arc::clone(&self.entry.request);
        self.shared.tell(Event::Ended(request, ended.clone()));
    }

    fn outcome(&self) -> Outcome {
        match self.entry.cell.phase() {
            Phase::Ended(ended) => ended.outcome,
            Phase::Pending | Phase::Decided(_) => Outcome::Withdrawn { cause: Cause::Internal },
        }
    }
}

impl<L: Locks> Drop for Ticket<L> {
    fn drop(&mut self) {
        let at = crate::clock::wall();
        let withdrawn = self.entry.cell.withdraw(Cause::Internal, at, |ended| self.announce(ended));
        if let Some(ended) = withdrawn {
            self.shared.ended(&self.entry, ended);
        }
    }
}
