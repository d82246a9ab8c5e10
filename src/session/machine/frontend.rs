//! The client's messages: what passes, what waits, what is refused.

mod extended;
mod guarded;
mod measured;
mod reports;
mod waiting;

use std::sync::Arc;

use self::reports::{pinned, rejected_by_rule};
use super::guard::How;
use super::held::{HeldKind, digest};
use super::meaning::{self, Ran};
use super::names::{Change, Definition, acts, may_copy_in};
use super::params;
use super::replies::{Expect, Settling, SqlChange, SqlChanges};
use super::{Action, Analysed, AtFront, CopyIn, Judging, Machine, Outbox, Phase, Reading, Ruling, Waiting};
use crate::judge::{self, Analysis, EffectKind, Judgement, Piece, SessionAct};
use crate::wire::frame::{self, Peek};
use crate::wire::frontend::{self, Malformed};
use crate::wire::reply::Report;

/// What becomes of the frame at the front.
enum Step {
    /// It goes on, as far as it is here; the rest follows as it comes.
    Forward,
    /// It is dropped, likewise.
    Drop,
    /// It waits; nothing is consumed.
    Stay,
}

/// A frame at the front of the client's bytes, perhaps not all here.
#[derive(Clone, Copy)]
struct Front<'a> {
    tag: u8,
    /// Its length, header included.
    total: usize,
    /// What is here of it.
    bytes: &'a [u8],
}

impl<'a> Front<'a> {
    fn body(self) -> &'a [u8] {
        self.bytes.get(frame::HEADER..).unwrap_or_default()
    }

    fn is_whole(self) -> bool {
        self.bytes.len() == self.total
    }
}

impl Machine {
    /// Handles the client's bytes, from the first one not yet consumed. Returns how many are consumed now; the rest must
    /// be handed over again, followed by what comes behind it.
    pub fn handle_frontend(&mut self, input: &[u8], judging: &mut dyn Judging, out: &mut Outbox) -> usize {
        let mut at = 0;
        loop {
            let asked = self.from_client.advance(&mut at, input.len(), &mut out.backend);
            let between = self.from_client.is_between_frames();
            if asked {
                // What waited for the end of the frame was a question, whose answer is needed before anything else.
                self.waiting = Waiting::CatchUp;
            }
            if between && std::mem::take(&mut self.settle) {
                self.await_answers(out);
            }
            if !between || self.is_waiting() {
                return at;
            }
            let rest = input.get(at..).unwrap_or_default();
            match self.phase {
                Phase::Authenticating(_) => return self.auth_frames(input, at, out),
                // Nothing more is forwarded; what the client still sends is read and dropped.
                Phase::Refusing => return input.len(),
                Phase::Ready => {}
            }
            if self.terminated {
                return input.len();
            }
            let Some(front) = self.front(rest, out) else {
                return at;
            };
            let step = self.frontend_frame(front, judging, out);
            match step {
                Step::Forward => self.from_client.pass(front.total),
                Step::Drop => self.from_client.discard(front.total),
                Step::Stay => return at,
            }
            self.at_front = AtFront::default();
        }
    }

    /// The next frame, if enough of it is here to know what it is.
    fn front<'a>(&mut self, rest: &'a [u8], out: &mut Outbox) -> Option<Front<'a>> {
        match frame::peek_frontend(rest) {
            Peek::Incomplete => None,
            Peek::Frame { tag, total } => Some(Front { tag, total, bytes: rest.get(..total).unwrap_or(rest) }),
            Peek::BadLength { .. } => {
                // The server refuses the length before it reads a body ("invalid message length") and ends the session.
                self.send_backend(rest.get(..frame::HEADER).unwrap_or_default().to_vec(), out);
                self.phase = Phase::Refusing;
                None
            }
            Peek::UnknownTag { tag } => {
                // The server ends the session on the type byte alone (`SocketBackend`, "invalid frontend message type").
                self.send_backend(frame::build(tag, &[]), out);
                self.phase = Phase::Refusing;
                None
            }
        }
    }

    fn frontend_frame(&mut self, front: Front<'_>, judging: &mut dyn Judging, out: &mut Outbox) -> Step {
        if matches!(self.copy, CopyIn::Open(_)) && !matches!(front.tag, b'd' | b'c' | b'f' | b'H' | b'S' | b'X') {
            // The server, reading COPY data, ends the session on such a message (`CopyGetData`). But the COPY may have failed
            // already, and then it is an ordinary message: the gate asks with one of its own.
            let extended = matches!(self.replies.head(), Some(Expect::Execute(..)));
            self.probe(extended, out);
            return Step::Stay;
        }
        if let Some(step) = self.beside_guard(front, out) {
            return step;
        }
        if !self.skip {
            self.part_with_portal(front.tag, front.body(), front.is_whole(), out);
        }
        match front.tag {
            b'X' => {
                self.terminated = true;
                Step::Forward
            }
            b'S' => self.on_sync(front, out),
            _ if self.skip => Step::Drop,
            b'Q' => self.on_query(front, judging, out),
            b'P' => self.on_parse(front, judging, out),
            b'B' => self.on_bind(front, judging, out),
            b'E' => self.on_execute(front, out),
            b'D' => self.on_describe(front, out),
            b'C' => self.on_close(front, out),
            // Reading COPY data the server drops a Flush unread, whatever its body is, and answers nothing (`CopyGetData`).
            // Where the COPY has failed meanwhile, it is not there to be refused either.
            b'H' if matches!(self.copy, CopyIn::Open(_)) && front.total != frame::HEADER => Step::Drop,
            b'H' => self.checked(front, out, |body| frontend::empty(body).map(|()| None)),
            b'c' | b'f' => {
                if let CopyIn::Open(syncs) = self.copy {
                    self.copy = CopyIn::Ending(syncs);
                    self.settle = true;
                }
                Step::Forward
            }
            // Outside COPY the server drops CopyData unread (`PostgresMain`), so it needs no judging anywhere.
            b'd' => Step::Forward,
            b'F' => self.on_function_call(out),
            // `peek_frontend` lets no other type through.
            _ => Step::Stay,
        }
    }

    fn on_sync(&mut self, front: Front<'_>, out: &mut Outbox) -> Step {
        if !front.is_whole() {
            return Step::Stay;
        }
        if let CopyIn::Open(syncs) = self.copy {
            // Dropped unread by the server like a Flush, unless the COPY has failed: then each is answered, also a
            // malformed one, which the question asked then allows for.
            self.copy = CopyIn::Open(syncs.saturating_add(1));
        } else {
            self.replies.push(Expect::Sync(self.names.last_bind()));
            self.end_batch();
            self.skip = false;
        }
        // The type byte alone ends skipping (`SocketBackend`), whatever the body is.
        match frontend::empty(front.body()) {
            Ok(()) => Step::Forward,
            Err(_) if self.is_set_for_session() => {
                self.lost_count();
                Step::Drop
            }
            Err(how) => {
                self.send_backend(frontend::malformed_twin(front.tag, how), out);
                Step::Drop
            }
        }
    }

    fn end_batch(&mut self) {
        self.meaning.ends_batch();
        self.batch.number = self.batch.number.wrapping_add(1);
        self.batch.open = false;
        self.batch.ran = false;
    }

    /// A small message of the extended protocol that needs no judging: strictly read, then forwarded.
    fn checked(
        &mut self,
        front: Front<'_>,
        out: &mut Outbox,
        read: impl FnOnce(&[u8]) -> Result<Option<Expect>, Malformed>,
    ) -> Step {
        if !front.is_whole() {
            return Step::Stay;
        }
        match read(front.body()) {
            Ok(expect) => {
                if let Some(expect) = expect {
                    self.replies.push(expect);
                    self.batch.open = true;
                }
                Step::Forward
            }
            Err(how) => self.malformed(front, how, out),
        }
    }

    /// Something is set for the session while a statement runs. Fail closed: where a malformed message comes between, it might stay, so the
    /// session ends instead.
    fn is_set_for_session(&self) -> bool {
        self.guard.as_ref().is_some_and(|guarding| guarding.plan.how == How::Session)
    }

    /// A body that does not fit its fields: the server is given an equally wrong one without the client's content.
    fn malformed(&mut self, front: Front<'_>, how: Malformed, out: &mut Outbox) -> Step {
        if self.is_set_for_session() {
            self.lost_count();
            return Step::Drop;
        }
        self.send_backend(frontend::malformed_twin(front.tag, how), out);
        let expect = match front.tag {
            b'Q' => Expect::Query(None, self.names.last_bind()),
            b'F' => Expect::FunctionCall(self.names.last_bind()),
            _ => {
                self.batch.open = true;
                Expect::Describe
            }
        };
        self.replies.push(expect);
        Step::Drop
    }

    fn on_query(&mut self, front: Front<'_>, judging: &mut dyn Judging, out: &mut Outbox) -> Step {
        if let Some(held) = self.take_released(front) {
            let held = match self.under_guard(held, out) {
                Ok(held) => held,
                Err(step) => return step,
            };
            return match held.kind {
                HeldKind::Query(analysis) => {
                    self.watch_query();
                    let text = frontend::query(front.body()).unwrap_or_default();
                    let identity = meaning::identity(text, &analysis, None);
                    let ran = self.meaning.runs_held(identity, text, None);
                    self.guarded_goes(None);
                    self.forward_query(&analysis, front, ran)
                }
                HeldKind::Bind { .. } => self.mismatch(out, Machine::refuse_query),
            };
        }
        if let Some(step) = self.not_yet_whole(front, out, Machine::refuse_query) {
            return step;
        }
        let text = match frontend::query(front.body()) {
            Ok(text) => text,
            Err(how) => return self.malformed(front, how, out),
        };
        if self.is_answered(text) {
            return Step::Drop;
        }
        if self.settings.replication && is_replication_command(text) {
            self.replies.push(Expect::Query(None, self.names.last_bind()));
            // It may start a COPY in both directions.
            self.settle = true;
            self.meaning.unknown();
            return Step::Forward;
        }
        match self.read(text, judging) {
            Some((analysis, Ruling::Allow | Ruling::Notice(_) | Ruling::Hold(_)))
                if self.names.changes_pinned(&analysis) =>
            {
                // A portal may turn out to have run, or never to have been bound.
                if !self.caught_up(None, out) {
                    self.at_front.analysed = Some(Analysed { text: digest(text), analysis, ahead: false });
                    return Step::Stay;
                }
                self.refuse_query(pinned(), out);
                Step::Drop
            }
            Some((analysis, ruling @ (Ruling::Allow | Ruling::Notice(_)))) => {
                if self.depends_on_status(&analysis, judging) {
                    self.at_front.analysed = Some(Analysed { text: digest(text), analysis, ahead: false });
                    self.caught_up(None, out);
                    return Step::Stay;
                }
                if matches!(ruling, Ruling::Allow) {
                    judging.passed(text, &analysis, self.in_transaction());
                }
                self.pass_query(text, &analysis, ruling, front)
            }
            Some((_, Ruling::Reject(judgement))) => {
                self.refuse_query(rejected_by_rule(&judgement), out);
                Step::Drop
            }
            Some((analysis, Ruling::Hold(judgement))) => {
                self.hold_query(front, text, analysis, *judgement, judging, out)
            }
            None => Step::Stay,
        }
    }

    fn hold_query(
        &mut self,
        front: Front<'_>,
        text: &[u8],
        analysis: Arc<Analysis>,
        judgement: Judgement,
        judging: &mut dyn Judging,
        out: &mut Outbox,
    ) -> Step {
        if !self.caught_up(None, out) {
            return Step::Stay;
        }
        if self.server_refuses(&analysis) {
            return self.forward_query(&analysis, front, Ran::Other);
        }
        if !judging.runs_when_parsed(&analysis)
            && let Some(step) = self.rehearse(text, &analysis, out)
        {
            return step;
        }
        if !self.knows_setting(Some(text), out) {
            return Step::Stay;
        }
        let mut draft = self.draft(text, Vec::new(), &analysis, judgement);
        let identity = meaning::identity(text, &analysis, None).filter(|_| !self.doubts_encoding_of(text));
        draft.standing = self.meaning.standing(text, &analysis, identity);
        self.hold(front, HeldKind::Query(analysis), draft, judging, out)
    }

    fn pass_query(&mut self, text: &[u8], analysis: &Arc<Analysis>, ruling: Ruling, front: Front<'_>) -> Step {
        if let Ruling::Notice(judgement) = ruling {
            self.notice(text, Vec::new(), analysis, *judgement);
        }
        self.forward_query(analysis, front, meaning::of(text, analysis))
    }

    /// Allowed as things are known, but answers are outstanding that may open or end a transaction, and then it would not be.
    fn depends_on_status(&self, analysis: &Analysis, judging: &mut dyn Judging) -> bool {
        self.replies.may_change_status()
            && !matches!(judging.decide(analysis, !self.in_transaction(), &self.names), Ruling::Allow)
    }

    /// The transaction has failed, so the server refuses the text as it stands (25P02, `exec_simple_query` and
    /// `exec_bind_message`): nobody needs to be asked.
    ///
    /// What ends the transaction is carried out all the same (`IsTransactionExitStmt`), and what follows it in the same text
    /// then runs. So every piece must be of a kind that surely does not, and nothing that bears on the session.
    fn server_refuses(&self, analysis: &Analysis) -> bool {
        let stays_in_it =
            |piece: &Piece| piece.acts.is_empty() && piece.effects.iter().all(|effect| is_plain(effect.kind));
        self.status == b'E'
            && self.replies.is_empty()
            && !self.batch.ran
            && !analysis.pieces.is_empty()
            && analysis.pieces.iter().all(stays_in_it)
    }

    /// Reads a text, or sends it to be analysed elsewhere.
    fn read(&mut self, text: &[u8], judging: &mut dyn Judging) -> Option<(Arc<Analysis>, Ruling)> {
        let in_transaction = self.in_transaction();
        let known = self.at_front.analysed.take().filter(|known| known.text == digest(text));
        let reading = match known {
            Some(Analysed { analysis, ahead: true, .. }) => {
                judging.conclude(text, analysis, in_transaction, &self.names)
            }
            Some(Analysed { analysis, .. }) => {
                let ruling = judging.decide(&analysis, in_transaction, &self.names);
                Reading::Judged(analysis, ruling)
            }
            None => judging.judge(text, in_transaction, &self.names),
        };
        let (analysis, ruling) = match reading {
            Reading::Judged(analysis, ruling) => (analysis, ruling),
            Reading::Elsewhere => {
                self.analyse_elsewhere(text);
                return None;
            }
            Reading::Ahead => {
                self.waiting = Waiting::Analysis { text: digest(text), ahead: true };
                self.act(Action::AskAhead { text: text.to_vec(), in_transaction });
                return None;
            }
        };
        if matches!(ruling, Ruling::Allow | Ruling::Notice(_))
            && let Some(why) = self.doubt_in_encoding_of(text)
        {
            let analysis = Arc::new(params::doubtful_encoding(why, &analysis));
            let ruling = judging.decide(&analysis, in_transaction, &self.names);
            return Some((analysis, ruling));
        }
        Some((analysis, ruling))
    }

    fn analyse_elsewhere(&mut self, text: &[u8]) {
        self.waiting = Waiting::Analysis { text: digest(text), ahead: false };
        self.act(Action::Analyse(text.to_vec()));
    }

    /// Why `text` may be another one to the server. ASCII reads the same in every client encoding; other text then counts as unknown.
    fn doubt_in_encoding_of(&self, text: &[u8]) -> Option<&'static str> {
        if text.is_ascii() {
            None
        } else if self.opaque {
            // It may have changed `client_encoding`, which is only reported at the next ReadyForQuery.
            Some(
                "a function the gate cannot see through was called earlier in this pipeline, so the encoding of this text is not certain",
            )
        } else if !self.utf8 && judge::has_foreign_names(text) {
            Some("it has names beyond ASCII in another client_encoding than UTF8, in which they are not read here")
        } else {
            None
        }
    }

    fn doubts_encoding_of(&self, text: &[u8]) -> bool {
        self.doubt_in_encoding_of(text).is_some()
    }

    /// What people are shown of the bytes is what the server reads: it takes the client's text for UTF-8, or they are ASCII.
    fn shows_as_utf8(&self, bytes: &[u8]) -> bool {
        bytes.is_ascii() || self.reads_utf8()
    }

    /// The server takes the client's text for UTF-8, and nothing unseen may have changed that.
    fn reads_utf8(&self) -> bool {
        self.utf8 && !self.opaque
    }

    fn forward_query(&mut self, analysis: &Arc<Analysis>, front: Front<'_>, ran: Ran) -> Step {
        let text = frontend::query(front.body()).unwrap_or_default();
        self.meaning.runs(ran);
        self.meaning.sends(text, analysis);
        self.replaces_portal(b"");
        let changes = self.note_acts(analysis, text);
        self.opaque |= analysis.opaque;
        self.settle |= may_copy_in(analysis);
        self.replies.push(Expect::Query(changes, self.names.last_bind()));
        // A Query ends whatever batch was open without a Sync: ReadyForQuery follows it.
        self.batch.ran = false;
        self.batch.open = false;
        Step::Forward
    }

    /// Notes what a message about to run does to names and to the session's reason.
    fn note_acts(&mut self, analysis: &Analysis, text: &[u8]) -> Option<Box<SqlChanges>> {
        let mut changes = SqlChanges::default();
        self.note_changes(analysis, text, &mut changes);
        // By way of EXECUTE: perhaps.
        for definition in self.names.executed(analysis).into_values().flatten() {
            changes.failed = true;
            self.note_changes(&definition.analysis, &definition.text, &mut changes);
        }
        (!changes.changes.is_empty()).then(|| Box::new(changes))
    }

    fn note_changes(&mut self, analysis: &Analysis, text: &[u8], changes: &mut SqlChanges) {
        for act in acts(analysis) {
            let (name, change) = match act {
                SessionAct::Prepare { name, body } => {
                    let definition = Definition::new(text, Arc::clone(body), Vec::new());
                    (name, Change::Define(definition))
                }
                SessionAct::Deallocate { name: Some(name) } => (name, Change::Drop),
                SessionAct::Deallocate { name: None } => {
                    changes.changes.push(SqlChange::All);
                    continue;
                }
                SessionAct::SetReason { reason } => {
                    self.reason = (!reason.is_empty()).then(|| reason.as_str().into());
                    continue;
                }
                SessionAct::Execute { .. } | SessionAct::CopyIn | SessionAct::EndTransaction => continue,
            };
            let name: Box<[u8]> = name.as_bytes().into();
            // One name too many is not noted, so that it counts as unknown when it is executed.
            let _ = self.names.send(&name, None, change.clone());
            changes.changes.push(SqlChange::Name(Settling { name, change }));
        }
    }

    fn on_function_call(&mut self, out: &mut Outbox) -> Step {
        if !self.settings.allow_function_call {
            let report = Report::error(
                "0A000",
                "querygate: the FunctionCall message is not allowed through the gate",
            )
            .with_detail("It calls a function by number, so the gate cannot tell people what would run.")
            .with_hint("Call the function with SELECT, or set limits.allow_function_call = true in the gate's configuration.");
            self.refuse_query(report, out);
            return Step::Drop;
        }
        self.opaque = true;
        self.meaning.unknown();
        self.replies.push(Expect::FunctionCall(self.names.last_bind()));
        Step::Forward
    }
}

/// No statement with such effects alone can end a transaction.
fn is_plain(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Read
        | EffectKind::Insert
        | EffectKind::Update
        | EffectKind::Delete
        | EffectKind::Merge
        | EffectKind::Truncate
        | EffectKind::Drop
        | EffectKind::Alter
        | EffectKind::Create
        | EffectKind::Privilege
        | EffectKind::Code
        | EffectKind::CopyServerFile
        | EffectKind::LargeObject => true,
        // Fail closed: PREPARE TRANSACTION is of the first of these.
        EffectKind::Admin
        | EffectKind::ReadingSetting
        | EffectKind::SensitiveSetting
        | EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::Execute
        | EffectKind::Unparsed
        | EffectKind::Disagreement
        | EffectKind::Unknown => false,
    }
}

/// Portal and statement names together, at most.
const MAX_NAMES_BYTES: usize = 64 << 10;

fn merge(one: Option<Box<SqlChanges>>, other: Option<Box<SqlChanges>>) -> Option<Box<SqlChanges>> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.changes.extend(other.changes);
            one.failed |= other.failed;
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

/// Commands of the replication grammar (`src/backend/replication/repl_scanner.l`,
/// `replication_scanner_is_replication_command`): the first word decides, anything else is read as SQL.
fn is_replication_command(text: &[u8]) -> bool {
    const COMMANDS: [&str; 9] = [
        "IDENTIFY_SYSTEM",
        "READ_REPLICATION_SLOT",
        "BASE_BACKUP",
        "CREATE_REPLICATION_SLOT",
        "DROP_REPLICATION_SLOT",
        "ALTER_REPLICATION_SLOT",
        "START_REPLICATION",
        "TIMELINE_HISTORY",
        "UPLOAD_MANIFEST",
    ];
    let word_end = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_')).unwrap_or(text.len());
    let word = text.get(..word_end).unwrap_or_default();
    COMMANDS.iter().any(|command| command.as_bytes().eq_ignore_ascii_case(word))
}
