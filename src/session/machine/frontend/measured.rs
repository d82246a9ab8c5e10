//! A statement on which rules have no answer before it is known what it would touch. Asks for that, and goes on as the rules then say.
//! Knows no database.

use super::super::held::{Held, HeldKind};
use super::super::{Action, Draft, Judging, Machine, Outbox};
use super::reports::rejected_by_rule;
use super::{Front, Step};
use crate::judge::{Judgement, Measure, Verdict};

impl Machine {
    /// Has it looked into; once that is done, lets it pass, refuses it or holds it.
    pub(super) fn measure(
        &mut self,
        front: Front<'_>,
        kind: HeldKind,
        mut draft: Draft,
        judging: &mut dyn Judging,
        out: &mut Outbox,
    ) -> Step {
        let Some(measured) = self.at_front.measured.as_ref().filter(|measured| measured.is_of(front.bytes)) else {
            self.open_measuring(Box::new(Held::new(front.bytes, kind, None)), draft);
            return Step::Stay;
        };
        let measure = measured.measure.clone();
        draft.judgement = self.judged_by(&measure, &kind, &draft, judging);
        let plan = match draft.judgement.verdict {
            Verdict::Allow => self.plan(&draft, &kind, judging),
            Verdict::Hold | Verdict::Reject => Ok(None),
        };
        let plan = plan.unwrap_or_else(|_| {
            // Fail closed: by the time it runs it may touch more, and nothing could stop it. So its size does not count.
            let unlimited = Measure { rows: None, ..measure };
            draft.judgement = self.judged_by(&unlimited, &kind, &draft, judging);
            None
        });
        match draft.judgement.verdict {
            Verdict::Allow => self.pass_measured(front, kind, draft, plan, judging, out),
            Verdict::Hold => self.hold(front, kind, draft, judging, out),
            Verdict::Reject => {
                let report = rejected_by_rule(&draft.judgement);
                match kind {
                    HeldKind::Query(_) => self.refuse_query(report, out),
                    HeldKind::Bind { .. } => self.refuse_extended(report, out),
                }
                Step::Drop
            }
        }
    }

    fn judged_by(&self, measure: &Measure, kind: &HeldKind, draft: &Draft, judging: &mut dyn Judging) -> Judgement {
        let analysis = match kind {
            HeldKind::Query(analysis) => analysis,
            HeldKind::Bind { definition, .. } => &definition.analysis,
        };
        judging.measured(analysis, draft.in_transaction, &self.names, measure)
    }

    /// It goes on as what people released does: the same bytes, at once, and a portal is not kept for later.
    fn pass_measured(
        &mut self,
        front: Front<'_>,
        kind: HeldKind,
        draft: Draft,
        plan: Option<super::super::guard::Plan>,
        judging: &mut dyn Judging,
        out: &mut Outbox,
    ) -> Step {
        let (is_query, analysis) = match &kind {
            HeldKind::Query(analysis) => (true, analysis),
            HeldKind::Bind { definition, .. } => (false, &definition.analysis),
        };
        if draft.judgement.remarks.is_empty() {
            judging.passed(&draft.text, analysis, draft.in_transaction);
        } else {
            self.act(Action::Notice(Box::new(draft)));
        }
        self.at_front.released = Some(Box::new(Held::new(front.bytes, kind, plan)));
        if is_query { self.on_query(front, judging, out) } else { self.on_bind(front, judging, out) }
    }
}
