//! What the machine asks of the judge. A trait, so that the machine's tests need no policy.

use std::sync::Arc;

use crate::judge::{Analysis, Judgement, Prepared};

/// The judge as one session sees it: policy, cache and the session's own facts behind it.
pub trait Judging {
    /// Reads a text. `None`: it is too large for the session's thread and must be analysed elsewhere.
    fn analyse(&mut self, text: &[u8]) -> Option<Arc<Analysis>>;

    /// What the policy says to it.
    fn decide(
        &mut self,
        analysis: &Analysis,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Ruling;

    /// Reads and decides in one step; where a cache can answer both at once it does.
    fn judge(&mut self, text: &[u8], in_transaction: bool, prepared: &dyn Prepared) -> Reading {
        match self.analyse(text) {
            Some(analysis) => {
                let ruling = self.decide(&analysis, in_transaction, prepared);
                Reading::Judged(analysis, ruling)
            }
            None => Reading::Elsewhere,
        }
    }
}

/// The answer to a text.
#[derive(Debug)]
pub enum Reading {
    /// Read, and what is to be done.
    Judged(Arc<Analysis>, Ruling),
    /// To be analysed off the session's thread.
    Elsewhere,
}

/// What is to be done.
#[derive(Debug)]
pub enum Ruling {
    /// Forward.
    Allow,
    /// Ask people.
    Hold(Box<Judgement>),
    /// Refuse.
    Reject(Box<Judgement>),
}
