//! The judge as one session sees it: policy, its class of rules, and its thread's cache. Knows no sockets.

use std::sync::Arc;

use super::machine::{Judging, Reading, Ruling};
use super::passing::{Passer, Tally};
use crate::judge::{
    Analysis, Judge, JudgeCache, Judged, Judgement, Measure, Prepared, SessionClass, Verdict, counts_rows,
};

/// Borrowed for one step of the machine.
#[derive(Debug)]
pub(super) struct SessionJudge<'a> {
    pub(super) judge: &'a Judge,
    pub(super) cache: &'a mut JudgeCache,
    pub(super) class: &'a SessionClass,
    /// Longer texts are analysed elsewhere, in bytes.
    pub(super) inline_bytes: usize,
    /// Where what passes is counted, and as whose; `None`: nowhere.
    pub(super) passing: Option<(&'a mut Tally, &'a Arc<Passer>)>,
}

impl Judging for SessionJudge<'_> {
    fn decide(&mut self, analysis: &Analysis, in_transaction: bool, prepared: &dyn Prepared) -> Ruling {
        ruling(&self.class.decide(analysis, in_transaction, prepared))
    }

    fn measured(
        &mut self,
        analysis: &Analysis,
        in_transaction: bool,
        prepared: &dyn Prepared,
        measure: &Measure,
    ) -> Judgement {
        self.class.decide_measured(analysis, in_transaction, prepared, measure)
    }

    fn judge(&mut self, text: &[u8], in_transaction: bool, prepared: &dyn Prepared) -> Reading {
        let (judge, class) = (self.judge, self.class);
        let judged = match judge.known(self.cache, text, class, in_transaction, prepared) {
            Some(judged) => judged,
            None if text.len() > self.inline_bytes => return Reading::Elsewhere,
            None => {
                let analysis = Arc::new(judge.analyse(text));
                judge.conclude(self.cache, text, analysis, class, in_transaction, prepared)
            }
        };
        let Judged { judgement, analysis } = judged;
        Reading::Judged(analysis, ruling(&judgement))
    }

    fn counts_rows(&mut self, text: &[u8]) -> Result<(), &'static str> {
        std::str::from_utf8(text).map_err(|_| "it is not UTF-8").and_then(counts_rows)
    }

    fn passed(&mut self, text: &[u8], analysis: &Arc<Analysis>, in_transaction: bool) {
        if let Some((tally, passer)) = &mut self.passing {
            tally.count(passer, text, analysis, in_transaction);
        }
    }
}

fn ruling(judgement: &Judgement) -> Ruling {
    match judgement.verdict {
        Verdict::Allow if judgement.remarks.is_empty() => Ruling::Allow,
        Verdict::Allow => Ruling::Notice(Box::new(judgement.clone())),
        Verdict::Hold => Ruling::Hold(Box::new(judgement.clone())),
        Verdict::Reject => Ruling::Reject(Box::new(judgement.clone())),
    }
}
