//! The backend's messages: they pass untouched but for the answers to what the gate itself sent.

use super::errand::Progress;
use super::replies::{Expect, Probe, SqlChange, SqlChanges};
use super::{Action, CopyIn, Machine, Outbox, Phase, Rehearsed, Waiting};
use crate::wire::backend;
use crate::wire::frame::{self, Peek};
use crate::wire::reply::{Report, ready_for_query};

/// Messages whose content the gate reads are read whole up to this size; a longer one passes unread.
const MAX_READ: usize = 1 << 20;

/// What becomes of a backend message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Relay,
    Swallow,
}

impl Machine {
    /// Handles the backend's bytes. Returns how many are consumed; the rest must be handed over again, followed by what
    /// comes behind it. Afterwards the driver hands over the client's bytes again, if it kept any.
    pub fn handle_backend(&mut self, input: &[u8], out: &mut Outbox) -> usize {
        let mut at = 0;
        loop {
            self.from_backend.advance(&mut at, input.len(), &mut out.client);
            if !self.from_backend.is_between_frames() {
                break;
            }
            let rest = input.get(at..).unwrap_or_default();
            let Some((tag, total)) = self.backend_front(rest) else {
                break;
            };
            if matches!(tag, b'D' | b'd') && !self.asking {
                self.from_backend.pass(total);
                continue;
            }
            let whole = rest.get(..total);
            if whole.is_none() && total <= MAX_READ && self.reads(tag) {
                break;
            }
            let body = whole.and_then(|whole| whole.get(frame::HEADER..));
            match self.backend_frame(tag, body, out) {
                Fate::Relay => self.from_backend.pass(total),
                Fate::Swallow => self.from_backend.discard(total),
            }
        }
        if matches!(self.waiting, Waiting::CatchUp) && self.replies.is_empty() {
            self.waiting = Waiting::Nothing;
        }
        at
    }

    fn backend_front(&mut self, rest: &[u8]) -> Option<(u8, usize)> {
        match frame::peek_backend(rest) {
            Peek::Frame { tag, total } => Some((tag, total)),
            Peek::Incomplete => None,
            Peek::BadLength { .. } | Peek::UnknownTag { .. } => {
                self.close(Report::fatal("08P01", "querygate: the server sent a message with an impossible length"));
                None
            }
        }
    }

    /// Whether the content of this message matters now.
    fn reads(&mut self, tag: u8) -> bool {
        match tag {
            b'Z' | b'S' | b'K' | b'R' => true,
            b'E' => {
                self.watch.is_some()
                    || matches!(
                        self.replies.head(),
                        Some(
                            Expect::Refused(_)
                                | Expect::RefusedQuery(..)
                                | Expect::Probe(_)
                                | Expect::Rehearsal(..)
                                | Expect::Errand(_)
                                | Expect::OwnClose
                        )
                    )
            }
            b't' => matches!(self.replies.head(), Some(Expect::OwnDescribe(_))),
            b'D' => matches!(self.replies.head(), Some(Expect::Asking(_) | Expect::Errand(_))),
            b'N' => matches!(self.replies.head(), Some(Expect::Errand(_))),
            b'C' => self.watch.is_some() || self.guard.is_some(),
            _ => false,
        }
    }

    /// `body` is there when the message is here whole.
    fn backend_frame(&mut self, tag: u8, body: Option<&[u8]>, out: &mut Outbox) -> Fate {
        match tag {
            b'Z' => self.on_ready(body, out),
            b'E' => self.on_error(body, out),
            b'S' => self.on_parameter_status(body),
            b'K' => {
                if let Some((pid, key)) = body.and_then(backend::key_data) {
                    let key = key.to_vec();
                    self.backend_pid = Some(pid);
                    self.act(Action::RegisterCancel { pid, key });
                }
                Fate::Relay
            }
            b'R' => {
                if let Some(body) = body {
                    self.auth_request(body);
                }
                Fate::Relay
            }
            b'1' | b'2' | b'3' | b'C' | b'D' | b'I' | b's' | b't' | b'T' | b'n' => self.on_answer(tag, body, out),
            b'G' | b'W' => {
                let alone = self.replies.is_last();
                if alone
                    && self.guard.is_none()
                    && matches!(self.replies.head(), Some(Expect::Query(..) | Expect::Execute(..)))
                {
                    self.copy = CopyIn::Open(0);
                    // A message waiting for this answer meets the COPY.
                    if matches!(self.waiting, Waiting::CatchUp) {
                        self.waiting = Waiting::Nothing;
                    }
                } else {
                    // A COPY nobody saw coming, with more sent behind it.
                    self.lost_count();
                }
                Fate::Relay
            }
            // The text's notices (a name that is cut, for one) come again when it runs.
            b'N' if matches!(self.replies.head(), Some(Expect::Rehearsal(..))) => Fate::Swallow,
            // What COMMIT has to say is the client's.
            b'N' if matches!(self.replies.head(), Some(Expect::Errand(_))) && warns_of_set_local(body) => Fate::Swallow,
            // Notices, notifications, CopyOut, CopyDone, function results and whatever newer servers send.
            _ => Fate::Relay,
        }
    }

    /// Answers of the extended protocol, and those of Query that look the same.
    fn on_answer(&mut self, tag: u8, body: Option<&[u8]>, out: &mut Outbox) -> Fate {
        match (tag, self.replies.head()) {
            (_, Some(Expect::Asking(asking))) => {
                match asking.answer(tag, body) {
                    Progress::More => {}
                    Progress::Done => self.asked(),
                    Progress::Unexpected => self.lost_count(),
                }
                Fate::Swallow
            }
            (_, Some(Expect::Errand(errand))) => {
                let progress = errand.answer(tag, body);
                self.errand_answered(progress, out)
            }
            (b'1' | b'3', Some(Expect::Rehearsal(rehearsal, _))) => {
                rehearsal.parsed = tag == b'1';
                Fate::Swallow
            }
            (b't', Some(Expect::OwnDescribe(definition))) => {
                if let Some(types) = body.and_then(backend::parameter_description) {
                    // Set once: a second answer for the same definition says the same.
                    let _ = definition.described.set(types);
                }
                Fate::Swallow
            }
            (b'T' | b'n', Some(Expect::OwnDescribe(_))) | (b'3', Some(Expect::OwnClose)) => {
                self.replies.pop();
                Fate::Swallow
            }
            (b'C' | b'I', Some(&mut Expect::Execute(_, wanted))) => {
                self.copy = CopyIn::Nothing;
                if let Some(fate) = self.guarded_execute(tag, body, out) {
                    return fate;
                }
                if wanted {
                    self.saw_tag(true, body);
                }
                self.answered();
                Fate::Relay
            }
            (b's', Some(Expect::Execute(..))) => self.guarded_execute(tag, body, out).unwrap_or_else(|| {
                self.answered();
                Fate::Relay
            }),
            (b'1', Some(Expect::Parse(_)))
            | (b'2', Some(Expect::Bind(_)))
            | (b'3', Some(Expect::Close(_)))
            | (b'T' | b'n', Some(Expect::Describe)) => {
                self.answered();
                Fate::Relay
            }
            (b't', Some(Expect::Describe)) => Fate::Relay,
            (b'C' | b'I' | b'T', Some(Expect::Query(..))) => {
                // Within a Query a COPY has ended well when its CommandComplete comes.
                if tag == b'C' {
                    self.copy = CopyIn::Nothing;
                    if let Some(fate) = self.guarded_tag(body) {
                        return fate;
                    }
                    self.saw_tag(false, body);
                }
                Fate::Relay
            }
            _ => {
                self.lost_count();
                Fate::Relay
            }
        }
    }

    /// The head was answered with success.
    pub(super) fn answered(&mut self) {
        match self.replies.pop() {
            Some(Expect::Parse(settling)) => self.names.confirm(&settling.name, &settling.change),
            Some(Expect::Close(Some(settling))) => {
                self.names.confirm(&settling.name, &settling.change);
            }
            Some(Expect::Bind(Some((portal, number)))) => self.names.bound(&portal, number),
            Some(Expect::Execute(Some(changes), _)) => self.settle_sql(*changes),
            _ => {}
        }
    }

    fn settle_sql(&mut self, changes: SqlChanges) {
        if let Some((portal, until)) = &changes.portal {
            self.names.ran(portal, *until);
        }
        for change in changes.changes {
            match change {
                SqlChange::Name(settling) if changes.failed => {
                    self.names.leave_open(&settling.name, &settling.change);
                }
                SqlChange::Name(settling) => self.names.confirm(&settling.name, &settling.change),
                SqlChange::All if changes.failed => {}
                SqlChange::All => self.names.clear(),
            }
        }
    }

    fn on_error(&mut self, body: Option<&[u8]>, out: &mut Outbox) -> Fate {
        let copy = std::mem::replace(&mut self.copy, CopyIn::Nothing);
        // Whatever failed, and whoever sent it: it may have taken a transaction with it. (What the server says to several statements at
        // once outside of one is told apart where it is read.)
        if !matches!(self.replies.head(), Some(Expect::Rehearsal(..))) {
            self.meaning.failed();
        }
        if let Some(fate) = self.on_own_error(body, out) {
            return fate;
        }
        self.saw_error(body);
        self.guarded_error();
        let extended = match self.replies.head() {
            // Nothing was asked: the server ends the session.
            None => return Fate::Relay,
            Some(Expect::Query(changes, _)) => {
                if let Some(changes) = changes {
                    changes.failed = true;
                }
                false
            }
            Some(head) if head.ends_with_ready() => false,
            Some(_) => {
                self.skip_after_error();
                true
            }
        };
        if let CopyIn::Open(1..) | CopyIn::Ending(1..) = copy
            && !self.probing
        {
            self.probe(extended, out);
        }
        Fate::Relay
    }

    /// A COPY failed, or may have, after Syncs had been sent into it. Those the server had come to by then were ignored, each of
    /// the others will be answered. A failing message between two Syncs of the gate's own tells how many there are; if the
    /// COPY is still going on, it ends the session as the client's message would have.
    pub(super) fn probe(&mut self, skips: bool, out: &mut Outbox) {
        self.probing = true;
        let token = self.refusal_token();
        self.send_backend(frame::build(b'S', &[]), out);
        self.send_backend(frame::build(b'E', &[token.as_bytes(), b"\0", &[0; 4]]), out);
        self.send_backend(frame::build(b'S', &[]), out);
        self.replies.push(Expect::Probe(Box::new(Probe { token, status: None, passed: 0, skips })));
        self.replies.push(Expect::OwnSync(self.names.last_bind()));
        // While a frame is half-way through, its rest is still taken: the question follows it.
        if matches!(self.waiting, Waiting::Nothing) && !self.from_client.is_mid_frame() {
            self.waiting = Waiting::CatchUp;
        }
    }

    /// The error the gate made the backend raise becomes the gate's own; anything else there (the server going down) passes.
    fn on_own_error(&mut self, body: Option<&[u8]>, out: &mut Outbox) -> Option<Fate> {
        let message = body.and_then(|body| backend::report_field(body, b'M'));
        let raised = |token: &str| message.is_some_and(|message| contains(message, token.as_bytes()));
        let refused = match self.replies.head()? {
            Expect::Probe(probe) => {
                if !raised(&probe.token) {
                    // Of a malformed Sync of the client's, before the gate's own: the answer kept back is the client's too.
                    // (Or the last word of a server that goes, behind which nothing matters.)
                    if let Some(before) = probe.status.take().filter(|_| !is_last_word(body)) {
                        probe.passed = probe.passed.saturating_add(1);
                        self.send_client(ready_for_query(before).to_vec(), out);
                    }
                    return Some(Fate::Relay);
                }
                self.skip = probe.skips && probe.passed == 0;
                self.probing = false;
                self.replies.pop();
                return Some(Fate::Swallow);
            }
            Expect::Rehearsal(..) => return Some(self.on_rehearsal_error(body)),
            Expect::Asking(_) => return Some(self.on_asking_error()),
            Expect::Errand(_) => return Some(self.errand_failed(body)),
            Expect::OwnClose => {
                // Fail closed: the portal may live on. Cannot happen: Close does not fail (but the server may go).
                if !is_last_word(body) {
                    self.lost_count();
                }
                return Some(Fate::Relay);
            }
            Expect::Refused(refusal) => (true, refusal),
            Expect::RefusedQuery(refusal, _) => (false, refusal),
            Expect::Query(..)
            | Expect::Parse(_)
            | Expect::Bind(_)
            | Expect::Describe
            | Expect::Execute(..)
            | Expect::Close(_)
            | Expect::Sync(_)
            | Expect::FunctionCall(_)
            | Expect::OwnDescribe(_)
            | Expect::OwnSync(_) => return None,
        };
        let (extended, refusal) = refused;
        let report = raised(&refusal.token).then(|| refusal.report.to_bytes());
        if extended {
            self.skip_after_error();
        }
        Some(match report {
            Some(bytes) => {
                self.send_client(bytes, out);
                Fate::Swallow
            }
            None => Fate::Relay,
        })
    }

    /// The server refuses a text before people are asked about it, as it would without the gate: the client is told, and nobody
    /// else. All but one of these errors would come from the Query as well.
    fn on_rehearsal_error(&mut self, body: Option<&[u8]>) -> Fate {
        let field = |name| body.and_then(|body| backend::report_field(body, name));
        // "cannot insert multiple commands into a prepared statement" (`exec_parse_message`); a syntax error has a position.
        let several = field(b'C') == Some(b"42601") && field(b'P').is_none();
        let unharmed = several && self.status == b'I' && !is_last_word(body);
        let Some(Expect::Rehearsal(rehearsal, _)) = self.replies.head() else { return Fate::Relay };
        if rehearsal.parsed && !is_last_word(body) {
            // Fail closed: the text may have stayed behind on the server, under a name that the client can bind. Cannot happen:
            // Close of what is there does not fail.
            self.close(Report::fatal(
                "58000",
                "querygate: the server refused to forget a statement the gate asked it about",
            ));
            return Fate::Swallow;
        }
        rehearsal.refused = !unharmed;
        if !unharmed {
            self.meaning.failed();
        }
        if unharmed { Fate::Swallow } else { Fate::Relay }
    }

    /// The session has told of itself.
    fn asked(&mut self) {
        self.asking = false;
        if let Some(Expect::Asking(asking)) = self.replies.pop() {
            self.at_front.setting = Some(asking.setting());
        }
    }

    /// The session could not say who it is: it was cancelled, or its time was up. That is the answer to what is at the front, which then
    /// is not run: an error of the server's that nobody was told of would leave the client's transaction failed for no reason.
    fn on_asking_error(&mut self) -> Fate {
        self.asking = false;
        if let Some(Expect::Asking(asking)) = self.replies.pop() {
            match asking.query {
                Some(text) => {
                    // The Sync behind it ends the Query that is not sent.
                    self.replies.disclose_sync();
                    self.at_front.rehearsed = Some(Rehearsed { text, refused: true });
                }
                // The client's own Sync is to come.
                None => self.skip = true,
            }
        }
        Fate::Relay
    }

    /// The server skips to the next Sync: what was sent before it will have no answer.
    fn skip_after_error(&mut self) {
        let names = &mut self.names;
        let stopped = self.replies.skip_to_sync(|dropped| match dropped {
            Expect::Parse(settling) => names.fail(&settling.name, &settling.change),
            Expect::Close(Some(settling)) => names.fail(&settling.name, &settling.change),
            Expect::Bind(Some((portal, number))) => names.unbound(&portal, number),
            Expect::Execute(Some(changes), _) | Expect::Query(Some(changes), _) => {
                for change in changes.changes {
                    // Whether the server came to it before the error is not known here.
                    if let SqlChange::Name(settling) = change {
                        names.leave_open(&settling.name, &settling.change);
                    }
                }
            }
            Expect::Query(None, _)
            | Expect::Bind(None)
            | Expect::Describe
            | Expect::Execute(None, _)
            | Expect::Close(None)
            | Expect::Sync(_)
            | Expect::FunctionCall(_)
            | Expect::OwnDescribe(_)
            | Expect::OwnClose
            | Expect::OwnSync(_)
            | Expect::Probe(_)
            | Expect::Rehearsal(..)
            | Expect::Asking(_)
            | Expect::Errand(_)
            | Expect::Refused(_)
            | Expect::RefusedQuery(..) => {}
        });
        // A Sync of the client's own is on its way: skipping ends there. Otherwise what the client sends next is skipped.
        if !matches!(stopped, Some(Expect::Sync(_))) {
            self.skip = true;
        }
    }

    fn on_ready(&mut self, body: Option<&[u8]>, out: &mut Outbox) -> Fate {
        if self.is_authenticating() {
            self.auth_done();
            return Fate::Relay;
        }
        let status = match body {
            Some(&[status]) => status,
            _ => self.status,
        };
        if let Some(Expect::Probe(probe)) = self.replies.head() {
            if let Some(before) = probe.status.replace(status) {
                probe.passed = probe.passed.saturating_add(1);
                self.send_client(ready_for_query(before).to_vec(), out);
            }
            self.status = status;
            return Fate::Swallow;
        }
        self.copy = CopyIn::Nothing;
        let ends_query = matches!(self.replies.head(), Some(Expect::Query(..)));
        let (own, binds) = match self.replies.pop() {
            Some(Expect::Query(changes, binds)) => {
                if let Some(changes) = changes {
                    self.settle_sql(*changes);
                }
                (false, binds)
            }
            Some(Expect::OwnSync(binds)) => (true, binds),
            Some(Expect::Rehearsal(rehearsal, binds)) => {
                let refused = rehearsal.refused;
                self.at_front.rehearsed = Some(Rehearsed { text: rehearsal.text, refused });
                (!refused, binds)
            }
            // A portal bound behind the message is not of the transaction that ended with it.
            Some(Expect::Sync(binds) | Expect::FunctionCall(binds) | Expect::RefusedQuery(_, binds)) => (false, binds),
            _ => {
                self.lost_count();
                (false, 0)
            }
        };
        self.status = status;
        if status == b'I' {
            self.names.end_transaction(binds);
            self.meaning.ends_transaction();
        }
        if self.replies.is_empty() {
            self.opaque = false;
            self.names.settle();
            if status == b'I' {
                self.meaning.idle();
                self.forget_portals();
            }
        }
        if let Some(fate) = self.guarded_ready(own, ends_query, out) {
            return fate;
        }
        self.saw_ready(ends_query, status);
        if own { Fate::Swallow } else { Fate::Relay }
    }

    fn on_parameter_status(&mut self, body: Option<&[u8]>) -> Fate {
        let Some((name, value)) = body.and_then(backend::parameter_status) else {
            return Fate::Relay;
        };
        let strings_differ = name == b"standard_conforming_strings" && value != b"on";
        if strings_differ || name != b"application_name" && !self.is_authenticating() {
            // Whatever changed it, and whatever else it changed unseen.
            self.meaning.unknown();
        }
        if name == b"client_encoding" {
            self.utf8 = value.eq_ignore_ascii_case(b"UTF8");
        }
        match name {
            b"application_name" => {
                let name = String::from_utf8_lossy(value).into_owned();
                self.act(Action::ApplicationName(name));
            }
            b"client_encoding" if !is_transparent_encoding(value) && self.phase != Phase::Refusing => {
                // Fail closed: text in such an encoding can read differently for the server than for the gate.
                self.close(
                    Report::fatal(
                        "22023",
                        format!(
                            "querygate: client_encoding {} is not allowed through the gate",
                            String::from_utf8_lossy(value)
                        ),
                    )
                    .with_detail("In this encoding a byte of a character can be a backslash or a quote, so the gate could misread a statement.")
                    .with_hint("Use UTF8."),
                );
            }
            _ => {}
        }
        Fate::Relay
    }
}

/// Encodings in which every byte of a multi-byte character has its high bit set, so that ASCII means ASCII
/// (PostgreSQL documentation, "Supported Character Sets"). Client-only encodings are the ones that lack this.
fn is_transparent_encoding(name: &[u8]) -> bool {
    const OTHERS: [&[u8]; 7] = [b"SJIS", b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB", b"SHIFT_JIS_2004"];
    !OTHERS.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// SET LOCAL outside of a transaction block (`WarnNoTransactionBlock`); it holds until the Sync all the same.
fn warns_of_set_local(body: Option<&[u8]>) -> bool {
    body.and_then(|body| backend::report_field(body, b'C')) == Some(b"25P01")
}

/// The server ends the session with this error.
pub(super) fn is_last_word(body: Option<&[u8]>) -> bool {
    let severity =
        body.and_then(|body| backend::report_field(body, b'V').or_else(|| backend::report_field(body, b'S')));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}
