//! The held statement, and the ways its hold ends.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::names::{Definition, PortalNote};
use super::replies::{Expect, Refusal};
use super::{Action, AtFront, Machine, Outbox, Waiting};
use crate::hold::{HoldId, Parameter, Setting};
use crate::judge::{Analysis, Calls, Judgement, Measure, Piece, Risk};
use crate::wire::frame;
use crate::wire::reply::Report;

/// What the driver needs to open a ticket.
#[derive(Debug)]
pub struct Draft {
    /// The exact statement text.
    pub text: Arc<[u8]>,
    /// Bound values, decoded where possible.
    pub parameters: Vec<Parameter>,
    /// What it can do, with what the statements do that it executes.
    pub analysis: Arc<Analysis>,
    /// Rule and reason.
    pub judgement: Judgement,
    /// A transaction is open.
    pub in_transaction: bool,
    /// The requester's own words.
    pub reason: Option<String>,
    /// What a standing approval is compared with.
    pub standing: crate::hold::Standing,
    /// The text may be in another encoding than UTF-8, so that what people are shown is not what would run.
    pub doubtful_encoding: bool,
    /// What the session said of itself; `None`: it could not be asked.
    pub setting: Option<Setting>,
    /// What it would run under, in a sentence.
    pub guard: Option<String>,
    /// Length of the frame that waits, in bytes.
    pub frame_bytes: usize,
}

/// SHA-256.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// A statement at the front of the client's buffer, waiting.
#[derive(Debug)]
pub(super) struct Held {
    /// Length of its frame, header included.
    pub(super) total: usize,
    /// Of the frame.
    digest: Digest,
    pub(super) kind: HeldKind,
    /// How it runs once it is released.
    pub(super) plan: Option<super::guard::Plan>,
    /// Has its rows kept, once it is released.
    pub(super) warrant: Option<Box<crate::undo::Warrant>>,
    /// Names its request, once that is open.
    pub(super) request: Box<str>,
}

#[derive(Debug)]
pub(super) enum HeldKind {
    Query(Arc<Analysis>),
    Bind {
        definition: Arc<Definition>,
        note: Option<PortalNote>,
        /// Its name stands for nothing else.
        certain: bool,
    },
}

/// What the statement at the front would touch.
#[derive(Debug)]
pub(super) struct Measured {
    /// Of its frame.
    digest: Digest,
    pub(super) measure: Measure,
}

impl Measured {
    pub(super) fn is_of(&self, frame: &[u8]) -> bool {
        self.digest == digest(frame)
    }
}

/// How a hold ends, as far as the wire is concerned.
#[derive(Debug)]
pub enum Ending {
    /// The same bytes run.
    Release,
    /// The backend raises an error, told to the client as this report.
    Refuse(Report),
}

/// What people are shown of a text that calls functions: what those do as well.
pub(super) fn with_raised(analysis: Arc<Analysis>, judgement: &Judgement) -> Arc<Analysis> {
    if judgement.raised.is_empty() {
        return analysis;
    }
    let mut shown = Analysis::clone(&analysis);
    let (effects, calls) = (judgement.raised.clone(), Calls::default());
    // It is not of this text.
    shown.pieces.push(Piece { range: 0..0, effects, acts: Vec::new(), risks: Vec::new(), calls });
    Arc::new(shown)
}

impl Held {
    pub(super) fn new(frame: &[u8], kind: HeldKind, plan: Option<super::guard::Plan>) -> Self {
        Self { total: frame.len(), digest: digest(frame), kind, plan, warrant: None, request: Box::default() }
    }

    pub(super) fn is(&self, frame: &[u8]) -> bool {
        frame.len() == self.total && self.digest == digest(frame)
    }
}

impl Machine {
    /// What people are shown of a text that executes others: their effects as well, as far as they are known.
    pub(super) fn with_executed(&self, analysis: &Arc<Analysis>) -> Arc<Analysis> {
        let executed = self.names.executed(analysis);
        if executed.is_empty() {
            return Arc::clone(analysis);
        }
        let mut shown = Analysis::clone(analysis);
        for (name, candidates) in executed {
            // What one of them hides nobody knows: then nobody knows it of the whole.
            let hidden = candidates.iter().any(|definition| definition.analysis.risks.is_none());
            let theirs = candidates.iter().filter_map(|definition| definition.analysis.all_risks()).flatten();
            let theirs: Vec<Risk> = theirs.map(|risk| risk.by_execute(&name)).collect();
            shown.risks = shown.risks.filter(|_| !hidden).map(|known| known.into_iter().chain(theirs).collect());
            for mut piece in candidates.iter().flat_map(|definition| definition.analysis.pieces.iter().cloned()) {
                for effect in &mut piece.effects {
                    effect.why = format!("by EXECUTE {name}: {}", effect.why);
                }
                // It is not of this text, and what it does to the session is noted when it runs.
                shown.pieces.push(Piece {
                    range: 0..0,
                    effects: piece.effects,
                    acts: Vec::new(),
                    risks: Vec::new(),
                    calls: piece.calls,
                });
            }
        }
        Arc::new(shown)
    }

    pub(super) fn open_hold(&mut self, held: Box<Held>, draft: Draft) {
        self.waiting = Waiting::Opening(held);
        self.act(Action::OpenHold(Box::new(draft)));
    }

    /// Has it looked into what it would touch, which decides what becomes of it.
    pub(super) fn open_measuring(&mut self, held: Box<Held>, draft: Draft) {
        self.waiting = Waiting::Measuring(held);
        self.act(Action::Examine(Box::new(draft)));
    }

    /// What the statement at the front would touch. The driver then hands over the client's bytes again.
    pub fn handle_measured(&mut self, measure: Measure) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Measuring(held) => self.at_front.measured = Some(Measured { digest: held.digest, measure }),
            other @ (Waiting::Nothing
            | Waiting::CatchUp
            | Waiting::Analysis { .. }
            | Waiting::Opening(_)
            | Waiting::Decision(_)) => self.waiting = other,
        }
    }

    /// The ticket is open.
    pub fn handle_opened(&mut self, request: &HoldId) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Opening(mut held) => {
                held.request = request.0.as_str().into();
                self.waiting = Waiting::Decision(held);
            }
            other @ (Waiting::Nothing
            | Waiting::CatchUp
            | Waiting::Analysis { .. }
            | Waiting::Measuring(_)
            | Waiting::Decision(_)) => self.waiting = other,
        }
    }

    /// People are asked about the statement; the client is told.
    pub fn handle_asked(&mut self, notice: &Report, out: &mut Outbox) {
        if matches!(self.waiting, Waiting::Decision(_)) {
            self.send_client(notice.to_bytes(), out);
        }
    }

    /// Ends the hold. The driver then hands over the client's bytes again.
    pub fn end_hold(&mut self, ending: Ending, out: &mut Outbox) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Measuring(held) | Waiting::Opening(held) | Waiting::Decision(held) => match ending {
                Ending::Release => self.at_front.released = Some(held),
                Ending::Refuse(report) => {
                    self.from_client.discard(held.total);
                    self.at_front = AtFront::default();
                    match held.kind {
                        HeldKind::Query(_) => self.refuse_query(report, out),
                        HeldKind::Bind { .. } => self.refuse_extended(report, out),
                    }
                }
            },
            // Nothing is held: there is nothing to end.
            other @ (Waiting::Nothing | Waiting::CatchUp | Waiting::Analysis { .. }) => self.waiting = other,
        }
    }

    pub(super) fn waiting_statement(&self) -> Option<&Held> {
        match &self.waiting {
            Waiting::Opening(held) | Waiting::Decision(held) => Some(held),
            Waiting::Nothing | Waiting::CatchUp | Waiting::Analysis { .. } | Waiting::Measuring(_) => None,
        }
    }

    pub(super) fn waiting_statement_mut(&mut self) -> Option<&mut Held> {
        match &mut self.waiting {
            Waiting::Opening(held) | Waiting::Decision(held) => Some(held),
            Waiting::Nothing | Waiting::CatchUp | Waiting::Analysis { .. } | Waiting::Measuring(_) => None,
        }
    }

    /// Makes the backend raise an error in place of a Query: text that no grammar accepts. Raw parsing comes before
    /// everything else in `exec_simple_query`, so this is the same in an aborted transaction.
    pub(super) fn refuse_query(&mut self, report: Report, out: &mut Outbox) {
        self.meaning.failed();
        let token = self.refusal_token();
        self.send_backend(frame::build(b'Q', &[b"\"", token.as_bytes(), b"\"\0"]), out);
        self.replies.push(Expect::RefusedQuery(Box::new(Refusal { token, report }), self.names.last_bind()));
        // Like any Query it ends a batch that was open without a Sync.
        self.batch.ran = false;
        self.batch.open = false;
    }

    /// Makes the backend raise an error in the extended protocol: Execute of a portal that cannot exist
    /// (`exec_execute_message` looks the portal up before anything else). The server then skips to Sync, and so do we.
    pub(super) fn refuse_extended(&mut self, report: Report, out: &mut Outbox) {
        self.meaning.failed();
        let token = self.refusal_token();
        self.send_backend(frame::build(b'E', &[token.as_bytes(), b"\0", &[0; 4]]), out);
        self.replies.push(Expect::Refused(Box::new(Refusal { token, report })));
        self.batch.open = true;
        self.skip = true;
    }

    pub(super) fn refusal_token(&mut self) -> String {
        self.own_name("refused")
    }

    /// A name of the gate's own, see [`own_name`].
    pub(super) fn own_name(&mut self, what: &str) -> String {
        self.own_names = self.own_names.wrapping_add(1);
        own_name(what, &self.settings.refusal_key, self.own_names)
    }
}

/// What is named in the gate's own message number `count`, one that fails or one that asks. At most 63 bytes, so that the server quotes it
/// whole.
///
/// It is no secret once used: the server's log has it, and `pg_stat_activity.query` shows it to whoever may see the session.
/// Little hangs on it. *Which* answer is the gate's own is told by its place in the order of answers; the token only tells
/// the error that was asked for from a last word of the server's (57P01), which nobody else writes. And a portal with that
/// name would have been judged when it was bound, like any other. Still, the key never leaves the process and each token is a
/// digest, so from those seen nobody can tell the next one, of this session or another: no client can prepare for it.
pub(super) fn own_name(what: &str, key: &str, count: u32) -> String {
    let digest = Sha256::new().chain_update(what).chain_update(key).chain_update(count.to_be_bytes()).finalize();
    format!("querygate {what} {}", hex::encode(digest.first_chunk::<16>().copied().unwrap_or_default()))
}
