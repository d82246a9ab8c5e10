//! What sessions share: [`Shared`] once per process, [`Worker`] once per session thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use std::net::IpAddr;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, oneshot};

use super::cancel::CancelRegistry;
use super::functions::{Books, Shelf};
use super::lobby::Lobby;
use super::machine::Outbox;
use super::noticing::Told;
use super::offload::Offload;
use super::passing::{Passer, Passing, Tally};
use super::settings::SessionSettings;
use super::signal::SessionSignal;
use super::tls::ListenTls;
use super::upstream::Upstream;
use crate::clock;
use crate::hold::{Board, HoldRequest, Notices, Origin, SessionId};
use crate::judge::{
    Book, Facts, Judge, JudgeCache, Judgement, Measure, OWNERS_NAMED, Ownership, SessionClass, Somebody,
};

/// Bytes read at once, per thread.
const SCRATCH: usize = 64 << 10;

/// What a session needs to know of how its statements are approved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HoldTerms {
    /// How long people have; `None`: as the settings say.
    pub deadline: Option<Duration>,
    /// Whom the client is told is asked ("group dba, ann"); may be empty.
    pub asked: String,
}

/// The terms, by the rule that holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// Of all other rules.
    pub default: HoldTerms,
    /// By the rule's name.
    pub by_rule: HashMap<String, HoldTerms>,
}

/// Tells who is, or may be, behind a session.
pub struct Who(Box<Tell>);

type Tell = dyn Fn(&Origin) -> Vec<Somebody> + Send + Sync;

impl Who {
    /// As `tell` has it.
    pub fn new(tell: impl Fn(&Origin) -> Vec<Somebody> + Send + Sync + 'static) -> Self {
        Self(Box::new(tell))
    }
}

/// The rules that concern a session, and for how long they are these.
#[derive(Debug, Clone)]
pub(super) struct Classed {
    pub(super) class: SessionClass,
    /// As whose what passes is counted; `None`: it is not.
    pub(super) passer: Option<Arc<Passer>>,
    /// `None`: no rule asks what time it is.
    span: Option<(Timestamp, Timestamp)>,
}

impl Classed {
    /// The time has come to ask again. Reads the clock only where a rule asks what time it is.
    pub(super) fn is_over(&self) -> bool {
        self.span.is_some_and(|span| is_outside(span, clock::wall()))
    }
}

/// Fail closed: a clock that was set back may be within another window.
fn is_outside((from, until): (Timestamp, Timestamp), now: Timestamp) -> bool {
    now >= until || now < from
}

/// Has it looked into what a statement would touch.
pub struct Measurer(Box<Look>);

/// The statement as it would be held, and whether it calls what nobody has looked into. Whoever drops the answer's other end has none.
type Look = dyn Fn(HoldRequest, bool) -> oneshot::Receiver<Measure> + Send + Sync;

impl Measurer {
    /// As `look` has it, which must not block.
    pub fn new(look: impl Fn(HoldRequest, bool) -> oneshot::Receiver<Measure> + Send + Sync + 'static) -> Self {
        Self(Box::new(look))
    }
}

/// What the session threads need besides sockets.
pub struct Gate {
    /// Policy.
    pub judge: Judge,
    /// Who is behind a session.
    pub who: Who,
    /// Where held statements wait.
    pub board: Board,
    /// Where notices of statements that pass are put.
    pub notices: Notices<Told>,
    /// Where what passes is counted; `None`: it is not.
    pub passing: Option<Passing>,
    /// What databases' functions do; `None`: nobody looks.
    pub functions: Option<Arc<Books>>,
    /// Analysis of large texts.
    pub offload: Offload,
    /// Questions to the policy that take their time.
    pub questions: Offload,
    /// Who is asked, and for how long.
    pub terms: Terms,
    /// Verdicts remembered per thread, in bytes.
    pub cache_bytes: u64,
    /// Random, new for each process.
    pub secret: [u8; 32],
}

/// Shared by all sessions of the process.
pub struct Shared {
    /// Limits and switches.
    pub settings: SessionSettings,
    /// TLS on the clients' leg.
    pub tls: ListenTls,
    /// The server behind the gate.
    pub upstream: Upstream,
    /// Who may be cancelled.
    pub cancel: CancelRegistry,
    /// How many sessions there may be.
    pub seats: Seats,
    /// Where held statements wait.
    pub board: Board,
    pub(super) notices: Notices<Told>,
    passing: Option<Passing>,
    pub(super) functions: Option<Arc<Books>>,
    pub(super) offload: Offload,
    pub(super) questions: Offload,
    judge: ArcSwap<Judge>,
    who: ArcSwap<Who>,
    terms: ArcSwap<Terms>,
    /// Counts policies, so that sessions notice a new one without a lock.
    generation: AtomicU64,
    cache_bytes: u64,
    secret: [u8; 32],
    next_session: AtomicU64,
    measurer: OnceLock<Measurer>,
}

impl Shared {
    /// Everything at its beginning.
    #[must_use]
    pub fn new(settings: SessionSettings, tls: ListenTls, upstream: Upstream, max_sessions: usize, gate: Gate) -> Self {
        Self {
            settings,
            tls,
            upstream,
            cancel: CancelRegistry::default(),
            seats: Seats::new(max_sessions),
            board: gate.board,
            notices: gate.notices,
            passing: gate.passing,
            functions: gate.functions,
            offload: gate.offload,
            questions: gate.questions,
            judge: ArcSwap::from_pointee(gate.judge),
            who: ArcSwap::from_pointee(gate.who),
            terms: ArcSwap::from_pointee(gate.terms),
            generation: AtomicU64::new(0),
            cache_bytes: gate.cache_bytes,
            secret: gate.secret,
            next_session: AtomicU64::new(1),
            measurer: OnceLock::new(),
        }
    }

    /// Who looks into what statements would touch, from now on; the first one stays.
    pub fn measure_by(&self, measurer: Measurer) {
        let _ = self.measurer.set(measurer);
    }

    /// Has it looked into what a statement would touch; `None`: nobody looks.
    pub(super) fn measure(&self, request: HoldRequest, opaque: bool) -> Option<oneshot::Receiver<Measure>> {
        self.measurer.get().map(|measurer| (measurer.0)(request, opaque))
    }

    /// The policy in force.
    pub(super) fn judge(&self) -> Guard<Arc<Judge>> {
        self.judge.load()
    }

    /// Puts another policy in force. Statements already held keep the rule that held them.
    pub fn replace_policy(&self, judge: Judge, who: Who, terms: Terms) {
        self.who.store(Arc::new(who));
        let new = Arc::new(judge);
        let old = self.judge.swap(Arc::clone(&new));
        if let Some(rego) = old.policy().rego().filter(|_| !Arc::ptr_eq(old.policy(), new.policy())) {
            rego.retire();
        }
        self.terms.store(Arc::new(terms));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Puts what a look at a database's functions found in force, if that is something else than before. It answers so many of the looks
    /// that were asked for.
    pub fn put_book(&self, to: &Shelf, book: Option<Arc<Book>>, answers: u64, fresh: Duration) -> bool {
        let changed = to.put(book, answers, fresh);
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        changed
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The rules that concern a session.
    pub(super) fn class(&self, origin: &Origin, client: Option<IpAddr>) -> Classed {
        let judge = self.judge.load();
        let policy = judge.policy();
        let people = if policy.names_people() { (self.who.load().0)(origin) } else { Vec::new() };
        let now = clock::wall();
        let class = judge.class(&Facts {
            user: &origin.user,
            database: &origin.database,
            application_name: &origin.application_name,
            client_addr: client,
            people: &people,
            now,
        });
        let passer = self.passing.as_ref().map(|_| Passer::new(origin, client, &class));
        Classed { class, passer, span: policy.class_ends(now).map(|until| (now, until)) }
    }

    /// Who is asked about statements that `rule` holds, and for how long.
    /// The shortest deadline of what the rules say, and everybody whom they ask; and the owners of what it touches.
    pub(super) fn terms(&self, judgement: &Judgement, usual: Duration) -> (Duration, String) {
        let (rule, also) = (&*judgement.rule, &judgement.also);
        let terms = self.terms.load();
        let (mut deadline, mut asked) = (None, Vec::new());
        for rule in std::iter::once(rule).chain(also.iter().map(|rule| &**rule)) {
            let named = || rule.rfind('@').and_then(|at| terms.by_rule.get(rule.get(at..)?));
            let one = terms.by_rule.get(rule).or_else(named).unwrap_or(&terms.default);
            let own = one.deadline.unwrap_or(usual);
            deadline = Some(deadline.map_or(own, |shortest: Duration| shortest.min(own)));
            if !one.asked.is_empty() && !asked.contains(&one.asked.as_str()) {
                asked.push(&one.asked);
            }
        }
        let owners = judgement.owners.iter().take(OWNERS_NAMED).map(Ownership::in_words);
        let mut asked: Vec<String> = asked.into_iter().map(str::to_owned).chain(owners).collect();
        let more = judgement.owners.len().saturating_sub(OWNERS_NAMED);
        if more > 0 {
            asked.push(format!("{more} more owners"));
        }
        (deadline.unwrap_or(usual), asked.join("; and besides "))
    }

    /// Names what is a session's own in the gate's messages: unguessable for clients, 32 hexadecimal digits.
    pub(super) fn refusal_key(&self, session: SessionId) -> String {
        let digest = Sha256::new().chain_update(self.secret).chain_update(session.0.to_be_bytes()).finalize();
        let half = digest.first_chunk::<16>().copied().unwrap_or_default();
        format!("{:032x}", u128::from_be_bytes(half))
    }

    /// A name no other session of this process has.
    pub(super) fn name_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }
}

/// A thread's buffers.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) buffer: Box<[u8]>,
    pub(super) outbox: Outbox,
    pub(super) memory: Memory,
}

/// What a thread remembers of statements.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) cache: JudgeCache,
    pub(super) passing: Tally,
}

/// Shared by the sessions of one thread; never leaves it, so nothing in it needs a lock.
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Clients that have not said yet who they are.
    pub(super) lobby: Lobby,
    /// Buffers and memory of whichever session is being looked at; borrowed for one step, never across a wait.
    pub(super) scratch: RefCell<Scratch>,
    sessions: RefCell<BTreeMap<SessionId, Arc<SessionSignal>>>,
    draining: Cell<bool>,
    ended: Notify,
}

impl Worker {
    /// A thread's share.
    #[must_use]
    pub fn new(shared: Arc<Shared>, max_half_open: usize) -> Rc<Self> {
        let scratch = RefCell::new(Scratch {
            buffer: vec![0; SCRATCH].into_boxed_slice(),
            outbox: Outbox::default(),
            memory: Memory { cache: JudgeCache::new(shared.cache_bytes), passing: Tally::default() },
        });
        Rc::new(Self {
            shared,
            scratch,
            lobby: Lobby::new(max_half_open),
            sessions: RefCell::default(),
            draining: Cell::new(false),
            ended: Notify::new(),
        })
    }

    /// What passes is counted.
    #[must_use]
    pub fn counts_what_passes(&self) -> bool {
        self.shared.passing.is_some()
    }

    /// Hands over what was counted of what passes. Never waits.
    pub fn hand_over_passed(&self) {
        if let Some(passing) = &self.shared.passing {
            self.scratch.borrow_mut().memory.passing.hand_over(passing);
        }
    }

    /// Sessions running on this thread.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// No new sessions; those that run are asked to end when they are idle.
    pub fn drain(&self) {
        self.draining.set(true);
        self.tell(SessionSignal::drain);
    }

    /// No new sessions; those that run are asked to end now.
    pub fn quit(&self) {
        self.draining.set(true);
        self.tell(SessionSignal::quit);
    }

    /// Whether new sessions are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Waits until no session runs on this thread.
    ///
    /// # Cancellation safety
    /// Nothing is lost; one task at a time may wait.
    pub async fn empty(&self) {
        while self.session_count() > 0 {
            self.ended.notified().await;
        }
    }

    fn tell(&self, ask: impl Fn(&SessionSignal)) {
        // Cloned first: no borrow is held while others' code runs.
        let signals: Vec<_> = self.sessions.borrow().values().cloned().collect();
        for signal in signals {
            ask(&signal);
        }
    }

    /// Enters a session; the guard's drop removes it.
    pub(super) fn enter(self: &Rc<Self>, session: SessionId) -> SessionGuard {
        let signal = Arc::new(SessionSignal::default());
        // It may have come through the door while draining began.
        if self.draining.get() {
            signal.drain();
        }
        self.sessions.borrow_mut().insert(session, Arc::clone(&signal));
        SessionGuard { worker: Rc::clone(self), session, signal }
    }
}

/// Its drop removes the session from its worker's list.
pub(super) struct SessionGuard {
    worker: Rc<Worker>,
    session: SessionId,
    pub(super) signal: Arc<SessionSignal>,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.worker.sessions.borrow_mut().remove(&self.session);
        if self.worker.is_draining() {
            self.worker.ended.notify_one();
        }
    }
}

/// A limited number of seats, counted across threads.
#[derive(Debug)]
pub struct Seats {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

impl Seats {
    /// `limit` free seats.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// A seat, unless all are taken. The guard's drop frees it.
    #[must_use]
    pub fn take(&self) -> Option<Seat> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.limit).then(|| taken.saturating_add(1))
            })
            .ok()
            .map(|_| Seat(Arc::clone(&self.taken)))
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// Its drop frees the seat.
#[must_use]
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

    use super::*;

    #[test]
    fn a_class_is_over_at_its_end_and_when_the_clock_was_set_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let outside = |second| is_outside((at(100), at(120)), at(second));
        assert_eq!([99, 100, 119, 120, 121].map(outside), [true, false, false, true, true]);
    }

    #[test]
    fn seats_are_limited_and_freed_by_drop() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take(), seats.take());
        assert!(first.is_some() && second.is_some() && seats.take().is_none());
        drop(first);
        assert_eq!(seats.taken(), 1);
        assert!(seats.take().is_some());
    }
}
