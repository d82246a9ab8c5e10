//! Moves the bytes of one session after startup, and carries out what the machine asks: tickets, timers, cancel keys.
//!
//! One task owns both sockets. [`Session::poll`] looks at everything in a fixed order: the client first, so that a
//! disconnect beats an approval that arrives in the same moment, then the backend, then what the process asks, then the
//! decision, then the clock. Reads go into the thread's scratch buffer; an idle session owns no buffer.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::cancel::CancelGuard;
use super::functions::Trust;
use super::holding::{Holding, Turn};
use super::judging::SessionJudge;
use super::machine::{Action, Cleared, Ending, Machine, MachineSettings, Outbox};
use super::measuring::{self, Measuring};
use super::noticing;
use super::offload::Answer;
use super::parameters::{is_false, is_plain};
use super::running::Running;
use super::shared::{Classed, Memory, Scratch, Worker};
use super::signal::{Asked, Listener, SessionSignal};
use super::stream::{Peer, Stream};
use crate::clock;
use crate::hold::{Cause, Origin, SessionId};
use crate::wire::reply::Report;
use crate::wire::startup::StartupPacket;
use queue::Queue;

mod queue;
mod waiting;

/// From the Bind that was released to its Execute. Drivers send both at once; what is executed later meets rows nobody has looked at.
const PORTAL_PATIENCE: Duration = Duration::from_secs(2);

/// Time for the last words to a client that does not read.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a client may send before it is authenticated, in bytes: one answer of the largest size the server takes, and more.
const EARLY_BYTES: usize = 128 << 10;

/// A client whose startup packet has been read and checked.
#[derive(Debug)]
pub struct Opened {
    /// Its name in this process.
    pub session: SessionId,
    /// The client's leg.
    pub client: Stream,
    /// What the client sent behind its startup packet.
    pub leftover: Vec<u8>,
    /// The startup packet; the driver sends its bytes to the backend first.
    pub startup: StartupPacket,
    /// The client uses TLS.
    pub client_tls: bool,
    /// Common name of the client's certificate, if it showed one.
    pub certificate_name: Option<Box<str>>,
    /// Where the client is.
    pub peer: Peer,
    /// Authentication has to be over by then.
    pub deadline: Instant,
    /// What cancel and drain ask of the session.
    pub signal: Arc<SessionSignal>,
}

/// Runs the session until one side ends it.
///
/// # Cancellation safety
/// Dropping the future closes both connections and withdraws a hold.
///
/// The future itself is small: a session may idle for days, and what it needs only at its beginning and end is boxed.
pub async fn run(opened: Box<Opened>, backend: Stream, worker: &Rc<Worker>) {
    let mut session = Box::new(Session::new(*opened, backend, worker));
    let end = poll_fn(|cx| session.poll(cx)).await;
    session.withdraw(match end {
        End::BackendGone => Cause::BackendGone,
        End::ClientGone => Cause::ClientGone,
        End::Close => Cause::Internal,
        End::Quit => Cause::Shutdown,
    });
    if end != End::ClientGone {
        // A client that does not take them is not waited for; nothing is lost that it wanted.
        let _ = Box::pin(tokio::time::timeout(FAREWELL, last_words(session))).await;
    }
}

/// Whatever is queued for the client is still sent: the server's last words, or ours.
async fn last_words(session: Box<Session<'_>>) -> std::io::Result<()> {
    let Session { mut client, to_client, .. } = *session;
    client.write_all(to_client.rest()).await?;
    client.shutdown().await
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    BackendGone,
    ClientGone,
    /// The gate gave the session up and has said why.
    Close,
    Quit,
}

/// Sockets that had nothing to read in this round: whatever comes now wakes the task, so they need not be asked again. Asking
/// costs a lock each time.
#[derive(Debug, Clone, Copy, Default)]
struct Parked {
    client: bool,
    backend: bool,
}

struct Session<'a> {
    worker: &'a Rc<Worker>,
    client: Stream,
    backend: Stream,
    machine: Machine,
    /// Client bytes not consumed: a partial frame, or a held one and what was read ahead.
    inbox: Vec<u8>,
    /// Backend bytes not consumed: a partial frame.
    outbox_partial: Vec<u8>,
    to_backend: Queue,
    to_client: Queue,
    client_ended: bool,
    /// The backend has been told that the client ended.
    half_closed: bool,
    parked: Parked,
    /// A released portal that was not executed yet, by its number, and since when it waits for that.
    released_portal: Option<(u32, Instant)>,
    signal: Listener,
    origin: Origin,
    peer: Peer,
    class: Classed,
    generation: u64,
    /// What is known of the database's functions; `None`: nobody looks.
    trust: Option<Trust>,
    cancel: Option<CancelGuard>,
    holding: Option<Box<Holding>>,
    /// What it would touch is being looked into.
    measuring: Option<Measuring>,
    /// The statement released last, until the database has answered it.
    running: Option<Running>,
    analysis: Option<Answer>,
    /// Until authentication is over.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The session has been told to go and goes when what is queued is written.
    closing: bool,
}

impl<'a> Session<'a> {
    fn new(opened: Opened, backend: Stream, worker: &'a Rc<Worker>) -> Self {
        let settings = &worker.shared.settings;
        let machine = Machine::new(Arc::new(MachineSettings {
            max_statement_bytes: settings.max_statement_bytes,
            reject_holds_in_transaction: settings.reject_holds_in_transaction,
            parse_first: settings.parse_first,
            ask_session: settings.ask_session,
            allow_function_call: settings.allow_function_call,
            replication: settings.allow_replication
                && opened.startup.parameter("replication").is_some_and(|value| !is_false(value)),
            client_tls: opened.client_tls,
            plain_start: is_plain(&opened.startup),
            refusal_key: worker.shared.refusal_key(opened.session),
        }));
        let origin = Origin {
            session: opened.session,
            user: opened.startup.user(),
            database: opened.startup.database(),
            application_name: opened.startup.application_name(),
            certificate_name: opened.certificate_name.map(String::from),
            client: opened.peer.to_string(),
            backend_pid: None,
        };
        let generation = worker.shared.generation();
        let trust = worker.shared.functions.as_ref().map(|books| Trust::new(books, &origin.database));
        let class = classify(worker, &origin, opened.peer, trust.as_ref());
        let mut to_backend = Queue::default();
        to_backend.bytes.extend_from_slice(Cleared::startup(opened.startup.bytes()).bytes());
        Self {
            worker,
            client: opened.client,
            backend,
            machine,
            inbox: opened.leftover,
            outbox_partial: Vec::new(),
            to_backend,
            to_client: Queue::default(),
            client_ended: false,
            half_closed: false,
            parked: Parked::default(),
            released_portal: None,
            signal: Listener::new(opened.signal),
            origin,
            peer: opened.peer,
            class,
            generation,
            trust,
            cancel: None,
            holding: None,
            measuring: None,
            running: None,
            analysis: None,
            deadline: Some(Box::pin(tokio::time::sleep_until(opened.deadline.into()))),
            closing: false,
        }
    }

    /// One look at everything. Every step either makes progress, and the round is repeated, or has left a waker behind.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.parked = Parked::default();
        loop {
            if let Poll::Ready(Err(_)) = self.to_client.flush(&mut self.client, cx) {
                return Poll::Ready(End::ClientGone);
            }
            // A backend that takes no more bytes may still have last words: they are read below.
            let _ = self.to_backend.flush(&mut self.backend, cx);
            if self.closing {
                return Poll::Ready(End::Close);
            }
            let mut progress = false;
            match self.poll_client(cx) {
                Poll::Ready(Ok(moved)) => progress |= moved,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {}
            }
            match self.poll_backend(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {}
            }
            match self.poll_asked(cx) {
                Ok(moved) => progress |= moved,
                Err(end) => return Poll::Ready(end),
            }
            progress |= self.poll_analysis(cx);
            progress |= self.poll_measuring(cx);
            progress |= self.poll_holding(cx);
            if self.deadline_passed(cx) {
                return Poll::Ready(End::Close);
            }
            if !progress && !self.closing {
                return Poll::Pending;
            }
        }
    }

    /// Reads the client, unless what it sent before has no room yet.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        if self.client_ended {
            return self.poll_half_close(cx);
        }
        if self.parked.client || !self.to_backend.is_empty() || self.read_ahead_is_full() {
            return Poll::Pending;
        }
        let worker = Rc::clone(self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let Scratch { buffer, outbox, memory } = &mut *scratch;
        let mut read = ReadBuf::new(buffer);
        let polled = Pin::new(&mut self.client).poll_read(cx, &mut read);
        self.parked.client = polled.is_pending();
        let result = ready!(polled);
        if result.is_err() || read.filled().is_empty() {
            self.client_ended = true;
            // What was sent before the end still counts, as it does for the server; but nothing is released for nobody.
            if result.is_err() || self.machine.is_holding() {
                self.inbox = Vec::new();
            }
            self.withdraw(Cause::ClientGone);
            return Poll::Ready(Ok(true));
        }
        if self.inbox.is_empty() && !self.machine.is_waiting() {
            let fresh = read.filled();
            let used = self.frontend(cx, fresh, outbox, memory);
            self.inbox.extend_from_slice(fresh.get(used..).unwrap_or_default());
        } else {
            self.inbox.extend_from_slice(read.filled());
            self.resume(cx, outbox, memory);
        }
        drop(scratch);
        self.act(cx);
        Poll::Ready(Ok(true))
    }

    /// The client sends no more: the backend is told, and what it still answers is relayed.
    fn poll_half_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        // What waits for its turn (answers, an analysis, the end of authentication) is handled first.
        let waiting = self.machine.is_waiting() || self.machine.is_authenticating();
        // A statement under guard ends as it would with its client there: the server would run it to its end, too.
        let waits = (waiting && !self.inbox.is_empty()) || self.machine.is_guarding();
        if self.half_closed || !self.to_backend.is_empty() || waits {
            return Poll::Pending;
        }
        // An error here means that the backend is gone, which reading it will tell.
        let _ = ready!(Pin::new(&mut self.backend).poll_shutdown(cx));
        self.half_closed = true;
        Poll::Ready(Ok(true))
    }

    /// While a statement waits, so much may come behind it. A full read-ahead ends a hold; other waits are short, so there
    /// the client is simply not read.
    fn read_ahead_is_full(&mut self) -> bool {
        if self.machine.is_authenticating() {
            // Nobody yet: what is sent ahead is not taken in without end.
            return self.inbox.len() > EARLY_BYTES;
        }
        if !self.machine.is_waiting() {
            return false;
        }
        let limit = self.worker.shared.settings.read_ahead_bytes;
        let held = self.holding.as_ref().map_or(0, |holding| holding.frame_bytes());
        let full = self.inbox.len().saturating_sub(held) > limit;
        if full && let Some(holding) = &mut self.holding {
            holding.turn(Turn::Withdraw(Cause::ReadAheadFull));
            return false;
        }
        full
    }

    /// Hands client bytes to the machine and writes what comes out. Returns how many were consumed.
    fn frontend(&mut self, cx: &mut Context<'_>, input: &[u8], outbox: &mut Outbox, memory: &mut Memory) -> usize {
        self.refresh_class();
        outbox.clear();
        let shared = &self.worker.shared;
        let judge = shared.judge();
        let mut judging = SessionJudge {
            judge: &judge,
            cache: &mut memory.cache,
            class: &self.class.class,
            inline_bytes: shared.settings.inline_analysis_bytes,
            trust: self.trust.as_mut(),
            passing: self.class.passer.as_ref().map(|passer| (&mut memory.passing, passer)),
        };
        let since = self.released_portal.filter(|(number, _)| self.machine.released_portal() == Some(*number));
        if since.is_some_and(|(_, since)| clock::now().saturating_duration_since(since) > PORTAL_PATIENCE) {
            self.machine.released_portal_is_late();
        }
        let used = self.machine.handle_frontend(input, &mut judging, outbox);
        self.released_portal = match (self.machine.released_portal(), since) {
            (Some(number), Some(since)) if since.0 == number => Some(since),
            (number, _) => number.map(|number| (number, clock::now())),
        };
        for cleared in outbox.to_backend(input) {
            // A failed write means that the backend is gone; reading it ends the session with its last words.
            let _ = self.to_backend.write(&mut self.backend, cx, cleared.bytes());
        }
        for bytes in outbox.to_client(&[]) {
            self.to_client.bytes.extend_from_slice(bytes);
        }
        used
    }

    /// Hands over again what was kept of the client's bytes.
    fn resume(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, memory: &mut Memory) {
        if self.inbox.is_empty() || self.machine.is_waiting() {
            return;
        }
        let inbox = std::mem::take(&mut self.inbox);
        let used = self.frontend(cx, &inbox, outbox, memory);
        self.inbox = keep(inbox, used);
    }

    fn resume_now(&mut self, cx: &mut Context<'_>) {
        let worker = Rc::clone(self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let Scratch { outbox, memory, .. } = &mut *scratch;
        self.resume(cx, outbox, memory);
    }

    /// Reads the backend, unless the client has not taken what came before.
    fn poll_backend(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.parked.backend || !self.to_client.is_empty() {
            return Poll::Pending;
        }
        let worker = Rc::clone(self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let Scratch { buffer, outbox, memory } = &mut *scratch;
        let mut read = ReadBuf::new(buffer);
        let polled = Pin::new(&mut self.backend).poll_read(cx, &mut read);
        self.parked.backend = polled.is_pending();
        let result = ready!(polled);
        if result.is_err() || read.filled().is_empty() {
            return Poll::Ready(Err(End::BackendGone));
        }
        outbox.clear();
        if self.outbox_partial.is_empty() {
            let fresh = read.filled();
            let used = self.machine.handle_backend(fresh, outbox);
            self.write_backend(cx, outbox);
            if self.write_client(cx, outbox, fresh).is_err() {
                return Poll::Ready(Err(End::ClientGone));
            }
            self.outbox_partial.extend_from_slice(fresh.get(used..).unwrap_or_default());
        } else {
            let mut partial = std::mem::take(&mut self.outbox_partial);
            partial.extend_from_slice(read.filled());
            let used = self.machine.handle_backend(&partial, outbox);
            self.write_backend(cx, outbox);
            if self.write_client(cx, outbox, &partial).is_err() {
                return Poll::Ready(Err(End::ClientGone));
            }
            self.outbox_partial = keep(partial, used);
        }
        self.note_idle();
        self.resume(cx, outbox, memory);
        drop(scratch);
        self.act(cx);
        Poll::Ready(Ok(()))
    }

    /// What the machine itself has to say to the backend.
    fn write_backend(&mut self, cx: &mut Context<'_>, outbox: &Outbox) {
        for cleared in outbox.to_backend(&[]) {
            // A failed write means that the backend is gone, which reading it will tell.
            let _ = self.to_backend.write(&mut self.backend, cx, cleared.bytes());
        }
    }

    fn write_client(&mut self, cx: &mut Context<'_>, outbox: &Outbox, input: &[u8]) -> std::io::Result<()> {
        for bytes in outbox.to_client(input) {
            self.to_client.write(&mut self.client, cx, bytes)?;
        }
        Ok(())
    }

    /// Cancel, drain, quit.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Asked { cancel, drain, quit } = self.signal.poll(cx);
        if quit {
            self.say_goodbye();
            return Err(End::Quit);
        }
        if self.measuring.is_some() && (cancel || drain) {
            let report = if cancel { measuring::cancelled() } else { measuring::shutting_down() };
            self.stop_measuring();
            self.finish_machine(cx, Ending::Refuse(report));
            self.act(cx);
            return Ok(true);
        }
        if let Some(holding) = &mut self.holding {
            if cancel {
                holding.turn(Turn::Withdraw(Cause::CancelRequest));
            } else if drain {
                holding.turn(Turn::Withdraw(Cause::Shutdown));
            }
        } else if drain && (self.machine.is_idle() || self.machine.is_authenticating()) {
            self.say_goodbye();
            return Err(End::Quit);
        }
        Ok(false)
    }

    /// As the server does at a fast shutdown (`ProcessInterrupts`, 57P01).
    fn say_goodbye(&mut self) {
        if self.machine.at_backend_frame() && self.outbox_partial.is_empty() {
            let report = Report::fatal("57P01", "terminating connection due to administrator command")
                .with_detail("querygate is shutting down.");
            report.encode(&mut self.to_client.bytes);
        }
    }

    fn deadline_passed(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    /// Carries out what the machine asks for.
    fn act(&mut self, cx: &mut Context<'_>) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::RegisterCancel { pid, key } => {
                    self.origin.backend_pid = Some(pid);
                    let signal = Arc::clone(self.signal.signal());
                    self.cancel = Some(self.worker.shared.cancel.register(pid, &key, signal));
                }
                Action::ApplicationName(name) => {
                    self.origin.application_name = name;
                    self.reclassify();
                }
                Action::Executed(seen) => {
                    if let Some(running) = self.running.take() {
                        running.finish(seen);
                    }
                }
                Action::Ready => {
                    self.deadline = None;
                    if let Some(trust) = &mut self.trust {
                        trust.logged_in();
                    }
                }
                Action::Analyse(text) => {
                    let answer = self.worker.shared.offload.analyse(text);
                    let look = self.trust.as_mut().and_then(Trust::awaits);
                    self.analysis = Some(match look {
                        Some(look) => answer.after(look),
                        None => answer,
                    });
                }
                Action::AskAhead { text, in_transaction } => {
                    let class = self.class.class.clone();
                    self.analysis = Some(self.worker.shared.questions.ask_ahead(text, class, in_transaction));
                }
                Action::Examine(draft) => self.measure(*draft),
                Action::OpenHold(draft) => self.open_hold(cx, *draft),
                Action::Notice(draft) => {
                    noticing::tell(&self.worker.shared, &self.origin, self.class.class.policy_version(), *draft);
                }
                Action::Close(report) => {
                    if self.machine.at_backend_frame() {
                        report.encode(&mut self.to_client.bytes);
                    }
                    self.closing = true;
                }
            }
        }
    }

    /// Rules, or the time, may have changed since the last message.
    fn refresh_class(&mut self) {
        let settled = self.trust.as_mut().is_some_and(Trust::turn);
        if settled || self.generation != self.worker.shared.generation() {
            self.reclassify();
        } else if self.class.is_over() {
            let class = classify(self.worker, &self.origin, self.peer, self.trust.as_ref());
            if !class.class.is(&self.class.class) {
                self.machine.forget_verdicts();
            }
            self.class = class;
        }
    }

    fn reclassify(&mut self) {
        self.generation = self.worker.shared.generation();
        self.class = classify(self.worker, &self.origin, self.peer, self.trust.as_ref());
        self.machine.forget_verdicts();
    }

    /// A transaction that may have redefined functions is over: what it did can be looked at.
    fn note_idle(&mut self) {
        if let Some(trust) = self.trust.as_mut().filter(|trust| trust.is_in_doubt())
            && self.machine.is_idle()
        {
            trust.idle();
        }
    }
}

/// The rules that concern a session, with what it may believe of its database's functions.
fn classify(worker: &Worker, origin: &Origin, peer: Peer, trust: Option<&Trust>) -> Classed {
    let mut classed = worker.shared.class(origin, peer.ip());
    if let Some(trust) = trust {
        classed.class = trust.bind(&classed.class);
    }
    classed
}

/// What is left after `used` bytes; no allocation is kept for nothing.
fn keep(mut bytes: Vec<u8>, used: usize) -> Vec<u8> {
    if used >= bytes.len() {
        return Vec::new();
    }
    bytes.drain(..used);
    bytes
}
