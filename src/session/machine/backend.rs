//! The backend's messages: they pass untouched but for the answers to what the gate itself sent.

use super::names::Change;
use super::replies::{CopyStart, Expect, SqlChange, SqlChanges};
use super::{Action, Machine, Outbox, Phase, Rest, Waiting};
use crate::wire::backend;
use crate::wire::frame::{self, Peek};
use crate::wire::reply::Report;

/// Messages whose content the gate reads are read whole up to this size; a longer one passes unread.
const MAX_READ: usize = 1 << 20;

/// What becomes of a backend message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Relay,
    Swallow,
}

impl Machine {
    /// Handles the backend's bytes. Returns how many are consumed; the rest must be handed over again, followed by what
    /// comes behind it. Afterwards the driver hands over the client's bytes again, if it kept any.
    pub fn handle_backend(&mut self, input: &[u8], out: &mut Outbox) -> usize {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let moved = match self.backend_rest {
                Rest::Pass(left) => {
                    let count = left.min(rest.len());
                    out.relay(at..at.saturating_add(count));
                    self.backend_rest =
                        if count == left { Rest::Nothing } else { Rest::Pass(left.saturating_sub(count)) };
                    count
                }
                Rest::Discard(left) => {
                    let count = left.min(rest.len());
                    self.backend_rest =
                        if count == left { Rest::Nothing } else { Rest::Discard(left.saturating_sub(count)) };
                    count
                }
                Rest::Nothing => 0,
            };
            at = at.saturating_add(moved);
            if self.backend_rest != Rest::Nothing {
                break;
            }
            let rest = input.get(at..).unwrap_or_default();
            let Some((tag, total)) = self.backend_front(rest) else {
                break;
            };
            if matches!(tag, b'D' | b'd') {
                self.backend_rest = Rest::Pass(total);
                continue;
            }
            let whole = rest.get(..total);
            if whole.is_none() && total <= MAX_READ && self.reads(tag) {
                break;
            }
            let body = whole.and_then(|whole| whole.get(frame::HEADER..));
            self.backend_rest = match self.backend_frame(tag, body, out) {
                Fate::Relay => Rest::Pass(total),
                Fate::Swallow => Rest::Discard(total),
            };
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
            b'E' => matches!(self.replies.head(), Some(Expect::Refused(_) | Expect::RefusedQuery(_))),
            b't' => matches!(self.replies.head(), Some(Expect::OwnDescribe(_))),
            _ => false,
        }
    }

    /// `body` is there when the message is here whole.
    fn backend_frame(&mut self, tag: u8, body: Option<&[u8]>, out: &mut Outbox) -> Fate {
        match tag {
            b'Z' => self.on_ready(body),
            b'E' => self.on_error(body, out),
            b'S' => self.on_parameter_status(body),
            b'K' => {
                if let Some((pid, key)) = body.and_then(backend::key_data) {
                    let key = key.to_vec();
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
            b'1' | b'2' | b'3' | b'C' | b'I' | b's' | b't' | b'T' | b'n' => self.on_answer(tag, body),
            b'G' | b'W' => {
                if self.replies.enter_copy_in() == CopyStart::Open {
                    self.copy_in = true;
                    // A statement waiting for earlier answers would wait for ever: in COPY the server refuses it.
                    if matches!(self.waiting, Waiting::CatchUp) {
                        self.waiting = Waiting::Nothing;
                    }
                }
                Fate::Relay
            }
            // Notices, notifications, CopyOut, CopyDone, function results and whatever newer servers send.
            _ => Fate::Relay,
        }
    }

    /// Closing answers of the extended protocol.
    fn on_answer(&mut self, tag: u8, body: Option<&[u8]>) -> Fate {
        let Some(head) = self.replies.head() else {
            return Fate::Relay;
        };
        match (tag, &mut *head) {
            (b't', Expect::OwnDescribe(settling)) => {
                if let (Some(types), Change::Define(definition)) =
                    (body.and_then(backend::parameter_description), &settling.change)
                {
                    // Set once: a second answer for the same definition says the same.
                    let _ = definition.described.set(types);
                }
                Fate::Swallow
            }
            (b'T' | b'n', Expect::OwnDescribe(_)) => {
                if let Some(Expect::OwnDescribe(settling)) = self.replies.pop()
                    && is_unseen(&settling.change)
                {
                    self.names.confirm(&settling.name, &settling.change);
                }
                Fate::Swallow
            }
            (b'1', Expect::Parse(_))
            | (b'2', Expect::Bind(_))
            | (b'3', Expect::Close(_))
            | (b'T' | b'n', Expect::Describe)
            | (b'C' | b'I' | b's', Expect::Execute(_)) => {
                self.answered();
                Fate::Relay
            }
            _ => Fate::Relay,
        }
    }

    /// The head was answered with success.
    fn answered(&mut self) {
        match self.replies.pop() {
            Some(Expect::Parse(settling)) => self.names.confirm(&settling.name, &settling.change),
            Some(Expect::Close(Some(settling))) => {
                self.names.confirm(&settling.name, &settling.change);
            }
            Some(Expect::Bind(Some((portal, number)))) => self.names.bound(&portal, number),
            Some(Expect::Execute(Some(changes))) => self.settle_sql(*changes),
            _ => {}
        }
    }

    fn settle_sql(&mut self, changes: SqlChanges) {
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
        self.copy_in = false;
        if let Some(fate) = self.on_own_error(body, out) {
            return fate;
        }
        match self.replies.head() {
            None => Fate::Relay,
            Some(Expect::Query(changes)) => {
                if let Some(changes) = changes {
                    changes.failed = true;
                }
                Fate::Relay
            }
            Some(head) if head.ends_with_ready() => Fate::Relay,
            Some(_) => {
                self.skip_after_error();
                Fate::Relay
            }
        }
    }

    /// The error the gate made the backend raise becomes the gate's own; anything else there (the server going down) passes.
    fn on_own_error(&mut self, body: Option<&[u8]>, out: &mut Outbox) -> Option<Fate> {
        let extended = match self.replies.head()? {
            Expect::Refused(_) => true,
            Expect::RefusedQuery(_) => false,
            _ => return None,
        };
        let (Expect::Refused(refusal) | Expect::RefusedQuery(refusal)) = self.replies.head()? else {
            return None;
        };
        let message = body.and_then(|body| backend::report_field(body, b'M'));
        let raised = message.is_some_and(|message| contains(message, refusal.token.as_bytes()));
        let report = raised.then(|| refusal.report.to_bytes());
        if extended {
            self.skip_after_error();
        }
        Some(match report {
            Some(bytes) => {
                out.send_client(bytes);
                Fate::Swallow
            }
            None => Fate::Relay,
        })
    }

    /// The server skips to the next Sync: what was sent before it will have no answer.
    fn skip_after_error(&mut self) {
        let names = &mut self.names;
        let stopped = self.replies.skip_to_sync(|dropped| match dropped {
            Expect::Parse(settling) => names.fail(&settling.name, &settling.change),
            Expect::Close(Some(settling)) => names.fail(&settling.name, &settling.change),
            Expect::OwnDescribe(settling) if is_unseen(&settling.change) => {
                names.fail(&settling.name, &settling.change);
            }
            Expect::Execute(Some(changes)) | Expect::Query(Some(changes)) => {
                for change in changes.changes {
                    // Whether the server came to it before the error is not known here.
                    if let SqlChange::Name(settling) = change {
                        names.leave_open(&settling.name, &settling.change);
                    }
                }
            }
            _ => {}
        });
        // A Sync of the client's own is on its way: skipping ends there. Otherwise what the client sends next is skipped.
        if !matches!(stopped, Some(Expect::Sync)) {
            self.skip = true;
        }
    }

    fn on_ready(&mut self, body: Option<&[u8]>) -> Fate {
        if self.is_authenticating() {
            self.auth_done();
            return Fate::Relay;
        }
        self.copy_in = false;
        let own = loop {
            match self.replies.pop() {
                Some(Expect::Query(Some(changes))) => {
                    self.settle_sql(*changes);
                    break false;
                }
                Some(Expect::OwnSync) => break true,
                Some(expect) if expect.ends_with_ready() => break false,
                // Its answer never came: the count was off (a COPY that failed between two messages). Stay on the safe side.
                Some(_) => {}
                None => break false,
            }
        };
        if let Some(&[status]) = body {
            self.status = status;
        }
        if self.status == b'I' {
            self.names.end_transaction();
        }
        if self.replies.is_empty() {
            self.opaque = false;
            self.names.settle();
        }
        if own { Fate::Swallow } else { Fate::Relay }
    }

    fn on_parameter_status(&mut self, body: Option<&[u8]>) -> Fate {
        let Some((name, value)) = body.and_then(backend::parameter_status) else {
            return Fate::Relay;
        };
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

fn is_unseen(change: &Change) -> bool {
    match change {
        Change::Define(definition) => definition.is_unseen(),
        Change::Drop => false,
    }
}

/// Encodings in which every byte of a multi-byte character has its high bit set, so that ASCII means ASCII
/// (PostgreSQL documentation, "Supported Character Sets"). Client-only encodings are the ones that lack this.
fn is_transparent_encoding(name: &[u8]) -> bool {
    const OTHERS: [&[u8]; 7] = [b"SJIS", b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB", b"SHIFT_JIS_2004"];
    !OTHERS.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}
