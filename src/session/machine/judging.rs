//! What the machine asks of the judge. A trait, so that the machine's tests need no policy.

use std::sync::Arc;

use crate::judge::{Analysis, Judgement, Measure, Prepared};

/// The judge as one session sees it: policy, cache and the session's own facts behind it.
pub trait Judging {
    /// What the policy says to it.
    fn decide(&mut self, analysis: &Analysis, in_transaction: bool, prepared: &dyn Prepared) -> Ruling;

    /// As [`Self::decide`]; `None`: somebody is about to look, after which it may be something else.
    fn decide_or_wait(&mut self, analysis: &Analysis, in_transaction: bool, prepared: &dyn Prepared) -> Option<Ruling> {
        Some(self.decide(analysis, in_transaction, prepared))
    }

    /// What the policy says to it now that it is known what it would touch, or that this cannot be had.
    fn measured(
        &mut self,
        analysis: &Analysis,
        in_transaction: bool,
        prepared: &dyn Prepared,
        measure: &Measure,
    ) -> Judgement;

    /// Reads and decides.
    fn judge(&mut self, text: &[u8], in_transaction: bool, prepared: &dyn Prepared) -> Reading;

    /// Decides about a text that was asked about ahead, now that its verdict takes no time.
    fn conclude(
        &mut self,
        _text: &[u8],
        analysis: Arc<Analysis>,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Reading {
        let ruling = self.decide(&analysis, in_transaction, prepared);
        Reading::Judged(analysis, ruling)
    }

    /// Whether parsing the text may already run what it would be held for.
    fn runs_when_parsed(&self, _analysis: &Analysis) -> bool {
        false
    }

    /// What came before may have changed what statements do that were allowed: they are to be judged anew.
    fn is_in_doubt(&self) -> bool {
        false
    }

    /// Whether the command tag of the statement counts the rows it writes, or why it does not.
    ///
    /// # Errors
    ///
    /// Why not.
    fn counts_rows(&mut self, text: &[u8]) -> Result<(), &'static str>;

    /// A statement goes on that nobody is told of.
    fn passed(&mut self, _text: &[u8], _analysis: &Arc<Analysis>, _in_transaction: bool) {}
}

/// The answer to a text.
#[derive(Debug)]
pub enum Reading {
    /// Read, and what is to be done.
    Judged(Arc<Analysis>, Ruling),
    /// To be analysed off the session's thread.
    Elsewhere,
    /// To be analysed there, and asked about: its verdict takes its time.
    Ahead,
}

/// What is to be done.
#[derive(Debug)]
pub enum Ruling {
    /// Forward.
    Allow,
    /// Forward, and tell of it.
    Notice(Box<Judgement>),
    /// Ask people.
    Hold(Box<Judgement>),
    /// Refuse.
    Reject(Box<Judgement>),
}
