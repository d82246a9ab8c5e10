//! A frame that stays at the front: until it is whole, analysed, the backend has caught up, or people have decided.

use std::sync::Arc;

use super::super::asking::Asking;
use super::super::held::with_raised;
use super::super::held::{Held, HeldKind, digest};
use super::super::names::Definition;
use super::super::replies::{Expect, Rehearsal};
use super::super::{Action, Analysed, Draft, Judging, Machine, Outbox, Waiting};
use super::reports::{in_transaction_report, too_long};
use super::{Front, Step};
use crate::hold::Standing;
use crate::judge::{Analysis, EffectKind, Judgement, Piece, is_plain_control};
use crate::wire::frame;
use crate::wire::reply::Report;

/// A longer text is not sent to the server twice.
const MAX_REHEARSED: usize = 1 << 20;

impl Machine {
    /// Whether the backend has answered everything. If not, it is asked to: what the client has sent so far is completed,
    /// and the statement is described if its parameter types are wanted.
    pub(super) fn caught_up(&mut self, describe: Option<(&[u8], &Arc<Definition>)>, out: &mut Outbox) -> bool {
        if let Some((name, definition)) = describe {
            self.send_backend(frame::build(b'D', &[b"S", name, b"\0"]), out);
            self.meaning.parses_definition(definition);
            self.replies.push(Expect::OwnDescribe(Arc::clone(definition)));
            self.batch.open = true;
        }
        if self.replies.is_empty() {
            return true;
        }
        self.await_answers(out);
        false
    }

    /// Asks the server to parse a text that is to be held, so that a slip of the pen is answered at once, as it is without the
    /// gate, and nobody is asked about what cannot run. `None`: it has been asked, and would take the text; or it is not asked.
    ///
    /// Parse runs nothing of the text (`exec_parse_message`) but what reads its literals. Like the Query to come it takes the unnamed statement away; the Close leaves no
    /// other in its place. The extended protocol needs none of this: there the client's own Parse is sent on before anything is
    /// held.
    pub(super) fn rehearse(&mut self, text: &[u8], analysis: &Analysis, out: &mut Outbox) -> Option<Step> {
        // To parse takes the locks of the tables named, until the transaction ends: not while people think. What is no SQL is
        // refused before that. And an error of the gate's own making must not end the client's transaction.
        let unparsed = |piece: &Piece| piece.effects.iter().any(|effect| effect.kind == EffectKind::Unparsed);
        let asks = match self.status {
            b'I' => true,
            b'T' => matches!(analysis.pieces.as_slice(), [only] if unparsed(only)),
            _ => false,
        };
        let is_asked = self.settings.parse_first
            && self.at_front.rehearsed.is_none()
            && !self.settings.replication
            && !self.batch.open
            && !self.batch.ran
            && asks
            && text.len() <= MAX_REHEARSED;
        if !is_asked {
            return None;
        }
        let mut messages = frame::build(b'P', &[b"\0", text, b"\0", &[0; 2]]);
        messages.extend(frame::build(b'C', &[b"S\0"]));
        messages.extend(frame::build(b'S', &[]));
        self.send_backend(messages, out);
        self.meaning.parses(text, None, analysis);
        let rehearsal = Rehearsal { text: digest(text), parsed: false, refused: false };
        self.replies.push(Expect::Rehearsal(Box::new(rehearsal), self.names.last_bind()));
        self.waiting = Waiting::CatchUp;
        Some(Step::Stay)
    }

    /// Asks the session for its role and `search_path`, which tell what a text means. `true`: that is done, or it is not asked.
    pub(super) fn knows_setting(&mut self, query: Option<&[u8]>, out: &mut Outbox) -> bool {
        // In a failed transaction it could not answer. And a Query that comes before the Sync of a batch ends the batch's
        // transaction, which a Sync of the gate's own would do too early.
        let asks = matches!(self.status, b'I' | b'T') && !(query.is_some() && self.batch.open);
        if !asks || !self.settings.ask_session || self.settings.replication || self.at_front.setting.is_some() {
            return true;
        }
        let name = self.own_name("asks");
        self.send_backend(Asking::messages(&name), out);
        self.replies.push(Expect::Asking(Box::new(Asking::new(query.map(digest)))));
        self.asking = true;
        self.batch.open = true;
        self.await_answers(out);
        false
    }

    /// The server has refused to parse the text at the front, and the client was told.
    pub(super) fn is_answered(&self, text: &[u8]) -> bool {
        self.at_front.rehearsed.as_ref().is_some_and(|rehearsed| rehearsed.refused && rehearsed.text == digest(text))
    }

    /// Nothing more of the client's is handled before the backend has answered what it was sent.
    pub(in super::super) fn await_answers(&mut self, out: &mut Outbox) {
        if self.replies.is_empty() {
            return;
        }
        if self.batch.ran {
            // Flush has no answer and changes nothing but when answers are sent.
            self.send_backend(frame::build(b'H', &[]), out);
        } else if self.batch.open {
            // Only Parse, Describe and Close so far: a Sync ends the implicit transaction they opened, so that nothing is
            // kept open on the server while people think. Its ReadyForQuery is swallowed.
            self.send_backend(frame::build(b'S', &[]), out);
            self.replies.push(Expect::OwnSync(self.names.last_bind()));
            self.end_batch();
        }
        self.waiting = Waiting::CatchUp;
    }

    pub(super) fn hold(
        &mut self,
        front: Front<'_>,
        kind: HeldKind,
        mut draft: Draft,
        judging: &mut dyn Judging,
        out: &mut Outbox,
    ) -> Step {
        draft.frame_bytes = front.total;
        if draft.judgement.examine {
            return self.measure(front, kind, draft, judging, out);
        }
        let refused = if draft.in_transaction && self.settings.reject_holds_in_transaction {
            Err(in_transaction_report(&draft.judgement))
        } else {
            self.plan(&draft, &kind, judging)
        };
        let plan = match refused {
            Ok(plan) => plan,
            Err(report) => {
                match kind {
                    HeldKind::Query(_) => self.refuse_query(report, out),
                    HeldKind::Bind { .. } => self.refuse_extended(report, out),
                }
                return Step::Drop;
            }
        };
        draft.guard = plan.as_ref().map(super::super::guard::Plan::sentence);
        self.open_hold(Box::new(Held::new(front.bytes, kind, plan)), draft);
        Step::Stay
    }

    pub(super) fn draft(
        &self,
        text: &[u8],
        parameters: Vec<crate::hold::Parameter>,
        analysis: &Arc<Analysis>,
        judgement: Judgement,
    ) -> Draft {
        Draft {
            text: text.into(),
            parameters,
            analysis: with_raised(self.with_executed(analysis), &judgement),
            judgement,
            in_transaction: self.in_transaction(),
            reason: analysis.reason.clone().or_else(|| self.reason.as_deref().map(str::to_owned)),
            standing: Standing::default(),
            doubtful_encoding: !self.shows_as_utf8(text),
            setting: self.at_front.setting.clone().filter(|_| keeps_setting(text, analysis)),
            guard: None,
            frame_bytes: 0,
        }
    }

    /// A statement passes that people want to be told of.
    pub(super) fn notice(
        &mut self,
        text: &[u8],
        parameters: Vec<crate::hold::Parameter>,
        analysis: &Arc<Analysis>,
        judgement: Judgement,
    ) {
        let draft = self.draft(text, parameters, analysis, judgement);
        self.act(Action::Notice(Box::new(draft)));
    }

    pub(super) fn take_released(&mut self, front: Front<'_>) -> Option<Box<Held>> {
        let held = self.at_front.released.take()?;
        // What is released is what was judged and shown: the same bytes, at the same place.
        if held.is(front.bytes) { Some(held) } else { None }
    }

    /// The released statement is not of the kind at the front. Cannot happen; fail closed.
    pub(super) fn mismatch(&mut self, out: &mut Outbox, refuse: fn(&mut Self, Report, &mut Outbox)) -> Step {
        let report =
            Report::error("58000", "querygate: the approved statement is not the one waiting; nothing was run");
        refuse(self, report, out);
        Step::Drop
    }

    /// The text at the front has been analysed. The driver then hands over the client's bytes again.
    pub fn handle_analysis(&mut self, analysis: Arc<Analysis>) {
        if let Waiting::Analysis { text, ahead } = self.waiting {
            self.waiting = Waiting::Nothing;
            self.at_front.analysed = Some(Analysed { text, analysis, ahead });
        }
    }

    /// What becomes of a message with a statement in it that is too long, or not all here.
    pub(super) fn not_yet_whole(
        &mut self,
        front: Front<'_>,
        out: &mut Outbox,
        refuse: fn(&mut Self, Report, &mut Outbox),
    ) -> Option<Step> {
        let limit = self.settings.max_statement_bytes;
        if front.total > limit {
            refuse(self, too_long(limit), out);
            return Some(Step::Drop);
        }
        (!front.is_whole()).then_some(Step::Stay)
    }
}

/// Whether the session is still what it said it was when the last statement of the text runs. Fail closed: the end of a transaction takes settings
/// back, and what cannot be seen through may change them.
fn keeps_setting(text: &[u8], analysis: &Analysis) -> bool {
    let changes = |piece: &Piece| {
        piece.effects.iter().any(|effect| match effect.kind {
            EffectKind::Read
            | EffectKind::Insert
            | EffectKind::Update
            | EffectKind::Delete
            | EffectKind::Merge
            | EffectKind::Truncate
            | EffectKind::Drop
            | EffectKind::Alter
            | EffectKind::Create
            | EffectKind::LargeObject => false,
            EffectKind::Code
            | EffectKind::CopyServerFile
            | EffectKind::Privilege
            | EffectKind::Admin
            | EffectKind::ReadingSetting
            | EffectKind::SensitiveSetting
            | EffectKind::Session
            | EffectKind::Transaction
            | EffectKind::Execute
            | EffectKind::Unparsed
            | EffectKind::Disagreement
            | EffectKind::Unknown => true,
        })
    };
    // A plain BEGIN at its head takes nothing back.
    let head = text.split(|byte| *byte == b';').next().unwrap_or_default();
    match analysis.pieces.as_slice() {
        [] | [_] => true,
        [first, before @ .., _] => {
            let begins = first.acts.is_empty() && is_plain_control(head);
            !analysis.opaque && (begins || !changes(first)) && !before.iter().any(changes)
        }
    }
}
