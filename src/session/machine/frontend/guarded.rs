//! A released statement that runs under guard, until it is sent; and a portal under guard, until it is executed.

use super::super::guard::{Guarding, How, Place, Plan, Stage};
use super::super::held::{Held, HeldKind};
use super::super::{Draft, Judging, Machine, Outbox};
use super::reports::{cannot_guard, guard_unknown, no_warrant, not_executed};
use super::{Front, Step};
use crate::wire::frontend::{self, Target};
use crate::wire::reply::Report;

impl Machine {
    /// How a statement that is about to be held will run, if a rule gives it a guard.
    ///
    /// # Errors
    ///
    /// The guard cannot be applied, and the rule wants it refused then.
    pub(super) fn plan(
        &self,
        draft: &Draft,
        kind: &HeldKind,
        judging: &mut dyn Judging,
    ) -> Result<Option<Plan>, Report> {
        let (analysis, query, certain) = match kind {
            HeldKind::Query(analysis) => (analysis, true, true),
            HeldKind::Bind { definition, certain, .. } => (&definition.analysis, false, *certain),
        };
        let place = Place {
            query,
            status: self.status,
            busy: self.batch.ran || (query && self.batch.open),
            blocked: if self.settings.replication {
                Some("the connection is one for replication")
            } else if certain {
                None
            } else {
                Some("its name may stand for another statement")
            },
        };
        Plan::of(&draft.judgement, analysis, place, || judging.counts_rows(&draft.text))
            .map_err(|why| cannot_guard(&draft.judgement, &why))
    }

    /// What comes before a released statement under guard. It goes when it is returned.
    pub(super) fn under_guard(&mut self, held: Box<Held>, out: &mut Outbox) -> Result<Box<Held>, Step> {
        let Some(plan) = held.plan.as_ref().filter(|plan| plan.how != How::Nothing) else {
            return Ok(held);
        };
        let (query, how) = (matches!(held.kind, HeldKind::Query(_)), plan.how);
        if plan.keep.is_some() && held.warrant.is_none() {
            // Fail closed: it was approved as one that can be undone.
            self.undo(query, no_warrant(), out);
            return Err(Step::Drop);
        }
        let mut guarding = self.guard.take().unwrap_or_else(|| {
            let alone = self.status == b'I' && !self.batch.ran;
            Box::new(Guarding::new(plan.clone(), held.warrant.clone(), held.request.clone(), query, alone))
        });
        loop {
            let commands = match std::mem::replace(&mut guarding.stage, Stage::New) {
                Stage::New => {
                    guarding.stage = Stage::Asking;
                    guarding.questions()
                }
                Stage::Asked(answers) => {
                    let Some(commands) = guarding.prepare(&answers) else {
                        self.undo(query, guard_unknown(), out);
                        return Err(Step::Drop);
                    };
                    guarding.stage = Stage::Setting;
                    commands
                }
                Stage::Drawn(ticket) if how != How::Block || self.status == b'T' => {
                    let Some(begin) = guarding.begins_keeping(&ticket) else {
                        // Fail closed: whatever answered is not what the gate asked.
                        self.lost_count();
                        return Err(Step::Drop);
                    };
                    guarding.stage = Stage::Setting;
                    vec![begin]
                }
                Stage::Set if how != How::Block || self.status == b'T' => {
                    guarding.stage = Stage::Set;
                    self.guard = Some(guarding);
                    return Ok(held);
                }
                Stage::Failed => return Err(Step::Drop),
                // Fail closed: the gate's transaction is not open, or a statement is released while another one runs.
                Stage::Set
                | Stage::Drawn(_)
                | Stage::Asking
                | Stage::Setting
                | Stage::Bound
                | Stage::Running
                | Stage::AwaitSync
                | Stage::Ending(_) => {
                    self.lost_count();
                    return Err(Step::Drop);
                }
            };
            if commands.is_empty() {
                let asked = matches!(guarding.stage, Stage::Asking);
                guarding.stage = if asked { Stage::Asked(Vec::new()) } else { Stage::Set };
                continue;
            }
            // The transaction that what is set is set for goes on until the client's own Sync.
            self.batch.ran |= !query && how == How::Local;
            self.guard = Some(guarding);
            self.run_errand(&commands, out);
            self.at_front.released = Some(held);
            return Err(Step::Stay);
        }
    }

    /// The statement under guard goes: a Query, or the Bind of this portal.
    pub(super) fn guarded_goes(&mut self, portal: Option<&[u8]>) {
        let Some(guarding) = &mut self.guard else { return };
        guarding.stage = if portal.is_some() { Stage::Bound } else { Stage::Running };
        guarding.portal = portal.unwrap_or_default().into();
        self.settle |= portal.is_none();
    }

    /// The portal is executed.
    pub(super) fn guarded_executes(&mut self, portal: &[u8]) {
        if let Some(guarding) = self.guard.as_mut().filter(|guarding| *guarding.portal == *portal)
            && matches!(guarding.stage, Stage::Bound)
        {
            guarding.stage = Stage::Running;
            self.settle = true;
        }
    }

    /// What may come between a portal under guard and its Execute, or behind that while something is set for the session: nothing
    /// that runs, and nothing that outlives the batch. What the portal does could not be told from what else is done, nor the gate's
    /// settings be set back.
    pub(super) fn beside_guard(&mut self, front: Front<'_>, out: &mut Outbox) -> Option<Step> {
        let guarding = self.guard.as_ref()?;
        let bound = match guarding.stage {
            Stage::Bound => true,
            Stage::AwaitSync => false,
            Stage::New
            | Stage::Asking
            | Stage::Asked(_)
            | Stage::Drawn(_)
            | Stage::Setting
            | Stage::Set
            | Stage::Failed
            | Stage::Running
            | Stage::Ending(_) => return None,
        };
        let session = guarding.plan.how == How::Session;
        if front.tag == b'S' {
            // What is set for the session is set back before anything else.
            self.settle |= session;
            if bound && guarding.alone && !session {
                // The portal goes with the batch, and with it what was set.
                self.guard = None;
            } else if bound && !guarding.alone {
                self.refuse_beside(false, out);
            }
            return None;
        }
        let passes = self.skip
            || match front.tag {
                b'Q' | b'F' | b'P' | b'B' => false,
                b'E' => {
                    let own = || frontend::execute(front.body()).map_or(true, |portal| *portal == *guarding.portal);
                    bound && !self.is_late() && own()
                }
                b'C' => !front.is_whole() || !matches!(frontend::target(front.body()), Ok(Target::Portal(_))),
                _ => true,
            };
        if passes {
            return None;
        }
        self.refuse_beside(matches!(front.tag, b'Q' | b'F'), out);
        Some(Step::Drop)
    }

    fn refuse_beside(&mut self, query: bool, out: &mut Outbox) {
        let bound = self.guard.as_ref().is_some_and(|guarding| matches!(guarding.stage, Stage::Bound));
        self.drop_portal_guard();
        let report = not_executed();
        if bound {
            self.undo(query, report, out);
        } else if query {
            self.refuse_query(report, out);
        } else {
            self.refuse_extended(report, out);
        }
        self.settle = true;
    }
}
