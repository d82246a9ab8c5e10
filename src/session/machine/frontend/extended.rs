//! The extended protocol: what becomes of Parse, Bind, Execute, Describe and Close.

use std::sync::Arc;

use super::super::held::{Digest, HeldKind, digest};
use super::super::meaning::{self, Ran};
use super::super::names::{Change, Definition, PortalNote, Resolved, may_copy_in};
use super::super::params;
use super::super::replies::{Expect, Settling};
use super::super::{Judging, Machine, Outbox, Ruling};
use super::reports::{changed, lapsed, pinned, rejected_by_rule, runs_when_parsed, too_many_names, uncertain_name};
use super::{Front, MAX_NAMES_BYTES, Step, merge};
use crate::hold::Parameter;
use crate::judge::Judgement;
use crate::wire::frontend::{self, Malformed, Target};

impl Machine {
    pub(super) fn on_parse(&mut self, front: Front<'_>, judging: &mut dyn Judging, out: &mut Outbox) -> Step {
        if let Some(step) = self.not_yet_whole(front, out, Machine::refuse_extended) {
            return step;
        }
        let parse = match frontend::Parse::read(front.body()) {
            Ok(parse) => parse,
            Err(how) => return self.malformed(front, how, out),
        };
        if let Some(step) = self.not_pinned(parse.name, out) {
            return step;
        }
        let looked = self.at_front.analysed.as_ref().is_some_and(|known| !known.ahead);
        let Some((mut analysis, mut ruling)) = self.read(parse.text, judging) else {
            return Step::Stay;
        };
        if let Some(typed) = analysis.with_parameters(parse.types()) {
            analysis = Arc::new(typed);
            let in_transaction = self.in_transaction();
            ruling = if looked {
                judging.decide(&analysis, in_transaction, &self.names)
            } else {
                let Some(ruling) = judging.decide_or_wait(&analysis, in_transaction, &self.names) else {
                    self.analyse_elsewhere(parse.text);
                    return Step::Stay;
                };
                ruling
            };
        }
        // Parsing runs nothing; what is to be held is held when it is bound.
        let allowed = matches!(ruling, Ruling::Allow);
        let asks = matches!(ruling, Ruling::Hold(_) | Ruling::Reject(_));
        if let Ruling::Reject(judgement) = ruling
            && !self.replies.may_change_status()
        {
            self.refuse_extended(rejected_by_rule(&judgement), out);
            return Step::Drop;
        }
        if asks && judging.runs_when_parsed(&analysis) {
            self.refuse_extended(runs_when_parsed(), out);
            return Step::Drop;
        }
        let definition = Definition::new(parse.text, analysis, parse.types().collect());
        self.meaning.parses_definition(&definition);
        if allowed && !definition.has_acts() {
            definition.remember_allowed(self.in_transaction());
        }
        let change = Change::Define(definition);
        if !self.names.send(parse.name, Some(self.batch.number), change.clone()) {
            self.refuse_extended(too_many_names(), out);
            return Step::Drop;
        }
        self.replies.push(Expect::Parse(Settling { name: parse.name.into(), change }));
        self.batch.open = true;
        Step::Forward
    }

    /// What becomes of a message that changes a name which a portal executes that may still run.
    pub(super) fn not_pinned(&mut self, name: &[u8], out: &mut Outbox) -> Option<Step> {
        if !self.names.is_pinned(name) {
            return None;
        }
        // A portal may turn out to have run, or never to have been bound.
        if !self.caught_up(None, out) {
            return Some(Step::Stay);
        }
        self.refuse_extended(pinned(), out);
        Some(Step::Drop)
    }

    pub(super) fn on_bind(&mut self, front: Front<'_>, judging: &mut dyn Judging, out: &mut Outbox) -> Step {
        let described = self.at_front.unseen.take();
        if let Some(held) = self.take_released(front) {
            let held = match self.under_guard(held, out) {
                Ok(held) => held,
                Err(step) => return step,
            };
            return match held.kind {
                HeldKind::Bind { definition, note, .. } => {
                    let (portal, _) = frontend::bind_names(front.body()).unwrap_or_default();
                    let portal = portal.to_vec();
                    self.guarded_goes(Some(&portal));
                    let opaque = definition.analysis.opaque || note.is_some();
                    let identity = identity_of_bind(front, &definition);
                    let ran = self.meaning.runs_held(identity, &definition.text, Some(&definition.declared));
                    let step = self.forward_bind(front, &definition, note, ran);
                    self.keep_portal(&portal, opaque);
                    step
                }
                HeldKind::Query(_) => self.mismatch(out, Machine::refuse_extended),
            };
        }
        let Some((_, statement)) = frontend::bind_names(front.body()) else {
            // Fail closed: names that long are nobody's, and the server would refuse them at the end of the body.
            return if front.is_whole() || front.bytes.len() > MAX_NAMES_BYTES {
                self.malformed(front, Malformed::Unterminated, out)
            } else {
                Step::Stay
            };
        };
        // A name the gate never saw defined was made by a function, or is not there at all. It is described first, so that
        // the server itself refuses a name that does not exist; one that does is judged as unknown.
        let unseen = || described.unwrap_or_else(|| params::unseen_statement(statement));
        let definition = match self.names.resolve(statement, self.batch.number) {
            Resolved::One(definition) => definition,
            Resolved::Several { pending: true, candidates } => {
                let in_any = |one: &Arc<Definition>| one.known_allowed(true) && one.known_allowed(false);
                if !judging.is_in_doubt() && candidates.iter().all(in_any) {
                    return self.bind_any(front);
                }
                if !self.caught_up(None, out) {
                    return Step::Stay;
                }
                // Nothing is outstanding and yet it is not settled.
                unseen()
            }
            Resolved::Several { candidates, pending: false } => {
                let Some(definition) = only_one(&candidates) else {
                    self.refuse_extended(uncertain_name(), out);
                    return Step::Drop;
                };
                definition
            }
            Resolved::Unknown => unseen(),
        };
        self.bind_known(front, &definition, judging, out)
    }

    /// A Bind whose statement may be one of several, all of them allowed.
    pub(super) fn bind_any(&mut self, front: Front<'_>) -> Step {
        self.push_bind(front, None, true, Ran::Other);
        self.meaning.unknown();
        Step::Forward
    }

    pub(super) fn bind_known(
        &mut self,
        front: Front<'_>,
        definition: &Arc<Definition>,
        judging: &mut dyn Judging,
        out: &mut Outbox,
    ) -> Step {
        let in_transaction = self.in_transaction();
        let unsettled = self.replies.may_change_status();
        let known_allowed =
            definition.known_allowed(in_transaction) && (!unsettled || definition.known_allowed(!in_transaction));
        if known_allowed && !judging.is_in_doubt() {
            judging.passed(&definition.text, &definition.analysis, in_transaction);
            return self.forward_bind(front, definition, None, meaning::of(&definition.text, &definition.analysis));
        }
        // What cannot be waited for twice: a look that may let it pass.
        let known = self.at_front.analysed.as_ref();
        let looked = definition.is_unseen() || known.is_some_and(|known| known.text == digest(&definition.text));
        let ruling = if looked {
            Some(judging.decide(&definition.analysis, in_transaction, &self.names))
        } else {
            judging.decide_or_wait(&definition.analysis, in_transaction, &self.names)
        };
        let Some(ruling) = ruling else {
            self.analyse_elsewhere(&definition.text);
            return Step::Stay;
        };
        let judgement = match ruling {
            ruling @ (Ruling::Allow | Ruling::Notice(_)) => {
                if self.depends_on_status(&definition.analysis, judging) {
                    self.caught_up(None, out);
                    return Step::Stay;
                }
                let note = self.portal_note(definition);
                if let Ruling::Notice(judgement) = ruling {
                    let parameters = parameters_here(front, definition, self.reads_utf8());
                    self.notice(&definition.text, parameters, &definition.analysis, *judgement);
                } else {
                    judging.passed(&definition.text, &definition.analysis, in_transaction);
                    if note.is_none() {
                        definition.remember_allowed(in_transaction);
                        if unsettled {
                            definition.remember_allowed(!in_transaction);
                        }
                    }
                }
                return self.forward_bind(front, definition, note, meaning::of(&definition.text, &definition.analysis));
            }
            Ruling::Reject(_) if unsettled => {
                self.caught_up(None, out);
                return Step::Stay;
            }
            Ruling::Reject(judgement) => {
                self.refuse_extended(rejected_by_rule(&judgement), out);
                return Step::Drop;
            }
            Ruling::Hold(judgement) => judgement,
        };
        self.hold_bind(front, definition, *judgement, judging, out)
    }

    pub(super) fn hold_bind(
        &mut self,
        front: Front<'_>,
        definition: &Arc<Definition>,
        judgement: Judgement,
        judging: &mut dyn Judging,
        out: &mut Outbox,
    ) -> Step {
        if let Some(step) = self.not_yet_whole(front, out, Machine::refuse_extended) {
            return step;
        }
        let bind = match frontend::Bind::read(front.body()) {
            Ok(bind) => bind,
            Err(how) => return self.malformed(front, how, out),
        };
        let wanted = !bind.values.is_empty() || definition.is_unseen();
        let describe = (wanted && definition.described.get().is_none()).then_some((bind.statement, definition));
        if !self.caught_up(describe, out) {
            self.at_front.unseen = definition.is_unseen().then(|| Arc::clone(definition));
            return Step::Stay;
        }
        if self.server_refuses(&definition.analysis) {
            return self.forward_bind(front, definition, None, Ran::Other);
        }
        if !self.knows_setting(None, out) {
            self.at_front.unseen = definition.is_unseen().then(|| Arc::clone(definition));
            return Step::Stay;
        }
        let types = definition.described.get().unwrap_or(&definition.declared);
        let parameters = params::decode(&bind.values, types, self.reads_utf8());
        let mut draft = self.draft(&definition.text, parameters, &definition.analysis, judgement);
        let certain = matches!(self.names.resolve(bind.statement, self.batch.number), Resolved::One(_));
        let identity =
            identity_of_bind(front, definition).filter(|_| certain && !self.doubts_encoding_of(&definition.text));
        draft.standing = self.meaning.standing(&definition.text, &definition.analysis, identity);
        if !certain || !bind.values.is_empty() || !definition.declared.is_empty() {
            draft.standing.pieces = None;
        }
        let note = self.portal_note(definition);
        let kind = HeldKind::Bind { definition: Arc::clone(definition), note, certain };
        self.hold(front, kind, draft, judging, out)
    }

    pub(super) fn portal_note(&self, definition: &Arc<Definition>) -> Option<PortalNote> {
        definition.has_acts().then(|| PortalNote {
            definition: Arc::clone(definition),
            judged: self.names.executed(&definition.analysis),
        })
    }

    pub(super) fn forward_bind(
        &mut self,
        front: Front<'_>,
        definition: &Arc<Definition>,
        note: Option<PortalNote>,
        ran: Ran,
    ) -> Step {
        let ran = match ran {
            // A bound value is read by its type, which may be a domain with a CHECK.
            Ran::Inert | Ran::Boundary if !definition.declared.is_empty() || may_have_values(front) => Ran::Other,
            Ran::Inert | Ran::Boundary | Ran::Held(_) | Ran::Other => ran,
        };
        self.push_bind(front, note, definition.analysis.opaque, ran);
        self.meaning.note(&definition.text, &definition.analysis, || {
            definition.is_unseen() || !definition.declared.is_empty() || may_have_values(front)
        });
        Step::Forward
    }

    pub(super) fn push_bind(&mut self, front: Front<'_>, note: Option<PortalNote>, opaque: bool, ran: Ran) {
        self.opaque |= opaque;
        let portal = frontend::bind_names(front.body()).map_or(&b""[..], |(portal, _)| portal);
        self.meaning.binds(portal, ran);
        self.replaces_portal(portal);
        let watched = self.names.bind(portal, note).map(|number| (Box::<[u8]>::from(portal), number));
        self.replies.push(Expect::Bind(watched));
        self.batch.open = true;
        self.batch.ran = true;
    }

    pub(super) fn on_execute(&mut self, front: Front<'_>, out: &mut Outbox) -> Step {
        if !front.is_whole() {
            return Step::Stay;
        }
        let portal = match frontend::execute(front.body()) {
            Ok(portal) => portal,
            Err(how) => return self.malformed(front, how, out),
        };
        if self.is_lapsed(portal) {
            self.refuse_extended(lapsed(), out);
            return Step::Drop;
        }
        let mut changes = None;
        if self.names.watches_portals() {
            let notes = self.names.portal(portal);
            let redefined = notes.iter().flatten().any(|note| self.names.was_redefined(note));
            if redefined || notes.iter().flatten().any(|note| self.names.changes_pinned(&note.definition.analysis)) {
                // A change that is still pending may fail, and a portal may turn out to have run: that is settled first.
                if !self.caught_up(None, out) {
                    return Step::Stay;
                }
                self.refuse_extended(if redefined { changed() } else { pinned() }, out);
                return Step::Drop;
            }
            self.settle |= notes
                .iter()
                .flatten()
                .any(|note| note.definition.is_unseen() || may_copy_in(&note.definition.analysis));
            let certain = notes.len() == 1;
            let watched = !notes.is_empty();
            for note in notes.into_iter().flatten() {
                let more = self.note_acts(&note.definition.analysis, &note.definition.text);
                changes = merge(changes, more);
            }
            if watched {
                let changes = changes.get_or_insert_default();
                changes.portal = Some((portal.into(), self.names.last_bind()));
                // Which of several the portal is bound to is not known, so each change may happen or not.
                changes.failed |= !certain;
            }
        }
        self.meaning.executes(portal);
        self.guarded_executes(portal);
        let wanted = self.executes_portal(portal);
        self.replies.push(Expect::Execute(changes, wanted));
        self.batch.open = true;
        self.batch.ran = true;
        Step::Forward
    }

    pub(super) fn on_describe(&mut self, front: Front<'_>, out: &mut Outbox) -> Step {
        if front.is_whole()
            && let Ok(Target::Statement(name)) = frontend::target(front.body())
        {
            // The server may have to parse it anew.
            match self.names.resolve(name, self.batch.number) {
                Resolved::One(definition) => self.meaning.parses_definition(&definition),
                Resolved::Several { .. } | Resolved::Unknown => self.meaning.unknown(),
            }
        }
        self.checked(front, out, |body| frontend::target(body).map(|_| Some(Expect::Describe)))
    }

    pub(super) fn on_close(&mut self, front: Front<'_>, out: &mut Outbox) -> Step {
        if !front.is_whole() {
            return Step::Stay;
        }
        let settling = match frontend::target(front.body()) {
            Ok(Target::Statement(name)) => {
                if let Some(step) = self.not_pinned(name, out) {
                    return step;
                }
                let _ = self.names.send(name, Some(self.batch.number), Change::Drop);
                Some(Box::new(Settling { name: name.into(), change: Change::Drop }))
            }
            Ok(Target::Portal(name)) => {
                self.replaces_portal(name);
                None
            }
            Err(how) => return self.malformed(front, how, out),
        };
        self.replies.push(Expect::Close(settling));
        self.batch.open = true;
        Step::Forward
    }
}

/// What a name certainly stands for, of several it may. Fail closed: if they differ at all nobody knows which of them would run, so that none
/// can be shown or judged in place of the others.
fn only_one(candidates: &[Arc<Definition>]) -> Option<Arc<Definition>> {
    let (first, others) = candidates.split_first()?;
    let is_same = |other: &Arc<Definition>| other.text == first.text && other.declared == first.declared;
    others.iter().all(is_same).then(|| Arc::clone(first))
}

/// Bound values, as far as they are here: the message passes whether people are shown them or not.
fn parameters_here(front: Front<'_>, definition: &Definition, utf8: bool) -> Vec<Parameter> {
    let types = definition.described.get().unwrap_or(&definition.declared);
    let bind = front.is_whole().then(|| frontend::Bind::read(front.body()).ok()).flatten();
    bind.map(|bind| params::decode(&bind.values, types, utf8)).unwrap_or_default()
}

/// Fail closed: what is not here whole may have values.
fn may_have_values(front: Front<'_>) -> bool {
    !front.is_whole() || frontend::Bind::read(front.body()).map_or(true, |bind| !bind.values.is_empty())
}

/// What tells this Bind from others: all of it but the names, of which the portal's is nobody's matter and the statement's
/// is resolved.
fn identity_of_bind(front: Front<'_>, definition: &Definition) -> Option<Digest> {
    if definition.is_unseen() {
        return None;
    }
    let (portal, statement) = frontend::bind_names(front.body())?;
    let names = portal.len().checked_add(statement.len())?.checked_add(2)?;
    let values = front.body().get(names..)?;
    meaning::identity(&definition.text, &definition.analysis, Some((&definition.declared, values)))
}
