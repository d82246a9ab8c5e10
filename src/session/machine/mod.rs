//! The protocol of one session without I/O: bytes and events in, bytes and actions out. Knows no sockets and no clock.
//!
//! The driver hands it what it reads ([`Machine::handle_frontend`], [`Machine::handle_backend`]) and writes what comes out
//! ([`Outbox`]). What a handler does not consume, the driver keeps and hands over again with what has come behind it: a
//! held statement stays at the front of that buffer until it is decided, so that what is released is what was judged.
//!
//! # Phases
//!
//! *Authenticating*: authentication messages pass unread but for the channel-binding trap. *Ready*: statements are
//! judged. *Refusing*: the client broke the protocol; the server is left to say so, nothing more is forwarded.

mod asking;
mod auth;
mod backend;
mod errand;
mod frontend;
mod guard;
mod held;
mod judging;
mod meaning;
mod names;
mod outbox;
mod params;
mod portal;
mod replies;
mod result;
mod slots;

#[cfg(test)]
mod askings;
#[cfg(test)]
mod model;
#[cfg(test)]
mod portals;
#[cfg(test)]
mod rehearsals;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use held::{Draft, Ending};
pub use judging::{Judging, Reading, Ruling};
use outbox::Passage;
pub use outbox::{Cleared, Outbox};
pub use params::unreadable;
pub use result::Seen;

use crate::judge::Analysis;
use crate::wire::reply::Report;
use held::Held;
use meaning::Meaning;
use names::Names;
use replies::Replies;
use std::sync::Arc;

/// What the machine may be told by configuration.
#[expect(clippy::struct_excessive_bools, reason = "they are independent switches of the configuration")]
#[derive(Debug, Clone)]
pub struct MachineSettings {
    /// Largest Query or Parse taken, and the largest Bind that can be shown to approvers, in bytes.
    pub max_statement_bytes: usize,
    /// Refuse holds while a transaction is open.
    pub reject_holds_in_transaction: bool,
    /// Ask the server to parse a text before people are asked about it.
    pub parse_first: bool,
    /// Ask the session for its role and `search_path` before a statement is held.
    pub ask_session: bool,
    /// Relay FunctionCall messages.
    pub allow_function_call: bool,
    /// This is a replication connection, and configuration allows it.
    pub replication: bool,
    /// The client's connection is encrypted (matters for channel binding).
    pub client_tls: bool,
    /// The startup packet set nothing that bears on what a text means, and the client's encoding is known to be UTF-8.
    pub plain_start: bool,
    /// Unguessable and new for each session: what is named in messages of the gate's own is made of it.
    pub refusal_key: String,
}

/// What the driver is to do besides writing.
#[derive(Debug)]
pub enum Action {
    /// The backend told its cancel key: register it.
    RegisterCancel {
        /// Process id.
        pid: i32,
        /// Secret key, 1 to 256 bytes.
        key: Vec<u8>,
    },
    /// The backend reported `application_name`.
    ApplicationName(String),
    /// Analyse this text off the thread and answer with [`Machine::handle_analysis`].
    Analyse(Vec<u8>),
    /// The same, and have found out there what its verdict depends on.
    AskAhead {
        /// The text.
        text: Vec<u8>,
        /// What it will be judged by.
        in_transaction: bool,
    },
    /// Have it looked into what this would touch, and answer with [`Machine::handle_measured`] or [`Machine::end_hold`].
    Examine(Box<Draft>),
    /// Open a ticket and answer with [`Machine::handle_opened`] (and later [`Machine::handle_asked`]) or [`Machine::end_hold`].
    OpenHold(Box<Draft>),
    /// A statement passes that people want to be told of.
    Notice(Box<Draft>),
    /// The database has answered the statement that was released last.
    Executed(Seen),
    /// Authentication is over.
    Ready,
    /// Tell the client this and close both connections.
    Close(Box<Report>),
}

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Authenticating(auth::Asked),
    Ready,
    Refusing,
}

/// Why nothing of the client's is being handled.
#[derive(Debug)]
enum Waiting {
    /// It is.
    Nothing,
    /// For the backend's outstanding answers.
    CatchUp,
    /// For an analysis made elsewhere, of the text with this digest, which is perhaps asked about there.
    Analysis { text: held::Digest, ahead: bool },
    /// For what the database says this would touch.
    Measuring(Box<Held>),
    /// For the driver to open a ticket.
    Opening(Box<Held>),
    /// For a decision.
    Decision(Box<Held>),
}

/// What is known of the frame at the front of the client's bytes, and of no other: forgotten when that frame goes on or is
/// dropped. While it stays, its bytes stay, but what is known of a text or an approval is still compared with them.
#[derive(Debug, Default)]
struct AtFront {
    /// It was approved.
    released: Option<Box<Held>>,
    /// Its text was analysed before.
    analysed: Option<Analysed>,
    /// The statement that it, a Bind, names was not made through the gate; it is being described.
    unseen: Option<Arc<names::Definition>>,
    /// The server was asked to parse it.
    rehearsed: Option<Rehearsed>,
    /// The session was asked for its role and `search_path`.
    setting: Option<crate::hold::Setting>,
    /// The database was asked what it would touch.
    measured: Option<held::Measured>,
}

/// What the server said when it was asked to parse a text that is to be held.
#[derive(Debug)]
struct Rehearsed {
    text: held::Digest,
    /// It refuses the text; the client has its error.
    refused: bool,
}

/// An analysis, bound to its text.
#[derive(Debug)]
struct Analysed {
    text: held::Digest,
    analysis: Arc<Analysis>,
    /// It was asked about as well.
    ahead: bool,
}

/// COPY FROM STDIN, as far as the server has said.
///
/// While it reads COPY data the server ignores Sync and Flush (`CopyGetData`); after a failed COPY it does not. Which Syncs it
/// came to before it failed cannot be known from outside, so they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyIn {
    Nothing,
    /// The server reads data. So many Syncs were sent meanwhile.
    Open(u32),
    /// The client has ended it; the server's word is outstanding.
    Ending(u32),
}

/// Messages since the last Sync.
#[derive(Debug, Default, Clone, Copy)]
struct Batch {
    /// Counts Syncs.
    number: u32,
    /// Something was sent on since the last one.
    open: bool,
    /// … and it may have run something (Bind or Execute), so an implicit transaction holds what it did.
    ran: bool,
}

/// One session's protocol state.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about the server that the others do not imply")]
#[derive(Debug)]
pub struct Machine {
    settings: Arc<MachineSettings>,
    phase: Phase,
    from_client: Passage,
    from_backend: Passage,
    replies: Replies,
    names: Names,
    /// Transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    status: u8,
    batch: Batch,
    /// The client's messages are skipped up to Sync, as the server does after an error.
    skip: bool,
    copy: CopyIn,
    /// A probe is among the outstanding answers.
    probing: bool,
    /// A question to the session, or a command of the gate's own, is, so rows may be the gate's own.
    asking: bool,
    /// When the frame that passes has passed, everything waits for the answers: it may start or end a COPY.
    settle: bool,
    /// The server last reported that the client's text is UTF-8.
    utf8: bool,
    /// Something opaque was sent since the last ReadyForQuery, so settings may have changed unreported.
    opaque: bool,
    waiting: Waiting,
    at_front: AtFront,
    /// The statement released last, until the database has answered it.
    watch: Option<Box<result::Watch>>,
    /// The statement released last, while what limits it is being set, applied or set back.
    guard: Option<Box<guard::Guarding>>,
    /// The portal of the Bind released last, and the name of the last one that was closed because something else came.
    held_portal: Option<portal::HeldPortal>,
    released_portals: u32,
    lapsed_portal: Option<Box<[u8]>>,
    /// Whether what is held means the same as before.
    meaning: Meaning,
    /// The requester's reason, set for the session.
    reason: Option<Box<str>>,
    /// Names given to messages of the gate's own so far.
    own_names: u32,
    /// The server process of the session, as BackendKeyData tells it.
    backend_pid: Option<i32>,
    /// The client said Terminate.
    terminated: bool,
    actions: VecDeque<Action>,
}

impl Machine {
    /// A session whose startup packet has been sent on.
    #[must_use]
    pub fn new(settings: Arc<MachineSettings>) -> Self {
        Self {
            meaning: Meaning::new(settings.plain_start),
            settings,
            phase: Phase::Authenticating(auth::Asked::Nothing),
            from_client: Passage::default(),
            from_backend: Passage::default(),
            replies: Replies::default(),
            names: Names::default(),
            status: b'I',
            batch: Batch::default(),
            skip: false,
            copy: CopyIn::Nothing,
            probing: false,
            asking: false,
            settle: false,
            utf8: false,
            opaque: false,
            waiting: Waiting::Nothing,
            at_front: AtFront::default(),
            watch: None,
            guard: None,
            held_portal: None,
            released_portals: 0,
            lapsed_portal: None,
            reason: None,
            own_names: 0,
            backend_pid: None,
            terminated: false,
            actions: VecDeque::new(),
        }
    }

    /// What is to be done next besides writing.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() && self.actions.capacity() > 0 {
            self.actions = VecDeque::new();
        }
        action
    }

    /// Authentication is over and no answer is outstanding, no transaction open, nothing half-sent: the client may be told
    /// to go without losing anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Ready
            && self.replies.is_empty()
            && !self.batch.open
            && self.guard.is_none()
            && self.status == b'I'
            && self.from_client.is_between_frames()
            && self.from_backend.is_between_frames()
            && matches!(self.waiting, Waiting::Nothing)
    }

    /// Whether authentication is still going on.
    #[must_use]
    pub fn is_authenticating(&self) -> bool {
        matches!(self.phase, Phase::Authenticating(_))
    }

    /// A statement is held, or may be about to be.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        matches!(self.waiting, Waiting::Measuring(_) | Waiting::Opening(_) | Waiting::Decision(_))
    }

    /// The machine has stopped at the front of the client's bytes; what comes behind is read ahead.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !matches!(self.waiting, Waiting::Nothing)
    }

    /// Bytes to the client may be inserted now: no backend frame is half-way through.
    #[must_use]
    pub fn at_backend_frame(&self) -> bool {
        !self.from_backend.is_mid_frame()
    }

    /// A transaction is open: a block, or the implicit one of a batch in which something ran.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.status != b'I' || self.batch.ran
    }

    /// The policy, or facts that are not of a single statement, have changed.
    pub fn forget_verdicts(&mut self) {
        self.names.forget_verdicts();
    }

    /// The gate's own bytes to the backend; never within a frame of the client's.
    fn send_backend(&mut self, bytes: Vec<u8>, out: &mut Outbox) {
        self.from_client.insert(bytes, &mut out.backend);
    }

    /// The gate's own bytes to the client; never within a frame of the backend's.
    fn send_client(&mut self, bytes: Vec<u8>, out: &mut Outbox) {
        self.from_backend.insert(bytes, &mut out.client);
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// The server answered something else than what was expected. Nothing that follows from the answers can be trusted then.
    fn lost_count(&mut self) {
        // Fail closed. (While refusing, the server is on its way out and nothing more is sent.)
        if self.phase != Phase::Refusing {
            self.close(
                Report::fatal("58000", "querygate: the server's answers do not fit what it was sent").with_detail(
                    "The session is closed, because the gate can no longer tell what the server would run.",
                ),
            );
        }
    }

    fn close(&mut self, report: Report) {
        self.phase = Phase::Refusing;
        self.act(Action::Close(Box::new(report)));
    }
}
